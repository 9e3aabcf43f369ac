/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A handle in the OpenSSL provider: the server's exact calls work, and nothing else does. */
#include "ossl_fixture.h"

#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>

static const char *const names[] = {"AES-256-ECB", "AES-256-CBC"};

static void assert_refused(struct use *use, int result, const char *reason)
{
    struct kr_handle_counters after;
    int len;
    assert_true(result <= 0);
    assert_string_equal(first_reason(), reason);
    use->ossl->counters(&after);
    assert_true(after.refused > use->before.refused);
    assert_int_equal(after.performed, use->before.performed);
    assert_int_equal(use->fake.calls, 0);
    assert_false(EVP_CipherUpdate(use->ctx, use->out, &len, use->in, use->len));
    assert_false(EVP_CipherFinal_ex(use->ctx, use->out, &len));
    assert_int_equal(use->fake.calls, 0);
    finish(use);
}

/* --- what works ------------------------------------------------------------------------------ */

/* As mysys/my_aes_openssl.cc calls it for InnoDB and the binary log. */
static void test_the_calls_of_the_server(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct use use;
        int len = 0, last = -1;
        start(&use, state, i / 2);
        if (i % 2 == ENCRYPT) {
            assert_true(EVP_EncryptInit(use.ctx, use.cipher, use.handle, test_iv));
            assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
            assert_true(EVP_EncryptUpdate(use.ctx, use.out, &len, use.in, use.len));
            assert_true(EVP_EncryptFinal(use.ctx, use.out + len, &last));
        } else {
            assert_true(EVP_DecryptInit(use.ctx, use.cipher, use.handle, test_iv));
            assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
            assert_true(EVP_DecryptUpdate(use.ctx, use.out, &len, use.in, use.len));
            assert_true(EVP_DecryptFinal_ex(use.ctx, use.out + len, &last));
        }
        assert_int_equal(len, use.len);
        assert_int_equal(last, 0);
        assert_int_equal(use.out[use.len], 0xEE);
        assert_answered(&use, i % 2, use.in);
        finish(&use);
    }
}

static void test_one_shot(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct use use;
        start(&use, state, i / 2);
        assert_true(init(&use, i % 2));
        assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
        assert_int_equal(EVP_Cipher(use.ctx, use.out, use.in, (unsigned)use.len), use.len);
        assert_answered(&use, i % 2, use.in);
        finish(&use);
    }
}

static void test_in_place(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    memcpy(use.out, use.in, sizeof(use.out));
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.out, use.len));
    assert_answered(&use, DECRYPT, use.in);
    finish(&use);
}

static void test_padding_off_before_the_handle(void **state)
{
    struct use use;
    int len;
    start(&use, state, ECB);
    assert_true(EVP_CipherInit_ex2(use.ctx, use.cipher, NULL, NULL, DECRYPT, NULL));
    assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
    assert_true(EVP_CipherInit_ex2(use.ctx, NULL, use.handle, NULL, DECRYPT, NULL));
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_answered(&use, DECRYPT, use.in);
    finish(&use);
}

/* A context is used again with a key, and is then the default provider's. */
static void test_key_after_handle(void **state)
{
    struct use use;
    uint8_t key[32] = {3, 1, 4}, plain[MORE];
    int len;
    start_ready(&use, state, CBC);
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_true(EVP_CipherInit_ex2(use.ctx, NULL, key, test_iv, ENCRYPT, NULL));
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, 96));
    assert_int_equal(len, 96);

    EVP_CIPHER *cipher = EVP_CIPHER_fetch(use.ossl->plain, names[CBC], NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_true(EVP_CipherInit_ex2(ctx, cipher, key, test_iv, ENCRYPT, NULL));
    assert_true(EVP_CipherUpdate(ctx, plain, &len, use.in, 96));
    assert_memory_equal(plain, use.out, 96);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    finish(&use);
}

/* --- what is refused ------------------------------------------------------------------------- */

static void test_padding_on(void **state)
{
    for (int mode = ECB; mode <= CBC; mode++) {
        struct use use;
        int len;
        start(&use, state, mode);
        assert_true(init(&use, DECRYPT));
        int result = EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len);
        assert_zeros(use.out, use.len);
        assert_refused(&use, result, "a keyring handle with padding on");
    }
}

static void test_padding_on_again(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 1));
    assert_refused(&use, EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len),
                   "a keyring handle with padding on");
}

static void test_one_shot_with_padding_on(void **state)
{
    struct use use;
    start(&use, state, ECB);
    assert_true(init(&use, DECRYPT));
    int result = EVP_Cipher(use.ctx, use.out, use.in, (unsigned)use.len);
    assert_zeros(use.out, use.len);
    assert_refused(&use, result, "a keyring handle with padding on");
}

static void test_other_lengths(void **state)
{
    static const int wrong[] = {1, 15, 16, 31, 33, 48, 63, 65, 80, 96, 128};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        for (int mode = ECB; mode <= CBC; mode++) {
            struct use use;
            int len;
            start_ready(&use, state, mode);
            int result = EVP_CipherUpdate(use.ctx, use.out, &len, use.in, wrong[i]);
            assert_zeros(use.out, wrong[i]);
            assert_refused(&use, result, "a keyring handle with data of another length");
        }
    }
}

static void test_lengths_of_the_other_cipher(void **state)
{
    for (int mode = ECB; mode <= CBC; mode++) {
        struct use use;
        start_ready(&use, state, mode);
        assert_refused(&use,
                       EVP_Cipher(use.ctx, use.out, use.in,
                                  mode == ECB ? KR_HANDLE_CBC_BYTES : KR_HANDLE_ECB_BYTES),
                       "a keyring handle with data of another length");
    }
}

static void test_final_without_data(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_refused(&use, EVP_CipherFinal_ex(use.ctx, use.out, &len),
                   "a keyring handle used other than init, update, final");
}

static void test_second_update(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    use.fake.calls = 0;
    use.ossl->counters(&use.before);
    int result = EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len);
    assert_zeros(use.out, use.len);
    assert_refused(&use, result, "a keyring handle used other than init, update, final");
}

static void test_init_without_key(void **state)
{
    struct use use;
    start_ready(&use, state, CBC);
    assert_refused(&use, EVP_CipherInit_ex2(use.ctx, NULL, NULL, test_iv, DECRYPT, NULL),
                   "a keyring handle used other than init, update, final");
}

/* libcrypto gives 32 bytes always; other callers of a provider may not. */
static void test_key_lengths(void **state)
{
    struct ossl *ossl = *state;
    struct use use;
    int no_cache;
    start(&use, state, ECB);
    const OSSL_ALGORITHM *algorithm =
        OSSL_PROVIDER_query_operation(ossl->provider, OSSL_OP_CIPHER, &no_cache);
    while (strncmp(algorithm->algorithm_names, names[ECB], strlen(names[ECB])) != 0)
        algorithm++;
    OSSL_FUNC_cipher_newctx_fn *newctx = NULL;
    OSSL_FUNC_cipher_decrypt_init_fn *decrypt_init = NULL;
    OSSL_FUNC_cipher_freectx_fn *freectx = NULL;
    for (const OSSL_DISPATCH *entry = algorithm->implementation; entry->function_id; entry++) {
        if (entry->function_id == OSSL_FUNC_CIPHER_NEWCTX)
            newctx = (OSSL_FUNC_cipher_newctx_fn *)entry->function;
        else if (entry->function_id == OSSL_FUNC_CIPHER_DECRYPT_INIT)
            decrypt_init = (OSSL_FUNC_cipher_decrypt_init_fn *)entry->function;
        else if (entry->function_id == OSSL_FUNC_CIPHER_FREECTX)
            freectx = (OSSL_FUNC_cipher_freectx_fn *)entry->function;
    }
    void *ctx = newctx(OSSL_PROVIDER_get0_provider_ctx(ossl->provider));
    for (size_t len = KR_HANDLE_MAGIC_BYTES; len < KR_HANDLE_BYTES; len += 8) {
        assert_false(decrypt_init(ctx, use.handle, len, NULL, 0, NULL));
        assert_string_equal(first_reason(), "a keyring handle with a wrong key length");
    }
    freectx(ctx);
    finish(&use);
}

static void test_iv_missing(void **state)
{
    struct use use;
    start(&use, state, CBC);
    assert_refused(&use, EVP_CipherInit_ex2(use.ctx, use.cipher, use.handle, NULL, DECRYPT, NULL),
                   "a keyring handle with a missing or wrong iv");
}

static void test_parameters(void **state)
{
    struct use use;
    unsigned version = 0x0303;
    OSSL_PARAM params[] = {OSSL_PARAM_uint(OSSL_CIPHER_PARAM_TLS_VERSION, &version),
                           OSSL_PARAM_END};
    start_ready(&use, state, CBC);
    assert_refused(&use, EVP_CIPHER_CTX_set_params(use.ctx, params),
                   "a keyring handle with a parameter besides padding");
    start(&use, state, CBC);
    assert_refused(&use,
                   EVP_CipherInit_ex2(use.ctx, use.cipher, use.handle, test_iv, DECRYPT, params),
                   "a keyring handle with a parameter besides padding");
}

static void test_copy(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    EVP_CIPHER_CTX *copy = EVP_CIPHER_CTX_new();
    assert_false(EVP_CIPHER_CTX_copy(copy, use.ctx));
    assert_string_equal(first_reason(), "a context with a keyring handle cannot be copied");
    EVP_CIPHER_CTX_free(copy);
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    finish(&use);
}

static void refused_by(EVP_CIPHER *theirs, void *arg)
{
    struct use use;
    uint8_t key[64];
    start(&use, arg, CBC);
    EVP_CIPHER_free(use.cipher);
    use.cipher = EVP_CIPHER_fetch(use.ossl->ours, EVP_CIPHER_get0_name(theirs), NULL);
    if (EVP_CIPHER_is_a(theirs, names[ECB]) || EVP_CIPHER_is_a(theirs, names[CBC])) {
        finish(&use);
        return;
    }
    for (int at = 0; at + KR_HANDLE_BYTES <= EVP_CIPHER_get_key_length(theirs);
         at += KR_HANDLE_BYTES) {
        for (int direction = DECRYPT; direction <= ENCRYPT; direction++) {
            assert_true(RAND_bytes(key, sizeof(key)));
            memcpy(key + at, use.handle, KR_HANDLE_BYTES);
            EVP_CIPHER_CTX_set_flags(use.ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
            if (EVP_CipherInit_ex2(use.ctx, use.cipher, key, test_iv, direction, NULL))
                fail_msg("%s takes a handle for a key", EVP_CIPHER_get0_name(theirs));
            assert_string_equal(first_reason(), "a keyring handle is no key for this cipher");
            assert_true(EVP_CIPHER_CTX_reset(use.ctx));
        }
    }
    finish(&use);
}

static void test_every_other_cipher(void **state)
{
    struct ossl *ossl = *state;
    each_wide_cipher(ossl, refused_by, state);
}

int main(void)
{
    const struct CMUnitTest works[] = {
        cmocka_unit_test(test_the_calls_of_the_server),
        cmocka_unit_test(test_one_shot),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_padding_off_before_the_handle),
        cmocka_unit_test(test_key_after_handle),
    };
    const struct CMUnitTest refused[] = {
        cmocka_unit_test(test_padding_on),
        cmocka_unit_test(test_padding_on_again),
        cmocka_unit_test(test_one_shot_with_padding_on),
        cmocka_unit_test(test_other_lengths),
        cmocka_unit_test(test_lengths_of_the_other_cipher),
        cmocka_unit_test(test_final_without_data),
        cmocka_unit_test(test_second_update),
        cmocka_unit_test(test_init_without_key),
        cmocka_unit_test(test_key_lengths),
        cmocka_unit_test(test_iv_missing),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_every_other_cipher),
    };
    return cmocka_run_group_tests_name("works", works, ossl_setup, ossl_teardown) +
           cmocka_run_group_tests_name("is refused", refused, ossl_setup, ossl_teardown);
}
