/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Pages of MariaDB's tablespaces (server source: fil/fil0crypt.cc, buf/buf0buf.cc, fil/
 * fil0pagecompress.cc, sql/encryption.cc). Each page names the version of the key that it is
 * encrypted with, and carries a checksum over what stands in the file, so that damage is seen
 * without the key.
 *
 *   full_crc32  0 key version, 4 | 4 number, 4 | 8 | 16 LSN, 8 | 24 type, 2 | 26 encrypted ...
 *               ... low half of the LSN again, 4 | checksum, 4
 *   older       0 checksum of the plaintext, 4 | 4 number, 4 | 8 | 16 LSN, 8 | 24 type, 2 |
 *               26 key version, 4 | 30 checksum of the ciphertext, 4 | 34 space, 4 |
 *               38 encrypted ... | checksum again, 4 | low half of the LSN again, 4
 *
 * The iv is space, 4 | number, 4 | LSN, 8, least significant byte first; the key is AES-ECB(data
 * key, iv of the tablespace), 16 bytes.
 *
 * Compressed pages: in full_crc32 bit 15 of the type says so and the rest of it how long the page
 * is, in units of 256 bytes. In the older format the type is 34354 or, encrypted, 37401; at 38 the
 * payload's length, 2 bytes, and when encrypted the way it was compressed, 2 more.
 *
 * The doublewrite buffer is the second and third extent of the system tablespace, where servers
 * put it when they make one.
 */
#ifndef P11K_FORMATS_MARIADB_PAGE_H
#define P11K_FORMATS_MARIADB_PAGE_H

#include "formats/mariadb_tablespace.h"

enum kr_mariadb_page_state {
    KR_MARIADB_PAGE_EMPTY, /* all zero: not used yet, or freed */
    KR_MARIADB_PAGE_PLAIN,
    KR_MARIADB_PAGE_ENCRYPTED,
    KR_MARIADB_PAGE_COPY /* in the doublewrite buffer: another page, of any tablespace */
};

/* What a page says of itself. */
struct kr_mariadb_page {
    enum kr_mariadb_page_state state;
    bool compressed;
    bool copy_encrypted; /* a copy of an encrypted page */
    bool never;          /* servers never encrypt it: it holds no data */
    bool spatial;        /* of a spatial index */
    uint32_t version;    /* of the key; 0: none */
    size_t length;       /* bytes in use, the checksum of full_crc32 among them */
    size_t crypt_at, crypt_len;
};

enum kr_mariadb_page_fault {
    KR_MARIADB_PAGE_SOUND,
    KR_MARIADB_PAGE_UNCHECKED, /* nothing in it says whether it is whole */
    KR_MARIADB_PAGE_BAD_CHECKSUM,
    KR_MARIADB_PAGE_WRONG_NUMBER, /* another page's contents */
    KR_MARIADB_PAGE_BAD_LENGTH,   /* of compressed data, or a way that no server has */
    KR_MARIADB_PAGE_NO_KEY_KNOWN, /* encrypted, and page 0 has no encryption data */
    KR_MARIADB_PAGE_BAD_PLAINTEXT /* decrypted, it is no page of this tablespace */
};

/* `page` has page_size bytes. False when what it says of its length cannot be right. */
bool kr_mariadb_page_read(const struct kr_mariadb_space *space, uint64_t number,
                          const uint8_t *page, struct kr_mariadb_page *ret);

/* A page as it is in the file, by its checksum; without any key. */
enum kr_mariadb_page_fault kr_mariadb_page_check(const struct kr_mariadb_space *space,
                                                 uint64_t number, const uint8_t *page,
                                                 const struct kr_mariadb_page *what);

/* Of an encrypted page. */
void kr_mariadb_page_iv(const struct kr_mariadb_space *space, const uint8_t *page,
                        uint8_t ret[KR_MARIADB_IV_BYTES]);

/* A page whose encrypted bytes were decrypted in place, before kr_mariadb_page_clear(); `room` is
 * of logical_size bytes, to decompress into. */
enum kr_mariadb_page_fault kr_mariadb_page_check_plain(const struct kr_mariadb_space *space,
                                                       const uint8_t *page,
                                                       const struct kr_mariadb_page *what,
                                                       uint8_t *room);

/* Turns a page that was decrypted in place into one that never was encrypted. */
void kr_mariadb_page_clear(const struct kr_mariadb_space *space, const struct kr_mariadb_page *what,
                           uint8_t *page);

/* After what is encrypted of a page was encrypted again, with another version of the key: says so
 * in the page, and makes the checksum of the ciphertext anew. */
void kr_mariadb_page_seal(const struct kr_mariadb_space *space, const struct kr_mariadb_page *what,
                          uint32_t version, uint8_t *page);

/* The checksum of a page in the clear that is not compressed, as servers write it now. */
void kr_mariadb_page_put_checksum(const struct kr_mariadb_space *space, uint8_t *page);

/* "checksum mismatch"; static. */
const char *kr_mariadb_page_fault_text(enum kr_mariadb_page_fault fault);

#endif
