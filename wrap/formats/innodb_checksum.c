/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The checksums of InnoDB pages of the older layout. */
#include "formats/innodb_checksum.h"

#include <zlib.h>

#include "hwaccel/crc32c.h"

enum { NUMBER_AT = 4, LSN_AT = 16, TYPE_AT = 24, FLUSH_LSN_AT = 26, SPACE_AT = 34, DATA_AT = 38 };
enum { TRAILER = 8 };

uint32_t kr_innodb_crc32(const uint8_t *page, size_t size)
{
    return kr_crc32c(0, page + NUMBER_AT, FLUSH_LSN_AT - NUMBER_AT) ^
           kr_crc32c(0, page + DATA_AT, size - DATA_AT - TRAILER);
}

static uint32_t fold(const uint8_t *bytes, size_t len)
{
    uint32_t hash = 0;
    for (size_t i = 0; i < len; i++)
        hash = ((((hash ^ bytes[i] ^ 1653893711U) << 8) + hash) ^ 1463735687U) + bytes[i];
    return hash;
}

uint32_t kr_innodb_fold(const uint8_t *page, size_t size)
{
    return fold(page + NUMBER_AT, FLUSH_LSN_AT - NUMBER_AT) +
           fold(page + DATA_AT, size - DATA_AT - TRAILER);
}

uint32_t kr_innodb_fold_trailer(const uint8_t *page)
{
    return fold(page, FLUSH_LSN_AT);
}

uint32_t kr_innodb_zip_crc32(const uint8_t *page, size_t size)
{
    return kr_crc32c(0, page + NUMBER_AT, LSN_AT - NUMBER_AT) ^ kr_crc32c(0, page + TYPE_AT, 2) ^
           kr_crc32c(0, page + SPACE_AT, size - SPACE_AT);
}

/* InnoDB begins with 0, not with zlib's 1. */
uint32_t kr_innodb_zip_adler(const uint8_t *page, size_t size)
{
    uLong adler = adler32(0, page + NUMBER_AT, LSN_AT - NUMBER_AT);
    adler = adler32(adler, page + TYPE_AT, 2);
    return (uint32_t)adler32(adler, page + SPACE_AT, (uInt)(size - SPACE_AT));
}
