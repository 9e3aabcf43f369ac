/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Page 0 of a MySQL tablespace. */
#include "formats/mysql_tablespace.h"

#include <string.h>

#include "base/bytes.h"
#include "formats/mysql_page.h"

enum {
    NUMBER_AT = 4,
    SERVER_VERSION_AT = 8, /* since 8.0, where other pages have the number of the page before */
    TYPE_AT = 24,
    SPACE_AT = 34,
    HEADER_SPACE_AT = 38,
    HEADER_PAGES_AT = 46,
    FLAGS_AT = 54,
    HEADER_BYTES = 64,
    EXTENTS_AT = 150,
    EXTENT_BYTES = 1048576,
    PROGRESS_AT = 123 /* behind the start of the encryption header; what 8.0 knows of an ALTER */
};

/* A page 0 that the server has made so that the file has one: with its own version, without size.
 */
enum { TYPE_UNFINISHED = 0, TYPE_SPACE_HEADER = 8 };

enum {
    FLAG_GENERAL = 0x0800,
    FLAG_TEMPORARY = 0x1000,
    FLAG_ENCRYPTION = 0x2000,
    FLAGS_KNOWN = 0x7fff
};

/* The numbers of undo tablespaces lie below that of the redo log. */
#define UNDO_LAST 0xFFFFFFEFU
#define UNDO_FIRST (0xFFFFFFF0U - 127U * 400000U)

static uint32_t get4(const uint8_t *at)
{
    return (uint32_t)kr_get_number(at, 4);
}

/* A size is 512 shifted by 1 to 7; 0 stands for the default. False: not one of InnoDB's. */
static bool sizes(uint32_t flags, struct kr_mysql_space *space)
{
    unsigned zip = flags >> 1 & 15, logical = flags >> 6 & 15;
    if (zip > 5 || (logical && (logical < 3 || logical > 7)))
        return false;
    space->logical_size = logical ? (size_t)512 << logical : 16384;
    space->zip = zip != 0;
    space->page_size = zip ? (size_t)512 << zip : space->logical_size;
    return space->page_size <= space->logical_size;
}

/* The header stands behind the descriptors of the extents that page 0 has room for. */
static size_t info_offset(const struct kr_mysql_space *space)
{
    size_t extent = space->logical_size < 16384 ? EXTENT_BYTES / space->logical_size : 64;
    return EXTENTS_AT + (24 + extent / 4) * (space->page_size / extent);
}

bool kr_mysql_space_parse(const uint8_t *head, size_t len, struct kr_mysql_space *ret)
{
    struct kr_mysql_space space = {0};
    unsigned type = (unsigned)(len < HEADER_BYTES ? 0 : kr_get_number(head + TYPE_AT, 2));
    if (len < HEADER_BYTES || get4(head + NUMBER_AT) != 0 ||
        (type != TYPE_SPACE_HEADER && type != TYPE_UNFINISHED) ||
        get4(head + SPACE_AT) != get4(head + HEADER_SPACE_AT))
        return false;
    space.flags = get4(head + FLAGS_AT);
    if ((space.flags & ~(uint32_t)FLAGS_KNOWN) || !sizes(space.flags, &space) ||
        len < space.page_size)
        return false;
    space.space_id = get4(head + SPACE_AT);
    space.pages = get4(head + HEADER_PAGES_AT);
    uint32_t version = get4(head + SERVER_VERSION_AT);
    space.server_version = version >= 80000 && version < 1000000 ? version : 0;
    space.unfinished = type == TYPE_UNFINISHED;
    if (space.unfinished && (!space.server_version || space.pages > 0))
        return false;
    space.encrypted = space.flags & FLAG_ENCRYPTION;
    space.general = space.flags & FLAG_GENERAL;
    space.temporary = space.flags & FLAG_TEMPORARY;
    space.undo = space.space_id >= UNDO_FIRST && space.space_id <= UNDO_LAST;
    space.info_at = info_offset(&space);
    const uint8_t *info = head + space.info_at;
    kr_mysql_info_parse(info, &space.info);
    if (info[PROGRESS_AT] == KR_MYSQL_ENCRYPTING || info[PROGRESS_AT] == KR_MYSQL_DECRYPTING) {
        space.progress = info[PROGRESS_AT];
        space.progress_page = get4(info + PROGRESS_AT + 1);
    }
    *ret = space;
    return true;
}

void kr_mysql_space_clear(const struct kr_mysql_space *space, uint8_t *page)
{
    kr_put_number(page + FLAGS_AT, space->flags & ~(uint32_t)FLAG_ENCRYPTION, 4);
    memset(page + space->info_at, 0, KR_MYSQL_INFO_BYTES);
    memset(page + space->info_at + PROGRESS_AT, 0, 5);
    kr_mysql_page_put_crc(page, space->page_size, space->zip);
}

void kr_mysql_space_reseal(const struct kr_mysql_space *space, const struct kr_mysql_info *info,
                           uint8_t *page)
{
    kr_mysql_info_write(info, page + space->info_at);
    kr_mysql_page_put_crc(page, space->page_size, space->zip);
}
