/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the files of MySQL's own keyrings have in common. Private to this library. */
#ifndef P11K_MIGRATE_MYSQL_FILES_H
#define P11K_MIGRATE_MYSQL_FILES_H

#include "formats/mysql_keyring.h"
#include "migrate/file_store.h"

enum { KR_MYSQL_FILE_BYTES_MAX = 16 * 1024 * 1024 - 1 }; /* one allocation of secret memory */

typedef const char *(*kr_mysql_file_reader)(const struct kr_file_text *text,
                                            kr_mysql_keyring_visitor visit, void *context);

/* Adds the keys of a file, which may be empty: a server makes it so. KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_mysql_file_parse(kr_mysql_file_reader read,
                                               const struct kr_file_text *text,
                                               struct kr_key_set *set, struct kr_error *err);

#endif
