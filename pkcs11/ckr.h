/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Cryptoki return values (PKCS#11 v3.0, section 5.1): names, and the class each belongs to. */
#ifndef P11K_PKCS11_CKR_H
#define P11K_PKCS11_CKR_H

#include "base/status.h"

/* "CKR_PIN_INCORRECT"; "CKR_VENDOR_DEFINED" or "CKR_(unknown)" where there is no name. */
const char *kr_ckr_name(unsigned long ckr);

/* Fills the record for a failed call, e.g. kr_ckr_fail(err, "C_Login", rv): text "C_Login failed:
 * CKR_PIN_INCORRECT (0xa0)", the class and a hint that fit the value. */
enum kr_status kr_ckr_fail(struct kr_error *err, const char *function, unsigned long ckr);

/* For a failure of the token that says no more: what to do about its class. */
void kr_ckr_hint_default(struct kr_error *err);

/* For a list that is longer than its buffer, or has no end. */
enum kr_status kr_ckr_fail_count(const char *function, unsigned long count, struct kr_error *err);

#endif
