/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Token administration for the admin tool, on libp11: listing every token of a module and
 * initialising one (C_InitToken, C_InitPIN). libp11's login, slot and session functions act on the
 * whole process, so no server calls these.
 */
#ifndef P11K_PKCS11_ADMIN_H
#define P11K_PKCS11_ADMIN_H

#include "pkcs11/token.h"

/* Every slot with a token in it: *ret is malloc'ed. `init_args`: see struct kr_quirks; NULL: none.
 */
KR_MUST_USE enum kr_status kr_admin_list_tokens(const char *module, const char *init_args,
                                                unsigned timeout_ms, struct kr_token_info **ret,
                                                size_t *ret_count, struct kr_error *err);

/* Initialises an uninitialised token in slot `slot`, or in the first free slot with
 * KR_ADMIN_ANY_SLOT, and sets the user PIN. Refuses (KR_REFUSED) a slot whose token is already
 * initialised, and a label that another token of the module has. */
#define KR_ADMIN_ANY_SLOT (~0UL)
KR_MUST_USE enum kr_status kr_admin_init_token(const char *module, const char *init_args,
                                               unsigned timeout_ms, unsigned long slot,
                                               const char *label, const char *so_pin,
                                               const char *user_pin, struct kr_token_info *ret,
                                               struct kr_error *err);

#endif
