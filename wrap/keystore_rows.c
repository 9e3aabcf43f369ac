/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The rows of a keystore: data keys and their versions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wrap/envelope.h"
#include "wrap/keystore_internal.h"

enum { NAME_MAX_BYTES = 512 };

/* --- data keys ----------------------------------------------------------------------------- */

static enum kr_status check_name(const char *ns, const char *id, const char *owner,
                                 struct kr_error *err)
{
    if (strlen(ns) > 0 && strlen(id) > 0 && strlen(ns) <= NAME_MAX_BYTES &&
        strlen(id) <= NAME_MAX_BYTES && strlen(owner) <= NAME_MAX_BYTES)
        return KR_OK;
    return kr_fail(err, KR_USAGE, "a key's namespace and id have 1 to %d bytes, its owner 0 to %d",
                   NAME_MAX_BYTES, NAME_MAX_BYTES);
}

static enum kr_status fail_no_key(const char *ns, const char *id, struct kr_error *err)
{
    kr_fail(err, KR_NOT_FOUND, "there is no %s key %s", ns, id);
    kr_hint(err, "`p11keyring key list` shows the keys; `p11keyring key create` makes one");
    return KR_NOT_FOUND;
}

struct key_state {
    bool exists, disabled;
    int64_t high_water;
};

static enum kr_status read_state(const struct kr_keystore *keystore, const char *ns, const char *id,
                                 const char *owner, struct key_state *ret, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err,
                          "SELECT disabled, high_water FROM keys "
                          "WHERE namespace = ? AND id = ? AND owner = ?",
                          "sss", ns, id, owner));
    bool row = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    struct key_state state = {.exists = row};
    int64_t disabled = 0;
    if (row && (!kr_sql_number(statement, 0, 0, 1, &disabled) ||
                !kr_sql_number(statement, 1, 1, KR_KEY_VERSION_MAX, &state.high_water)))
        return kr_sql_damaged(&keystore->sql, "a key's row makes no sense", err);
    state.disabled = disabled == 1;
    *ret = state;
    return KR_OK;
}

static enum kr_status raise_high_water(struct kr_keystore *keystore, const char *ns, const char *id,
                                       const char *owner, int64_t version, struct kr_error *err)
{
    return kr_sql_run(&keystore->sql, NULL, err,
                      "INSERT INTO keys "
                      "(namespace, id, owner, disabled, high_water, last_stored, created) "
                      "VALUES (?, ?, ?, 0, ?, 0, ?) "
                      "ON CONFLICT DO UPDATE SET high_water = excluded.high_water",
                      "sssii", ns, id, owner, version, (int64_t)time(NULL));
}

static enum kr_status fail_disabled(const char *ns, const char *id, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "%s key %s is disabled: it gets no new versions", ns, id);
    kr_hint(err, "enable it again with `p11keyring key enable %s`", id);
    return KR_REFUSED;
}

enum kr_status kr_keystore_next_version(struct kr_keystore *keystore, const char *ns,
                                        const char *id, const char *owner, uint32_t step,
                                        uint32_t *ret, struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    KR_TRY(check_name(ns, id, owner, err));
    struct key_state state;
    KR_TRY(read_state(keystore, ns, id, owner, &state, err));
    if (state.disabled)
        return fail_disabled(ns, id, err);
    int64_t version = state.exists ? state.high_water + step : 1;
    if (step == 0 || version > KR_KEY_VERSION_MAX)
        return kr_fail(err, KR_USAGE, "%s key %s has no version number %lld: they end at %u", ns,
                       id, (long long)version, KR_KEY_VERSION_MAX);
    KR_TRY(raise_high_water(keystore, ns, id, owner, version, err));
    *ret = (uint32_t)version;
    return KR_OK;
}

/* Numbers are used in rising order and once: `last_stored` says how far, also when the versions
 * themselves are gone. */
static enum kr_status use_number(struct kr_keystore *keystore, const struct kr_version_row *row,
                                 struct kr_error *err)
{
    int changes = 0;
    KR_TRY(kr_sql_run(&keystore->sql, &changes, err,
                      "UPDATE keys SET last_stored = ?4 WHERE namespace = ?1 AND id = ?2 AND "
                      "owner = ?3 AND last_stored < ?4 AND high_water >= ?4",
                      "sssi", row->ns, row->id, row->owner, (int64_t)row->version));
    if (changes == 1)
        return KR_OK;
    return kr_fail(err, KR_REFUSED,
                   "version %u of %s key %s was used before, or was never given out", row->version,
                   row->ns, row->id);
}

enum kr_status kr_keystore_add_version(struct kr_keystore *keystore,
                                       const struct kr_version_row *row, struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    if (row->envelope_len == 0 || row->envelope_len > KR_ENVELOPE_MAX)
        return kr_fail(err, KR_USAGE, "an envelope of %zu bytes cannot be", row->envelope_len);
    KR_TRY(use_number(keystore, row, err));
    return kr_sql_run(&keystore->sql, NULL, err,
                      "INSERT INTO versions "
                      "(namespace, id, owner, version, cipher, created, bundled, envelope) "
                      "VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
                      "sssisib", row->ns, row->id, row->owner, (int64_t)row->version, row->cipher,
                      row->created, row->envelope, row->envelope_len);
}

enum kr_status kr_keystore_replace_envelope(struct kr_keystore *keystore,
                                            const struct kr_version_row *row, const uint8_t *old,
                                            size_t old_len, struct kr_error *err)
{
    int changes = 0;
    KR_TRY(kr_keystore_need_write(keystore, err));
    if (row->envelope_len == 0 || row->envelope_len > KR_ENVELOPE_MAX)
        return kr_fail(err, KR_USAGE, "an envelope of %zu bytes cannot be", row->envelope_len);
    KR_TRY(kr_sql_run(&keystore->sql, &changes, err,
                      "UPDATE versions SET envelope = ? WHERE namespace = ? AND id = ? AND "
                      "owner = ? AND version = ? AND envelope = ?",
                      "bsssib", row->envelope, row->envelope_len, row->ns, row->id, row->owner,
                      (int64_t)row->version, old, old_len));
    if (changes == 1)
        return KR_OK;
    return kr_fail(err, KR_NOT_FOUND, "version %u of %s key %s is gone, or was wrapped anew",
                   row->version, row->ns, row->id);
}

enum kr_status kr_keystore_destroy_key(struct kr_keystore *keystore, const char *ns, const char *id,
                                       const char *owner, struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    struct key_state state;
    KR_TRY(read_state(keystore, ns, id, owner, &state, err));
    if (!state.exists)
        return fail_no_key(ns, id, err);
    return kr_sql_run(&keystore->sql, NULL, err,
                      "DELETE FROM versions WHERE namespace = ? AND id = ? AND owner = ?", "sss",
                      ns, id, owner);
}

enum kr_status kr_keystore_remove_version(struct kr_keystore *keystore, const char *ns,
                                          const char *id, const char *owner, uint32_t version,
                                          struct kr_error *err)
{
    int changes = 0;
    KR_TRY(kr_keystore_need_write(keystore, err));
    KR_TRY(kr_sql_run(&keystore->sql, &changes, err,
                      "DELETE FROM versions WHERE namespace = ? AND id = ? AND owner = ? AND "
                      "version = ?",
                      "sssi", ns, id, owner, (int64_t)version));
    if (changes == 1)
        return KR_OK;
    return kr_fail(err, KR_NOT_FOUND, "key %s has no version %u", id, version);
}

enum kr_status kr_keystore_set_bundled(struct kr_keystore *keystore, const char *ns, const char *id,
                                       const char *owner, uint32_t version, int64_t when,
                                       struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    return kr_sql_run(&keystore->sql, NULL, err,
                      "UPDATE versions SET bundled = ?1 WHERE namespace = ?2 AND id = ?3 AND "
                      "owner = ?4 AND (version = ?5 OR ?5 = 0)",
                      "isssi", when, ns, id, owner, (int64_t)version);
}

enum kr_status kr_keystore_set_disabled(struct kr_keystore *keystore, const char *ns,
                                        const char *id, const char *owner, bool disabled,
                                        struct kr_error *err)
{
    int changes = 0;
    KR_TRY(kr_keystore_need_write(keystore, err));
    KR_TRY(kr_sql_run(&keystore->sql, &changes, err,
                      "UPDATE keys SET disabled = ? WHERE namespace = ? AND id = ? AND owner = ?",
                      "isss", (int64_t)disabled, ns, id, owner));
    return changes == 1 ? KR_OK : fail_no_key(ns, id, err);
}

/* --- walking ------------------------------------------------------------------------------- */

static enum kr_status read_key(const struct kr_keystore *keystore, sqlite3_stmt *statement,
                               struct kr_key_row *ret, struct kr_error *err)
{
    int64_t disabled = 0, high_water = 0;
    ret->ns = kr_sql_text(statement, 0);
    ret->id = kr_sql_text(statement, 1);
    ret->owner = kr_sql_text(statement, 2);
    if (!ret->ns || !ret->id || !ret->owner || !kr_sql_number(statement, 3, 0, 1, &disabled) ||
        !kr_sql_number(statement, 4, 1, KR_KEY_VERSION_MAX, &high_water) ||
        !kr_sql_number(statement, 5, INT64_MIN, INT64_MAX, &ret->created))
        return kr_sql_damaged(&keystore->sql, "a key's row makes no sense", err);
    ret->disabled = disabled == 1;
    ret->high_water = (uint32_t)high_water;
    return KR_OK;
}

/* Ids of digits first, by length and then by value; they have no leading zeros. */
static const char KEYS_QUERY[] =
    "SELECT namespace, id, owner, disabled, high_water, created FROM keys "
    "WHERE ?1 IS NULL OR namespace = ?1 ORDER BY namespace, id GLOB '*[^0-9]*', "
    "CASE id GLOB '*[^0-9]*' WHEN 0 THEN length(id) END, id, owner";

enum kr_status kr_keystore_each_key(struct kr_keystore *keystore, const char *ns,
                                    kr_key_visitor visit, void *context, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err, KEYS_QUERY, "s", ns));
    bool more = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &more, err));
    while (more) {
        struct kr_key_row row;
        KR_TRY(read_key(keystore, statement, &row, err));
        KR_TRY(visit(&row, context, err));
        KR_TRY(kr_sql_step(&keystore->sql, statement, &more, err));
    }
    return KR_OK;
}

/* Versions are read key by key, so that nothing but the list of keys is sorted in memory. */
struct version_walk {
    struct kr_keystore *keystore;
    sqlite3_stmt *statement;
    kr_version_visitor visit;
    void *context;
};

static enum kr_status read_version(const struct kr_keystore *keystore, sqlite3_stmt *statement,
                                   const struct kr_key_row *key, struct kr_version_row *ret,
                                   struct kr_error *err)
{
    int64_t version = 0;
    *ret = (struct kr_version_row){
        .ns = key->ns, .id = key->id, .owner = key->owner, .key_disabled = key->disabled};
    ret->cipher = kr_sql_text(statement, 1);
    ret->envelope = kr_sql_blob(statement, 3, 1, KR_ENVELOPE_MAX, &ret->envelope_len);
    if (!ret->cipher || !ret->envelope ||
        !kr_sql_number(statement, 0, 1, key->high_water, &version) ||
        !kr_sql_number(statement, 2, INT64_MIN, INT64_MAX, &ret->created) ||
        !kr_sql_number(statement, 4, 0, INT64_MAX, &ret->bundled))
        return kr_sql_damaged(&keystore->sql, "a key version's row makes no sense", err);
    ret->version = (uint32_t)version;
    return KR_OK;
}

static enum kr_status visit_versions(const struct kr_key_row *key, void *context,
                                     struct kr_error *err)
{
    const struct version_walk *walk = context;
    const struct kr_sql *sql = &walk->keystore->sql;
    KR_TRY(kr_sql_rebind(sql, walk->statement, err, "sss", key->ns, key->id, key->owner));
    bool more = false;
    KR_TRY(kr_sql_step(sql, walk->statement, &more, err));
    while (more) {
        struct kr_version_row row;
        KR_TRY(read_version(walk->keystore, walk->statement, key, &row, err));
        KR_TRY(walk->visit(&row, walk->context, err));
        KR_TRY(kr_sql_step(sql, walk->statement, &more, err));
    }
    return KR_OK;
}

enum kr_status kr_keystore_each_version(struct kr_keystore *keystore, const char *ns,
                                        kr_version_visitor visit, void *context,
                                        struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err,
                          "SELECT version, cipher, created, envelope, bundled FROM versions "
                          "WHERE namespace = ? AND id = ? AND owner = ? ORDER BY version",
                          ""));
    struct version_walk walk = {keystore, statement, visit, context};
    return kr_keystore_each_key(keystore, ns, visit_versions, &walk, err);
}

static enum kr_status read_newest(const struct kr_keystore *keystore, sqlite3_stmt *statement,
                                  struct kr_version_row *ret, struct kr_error *err)
{
    int64_t disabled = 0;
    const struct kr_key_row key = {.ns = kr_sql_text(statement, 5),
                                   .id = kr_sql_text(statement, 6),
                                   .owner = kr_sql_text(statement, 7),
                                   .high_water = KR_KEY_VERSION_MAX};
    if (!key.ns || !key.id || !key.owner || !kr_sql_number(statement, 8, 0, 1, &disabled))
        return kr_sql_damaged(&keystore->sql, "a key version's row makes no sense", err);
    KR_TRY(read_version(keystore, statement, &key, ret, err));
    ret->key_disabled = disabled == 1;
    return KR_OK;
}

enum kr_status kr_keystore_each_newest(struct kr_keystore *keystore, kr_version_visitor visit,
                                       void *context, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(
        kr_sql_prepare(&keystore->sql, &statement, err,
                       "SELECT version, cipher, versions.created, envelope, bundled, namespace, "
                       "id, owner, disabled FROM versions JOIN keys USING (namespace, id, owner) "
                       "ORDER BY versions.created DESC, version DESC, namespace, id, owner",
                       ""));
    bool more = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &more, err));
    while (more) {
        struct kr_version_row row;
        KR_TRY(read_newest(keystore, statement, &row, err));
        KR_TRY(visit(&row, context, err));
        KR_TRY(kr_sql_step(&keystore->sql, statement, &more, err));
    }
    return KR_OK;
}
