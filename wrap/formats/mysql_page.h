/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Pages of MySQL's tablespaces: what state a page is in, and whether it is whole once it is in the
 * clear (server source: include/fil0types.h, buf/checksum.cc, page/zipdecompress.cc,
 * os/os0file.cc). The checksum of an encrypted page is that of its plaintext; hwaccel/mysql_page.h
 * decrypts it.
 *
 *   0 checksum, 4 | 4 number, 4 | 8 | 16 LSN, 8 | 24 type, 2 | 26 | 34 space, 4 | 38 data ...
 *   ... | checksum again, 4 | low half of the LSN again, 4
 *
 * With ROW_FORMAT=COMPRESSED there is no trailer. A page of COMPRESSION='zlib' or 'lz4' is its
 * first 38 bytes, of which 26..33 say how it was compressed, then the compressed rest, then zeros
 * (or, after a kill of the server, what was there before).
 */
#ifndef P11K_FORMATS_MYSQL_PAGE_H
#define P11K_FORMATS_MYSQL_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KR_MYSQL_PAGE_HEAD = 38, KR_MYSQL_COMPRESSED_MIN = KR_MYSQL_PAGE_HEAD + 32 };

enum kr_mysql_page_state {
    KR_MYSQL_PAGE_EMPTY, /* all zero: not used yet */
    KR_MYSQL_PAGE_PLAIN,
    KR_MYSQL_PAGE_COMPRESSED,
    KR_MYSQL_PAGE_ENCRYPTED,
    KR_MYSQL_PAGE_COMPRESSED_ENCRYPTED
};

/* Of a page as it is in the file. */
enum kr_mysql_page_state kr_mysql_page_state(const uint8_t *page, size_t size);

enum kr_mysql_page_fault {
    KR_MYSQL_PAGE_SOUND,
    KR_MYSQL_PAGE_UNCHECKED,    /* innodb_checksum_algorithm=none: nothing says that it is whole */
    KR_MYSQL_PAGE_BAD_CHECKSUM, /* or its two LSNs differ */
    KR_MYSQL_PAGE_WRONG_NUMBER, /* another page's, or another tablespace's, contents */
    KR_MYSQL_PAGE_BAD_LENGTH,   /* of compressed data */
    KR_MYSQL_PAGE_BAD_DATA,     /* which does not decompress */
    KR_MYSQL_PAGE_NOT_ZERO      /* bytes that the server leaves zero are not */
};

/* What a page is to be. */
struct kr_mysql_page_place {
    uint32_t space_id;
    uint64_t number;
    size_t size;   /* of the page in the file */
    bool zip;      /* ROW_FORMAT=COMPRESSED */
    uint8_t *room; /* `size` bytes to decompress into; used for compressed pages alone */
};

/* `page` is in the clear, compressed or not; `was_encrypted` says whether it was decrypted for
 * this. Empty pages are sound. */
enum kr_mysql_page_fault kr_mysql_page_check(const uint8_t *page, bool was_encrypted,
                                             const struct kr_mysql_page_place *place);

/* Of a compressed page that is sound: what is behind its contents becomes zero. */
void kr_mysql_page_clear_rest(uint8_t *page, size_t size);

/* "checksum mismatch"; static. */
const char *kr_mysql_page_fault_text(enum kr_mysql_page_fault fault);

/* The checksum that goes to the start (and the trailer) of a page, by CRC-32C. */
uint32_t kr_mysql_page_crc(const uint8_t *page, size_t size, bool zip);
void kr_mysql_page_put_crc(uint8_t *page, size_t size, bool zip);

#endif
