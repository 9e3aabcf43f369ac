/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Aria's tables, logs and control file. */
#include "formats/aria.h"

#include <string.h>
#include <zlib.h>

#include "base/bytes.h"

/* The index file's header, and within it the base information. */
enum {
    OPTIONS_AT = 4,
    HEADER_LENGTH_AT = 6,
    BASE_LENGTH_AT = 10,
    BASE_POS_AT = 12,
    ROW_FORMAT_AT = 22,
    OPEN_COUNT_AT = 24,
    INDEX_LENGTH_AT = 89,
    DATA_LENGTH_AT = 97,
    STATE_BYTES = 105,
    BASE_KEYSTART = 16, /* relative to the base information */
    BASE_EXTRA = 90,
    BASE_BLOCK_SIZE = 100,
    BASE_TRANSACTIONAL = 106,
    BASE_MIN = 108,
    OPTION_TEMPORARY = 16,
    OPTION_CHECKSUMS = 2048,
    EXTRA_ENCRYPTED = 1,
    ROW_FORMAT_PAGE = 3
};

enum { CRYPT_BYTES = 22, CRYPT_SPACE_AT = 2, CRYPT_IV_AT = 6 };

enum {
    LSN_BYTES = 7,
    TRANSACTION_BYTES = 6,
    VERSION_BYTES = 4,
    KEY_FLAG_USED_BYTES = 4, /* before an index page's data */
    TYPE_AT = 7,
    TYPE_MASK = 7,
    TYPE_TAIL = 2, /* head pages are 1, blob pages 3 */
    HEAD_VERSION_AT = 12,
    BLOB_VERSION_AT = 8,
    CRC_BYTES = 4
};

#define NO_CHECKSUM 0xffffffffU
#define NO_CHECKSUM_BITMAP 0xfffffffeU

static bool is_block_size(size_t size)
{
    return size >= 1024 && size <= KR_ARIA_BLOCK_MAX && (size & (size - 1)) == 0;
}

static bool parse_crypt(const uint8_t *crypt, struct kr_aria_table *table)
{
    table->space = (uint32_t)kr_get_little(crypt + CRYPT_SPACE_AT, 4);
    memcpy(table->iv, crypt + CRYPT_IV_AT, KR_ARIA_IV_BYTES);
    return crypt[0] == 1 && crypt[1] == CRYPT_BYTES - 2;
}

bool kr_aria_table_parse(const uint8_t *head, size_t len, struct kr_aria_table *ret)
{
    struct kr_aria_table table = {0};
    if (len < STATE_BYTES || memcmp(head, "\xfe\xfe\x09", 3) != 0)
        return false;
    size_t header = kr_get_number(head + HEADER_LENGTH_AT, 2);
    size_t base_at = kr_get_number(head + BASE_POS_AT, 2);
    if (header > len || kr_get_number(head + BASE_LENGTH_AT, 2) < BASE_MIN ||
        base_at < STATE_BYTES || base_at + BASE_MIN + CRYPT_BYTES > header)
        return false;
    unsigned options = (unsigned)kr_get_number(head + OPTIONS_AT, 2);
    const uint8_t *base = head + base_at;
    table.checksums = options & OPTION_CHECKSUMS;
    table.temporary = options & OPTION_TEMPORARY;
    table.paged = head[ROW_FORMAT_AT] == ROW_FORMAT_PAGE;
    table.header_size = kr_get_number(base + BASE_KEYSTART, 8);
    table.block_size = kr_get_number(base + BASE_BLOCK_SIZE, 2);
    table.closed = kr_get_number(head + OPEN_COUNT_AT, 2) == 0;
    table.index_length = kr_get_number(head + INDEX_LENGTH_AT, 8);
    table.data_length = kr_get_number(head + DATA_LENGTH_AT, 8);
    table.transactional = base[BASE_TRANSACTIONAL] != 0;
    table.encrypted = kr_get_number(base + BASE_EXTRA, 2) & EXTRA_ENCRYPTED;
    if (!is_block_size(table.block_size) || table.header_size < header ||
        table.header_size % table.block_size != 0)
        return false;
    if (table.encrypted && !parse_crypt(head + header - CRYPT_BYTES, &table))
        return false;
    table.bitmap_every = (table.block_size - CRC_BYTES) / 6 * 16 + 1;
    *ret = table;
    return true;
}

/* --- pages ------------------------------------------------------------------------------------ */

static void set_crypt(const struct kr_aria_table *table, const uint8_t *page, size_t version_at,
                      size_t crypt_at, struct kr_aria_page *what)
{
    if (!table->encrypted)
        return;
    what->version_at = version_at;
    what->crypt_at = crypt_at;
    what->version = (uint32_t)kr_get_little(page + version_at, VERSION_BYTES);
    what->crypt_len = what->checked - crypt_at;
}

static bool read_data(const struct kr_aria_table *table, uint64_t number, const uint8_t *page,
                      struct kr_aria_page *what)
{
    what->checked = table->block_size - CRC_BYTES;
    if (number % table->bitmap_every == 0)
        return true;
    size_t version_at =
        (page[TYPE_AT] & TYPE_MASK) <= TYPE_TAIL ? HEAD_VERSION_AT : BLOB_VERSION_AT;
    set_crypt(table, page, version_at, version_at + VERSION_BYTES, what);
    return true;
}

static bool read_index(const struct kr_aria_table *table, const uint8_t *page,
                       struct kr_aria_page *what)
{
    size_t version_at = table->transactional ? LSN_BYTES + TRANSACTION_BYTES : 0;
    if (table->encrypted && !table->transactional)
        version_at = LSN_BYTES;
    size_t header = version_at + (table->encrypted ? VERSION_BYTES : 0) + KEY_FLAG_USED_BYTES;
    what->checked = kr_get_number(page + header - 2, 2);
    if (what->checked < header || what->checked > table->block_size - CRC_BYTES)
        return false;
    set_crypt(table, page, version_at, header, what);
    return true;
}

bool kr_aria_page_read(const struct kr_aria_table *table, enum kr_aria_file file, uint64_t number,
                       const uint8_t *page, struct kr_aria_page *ret)
{
    struct kr_aria_page what = {.empty = kr_is_zero(page, table->block_size)};
    if (!what.empty && !(file == KR_ARIA_DATA ? read_data(table, number, page, &what)
                                              : read_index(table, page, &what)))
        return false;
    *ret = what;
    return true;
}

void kr_aria_page_iv(const struct kr_aria_table *table, uint64_t number, const uint8_t *page,
                     uint8_t ret[KR_ARIA_IV_BYTES])
{
    /* of the LSN the log file comes first, 3 bytes, then the place in it */
    uint64_t lsn = kr_get_little(page, 3) << 32 | kr_get_little(page + 3, 4);
    kr_put_little(ret, table->space, 4);
    kr_put_little(ret + 4, number, 4);
    kr_put_little(ret + 8, lsn, 8);
}

enum kr_aria_page_fault kr_aria_page_check(const struct kr_aria_table *table, uint64_t number,
                                           const uint8_t *page, const struct kr_aria_page *what)
{
    uint32_t stored = (uint32_t)kr_get_little(page + table->block_size - CRC_BYTES, CRC_BYTES);
    if (stored == NO_CHECKSUM_BITMAP && kr_is_zero(page, what->checked))
        return KR_ARIA_SOUND; /* the bitmap of a table that never had a row */
    if (stored >= NO_CHECKSUM_BITMAP)
        return table->checksums ? KR_ARIA_BAD_CHECKSUM : KR_ARIA_UNCHECKED;
    uint32_t crc = (uint32_t)crc32_z((uint32_t)number, page, what->checked);
    if (crc >= NO_CHECKSUM_BITMAP)
        crc = NO_CHECKSUM_BITMAP - 1;
    return crc == stored ? KR_ARIA_SOUND : KR_ARIA_BAD_CHECKSUM;
}

/* --- log and control file --------------------------------------------------------------------- */

enum {
    LOG_MAGIC_BYTES = 12,
    LOG_FILE_AT =
        3, /* of a page: number, 3 | file, 3 | flags, 1 | checksum, 4, if a flag says so */
    LOG_FLAGS_AT = 6,
    LOG_CRC_AT = 7,
    LOG_FLAG_CRC = 1,
    LOG_HEADER_FILE_AT = 34
};

uint32_t kr_aria_log_file(const uint8_t *page)
{
    static const char magic[] = "\xfe\xfe\x0b\x01MARIALOG";
    return memcmp(page, magic, LOG_MAGIC_BYTES) == 0
               ? (uint32_t)kr_get_little(page + LOG_HEADER_FILE_AT, 3)
               : 0;
}

bool kr_aria_log_page_sound(const uint8_t *page, uint64_t number, uint32_t file, bool *ret_checked)
{
    bool checked = page[LOG_FLAGS_AT] & LOG_FLAG_CRC;
    if (kr_get_little(page, 3) != number || kr_get_little(page + LOG_FILE_AT, 3) != file)
        return false;
    size_t from = LOG_CRC_AT + CRC_BYTES;
    if (checked && kr_get_little(page + LOG_CRC_AT, CRC_BYTES) !=
                       (uint32_t)crc32_z(0, page + from, KR_ARIA_LOG_PAGE - from))
        return false;
    *ret_checked = checked;
    return true;
}

/* FE FE 0C | version, 1 | uuid, 16 | 2 lengths and a block size, 2 each | checksum, 4, of what
 * changes never; then checksum, 4, of what follows it. */
enum { CONTROL_FIXED_AT = 20, CONTROL_FIXED_MIN = 30, CONTROL_CHANGING_MIN = 4 + 14 };

bool kr_aria_control_sound(const uint8_t *bytes, size_t len)
{
    if (len < KR_ARIA_CONTROL_BYTES || memcmp(bytes, "\xfe\xfe\x0c", 3) != 0)
        return false;
    size_t fixed = kr_get_little(bytes + CONTROL_FIXED_AT, 2);
    size_t changing = kr_get_little(bytes + CONTROL_FIXED_AT + 2, 2);
    if (fixed < CONTROL_FIXED_MIN || changing < CONTROL_CHANGING_MIN || fixed + changing != len)
        return false;
    const uint8_t *changes = bytes + fixed;
    return kr_get_little(changes - CRC_BYTES, CRC_BYTES) ==
               (uint32_t)crc32_z(0, bytes, fixed - CRC_BYTES) &&
           kr_get_little(changes, CRC_BYTES) ==
               (uint32_t)crc32_z(0, changes + CRC_BYTES, changing - CRC_BYTES);
}
