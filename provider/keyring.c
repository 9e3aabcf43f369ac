/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keyring core: opening, lookups, and following what other processes change. */
#include "provider/rows.h"

#include "base/clock.h"
#include "base/log.h"
#include "hwaccel/page_key.h"
#include "pkcs11/pin_guard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- small pieces ----------------------------------------------------------------------------- */

struct kr_envelope_context kr_keyring_context(const struct kr_keyring *keyring, const char *ns,
                                              const char *id, const char *owner, uint32_t version,
                                              const char *cipher)
{
    return (struct kr_envelope_context){
        .keyring = keyring->name,
        .uuid = kr_keystore_uuid(keyring->keystore),
        .ns = ns,
        .id = id,
        .owner = owner,
        .version = version,
        .cipher = cipher,
    };
}

struct kr_envelope_context kr_manifest_context(const char *keyring, const uint8_t *uuid)
{
    return (struct kr_envelope_context){
        .keyring = keyring,
        .uuid = uuid,
        .ns = KR_NS_MANIFEST,
        .id = "key",
        .owner = "",
        .version = 1,
        .cipher = "hmac-sha256",
    };
}

struct kr_keystore_options kr_config_keystore(const struct kr_config *config, bool writable)
{
    return (struct kr_keystore_options){
        .path = config->keyring.keystore,
        .keyring = config->keyring.name,
        .writable = writable,
        .lock_timeout_ms = config->keyring.lock_timeout_ms,
    };
}

enum kr_status kr_config_mechanism(const struct kr_config *config, enum kr_wrap_mechanism *ret,
                                   struct kr_error *err)
{
    const char *name = config->pkcs11.mechanism ? config->pkcs11.mechanism : "auto";
    if (kr_wrap_mechanism_parse(name, ret))
        return KR_OK;
    kr_fail(err, KR_CONFIG, "unknown wrapping mechanism '%s'", name);
    kr_hint(err, "[pkcs11] mechanism is auto, aes-gcm, aes-kwp or rsa-oaep");
    return err->status;
}

char *kr_keyring_guard_path(const struct kr_config *config)
{
    char *path;
    return asprintf(&path, "%s" KR_GUARD_SUFFIX, config->keyring.keystore) < 0 ? NULL : path;
}

enum kr_status kr_keyring_lock(struct kr_keyring *keyring, struct kr_error *err)
{
    if (kr_turn_take(&keyring->turn, keyring->wait_ms))
        return KR_OK;
    kr_fail(err, KR_TOKEN_UNAVAILABLE,
            "another operation on the keyring has not finished within %u ms", keyring->wait_ms);
    kr_hint(err, "the token may be hanging: p11keyring doctor");
    return err->status;
}

void kr_keyring_unlock(struct kr_keyring *keyring)
{
    kr_turn_give(&keyring->turn);
}

/* --- master keys ------------------------------------------------------------------------------ */

bool kr_keyring_knows_masters(const struct kr_keyring *keyring, const struct kr_master_row *rows,
                              size_t count)
{
    const struct kr_master_row *known = keyring->master_rows;
    if (!known || count != keyring->master_count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!kr_object_id_equal(&rows[i].id, &known[i].id) || rows[i].state != known[i].state ||
            strcmp(rows[i].token, known[i].token) != 0)
            return false;
    return true;
}

enum { RETRY_MASTERS_MS = 1000 };

static bool is_retry_due(const struct kr_keyring *keyring)
{
    return keyring->masters.doubtful && kr_now_ms() >= keyring->masters_retry;
}

void kr_keyring_doubt_masters(struct kr_keyring *keyring)
{
    keyring->masters.doubtful = true;
    keyring->masters_retry = kr_now_ms() + RETRY_MASTERS_MS;
    keyring->masters_version++;
}

/* What is the same stays as it was: wraps that are under way count on it. */
static void replace_masters(struct kr_keyring *keyring, struct kr_masters *masters)
{
    const size_t bytes = masters->count * sizeof(*masters->keys);
    keyring->masters_retry = kr_now_ms() + RETRY_MASTERS_MS;
    if (keyring->masters.count != masters->count || !keyring->masters.keys ||
        memcmp(keyring->masters.keys, masters->keys, bytes) != 0)
        keyring->masters_version++;
    free(keyring->masters.keys);
    keyring->masters = *masters;
}

enum kr_status kr_keyring_take_masters(struct kr_keyring *keyring, const struct kr_master_row *rows,
                                       size_t count, struct kr_error *err)
{
    struct kr_masters masters;
    if (kr_keyring_knows_masters(keyring, rows, count) && !is_retry_due(keyring))
        return KR_OK;
    struct kr_master_row *copy = calloc(count + 1, sizeof(*copy));
    if (!copy)
        return kr_fail_memory(err);
    enum kr_status status = kr_masters_match(rows, count, &keyring->tokens, &masters, err);
    if (status != KR_OK) {
        free(copy);
        return status;
    }
    memcpy(copy, rows, count * sizeof(*copy));
    free(keyring->master_rows);
    keyring->master_rows = copy;
    keyring->master_count = count;
    replace_masters(keyring, &masters);
    return KR_OK;
}

enum kr_status kr_keyring_load_masters(struct kr_keyring *keyring, struct kr_keystore *keystore,
                                       struct kr_error *err)
{
    struct kr_master_row *rows = NULL;
    size_t count = 0;
    KR_TRY(kr_keystore_list_masters(keystore, &rows, &count, err));
    enum kr_status status = kr_keyring_take_masters(keyring, rows, count, err);
    free(rows);
    return status;
}

/* --- rows into keys --------------------------------------------------------------------------- */

static bool parse_id(const char *text, uint32_t *ret)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end || value == 0 || value > UINT32_MAX)
        return false;
    *ret = (uint32_t)value;
    return true;
}

/* A row that cannot be read is wanted too: opening it says what is wrong. */
static bool is_new(const struct kr_version_row *row, void *context)
{
    uint32_t id;
    return !parse_id(row->id, &id) || !kr_keytable_find(context, id, row->version);
}

static enum kr_status parse_row(const struct kr_row *row, struct kr_data_key *ret,
                                struct kr_error *err)
{
    ret->version = row->version;
    if (parse_id(row->id, &ret->id) && kr_cipher_parse(row->cipher, &ret->cipher))
        return KR_OK;
    kr_fail(err, KR_INTEGRITY, "key '%s' version %u has an unknown form (cipher '%s')", row->id,
            row->version, row->cipher);
    kr_hint(err, "the keystore was written by a newer p11keyring, or is damaged");
    return err->status;
}

static enum kr_status take_key(const struct kr_row *row, const uint8_t *payload, size_t len,
                               void *context, struct kr_error *err)
{
    struct kr_keyring *keyring = context;
    KR_SECRET struct kr_data_key *key = kr_secret_alloc(sizeof(*key));
    if (!key)
        return kr_fail_memory(err);
    KR_TRY(parse_row(row, key, err));
    if (!kr_cipher_takes(key->cipher, len))
        return kr_fail(err, KR_INTEGRITY, "key %s version %u has %zu bytes for cipher %s", row->id,
                       row->version, len, row->cipher);
    key->len = (uint8_t)len;
    memcpy(key->bytes, payload, len);
    if (!kr_keytable_add(keyring->table, key))
        return kr_fail_memory(err);
    key = NULL; /* the table's now */
    return KR_OK;
}

static enum kr_status load_new(struct kr_keyring *keyring, struct kr_error *err)
{
    struct kr_row *rows = NULL;
    KR_TRY(kr_rows_read(keyring, KR_NS_MARIADB, is_new, keyring->table, &rows, err));
    enum kr_status status = kr_rows_open(keyring, rows, take_key, keyring, err);
    kr_rows_free(rows);
    return status;
}

enum kr_status kr_keyring_refresh_locked(struct kr_keyring *keyring, struct kr_error *err)
{
    uint64_t change;
    KR_TRY(kr_keystore_change_counter(keyring->keystore, &change, err));
    if (change == keyring->seen_change && !is_retry_due(keyring))
        return KR_OK;
    KR_TRY(load_new(keyring, err));
    keyring->seen_change = change;
    keyring->refreshes++;
    return KR_OK;
}

static enum kr_status refresh(struct kr_keyring *keyring, struct kr_error *err)
{
    struct kr_audit_event event = {.name = "keyring-refresh"};
    KR_TRY(kr_keyring_lock(keyring, err));
    uint32_t before = kr_keytable_versions(keyring->table);
    enum kr_status status = kr_keyring_refresh_locked(keyring, err);
    event.keys = kr_keytable_versions(keyring->table) - before;
    if (status != KR_OK)
        keyring->refresh_errors++;
    kr_keyring_unlock(keyring);
    if (status != KR_OK || event.keys > 0)
        kr_audit_end(keyring->audit, &event, status == KR_OK ? NULL : err);
    return status;
}

enum kr_status kr_keyring_refresh(struct kr_keyring *keyring, struct kr_error *err)
{
    if (!kr_gate_enter(&keyring->gate))
        return KR_OK;
    enum kr_status status = refresh(keyring, err);
    kr_gate_leave(&keyring->gate);
    return status;
}

enum kr_status kr_keyring_pause(struct kr_keyring *keyring, unsigned wait_ms, struct kr_error *err)
{
    if (kr_gate_shut(&keyring->gate, wait_ms))
        return KR_OK;
    kr_fail(err, KR_TOKEN_UNAVAILABLE,
            "the keyring is not paused: what is under way has not finished within %u ms", wait_ms);
    kr_hint(err, "try again; if that does not help, the token may be hanging: p11keyring doctor");
    return err->status;
}

void kr_keyring_resume(struct kr_keyring *keyring)
{
    kr_gate_open(&keyring->gate);
}

bool kr_keyring_is_paused(struct kr_keyring *keyring)
{
    return kr_gate_is_shut(&keyring->gate);
}

/* --- open and close --------------------------------------------------------------------------- */

/* The keystore's manifest key; later opens of the same keystore by this process reuse it. */
static enum kr_status open_manifest(struct kr_keyring *keyring, struct kr_error *err)
{
    uint8_t *blob = NULL;
    size_t blob_len = 0, len = 0;
    if (keyring->manifest_key) /* from a try that failed later */
        return KR_OK;
    KR_TRY(kr_keystore_get_manifest_envelope(keyring->keystore, &blob, &blob_len, err));
    struct kr_envelope_context context =
        kr_manifest_context(keyring->name, kr_keystore_uuid(keyring->keystore));
    enum kr_status status =
        kr_outage_open(keyring, &context, blob, blob_len, &keyring->manifest_key, &len, err);
    free(blob);
    if (status != KR_OK) {
        kr_error_context(err, "manifest key of %s", kr_keystore_path(keyring->keystore));
        return status;
    }
    if (len != KR_MANIFEST_KEY_BYTES)
        return kr_fail(err, KR_INTEGRITY, "manifest key has %zu bytes", len);
    return kr_keystore_set_manifest_key(keyring->keystore, keyring->manifest_key, err);
}

/* The anchors first: whoever commits meanwhile makes the file newer than them, never older. */
enum kr_status kr_keyring_check_generation(struct kr_keyring *keyring, struct kr_error *err)
{
    KR_TRY(kr_anchors_read(&keyring->anchors, err));
    KR_TRY(kr_keystore_verify(keyring->keystore, err));
    KR_TRY(kr_anchors_check(&keyring->anchors, keyring->keystore, err));
    kr_anchors_raise(&keyring->anchors, keyring->keystore);
    return KR_OK;
}

static enum kr_status connect_all(struct kr_keyring *keyring, const struct kr_config *config,
                                  struct kr_error *err)
{
    struct kr_keystore_options options = kr_config_keystore(config, false);
    KR_TRY(kr_keystore_open(&options, &keyring->keystore, err));
    KR_TRY(kr_config_mechanism(config, &keyring->mechanism, err));
    KR_TRY(kr_tokens_new(config, keyring->audit, &keyring->tokens, err));
    kr_anchors_init(&keyring->anchors, &keyring->tokens, keyring->name);
    KR_TRY(kr_tokens_login(&keyring->tokens, err));
    KR_TRY(kr_keyring_load_masters(keyring, keyring->keystore, err));
    return open_manifest(keyring, err);
}

static enum kr_status load_all(struct kr_keyring *keyring, struct kr_error *err)
{
    KR_TRY(kr_keyring_check_generation(keyring, err));
    KR_TRY(kr_keyring_prove_masters(keyring, keyring->keystore, err));
    KR_TRY(kr_keystore_change_counter(keyring->keystore, &keyring->seen_change, err));
    return load_new(keyring, err);
}

/* The start cache gives what the tokens would have opened, for the keystore as it verifies. */
static enum kr_status load_without_tokens(struct kr_keyring *keyring, struct kr_error *err)
{
    KR_TRY(kr_outage_begin(keyring, err));
    KR_TRY(kr_keyring_load_masters(keyring, keyring->keystore, err));
    KR_TRY(open_manifest(keyring, err));
    KR_TRY(kr_keystore_verify(keyring->keystore, err));
    KR_TRY(kr_outage_check(keyring, err));
    KR_TRY(kr_keystore_change_counter(keyring->keystore, &keyring->seen_change, err));
    return load_new(keyring, err);
}

static struct kr_keyring *new_keyring(const struct kr_config *config)
{
    struct kr_keyring *keyring = calloc(1, sizeof(*keyring));
    if (!keyring)
        return NULL;
    kr_turn_init(&keyring->turn);
    kr_gate_init(&keyring->gate);
    keyring->name = strdup(config->keyring.name);
    keyring->keystore_path = strdup(config->keyring.keystore);
    keyring->table = kr_keytable_new();
    keyring->lock_timeout_ms = config->keyring.lock_timeout_ms;
    keyring->wait_ms = config->keyring.lock_timeout_ms + config->pkcs11.timeout_ms;
    keyring->poll_ms = config->keyring.poll_ms;
    keyring->rotation_step = config->mariadb.rotation_step;
    keyring->export_forbidden = config->keyring.export_forbidden;
    keyring->sessions = config->pkcs11.sessions;
    if (keyring->name && keyring->keystore_path && keyring->table)
        return keyring;
    kr_keyring_close(keyring);
    return NULL;
}

/* A keyring of nothing yet, with the record that something begins. */
static enum kr_status begin_keyring(const struct kr_config *config,
                                    const struct kr_audit_event *event, struct kr_keyring **ret,
                                    struct kr_error *err)
{
    KR_TRY(kr_config_require(config, err));
    kr_secret_set_policy(config->keyring.lock_memory);
    struct kr_keyring *keyring = new_keyring(config);
    if (!keyring)
        return kr_fail_memory(err);
    enum kr_status status = kr_audit_open(config, &keyring->audit, err);
    if (status == KR_OK)
        status = kr_audit_begin(keyring->audit, event, err);
    if (status != KR_OK) {
        kr_keyring_close(keyring);
        return status;
    }
    *ret = keyring;
    return KR_OK;
}

enum kr_status kr_keyring_connect(const struct kr_config *config, const char *event_name,
                                  struct kr_keyring **ret, struct kr_error *err)
{
    const struct kr_audit_event event = {.name = event_name};
    struct kr_keyring *keyring = NULL;
    KR_TRY(begin_keyring(config, &event, &keyring, err));
    enum kr_status status = connect_all(keyring, config, err);
    if (status != KR_OK) {
        kr_audit_end(keyring->audit, &event, err);
        kr_keyring_close(keyring);
        return status;
    }
    *ret = keyring;
    return KR_OK;
}

/* By which tokens keys were unwrapped, in words. */
static void name_unwrappers(const struct kr_keyring *keyring, char *ret, size_t size)
{
    const struct kr_tokens *tokens = &keyring->tokens;
    size_t used = (size_t)snprintf(
        ret, size, "%s", keyring->outage.served ? "from the start cache, no token served" : "");
    for (size_t i = 0; i < tokens->count && used < size; i++) {
        struct kr_token_stats stats;
        kr_token_get_stats(tokens->at[i], &stats);
        if (stats.unwraps > 0)
            used += (size_t)snprintf(ret + used, size - used, "%s%s", used ? ", " : "unwrapped by ",
                                     kr_token_name(tokens->at[i]));
    }
}

static enum kr_status fill(struct kr_keyring *keyring, const struct kr_config *config, bool server,
                           struct kr_error *err)
{
    if (server)
        KR_TRY(kr_outage_configure(keyring, config, err));
    enum kr_status status = connect_all(keyring, config, err);
    if (status == KR_OK)
        status = load_all(keyring, err);
    return status == KR_OK ? KR_OK : load_without_tokens(keyring, err);
}

static enum kr_status open_keyring(const struct kr_config *config, bool server,
                                   struct kr_keyring **ret, struct kr_error *err)
{
    struct kr_audit_event event = {.name = "keyring-open"};
    struct kr_keyring *keyring = NULL;
    char unwrappers[KR_TOKENS_MAX * 40];
    KR_TRY(begin_keyring(config, &event, &keyring, err));
    enum kr_status status = fill(keyring, config, server, err);
    name_unwrappers(keyring, unwrappers, sizeof(unwrappers));
    event.detail = unwrappers;
    event.keys = kr_keytable_versions(keyring->table);
    kr_audit_end(keyring->audit, &event, status == KR_OK ? NULL : err);
    if (status != KR_OK) {
        kr_keyring_close(keyring);
        return status;
    }
    *ret = keyring;
    return KR_OK;
}

enum kr_status kr_keyring_open(const struct kr_config *config, struct kr_keyring **ret,
                               struct kr_error *err)
{
    return open_keyring(config, false, ret, err);
}

enum kr_status kr_keyring_open_server(const struct kr_config *config, struct kr_keyring **ret,
                                      struct kr_error *err)
{
    return open_keyring(config, true, ret, err);
}

void kr_keyring_close(struct kr_keyring *keyring)
{
    if (!keyring)
        return;
    kr_watcher_stop(keyring->watcher);
    kr_keystore_close(keyring->keystore);
    kr_tokens_close(&keyring->tokens);
    kr_audit_close(keyring->audit);
    free(keyring->master_rows);
    free(keyring->masters.keys);
    kr_keytable_free(keyring->table);
    kr_page_keys_forget();
    kr_secret_free(keyring->manifest_key);
    kr_outage_free(&keyring->outage);
    kr_turn_destroy(&keyring->turn);
    kr_gate_destroy(&keyring->gate);
    free(keyring->name);
    free(keyring->keystore_path);
    free(keyring);
}

enum kr_status kr_keyring_watch(struct kr_keyring *keyring, struct kr_error *err)
{
    return kr_watcher_start(keyring, &keyring->watcher, err);
}

/* --- lookups ---------------------------------------------------------------------------------- */

uint32_t kr_keyring_latest(const struct kr_keyring *keyring, uint32_t id)
{
    return kr_keytable_latest(keyring->table, id);
}

const struct kr_data_key *kr_keyring_find(const struct kr_keyring *keyring, uint32_t id,
                                          uint32_t version)
{
    return kr_keytable_find(keyring->table, id, version);
}

static void add_stats(const struct kr_token *token, struct kr_token_stats *sum)
{
    struct kr_token_stats stats;
    kr_token_get_stats(token, &stats);
    sum->wraps += stats.wraps;
    sum->unwraps += stats.unwraps;
    sum->logins += stats.logins;
    sum->reconnects += stats.reconnects;
    sum->errors += stats.errors;
    sum->timeouts += stats.timeouts;
    sum->searches += stats.searches;
    sum->resident_operations += stats.resident_operations;
    sum->evictions += stats.evictions;
    sum->sessions += stats.sessions;
}

void kr_keyring_get_stats(const struct kr_keyring *keyring, struct kr_keyring_stats *ret)
{
    *ret = (struct kr_keyring_stats){
        .keys = kr_keytable_keys(keyring->table),
        .versions = kr_keytable_versions(keyring->table),
        .refreshes = keyring->refreshes,
        .refresh_errors = keyring->refresh_errors,
        .from_start_cache = keyring->outage.served,
    };
    kr_audit_get_state(keyring->audit, &ret->audit);
    for (size_t i = 0; i < keyring->tokens.count; i++) {
        ret->token_up = ret->token_up || kr_token_is_up(keyring->tokens.at[i]);
        add_stats(keyring->tokens.at[i], &ret->token);
    }
}
