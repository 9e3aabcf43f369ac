/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Encryption at rest of a running MariaDB server, with whatever encryption plugin it has: what is
 * encrypted, and what stays behind on the way to a server where everything is, or nothing.
 */
#ifndef P11K_SERVERS_MARIADB_STATE_H
#define P11K_SERVERS_MARIADB_STATE_H

#include <stdint.h>

#include "servers/connection.h"

enum kr_state_goal { KR_STATE_ENCRYPTED, KR_STATE_UNENCRYPTED };

/* The server's variables, and its plugin. */
struct kr_mariadb_settings {
    char plugin[64], plugin_version[32]; /* empty: no encryption plugin is active */
    bool paused;                         /* ours, by pkcs11_key_management_operations */
    char encrypt_tables[8];              /* ON, OFF, FORCE */
    bool encrypt_log, encrypt_temporary_tables, encrypt_tmp_files, encrypt_tmp_disk_tables;
    bool aria_encrypt_tables, encrypt_binlog, log_bin;
    unsigned threads, iops, rotate_key_age; /* innodb_encryption_... */
    char run_time[128]; /* of the variables those that a statement has set, in lower case */
    char datadir[1024];
};

/* One tablespace, as the server tells it. */
struct kr_mariadb_space {
    uint32_t space;
    char *name;                                   /* "t/one", in the file system's encoding */
    uint32_t key_id, min_version, latest_version; /* 0: it never had a key */
    bool encrypted;                               /* it is, or is on the way there */
    bool moving;                                  /* being encrypted, decrypted or re-encrypted */
    uint64_t pages, page;                         /* page: how far that is */
    char option; /* of its table: 'Y' for ENCRYPTED=YES, 'N' for NO; 0: as the server's variable */
};

/* What is not as the goal wants it, and what to do about it. */
struct kr_mariadb_left {
    const char *kind; /* tablespace, table, aria, engine, binlog, or setting; static */
    char *what;       /* "table `t`.`one` is ENCRYPTED=YES" */
    char *statement;  /* that changes it; NULL: none does */
    char *option;     /* to be written into the server's option file, before a restart; or NULL */
};

/* Whether a table of the Aria engine is encrypted: the server does not tell, its files do. */
enum kr_aria_look { KR_ARIA_UNKNOWN, KR_ARIA_PLAIN, KR_ARIA_ENCRYPTED };
/* `path` is that of the table's files, without their ".MAI". */
typedef enum kr_aria_look (*kr_aria_looker)(const char *path, void *context);

struct kr_mariadb_state {
    struct kr_mariadb_settings settings;
    struct kr_mariadb_space *spaces; /* by number */
    size_t space_count;
    struct kr_mariadb_left *left;
    size_t left_count;
};

/* In SQL, of information_schema.tables: the name of a table's files below the data directory. In it
 * '-' is @002d, and so on. */
#define KR_MARIADB_FILE_NAME                                                                       \
    "CONCAT(CAST(CONVERT(table_schema USING filename) AS BINARY), '/', "                           \
    "CAST(CONVERT(table_name USING filename) AS BINARY))"

/* KR_USAGE for a MySQL server, KR_CONFIG for one that is too old. */
KR_MUST_USE enum kr_status kr_mariadb_require(struct kr_server_conn *conn, struct kr_error *err);

/* The privileges that looking takes, and those that changing takes as well. */
extern const char *const kr_mariadb_look_privileges[];
extern const char *const kr_mariadb_change_privileges[];

KR_MUST_USE enum kr_status kr_mariadb_read_settings(struct kr_server_conn *conn,
                                                    struct kr_mariadb_settings *ret,
                                                    struct kr_error *err);

/* Settings and tablespaces, anew. */
KR_MUST_USE enum kr_status kr_mariadb_read_state(struct kr_server_conn *conn,
                                                 struct kr_mariadb_state *state,
                                                 struct kr_error *err);
/* Reads again how far the tablespaces are: those that were there when it was read as a whole last.
 */
KR_MUST_USE enum kr_status kr_mariadb_read_progress(struct kr_server_conn *conn,
                                                    struct kr_mariadb_state *state,
                                                    struct kr_error *err);

/* Whether a tablespace is not yet as the goal wants it, though the server is to bring it there: its
 * table has no option that says otherwise. */
bool kr_mariadb_is_behind(const struct kr_mariadb_space *space, enum kr_state_goal goal);

/* Fills state->left anew. `look` may be NULL: no file can be looked at. */
KR_MUST_USE enum kr_status kr_mariadb_find_left(struct kr_server_conn *conn,
                                                struct kr_mariadb_state *state,
                                                enum kr_state_goal goal, kr_aria_looker look,
                                                void *context, struct kr_error *err);

void kr_mariadb_spaces_free(struct kr_mariadb_state *state);
void kr_mariadb_state_free(struct kr_mariadb_state *state);
#define KR_MARIADB_STATE __attribute__((cleanup(kr_mariadb_state_free))) struct kr_mariadb_state

#endif
