/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What a SQL user with a handle would try, built twice: against the provider, where it fails, and
 * against one built without its guard (P11K_TEST_NO_GUARD), where it works: so the first result
 * means something.
 */
#include "ossl_fixture.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/rand.h>

#ifdef P11K_TEST_NO_GUARD
static const bool guarded = false;
#else
static const bool guarded = true;
#endif

/* SELECT AES_DECRYPT(<64 bytes of an .ibd>, <handle>) with block_encryption_mode = aes-256-ecb:
 * the calls of my_aes_decrypt() with padding on. The tablespace key is in the output buffer after
 * the update, whatever final says. */
static void test_sql_decrypts_a_tablespace_key(void **state)
{
    struct ossl *ossl = *state;
    struct fake_keyring fake = {0};
    uint8_t handle[KR_HANDLE_BYTES], secret[64], wrapped[64], out[80] = {0};
    int len;
    make_handle(handle);
    assert_true(RAND_bytes(secret, sizeof(secret)));
    fake_answer(handle[KR_HANDLE_BYTES - 1], KR_HANDLE_ECB_DECRYPT, secret, 64, wrapped);
    assert_int_equal(ossl->set(fake_keyring_run, &fake), 1);

    EVP_CIPHER *cipher = EVP_CIPHER_fetch(ossl->ours, "AES-256-ECB", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_true(EVP_DecryptInit(ctx, cipher, handle, NULL));
    assert_true(EVP_CIPHER_CTX_set_padding(ctx, 1));
    int updated = EVP_DecryptUpdate(ctx, out, &len, wrapped, 64);
    assert_int_equal(updated, guarded ? 0 : 1);
    assert_int_equal(fake.calls, guarded ? 0 : 1);
    assert_int_equal(memcmp(out, secret, 64) == 0, !guarded);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    assert_int_equal(ossl->set(NULL, NULL), 1);
}

/* The handle as the key of another cipher that SQL reaches: what was meant to be protected by the
 * token is protected by the handle. */
static void takes_a_handle_for_a_key(struct ossl *ossl, const char *name)
{
    uint8_t handle[KR_HANDLE_BYTES], iv[16] = {1}, theirs[32] = {0}, out[32] = {0};
    int len;
    make_handle(handle);
    EVP_CIPHER *plain = EVP_CIPHER_fetch(ossl->plain, name, NULL);
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(ossl->ours, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_true(EVP_EncryptInit(ctx, plain, handle, iv));
    assert_true(EVP_EncryptUpdate(ctx, theirs, &len, theirs, sizeof(theirs)));
    bool begun = EVP_EncryptInit(ctx, cipher, handle, iv);
    assert_int_equal(begun, !guarded);
    if (begun)
        assert_true(EVP_EncryptUpdate(ctx, out, &len, out, sizeof(out)));
    assert_int_equal(memcmp(out, theirs, sizeof(out)) == 0, !guarded);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    EVP_CIPHER_free(plain);
    ERR_clear_error();
}

static void test_handle_as_key_of_another_cipher(void **state)
{
    static const char *const names[] = {"AES-256-CFB1",    "AES-256-CFB8", "AES-256-CFB",
                                        "AES-256-OFB",     "AES-256-CTR",  "AES-256-GCM",
                                        "CAMELLIA-256-ECB"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        takes_a_handle_for_a_key(*state, names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sql_decrypts_a_tablespace_key),
        cmocka_unit_test(test_handle_as_key_of_another_cipher),
    };
    return cmocka_run_group_tests(tests, ossl_setup, ossl_teardown);
}
