/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The parsers of MariaDB's files. The first byte says which: 't' a tablespace, its page 0 and then
 * others, 'r' a redo log, 'b' a binary log, 'i' an index of Aria with pages of index and data, 'l'
 * a page of its log, 'c' its control file.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/aria.h"
#include "formats/binlog_events.h"
#include "formats/mariadb_binlog.h"
#include "formats/mariadb_page.h"
#include "formats/mariadb_redo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of exactly the size that is promised, so that the sanitizer sees what is read beyond. */
static uint8_t *copy_of(const uint8_t *bytes, size_t len, size_t room)
{
    uint8_t *copy = calloc(1, room);
    if (!copy)
        abort();
    memcpy(copy, bytes, len < room ? len : room);
    return copy;
}

static void page(const struct kr_mariadb_space *space, uint64_t number, uint8_t *bytes)
{
    struct kr_mariadb_page what;
    uint8_t iv[KR_MARIADB_IV_BYTES];
    if (!kr_mariadb_page_read(space, number, bytes, &what))
        return;
    if (what.crypt_at + what.crypt_len > space->page_size || what.length > space->page_size)
        abort();
    uint8_t *room = calloc(1, space->logical_size);
    if (!room)
        abort();
    kr_mariadb_page_check(space, number, bytes, &what);
    kr_mariadb_page_check_plain(space, bytes, &what, room);
    kr_mariadb_page_iv(space, bytes, iv);
    if (number > 0 && what.state == KR_MARIADB_PAGE_ENCRYPTED)
        kr_mariadb_page_clear(space, &what, bytes);
    free(room);
}

static void tablespace(const uint8_t *data, size_t size)
{
    struct kr_mariadb_space space;
    if (!kr_mariadb_space_parse(data, size, &space))
        return;
    for (size_t i = 0; i < 4 && i * space.page_size < size; i++) {
        uint8_t *bytes =
            copy_of(data + i * space.page_size, size - i * space.page_size, space.page_size);
        page(&space, i, bytes);
        if (i == 0 && space.has_crypt)
            kr_mariadb_space_clear(&space, bytes);
        free(bytes);
    }
}

static void redo(const uint8_t *data, size_t size)
{
    struct kr_mariadb_redo log;
    size_t len = 0;
    if (!kr_mariadb_redo_parse(data, size, &log) || size <= KR_MARIADB_REDO_START)
        return;
    for (uint64_t at = KR_MARIADB_REDO_START; at < size; at += len) {
        uint64_t lsn = log.first_lsn + at - KR_MARIADB_REDO_START;
        enum kr_mariadb_mtr_state state =
            kr_mariadb_redo_mtr(&log, size, lsn, data + at, size - at, &len);
        if (state != KR_MARIADB_MTR_SOUND && state != KR_MARIADB_MTR_DAMAGED)
            return;
        if (len == 0 || len > size - at)
            abort();
    }
}

static void ignore(const struct kr_binlog_event *event, enum kr_binlog_fault fault, void *context)
{
    (void)event;
    (void)fault;
    (void)context;
}

static void binlog(const uint8_t *data, size_t size)
{
    struct kr_mariadb_binlog log;
    struct kr_binlog_check check;
    kr_binlog_check_begin(&check, ignore, NULL);
    kr_binlog_check_feed(&check, data, size);
    kr_binlog_check_end(&check);
    if (!kr_mariadb_binlog_parse(data, size, &log) || !log.encrypted || log.damaged)
        return;
    if (log.marker_at + log.marker_len > size)
        abort();
    uint8_t *bytes = copy_of(data, size, size);
    kr_mariadb_binlog_drop_marker(&log, bytes + log.marker_at);
    free(bytes);
}

static void aria_page(const struct kr_aria_table *table, enum kr_aria_file file,
                      const uint8_t *data, size_t size)
{
    struct kr_aria_page what;
    uint8_t iv[KR_ARIA_IV_BYTES], *bytes = copy_of(data, size, table->block_size);
    if (kr_aria_page_read(table, file, 1, bytes, &what)) {
        if (what.crypt_at + what.crypt_len > table->block_size)
            abort();
        kr_aria_page_check(table, 1, bytes, &what);
        kr_aria_page_iv(table, 1, bytes, iv);
    }
    free(bytes);
}

static void aria(const uint8_t *data, size_t size)
{
    struct kr_aria_table table;
    if (!kr_aria_table_parse(data, size, &table) || size <= table.header_size)
        return;
    aria_page(&table, KR_ARIA_INDEX, data + table.header_size, size - table.header_size);
    aria_page(&table, KR_ARIA_DATA, data + table.header_size, size - table.header_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool checked;
    if (size == 0)
        return 0;
    uint8_t *bytes = copy_of(data + 1, size - 1, size - 1 ? size - 1 : 1);
    if (data[0] == 't')
        tablespace(bytes, size - 1);
    else if (data[0] == 'r')
        redo(bytes, size - 1);
    else if (data[0] == 'b')
        binlog(bytes, size - 1);
    else if (data[0] == 'i')
        aria(bytes, size - 1);
    else if (data[0] == 'c')
        kr_aria_control_sound(bytes, size - 1);
    else if (data[0] == 'l' && size > KR_ARIA_LOG_PAGE)
        kr_aria_log_page_sound(bytes, 1, kr_aria_log_file(bytes), &checked);
    free(bytes);
    return 0;
}
