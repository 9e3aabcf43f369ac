/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Settings and tablespaces, as the server tells them. */
#include "mariadb_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one whose SHOW BINLOG EVENTS wants BINLOG MONITOR. */
enum { VERSION_MIN = 100502 };

const char *const kr_mariadb_look_privileges[] = {"PROCESS", "SELECT", "BINLOG MONITOR", NULL};
const char *const kr_mariadb_change_privileges[] = {"PROCESS", "SELECT", "BINLOG MONITOR", "SUPER",
                                                    NULL};

enum kr_status kr_mariadb_require(struct kr_server_conn *conn, struct kr_error *err)
{
    const struct kr_server_info *info = kr_server_info(conn);

    if (info->make != KR_SERVER_MARIADB) {
        kr_fail(err, KR_USAGE, "%s is no MariaDB server", info->name);
        kr_hint(err, "for MySQL: p11keyring mysql status");
        return err->status;
    }
    if (info->version < VERSION_MIN)
        return kr_fail(err, KR_CONFIG, "%s is older than 10.5.2", info->name);
    return KR_OK;
}

/* --- settings --------------------------------------------------------------------------------- */

static enum kr_status take_settings(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mariadb_settings *s = context;
    bool *const flags[] = {&s->encrypt_log,
                           &s->encrypt_temporary_tables,
                           &s->encrypt_tmp_files,
                           &s->encrypt_tmp_disk_tables,
                           &s->aria_encrypt_tables,
                           &s->encrypt_binlog,
                           &s->log_bin};
    unsigned *const numbers[] = {&s->threads, &s->iops, &s->rotate_key_age};

    (void)err;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++, columns++)
        *flags[i] = *columns && strcmp(*columns, "1") == 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++, columns++)
        *numbers[i] = *columns ? (unsigned)strtoul(*columns, NULL, 10) : 0;
    snprintf(s->encrypt_tables, sizeof s->encrypt_tables, "%s", columns[0] ? columns[0] : "");
    snprintf(s->datadir, sizeof s->datadir, "%s", columns[1] ? columns[1] : "");
    return KR_OK;
}

static enum kr_status take_plugin(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mariadb_settings *s = context;

    (void)err;
    snprintf(s->plugin, sizeof s->plugin, "%s", columns[0] ? columns[0] : "");
    snprintf(s->plugin_version, sizeof s->plugin_version, "%s", columns[1] ? columns[1] : "");
    return KR_OK;
}

enum kr_status kr_mariadb_read_settings(struct kr_server_conn *conn,
                                        struct kr_mariadb_settings *ret, struct kr_error *err)
{
    struct kr_mariadb_settings settings = {.plugin = ""};

    KR_TRY(kr_server_query(
        conn,
        "SELECT @@GLOBAL.innodb_encrypt_log, @@GLOBAL.innodb_encrypt_temporary_tables, "
        "@@GLOBAL.encrypt_tmp_files, @@GLOBAL.encrypt_tmp_disk_tables, "
        "@@GLOBAL.aria_encrypt_tables, @@GLOBAL.encrypt_binlog, @@GLOBAL.log_bin, "
        "@@GLOBAL.innodb_encryption_threads, @@GLOBAL.innodb_encryption_rotation_iops, "
        "@@GLOBAL.innodb_encryption_rotate_key_age, @@GLOBAL.innodb_encrypt_tables, "
        "@@GLOBAL.datadir",
        take_settings, &settings, err));
    KR_TRY(kr_server_query(conn,
                           "SELECT plugin_name, plugin_version FROM information_schema.plugins "
                           "WHERE plugin_type = 'ENCRYPTION' AND plugin_status = 'ACTIVE'",
                           take_plugin, &settings, err));
    *ret = settings;
    return KR_OK;
}

/* --- tablespaces ------------------------------------------------------------------------------ */

/* Rows come by number. */
struct reading {
    struct kr_mariadb_space *spaces;
    size_t count, room;
    const struct kr_mariadb_state *before; /* whose options are taken over */
};

void kr_mariadb_spaces_free(struct kr_mariadb_space *spaces, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(spaces[i].name);
    free(spaces);
}

static int by_number(const void *a, const void *b)
{
    const struct kr_mariadb_space *left = a, *right = b;

    return left->space < right->space ? -1 : left->space > right->space;
}

static struct kr_mariadb_space *find_space(struct kr_mariadb_space *spaces, size_t count,
                                           uint32_t number)
{
    const struct kr_mariadb_space wanted = {.space = number};

    return count ? bsearch(&wanted, spaces, count, sizeof *spaces, by_number) : NULL;
}

static uint64_t number(const char *text)
{
    return text ? strtoull(text, NULL, 10) : 0;
}

static enum kr_status take_space(const char *const *columns, void *context, struct kr_error *err)
{
    struct reading *reading = context;
    struct kr_mariadb_space *grown = reading->spaces;

    if (reading->count == reading->room) {
        reading->room = reading->room ? 2 * reading->room : 64;
        grown = realloc(grown, reading->room * sizeof *grown);
        if (!grown)
            return kr_fail_memory(err);
        reading->spaces = grown;
    }
    struct kr_mariadb_space space = {
        .space = (uint32_t)number(columns[0]),
        .name = strdup(columns[1] ? columns[1] : ""),
        .encrypted = number(columns[2]) != 0,
        .min_version = (uint32_t)number(columns[3]),
        .latest_version = (uint32_t)number(columns[4]),
        .page = number(columns[5]),
        .pages = number(columns[6]),
        .key_id = (uint32_t)number(columns[7]),
        .moving = number(columns[8]) != 0,
    };
    if (!space.name)
        return kr_fail_memory(err);
    const struct kr_mariadb_space *before =
        find_space(reading->before->spaces, reading->before->space_count, space.space);
    if (before) {
        space.option = before->option;
        if (space.pages == 0)
            space.pages = before->pages;
    }
    reading->spaces[reading->count++] = space;
    return KR_OK;
}

static enum kr_status take_size(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mariadb_state *state = context;
    struct kr_mariadb_space *space =
        find_space(state->spaces, state->space_count, (uint32_t)number(columns[0]));

    (void)err;
    if (space)
        space->pages = number(columns[1]);
    return KR_OK;
}

static enum kr_status take_option(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mariadb_state *state = context;
    struct kr_mariadb_space *space =
        find_space(state->spaces, state->space_count, (uint32_t)number(columns[0]));

    (void)err;
    if (space)
        space->option = *columns[1];
    return KR_OK;
}

/* Names of tablespaces are those of files: '-' is @002d, a partition is table#P#name. */
#define SPACE_PART(part)                                                                           \
    "BINARY CONVERT(CONVERT(CAST(" part " AS BINARY) USING filename) USING utf8)"

static enum kr_status read_options(struct kr_server_conn *conn, struct kr_mariadb_state *state,
                                   struct kr_error *err)
{
    for (size_t i = 0; i < state->space_count; i++)
        state->spaces[i].option = 0;
    KR_TRY(kr_server_query(
        conn,
        "SELECT s.space, IF(t.create_options LIKE '%`encrypted`=''yes''%', 'Y', 'N') "
        "FROM information_schema.tables t, information_schema.innodb_tablespaces_encryption s "
        "WHERE t.engine = 'InnoDB' AND t.create_options LIKE '%`encrypted`=''%' "
        "AND t.create_options NOT LIKE '%`encrypted`=''default''%' "
        "AND BINARY t.table_schema = " SPACE_PART(
            "SUBSTRING_INDEX(s.name, '/', 1)") " "
                                               "AND BINARY t.table_name = " SPACE_PART(
                                                   "SUBSTRING_INDEX(SUBSTRING_INDEX(s.name, '/', "
                                                   "-1), '#P#', 1)"),
        take_option, state, err));
    return kr_server_query(conn,
                           "SELECT space, file_size DIV page_size FROM "
                           "information_schema.innodb_sys_tablespaces WHERE page_size > 0",
                           take_size, state, err);
}

enum kr_status kr_mariadb_read_spaces(struct kr_server_conn *conn, bool options,
                                      struct kr_mariadb_state *state, struct kr_error *err)
{
    struct reading reading = {.before = state};
    enum kr_status status = kr_server_query(
        conn,
        "SELECT space, name, encryption_scheme, min_key_version, current_key_version, "
        "key_rotation_page_number, key_rotation_max_page_number, current_key_id, "
        "rotating_or_flushing FROM information_schema.innodb_tablespaces_encryption "
        "ORDER BY space",
        take_space, &reading, err);

    if (status != KR_OK) {
        kr_mariadb_spaces_free(reading.spaces, reading.count);
        return status;
    }
    kr_mariadb_spaces_free(state->spaces, state->space_count);
    state->spaces = reading.spaces;
    state->space_count = reading.count;
    return options ? read_options(conn, state, err) : KR_OK;
}

enum kr_status kr_mariadb_read_state(struct kr_server_conn *conn, struct kr_mariadb_state *ret,
                                     struct kr_error *err)
{
    KR_TRY(kr_mariadb_read_settings(conn, &ret->settings, err));
    return kr_mariadb_read_spaces(conn, true, ret, err);
}

bool kr_mariadb_is_behind(const struct kr_mariadb_space *space, enum kr_state_goal goal)
{
    bool encrypt = goal == KR_STATE_ENCRYPTED;

    if (space->option == (encrypt ? 'N' : 'Y'))
        return false;
    return space->moving ||
           (encrypt ? space->min_version == 0 : space->encrypted || space->min_version != 0);
}
