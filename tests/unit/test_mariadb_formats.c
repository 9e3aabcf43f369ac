/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The parsers of MariaDB's files, on the first bytes of files that mariadbd 10.11 wrote (the
 * fuzzer's corpus), whole, cut off at each length and with each byte changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "formats/aria.h"
#include "formats/binlog_events.h"
#include "formats/mariadb_binlog.h"
#include "formats/mariadb_page.h"
#include "formats/mariadb_redo.h"

struct sample {
    uint8_t *bytes;
    size_t len;
};

/* Without the first byte, which is the fuzzer's. */
static struct sample load(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), P11K_SOURCE_DIR "/tests/fuzz/corpus/mariadb/%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    struct sample sample = {.bytes = malloc(65536)};
    assert_non_null(sample.bytes);
    assert_true(fgetc(file) != EOF);
    sample.len = fread(sample.bytes, 1, 65536, file);
    fclose(file);
    assert_true(sample.len > 0);
    return sample;
}

/* The first `len` bytes where the sanitizer sees what is read beyond. */
static uint8_t *cut(const struct sample *sample, size_t len)
{
    uint8_t *bytes = malloc(len ? len : 1);
    assert_non_null(bytes);
    memcpy(bytes, sample->bytes, len);
    return bytes;
}

/* --- tablespaces ------------------------------------------------------------------------------ */

static void tablespaces_are_told(void **state)
{
    static const struct {
        const char *name;
        bool full_crc32, zip;
        size_t page_size;
        enum kr_mariadb_compression compression;
    } rows[] = {{"tablespace_full_crc32", true, false, 4096, KR_MARIADB_UNCOMPRESSED},
                {"tablespace_compressed", true, false, 4096, KR_MARIADB_ZLIB},
                {"tablespace_zip", false, true, 4096, KR_MARIADB_UNCOMPRESSED}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct sample sample = load(rows[i].name);
        struct kr_mariadb_space space;
        assert_true(kr_mariadb_space_parse(sample.bytes, sample.len, &space));
        assert_int_equal(space.full_crc32, rows[i].full_crc32);
        assert_int_equal(space.zip, rows[i].zip);
        assert_int_equal(space.page_size, rows[i].page_size);
        assert_int_equal(space.compression, rows[i].compression);
        assert_true(space.has_crypt && space.encrypting && !space.temporary);
        assert_int_equal(space.key_id, 1);
        assert_int_equal(space.min_version, 1);
        free(sample.bytes);
    }
}

static void a_cut_off_page_0_is_none(void **state)
{
    (void)state;
    struct sample sample = load("tablespace_full_crc32");
    struct kr_mariadb_space space;
    for (size_t len = 0; len < 4096; len++) {
        uint8_t *bytes = cut(&sample, len);
        assert_false(kr_mariadb_space_parse(bytes, len, &space));
        free(bytes);
    }
    assert_true(kr_mariadb_space_parse(sample.bytes, 4096, &space));
    free(sample.bytes);
}

static enum kr_mariadb_page_fault judge(const struct kr_mariadb_space *space, uint64_t number,
                                        const uint8_t *page)
{
    struct kr_mariadb_page what;
    if (!kr_mariadb_page_read(space, number, page, &what))
        return KR_MARIADB_PAGE_BAD_LENGTH;
    return kr_mariadb_page_check(space, number, page, &what);
}

static void each_changed_byte_is_seen(void **state)
{
    (void)state;
    static const char *const names[] = {"tablespace_full_crc32", "tablespace_compressed"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct sample sample = load(names[i]);
        struct kr_mariadb_space space;
        struct kr_mariadb_page what;
        assert_true(kr_mariadb_space_parse(sample.bytes, sample.len, &space));
        uint8_t *page = sample.bytes + space.page_size;
        assert_int_equal(judge(&space, 0, sample.bytes), KR_MARIADB_PAGE_SOUND);
        assert_int_equal(judge(&space, 1, page), KR_MARIADB_PAGE_SOUND);
        assert_int_equal(judge(&space, 2, page), KR_MARIADB_PAGE_WRONG_NUMBER);
        assert_true(kr_mariadb_page_read(&space, 1, page, &what));
        assert_int_equal(what.state, KR_MARIADB_PAGE_ENCRYPTED);
        assert_int_equal(what.version, 1);
        for (size_t at = 0; at < what.length; at++) {
            page[at] ^= 0x10;
            assert_true(judge(&space, 1, page) > KR_MARIADB_PAGE_UNCHECKED);
            page[at] ^= 0x10;
        }
        for (size_t at = 0; at < space.page_size; at++) {
            sample.bytes[at] ^= 1;
            assert_true(judge(&space, 0, sample.bytes) > KR_MARIADB_PAGE_UNCHECKED);
            sample.bytes[at] ^= 1;
        }
        free(sample.bytes);
    }
}

static void page_0_loses_what_it_says_of_encryption(void **state)
{
    (void)state;
    static const char *const names[] = {"tablespace_full_crc32", "tablespace_zip"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct sample sample = load(names[i]);
        struct kr_mariadb_space space;
        assert_true(kr_mariadb_space_parse(sample.bytes, sample.len, &space));
        kr_mariadb_space_clear(&space, sample.bytes);
        assert_true(kr_mariadb_space_parse(sample.bytes, sample.len, &space));
        assert_false(space.has_crypt);
        assert_int_equal(judge(&space, 0, sample.bytes), KR_MARIADB_PAGE_SOUND);
        assert_int_equal(judge(&space, 1, sample.bytes + space.page_size),
                         KR_MARIADB_PAGE_NO_KEY_KNOWN);
        free(sample.bytes);
    }
}

static void zeros_are_empty_and_impossible_lengths_seen(void **state)
{
    (void)state;
    struct sample sample = load("tablespace_compressed");
    struct kr_mariadb_space space;
    struct kr_mariadb_page what;
    uint8_t page[4096] = {0};
    assert_true(kr_mariadb_space_parse(sample.bytes, sample.len, &space));
    assert_true(kr_mariadb_page_read(&space, 7, page, &what));
    assert_int_equal(what.state, KR_MARIADB_PAGE_EMPTY);
    for (unsigned units = 0; units < 0x8000; units++) {
        kr_put_number(page + 24, 0x8000 | units, 2);
        assert_int_equal(kr_mariadb_page_read(&space, 7, page, &what), units >= 1 && units < 16);
    }
    free(sample.bytes);
}

/* --- redo log --------------------------------------------------------------------------------- */

static void redo_is_walked_to_its_end(void **state)
{
    (void)state;
    struct sample sample = load("redo");
    struct kr_mariadb_redo redo;
    assert_true(kr_mariadb_redo_parse(sample.bytes, sample.len, &redo));
    assert_true(redo.known && redo.sound && redo.encrypted && !redo.bad_checkpoint);
    assert_int_equal(redo.checkpoints, 2);
    assert_int_equal(redo.key_version, 1);
    assert_string_equal(redo.creator, "MariaDB 10.11.19");
    const uint8_t *bytes = sample.bytes + KR_MARIADB_REDO_START;
    size_t left = sample.len - KR_MARIADB_REDO_START, len = 0, at = 0;
    while (kr_mariadb_redo_mtr(&redo, 1 << 24, redo.first_lsn + at, bytes + at, left - at, &len) ==
           KR_MARIADB_MTR_SOUND)
        at += len;
    assert_true(at > 24); /* several */
    assert_int_equal(
        kr_mariadb_redo_mtr(&redo, 1 << 24, redo.first_lsn + at, bytes + at, left - at, &len),
        KR_MARIADB_MTR_SHORT);
    kr_put_number(sample.bytes, 0x50687973, 4); /* the same before the encrypted form had its own */
    assert_true(kr_mariadb_redo_parse(sample.bytes, sample.len, &redo));
    assert_true(redo.known && redo.encrypted && !redo.sound);
    free(sample.bytes);
}

static void a_damaged_mini_transaction_is_seen(void **state)
{
    (void)state;
    struct sample sample = load("redo");
    struct kr_mariadb_redo redo;
    size_t len = 0, ignored;
    assert_true(kr_mariadb_redo_parse(sample.bytes, sample.len, &redo));
    uint8_t *bytes = sample.bytes + KR_MARIADB_REDO_START;
    size_t left = sample.len - KR_MARIADB_REDO_START;
    assert_int_equal(kr_mariadb_redo_mtr(&redo, 1 << 24, redo.first_lsn, bytes, left, &len),
                     KR_MARIADB_MTR_SOUND);
    for (size_t at = 0; at < len; at++) {
        bytes[at] ^= 2;
        assert_int_not_equal(
            kr_mariadb_redo_mtr(&redo, 1 << 24, redo.first_lsn, bytes, left, &ignored),
            KR_MARIADB_MTR_SOUND);
        bytes[at] ^= 2;
    }
    for (size_t at = 0; at < 512; at++) {
        sample.bytes[at] ^= 2;
        assert_true(!kr_mariadb_redo_parse(sample.bytes, sample.len, &redo) || !redo.sound);
        sample.bytes[at] ^= 2;
    }
    free(sample.bytes);
}

static void laps_are_told_apart(void **state)
{
    (void)state;
    struct sample sample = load("redo");
    struct kr_mariadb_redo redo;
    size_t len = 0;
    uint64_t size = 1 << 24, lap = size - KR_MARIADB_REDO_START;
    assert_true(kr_mariadb_redo_parse(sample.bytes, sample.len, &redo));
    const uint8_t *bytes = sample.bytes + KR_MARIADB_REDO_START;
    size_t left = sample.len - KR_MARIADB_REDO_START;
    assert_int_equal(kr_mariadb_redo_mtr(&redo, size, redo.first_lsn + lap, bytes, left, &len),
                     KR_MARIADB_MTR_END);
    assert_int_equal(kr_mariadb_redo_mtr(&redo, size, redo.first_lsn + 2 * lap, bytes, left, &len),
                     KR_MARIADB_MTR_SOUND);
    assert_int_equal(kr_mariadb_redo_offset(&redo, size, redo.first_lsn + lap + 5),
                     KR_MARIADB_REDO_START + 5);
    free(sample.bytes);
}

/* --- binary logs ------------------------------------------------------------------------------ */

static void count_damage(const struct kr_binlog_event *event, enum kr_binlog_fault fault,
                         void *context)
{
    (void)event;
    (void)fault;
    ++*(unsigned *)context;
}

static void binlog_names_its_key(void **state)
{
    (void)state;
    struct sample sample = load("binlog");
    struct kr_mariadb_binlog log;
    assert_true(kr_mariadb_binlog_parse(sample.bytes, sample.len, &log));
    assert_true(log.encrypted && log.checksums && !log.damaged);
    assert_int_equal(log.key_version, 1);
    for (uint32_t at = log.marker_at; at < log.marker_at + log.marker_len; at++) {
        sample.bytes[at] ^= 4;
        struct kr_mariadb_binlog changed;
        assert_true(kr_mariadb_binlog_parse(sample.bytes, sample.len, &changed));
        assert_true(changed.damaged || !changed.encrypted);
        sample.bytes[at] ^= 4;
    }
    for (size_t len = 0; len < log.marker_at; len++) {
        uint8_t *bytes = cut(&sample, len);
        struct kr_mariadb_binlog changed;
        assert_true(!kr_mariadb_binlog_parse(bytes, len, &changed) || !changed.encrypted);
        free(bytes);
    }
    free(sample.bytes);
}

static void the_marker_becomes_an_event_to_skip(void **state)
{
    (void)state;
    struct sample sample = load("binlog");
    struct kr_mariadb_binlog log;
    struct kr_binlog_check check;
    unsigned damages = 0;
    assert_true(kr_mariadb_binlog_parse(sample.bytes, sample.len, &log));
    kr_mariadb_binlog_drop_marker(&log, sample.bytes + log.marker_at);
    kr_binlog_check_begin(&check, count_damage, &damages);
    kr_binlog_check_feed(&check, sample.bytes, log.marker_at + log.marker_len);
    kr_binlog_check_end(&check);
    assert_int_equal(damages, 0);
    assert_int_equal(check.events, 2);
    assert_true(kr_mariadb_binlog_parse(sample.bytes, sample.len, &log));
    assert_false(log.encrypted);
    free(sample.bytes);
}

static void the_length_of_an_encrypted_event_is_clear(void **state)
{
    (void)state;
    uint8_t event[19] = "TIMEtIIIILENG01234", same[19];
    memcpy(same, event, sizeof(event));
    uint32_t length = kr_mariadb_binlog_length(event);
    kr_mariadb_binlog_prepare(event); /* time goes where the length was */
    assert_memory_equal(event + 9, "TIME", 4);
    kr_mariadb_binlog_finish(event, length);
    assert_memory_equal(event, same, sizeof(event));
}

/* --- Aria ------------------------------------------------------------------------------------- */

static void aria_tables_are_told(void **state)
{
    (void)state;
    struct sample sample = load("aria_index");
    struct kr_aria_table table;
    struct kr_aria_page what;
    assert_true(kr_aria_table_parse(sample.bytes, sample.len, &table));
    assert_true(table.paged && table.checksums && table.transactional && table.encrypted);
    assert_false(table.temporary);
    assert_int_equal(table.block_size, 8192);
    assert_int_equal(table.header_size, 8192);
    assert_int_equal(table.bitmap_every, 21825);
    assert_true(table.closed);
    assert_int_equal(table.index_length, 90112);
    assert_int_equal(table.data_length, 229376);
    assert_true(kr_aria_page_read(&table, KR_ARIA_INDEX, 1, sample.bytes + 8192, &what));
    assert_int_equal(what.version, 1);
    assert_int_equal(what.crypt_at, 21);
    for (size_t len = 0; len < 546; len++) {
        uint8_t *bytes = cut(&sample, len);
        assert_false(kr_aria_table_parse(bytes, len, &table));
        free(bytes);
    }
    free(sample.bytes);
}

static void aria_control_and_log_pages_are_checked(void **state)
{
    (void)state;
    struct sample control = load("aria_control"), log = load("aria_log");
    bool checked = true;
    assert_true(kr_aria_control_sound(control.bytes, control.len));
    for (size_t at = 0; at < control.len; at++) {
        control.bytes[at] ^= 8;
        assert_false(kr_aria_control_sound(control.bytes, control.len));
        control.bytes[at] ^= 8;
    }
    assert_int_equal(log.len, KR_ARIA_LOG_PAGE);
    assert_true(kr_aria_log_page_sound(log.bytes, 1, 1, &checked));
    assert_false(checked); /* Aria writes no checksums there by default */
    assert_false(kr_aria_log_page_sound(log.bytes, 2, 1, &checked));
    assert_false(kr_aria_log_page_sound(log.bytes, 1, 2, &checked));
    free(control.bytes);
    free(log.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tablespaces_are_told),
        cmocka_unit_test(a_cut_off_page_0_is_none),
        cmocka_unit_test(each_changed_byte_is_seen),
        cmocka_unit_test(page_0_loses_what_it_says_of_encryption),
        cmocka_unit_test(zeros_are_empty_and_impossible_lengths_seen),
        cmocka_unit_test(redo_is_walked_to_its_end),
        cmocka_unit_test(a_damaged_mini_transaction_is_seen),
        cmocka_unit_test(laps_are_told_apart),
        cmocka_unit_test(binlog_names_its_key),
        cmocka_unit_test(the_marker_becomes_an_event_to_skip),
        cmocka_unit_test(the_length_of_an_encrypted_event_is_clear),
        cmocka_unit_test(aria_tables_are_told),
        cmocka_unit_test(aria_control_and_log_pages_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
