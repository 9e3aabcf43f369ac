/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Page 0 of a MariaDB tablespace: sizes, flags, and the encryption data (server source:
 * include/fsp0types.h, fsp/fsp0fsp.cc, fil/fil0crypt.cc). Page 0 is never encrypted. Big-endian.
 *
 *   38 space, 4 | 42 | 46 size in pages, 4 | 50 | 54 flags, 4
 *   after the extent descriptors: "s" 0E 0C "REt" | scheme, 1 | 16 | iv, 16 |
 *   lowest key version in the file, 4 | key id, 4 | the table's wish, 1
 *
 * Flags of full_crc32, which bit 4 tells: 0..3 page size as 512 << n, 5..7 compression. Else: 1..4
 * size of ROW_FORMAT=COMPRESSED as 512 << n, 6..9 page size as 512 << n with 0 for 16K, 16
 * PAGE_COMPRESSED.
 */
#ifndef P11K_FORMATS_MARIADB_TABLESPACE_H
#define P11K_FORMATS_MARIADB_TABLESPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As many first bytes as make any page 0. */
enum { KR_MARIADB_PAGE_MAX = 65536, KR_MARIADB_IV_BYTES = 16 };

/* What the table's ENCRYPTED option says. */
enum kr_mariadb_wish {
    KR_MARIADB_AS_SERVER = 0, /* innodb_encrypt_tables decides */
    KR_MARIADB_ENCRYPTED_YES = 1,
    KR_MARIADB_ENCRYPTED_NO = 2
};

enum kr_mariadb_compression {
    KR_MARIADB_UNCOMPRESSED = 0,
    KR_MARIADB_ZLIB = 1,
    KR_MARIADB_LZ4 = 2,
    KR_MARIADB_LZO = 3,
    KR_MARIADB_LZMA = 4,
    KR_MARIADB_BZIP2 = 5,
    KR_MARIADB_SNAPPY = 6,
    KR_MARIADB_COMPRESSED_SOMEHOW = 8 /* each page says how */
};

struct kr_mariadb_space {
    uint32_t space_id;
    uint32_t flags;
    uint32_t pages; /* by its own account; the file may have more */
    bool full_crc32;
    size_t page_size;    /* of the pages in the file */
    size_t logical_size; /* of the pages in memory: more with ROW_FORMAT=COMPRESSED */
    bool zip;            /* ROW_FORMAT=COMPRESSED */
    enum kr_mariadb_compression compression; /* PAGE_COMPRESSED */
    bool temporary;  /* its pages are encrypted with a key that the server forgets when it ends */
    size_t crypt_at; /* offset of the encryption data in page 0 */
    bool has_crypt;  /* it is there: the tablespace is, was, or is to be encrypted */
    bool encrypting; /* scheme 1: pages are written encrypted */
    uint8_t iv[KR_MARIADB_IV_BYTES];
    uint32_t min_version; /* no page has an older one; 0: some may be in the clear */
    uint32_t key_id;
    enum kr_mariadb_wish wish;
};

/* `len` of the first bytes of a file. False for what is no page 0 of a tablespace of MariaDB; when
 * less than page 0 is there, too. */
bool kr_mariadb_space_parse(const uint8_t *head, size_t len, struct kr_mariadb_space *ret);

/* "zlib"; static. NULL for a number that no server knows. */
const char *kr_mariadb_compression_name(enum kr_mariadb_compression compression);

/* Pages of an extent. */
size_t kr_mariadb_extent_pages(const struct kr_mariadb_space *space);

/* Turns page 0 into that of a tablespace that never was encrypted; its checksum is made anew. */
void kr_mariadb_space_clear(const struct kr_mariadb_space *space, uint8_t *page);

/* Puts another iv, key and lowest version into page 0, those of `space`; its checksum is made
 * anew. */
void kr_mariadb_space_rekey(const struct kr_mariadb_space *space, uint8_t *page);

#endif
