/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * An anchor: a few bytes in a private data object of the token (CKO_DATA, PKCS#11 v3.0 section
 * 4.5), where who can change files cannot reach them. Found by its label; CKA_APPLICATION is
 * "p11keyring".
 */
#ifndef P11K_PKCS11_ANCHOR_H
#define P11K_PKCS11_ANCHOR_H

#include "pkcs11/token.h"

#define KR_ANCHOR_MAX 64

/* KR_NOT_FOUND when there is none; of several (a writer was killed) the one that `better` prefers
 * is read. `better(a, b)` tells whether a is to be kept rather than b. */
typedef bool (*kr_anchor_order)(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);
KR_MUST_USE enum kr_status kr_anchor_read(struct kr_token *token, const char *label,
                                          kr_anchor_order better, uint8_t ret[KR_ANCHOR_MAX],
                                          size_t *ret_len, struct kr_error *err);

/* Replaces the value, or makes the object; a kill leaves the old value or the new one, or both.
 * KR_REFUSED when the token holds no data objects. */
KR_MUST_USE enum kr_status kr_anchor_write(struct kr_token *token, const char *label,
                                           const uint8_t *value, size_t len, struct kr_error *err);

/* KR_NOT_FOUND when there is none. */
KR_MUST_USE enum kr_status kr_anchor_remove(struct kr_token *token, const char *label,
                                            struct kr_error *err);

#endif
