/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Token-resident keys: AES-256 keys that do a server's own block operations inside the token
 * (CKM_AES_ECB or CKM_AES_CBC, PKCS#11 v3.0 section 6.13). Made like master keys: private,
 * sensitive, never extractable, one purpose, and where the token enforces CKA_ALLOWED_MECHANISMS
 * one mechanism.
 */
#ifndef P11K_PKCS11_RESIDENT_H
#define P11K_PKCS11_RESIDENT_H

#include "pkcs11/token.h"

enum kr_resident_mode { KR_RESIDENT_ECB = 1, KR_RESIDENT_CBC = 2 };

/* The most that one call takes; a multiple of 16. */
enum { KR_RESIDENT_BYTES_MAX = 64 };

/* CKA_ID is a fresh UUID. KR_REFUSED (token full) says which class of keys may go. */
KR_MUST_USE enum kr_status kr_resident_generate(struct kr_token *token, const char *label,
                                                enum kr_resident_mode mode,
                                                struct kr_object_id *ret, struct kr_error *err);

/* A key of 32 bytes from outside, for the id that kr_object_id_make() gave. It is as closed as one
 * that was made in the token, but CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE and CKA_LOCAL of it
 * are false, as was true: these functions take such a key only as an imported one. */
struct kr_resident_import {
    struct kr_object_id id;
    const char *label;
    enum kr_resident_mode mode;
    const uint8_t *key;
};

/* Puts each of them into the token, at most KR_RESIDENT_IMPORTS_MAX, and tries it out. KR_REFUSED
 * when the token takes none. After a failure any of them may be there. `ret_unwrapped`, which may
 * be NULL, tells whether the module saw no key in the clear. */
enum { KR_RESIDENT_IMPORTS_MAX = 32 };
KR_MUST_USE enum kr_status kr_resident_import(struct kr_token *token,
                                              const struct kr_resident_import *imports,
                                              size_t count, bool *ret_unwrapped,
                                              struct kr_error *err);

/* KR_OK when the key is there and what it should be: KR_NOT_FOUND, KR_REFUSED. */
KR_MUST_USE enum kr_status kr_resident_check(struct kr_token *token, const struct kr_object_id *id,
                                             bool imported, struct kr_error *err);

struct kr_resident_op {
    enum kr_resident_mode mode;
    bool encrypt, imported;
    const uint8_t *iv;    /* 16 bytes for CBC, NULL for ECB */
    unsigned patience_ms; /* how long a token that went away is waited for; 0: its timeout */
};

/* `len` is 16..64 and a multiple of 16; in and out may be the same. */
KR_MUST_USE enum kr_status kr_resident_crypt(struct kr_token *token, const struct kr_object_id *id,
                                             const struct kr_resident_op *op, const uint8_t *in,
                                             size_t len, uint8_t *out, struct kr_error *err);

#endif
