/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's encrypted pages: the bytes of docs/FORMAT.md, every page size, type and length against
 * plain EVP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/hex.h"
#include "hwaccel/mysql_page.h"
#include "page_batch.h"
#include "vectors.h"

enum { HEADER = 38, TYPE = 24, ORIGINAL = 28, COMPRESSED_SIZE = 32, PAGES_MAX = 37 };
enum { INDEX = 17855, RTREE = 17854, COMPRESSED = 14, ENCRYPTED = 15 };

static uint8_t key[32], iv[16];

static struct kr_mysql_pages *new_engine(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_mysql_pages *pages = NULL;
    assert_int_equal(kr_mysql_pages_new(key, iv, &pages, &err), KR_OK);
    return pages;
}

static void put_16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static unsigned get_16(const uint8_t *at)
{
    return (unsigned)(at[0] << 8 | at[1]);
}

/* --- vectors ---------------------------------------------------------------------------------- */

static void bytes_of(const char *hex, uint8_t *ret)
{
    assert_true(kr_hex_decode(hex, strlen(hex), ret));
}

static void use_vector_key(void)
{
    bytes_of(VECTOR_PAYLOAD, key);
    bytes_of(VECTOR_UUID, iv);
}

static void check_vector(const char *clear, const char *encrypted)
{
    uint8_t page[128], expected[128], out[128];
    KR_MYSQL_PAGES struct kr_mysql_pages *pages = new_engine();
    assert_int_equal(strlen(clear), 2 * sizeof(page));
    bytes_of(clear, page);
    bytes_of(encrypted, expected);
    struct kr_mysql_page job = {page, out};
    assert_int_equal(kr_mysql_pages_encrypt(pages, &job, 1, sizeof(page)), KR_OK);
    assert_memory_equal(out, expected, sizeof(out));
    job.src = expected;
    assert_int_equal(kr_mysql_pages_decrypt(pages, &job, 1, sizeof(page)), KR_OK);
    assert_memory_equal(out, page, sizeof(out));
}

static void test_vectors(void **state)
{
    (void)state;
    use_vector_key();
    check_vector(VECTOR_MYSQL_PAGE, VECTOR_MYSQL_PAGE_ENCRYPTED);
    check_vector(VECTOR_MYSQL_COMPRESSED, VECTOR_MYSQL_COMPRESSED_ENCRYPTED);
}

static void test_vector_of_a_whole_page(void **state)
{
    enum { SIZE = 16384 };
    static uint8_t page[SIZE];
    uint8_t digest[32], expected[32];
    KR_MYSQL_PAGES struct kr_mysql_pages *pages = NULL;
    (void)state;
    use_vector_key();
    pages = new_engine();
    for (unsigned i = 0; i < SIZE; i++)
        page[i] = (uint8_t)(i % 251);
    memset(page + 26, 0, 8);
    put_16(page + TYPE, INDEX);
    struct kr_mysql_page job = {page, page};
    assert_int_equal(kr_mysql_pages_encrypt(pages, &job, 1, SIZE), KR_OK);
    assert_true(EVP_Digest(page, SIZE, digest, NULL, EVP_sha256(), NULL));
    bytes_of(VECTOR_MYSQL_PAGE_SHA256, expected);
    assert_memory_equal(digest, expected, sizeof(digest));
}

/* --- what the server's source says, by plain EVP ---------------------------------------------- */

static void server_encrypts(const uint8_t *src, uint8_t *dst, size_t page_size)
{
    unsigned type = get_16(src + TYPE);
    size_t len = page_size;
    if (type == COMPRESSED)
        len = get_16(src + COMPRESSED_SIZE) + HEADER;
    if (len < HEADER + 32)
        len = HEADER + 32;
    size_t whole = (len - HEADER) / 16 * 16;
    memcpy(dst, src, page_size);
    page_batch_evp("CBC", key, 32, iv, src + HEADER, dst + HEADER, whole);
    if (HEADER + whole < len) {
        uint8_t last[32];
        page_batch_evp("CBC", key, 32, iv, dst + len - 32, last, 32);
        memcpy(dst + len - 32, last, 32);
    }
    put_16(dst + TYPE, type == COMPRESSED ? 16 : type == RTREE ? 17 : 15);
    if (type != COMPRESSED && type != RTREE)
        put_16(dst + ORIGINAL, type);
}

struct pages {
    size_t size, count;
    uint8_t *plain, *expected, *out;
    struct kr_mysql_page jobs[PAGES_MAX];
};

static void make_page(uint8_t *page, size_t size, unsigned type)
{
    memset(page + 26, 0, 8);
    put_16(page + TYPE, type);
    if (type == COMPRESSED)
        put_16(page + COMPRESSED_SIZE, (unsigned)rand() % (unsigned)(size - HEADER + 1));
}

static void make(struct pages *p, size_t size, size_t count)
{
    static const unsigned types[] = {INDEX, COMPRESSED, RTREE, 0, 10, INDEX, INDEX};
    *p = (struct pages){.size = size, .count = count};
    p->plain = malloc(count * size);
    p->expected = malloc(count * size);
    p->out = malloc(count * size);
    RAND_bytes(p->plain, (int)(count * size));
    RAND_bytes(key, sizeof(key));
    RAND_bytes(iv, sizeof(iv));
    for (size_t i = 0; i < count; i++) {
        make_page(p->plain + i * size, size, types[i % (sizeof(types) / sizeof(types[0]))]);
        server_encrypts(p->plain + i * size, p->expected + i * size, size);
    }
}

static void free_pages(struct pages *p)
{
    free(p->plain);
    free(p->expected);
    free(p->out);
}

static void aim(struct pages *p, const uint8_t *src, bool in_place)
{
    if (in_place)
        memcpy(p->out, src, p->count * p->size);
    for (size_t i = 0; i < p->count; i++)
        p->jobs[i] =
            (struct kr_mysql_page){(in_place ? p->out : src) + i * p->size, p->out + i * p->size};
}

static void check_both_ways(struct pages *p, bool in_place)
{
    KR_MYSQL_PAGES struct kr_mysql_pages *pages = new_engine();
    aim(p, p->plain, in_place);
    assert_int_equal(kr_mysql_pages_encrypt(pages, p->jobs, p->count, p->size), KR_OK);
    assert_memory_equal(p->out, p->expected, p->count * p->size);
    aim(p, p->expected, in_place);
    assert_int_equal(kr_mysql_pages_decrypt(pages, p->jobs, p->count, p->size), KR_OK);
    assert_memory_equal(p->out, p->plain, p->count * p->size);
}

static void check(size_t size, size_t count)
{
    struct pages p;
    make(&p, size, count);
    check_both_ways(&p, false);
    check_both_ways(&p, true);
    free_pages(&p);
}

static void test_page_sizes(void **state)
{
    (void)state;
    for (size_t size = 1024; size <= KR_MYSQL_PAGE_MAX; size *= 2) {
        check(size, 1);
        check(size, 16);
        check(size, 37);
    }
}

/* Every rest, and the smallest pages. */
static void test_every_length(void **state)
{
    (void)state;
    for (size_t size = HEADER + 32; size <= 400; size++)
        check(size, 7);
}

/* A tablespace that is being encrypted or decrypted has pages of both kinds. */
static void test_clear_pages_are_copied(void **state)
{
    struct pages p;
    (void)state;
    make(&p, 4096, 20);
    for (size_t i = 0; i < p.count; i += 3)
        memcpy(p.expected + i * p.size, p.plain + i * p.size, p.size);
    for (int in_place = 0; in_place < 2; in_place++) {
        KR_MYSQL_PAGES struct kr_mysql_pages *pages = new_engine();
        aim(&p, p.expected, in_place);
        assert_int_equal(kr_mysql_pages_decrypt(pages, p.jobs, p.count, p.size), KR_OK);
        assert_memory_equal(p.out, p.plain, p.count * p.size);
    }
    free_pages(&p);
}

static void test_misuse_and_damage(void **state)
{
    struct pages p;
    (void)state;
    make(&p, 1024, 3);
    KR_MYSQL_PAGES struct kr_mysql_pages *pages = new_engine();
    aim(&p, p.plain, false);
    assert_int_equal(kr_mysql_pages_encrypt(pages, p.jobs, 3, HEADER + 31), KR_USAGE);
    assert_int_equal(kr_mysql_pages_decrypt(pages, p.jobs, 3, 2 * KR_MYSQL_PAGE_MAX), KR_USAGE);
    put_16(p.plain + p.size + TYPE, ENCRYPTED);
    assert_true(kr_mysql_page_is_encrypted(p.plain + p.size));
    assert_int_equal(kr_mysql_pages_encrypt(pages, p.jobs, 3, p.size), KR_USAGE);
    put_16(p.plain + p.size + TYPE, COMPRESSED);
    assert_false(kr_mysql_page_is_encrypted(p.plain + p.size));
    put_16(p.plain + p.size + COMPRESSED_SIZE, 1024 - HEADER + 1);
    assert_int_equal(kr_mysql_page_length(p.plain + p.size, p.size), 0);
    assert_int_equal(kr_mysql_pages_encrypt(pages, p.jobs, 3, p.size), KR_INTEGRITY);
    put_16(p.plain + p.size + TYPE, 16);
    assert_int_equal(kr_mysql_pages_decrypt(pages, p.jobs, 3, p.size), KR_INTEGRITY);
    kr_mysql_pages_free(NULL);
    free_pages(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_vector_of_a_whole_page),
        cmocka_unit_test(test_page_sizes),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_clear_pages_are_copied),
        cmocka_unit_test(test_misuse_and_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
