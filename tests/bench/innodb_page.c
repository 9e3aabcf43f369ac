/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* InnoDB pages (server source: storage/innobase/include/fil0types.h, buf/checksum.cc). */
#include "innodb_page.h"

#include <string.h>

#include "base/bytes.h"
#include "hwaccel/crc32c.h"

enum { NUMBER_AT = 4, PREVIOUS_AT = 8, NEXT_AT = 12, LSN_AT = 16, TYPE_AT = 24, FLUSHED_AT = 26 };
enum { SPACE_AT = 34, DATA_AT = 38, TRAILER = 8 };
enum { SPACE = 7, INDEX_PAGE = 17855, FIRST_PAGE = 8, MAP_PAGE = 9, MAP_EVERY = 16384 };

static uint32_t checksum(const uint8_t *page, size_t len)
{
    return kr_crc32c(0, page + NUMBER_AT, FLUSHED_AT - NUMBER_AT) ^
           kr_crc32c(0, page + DATA_AT, len - TRAILER - DATA_AT);
}

/* xorshift, from the page's number. */
static void fill(uint8_t *page, size_t len, uint64_t number)
{
    uint64_t word = number * 0x9E3779B97F4A7C15U + 1;
    for (size_t i = 0; i + sizeof(word) <= len; i += sizeof(word)) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        memcpy(page + i, &word, sizeof(word));
    }
}

/* The tablespace's header, with flags as of ROW_FORMAT=DYNAMIC, and the pages that say which of the
 * next 16384 pages are free: none, as MariaDB's innochecksum does not look at those. */
static void make_map(uint8_t *page, size_t len, uint64_t number)
{
    memset(page + DATA_AT, 0, len - DATA_AT - TRAILER);
    kr_put_number(page + TYPE_AT, number == 0 ? FIRST_PAGE : MAP_PAGE, 2);
    if (number > 0)
        return;
    kr_put_number(page + DATA_AT, SPACE, 4);
    kr_put_number(page + DATA_AT + 16, 0x21, 4);
}

void innodb_page_make(uint8_t *page, size_t len, uint64_t number)
{
    fill(page, len, number);
    kr_put_number(page + NUMBER_AT, number, 4);
    kr_put_number(page + PREVIOUS_AT, UINT32_MAX, 4);
    kr_put_number(page + NEXT_AT, UINT32_MAX, 4);
    kr_put_number(page + LSN_AT, 1000000 + number, 8);
    kr_put_number(page + TYPE_AT, INDEX_PAGE, 2);
    kr_put_number(page + FLUSHED_AT, 0, 8);
    kr_put_number(page + SPACE_AT, SPACE, 4);
    if (number % MAP_EVERY == 0)
        make_map(page, len, number);
    uint32_t sum = checksum(page, len);
    kr_put_number(page, sum, 4);
    kr_put_number(page + len - TRAILER, sum, 4);
    kr_put_number(page + len - 4, 1000000 + number, 4);
}

bool innodb_page_ok(const uint8_t *page, size_t len, uint64_t number)
{
    uint32_t sum = checksum(page, len);
    return kr_get_number(page, 4) == sum && kr_get_number(page + len - TRAILER, 4) == sum &&
           kr_get_number(page + NUMBER_AT, 4) == number;
}
