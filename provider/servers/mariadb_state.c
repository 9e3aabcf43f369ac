/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Settings and tablespaces, as the server tells them. */
#include "mariadb_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pause_switch.h"

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
    enum kr_pause_state operations;

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
    KR_TRY(kr_server_value(conn,
                           "SELECT LOWER(GROUP_CONCAT(variable_name)) FROM "
                           "information_schema.system_variables WHERE global_value_origin = 'SQL' "
                           "AND variable_name IN ('innodb_encrypt_tables', 'aria_encrypt_tables', "
                           "'encrypt_tmp_disk_tables')",
                           settings.run_time, sizeof settings.run_time, err));
    KR_TRY(kr_switch_read(conn, &operations, err));
    settings.paused = operations == KR_PAUSE_WAS_OFF;
    *ret = settings;
    return KR_OK;
}

/* --- tablespaces ------------------------------------------------------------------------------ */

enum { ROOM_STEP = 64 };

static uint64_t number(const char *text)
{
    return text ? strtoull(text, NULL, 10) : 0;
}

static int by_number(const void *a, const void *b)
{
    const struct kr_mariadb_space *left = a, *right = b;

    return left->space < right->space ? -1 : left->space > right->space;
}

static struct kr_mariadb_space *find_space(struct kr_mariadb_state *state, const char *text)
{
    const struct kr_mariadb_space wanted = {.space = (uint32_t)number(text)};

    return state->space_count ? bsearch(&wanted, state->spaces, state->space_count,
                                        sizeof *state->spaces, by_number)
                              : NULL;
}

/* Rows come by number: space, name, pages. */
static enum kr_status take_space(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mariadb_state *state = context;

    if (state->space_count % ROOM_STEP == 0) {
        struct kr_mariadb_space *grown =
            realloc(state->spaces, (state->space_count + ROOM_STEP) * sizeof *grown);
        if (!grown)
            return kr_fail_memory(err);
        state->spaces = grown;
    }
    const struct kr_mariadb_space space = {
        .space = (uint32_t)number(columns[0]),
        .name = strdup(columns[1] ? columns[1] : ""),
        .pages = number(columns[2]),
    };
    if (!space.name)
        return kr_fail_memory(err);
    state->spaces[state->space_count++] = space;
    return KR_OK;
}

/* space, scheme, min and latest version, page, pages, key, moving */
static enum kr_status take_progress(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mariadb_space *space = find_space(context, columns[0]);

    (void)err;
    if (!space)
        return KR_OK;
    space->encrypted = number(columns[1]) != 0;
    space->min_version = (uint32_t)number(columns[2]);
    space->latest_version = (uint32_t)number(columns[3]);
    space->page = number(columns[4]);
    if (columns[5])
        space->pages = number(columns[5]);
    space->key_id = (uint32_t)number(columns[6]);
    space->moving = number(columns[7]) != 0;
    return KR_OK;
}

/* The tablespace of a table, or of a partition of it: "t/one", "t/one#P#p0". */
static bool belongs_to(const struct kr_mariadb_space *space, const char *table, size_t len)
{
    return strncmp(space->name, table, len) == 0 &&
           (space->name[len] == '\0' || strncmp(space->name + len, "#P#", 3) == 0);
}

/* name of its files, Y or N */
static enum kr_status take_option(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mariadb_state *state = context;
    size_t len = columns[0] ? strlen(columns[0]) : 0;

    (void)err;
    for (size_t i = 0; len > 0 && i < state->space_count; i++)
        if (belongs_to(&state->spaces[i], columns[0], len))
            state->spaces[i].option = *columns[1];
    return KR_OK;
}

static enum kr_status read_options(struct kr_server_conn *conn, struct kr_mariadb_state *state,
                                   struct kr_error *err)
{
    return kr_server_query(conn,
                           "SELECT " KR_MARIADB_FILE_NAME
                           ", IF(create_options LIKE '%`encrypted`=''yes''%', 'Y', 'N') "
                           "FROM information_schema.tables WHERE engine = 'InnoDB' "
                           "AND create_options LIKE '%`encrypted`=''%' "
                           "AND create_options NOT LIKE '%`encrypted`=''default''%'",
                           take_option, state, err);
}

/* A tablespace that never had a key is not in this table. */
enum kr_status kr_mariadb_read_progress(struct kr_server_conn *conn, struct kr_mariadb_state *state,
                                        struct kr_error *err)
{
    for (size_t i = 0; i < state->space_count; i++) {
        struct kr_mariadb_space *space = &state->spaces[i];
        space->encrypted = space->moving = false;
        space->min_version = 0;
    }
    return kr_server_query(
        conn,
        "SELECT space, encryption_scheme, min_key_version, current_key_version, "
        "key_rotation_page_number, key_rotation_max_page_number, current_key_id, "
        "rotating_or_flushing FROM information_schema.innodb_tablespaces_encryption",
        take_progress, state, err);
}

enum kr_status kr_mariadb_read_state(struct kr_server_conn *conn, struct kr_mariadb_state *state,
                                     struct kr_error *err)
{
    KR_TRY(kr_mariadb_read_settings(conn, &state->settings, err));
    kr_mariadb_spaces_free(state);
    /* Not the temporary tablespace: a variable says whether that is encrypted. */
    KR_TRY(kr_server_query(conn,
                           "SELECT space, name, file_size DIV page_size FROM "
                           "information_schema.innodb_sys_tablespaces WHERE page_size > 0 AND "
                           "name <> 'innodb_temporary' ORDER BY space",
                           take_space, state, err));
    KR_TRY(read_options(conn, state, err));
    return kr_mariadb_read_progress(conn, state, err);
}

bool kr_mariadb_is_behind(const struct kr_mariadb_space *space, enum kr_state_goal goal)
{
    bool encrypt = goal == KR_STATE_ENCRYPTED;

    if (space->option == (encrypt ? 'N' : 'Y'))
        return false;
    return space->moving ||
           (encrypt ? space->min_version == 0 : space->encrypted || space->min_version != 0);
}

void kr_mariadb_spaces_free(struct kr_mariadb_state *state)
{
    for (size_t i = 0; i < state->space_count; i++)
        free(state->spaces[i].name);
    free(state->spaces);
    state->spaces = NULL;
    state->space_count = 0;
}
