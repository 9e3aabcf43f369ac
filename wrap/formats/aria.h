/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Aria's files (server source: storage/maria/ma_open.c, ma_create.c, ma_crypt.c, ma_pagecrc.c,
 * ma_blockrec.h, ma_loghandler.c, ma_control_file.c).
 *
 * An index file begins with FE FE 09 | version, 1, most significant byte first; what stands in it
 * of encryption are its header's last 22 bytes: 01 | 20 | space, 4 | iv, 16. Pages of data and
 * index are encrypted with data key 1 (2 for temporary tables, if there is one), whose page key is
 * AES-ECB(data key, iv); iv of a page: space, 4 | number, 4 | LSN, 8. Least significant byte first.
 * The last 4 bytes of a page are the CRC-32 of its plaintext, begun with its number.
 *
 *   data, head and tail pages  0 LSN, 7 | 7 type, 1 | 8 | 12 key version, 4 | 16 encrypted ... |
 * CRC data, blob pages           0 LSN, 7 | 7 type, 1 | 8 key version, 4 | 12 encrypted ... | CRC
 *   index  LSN, 7 | transaction, 6, if any | key version, 4 | key, 1 | flag, 1 | bytes in use, 2 |
 *          encrypted ... | unused ... | CRC
 *
 * The bitmap pages of a data file are not encrypted. Aria's log never is.
 */
#ifndef P11K_FORMATS_ARIA_H
#define P11K_FORMATS_ARIA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KR_ARIA_BLOCK_MAX = 32768, KR_ARIA_IV_BYTES = 16 };

struct kr_aria_table {
    size_t block_size;
    size_t header_size; /* of the index file: where its pages begin */
    bool paged;         /* ROW_FORMAT=PAGE: else the data file has no pages */
    bool checksums;     /* PAGE_CHECKSUM=1 */
    bool transactional;
    bool temporary;
    bool encrypted;
    uint32_t space;
    uint8_t iv[KR_ARIA_IV_BYTES];
    bool closed; /* by a server: the two lengths are right */
    uint64_t index_length, data_length;
    uint64_t bitmap_every; /* each so many pages of the data file is a bitmap, beginning with 0 */
};

/* The first bytes of an index file. False for what is none, or is cut off within its header. */
bool kr_aria_table_parse(const uint8_t *head, size_t len, struct kr_aria_table *ret);

enum kr_aria_file { KR_ARIA_DATA, KR_ARIA_INDEX };

struct kr_aria_page {
    bool empty;       /* all zero */
    uint32_t version; /* of the key; 0: none */
    size_t version_at, crypt_at, crypt_len;
    size_t checked; /* bytes that the checksum covers */
};

/* `page` has block_size bytes; `number` counts from the beginning of the file, the index file's
 * header being its first. False when its length cannot be right. */
bool kr_aria_page_read(const struct kr_aria_table *table, enum kr_aria_file file, uint64_t number,
                       const uint8_t *page, struct kr_aria_page *ret);

void kr_aria_page_iv(const struct kr_aria_table *table, uint64_t number, const uint8_t *page,
                     uint8_t ret[KR_ARIA_IV_BYTES]);

enum kr_aria_page_fault { KR_ARIA_SOUND, KR_ARIA_UNCHECKED, KR_ARIA_BAD_CHECKSUM };

/* A page in the clear, whose key version was made 0. */
enum kr_aria_page_fault kr_aria_page_check(const struct kr_aria_table *table, uint64_t number,
                                           const uint8_t *page, const struct kr_aria_page *what);

/* --- log and control file --------------------------------------------------------------------- */

enum { KR_ARIA_LOG_PAGE = 8192, KR_ARIA_CONTROL_BYTES = 52 };

/* Page `number` of log file `file` (0 is its header): whether what it says of itself is so. Sets
 * *ret_checked when it has a checksum, too. */
bool kr_aria_log_page_sound(const uint8_t *page, uint64_t number, uint32_t file, bool *ret_checked);
/* The number of the log file, from its first page; 0: it is none. */
uint32_t kr_aria_log_file(const uint8_t *page);

/* Both checksums of aria_log_control. */
bool kr_aria_control_sound(const uint8_t *bytes, size_t len);

#endif
