/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The data keys that one of MariaDB's files needs, ready to decrypt with. The server does not use a
 * data key itself for pages: it encrypts the file's 16 random bytes with it, AES-ECB, and takes the
 * result. Functions but the first may be called from several threads at once.
 */
#ifndef P11K_FILES_MARIADB_KEYS_H
#define P11K_FILES_MARIADB_KEYS_H

#include "files/file.h"
#include "hwaccel/page_cipher.h"
#include "hwaccel/pages.h"

struct kr_mariadb_keys;

/* All keys of report->needs that the keyring has. `random` is of 16 bytes; NULL: the file is
 * encrypted with the data key itself. KR_NOT_FOUND when not one is there, and what else
 * kr_file_keys_mariadb() returns. */
KR_MUST_USE enum kr_status kr_mariadb_keys_new(const struct kr_file *file,
                                               const struct kr_file_report *report,
                                               const uint8_t *random, struct kr_mariadb_keys **ret,
                                               struct kr_error *err);
/* NULL is accepted. */
void kr_mariadb_keys_free(struct kr_mariadb_keys *keys);
void kr_mariadb_keys_cleanup(struct kr_mariadb_keys **keys);
#define KR_MARIADB_KEYS __attribute__((cleanup(kr_mariadb_keys_cleanup))) struct kr_mariadb_keys

/* Begins to encrypt (KR_PAGE_ENCRYPT) or decrypt. KR_NOT_FOUND: the keyring has no such version, or
 * none was known to be needed. */
KR_MUST_USE enum kr_status kr_mariadb_keys_begin(const struct kr_mariadb_keys *keys,
                                                 uint32_t version, int flags, const uint8_t iv[16],
                                                 struct kr_page_op **ret);

/* All at once; `dst` may be `src`. */
KR_MUST_USE enum kr_status kr_mariadb_keys_decrypt(const struct kr_mariadb_keys *keys,
                                                   uint32_t version, const uint8_t iv[16],
                                                   const uint8_t *src, uint8_t *dst, size_t len);

/* Encrypts many pages at once with one data key; for one thread at a time. */
KR_MUST_USE enum kr_status kr_mariadb_pages_new(const struct kr_data_key *data,
                                                const uint8_t *random, struct kr_pages **ret,
                                                struct kr_error *err);

#endif
