/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Key versions and keys for the server. What was served once comes from memory for ever: a single
 * failure aborts the server. Only a key or version that is not there yet leads to the keystore and
 * the token, at most once a second, since status queries ask again and again.
 */
#include "plugin.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"

enum { PAUSE_MS = 1000 };

/* When the last try was, so that the next waits its turn. */
struct pause {
    _Atomic uint64_t last_ms; /* 0: never */
};
static struct pause refresh_pause, creation_pause;

static bool is_over(struct pause *pause)
{
    uint64_t last = atomic_load(&pause->last_ms);
    return last == 0 || kr_now_ms() - last >= PAUSE_MS;
}

static void start(struct pause *pause)
{
    atomic_store(&pause->last_ms, kr_now_ms());
}

static void refresh(void)
{
    struct kr_error err = KR_ERROR_INIT;
    if (!is_over(&refresh_pause))
        return;
    start(&refresh_pause);
    if (kr_keyring_refresh(plugin.keyring, &err) != KR_OK)
        kr_log_error(KR_LOG_ERROR, &err);
}

static bool is_made_here(unsigned id)
{
    bool reserved = id == ENCRYPTION_KEY_SYSTEM_DATA || id == ENCRYPTION_KEY_TEMPORARY_DATA;
    return plugin.makes_keys && (reserved || plugin.auto_create);
}

static uint32_t create(unsigned id)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    if (!is_over(&creation_pause))
        return 0;
    if (kr_keyring_ensure_key(plugin.keyring, id, plugin.cipher, &version, &err) == KR_OK)
        return version;
    start(&creation_pause);
    kr_error_context(&err, "key %u cannot be made", id);
    kr_log_error(KR_LOG_ERROR, &err);
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
