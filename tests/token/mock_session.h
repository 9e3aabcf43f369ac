/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A login at the mock's token, past our own code: for the tests of the mock itself. */
#ifndef P11K_TESTS_MOCK_SESSION_H
#define P11K_TESTS_MOCK_SESSION_H

#include <p11-kit/pkcs11.h>

#include "check.h"

extern struct fixture f;
extern CK_FUNCTION_LIST *p11;
extern CK_SLOT_ID slot;
extern CK_SESSION_HANDLE session;
extern CK_OBJECT_HANDLE key; /* AES-256, in the session alone */

#define assert_rv(call, rv) assert_int_equal(call, rv)

/* cmocka's set-up and tear-down of each test. */
int mock_up(void **state);
int mock_down(void **state);

/* The slot of the token with this label; fails the test when there is none. */
CK_SLOT_ID slot_with(const char *label);
/* A writing session. */
CK_RV open_session(CK_SLOT_ID in, CK_SESSION_HANDLE *ret);
/* With a NULL `pin` by the token's own device. */
CK_RV log_in(CK_USER_TYPE user, const char *pin);

/* An AES key for AES-GCM and for wrapping; `allowed` 0: for any mechanism. */
CK_RV make_key(CK_BBOOL on_token, CK_MECHANISM_TYPE allowed, CK_OBJECT_HANDLE *ret);

struct gcm {
    CK_MECHANISM_TYPE type;
    uint8_t iv[12], text[64];
    CK_ULONG len;
};
#define PLAIN_TEXT "0123456789abcdef"
enum { PLAIN_BYTES = 16 };

/* Encrypts PLAIN_TEXT under `key` with an IV of zeros. */
CK_RV encrypt(struct gcm *ret);
/* The same with the type and IV in `g`, perhaps after a login for this use. */
CK_RV encrypt_with(struct gcm *g, bool context_login);
CK_RV decrypt(struct gcm *g, uint8_t ret[64], CK_ULONG *ret_len);

#endif
