/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Encrypted InnoDB pages of MySQL (server source: storage/innobase/os/os0enc.cc; docs/FORMAT.md): a
 * header of 38 bytes in the clear, in which the page's type is changed, and from there AES-256-CBC
 * under the key and the one iv of the tablespace. A last partial block stays as it is; then the
 * last 32 bytes are encrypted again. Of a compressed page only the compressed bytes are encrypted.
 *
 * Page 0 of a tablespace is never encrypted, which is the caller's to know. An engine is for one
 * thread at a time, and allocates nothing after it was made.
 */
#ifndef P11K_HWACCEL_MYSQL_PAGE_H
#define P11K_HWACCEL_MYSQL_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { KR_MYSQL_KEY_BYTES = 32, KR_MYSQL_IV_BYTES = 16, KR_MYSQL_PAGE_MAX = 64 * 1024 };

struct kr_mysql_pages;

/* Of the tablespace's iv the server has 32 bytes in the file and uses 16. KR_INTERNAL. */
KR_MUST_USE enum kr_status kr_mysql_pages_new(const uint8_t key[KR_MYSQL_KEY_BYTES],
                                              const uint8_t iv[KR_MYSQL_IV_BYTES],
                                              struct kr_mysql_pages **ret, struct kr_error *err);

/* By its type. */
bool kr_mysql_page_is_encrypted(const uint8_t *page);

/* How much of the page is there, header included: `page_size`, less for a compressed page,
 * encrypted or not; 0 when the header names a length that cannot be. */
size_t kr_mysql_page_length(const uint8_t *page, size_t page_size);

/* dst is src, or apart from every src and dst of the others. */
struct kr_mysql_page {
    const uint8_t *src;
    uint8_t *dst;
};

/* Whole pages of `page_size` bytes. A page that is not encrypted is copied by a decryption.
 * KR_USAGE (page size; to encrypt what is encrypted), KR_INTEGRITY (kr_mysql_page_length() is 0 for
 * a page, and what is in the dst is of no use), KR_INTERNAL. */
KR_MUST_USE enum kr_status kr_mysql_pages_encrypt(struct kr_mysql_pages *pages,
                                                  const struct kr_mysql_page *jobs, size_t count,
                                                  size_t page_size);
KR_MUST_USE enum kr_status kr_mysql_pages_decrypt(struct kr_mysql_pages *pages,
                                                  const struct kr_mysql_page *jobs, size_t count,
                                                  size_t page_size);

/* NULL is accepted. */
void kr_mysql_pages_free(struct kr_mysql_pages *pages);
void kr_mysql_pages_cleanup(struct kr_mysql_pages **pages);
#define KR_MYSQL_PAGES __attribute__((cleanup(kr_mysql_pages_cleanup)))

#endif
