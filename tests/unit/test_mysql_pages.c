/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MySQL's tablespaces: the encryption header, page 0, and what is said of pages that are whole, and
 * of pages of which any byte is another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/rand.h>

#include "base/bytes.h"
#include "formats/innodb_checksum.h"
#include "formats/mysql_page.h"
#include "formats/mysql_tablespace.h"
#include "formats/mysql_transfer.h"
#include "hwaccel/crc32c.h"
#include "hwaccel/mysql_page.h"
#include "mysql_vectors.h"

enum { K16 = 16384, SPACE = 77 };

/* --- the encryption header -----------------------------------------------------------------------
 */

static void open_info(const uint8_t *bytes, struct kr_mysql_info *info, uint8_t opened[64])
{
    kr_mysql_info_parse(bytes, info);
    assert_int_equal(info->state, KR_MYSQL_INFO_SEALED);
    assert_true(kr_mysql_unseal_by(vector_master, info->sealed, opened));
}

static void a_real_header_opens(void **state)
{
    (void)state;
    struct kr_mysql_info info;
    char name[KR_MYSQL_KEY_NAME_MAX];
    uint8_t opened[64], again[KR_MYSQL_INFO_BYTES];
    open_info(vector_info, &info, opened);
    assert_true(kr_mysql_info_opened(&info, opened));
    assert_int_equal(info.version, 'C');
    assert_int_equal(info.master_id, 1);
    kr_mysql_info_master(&info, name);
    assert_string_equal(name, VECTOR_MASTER_NAME);
    kr_mysql_info_write(&info, again);
    assert_memory_equal(again, vector_info, sizeof(again));
}

static void every_byte_of_a_header_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < KR_MYSQL_INFO_BYTES; i++) {
        struct kr_mysql_info info;
        char name[KR_MYSQL_KEY_NAME_MAX];
        uint8_t bytes[KR_MYSQL_INFO_BYTES], opened[64];
        memcpy(bytes, vector_info, sizeof(bytes));
        bytes[i] ^= 0x10;
        kr_mysql_info_parse(bytes, &info);
        if (info.state != KR_MYSQL_INFO_SEALED)
            continue;
        kr_mysql_info_master(&info, name);
        assert_true(kr_mysql_unseal_by(vector_master, info.sealed, opened));
        if (kr_mysql_info_opened(&info, opened))
            assert_string_not_equal(name, VECTOR_MASTER_NAME);
    }
}

static void other_headers(void **state)
{
    (void)state;
    struct kr_mysql_info info;
    char name[KR_MYSQL_KEY_NAME_MAX] = "x";
    uint8_t bytes[KR_MYSQL_INFO_BYTES] = {0}, master[KR_MYSQL_KEY_BYTES];
    kr_mysql_info_parse(bytes, &info);
    assert_int_equal(info.state, KR_MYSQL_INFO_NONE);
    memcpy(bytes, "lCA", 3);
    kr_mysql_info_parse(bytes, &info);
    assert_int_equal(info.state, KR_MYSQL_INFO_TOO_OLD);
    memcpy(bytes, "lCC", 3);
    kr_mysql_info_parse(bytes, &info);
    assert_int_equal(info.state, KR_MYSQL_INFO_SEALED); /* of a server that is being made */
    kr_mysql_info_master(&info, name);
    assert_string_equal(name, "");
    kr_mysql_default_master(master);
    assert_string_equal((char *)master, "DefaultMasterKey");
}

static void a_real_transfer_key_is_the_tablespaces(void **state)
{
    (void)state;
    struct kr_mysql_info info;
    uint8_t opened[64], transfer[64], bytes[KR_MYSQL_TRANSFER_BYTES];
    open_info(vector_info, &info, opened);
    assert_null(kr_mysql_transfer_check(vector_transfer, sizeof(vector_transfer)));
    assert_true(kr_mysql_transfer_open(vector_transfer, transfer));
    assert_memory_equal(transfer, opened, 64);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        memcpy(bytes, vector_transfer, sizeof(bytes));
        bytes[i] ^= 1;
        if (kr_mysql_transfer_check(bytes, sizeof(bytes)))
            continue;
        assert_true(kr_mysql_transfer_open(bytes, transfer));
        assert_false(kr_mysql_info_opened(&info, transfer));
    }
    for (size_t len = 0; len < sizeof(bytes); len++)
        assert_non_null(kr_mysql_transfer_check(vector_transfer, len));
}

/* --- page 0 --------------------------------------------------------------------------------------
 */

/* `logical`: logarithm of the KiB of a page, of which 4 is the default; `zip`: 0 for none, 1 for
 * 1K, 2 for 2K, 3 for 4K ... */
static uint32_t flags_of(unsigned logical, unsigned zip)
{
    return 0x6021U | (logical == 4 ? 0 : logical + 1) << 6 | zip << 1;
}

static void make_first_page(uint8_t *page, uint32_t flags, uint32_t space)
{
    memset(page, 0, KR_MYSQL_PAGE_MAX);
    kr_put_number(page + 8, 90704, 4);
    kr_put_number(page + 12, 1, 4);
    kr_put_number(page + 24, 8, 2);
    kr_put_number(page + 34, space, 4);
    kr_put_number(page + 38, space, 4);
    kr_put_number(page + 46, 12, 4);
    kr_put_number(page + 54, flags, 4);
}

/* The offsets as they were found in files of the server. */
static void the_header_is_found_at_every_page_size(void **state)
{
    (void)state;
    static const struct {
        unsigned logical, zip;
        size_t page_size, info_at;
    } sizes[] = {{2, 0, 4096, 1558},   {3, 0, 8192, 3734},   {4, 0, 16384, 10390},
                 {5, 0, 32768, 20630}, {6, 0, 65536, 41110}, {4, 1, 1024, 790},
                 {4, 2, 2048, 1430},   {4, 3, 4096, 2710},   {4, 4, 8192, 5270},
                 {4, 5, 16384, 10390}};
    uint8_t *page = malloc(KR_MYSQL_PAGE_MAX);
    assert_non_null(page);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct kr_mysql_space space;
        make_first_page(page, flags_of(sizes[i].logical, sizes[i].zip), SPACE);
        memcpy(page + sizes[i].info_at, vector_info, sizeof(vector_info));
        page[sizes[i].info_at + 123] = 1;
        kr_put_number(page + sizes[i].info_at + 124, 7, 4);
        assert_true(kr_mysql_space_parse(page, sizes[i].page_size, &space));
        assert_int_equal(space.page_size, sizes[i].page_size);
        assert_int_equal(space.info_at, sizes[i].info_at);
        assert_int_equal(space.info.state, KR_MYSQL_INFO_SEALED);
        assert_int_equal(space.zip, sizes[i].zip != 0);
        assert_int_equal(space.space_id, SPACE);
        assert_int_equal(space.pages, 12);
        assert_int_equal(space.progress, KR_MYSQL_ENCRYPTING);
        assert_int_equal(space.progress_page, 7);
        for (size_t len = 0; len < sizes[i].page_size; len += 7)
            assert_false(kr_mysql_space_parse(page, len, &space));
    }
    free(page);
}

static void flags_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct kr_mysql_space space;
    uint8_t *page = malloc(KR_MYSQL_PAGE_MAX);
    assert_non_null(page);
    for (uint32_t flags = 0; flags < 0x20000; flags++) {
        make_first_page(page, flags, SPACE);
        if (!kr_mysql_space_parse(page, KR_MYSQL_PAGE_MAX, &space))
            continue;
        assert_true(flags < 0x8000);
        assert_true(space.info_at + KR_MYSQL_INFO_BYTES + 17 <= space.page_size);
        assert_true(space.page_size >= 1024 && space.page_size <= KR_MYSQL_PAGE_MAX);
    }
    free(page);
}

static void cleared_and_resealed(void **state)
{
    (void)state;
    struct kr_mysql_space space, now;
    struct kr_mysql_info info;
    uint8_t *page = malloc(KR_MYSQL_PAGE_MAX);
    assert_non_null(page);
    const struct kr_mysql_page_place place = {.space_id = SPACE, .size = K16};
    make_first_page(page, 0x6021, SPACE);
    memcpy(page + 10390, vector_info, sizeof(vector_info));
    assert_true(kr_mysql_space_parse(page, K16, &space));
    info = space.info;
    info.master_id = 9;
    kr_mysql_space_reseal(&space, &info, page);
    assert_true(kr_mysql_space_parse(page, K16, &now));
    assert_int_equal(now.info.master_id, 9);
    assert_int_equal(kr_mysql_page_check(page, false, &place), KR_MYSQL_PAGE_SOUND);
    kr_mysql_space_clear(&space, page);
    assert_true(kr_mysql_space_parse(page, K16, &now));
    assert_false(now.encrypted);
    assert_int_equal(now.info.state, KR_MYSQL_INFO_NONE);
    assert_int_equal(kr_mysql_page_check(page, false, &place), KR_MYSQL_PAGE_SOUND);
    free(page);
}

/* --- pages ---------------------------------------------------------------------------------------
 */

/* A page of random data, sound by CRC-32C. */
static uint8_t *make_page(size_t size, uint32_t number, bool zip)
{
    uint8_t *page = malloc(size);
    assert_non_null(page);
    assert_int_equal(RAND_bytes(page, (int)size), 1);
    kr_put_number(page + 4, number, 4);
    kr_put_number(page + 24, 17855, 2);
    memset(page + 26, 0, 8);
    kr_put_number(page + 34, SPACE, 4);
    if (!zip)
        memcpy(page + size - 4, page + 20, 4);
    kr_mysql_page_put_crc(page, size, zip);
    return page;
}

/* The LSN of a page of ROW_FORMAT=COMPRESSED, which has no trailer, is in no checksum. */
static bool is_protected(size_t at, bool zip)
{
    return !zip || at < 16 || at == 24 || at == 25 || at >= 34;
}

static void any_changed_byte_is_named(size_t size, bool zip)
{
    uint8_t *page = make_page(size, 5, zip);
    const struct kr_mysql_page_place place = {
        .space_id = SPACE, .number = 5, .size = size, .zip = zip};
    assert_int_equal(kr_mysql_page_check(page, true, &place), KR_MYSQL_PAGE_SOUND);
    assert_int_equal(kr_mysql_page_state(page, size), KR_MYSQL_PAGE_PLAIN);
    for (size_t i = 0; i < size; i += i < 64 || i > size - 16 ? 1 : 13) {
        page[i] ^= 0x40;
        if (is_protected(i, zip) && kr_mysql_page_state(page, size) == KR_MYSQL_PAGE_PLAIN)
            assert_true(kr_mysql_page_check(page, true, &place) > KR_MYSQL_PAGE_UNCHECKED);
        page[i] ^= 0x40;
    }
    struct kr_mysql_page_place other = place;
    other.number = 6;
    assert_int_equal(kr_mysql_page_check(page, true, &other), KR_MYSQL_PAGE_WRONG_NUMBER);
    other = place;
    other.space_id++;
    assert_int_equal(kr_mysql_page_check(page, true, &other), KR_MYSQL_PAGE_WRONG_NUMBER);
    free(page);
}

static void any_changed_byte(void **state)
{
    (void)state;
    for (size_t size = 4096; size <= 65536; size *= 2)
        any_changed_byte_is_named(size, false);
    for (size_t size = 1024; size <= 16384; size *= 2)
        any_changed_byte_is_named(size, true);
}

/* A page that a server has read while it was compressed (26..33: version 2, lz4, type, length
 * before and after), and written when it was not worth it any more. */
static void what_compression_leaves_is_sound(void **state)
{
    (void)state;
    static const uint8_t left[8] = {2, 2, 0, 0, 0x3f, 0xda, 0x1c, 0xd5};
    uint8_t *page = make_page(K16, 5, false);
    const struct kr_mysql_page_place place = {.space_id = SPACE, .number = 5, .size = K16};
    memcpy(page + 26, left, sizeof(left));
    assert_int_equal(kr_mysql_page_check(page, true, &place), KR_MYSQL_PAGE_SOUND);
    for (size_t i = 0; i < 6; i++) {
        page[26 + i] ^= 0x40;
        assert_int_equal(kr_mysql_page_check(page, true, &place), KR_MYSQL_PAGE_NOT_ZERO);
        page[26 + i] ^= 0x40;
    }
    page[32] = 0x40; /* longer than the page */
    assert_int_equal(kr_mysql_page_check(page, true, &place), KR_MYSQL_PAGE_NOT_ZERO);
    free(page);
}

static void older_checksums(void **state)
{
    (void)state;
    uint8_t *page = make_page(K16, 5, false), *zip = make_page(8192, 5, true);
    struct kr_mysql_page_place place = {.space_id = SPACE, .number = 5, .size = K16};
    kr_put_number(page, kr_innodb_fold(page, K16), 4);
    kr_put_number(page + K16 - 8, kr_innodb_fold_trailer(page), 4);
    assert_int_equal(kr_mysql_page_check(page, false, &place), KR_MYSQL_PAGE_SOUND);
    page[1000] ^= 1;
    assert_int_equal(kr_mysql_page_check(page, false, &place), KR_MYSQL_PAGE_BAD_CHECKSUM);
    kr_put_number(page, KR_INNODB_NO_CHECKSUM, 4);
    kr_put_number(page + K16 - 8, KR_INNODB_NO_CHECKSUM, 4);
    assert_int_equal(kr_mysql_page_check(page, false, &place), KR_MYSQL_PAGE_UNCHECKED);
    place.size = 8192;
    place.zip = true;
    kr_put_number(zip, kr_innodb_zip_adler(zip, 8192), 4);
    assert_int_equal(kr_mysql_page_check(zip, false, &place), KR_MYSQL_PAGE_SOUND);
    zip[1000] ^= 1;
    assert_int_equal(kr_mysql_page_check(zip, false, &place), KR_MYSQL_PAGE_BAD_CHECKSUM);
    free(page);
    free(zip);
}

static void empty_pages(void **state)
{
    (void)state;
    const struct kr_mysql_page_place place = {.space_id = SPACE, .number = 5, .size = K16};
    uint8_t *page = calloc(1, K16);
    assert_non_null(page);
    assert_int_equal(kr_mysql_page_state(page, K16), KR_MYSQL_PAGE_EMPTY);
    assert_int_equal(kr_mysql_page_check(page, false, &place), KR_MYSQL_PAGE_SOUND);
    for (size_t i = 0; i < K16; i += 5) {
        page[i] = 1;
        if (i != 24 && i != 25)
            assert_true(kr_mysql_page_check(page, false, &place) > KR_MYSQL_PAGE_UNCHECKED);
        page[i] = 0;
    }
    free(page);
}

/* --- real compressed pages -----------------------------------------------------------------------
 */

struct real {
    const uint8_t *info, *bytes;
    size_t len;
    uint32_t number;
};

/* Decrypts, with the byte at `flip` changed and `old` bytes of former contents from the block at
 * `old_at` on; whether the page is found sound. */
static bool real_with_old_is_sound(const struct real *real, size_t flip, size_t old_at, size_t old)
{
    struct kr_mysql_info info;
    struct kr_error err = KR_ERROR_INIT;
    KR_MYSQL_PAGES struct kr_mysql_pages *cipher = NULL;
    uint8_t opened[64], *page = calloc(1, K16), *room = malloc(K16);
    assert_true(page && room);
    open_info(real->info, &info, opened);
    memcpy(page, real->bytes, real->len);
    const struct kr_mysql_page_place place = {.space_id = (uint32_t)kr_get_number(page + 34, 4),
                                              .number = real->number,
                                              .size = K16,
                                              .room = room};
    page[flip] ^= flip < K16 - 1 ? 0x04 : 0;
    if (old > 0)
        assert_int_equal(RAND_bytes(page + old_at, (int)old), 1);
    assert_int_equal(kr_mysql_pages_new(opened, opened + 32, &cipher, &err), KR_OK);
    const struct kr_mysql_page job = {.src = page, .dst = page};
    bool sound = kr_mysql_page_state(page, K16) == KR_MYSQL_PAGE_COMPRESSED_ENCRYPTED &&
                 kr_mysql_pages_decrypt(cipher, &job, 1, K16) == KR_OK &&
                 kr_mysql_page_check(page, true, &place) == KR_MYSQL_PAGE_SOUND;
    kr_mysql_page_clear_rest(page, K16);
    assert_true(!sound || kr_is_zero(page + real->len, K16 - real->len));
    free(page);
    free(room);
    return sound;
}

static bool real_is_sound(const struct real *real, size_t flip)
{
    return real_with_old_is_sound(real, flip, 0, 0);
}

/* What a page had in the blocks behind its new end, when its server was killed at that moment; but
 * no stray bytes, and none before that block. */
static void former_contents_behind_a_compressed_page(void **state)
{
    (void)state;
    const struct real real = {vector_lz4_info, vector_lz4_page, sizeof(vector_lz4_page),
                              VECTOR_LZ4_PAGE};
    const size_t block = (real.len + 511) / 512 * 512;
    assert_true(real.len % 512 > 0 && block + 4096 < K16);
    assert_true(real_with_old_is_sound(&real, K16 - 1, block, 4000));
    assert_true(real_with_old_is_sound(&real, K16 - 1, block, K16 - block));
    assert_false(real_with_old_is_sound(&real, K16 - 1, block, 16));
    assert_false(real_with_old_is_sound(&real, K16 - 1, block - 8, 4000));
    assert_false(real_with_old_is_sound(&real, K16 - 1, block + 2048, 1000));
    assert_false(real_with_old_is_sound(&real, 100, block, 4000));
}

static void real_compressed_pages(void **state)
{
    (void)state;
    const struct real reals[] = {
        {vector_info, vector_page, sizeof(vector_page), 1},
        {vector_lz4_info, vector_lz4_page, sizeof(vector_lz4_page), VECTOR_LZ4_PAGE}};
    for (size_t i = 0; i < sizeof(reals) / sizeof(*reals); i++) {
        assert_true(real_is_sound(&reals[i], K16 - 1));
        for (size_t flip = 0; flip < reals[i].len + 40; flip++) {
            if (real_is_sound(&reals[i], flip))
                fail_msg("byte %zu of page %zu may be any", flip, i);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_header_opens),
        cmocka_unit_test(every_byte_of_a_header_counts),
        cmocka_unit_test(other_headers),
        cmocka_unit_test(a_real_transfer_key_is_the_tablespaces),
        cmocka_unit_test(the_header_is_found_at_every_page_size),
        cmocka_unit_test(flags_that_cannot_be_are_refused),
        cmocka_unit_test(cleared_and_resealed),
        cmocka_unit_test(any_changed_byte),
        cmocka_unit_test(older_checksums),
        cmocka_unit_test(empty_pages),
        cmocka_unit_test(real_compressed_pages),
        cmocka_unit_test(what_compression_leaves_is_sound),
        cmocka_unit_test(former_contents_behind_a_compressed_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
