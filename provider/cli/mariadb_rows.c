/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the commands on running MariaDB servers share. */
#include "mariadb_rows.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "formats/aria.h"

/* Gone with the machine's start, as what servers were told is. */
struct cli_state_folder cli_state_folder(void)
{
    const char *run = getenv("XDG_RUNTIME_DIR");
    struct cli_state_folder folder;

    if (geteuid() == 0)
        snprintf(folder.path, sizeof folder.path, "/run/p11keyring");
    else if (run && *run == '/')
        snprintf(folder.path, sizeof folder.path, "%s/p11keyring", run);
    else
        snprintf(folder.path, sizeof folder.path, "/var/tmp/p11keyring-%u", (unsigned)geteuid());
    return folder;
}

enum kr_status cli_connect_mariadb(struct cli *cli, const char *const *privileges, const char *what,
                                   struct kr_server_conn **ret, struct kr_error *err)
{
    KR_SERVER conn = NULL;

    KR_TRY(cli_connect(cli, &conn, err));
    KR_TRY(kr_mariadb_require(conn, err));
    KR_TRY(kr_server_require(conn, privileges, what, err));
    *ret = conn;
    conn = NULL;
    return KR_OK;
}

/* --- what is left ----------------------------------------------------------------------------- */

/* The header of its index file says it, where we can read that. */
static enum kr_aria_look look_at_aria(const char *path, void *context)
{
    char index[2048];
    uint8_t head[8192];
    struct kr_aria_table table;

    (void)context;
    snprintf(index, sizeof index, "%s.MAI", path);
    KR_FD int fd = open(index, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t got = fd < 0 ? -1 : kr_read_full(fd, head, sizeof head);
    if (got < 0 || !kr_aria_table_parse(head, (size_t)got, &table))
        return KR_ARIA_UNKNOWN;
    return table.encrypted ? KR_ARIA_ENCRYPTED : KR_ARIA_PLAIN;
}

static json_t *left_row(const struct kr_mariadb_left *left)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "kind", left->kind, "what", cli_text(left->what),
                     "statement", cli_text(left->statement), "option", cli_text(left->option));
}

enum kr_status cli_read_left(struct kr_server_conn *conn, struct kr_mariadb_state *state,
                             enum kr_state_goal goal, json_t **ret, struct kr_error *err)
{
    KR_TRY(kr_mariadb_find_left(conn, state, goal, look_at_aria, NULL, err));
    json_t *rows = json_array();
    for (size_t i = 0; i < state->left_count; i++)
        json_array_append_new(rows, left_row(&state->left[i]));
    if (json_array_size(rows) == state->left_count && rows) {
        *ret = rows;
        return KR_OK;
    }
    json_decref(rows);
    return kr_fail_memory(err);
}

void cli_print_left(const json_t *left)
{
    json_t *row;
    size_t i;

    json_array_foreach(left, i, row)
    {
        const char *statement = json_string_value(json_object_get(row, "statement"));
        const char *option = json_string_value(json_object_get(row, "option"));
        printf("%s\n", json_string_value(json_object_get(row, "what")));
        if (statement)
            printf("    SQL: %s;\n", statement);
        if (option)
            printf("    option file: %s%s\n", option, statement ? "" : " (and restart the server)");
    }
}
