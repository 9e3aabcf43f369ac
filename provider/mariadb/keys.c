/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Key versions and keys for the server. What was served once comes from memory for ever: a single
 * failure aborts the server. Only a key or version that is not there yet leads to the keystore and,
 * when there is something new, to the token. After a failure that waits for a second, since queries
 * ask again and again; never otherwise, since the server takes a version that it is not given for a
 * corrupt table.
 */
#include "plugin.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"

enum { PAUSE_MS = 1000 };
#define OPERATIONS_ON "SET GLOBAL " PLUGIN_NAME "_operations = ON"

struct pause {
    _Atomic uint64_t failed_ms; /* when the last try failed; 0: it did not */
};
static struct pause refresh_pause, creation_pause;

static bool is_over(struct pause *pause)
{
    uint64_t failed = atomic_load(&pause->failed_ms);
    return failed == 0 || kr_now_ms() - failed >= PAUSE_MS;
}

static void fail(struct pause *pause, const struct kr_error *err)
{
    atomic_store(&pause->failed_ms, kr_now_ms());
    kr_log_error(KR_LOG_ERROR, err);
}

static enum kr_status look_for_new(struct kr_error *err)
{
    if (!kr_keyring_is_paused(plugin.keyring))
        return kr_keyring_refresh(plugin.keyring, err);
    kr_fail(err, KR_REFUSED, "a key or version is not there: the keyring is paused");
    kr_hint(err, OPERATIONS_ON);
    return err->status;
}

static void refresh(void)
{
    struct kr_error err = KR_ERROR_INIT;
    if (is_over(&refresh_pause) && look_for_new(&err) != KR_OK)
        fail(&refresh_pause, &err);
}

static bool is_made_here(unsigned id)
{
    bool reserved = id == ENCRYPTION_KEY_SYSTEM_DATA || id == ENCRYPTION_KEY_TEMPORARY_DATA;
    return plugin.in_server && (reserved || plugin.auto_create);
}

static uint32_t create(unsigned id)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    if (!is_over(&creation_pause))
        return 0;
    if (kr_keyring_ensure_key(plugin.keyring, id, plugin.cipher, &version, &err) == KR_OK)
        return version;
    kr_error_context(&err, "key %u cannot be made", id);
    if (kr_keyring_is_paused(plugin.keyring))
        kr_hint(&err, OPERATIONS_ON);
    fail(&creation_pause, &err);
    return 0;
}

unsigned plugin_latest_key_version(unsigned id)
{
    if (!plugin.keyring)
        return ENCRYPTION_KEY_VERSION_INVALID;
    uint32_t version = kr_keyring_latest(plugin.keyring, id);
    if (version != 0)
        return version;
    if (is_made_here(id)) {
        version = create(id);
    } else {
        refresh();
        version = kr_keyring_latest(plugin.keyring, id);
    }
    return version != 0 ? version : ENCRYPTION_KEY_VERSION_INVALID;
}

static const struct kr_data_key *find(unsigned id, unsigned version)
{
    if (!plugin.keyring)
        return NULL;
    const struct kr_data_key *found = kr_keyring_find(plugin.keyring, id, version);
    if (!found) {
        refresh();
        found = kr_keyring_find(plugin.keyring, id, version);
    }
    return found;
}

unsigned plugin_get_key(unsigned id, unsigned version, unsigned char *key, unsigned *length)
{
    const struct kr_data_key *found = find(id, version);
    if (!found)
        return ENCRYPTION_KEY_VERSION_INVALID;
    bool fits = !key || *length >= found->len; /* without a key the length may be uninitialised */
    *length = found->len;
    if (!fits)
        return ENCRYPTION_KEY_BUFFER_TOO_SMALL;
    if (key)
        memcpy(key, found->bytes, found->len);
    return 0;
}
