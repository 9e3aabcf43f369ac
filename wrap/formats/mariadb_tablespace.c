/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Page 0 of MariaDB's tablespaces. */
#include "formats/mariadb_tablespace.h"

#include <string.h>

#include "base/bytes.h"
#include "formats/mariadb_page.h"

enum {
    NUMBER_AT = 4,
    TYPE_AT = 24,
    SPACE_AT = 34,
    HEADER_AT = 38,
    HEADER_SPACE_AT = 38,
    HEADER_SIZE_AT = 46,
    HEADER_FLAGS_AT = 54,
    EXTENTS_AT = 150, /* the extent descriptors */
    TYPE_SPACE_HEADER = 8,
    PAGE_SIZE_MIN = 4096,
    ZIP_SIZE_MIN = 1024,
    DEFAULT_PAGE_SIZE = 16384,
};

enum {
    FLAG_FULL_CRC32 = 1U << 4,
    FLAGS_FULL_CRC32_KNOWN = 0xff,
    FLAG_PAGE_COMPRESSED = 1U << 16,
    FLAGS_RESERVED = 0x3f << 10 /* MySQL's: DATA_DIR, SHARED, TEMPORARY, ENCRYPTION, SDI */
};

/* The encryption data. */
enum {
    MAGIC_BYTES = 6,
    SCHEME_AT = 6,
    IV_LENGTH_AT = 7,
    IV_AT = 8,
    MIN_VERSION_AT = 24,
    KEY_ID_AT = 28,
    WISH_AT = 32,
    CRYPT_BYTES = 33
};

static const uint8_t magic[MAGIC_BYTES] = {'s', 0x0e, 0x0c, 'R', 'E', 't'};

static const uint32_t temporary_space = 0xfffffffe;

/* 512 << n, or 0. */
static size_t size_of(uint32_t shift, size_t min)
{
    size_t size = shift >= 1 && shift <= 7 ? (size_t)512 << shift : 0;
    return size >= min ? size : 0;
}

static bool full_crc32_sizes(struct kr_mariadb_space *space)
{
    if (space->flags & ~(uint32_t)FLAGS_FULL_CRC32_KNOWN)
        return false;
    space->full_crc32 = true;
    space->compression = (enum kr_mariadb_compression)(space->flags >> 5 & 7);
    space->logical_size = space->page_size = size_of(space->flags & 15, PAGE_SIZE_MIN);
    return space->page_size > 0 && kr_mariadb_compression_name(space->compression);
}

static bool older_sizes(struct kr_mariadb_space *space)
{
    uint32_t page = space->flags >> 6 & 15, zip = space->flags >> 1 & 15;
    if (space->flags >> 17 || (space->flags & FLAGS_RESERVED))
        return false;
    space->logical_size = page ? size_of(page, PAGE_SIZE_MIN) : DEFAULT_PAGE_SIZE;
    space->zip = zip != 0;
    space->page_size = zip ? size_of(zip, ZIP_SIZE_MIN) : space->logical_size;
    if (space->flags & FLAG_PAGE_COMPRESSED)
        space->compression = KR_MARIADB_COMPRESSED_SOMEHOW;
    return space->page_size > 0 && space->page_size <= space->logical_size;
}

size_t kr_mariadb_extent_pages(const struct kr_mariadb_space *space)
{
    return space->logical_size < 16384 ? 1048576 / space->logical_size : 64;
}

/* Where the extent descriptors end, and the file header's 38 bytes further: so the server has it.
 */
static size_t crypt_offset(const struct kr_mariadb_space *space)
{
    size_t extent = kr_mariadb_extent_pages(space);
    return HEADER_AT + EXTENTS_AT + (24 + extent / 4) * (space->page_size / extent);
}

static bool parse_crypt(const uint8_t *page, struct kr_mariadb_space *space)
{
    space->crypt_at = crypt_offset(space);
    if (space->crypt_at + CRYPT_BYTES > space->page_size)
        return space->page_size == ZIP_SIZE_MIN; /* no room for it: never encrypted */
    const uint8_t *crypt = page + space->crypt_at;
    space->has_crypt = memcmp(crypt, magic, MAGIC_BYTES) == 0;
    if (!space->has_crypt)
        return true;
    space->encrypting = crypt[SCHEME_AT] == 1;
    memcpy(space->iv, crypt + IV_AT, KR_MARIADB_IV_BYTES);
    space->min_version = (uint32_t)kr_get_number(crypt + MIN_VERSION_AT, 4);
    space->key_id = (uint32_t)kr_get_number(crypt + KEY_ID_AT, 4);
    space->wish = (enum kr_mariadb_wish)crypt[WISH_AT];
    return crypt[SCHEME_AT] <= 1 && crypt[IV_LENGTH_AT] == KR_MARIADB_IV_BYTES &&
           space->wish <= KR_MARIADB_ENCRYPTED_NO;
}

bool kr_mariadb_space_parse(const uint8_t *head, size_t len, struct kr_mariadb_space *ret)
{
    struct kr_mariadb_space space = {0};
    if (len < ZIP_SIZE_MIN || kr_get_number(head + NUMBER_AT, 4) != 0 ||
        kr_get_number(head + TYPE_AT, 2) != TYPE_SPACE_HEADER)
        return false;
    space.space_id = (uint32_t)kr_get_number(head + HEADER_SPACE_AT, 4);
    space.pages = (uint32_t)kr_get_number(head + HEADER_SIZE_AT, 4);
    space.flags = (uint32_t)kr_get_number(head + HEADER_FLAGS_AT, 4);
    space.temporary = space.space_id == temporary_space;
    if (kr_get_number(head + SPACE_AT, 4) != space.space_id)
        return false;
    if (!(space.flags & FLAG_FULL_CRC32 ? full_crc32_sizes(&space) : older_sizes(&space)))
        return false;
    if (len < space.page_size || !parse_crypt(head, &space))
        return false;
    *ret = space;
    return true;
}

const char *kr_mariadb_compression_name(enum kr_mariadb_compression compression)
{
    static const char *const names[] = {
        [KR_MARIADB_UNCOMPRESSED] = "none",
        [KR_MARIADB_ZLIB] = "zlib",
        "lz4",
        "lzo",
        "lzma",
        "bzip2",
        "snappy",
        NULL,
    };
    return (size_t)compression < sizeof(names) / sizeof(*names) ? names[compression] : NULL;
}

void kr_mariadb_space_clear(const struct kr_mariadb_space *space, uint8_t *page)
{
    memset(page + space->crypt_at, 0, CRYPT_BYTES);
    kr_mariadb_page_put_checksum(space, page);
}

void kr_mariadb_space_rekey(const struct kr_mariadb_space *space, uint8_t *page)
{
    uint8_t *crypt = page + space->crypt_at;
    memcpy(crypt + IV_AT, space->iv, KR_MARIADB_IV_BYTES);
    kr_put_number(crypt + MIN_VERSION_AT, space->min_version, 4);
    kr_put_number(crypt + KEY_ID_AT, space->key_id, 4);
    kr_mariadb_page_put_checksum(space, page);
}
