/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Derived page keys: the bytes of docs/FORMAT.md, what each depends on, and what is kept of them.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/rand.h>

#include "base/hex.h"
#include "hwaccel/page_cipher.h"
#include "vectors.h"

enum { GIVEN = 16, IV = 16, TEXT_MAX = 64 };

static uint8_t data_key[KR_PAGE_KEY_BYTES], given[32];

static size_t bytes_of(const char *hex, uint8_t *ret)
{
    size_t len = strlen(hex);
    assert_true(kr_hex_decode(hex, len, ret));
    return len / 2;
}

static int read_inputs(void **state)
{
    (void)state;
    bytes_of(VECTOR_PAYLOAD, data_key);
    bytes_of(VECTOR_PAGE_GIVEN, given);
    return 0;
}

/* Of key 7, version 3: those of the vectors. */
static struct kr_page_key page_key(void)
{
    return (struct kr_page_key){given, GIVEN, data_key, 7, 3};
}

static struct kr_page_key_stats stats(void)
{
    struct kr_page_key_stats result;
    kr_page_keys_get_stats(&result);
    return result;
}

static void derive(struct kr_page_key key, uint8_t ret[KR_PAGE_KEY_BYTES])
{
    assert_int_equal(kr_page_key_derive(&key, ret), KR_OK);
}

/* --- the bytes -------------------------------------------------------------------------------- */

static void test_keys(void **state)
{
    uint8_t expected[KR_PAGE_KEY_BYTES], derived[KR_PAGE_KEY_BYTES];
    (void)state;
    bytes_of(VECTOR_PAGE_KEY, expected);
    derive(page_key(), derived);
    assert_memory_equal(derived, expected, sizeof(expected));
    bytes_of(VECTOR_PAGE_LOG_KEY, expected);
    derive((struct kr_page_key){data_key, 32, data_key, 1, 0x01020304}, derived);
    assert_memory_equal(derived, expected, sizeof(expected));
}

static void check_message(enum kr_cipher cipher, int flags, const char *expected_hex)
{
    uint8_t iv[IV], text[TEXT_MAX], expected[TEXT_MAX], result[TEXT_MAX];
    struct kr_page_key key = page_key();
    struct kr_page_op *op;
    size_t len, last, text_len = bytes_of(VECTOR_PAGE_TEXT, text);
    size_t expected_len = bytes_of(expected_hex, expected);
    bytes_of(VECTOR_PAGE_IV, iv);
    assert_int_equal(kr_page_begin(cipher, flags | KR_PAGE_ENCRYPT, &key, iv, IV, &op), KR_OK);
    assert_int_equal(kr_page_update(op, text, text_len, result, &len), KR_OK);
    assert_int_equal(kr_page_finish(op, result + len, &last), KR_OK);
    assert_int_equal(len + last, expected_len);
    assert_memory_equal(result, expected, expected_len);
}

static void test_messages(void **state)
{
    (void)state;
    check_message(KR_CIPHER_AES256_CBC, 0, VECTOR_PAGE_CBC);
    check_message(KR_CIPHER_AES256_CBC, KR_PAGE_PADDED, VECTOR_PAGE_CBC_PADDED);
    check_message(KR_CIPHER_AES256_CTR, 0, VECTOR_PAGE_CTR);
    check_message(KR_CIPHER_AES256_CTR, KR_PAGE_PADDED, VECTOR_PAGE_GCM);
}

static void test_every_input_counts(void **state)
{
    uint8_t first[KR_PAGE_KEY_BYTES], other[KR_PAGE_KEY_BYTES], longer[32];
    struct kr_page_key key = page_key();
    (void)state;
    derive(key, first);
    for (unsigned bit = 0; bit < GIVEN * 8; bit++) {
        given[bit / 8] ^= (uint8_t)(1u << bit % 8);
        derive(key, other);
        given[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_memory_not_equal(first, other, sizeof(first));
    }
    struct kr_page_key changed[] = {key, key, key, key};
    memcpy(longer, given, GIVEN);
    memset(longer + GIVEN, 1, sizeof(longer) - GIVEN); /* zeros at the end would be the same salt */
    changed[0].id++;
    changed[1].version++;
    changed[2].id = key.version, changed[2].version = key.id;
    changed[3].bytes = longer, changed[3].len = sizeof(longer);
    for (unsigned i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
        derive(changed[i], other);
        assert_memory_not_equal(first, other, sizeof(first));
    }
    derive(key, other);
    assert_memory_equal(first, other, sizeof(first));
}

static void test_bad_arguments(void **state)
{
    uint8_t untouched[KR_PAGE_KEY_BYTES] = {0}, derived[KR_PAGE_KEY_BYTES] = {0};
    static const size_t lengths[] = {0, 8, 15, 17, 33};
    (void)state;
    struct kr_page_key key = page_key();
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        key.len = lengths[i];
        assert_int_equal(kr_page_key_derive(&key, derived), KR_USAGE);
    }
    key = page_key();
    key.data_key = NULL;
    assert_int_equal(kr_page_key_derive(&key, derived), KR_USAGE);
    assert_memory_equal(derived, untouched, sizeof(derived));
}

/* --- what is kept ----------------------------------------------------------------------------- */

static void test_derived_once(void **state)
{
    uint8_t first[KR_PAGE_KEY_BYTES], again[KR_PAGE_KEY_BYTES];
    (void)state;
    kr_page_keys_forget();
    uint64_t before = stats().derived;
    derive(page_key(), first);
    for (unsigned i = 0; i < 100; i++) {
        derive(page_key(), again);
        assert_memory_equal(first, again, sizeof(first));
    }
    assert_int_equal(stats().derived - before, 1);
    assert_int_equal(stats().kept, 1);
}

/* More keys than there is room for: never more are kept, and each comes out right again. */
static void test_bounded(void **state)
{
    enum { KEYS = 3 * KR_PAGE_KEYS_MAX };
    static uint8_t names[KEYS][GIVEN], keys[KEYS][KR_PAGE_KEY_BYTES];
    (void)state;
    RAND_bytes(names[0], sizeof(names));
    for (unsigned i = 0; i < KEYS; i++) {
        derive((struct kr_page_key){names[i], GIVEN, data_key, 1, 1}, keys[i]);
        assert_true(stats().kept <= KR_PAGE_KEYS_MAX);
    }
    assert_true(stats().kept > KR_PAGE_KEYS_MAX * 3 / 4);
    for (unsigned i = 0; i < KEYS; i++) {
        uint8_t again[KR_PAGE_KEY_BYTES];
        derive((struct kr_page_key){names[i], GIVEN, data_key, 1, 1}, again);
        assert_memory_equal(keys[i], again, sizeof(again));
    }
}

static void encrypt(const struct kr_page_key *key, uint8_t ret[IV])
{
    static const uint8_t zeros[IV];
    struct kr_page_op *op;
    size_t len, last;
    assert_int_equal(
        kr_page_begin(KR_CIPHER_AES256_CTR, KR_PAGE_ENCRYPT, key, zeros, sizeof(zeros), &op),
        KR_OK);
    assert_int_equal(kr_page_update(op, zeros, sizeof(zeros), ret, &len), KR_OK);
    assert_int_equal(kr_page_finish(op, ret + len, &last), KR_OK);
}

/* Another keyring may have another data key under the same id and version. Without forgetting, the
 * old one answers: both in the cache and in a thread's pool. */
static void test_forgotten(void **state)
{
    uint8_t other_data_key[KR_PAGE_KEY_BYTES], old_page[IV], page[IV];
    uint8_t old[KR_PAGE_KEY_BYTES], derived[KR_PAGE_KEY_BYTES];
    struct kr_page_key key = page_key(), other = page_key();
    (void)state;
    memset(other_data_key, 1, sizeof(other_data_key));
    other.data_key = other_data_key;
    derive(key, old);
    encrypt(&key, old_page);
    derive(other, derived);
    encrypt(&other, page);
    assert_memory_equal(derived, old, sizeof(old));
    assert_memory_equal(page, old_page, sizeof(page));

    kr_page_keys_forget();
    assert_int_equal(stats().kept, 0);
    derive(other, derived);
    encrypt(&other, page);
    assert_memory_not_equal(derived, old, sizeof(old));
    assert_memory_not_equal(page, old_page, sizeof(page));
    kr_page_keys_forget();
}

/* --- threads ---------------------------------------------------------------------------------- */

enum { SHARED = 64, THREADS = 6, ROUNDS = 4000 };
static uint8_t shared_names[SHARED][GIVEN], shared_keys[SHARED][KR_PAGE_KEY_BYTES];

static void *thread_that_derives(void *seed)
{
    unsigned random = *(unsigned *)seed;
    uintptr_t wrong = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t derived[KR_PAGE_KEY_BYTES];
        unsigned n = (unsigned)rand_r(&random) % SHARED;
        struct kr_page_key key = {shared_names[n], GIVEN, data_key, 1, 1};
        wrong += kr_page_key_derive(&key, derived) != KR_OK ||
                 memcmp(derived, shared_keys[n], sizeof(derived)) != 0;
        if (i % 1000 == 999)
            kr_page_keys_forget();
    }
    return (void *)wrong;
}

static void test_threads(void **state)
{
    pthread_t threads[THREADS];
    unsigned seeds[THREADS];
    (void)state;
    RAND_bytes(shared_names[0], sizeof(shared_names));
    for (unsigned i = 0; i < SHARED; i++)
        derive((struct kr_page_key){shared_names[i], GIVEN, data_key, 1, 1}, shared_keys[i]);
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, thread_that_derives, &seeds[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_every_input_counts),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_derived_once),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, read_inputs, NULL);
}
