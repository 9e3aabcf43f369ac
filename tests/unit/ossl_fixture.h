/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The OpenSSL provider in a library context beside a plain one, and a keyring that is no token. */
#ifndef P11K_TESTS_UNIT_OSSL_FIXTURE_H
#define P11K_TESTS_UNIT_OSSL_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>

#include <openssl/evp.h>
#include <openssl/provider.h>

#include "provider/openssl/handle.h"

struct ossl {
    OSSL_LIB_CTX *plain; /* the default provider alone */
    OSSL_LIB_CTX *ours;  /* as our openssl.cnf sets it up */
    OSSL_PROVIDER *provider, *provider_default;
    kr_register_function set;
    kr_counters_function counters;
};

/* cmocka's group setup and teardown; *state is the struct ossl. */
int ossl_setup(void **state);
int ossl_teardown(void **state);

/* The fake keyring: "runs" an operation as XOR with a pattern that depends on the handle's last
 * byte and the operation, and keeps what it was called with. */
struct fake_keyring {
    atomic_uint calls;
    bool fails;
    enum kr_handle_op op;
    uint8_t handle[KR_HANDLE_BYTES], iv[16], in[KR_HANDLE_ECB_BYTES];
    bool had_iv;
    size_t len;
};
int fake_keyring_run(void *context, const uint8_t handle[KR_HANDLE_BYTES], enum kr_handle_op op,
                     const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out);
void fake_answer(uint8_t last_of_handle, enum kr_handle_op op, const uint8_t *in, size_t len,
                 uint8_t *out);

enum { ECB = 0, CBC = 1, DECRYPT = 0, ENCRYPT = 1, MORE = 128 };
extern const uint8_t test_iv[16];

/* One use of a handle: the fake keyring, the context, and where the counters were. */
struct use {
    struct ossl *ossl;
    struct fake_keyring fake;
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *ctx;
    uint8_t handle[KR_HANDLE_BYTES], in[MORE], out[MORE];
    int mode, len;
    struct kr_handle_counters before;
};

/* A context and a registered keyring, no key yet; then with the handle set and padding off, where
 * one update is all that is missing. finish() also takes the registration away. */
void start(struct use *use, void **state, int mode);
void start_ready(struct use *use, void **state, int mode);
int init(struct use *use, int direction);
void finish(struct use *use);

/* The keyring was asked once, for just this, and its answer is in the output. */
void assert_answered(struct use *use, int direction, const uint8_t *in);
void assert_zeros(const uint8_t *bytes, int len);

void make_handle(uint8_t handle[KR_HANDLE_BYTES]);

/* The reason of the oldest error, and no error is left; "" when there is none. */
const char *first_reason(void);

/* Every cipher of the default provider whose key is 32 bytes or longer. */
void each_wide_cipher(struct ossl *ossl, void (*call)(EVP_CIPHER *cipher, void *arg), void *arg);

#endif
