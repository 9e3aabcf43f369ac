/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What a file is, told by its first bytes and, where those say nothing, by its name. A new kind is
 * one value here, one row in file_kind.c and one row in provider/files/kinds.c.
 */
#ifndef P11K_FORMATS_FILE_KIND_H
#define P11K_FORMATS_FILE_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kr_file_kind {
    KR_FILE_UNKNOWN,
    KR_FILE_EMPTY,
    KR_FILE_KEYSTORE,             /* our own */
    KR_FILE_KEY_LIST,             /* file_key_management: lines of `id;hexkey` */
    KR_FILE_KEY_LIST_ENCRYPTED,   /* the same, by openssl enc: "Salted__" */
    KR_FILE_MYSQL_KEYRING_JSON,   /* component_keyring_file */
    KR_FILE_MYSQL_KEYRING_PLUGIN, /* keyring_file */
    KR_FILE_MYSQL_DOUBLEWRITE,    /* #ib_16384_0.dblwr */
    KR_FILE_MYSQL_TABLESPACE,     /* general, system, undo and temporary ones, too */
    KR_FILE_MYSQL_REDO,           /* #ib_redoN, ib_logfileN */
    KR_FILE_MYSQL_BINLOG,         /* in the clear; relay logs, too */
    KR_FILE_MYSQL_BINLOG_ENCRYPTED,
    KR_FILE_MYSQL_TRANSFER, /* .cfp */
    KR_FILE_MARIADB_TABLESPACE,
    KR_FILE_MARIADB_DELTA,    /* .delta: pages of a tablespace in an incremental backup */
    KR_FILE_MARIADB_REDO,     /* ib_logfile0 */
    KR_FILE_MARIADB_BINLOG,   /* in the clear or with a Start_encryption event */
    KR_FILE_ARIA_DATA,        /* .MAD */
    KR_FILE_ARIA_INDEX,       /* .MAI */
    KR_FILE_ARIA_LOG,         /* aria_log.00000001 */
    KR_FILE_ARIA_CONTROL,     /* aria_log_control */
    KR_FILE_TABLE_DEFINITION, /* .frm: of a table or a view, in the clear */
    KR_FILE_DATABASE_OPTIONS, /* db.opt, in the clear */
    KR_FILE_KINDS
};

/* Whether files of this kind hold nothing that is ever encrypted or carries a checksum. */
bool kr_file_kind_is_bare(enum kr_file_kind kind);

/* As many of a file's first bytes as kr_file_kind_of() looks at. */
enum { KR_FILE_HEAD_BYTES = 65536 };

/* `len` of the first bytes of a file of `size` bytes; `name` is its last path component. Any bytes
 * are accepted. */
enum kr_file_kind kr_file_kind_of(const uint8_t *head, size_t len, uint64_t size, const char *name);

/* "MySQL tablespace"; static. */
const char *kr_file_kind_name(enum kr_file_kind kind);
/* "mysql-tablespace", for machines; static. */
const char *kr_file_kind_tag(enum kr_file_kind kind);
/* "MySQL", "MariaDB", "p11keyring", or NULL; static. */
const char *kr_file_kind_server(enum kr_file_kind kind);

#endif
