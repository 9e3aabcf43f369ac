/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Custody: whether a key that is sensitive and not extractable stays in the token. A token that
 * lets whoever has the PIN get it out protects no key better than that PIN.
 */
#ifndef P11K_PKCS11_CUSTODY_H
#define P11K_PKCS11_CUSTODY_H

#include "pkcs11/token.h"

struct kr_custody {
    bool known;       /* false: the token makes no AES key to try it with */
    const char *leak; /* how a key gets out, "wrapped out"; NULL: by no way that was tried */
};

/* Tries it with keys of its own, which live no longer than the session. Master keys are not
 * touched, and the token's objects neither. */
KR_MUST_USE enum kr_status kr_custody_check(struct kr_token *token, struct kr_custody *ret,
                                            struct kr_error *err);

#endif
