/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* With any key that is no handle the OpenSSL provider does what the default provider does. */
#include "ossl_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>

enum { WALKS = 60, STEPS = 24, TRANSCRIPT = 65536, ROOM = 512 };

static const char *provider_of(const EVP_CIPHER *cipher)
{
    return OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(cipher));
}

/* --- who is found ---------------------------------------------------------------------------- */

static void name_finds_ours(const char *name, void *arg)
{
    struct ossl *ossl = arg;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(ossl->ours, name, NULL);
    assert_non_null(cipher);
    assert_string_equal(provider_of(cipher), KR_OSSL_PROVIDER_NAME);
    EVP_CIPHER_free(cipher);
}

static void every_name_finds_ours(EVP_CIPHER *cipher, void *arg)
{
    assert_true(EVP_CIPHER_names_do_all(cipher, name_finds_ours, arg));
}

static void same_properties(EVP_CIPHER *theirs, void *arg)
{
    struct ossl *ossl = arg;
    EVP_CIPHER *ours = EVP_CIPHER_fetch(ossl->ours, EVP_CIPHER_get0_name(theirs), NULL);
    assert_int_equal(EVP_CIPHER_get_block_size(ours), EVP_CIPHER_get_block_size(theirs));
    assert_int_equal(EVP_CIPHER_get_iv_length(ours), EVP_CIPHER_get_iv_length(theirs));
    assert_int_equal(EVP_CIPHER_get_key_length(ours), EVP_CIPHER_get_key_length(theirs));
    assert_int_equal(EVP_CIPHER_get_flags(ours), EVP_CIPHER_get_flags(theirs));
    assert_int_equal(EVP_CIPHER_get_mode(ours), EVP_CIPHER_get_mode(theirs));
    assert_int_equal(EVP_CIPHER_get_nid(ours), EVP_CIPHER_get_nid(theirs));
    assert_ptr_equal(EVP_CIPHER_gettable_params(ours), EVP_CIPHER_gettable_params(theirs));
    assert_ptr_equal(EVP_CIPHER_gettable_ctx_params(ours), EVP_CIPHER_gettable_ctx_params(theirs));
    assert_ptr_equal(EVP_CIPHER_settable_ctx_params(ours), EVP_CIPHER_settable_ctx_params(theirs));
    EVP_CIPHER_free(ours);
}

static void test_wide_ciphers_are_ours_by_every_name(void **state)
{
    each_wide_cipher(*state, every_name_finds_ours, *state);
    each_wide_cipher(*state, same_properties, *state);
    name_finds_ours("2.16.840.1.101.3.4.1.41", *state);
    name_finds_ours("2.16.840.1.101.3.4.1.42", *state);
    name_finds_ours("AES256", *state);
    name_finds_ours("aes-256-cfb", *state);
}

static void test_narrow_ciphers_are_not(void **state)
{
    struct ossl *ossl = *state;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(ossl->ours, "AES-128-ECB", NULL);
    assert_string_equal(provider_of(cipher), "default");
    EVP_CIPHER_free(cipher);
}

/* --- the same walk through both providers ---------------------------------------------------- */

struct walk {
    uint32_t random;
    EVP_CIPHER_CTX *ctx;
    EVP_CIPHER *cipher;
    uint8_t *transcript;
    size_t len;
};

static uint32_t next(struct walk *walk, uint32_t below)
{
    walk->random = walk->random * 1664525 + 1013904223;
    return (walk->random >> 8) % below;
}

static void note(struct walk *walk, const void *bytes, size_t len)
{
    assert_true(walk->len + len <= TRANSCRIPT);
    memcpy(walk->transcript + walk->len, bytes, len);
    walk->len += len;
}

static void note_int(struct walk *walk, int value)
{
    note(walk, &value, sizeof(value));
}

static void fill(struct walk *walk, uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)next(walk, 256);
}

static void step_init(struct walk *walk, bool with_key)
{
    uint8_t key[64], iv[32];
    fill(walk, key, sizeof(key));
    fill(walk, iv, sizeof(iv));
    unsigned encrypts = next(walk, 2);
    bool with_iv = with_key || next(walk, 4) > 0;
    note_int(walk, EVP_CipherInit_ex2(walk->ctx, NULL, with_key ? key : NULL, with_iv ? iv : NULL,
                                      (int)encrypts, NULL));
}

static void step_update(struct walk *walk)
{
    uint8_t in[ROOM / 4], out[ROOM] = {0};
    size_t len = next(walk, 3) ? next(walk, 5) * 16 : next(walk, 100);
    int written = 0;
    fill(walk, in, sizeof(in));
    note_int(walk, EVP_CipherUpdate(walk->ctx, out, &written, in, (int)len));
    note_int(walk, written);
    note(walk, out, sizeof(out) / 2);
}

static void step_one_shot(struct walk *walk)
{
    uint8_t in[64], out[ROOM] = {0};
    fill(walk, in, sizeof(in));
    note_int(walk, EVP_Cipher(walk->ctx, out, in, 16 * next(walk, 5)));
    note(walk, out, 128);
}

static void step_final(struct walk *walk)
{
    uint8_t out[ROOM] = {0};
    int written = 0;
    note_int(walk, EVP_CipherFinal_ex(walk->ctx, out, &written));
    note_int(walk, written);
    note(walk, out, 64);
}

static void step_copy(struct walk *walk)
{
    EVP_CIPHER_CTX *copy = EVP_CIPHER_CTX_new();
    int ok = EVP_CIPHER_CTX_copy(copy, walk->ctx);
    note_int(walk, ok);
    if (ok) {
        EVP_CIPHER_CTX_free(walk->ctx);
        walk->ctx = copy;
    } else {
        EVP_CIPHER_CTX_free(copy);
    }
}

static void step_look(struct walk *walk)
{
    uint8_t iv[16] = {0}, updated[16] = {0};
    note_int(walk, EVP_CIPHER_CTX_get_key_length(walk->ctx));
    note_int(walk, EVP_CIPHER_CTX_get_iv_length(walk->ctx));
    note_int(walk, EVP_CIPHER_CTX_get_num(walk->ctx));
    note_int(walk, EVP_CIPHER_CTX_is_encrypting(walk->ctx));
    note_int(walk, EVP_CIPHER_CTX_get_original_iv(walk->ctx, iv, sizeof(iv)));
    note_int(walk, EVP_CIPHER_CTX_get_updated_iv(walk->ctx, updated, sizeof(updated)));
    note(walk, iv, sizeof(iv));
    note(walk, updated, sizeof(updated));
}

static void step_set(struct walk *walk)
{
    if (next(walk, 3) == 0)
        note_int(walk, EVP_CIPHER_CTX_set_key_length(walk->ctx, next(walk, 2) ? 32 : 16));
    else
        note_int(walk, EVP_CIPHER_CTX_set_padding(walk->ctx, (int)next(walk, 2)));
}

static void step(struct walk *walk)
{
    switch (next(walk, 16)) {
    case 0:
    case 1:
        step_init(walk, true);
        break;
    case 2:
        step_init(walk, false);
        break;
    case 3:
    case 4:
        step_final(walk);
        break;
    case 5:
        step_copy(walk);
        break;
    case 6:
    case 7:
        step_look(walk);
        break;
    case 8:
    case 9:
        step_set(walk);
        break;
    case 10:
        step_one_shot(walk);
        break;
    default:
        step_update(walk);
    }
}

static size_t take_walk(OSSL_LIB_CTX *library, const char *name, uint32_t seed, uint8_t *transcript)
{
    struct walk walk = {.random = seed, .transcript = transcript};
    walk.cipher = EVP_CIPHER_fetch(library, name, NULL);
    walk.ctx = EVP_CIPHER_CTX_new();
    assert_non_null(walk.cipher);
    note_int(&walk, EVP_CipherInit_ex2(walk.ctx, walk.cipher, NULL, NULL, 1, NULL));
    step_init(&walk, true);
    for (unsigned i = 0; i < STEPS; i++)
        step(&walk);
    EVP_CIPHER_CTX_free(walk.ctx);
    EVP_CIPHER_free(walk.cipher);
    ERR_clear_error();
    return walk.len;
}

static void same_walks(EVP_CIPHER *cipher, void *arg)
{
    static uint8_t plain[TRANSCRIPT], ours[TRANSCRIPT];
    struct ossl *ossl = arg;
    const char *name = EVP_CIPHER_get0_name(cipher);
    for (uint32_t seed = 1; seed <= WALKS; seed++) {
        size_t len = take_walk(ossl->plain, name, seed, plain);
        assert_int_equal(take_walk(ossl->ours, name, seed, ours), len);
        if (memcmp(plain, ours, len) != 0)
            fail_msg("%s, walk %u: not what the default provider does", name, (unsigned)seed);
    }
}

static void test_walks_are_the_same(void **state)
{
    each_wide_cipher(*state, same_walks, *state);
}

/* A test of the test: another seed gives another transcript. */
static void test_walks_tell_differences(void **state)
{
    static uint8_t a[TRANSCRIPT], b[TRANSCRIPT];
    struct ossl *ossl = *state;
    size_t len = take_walk(ossl->plain, "AES-256-CBC", 1, a);
    take_walk(ossl->ours, "AES-256-CBC", 2, b);
    assert_memory_not_equal(a, b, len);
}

/* --- TLS records ----------------------------------------------------------------------------- */

enum { EXPLICIT_IV = 16, PAYLOAD = 29, MAC = 20, RECORD = 80 };

struct record {
    uint8_t bytes[RECORD];
    int len;
    uint8_t mac[MAC];
};

static EVP_CIPHER_CTX *tls_context(OSSL_LIB_CTX *library, bool encrypts, const uint8_t *key)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(library, "AES-256-CBC", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned version = 0x0303;
    size_t mac_size = MAC;
    static const uint8_t iv[16] = {1, 2, 3};
    OSSL_PARAM params[] = {OSSL_PARAM_uint(OSSL_CIPHER_PARAM_TLS_VERSION, &version),
                           OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_TLS_MAC_SIZE, &mac_size),
                           OSSL_PARAM_END};
    assert_true(EVP_CipherInit_ex2(ctx, cipher, key, iv, encrypts, NULL));
    assert_true(EVP_CIPHER_CTX_set_params(ctx, params));
    EVP_CIPHER_free(cipher);
    return ctx;
}

static void seal_record(OSSL_LIB_CTX *library, const uint8_t *key, struct record *record)
{
    EVP_CIPHER_CTX *ctx = tls_context(library, true, key);
    for (int i = 0; i < EXPLICIT_IV + PAYLOAD + MAC; i++)
        record->bytes[i] = (uint8_t)(7 * i);
    assert_true(EVP_CipherUpdate(ctx, record->bytes, &record->len, record->bytes,
                                 EXPLICIT_IV + PAYLOAD + MAC));
    EVP_CIPHER_CTX_free(ctx);
}

static void open_record(OSSL_LIB_CTX *library, const uint8_t *key, struct record *record)
{
    EVP_CIPHER_CTX *ctx = tls_context(library, false, key);
    void *mac = NULL;
    OSSL_PARAM params[] = {OSSL_PARAM_octet_ptr(OSSL_CIPHER_PARAM_TLS_MAC, &mac, MAC),
                           OSSL_PARAM_END};
    assert_true(EVP_CipherUpdate(ctx, record->bytes, &record->len, record->bytes, record->len));
    assert_true(EVP_CIPHER_CTX_get_params(ctx, params));
    assert_non_null(mac);
    memcpy(record->mac, mac, MAC);
    EVP_CIPHER_CTX_free(ctx);
}

static void test_tls_records(void **state)
{
    struct ossl *ossl = *state;
    struct record plain = {.len = 0}, ours = {.len = 0};
    uint8_t key[32];
    assert_true(RAND_bytes(key, sizeof(key)));
    seal_record(ossl->plain, key, &plain);
    seal_record(ossl->ours, key, &ours);
    assert_int_equal(plain.len, RECORD);
    assert_int_equal(ours.len, RECORD);
    assert_memory_equal(plain.bytes, ours.bytes, RECORD);
    open_record(ossl->plain, key, &plain);
    open_record(ossl->ours, key, &ours);
    assert_int_equal(ours.len, plain.len);
    assert_memory_equal(ours.mac, plain.mac, MAC);
    for (int i = 0; i < PAYLOAD; i++)
        assert_int_equal(ours.bytes[EXPLICIT_IV + i], (uint8_t)(7 * (EXPLICIT_IV + i)));
}

/* --- life of the provider -------------------------------------------------------------------- */

static OSSL_LIB_CTX *another_library(OSSL_PROVIDER **ret_default, OSSL_PROVIDER **ret_ours)
{
    OSSL_LIB_CTX *library = OSSL_LIB_CTX_new();
    assert_true(OSSL_PROVIDER_set_default_search_path(library, P11K_OSSL_TEST_MODULES));
    *ret_default = OSSL_PROVIDER_load(library, "default");
    *ret_ours = OSSL_PROVIDER_load(library, KR_OSSL_PROVIDER_NAME);
    assert_non_null(*ret_ours);
    assert_true(EVP_set_default_properties(library, "?provider=" KR_OSSL_PROVIDER_NAME));
    return library;
}

/* A context that outlives everybody else's interest in the provider still works. */
static void test_context_outlives_unloading(void **state)
{
    (void)state;
    OSSL_PROVIDER *theirs, *ours;
    OSSL_LIB_CTX *library = another_library(&theirs, &ours);
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(library, "AES-256-CTR", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t key[32] = {1}, iv[16] = {2}, text[100] = {0};
    int len;
    assert_true(EVP_EncryptInit_ex2(ctx, cipher, key, iv, NULL));
    EVP_CIPHER_free(cipher);
    OSSL_PROVIDER_unload(ours);
    OSSL_PROVIDER_unload(theirs);
    assert_true(EVP_EncryptUpdate(ctx, text, &len, text, sizeof(text)));
    EVP_CIPHER_CTX_free(ctx);
    OSSL_LIB_CTX_free(library);
}

static void *load_and_unload(void *arg)
{
    static uint8_t transcripts[4][TRANSCRIPT];
    uintptr_t n = (uintptr_t)arg;
    for (unsigned i = 0; i < 10; i++) {
        OSSL_PROVIDER *theirs, *ours;
        OSSL_LIB_CTX *library = another_library(&theirs, &ours);
        take_walk(library, i % 2 ? "AES-256-CBC" : "AES-256-GCM", 1, transcripts[n]);
        OSSL_PROVIDER_unload(ours);
        OSSL_PROVIDER_unload(theirs);
        OSSL_LIB_CTX_free(library);
    }
    return NULL;
}

static void test_loading_in_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, load_and_unload, (void *)i), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest used[] = {
        cmocka_unit_test(test_wide_ciphers_are_ours_by_every_name),
        cmocka_unit_test(test_narrow_ciphers_are_not),
        cmocka_unit_test(test_walks_tell_differences),
        cmocka_unit_test(test_walks_are_the_same),
        cmocka_unit_test(test_tls_records),
    };
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(test_context_outlives_unloading),
        cmocka_unit_test(test_loading_in_threads),
    };
    return cmocka_run_group_tests_name("passes keys through", used, ossl_setup, ossl_teardown) +
           cmocka_run_group_tests_name("comes and goes", alone, NULL, NULL);
}
