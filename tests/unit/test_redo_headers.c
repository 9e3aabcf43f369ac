/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Encryption headers in a redo log are found wherever they lie behind the checkpoint, also across
 * blocks and files; what cannot be read to the end is never taken for a log without any.
 */
#include "files/mysql_redo_headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "formats/mysql_redo.h"
#include "hwaccel/crc32c.h"
#include "mysql_vectors.h"
#include "scratch.h"

enum { BLOCK = KR_MYSQL_REDO_BLOCK, DATA = 496, BLOCKS = 6, FILES = 3, HEAD = 4 };
enum { DATA_BYTES = FILES * BLOCKS * DATA };
#define START_LSN UINT64_C(30820352)

/* Files of six blocks: what the records of all are, and how many blocks of the last are in use. */
struct log {
    uint8_t data[DATA_BYTES];
    size_t last_used;
};

static char folder[512];

static const char *file_of(int number)
{
    static char path[600];
    snprintf(path, sizeof(path), "%s/#ib_redo%d", folder, number);
    return path;
}

static void put_crc(uint8_t *block)
{
    kr_put_number(block + 508, kr_crc32c(0, block, 508), 4);
}

static void make_file(const struct log *log, int number)
{
    uint8_t bytes[(HEAD + BLOCKS) * BLOCK] = {0};
    uint64_t start = START_LSN + (uint64_t)number * BLOCKS * BLOCK;
    kr_put_number(bytes, 6, 4);
    kr_put_number(bytes + 8, start, 8);
    memcpy(bytes + 16, "MySQL 9.7.4", 11);
    put_crc(bytes);
    for (size_t i = 0; i < BLOCKS; i++) {
        uint8_t *block = bytes + (HEAD + i) * BLOCK;
        bool used = number < FILES - 1 || i < log->last_used;
        kr_put_number(block, start / BLOCK + i + (used ? 1 : 7), 4);
        kr_put_number(block + 4, BLOCK, 2);
        memcpy(block + 12, log->data + ((size_t)number * BLOCKS + i) * DATA, DATA);
        put_crc(block);
    }
    FILE *file = fopen(file_of(number), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, sizeof(bytes), 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void make_log(const struct log *log)
{
    for (int i = 0; i < FILES; i++)
        make_file(log, i);
}

/* Five of the last file's six blocks are in use; no header anywhere. */
static struct log plain(void)
{
    struct log log = {.last_used = BLOCKS - 1};
    memset(log.data, 'l', sizeof(log.data));
    return log;
}

static uint64_t lsn_of(size_t data)
{
    return START_LSN + data / DATA * BLOCK + 12 + data % DATA;
}

static enum kr_status search(uint64_t checkpoint, bool *ret, struct kr_error *err)
{
    struct kr_file_keys *keys = NULL;
    const atomic_bool stop = false;
    atomic_ullong done = 0;
    assert_int_equal(kr_file_keys_new(NULL, &keys, err), KR_OK);
    const struct kr_file_run run = {.keys = keys, .threads = 1, .stop = &stop, .done_bytes = &done};
    enum kr_status status = kr_mysql_redo_has_headers(folder, checkpoint, &run, ret, err);
    assert_int_equal(done, 0);
    kr_file_keys_free(keys);
    return status;
}

static bool found(uint64_t checkpoint)
{
    bool ret = false;
    struct kr_error err = KR_ERROR_INIT;
    enum kr_status status = search(checkpoint, &ret, &err);
    if (status != KR_OK)
        fail_msg("%s", err.text);
    return ret;
}

static void a_header_anywhere_is_found(void **state)
{
    (void)state;
    struct log log = plain();
    const size_t end = ((FILES - 1) * BLOCKS + log.last_used) * DATA, len = sizeof(vector_info);
    make_log(&log);
    assert_false(found(START_LSN));
    for (size_t at = 0; at + len <= end; at += at % DATA < DATA - len - 8 ? 61 : 1) {
        log = plain();
        memcpy(log.data + at, vector_info, len);
        make_log(&log);
        if (!found(START_LSN) || !found(lsn_of(at)))
            fail_msg("the header at %zu was not found", at);
        if (found(lsn_of(at + 1)))
            fail_msg("the header at %zu is before the checkpoint", at);
    }
}

/* Blocks of an earlier use of the file, behind the end. */
static void what_was_there_before_does_not_count(void **state)
{
    (void)state;
    struct log log = plain();
    memcpy(log.data + DATA_BYTES - DATA, vector_info, sizeof(vector_info));
    make_log(&log);
    assert_false(found(START_LSN));
}

static void refused(enum kr_status want, const char *text)
{
    bool ret = false;
    struct kr_error err = KR_ERROR_INIT;
    enum kr_status status = search(START_LSN, &ret, &err);
    assert_int_equal(status, want);
    assert_says(err.text, text);
}

static void flip(int number, long offset)
{
    FILE *file = fopen(file_of(number), "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_not_equal(fputc(byte ^ 0x80, file), EOF);
    assert_int_equal(fclose(file), 0);
}

static void what_cannot_be_read_is_no_log_without_headers(void **state)
{
    (void)state;
    struct log log = plain();
    make_log(&log);
    flip(1, (HEAD + 2) * BLOCK + 100);
    refused(KR_INTEGRITY, "is damaged");
    make_log(&log);
    flip(1, (HEAD + 2) * BLOCK + 4); /* encrypted, and there is no key */
    refused(KR_INTEGRITY, "is damaged");
    make_log(&log);
    assert_int_equal(unlink(file_of(1)), 0);
    refused(KR_INTEGRITY, "not there as a whole");
    make_log(&log);
    assert_int_equal(unlink(file_of(0)), 0);
    refused(KR_INTEGRITY, "not there as a whole");
    make_log(&log);
    assert_int_equal(unlink(file_of(FILES - 1)), 0);
    refused(KR_INTEGRITY, "not there as a whole");
    make_log(&log);
    assert_int_equal(truncate(file_of(1), 700), 0);
    refused(KR_INTEGRITY, "is damaged");
}

static int up(void **state)
{
    if (scratch_up(state) != 0)
        return -1;
    snprintf(folder, sizeof(folder), "%s", scratch_path("redo"));
    return mkdir(folder, 0700);
}

static int down(void **state)
{
    for (int i = 0; i < FILES; i++)
        (void)unlink(file_of(i));
    return rmdir(folder) == 0 ? scratch_down(state) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_anywhere_is_found),
        cmocka_unit_test(what_was_there_before_does_not_count),
        cmocka_unit_test(what_cannot_be_read_is_no_log_without_headers),
    };
    return cmocka_run_group_tests(tests, up, down);
}
