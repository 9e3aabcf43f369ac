/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* performance_schema.keyring_keys and keyring_component_status. */
#include "component.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider/handle_route.h"

/* --- what both iterators have ----------------------------------------------------------------- */

struct cursor {
    size_t count, at;
};

/* Both kinds of iterator begin with their cursor. */
static int is_valid(mysql_handle iterator)
{
    const struct cursor *cursor = iterator;
    return cursor && cursor->at < cursor->count;
}

static int next(mysql_handle iterator)
{
    struct cursor *cursor = iterator;
    if (!is_valid(cursor))
        return 1;
    cursor->at++;
    return 0;
}

/* --- keyring_keys_metadata_iterator ----------------------------------------------------------- */

struct keys {
    struct cursor cursor;
    struct kr_secret_name *names;
};

static int keys_deinit(mysql_handle iterator)
{
    struct keys *keys = iterator;
    if (keys)
        kr_secret_names_free(keys->names, keys->cursor.count);
    free(keys);
    return 0;
}

static enum kr_status read_names(struct keys *keys, struct kr_error *err)
{
    struct component_keyring use;
    KR_TRY(component_begin(&use, err));
    enum kr_status status = kr_secrets_names(use.secrets, &keys->names, &keys->cursor.count, err);
    component_end();
    return status;
}

static int keys_init(mysql_handle *ret)
{
    struct kr_error err = KR_ERROR_INIT;
    struct keys *keys = calloc(1, sizeof(*keys));
    *ret = NULL;
    if (!keys)
        return 1;
    if (read_names(keys, &err) != KR_OK) {
        keys_deinit(keys);
        return component_failed(&err);
    }
    *ret = keys;
    return 0;
}

/* Without NULs: the server makes room for them itself. */
static int keys_get_length(mysql_handle iterator, size_t *ret_data_id_len, size_t *ret_auth_id_len)
{
    const struct keys *keys = iterator;
    if (!is_valid(iterator) || !ret_data_id_len || !ret_auth_id_len)
        return 1;
    *ret_data_id_len = strlen(keys->names[keys->cursor.at].id);
    *ret_auth_id_len = strlen(keys->names[keys->cursor.at].owner);
    return 0;
}

static bool copy_text(const char *text, char *ret, size_t room)
{
    size_t size = strlen(text) + 1;
    if (!ret || room < size)
        return false;
    memcpy(ret, text, size);
    return true;
}

static int keys_get(mysql_handle iterator, char *data_id, size_t data_id_room, char *auth_id,
                    size_t auth_id_room)
{
    const struct keys *keys = iterator;
    if (!is_valid(iterator))
        return 1;
    const struct kr_secret_name *name = &keys->names[keys->cursor.at];
    return copy_text(name->id, data_id, data_id_room) &&
                   copy_text(name->owner, auth_id, auth_id_room)
               ? 0
               : 1;
}

struct mysql_keyring_keys_iterator component_keys = {
    .init = keys_init,
    .deinit = keys_deinit,
    .is_valid = is_valid,
    .next = next,
    .get_length = keys_get_length,
    .get = keys_get,
};

/* --- keyring_component_status ----------------------------------------------------------------- */

static int is_initialized(void)
{
    return component_is_loaded();
}

struct mysql_keyring_status component_status = {.is_initialized = is_initialized};

/* --- keyring_component_metadata_query --------------------------------------------------------- */

enum { ROWS_MAX = 24, VALUE_MAX = 1024 }; /* as much as the server's table shows */

struct row {
    const char *key; /* static */
    char value[VALUE_MAX];
};

struct rows {
    struct cursor cursor;
    struct row row[ROWS_MAX];
};

KR_PRINTF(3, 4)
static void add(struct rows *rows, const char *key, const char *fmt, ...)
{
    struct row *row = &rows->row[rows->cursor.count++];
    va_list args;
    row->key = key;
    va_start(args, fmt);
    vsnprintf(row->value, sizeof(row->value), fmt, args);
    va_end(args);
}

static const char *mode_of(const struct kr_config *config)
{
    if (component_token_mode(config))
        return "token";
    return strcmp(config->mysql.master_keys, "token") == 0
               ? "wrapped (this server version has not been verified)"
               : "wrapped";
}

static void add_keyring(struct rows *rows, const struct component_keyring *use)
{
    struct kr_error why = KR_ERROR_INIT;
    struct kr_keyring_stats stats;
    struct kr_secret_counts counts;
    char tokens[KR_TOKEN_STATES_TEXT], imported[VALUE_MAX];
    kr_keyring_get_stats(use->keyring, &stats);
    kr_secrets_count(use->secrets, &counts);
    add(rows, "Mode", "%s", mode_of(use->config));
    add(rows, "Configuration", "%s", use->config->path ? use->config->path : "");
    add(rows, "Module", "%s", use->config->tokens[0].module);
    add(rows, "Token", "%s", use->config->tokens[0].uri);
    add(rows, "Token_state", "%s", stats.token_up ? "up" : "down");
    kr_keyring_token_states(use->keyring, tokens);
    add(rows, "Token_states", "%s", tokens);
    add(rows, "Token_operations", "%llu", (unsigned long long)stats.token.resident_operations);
    add(rows, "Token_sessions", "%llu", (unsigned long long)stats.token.sessions);
    add(rows, "Token_evictions", "%llu", (unsigned long long)stats.token.evictions);
    add(rows, "Audit_lost", "%llu", (unsigned long long)stats.audit.lost);
    add(rows, "Start_cache", "%s", stats.from_start_cache ? "served" : "not served");
    add(rows, "Keyring", "%s", use->config->keyring.name);
    add(rows, "Keystore", "%s", use->config->keyring.keystore);
    add(rows, "Keys", "%zu", counts.wrapped + counts.resident);
    add(rows, "Token_resident_keys", "%zu", counts.resident);
    kr_secrets_imported(use->secrets, imported, sizeof(imported));
    add(rows, "Imported_keys", "%s", *imported ? imported : "none");
    bool active = kr_handle_route_check(&why) == KR_OK;
    add(rows, "OpenSSL_provider", "%s", active ? "active" : why.text);
}

static void fill(struct rows *rows)
{
    char error[VALUE_MAX];
    struct kr_error err = KR_ERROR_INIT;
    struct component_keyring use;
    bool active = component_begin(&use, &err) == KR_OK;
    add(rows, "Component_name", COMPONENT_NAME);
    add(rows, "Author", "p11keyring");
    add(rows, "License", "GPL");
    add(rows, "Implementation_name", COMPONENT_NAME);
    add(rows, "Version", P11K_VERSION);
    add(rows, "Component_status", "%s", active ? "Active" : "Disabled");
    if (active) {
        add_keyring(rows, &use);
        component_end();
    }
    component_last_error(error, sizeof(error));
    add(rows, "Last_error", "%s", error[0] ? error : "none");
}

static int rows_init(mysql_handle *ret)
{
    struct rows *rows = calloc(1, sizeof(*rows));
    *ret = rows;
    if (!rows)
        return 1;
    fill(rows);
    return 0;
}

static int rows_deinit(mysql_handle iterator)
{
    free(iterator);
    return 0;
}

/* With NULs, unlike the keys' lengths. */
static int rows_get_length(mysql_handle iterator, size_t *ret_key_size, size_t *ret_value_size)
{
    const struct rows *rows = iterator;
    if (!is_valid(iterator) || !ret_key_size || !ret_value_size)
        return 1;
    *ret_key_size = strlen(rows->row[rows->cursor.at].key) + 1;
    *ret_value_size = strlen(rows->row[rows->cursor.at].value) + 1;
    return 0;
}

static int rows_get(mysql_handle iterator, char *key, size_t key_room, char *value,
                    size_t value_room)
{
    const struct rows *rows = iterator;
    if (!is_valid(iterator))
        return 1;
    const struct row *row = &rows->row[rows->cursor.at];
    return copy_text(row->key, key, key_room) && copy_text(row->value, value, value_room) ? 0 : 1;
}

struct mysql_keyring_metadata_query component_metadata = {
    .init = rows_init,
    .deinit = rows_deinit,
    .is_valid = is_valid,
    .next = next,
    .get_length = rows_get_length,
    .get = rows_get,
};
