/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Pages of MySQL's tablespaces. */
#include "formats/mysql_page.h"

#include <lz4.h>
#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "formats/innodb_checksum.h"

enum {
    NUMBER_AT = 4,
    LSN_AT = 16,
    TYPE_AT = 24,
    COMPRESSION_AT = 26, /* version 1 | algorithm 1 | type 2 | length before 2 | length after 2 */
    ALGORITHM_AT = 27,
    ORIGINAL_TYPE_AT = 28,
    ORIGINAL_LEN_AT = 30,
    COMPRESSED_LEN_AT = 32,
    SPACE_AT = 34,
    TRAILER = 8
};

enum {
    TYPE_COMPRESSED = 14,
    TYPE_ENCRYPTED = 15,
    TYPE_COMPRESSED_ENCRYPTED = 16,
    TYPE_ENCRYPTED_RTREE = 17,
    TYPE_RTREE = 17854
};

enum { ALGORITHM_ZLIB = 1, ALGORITHM_LZ4 = 2 };

/* Of a file system; what is left of old contents has at least so many bytes. */
enum { BLOCK_MIN = 512, OLD_BYTES_MIN = 32 };

static unsigned get2(const uint8_t *at)
{
    return (unsigned)kr_get_number(at, 2);
}

static uint32_t get4(const uint8_t *at)
{
    return (uint32_t)kr_get_number(at, 4);
}

enum kr_mysql_page_state kr_mysql_page_state(const uint8_t *page, size_t size)
{
    switch (get2(page + TYPE_AT)) {
    case TYPE_COMPRESSED:
        return KR_MYSQL_PAGE_COMPRESSED;
    case TYPE_ENCRYPTED:
    case TYPE_ENCRYPTED_RTREE:
        return KR_MYSQL_PAGE_ENCRYPTED;
    case TYPE_COMPRESSED_ENCRYPTED:
        return KR_MYSQL_PAGE_COMPRESSED_ENCRYPTED;
    default:
        return kr_is_zero(page, size) ? KR_MYSQL_PAGE_EMPTY : KR_MYSQL_PAGE_PLAIN;
    }
}

/* --- checksums -----------------------------------------------------------------------------------
 */

uint32_t kr_mysql_page_crc(const uint8_t *page, size_t size, bool zip)
{
    return zip ? kr_innodb_zip_crc32(page, size) : kr_innodb_crc32(page, size);
}

void kr_mysql_page_put_crc(uint8_t *page, size_t size, bool zip)
{
    uint32_t crc = kr_mysql_page_crc(page, size, zip);
    kr_put_number(page, crc, 4);
    if (!zip)
        kr_put_number(page + size - TRAILER, crc, 4);
}

static enum kr_mysql_page_fault check_zip(const uint8_t *page, size_t size)
{
    uint32_t sum = get4(page);
    if (sum == kr_innodb_zip_crc32(page, size) || sum == kr_innodb_zip_adler(page, size))
        return KR_MYSQL_PAGE_SOUND;
    return sum == KR_INNODB_NO_CHECKSUM ? KR_MYSQL_PAGE_UNCHECKED : KR_MYSQL_PAGE_BAD_CHECKSUM;
}

static enum kr_mysql_page_fault check_sum(const uint8_t *page, size_t size)
{
    const uint8_t *trailer = page + size - TRAILER;
    uint32_t first = get4(page), last = get4(trailer);
    if (memcmp(page + LSN_AT + 4, trailer + 4, 4) != 0)
        return KR_MYSQL_PAGE_BAD_CHECKSUM;
    if (first == last && first == kr_innodb_crc32(page, size))
        return KR_MYSQL_PAGE_SOUND;
    if (first == KR_INNODB_NO_CHECKSUM && last == KR_INNODB_NO_CHECKSUM)
        return KR_MYSQL_PAGE_UNCHECKED;
    if (first == kr_innodb_fold(page, size) && last == kr_innodb_fold_trailer(page))
        return KR_MYSQL_PAGE_SOUND;
    return KR_MYSQL_PAGE_BAD_CHECKSUM;
}

/* --- compressed pages ----------------------------------------------------------------------------
 */

static bool expand(const uint8_t *page, size_t from, uint8_t *to, size_t to_len)
{
    const uint8_t *data = page + KR_MYSQL_PAGE_HEAD;
    if (page[ALGORITHM_AT] == ALGORITHM_ZLIB) {
        uLongf len = to_len;
        uLong used = from;
        return uncompress2(to, &len, data, &used) == Z_OK && len == to_len && used == from;
    }
    if (page[ALGORITHM_AT] == ALGORITHM_LZ4)
        return LZ4_decompress_safe((const char *)data, (char *)to, (int)from, (int)to_len) ==
               (int)to_len;
    return false;
}

static bool is_version(uint8_t byte)
{
    return byte == 1 || byte == 2;
}

/* Bytes of the page that are in use. */
static size_t compressed_bytes(const uint8_t *page)
{
    size_t used = get2(page + COMPRESSED_LEN_AT) + (size_t)KR_MYSQL_PAGE_HEAD;
    return used < KR_MYSQL_COMPRESSED_MIN ? KR_MYSQL_COMPRESSED_MIN : used;
}

/* What is behind the bytes in use: zeros, or, of a server that was killed before it gave that room
 * back, the rest of the page's longer contents before, from a block of the file system on. Those
 * are encrypted or compressed: hardly a byte of them is zero. */
static bool rest_is_unused(const uint8_t *page, size_t used, size_t size)
{
    size_t old = (used + BLOCK_MIN - 1) / BLOCK_MIN * BLOCK_MIN, end = size, zeros = 0;
    if (old >= size || !kr_is_zero(page + used, old - used))
        return kr_is_zero(page + used, size - used);
    while (end > old && page[end - 1] == 0)
        end--;
    for (size_t i = old; i < end; i++)
        zeros += page[i] == 0;
    return end == old || (end - old >= OLD_BYTES_MIN && zeros < (end - old) / 8);
}

void kr_mysql_page_clear_rest(uint8_t *page, size_t size)
{
    if (get2(page + TYPE_AT) == TYPE_COMPRESSED && compressed_bytes(page) < size)
        memset(page + compressed_bytes(page), 0, size - compressed_bytes(page));
}

/* The page as it was before it was compressed, in `room`. */
static enum kr_mysql_page_fault decompress(const uint8_t *page,
                                           const struct kr_mysql_page_place *place)
{
    size_t from = get2(page + COMPRESSED_LEN_AT), to = get2(page + ORIGINAL_LEN_AT);
    size_t used = compressed_bytes(page);
    if (!is_version(page[COMPRESSION_AT]))
        return KR_MYSQL_PAGE_BAD_DATA;
    if (used > place->size || to != place->size - KR_MYSQL_PAGE_HEAD)
        return KR_MYSQL_PAGE_BAD_LENGTH;
    if (!rest_is_unused(page, used, place->size))
        return KR_MYSQL_PAGE_NOT_ZERO;
    if (!expand(page, from, place->room + KR_MYSQL_PAGE_HEAD, to))
        return KR_MYSQL_PAGE_BAD_DATA;
    memcpy(place->room, page, KR_MYSQL_PAGE_HEAD);
    memcpy(place->room + TYPE_AT, page + ORIGINAL_TYPE_AT, 2);
    return KR_MYSQL_PAGE_SOUND;
}

/* --- the whole page ------------------------------------------------------------------------------
 */

/* A page that was compressed when the server read it, and is not any more: what said how it was
 * compressed stays in memory, and goes to the file again, but for the type before. */
static bool was_compressed(const uint8_t *page, size_t size)
{
    return is_version(page[COMPRESSION_AT]) &&
           (page[ALGORITHM_AT] == ALGORITHM_ZLIB || page[ALGORITHM_AT] == ALGORITHM_LZ4) &&
           get2(page + ORIGINAL_TYPE_AT) == 0 &&
           get2(page + ORIGINAL_LEN_AT) == size - KR_MYSQL_PAGE_HEAD &&
           compressed_bytes(page) <= size;
}

/* No checksum covers these. A page of an R-tree has a number of its own there, and pages of
 * ROW_FORMAT=COMPRESSED have anything. */
static bool unused_are_zero(const uint8_t *page, size_t size)
{
    return get2(page + TYPE_AT) == TYPE_RTREE || was_compressed(page, size) ||
           kr_is_zero(page + COMPRESSION_AT, SPACE_AT - COMPRESSION_AT);
}

enum kr_mysql_page_fault kr_mysql_page_check(const uint8_t *page, bool was_encrypted,
                                             const struct kr_mysql_page_place *place)
{
    enum kr_mysql_page_state state = kr_mysql_page_state(page, place->size);
    const uint8_t *whole = page;
    if (state == KR_MYSQL_PAGE_EMPTY)
        return KR_MYSQL_PAGE_SOUND;
    if (state == KR_MYSQL_PAGE_COMPRESSED) {
        enum kr_mysql_page_fault fault = decompress(page, place);
        if (fault != KR_MYSQL_PAGE_SOUND)
            return fault;
        whole = place->room;
    }
    enum kr_mysql_page_fault fault =
        place->zip ? check_zip(whole, place->size) : check_sum(whole, place->size);
    if (fault != KR_MYSQL_PAGE_SOUND)
        return fault;
    if (get4(page + NUMBER_AT) != (uint32_t)place->number ||
        get4(page + SPACE_AT) != place->space_id)
        return KR_MYSQL_PAGE_WRONG_NUMBER;
    bool zeros_known = was_encrypted && !place->zip && state == KR_MYSQL_PAGE_PLAIN;
    return zeros_known && !unused_are_zero(page, place->size) ? KR_MYSQL_PAGE_NOT_ZERO
                                                              : KR_MYSQL_PAGE_SOUND;
}

const char *kr_mysql_page_fault_text(enum kr_mysql_page_fault fault)
{
    static const char *const texts[] = {
        [KR_MYSQL_PAGE_SOUND] = "sound",
        [KR_MYSQL_PAGE_UNCHECKED] = "written without a checksum",
        [KR_MYSQL_PAGE_BAD_CHECKSUM] = "checksum mismatch",
        [KR_MYSQL_PAGE_WRONG_NUMBER] = "the contents of another page",
        [KR_MYSQL_PAGE_BAD_LENGTH] = "impossible length of compressed data",
        [KR_MYSQL_PAGE_BAD_DATA] = "compressed data that does not decompress",
        [KR_MYSQL_PAGE_NOT_ZERO] = "bytes that the server leaves zero are not"};
    return texts[fault];
}
