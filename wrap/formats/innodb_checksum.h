/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The checksums that both servers give InnoDB pages of the older layout, a trailer of 8 bytes at
 * their end (server source: buf/checksum.cc, page/zipdecompress.cc). `size` is the page's in bytes.
 * The fields 26..37 are in none of them but those of ROW_FORMAT=COMPRESSED, which have 34..37.
 */
#ifndef P11K_FORMATS_INNODB_CHECKSUM_H
#define P11K_FORMATS_INNODB_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* innodb_checksum_algorithm=crc32: in the page's first 4 bytes and in the trailer. */
uint32_t kr_innodb_crc32(const uint8_t *page, size_t size);

/* innodb_checksum_algorithm=innodb, the default before MySQL 5.7: first bytes, and trailer. */
uint32_t kr_innodb_fold(const uint8_t *page, size_t size);
uint32_t kr_innodb_fold_trailer(const uint8_t *page);

/* The same two for a page of ROW_FORMAT=COMPRESSED, which has no trailer. */
uint32_t kr_innodb_zip_crc32(const uint8_t *page, size_t size);
uint32_t kr_innodb_zip_adler(const uint8_t *page, size_t size);

/* innodb_checksum_algorithm=none. */
#define KR_INNODB_NO_CHECKSUM 0xDEADBEEFU

#endif
