/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * New master keys for a data directory of MySQL, in the configured keyring, by the names under
 * which its server looks for its own: INNODBKey-UUID-N, and MySQLReplicationKey_UUID_N with the
 * secret that says which N is the current one. UUID is the server's, from auto.cnf of the
 * directory.
 */
#ifndef P11K_BACKUP_MYSQL_MASTERS_H
#define P11K_BACKUP_MYSQL_MASTERS_H

#include "files/keys.h"
#include "files/mysql_sealed.h"

/* What is known of the files before keys are made. */
struct kr_mysql_masters {
    char uuid[KR_MYSQL_UUID_CHARS + 1];
    bool new_uuid;                      /* the directory had none */
    char innodb[KR_MYSQL_KEY_NAME_MAX]; /* empty: no file needs one */
    char binlog[KR_MYSQL_KEY_NAME_MAX];
    bool make_innodb, make_binlog; /* they are not in the keyring yet */
    uint32_t innodb_number, binlog_number;
    uint32_t left_number; /* of a key of the keyring, by which files are sealed already */
};

/* Whether a secret is one that a server makes for itself: a master key, or which one is in use. */
bool kr_mysql_masters_are(const char *id, const char *owner);

/* The UUID of the data directory's server, or a new one; with `dir` NULL as well. KR_INTEGRITY
 * (auto.cnf has none), KR_IO.
 */
KR_MUST_USE enum kr_status kr_mysql_masters_server(const char *dir, struct kr_mysql_masters *ret,
                                                   struct kr_error *err);

/* The highest number of this server's own keys that a file names. */
void kr_mysql_masters_see(struct kr_mysql_masters *masters, const struct kr_mysql_sealed *sealed);

/* The same of a file that only the keyring opens, since a restore was interrupted. */
void kr_mysql_masters_see_sealed(struct kr_mysql_masters *masters,
                                 const struct kr_mysql_sealed *sealed);

/* Chooses names above all numbers that were seen and that the keyring has; but goes on with a key
 * that an interrupted restore made, and with a binary log key that the keyring has as this server's
 * current one. */
KR_MUST_USE enum kr_status kr_mysql_masters_choose(struct kr_mysql_masters *masters,
                                                   struct kr_file_keys *keys, bool innodb,
                                                   bool binlog, struct kr_error *err);

/* Makes what is to be made: in the token with `resident`. */
KR_MUST_USE enum kr_status kr_mysql_masters_make(const struct kr_mysql_masters *masters,
                                                 struct kr_file_keys *keys, bool resident,
                                                 struct kr_error *err);

/* Writes the new UUID into the data directory, for the owner of the directory. */
KR_MUST_USE enum kr_status kr_mysql_masters_name_server(const struct kr_mysql_masters *masters,
                                                        const char *dir, struct kr_error *err);

#endif
