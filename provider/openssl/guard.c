/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The ciphers with 32-byte keys that have no use for a handle. */
#include "guard.h"

#include <string.h>

#include "handle.h"
#include "refuse.h"

typedef OSSL_FUNC_cipher_encrypt_init_fn init_fn;

bool kr_begins_as_handle(const uint8_t *key, size_t len)
{
    return len >= KR_HANDLE_MAGIC_BYTES && memcmp(key, KR_HANDLE_MAGIC, KR_HANDLE_MAGIC_BYTES) == 0;
}

/* Longer keys are made of several (XTS, SIV). */
static bool holds_handle(const uint8_t *key, size_t len)
{
#ifndef P11K_TEST_NO_GUARD
    for (size_t at = 0; key && at < len; at += KR_HANDLE_BYTES) {
        if (kr_begins_as_handle(key + at, len - at))
            return true;
    }
#else
    (void)key;
    (void)len;
#endif
    return false;
}

static int checked_init(init_fn *init, void *ctx, const unsigned char *key, size_t keylen,
                        const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    if (holds_handle(key, keylen))
        return kr_refuse(KR_REFUSAL_CIPHER);
    return init(ctx, key, keylen, iv, ivlen, params);
}

/* An init function is told its context but not its cipher, so each pair that the inner provider
 * has (about a dozen: most ciphers share theirs) gets functions of its own. */
/* clang-format off */
#define EACH_SLOT(X)                                                                               \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)          \
    X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
/* clang-format on */
enum { SLOTS = 32 };

static struct pair {
    init_fn *encrypt, *decrypt;
} inner[SLOTS];

#define FUNCTIONS(n)                                                                               \
    static int encrypt_init_##n(void *ctx, const unsigned char *key, size_t keylen,                \
                                const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])  \
    {                                                                                              \
        return checked_init(inner[n].encrypt, ctx, key, keylen, iv, ivlen, params);                \
    }                                                                                              \
    static int decrypt_init_##n(void *ctx, const unsigned char *key, size_t keylen,                \
                                const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])  \
    {                                                                                              \
        return checked_init(inner[n].decrypt, ctx, key, keylen, iv, ivlen, params);                \
    }
EACH_SLOT(FUNCTIONS)

#define REPLACEMENTS(n)                                                                            \
    {{OSSL_FUNC_CIPHER_ENCRYPT_INIT, (void (*)(void))encrypt_init_##n},                            \
     {OSSL_FUNC_CIPHER_DECRYPT_INIT, (void (*)(void))decrypt_init_##n},                            \
     {0, NULL}},
static const OSSL_DISPATCH replacements[SLOTS][3] = {EACH_SLOT(REPLACEMENTS)};

const OSSL_DISPATCH *kr_guard_over(init_fn *encrypt, init_fn *decrypt)
{
    unsigned n = 0;
    while (n < SLOTS && inner[n].encrypt &&
           !(inner[n].encrypt == encrypt && inner[n].decrypt == decrypt))
        n++;
    if (n == SLOTS || !encrypt || !decrypt)
        return NULL;
    if (!inner[n].encrypt)
        inner[n] = (struct pair){encrypt, decrypt};
    return replacements[n];
}
