/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* mariadb status: what a running MariaDB server has encrypted, and under which keys. */
#include <string.h>

#include "mariadb_rows.h"
#include "servers/mariadb_change.h"

static json_t *settings_json(const struct kr_mariadb_settings *s)
{
    return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:i, s:i, s:i}", "innodb_encrypt_tables",
                     s->encrypt_tables, "innodb_encrypt_log", s->encrypt_log,
                     "innodb_encrypt_temporary_tables", s->encrypt_temporary_tables,
                     "aria_encrypt_tables", s->aria_encrypt_tables, "encrypt_tmp_disk_tables",
                     s->encrypt_tmp_disk_tables, "encrypt_tmp_files", s->encrypt_tmp_files,
                     "encrypt_binlog", s->encrypt_binlog, "innodb_encryption_threads",
                     (int)s->threads, "innodb_encryption_rotation_iops", (int)s->iops,
                     "innodb_encryption_rotate_key_age", (int)s->rotate_key_age);
}

/* Each key with the tablespaces under it: {key, version, tablespaces, oldest}. */
static void count_key(json_t *keys, const struct kr_mariadb_space *space)
{
    json_t *row;
    size_t i;

    json_array_foreach(keys, i, row)
    {
        if (json_integer_value(json_object_get(row, "key")) != space->key_id)
            continue;
        json_int_t count = json_integer_value(json_object_get(row, "tablespaces"));
        json_object_set_new(row, "tablespaces", json_integer(count + 1));
        if (json_integer_value(json_object_get(row, "oldest")) > space->min_version)
            json_object_set_new(row, "oldest", json_integer(space->min_version));
        return;
    }
    json_array_append_new(keys,
                          json_pack("{s:I, s:I, s:i, s:I}", "key", (json_int_t)space->key_id,
                                    "version", (json_int_t)space->latest_version, "tablespaces", 1,
                                    "oldest", (json_int_t)space->min_version));
}

static json_t *spaces_json(const struct kr_mariadb_state *state, json_t *keys)
{
    json_int_t pages = 0;
    int encrypted = 0, moving = 0;

    for (size_t i = 0; i < state->space_count; i++) {
        const struct kr_mariadb_space *space = &state->spaces[i];
        pages += (json_int_t)space->pages;
        encrypted += space->encrypted && space->min_version > 0;
        moving += space->moving;
        if (space->encrypted)
            count_key(keys, space);
    }
    return json_pack("{s:i, s:i, s:i, s:I}", "total", (int)state->space_count, "encrypted",
                     encrypted, "moving", moving, "pages", pages);
}

static const char *state_name(const struct kr_mariadb_state *state, bool left_to_encrypt,
                              bool left_to_decrypt)
{
    bool on = strcmp(state->settings.encrypt_tables, "OFF") != 0;
    enum kr_state_goal goal = on ? KR_STATE_ENCRYPTED : KR_STATE_UNENCRYPTED;

    if (!left_to_encrypt)
        return "encrypted";
    if (!left_to_decrypt)
        return "unencrypted";
    for (size_t i = 0; i < state->space_count; i++)
        if (kr_mariadb_is_behind(&state->spaces[i], goal))
            return on ? "encrypting" : "decrypting";
    return "partly encrypted";
}

/* --- raised variables ------------------------------------------------------------------------- */

static enum kr_status add_raised(struct cli *cli, struct kr_server_conn *conn, json_t *result,
                                 struct kr_error *err)
{
    struct kr_raised raised;
    char holder[32], statements[256] = "";
    json_t *rows = json_array();

    json_object_set_new(result, "raised", rows);
    KR_TRY(kr_server_value(conn, "SELECT IS_USED_LOCK('" KR_MARIADB_LOCK "')", holder,
                           sizeof holder, err));
    json_object_set_new(result, "at_work", json_boolean(*holder));
    KR_TRY(kr_raised_read(conn, cli_state_folder().path, &raised, err));
    if (!raised.found)
        return KR_OK;
    for (size_t i = 0; i < KR_RAISED_COUNT; i++) {
        if (!raised.of[i].set)
            continue;
        json_array_append_new(rows, json_pack("{s:s, s:i, s:i}", "variable", kr_raised_names[i],
                                              "before", (int)raised.of[i].before, "raised",
                                              (int)raised.of[i].raised));
        size_t used = strlen(statements);
        snprintf(statements + used, sizeof statements - used, "%sSET GLOBAL %s = %u",
                 used ? "; " : "", kr_raised_names[i], raised.of[i].before);
    }
    if (*holder)
        return KR_OK;
    cli_warn(cli, "a p11keyring that was killed left variables of this server raised");
    cli_hint("run the same command again, which puts them back, or: %s", statements);
    return KR_OK;
}

/* --- the whole -------------------------------------------------------------------------------- */

static enum kr_status read_all(struct cli *cli, struct kr_server_conn *conn, json_t *result,
                               struct kr_error *err)
{
    KR_MARIADB_STATE state = {.left = NULL};
    CLI_JSON keys = json_array();
    CLI_JSON to_encrypt = NULL;
    CLI_JSON to_decrypt = NULL;

    KR_TRY(kr_mariadb_read_state(conn, &state, err));
    KR_TRY(cli_read_left(conn, &state, KR_STATE_ENCRYPTED, &to_encrypt, err));
    KR_TRY(cli_read_left(conn, &state, KR_STATE_UNENCRYPTED, &to_decrypt, err));
    const char *name =
        state_name(&state, json_array_size(to_encrypt) > 0, json_array_size(to_decrypt) > 0);
    char plugin[sizeof state.settings.plugin + sizeof state.settings.plugin_version + 1];
    snprintf(plugin, sizeof plugin, "%s %s", state.settings.plugin, state.settings.plugin_version);
    CLI_JSON all = json_pack(
        "{s:o, s:o, s:b, s:s, s:o, s:o, s:O, s:O, s:O}", "server",
        cli_text(kr_server_info(conn)->name), "plugin",
        cli_text(*state.settings.plugin ? plugin : NULL), "paused", state.settings.paused, "state",
        name, "tablespaces", spaces_json(&state, keys), "settings", settings_json(&state.settings),
        "keys", keys, "left_to_encrypt", to_encrypt, "left_to_decrypt", to_decrypt);
    if (!all || json_object_update(result, all) != 0)
        return kr_fail_memory(err);
    if (state.settings.paused)
        cli_warn_paused(cli, "pkcs11_key_management_operations");
    return add_raised(cli, conn, result, err);
}

static void print_counts(const json_t *result)
{
    const json_t *spaces = json_object_get(result, "tablespaces");
    const json_t *settings = json_object_get(result, "settings");
    json_int_t total = json_integer_value(json_object_get(spaces, "total"));
    json_int_t encrypted = json_integer_value(json_object_get(spaces, "encrypted"));

    printf("%-21s %lld encrypted, %lld in the clear, %lld being worked on\n", "tablespaces",
           (long long)encrypted, (long long)(total - encrypted),
           (long long)json_integer_value(json_object_get(spaces, "moving")));
    json_int_t age =
        json_integer_value(json_object_get(settings, "innodb_encryption_rotate_key_age"));
    printf(
        "%-21s %lld at %lld pages a second, key age %lld%s\n", "background threads",
        (long long)json_integer_value(json_object_get(settings, "innodb_encryption_threads")),
        (long long)json_integer_value(json_object_get(settings, "innodb_encryption_rotation_iops")),
        (long long)age, age == 0 ? ": only mariadb rotate carries out new key versions" : "");
}

static enum kr_status print_text(const json_t *result, struct kr_error *err)
{
    static const struct cli_column fields[] = {
        {"server", "server"}, {"plugin", "plugin"}, {"state", "state"}, {NULL, NULL}};
    static const struct cli_column columns[] = {{"KEY", "key"},
                                                {"VERSION", "version"},
                                                {"TABLESPACES", "tablespaces"},
                                                {"OLDEST IN USE", "oldest"},
                                                {NULL, NULL}};
    const char *tables = json_string_value(
        json_object_get(json_object_get(result, "settings"), "innodb_encrypt_tables"));
    bool on = strcmp(tables, "OFF") != 0;
    const json_t *keys = json_object_get(result, "keys");
    const json_t *left = json_object_get(result, on ? "left_to_encrypt" : "left_to_decrypt");

    cli_print_fields(result, fields);
    print_counts(result);
    if (json_array_size(keys) > 0) {
        putchar('\n');
        KR_TRY(cli_print_table(keys, columns, err));
    }
    if (json_array_size(left) > 0)
        printf("\nNot %s, and what to do about it:\n\n", on ? "encrypted" : "decrypted");
    cli_print_left(left);
    return KR_OK;
}

enum kr_status cli_run_mariadb_status(struct cli *cli, struct kr_error *err)
{
    KR_SERVER conn = NULL;
    CLI_JSON result = json_object();

    KR_TRY(cli_connect_mariadb(cli, kr_mariadb_look_privileges, "to see what is encrypted", &conn,
                               err));
    KR_TRY(read_all(cli, conn, result, err));
    return cli_print_json(cli, result) ? KR_OK : print_text(result, err);
}
