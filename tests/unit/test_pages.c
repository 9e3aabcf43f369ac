/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Many pages at a time against plain EVP: every cipher, key, length, number and alignment. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/rand.h>

#include "allocations.h"
#include "hwaccel/lockstep.h"
#include "page_batch.h"

static const struct kind {
    enum kr_cipher cipher;
    size_t key_len;
} kinds[] = {{KR_CIPHER_AES_CBC, 16},    {KR_CIPHER_AES_CBC, 24},   {KR_CIPHER_AES_CBC, 32},
             {KR_CIPHER_AES_CTR, 16},    {KR_CIPHER_AES_CTR, 24},   {KR_CIPHER_AES_CTR, 32},
             {KR_CIPHER_AES256_CBC, 32}, {KR_CIPHER_AES256_CTR, 32}};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void check(const struct kind *kind, const size_t *lengths, size_t count)
{
    struct page_batch batch;
    page_batch_make(&batch, kind->cipher, kind->key_len, lengths, count);
    page_batch_check_both(&batch);
    page_batch_free(&batch);
}

/* Without it the other tests would compare EVP with EVP. */
static void test_lockstep_is_on(void **state)
{
    (void)state;
    assert_int_equal(kr_lockstep_state(), KR_LOCKSTEP_ON);
    assert_string_equal(kr_lockstep_text(kr_lockstep_state()), "on");
}

static void test_numbers_of_jobs(void **state)
{
    size_t lengths[BATCH_JOBS_MAX];
    (void)state;
    for (unsigned k = 0; k < KINDS; k++) {
        for (size_t count = 0; count <= BATCH_JOBS_MAX; count++) {
            for (size_t i = 0; i < count; i++)
                lengths[i] = 1600;
            check(&kinds[k], lengths, count);
        }
    }
}

/* Each number of blocks to some chunks of a lane, with odd bytes after them. */
static void test_lengths(void **state)
{
    size_t lengths[17];
    (void)state;
    for (size_t blocks = 0; blocks <= 100; blocks++) {
        for (size_t i = 0; i < 17; i++)
            lengths[i] = blocks * 16 + (blocks + i) % 16;
        check(&kinds[blocks % KINDS], lengths, 17);
        check(&kinds[0], lengths, 16);
    }
}

static void test_mixed_lengths(void **state)
{
    size_t lengths[BATCH_JOBS_MAX];
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        size_t count = 1 + (size_t)rand() % BATCH_JOBS_MAX;
        size_t max = (size_t)1 << (3 + rand() % 9);
        for (size_t i = 0; i < count; i++)
            lengths[i] = (size_t)rand() % max;
        check(&kinds[round % KINDS], lengths, count);
    }
}

/* What the servers encrypt of a page: MariaDB without its headers and trailers, MySQL from 38 on.
 */
static void test_page_sizes(void **state)
{
    static const size_t clear[] = {0, 38, 30, 42, 26 + 8};
    size_t lengths[18];
    (void)state;
    for (unsigned k = 0; k < KINDS; k++) {
        for (size_t size = 1024; size <= 65536; size *= 2) {
            for (size_t i = 0; i < 18; i++)
                lengths[i] = size - clear[i % (sizeof(clear) / sizeof(clear[0]))];
            check(&kinds[k], lengths, k % 3 == 0 ? 18 : 3);
        }
    }
}

/* One engine for batch after batch: what one leaves in its contexts must not show in the next. */
static void test_one_engine_many_batches(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    size_t lengths[20];
    (void)state;
    for (unsigned k = 0; k < KINDS; k++) {
        struct page_batch batch;
        KR_PAGES struct kr_pages *pages = NULL;
        for (size_t i = 0; i < 20; i++)
            lengths[i] = i * 100;
        page_batch_make(&batch, kinds[k].cipher, kinds[k].key_len, lengths, 20);
        assert_int_equal(kr_pages_new(batch.cipher, batch.key, batch.key_len, &pages, &err), KR_OK);
        for (unsigned round = 0; round < 20; round++)
            page_batch_check(&batch, pages, round % 2);
        page_batch_free(&batch);
    }
}

static void test_bad_arguments(void **state)
{
    static const size_t bad_keys[] = {0, 1, 15, 17, 31, 33};
    uint8_t bytes[64] = {0};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pages *pages = NULL;
    (void)state;
    for (unsigned i = 0; i < sizeof(bad_keys) / sizeof(bad_keys[0]); i++)
        assert_int_equal(kr_pages_new(KR_CIPHER_AES_CBC, bytes, bad_keys[i], &pages, &err),
                         KR_USAGE);
    assert_int_equal(kr_pages_new(KR_CIPHER_AES256_CTR, bytes, 16, &pages, &err), KR_USAGE);
    assert_int_equal(kr_pages_new((enum kr_cipher)9, bytes, 16, &pages, &err), KR_USAGE);
    assert_null(pages);
    assert_int_equal(kr_pages_new(KR_CIPHER_AES_CBC, bytes, 16, &pages, &err), KR_OK);
    struct kr_page_job job = {bytes, bytes, ((size_t)1 << 30) + 1, bytes + 32};
    assert_int_equal(kr_pages_encrypt(pages, &job, 1), KR_USAGE);
    assert_int_equal(kr_pages_decrypt(pages, &job, 1), KR_USAGE);
    kr_pages_free(pages);
    kr_pages_free(NULL);
}

/* --- memory and threads ----------------------------------------------------------------------- */

static void test_openssl_allocates_nothing(void **state)
{
    static uint8_t bytes[20][1000], iv[16];
    struct kr_page_job jobs[20];
    struct kr_error err = KR_ERROR_INIT;
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        jobs[i] = (struct kr_page_job){bytes[i], bytes[i], sizeof(bytes[i]), iv};
    for (unsigned k = 0; k < KINDS; k++) {
        KR_PAGES struct kr_pages *pages = NULL;
        size_t before = allocations_so_far();
        assert_int_equal(kr_pages_new(kinds[k].cipher, bytes[0], kinds[k].key_len, &pages, &err),
                         KR_OK);
        assert_true(allocations_so_far() > before);
        before = allocations_so_far();
        assert_int_equal(kr_pages_encrypt(pages, jobs, 20), KR_OK);
        assert_int_equal(kr_pages_decrypt(pages, jobs, 20), KR_OK);
        assert_int_equal(allocations_so_far(), before);
    }
}

static void *thread_with_engines(void *context)
{
    size_t lengths[17];
    (void)context;
    for (size_t i = 0; i < 17; i++)
        lengths[i] = 1000 + i % 3;
    for (unsigned round = 0; round < 40; round++)
        check(&kinds[round % KINDS], lengths, 17);
    return NULL;
}

/* The first test of all: two threads meet at the proof. */
static void test_threads(void **state)
{
    pthread_t threads[2];
    (void)state;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_with_engines, NULL), 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_lockstep_is_on),
        cmocka_unit_test(test_numbers_of_jobs),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_mixed_lengths),
        cmocka_unit_test(test_page_sizes),
        cmocka_unit_test(test_one_engine_many_batches),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_openssl_allocates_nothing),
    };
    if (!allocations_count())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
