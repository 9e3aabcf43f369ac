/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What can be done with each kind of file: a table with one row for each kind that the tool knows
 * more of than its name. A kind's functions live in one file, provider/files/SERVER_KIND.c.
 */
#ifndef P11K_FILES_KINDS_H
#define P11K_FILES_KINDS_H

#include "files/check.h"
#include "files/file.h"

struct kr_rekey_run;

struct kr_file_kind_ops {
    enum kr_file_kind kind;
    const char *unit; /* "page", "block", "event"; NULL: it has none */

    /* Fills the report (kind and size are set). A damaged file is no failure: as much as can be
     * told is, with `damaged` and a note. Fails when the file cannot be read. Uses no key. */
    enum kr_status (*inspect)(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err);

    /* Decrypts and checks each unit, after `inspect`, and says what it found to `check`: what was
     * not counted as checked there is taken as not read. Fails when nothing could be checked (no
     * key, no token, an error while reading). NULL: this kind cannot be verified. */
    enum kr_status (*verify)(struct kr_file *file, const struct kr_file_report *report,
                             struct kr_file_check *check, struct kr_error *err);

    /* Writes the same in the clear to `out`, from its beginning; a pipe when `streams`. A damaged
     * unit is a failure, KR_INTEGRITY. NULL: this kind cannot be decrypted. */
    enum kr_status (*decrypt)(struct kr_file *file, const struct kr_file_report *report, int out,
                              struct kr_error *err);
    bool streams; /* decrypt() writes from the beginning to the end, without seeking */

    /* Writes the same under the newest version of its key, or a new key of `run`, to `out`; with -1
     * it only says whether that is what it has: *ret_current, and that the key is here. NULL: this
     * kind cannot be given another key. */
    enum kr_status (*rekey)(struct kr_file *file, const struct kr_file_report *report,
                            struct kr_rekey_run *run, int out, bool *ret_current,
                            struct kr_error *err);
};

/* NULL: nothing more is known of this kind. */
const struct kr_file_kind_ops *kr_file_ops(enum kr_file_kind kind);

/* Our own: provider/files/keystore_copy.c. */
extern const struct kr_file_kind_ops kr_keystore_ops;

/* With little to tell: provider/files/plain_kinds.c. */
extern const struct kr_file_kind_ops kr_key_list_ops, kr_key_list_encrypted_ops,
    kr_mysql_doublewrite_ops, kr_table_definition_ops, kr_database_options_ops;

/* MariaDB's: provider/files/mariadb_*.c, aria.c */
extern const struct kr_file_kind_ops kr_mariadb_tablespace_ops, kr_mariadb_binlog_ops,
    kr_mariadb_redo_ops, kr_mariadb_delta_ops, kr_aria_data_ops, kr_aria_index_ops, kr_aria_log_ops,
    kr_aria_control_ops;

/* MySQL's: provider/files/mysql_*.c. */
extern const struct kr_file_kind_ops kr_mysql_tablespace_ops, kr_mysql_redo_ops,
    kr_mysql_binlog_ops, kr_mysql_binlog_encrypted_ops, kr_mysql_transfer_ops,
    kr_mysql_keyring_json_ops, kr_mysql_keyring_plugin_ops;

#endif
