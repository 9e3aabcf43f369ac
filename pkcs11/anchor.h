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

/* Tells whether a is to be kept rather than b. */
typedef bool (*kr_anchor_order)(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);

/* KR_NOT_FOUND when there is none; of several (a writer was killed) the one that `better` prefers
 * is read. */
KR_MUST_USE enum kr_status kr_anchor_read(struct kr_token *token, const char *label,
                                          kr_anchor_order better, uint8_t ret[KR_ANCHOR_MAX],
                                          size_t *ret_len, struct kr_error *err);

/* Replaces values that this one is better than, or makes the object; leaves everything alone when
 * the token has one that is as good (`better` NULL: whatever it has). Of several writers the best
 * wins, whatever their order; a kill leaves the old value or the new one, or both. KR_REFUSED when
 * the token holds no data objects. */
KR_MUST_USE enum kr_status kr_anchor_raise(struct kr_token *token, const char *label,
                                           kr_anchor_order better, const uint8_t *value, size_t len,
                                           struct kr_error *err);

/* KR_NOT_FOUND when there is none. */
KR_MUST_USE enum kr_status kr_anchor_remove(struct kr_token *token, const char *label,
                                            struct kr_error *err);

#endif
