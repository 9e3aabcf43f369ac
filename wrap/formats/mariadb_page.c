/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Pages of MariaDB's tablespaces. */
#include "formats/mariadb_page.h"

#include <string.h>

#include "base/bytes.h"
#include "formats/innodb_checksum.h"
#include "formats/mariadb_decompress.h"
#include "hwaccel/crc32c.h"

enum {
    CHECKSUM_AT = 0, /* and in full_crc32 the key version */
    NUMBER_AT = 4,
    LSN_AT = 16,
    TYPE_AT = 24,
    VERSION_AT = 26, /* what follows is of the older layout */
    CRYPT_CHECKSUM_AT = 30,
    SPACE_AT = 34,
    DATA_AT = 38, /* the length of a compressed payload */
    METHOD_AT = 40,
    TRAILER = 8,
    FULL_CRYPT_AT = 26,
    FULL_TRAILER = 4,
    ZIP_MIN = 1024,
    METHOD_PLAIN_AT = 26, /* 8 bytes */
    PAYLOAD_PLAIN_AT = 40,
    PAYLOAD_CRYPT_AT = 42
};

enum {
    FULL_COMPRESSED = 0x8000,
    TYPE_COMPRESSED = 34354,
    TYPE_COMPRESSED_ENCRYPTED = 37401,
    TYPE_TRX_SYS = 7,
    TYPE_SPACE_HEADER = 8,
    TYPE_EXTENTS = 9,
    TYPE_RTREE = 17854
};

static uint32_t get4(const uint8_t *at)
{
    return (uint32_t)kr_get_number(at, 4);
}

static unsigned type_of(const uint8_t *page)
{
    return (unsigned)kr_get_number(page + TYPE_AT, 2);
}

static bool read_full_crc32(const struct kr_mariadb_space *space, const uint8_t *page,
                            struct kr_mariadb_page *what)
{
    unsigned type = type_of(page);
    what->version = get4(page + CHECKSUM_AT);
    what->compressed = type & FULL_COMPRESSED;
    if (what->compressed)
        what->length = (size_t)(type & ~(unsigned)FULL_COMPRESSED) << 8;
    if (what->length < FULL_CRYPT_AT + FULL_TRAILER ||
        (what->compressed && what->length >= space->page_size))
        return false;
    what->crypt_at = FULL_CRYPT_AT;
    what->crypt_len = what->length - FULL_CRYPT_AT - FULL_TRAILER;
    return true;
}

/* R-tree pages use the key version's bytes for something else, and are not encrypted. */
static bool read_older(const struct kr_mariadb_space *space, const uint8_t *page,
                       struct kr_mariadb_page *what)
{
    unsigned type = type_of(page);
    bool both = type == TYPE_COMPRESSED_ENCRYPTED;
    what->compressed = both || type == TYPE_COMPRESSED;
    if (!both && (type == TYPE_COMPRESSED || type == TYPE_RTREE))
        what->version = 0;
    else
        what->version = get4(page + VERSION_AT);
    what->crypt_at = DATA_AT;
    what->crypt_len = space->page_size - DATA_AT - TRAILER;
    if (!what->compressed)
        return true;
    what->crypt_at = both ? PAYLOAD_CRYPT_AT : PAYLOAD_PLAIN_AT;
    what->crypt_len = (size_t)kr_get_number(page + DATA_AT, 2);
    what->length = what->crypt_at + what->crypt_len;
    return what->crypt_len > 0 && what->length <= space->page_size;
}

/* Of the LSN, whose low half is repeated near the end. */
static bool same_lsn(const uint8_t *page, const uint8_t *again)
{
    return memcmp(page + LSN_AT + 4, again, 4) == 0;
}

/* Pages of temporary tables name no key version. */
static bool is_temporary_encrypted(const struct kr_mariadb_space *space, const uint8_t *page)
{
    return space->temporary && space->full_crc32 &&
           !same_lsn(page, page + space->page_size - FULL_TRAILER - 4);
}

/* --- checksums -------------------------------------------------------------------------------- */

static enum kr_mariadb_page_fault check_full_crc32(const uint8_t *page,
                                                   const struct kr_mariadb_page *what)
{
    const uint8_t *checksum = page + what->length - FULL_TRAILER;
    if (kr_crc32c(0, page, what->length - FULL_TRAILER) != get4(checksum))
        return KR_MARIADB_PAGE_BAD_CHECKSUM;
    if (what->state == KR_MARIADB_PAGE_PLAIN && !what->compressed && !same_lsn(page, checksum - 4))
        return KR_MARIADB_PAGE_BAD_CHECKSUM;
    return KR_MARIADB_PAGE_SOUND;
}

static enum kr_mariadb_page_fault check_zip(const uint8_t *page, size_t size, uint32_t stored)
{
    if (stored == kr_innodb_zip_crc32(page, size) || stored == kr_innodb_zip_adler(page, size))
        return KR_MARIADB_PAGE_SOUND;
    return stored == KR_INNODB_NO_CHECKSUM ? KR_MARIADB_PAGE_UNCHECKED
                                           : KR_MARIADB_PAGE_BAD_CHECKSUM;
}

/* Of the plaintext: crc32 stands in both places, the older algorithm has one for each. */
static enum kr_mariadb_page_fault check_older_plain(const struct kr_mariadb_space *space,
                                                    const uint8_t *page)
{
    size_t size = space->page_size;
    uint32_t first = get4(page + CHECKSUM_AT), last = get4(page + size - TRAILER);
    if (space->zip)
        return check_zip(page, size, first);
    if (!same_lsn(page, page + size - 4))
        return KR_MARIADB_PAGE_BAD_CHECKSUM;
    if (first == last && first == kr_innodb_crc32(page, size))
        return KR_MARIADB_PAGE_SOUND;
    if (first == KR_INNODB_NO_CHECKSUM && last == KR_INNODB_NO_CHECKSUM)
        return KR_MARIADB_PAGE_UNCHECKED;
    return first == kr_innodb_fold(page, size) && last == kr_innodb_fold_trailer(page)
               ? KR_MARIADB_PAGE_SOUND
               : KR_MARIADB_PAGE_BAD_CHECKSUM;
}

/* Compressed ones are written shorter than the page that the checksum is of: where that is not
 * right, decompressing tells. */
static enum kr_mariadb_page_fault check_older_encrypted(const struct kr_mariadb_space *space,
                                                        const uint8_t *page,
                                                        const struct kr_mariadb_page *what)
{
    uint32_t stored = get4(page + CRYPT_CHECKSUM_AT);
    if (space->zip)
        return check_zip(page, space->page_size, stored);
    if (stored == kr_innodb_crc32(page, space->page_size) ||
        stored == kr_innodb_fold(page, space->page_size))
        return KR_MARIADB_PAGE_SOUND;
    return what->compressed ? KR_MARIADB_PAGE_UNCHECKED : KR_MARIADB_PAGE_BAD_CHECKSUM;
}

/* --- a page of the file ----------------------------------------------------------------------- */

/* As a page of one layout. */
static enum kr_mariadb_page_fault try_copy(const struct kr_mariadb_space *as, const uint8_t *page,
                                           bool *encrypted)
{
    struct kr_mariadb_page what = {.state = KR_MARIADB_PAGE_PLAIN, .length = as->page_size};
    enum kr_mariadb_page_fault fault;
    if (!(as->full_crc32 ? read_full_crc32(as, page, &what) : read_older(as, page, &what)))
        return KR_MARIADB_PAGE_BAD_LENGTH;
    if (what.version != 0)
        what.state = KR_MARIADB_PAGE_ENCRYPTED;
    if (as->full_crc32)
        fault = check_full_crc32(page, &what);
    else if (what.version != 0)
        fault = check_older_encrypted(as, page, &what);
    else
        fault = what.compressed ? KR_MARIADB_PAGE_UNCHECKED : check_older_plain(as, page);
    if (fault <= KR_MARIADB_PAGE_UNCHECKED)
        *encrypted = what.version != 0;
    return fault;
}

/* Of which tablespace it is nobody says, so the layouts are tried, and with ROW_FORMAT=COMPRESSED
 * the lengths. */
static enum kr_mariadb_page_fault judge_copy(const struct kr_mariadb_space *space,
                                             const uint8_t *page, bool *encrypted)
{
    struct kr_mariadb_space as = {.page_size = space->page_size, .full_crc32 = true};
    enum kr_mariadb_page_fault fault = try_copy(&as, page, encrypted), older;
    if (fault == KR_MARIADB_PAGE_SOUND)
        return fault;
    as.full_crc32 = false;
    older = try_copy(&as, page, encrypted);
    as.zip = true;
    for (; older > KR_MARIADB_PAGE_UNCHECKED && as.page_size >= ZIP_MIN; as.page_size /= 2)
        older = try_copy(&as, page, encrypted);
    return older;
}

/* Headers, descriptors of extents, and the page that says where the doublewrite buffer is. */
static bool never_encrypted(const struct kr_mariadb_space *space, const uint8_t *page)
{
    unsigned type = type_of(page);
    return type == TYPE_SPACE_HEADER || type == TYPE_EXTENTS ||
           (type == TYPE_TRX_SYS && space->space_id == 0);
}

static bool is_copy(const struct kr_mariadb_space *space, uint64_t number, const uint8_t *page)
{
    size_t extent = kr_mariadb_extent_pages(space);
    return space->space_id == 0 && number >= extent && number < 3 * extent &&
           get4(page + NUMBER_AT) != number;
}

bool kr_mariadb_page_read(const struct kr_mariadb_space *space, uint64_t number,
                          const uint8_t *page, struct kr_mariadb_page *ret)
{
    struct kr_mariadb_page what = {.state = KR_MARIADB_PAGE_EMPTY, .length = space->page_size};
    if (kr_is_zero(page, space->page_size)) {
        *ret = what;
        return true;
    }
    if (is_copy(space, number, page)) {
        what.state = KR_MARIADB_PAGE_COPY;
        judge_copy(space, page, &what.copy_encrypted);
        what.never = !what.copy_encrypted && never_encrypted(space, page);
        *ret = what;
        return true;
    }
    what.state = KR_MARIADB_PAGE_PLAIN;
    if (number > 0 &&
        !(space->full_crc32 ? read_full_crc32(space, page, &what) : read_older(space, page, &what)))
        return false;
    if (what.version != 0 || (number > 0 && is_temporary_encrypted(space, page)))
        what.state = KR_MARIADB_PAGE_ENCRYPTED;
    what.never = what.state == KR_MARIADB_PAGE_PLAIN && never_encrypted(space, page);
    what.spatial = what.state == KR_MARIADB_PAGE_PLAIN && type_of(page) == TYPE_RTREE;
    *ret = what;
    return true;
}

enum kr_mariadb_page_fault kr_mariadb_page_check(const struct kr_mariadb_space *space,
                                                 uint64_t number, const uint8_t *page,
                                                 const struct kr_mariadb_page *what)
{
    enum kr_mariadb_page_fault fault;
    bool encrypted;
    if (what->state == KR_MARIADB_PAGE_EMPTY)
        return KR_MARIADB_PAGE_SOUND;
    if (what->state == KR_MARIADB_PAGE_COPY)
        return judge_copy(space, page, &encrypted);
    if (space->full_crc32)
        fault = check_full_crc32(page, what);
    else if (what->state == KR_MARIADB_PAGE_ENCRYPTED)
        fault = check_older_encrypted(space, page, what);
    else
        fault = what->compressed ? KR_MARIADB_PAGE_UNCHECKED : check_older_plain(space, page);
    if (fault > KR_MARIADB_PAGE_UNCHECKED)
        return fault;
    if (get4(page + NUMBER_AT) != number)
        return KR_MARIADB_PAGE_WRONG_NUMBER;
    if (what->state == KR_MARIADB_PAGE_ENCRYPTED && !space->has_crypt && !space->temporary)
        return KR_MARIADB_PAGE_NO_KEY_KNOWN;
    return fault;
}

/* --- encryption ------------------------------------------------------------------------------- */

void kr_mariadb_page_iv(const struct kr_mariadb_space *space, const uint8_t *page,
                        uint8_t ret[KR_MARIADB_IV_BYTES])
{
    kr_put_little(ret, space->space_id, 4);
    kr_put_little(ret + 4, get4(page + NUMBER_AT), 4);
    kr_put_little(ret + 8, kr_get_number(page + LSN_AT, 8), 8);
}

/* How the payload of a page was compressed. */
static uint64_t method_of(const struct kr_mariadb_space *space, const uint8_t *page,
                          const struct kr_mariadb_page *what)
{
    if (space->full_crc32)
        return space->compression;
    return what->state == KR_MARIADB_PAGE_ENCRYPTED ? kr_get_number(page + METHOD_AT, 2)
                                                    : kr_get_number(page + METHOD_PLAIN_AT, 8);
}

/* In full_crc32 a page is as long as a multiple of 256; where decompressing must know it exactly,
 * the byte before the checksum is the lowest of the length with those five. 0: impossible. */
static size_t payload_length(const struct kr_mariadb_space *space, const uint8_t *page,
                             const struct kr_mariadb_page *what, enum kr_mariadb_compression how)
{
    bool exact = how == KR_MARIADB_LZ4 || how == KR_MARIADB_LZO || how == KR_MARIADB_SNAPPY;
    if (!space->full_crc32 || !exact)
        return what->crypt_len;
    unsigned low = page[what->length - FULL_TRAILER - 1];
    size_t used = what->length - (low ? 256 - low : 0), rest = what->crypt_at + FULL_TRAILER + 1;
    return used > rest ? used - rest : 0;
}

/* A compressed page holds the whole page, whose first fields must be its own. */
static enum kr_mariadb_page_fault check_compressed(const struct kr_mariadb_space *space,
                                                   const uint8_t *page,
                                                   const struct kr_mariadb_page *what,
                                                   uint8_t *room)
{
    uint64_t method = method_of(space, page, what);
    if (method == KR_MARIADB_UNCOMPRESSED || method > KR_MARIADB_SNAPPY)
        return KR_MARIADB_PAGE_BAD_LENGTH;
    enum kr_mariadb_compression how = (enum kr_mariadb_compression)method;
    size_t len = payload_length(space, page, what, how);
    enum kr_mariadb_decompressed result =
        kr_mariadb_decompress(how, page + what->crypt_at, len, room, space->logical_size);
    if (result == KR_MARIADB_NO_LIBRARY)
        return KR_MARIADB_PAGE_UNCHECKED;
    if (result != KR_MARIADB_DECOMPRESSED ||
        memcmp(room + NUMBER_AT, page + NUMBER_AT, TYPE_AT - NUMBER_AT) != 0 ||
        get4(room + SPACE_AT) != space->space_id)
        return KR_MARIADB_PAGE_BAD_PLAINTEXT;
    return KR_MARIADB_PAGE_SOUND;
}

enum kr_mariadb_page_fault kr_mariadb_page_check_plain(const struct kr_mariadb_space *space,
                                                       const uint8_t *page,
                                                       const struct kr_mariadb_page *what,
                                                       uint8_t *room)
{
    if (what->compressed)
        return check_compressed(space, page, what, room);
    if (get4(page + SPACE_AT) != space->space_id)
        return KR_MARIADB_PAGE_BAD_PLAINTEXT;
    if (!space->full_crc32) {
        enum kr_mariadb_page_fault fault = check_older_plain(space, page);
        return fault == KR_MARIADB_PAGE_BAD_CHECKSUM ? KR_MARIADB_PAGE_BAD_PLAINTEXT : fault;
    }
    return same_lsn(page, page + space->page_size - FULL_TRAILER - 4)
               ? KR_MARIADB_PAGE_SOUND
               : KR_MARIADB_PAGE_BAD_PLAINTEXT;
}

/* Encrypted, the way of compression stands with the payload, else in the place of the version. */
static void clear_older_compressed(const struct kr_mariadb_page *what, uint8_t *page)
{
    uint64_t method = kr_get_number(page + METHOD_AT, 2);
    memmove(page + PAYLOAD_PLAIN_AT, page + PAYLOAD_CRYPT_AT, what->crypt_len);
    kr_put_number(page + TYPE_AT, TYPE_COMPRESSED, 2);
    kr_put_number(page + METHOD_PLAIN_AT, method, 8);
    memset(page + PAYLOAD_PLAIN_AT + what->crypt_len, 0, PAYLOAD_CRYPT_AT - PAYLOAD_PLAIN_AT);
}

void kr_mariadb_page_clear(const struct kr_mariadb_space *space, const struct kr_mariadb_page *what,
                           uint8_t *page)
{
    memset(page + what->length, 0, space->page_size - what->length);
    if (!space->full_crc32) {
        memset(page + VERSION_AT, 0, SPACE_AT - VERSION_AT);
        if (what->compressed)
            clear_older_compressed(what, page);
        return; /* the checksum of the plaintext is there */
    }
    size_t end = what->length - FULL_TRAILER;
    kr_put_number(page + CHECKSUM_AT, 0, 4);
    kr_put_number(page + end, kr_crc32c(0, page, end), FULL_TRAILER);
}

void kr_mariadb_page_seal(const struct kr_mariadb_space *space, const struct kr_mariadb_page *what,
                          uint32_t version, uint8_t *page)
{
    size_t size = space->page_size;
    memset(page + what->length, 0, size - what->length);
    if (space->full_crc32) {
        size_t end = what->length - FULL_TRAILER;
        kr_put_number(page + CHECKSUM_AT, version, 4);
        kr_put_number(page + end, kr_crc32c(0, page, end), FULL_TRAILER);
        return;
    }
    kr_put_number(page + VERSION_AT, version, 4);
    kr_put_number(page + CRYPT_CHECKSUM_AT,
                  space->zip ? kr_innodb_zip_crc32(page, size) : kr_innodb_crc32(page, size), 4);
}

void kr_mariadb_page_put_checksum(const struct kr_mariadb_space *space, uint8_t *page)
{
    size_t size = space->page_size;
    if (space->full_crc32) {
        kr_put_number(page + size - FULL_TRAILER, kr_crc32c(0, page, size - FULL_TRAILER), 4);
    } else if (space->zip) {
        kr_put_number(page + CHECKSUM_AT, kr_innodb_zip_crc32(page, size), 4);
    } else {
        uint32_t checksum = kr_innodb_crc32(page, size);
        kr_put_number(page + CHECKSUM_AT, checksum, 4);
        kr_put_number(page + size - TRAILER, checksum, 4);
    }
}

const char *kr_mariadb_page_fault_text(enum kr_mariadb_page_fault fault)
{
    static const char *const texts[] = {
        [KR_MARIADB_PAGE_SOUND] = "sound",
        [KR_MARIADB_PAGE_UNCHECKED] = "nothing in it says whether it is whole",
        [KR_MARIADB_PAGE_BAD_CHECKSUM] = "checksum mismatch",
        [KR_MARIADB_PAGE_WRONG_NUMBER] = "holds another page's number",
        [KR_MARIADB_PAGE_BAD_LENGTH] = "impossible length or way of compression",
        [KR_MARIADB_PAGE_NO_KEY_KNOWN] = "encrypted, but page 0 names no key",
        [KR_MARIADB_PAGE_BAD_PLAINTEXT] = "decrypted, it is no page of this tablespace",
    };
    return texts[fault];
}
