/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Encryption at rest of a running MySQL server, with whatever keyring it has: which files are
 * encrypted and under which master keys, what stays in the clear, and both rotations. The server
 * tells what is encrypted; under which key a file is, its header alone says.
 */
#ifndef P11K_SERVERS_MYSQL_STATE_H
#define P11K_SERVERS_MYSQL_STATE_H

#include "servers/connection.h"

enum { KR_MYSQL_PATH = 1024, KR_MYSQL_KEY_TEXT = 128 };

struct kr_mysql_settings {
    char uuid[64], datadir[KR_MYSQL_PATH], binlogs[KR_MYSQL_PATH], relay_logs[KR_MYSQL_PATH];
    bool operations; /* keyring_operations */
    bool redo, undo, log_bin, binlog, new_schemas;
    char keyring[64], keyring_status[32]; /* empty: none, or the account may not see it */
};

enum kr_mysql_sort {
    KR_MYSQL_TABLE,   /* a tablespace of one table or partition */
    KR_MYSQL_GENERAL, /* a named one, and the one of the data dictionary */
    KR_MYSQL_UNDO,
    KR_MYSQL_SYSTEM, /* which MySQL does not encrypt */
    KR_MYSQL_REDO,
    KR_MYSQL_BINLOG,
    KR_MYSQL_RELAY
};

struct kr_mysql_file {
    enum kr_mysql_sort sort;
    char *name, *path; /* path: as far as the server tells it; a full one */
    bool encrypted;
    bool unreadable;             /* the server cannot read it: a binary log of size 0 */
    char key[KR_MYSQL_KEY_TEXT]; /* that its header names; empty: not known, or none */
};

/* What is in the clear, and what to do about it. */
struct kr_mysql_left {
    const char *kind; /* table, tablespace, undo, redo, binlog, schema, engine; static */
    char *what;
    char *statement; /* that changes it; NULL: none does */
};

struct kr_mysql_state {
    struct kr_mysql_settings settings;
    struct kr_mysql_file *files;
    size_t file_count;
    /* The newest master keys that the keyring has for this server; empty: not known, or none. */
    char newest_innodb[KR_MYSQL_KEY_TEXT], newest_binlog[KR_MYSQL_KEY_TEXT];
    bool keys_hidden;       /* the account may not see the names of keys */
    bool binlog_unfinished; /* a rotation of the binary log's master key has not come to its end */
    struct kr_mysql_left *left;
    size_t left_count;
};

/* KR_USAGE for a MariaDB server, KR_CONFIG for one that is too old. */
KR_MUST_USE enum kr_status kr_mysql_require(struct kr_server_conn *conn, struct kr_error *err);

/* The privileges that looking takes. */
extern const char *const kr_mysql_look_privileges[];

/* *ret is empty before. */
KR_MUST_USE enum kr_status kr_mysql_read_state(struct kr_server_conn *conn,
                                               struct kr_mysql_state *ret, struct kr_error *err);

/* Adds one of the kinds that the server does not list; `name` and `path` are copied. */
KR_MUST_USE enum kr_status kr_mysql_add_file(struct kr_mysql_state *state, enum kr_mysql_sort sort,
                                             const char *name, const char *path, bool encrypted,
                                             struct kr_error *err);

/* Fills state->left. */
KR_MUST_USE enum kr_status kr_mysql_find_left(struct kr_server_conn *conn,
                                              struct kr_mysql_state *state, struct kr_error *err);

void kr_mysql_state_free(struct kr_mysql_state *state);
#define KR_MYSQL_STATE __attribute__((cleanup(kr_mysql_state_free))) struct kr_mysql_state

#endif
