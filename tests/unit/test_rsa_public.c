/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* RSA wraps without a token: the vectors of docs/FORMAT.md, opened with their private key. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/hex.h"
#include "pkcs11/rsa_public.h"
#include "vectors.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

enum { N = 384, WRAPPED = 2 + 2 * N };

static struct kr_rsa_public public;
static EVP_PKEY *private;
static struct kr_object_id master;

/* As the document says: from the two primes. */
static int make_key(void **state)
{
    BIGNUM *p = NULL, *q = NULL, *n = BN_new(), *e = BN_new(), *d = BN_new(), *phi = BN_new();
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BN_CTX *numbers = BN_CTX_new();
    OSSL_PARAM *params;

    (void)state;
    BN_hex2bn(&p, VECTOR_RSA_P);
    BN_hex2bn(&q, VECTOR_RSA_Q);
    BN_set_word(e, 65537);
    BN_mul(n, p, q, numbers);
    BN_sub(phi, n, p);
    BN_sub(phi, phi, q);
    BN_add_word(phi, 1);
    assert_non_null(BN_mod_inverse(d, e, phi, numbers));
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_D, d);
    params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_fromdata_init(context);
    assert_int_equal(EVP_PKEY_fromdata(context, &private, EVP_PKEY_KEYPAIR, params), 1);
    public.modulus_len = (size_t)BN_bn2bin(n, public.modulus);
    public.exponent_len = (size_t)BN_bn2bin(e, public.exponent);
    master.len = 16;
    assert_true(kr_hex_decode(VECTOR_GCM_MASTER_ID, 32, master.bytes));
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(context);
    BN_CTX_free(numbers);
    BN_free(p);
    BN_free(q);
    BN_free(n);
    BN_free(e);
    BN_free(d);
    BN_free(phi);
    return 0;
}

static int free_key(void **state)
{
    (void)state;
    EVP_PKEY_free(private);
    return 0;
}

static void decrypt(const EVP_MD *md, const uint8_t *ciphertext, uint8_t ret[32])
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, private, NULL);
    uint8_t out[N];
    size_t len = sizeof(out);

    assert_int_equal(EVP_PKEY_decrypt_init(context), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(context, md), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(context, md), 1);
    assert_int_equal(EVP_PKEY_decrypt(context, out, &len, ciphertext, N), 1);
    assert_int_equal(len, 32);
    memcpy(ret, out, 32);
    EVP_PKEY_CTX_free(context);
}

static const struct {
    enum kr_wrap_mechanism mechanism;
    const char *wrapped;
} cases[] = {{KR_WRAP_RSA_SHA256, VECTOR_RSA_SHA256_WRAPPED},
             {KR_WRAP_RSA_SHA1, VECTOR_RSA_SHA1_WRAPPED}};

static const EVP_MD *hash(size_t i)
{
    return i == 0 ? EVP_sha256() : EVP_sha1();
}

static void opens_the_vectors(void **state)
{
    uint8_t wrapped[WRAPPED], bytes[KR_RSA_SIGNED_MAX], expected[32], key[32];
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    assert_true(kr_hex_decode(VECTOR_SEALING_KEY, 64, expected));
    for (size_t i = 0; i < 2; i++) {
        size_t len;

        assert_int_equal(strlen(cases[i].wrapped), 2 * WRAPPED);
        assert_true(kr_hex_decode(cases[i].wrapped, 2 * WRAPPED, wrapped));
        assert_int_equal(wrapped[0] << 8 | wrapped[1], N);
        len = kr_rsa_signed(cases[i].mechanism, &master, wrapped + 2, N, bytes);
        assert_int_equal(len, 17 + 1 + 16 + N);
        assert_int_equal(kr_rsa_verify(&public, bytes, len, wrapped + 2 + N, N, &err), KR_OK);
        decrypt(hash(i), wrapped + 2, key);
        assert_memory_equal(key, expected, sizeof(key));
    }
}

static void encrypts_what_the_private_key_opens(void **state)
{
    uint8_t key[32], back[32], ciphertext[N];
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    memset(key, 0x3c, sizeof(key));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(kr_rsa_encrypt(&public, cases[i].mechanism, key, ciphertext, &err), KR_OK);
        decrypt(hash(i), ciphertext, back);
        assert_memory_equal(key, back, sizeof(key));
    }
}

/* Mechanism, master key, ciphertext and signature: each belongs to the others. */
static void refuses_what_was_not_signed(void **state)
{
    uint8_t wrapped[WRAPPED], bytes[KR_RSA_SIGNED_MAX];
    struct kr_object_id shorter = master;
    struct kr_error err = KR_ERROR_INIT;
    size_t len;

    (void)state;
    assert_true(kr_hex_decode(cases[0].wrapped, 2 * WRAPPED, wrapped));
    shorter.len--;
    len = kr_rsa_signed(KR_WRAP_RSA_SHA256, &shorter, wrapped + 2, N, bytes);
    assert_int_equal(kr_rsa_verify(&public, bytes, len, wrapped + 2 + N, N, &err), KR_INTEGRITY);
    len = kr_rsa_signed(KR_WRAP_RSA_SHA1, &master, wrapped + 2, N, bytes);
    assert_int_equal(kr_rsa_verify(&public, bytes, len, wrapped + 2 + N, N, &err), KR_INTEGRITY);
    len = kr_rsa_signed(KR_WRAP_RSA_SHA256, &master, wrapped + 2, N, bytes);
    for (size_t at = 0; at < len; at += 7) {
        bytes[at] ^= 1;
        assert_int_equal(kr_rsa_verify(&public, bytes, len, wrapped + 2 + N, N, &err),
                         KR_INTEGRITY);
        bytes[at] ^= 1;
    }
    for (size_t at = 0; at < N; at += 7) {
        wrapped[2 + N + at] ^= 1;
        assert_int_equal(kr_rsa_verify(&public, bytes, len, wrapped + 2 + N, N, &err),
                         KR_INTEGRITY);
        wrapped[2 + N + at] ^= 1;
    }
    assert_int_equal(kr_rsa_verify(&public, bytes, len, wrapped + 2 + N, N, &err), KR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_the_vectors),
        cmocka_unit_test(encrypts_what_the_private_key_opens),
        cmocka_unit_test(refuses_what_was_not_signed),
    };

    return cmocka_run_group_tests(tests, make_key, free_key);
}
