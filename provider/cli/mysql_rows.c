/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the commands on running MySQL servers share: its state, with the keys of its files. */
#include "mysql_rows.h"

#include <fcntl.h>
#include <glob.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "files/header_key.h"

void cli_mysql_cleanup(struct cli_mysql *mysql)
{
    kr_mysql_state_free(&mysql->state);
}

enum kr_status cli_connect_mysql(struct cli *cli, struct kr_server_conn **ret, struct kr_error *err)
{
    KR_SERVER conn = NULL;

    KR_TRY(cli_connect(cli, &conn, err));
    KR_TRY(kr_mysql_require(conn, err));
    KR_TRY(kr_server_require(conn, kr_mysql_look_privileges, "to see what is encrypted", err));
    *ret = conn;
    conn = NULL;
    return KR_OK;
}

/* The server's UUID stands in auto.cnf: a path alone may be another server's, or another host's. */
static bool is_local(const struct kr_mysql_settings *settings)
{
    char path[KR_MYSQL_PATH + 16], text[512] = "";

    snprintf(path, sizeof path, "%sauto.cnf", settings->datadir);
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t got = fd < 0 ? -1 : kr_read_full(fd, text, sizeof text - 1);
    return got > 0 && *settings->uuid && strstr(text, settings->uuid);
}

/* The server lists its relay logs nowhere. */
static enum kr_status add_relay_logs(struct kr_mysql_state *state, struct kr_error *err)
{
    char pattern[KR_MYSQL_PATH + 64];
    glob_t found = {0};
    enum kr_status status = KR_OK;

    snprintf(pattern, sizeof pattern, "%s*.[0-9][0-9][0-9][0-9][0-9][0-9]",
             state->settings.relay_logs);
    if (!*state->settings.relay_logs || glob(pattern, 0, NULL, &found) != 0)
        return KR_OK;
    for (size_t i = 0; i < found.gl_pathc && status == KR_OK; i++) {
        const char *slash = strrchr(found.gl_pathv[i], '/');
        status = kr_mysql_add_file(state, KR_MYSQL_RELAY, slash ? slash + 1 : found.gl_pathv[i],
                                   found.gl_pathv[i], false, err);
    }
    globfree(&found);
    return status;
}

static void read_header(struct kr_mysql_file *file)
{
    char key[KR_MYSQL_BINLOG_NAME_MAX] = "";
    struct kr_error ignored = KR_ERROR_INIT;

    if (kr_file_header_key(file->path, key, &ignored) != KR_OK)
        *key = '\0';
    snprintf(file->key, sizeof file->key, "%.*s", (int)sizeof file->key - 1, key);
    if (file->sort == KR_MYSQL_RELAY)
        file->encrypted = *key != '\0';
}

void cli_read_mysql_headers(struct cli_mysql *mysql)
{
    for (size_t i = 0; mysql->local && i < mysql->state.file_count; i++)
        read_header(&mysql->state.files[i]);
}

enum kr_status cli_read_mysql(struct kr_server_conn *conn, struct cli_mysql *ret,
                              struct kr_error *err)
{
    KR_TRY(kr_mysql_read_state(conn, &ret->state, err));
    ret->local = is_local(&ret->state.settings);
    if (ret->local)
        KR_TRY(add_relay_logs(&ret->state, err));
    cli_read_mysql_headers(ret);
    return kr_mysql_find_left(conn, &ret->state, err);
}

bool cli_mysql_is_innodb(const struct kr_mysql_file *file)
{
    return file->encrypted && (file->sort == KR_MYSQL_TABLE || file->sort == KR_MYSQL_GENERAL ||
                               file->sort == KR_MYSQL_UNDO);
}

bool cli_mysql_is_binlog(const struct kr_mysql_file *file)
{
    return file->encrypted && (file->sort == KR_MYSQL_BINLOG || file->sort == KR_MYSQL_RELAY);
}
