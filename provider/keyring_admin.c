/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keyring core: changes to data keys. */
#include "provider/change.h"
#include "provider/rows.h"

#include <stdio.h>
#include <string.h>

struct named_step {
    const char *event; /* in the audit log */
    const char *done;  /* what then was done to the key, in words */
    kr_change_step step;
    void *context;
};

static enum kr_status run_named(struct kr_change *change, void *context, struct kr_error *err)
{
    const struct named_step *named = context;
    change->audit.name = named->event;
    return named->step(change, named->context, err);
}

/* Takes over what is committed: a failure must not read as if nothing had been done. */
static enum kr_status take_over(struct kr_keyring *keyring, const char *id,
                                const struct named_step *named, struct kr_error *err)
{
    if (kr_keyring_refresh_locked(keyring, err) == KR_OK)
        return KR_OK;
    kr_error_context(err, "key %s was %s and is in the keystore, but it cannot be opened now", id,
                     named->done);
    kr_hint(err,
            "do not repeat the command; see 'p11keyring doctor', and then 'p11keyring key "
            "show %s'",
            id);
    return err->status;
}

static enum kr_status run_locked(struct kr_keyring *keyring, const char *id,
                                 struct named_step *named, struct kr_audit_event *event,
                                 struct kr_error *err)
{
    KR_TRY(kr_change_run(keyring, KR_NS_MARIADB, id, "", run_named, named, err));
    event->name = "keyring-refresh";
    return take_over(keyring, id, named, err);
}

/* Runs the step with the keyring locked, then takes the result over. */
static enum kr_status change_key(struct kr_keyring *keyring, struct named_step *named, uint32_t id,
                                 struct kr_error *err)
{
    if (id == 0) {
        kr_fail(err, KR_USAGE, "0 is no key id");
        kr_hint(err, "key ids are 1 to 4294967295");
        return err->status;
    }
    char text[12];
    snprintf(text, sizeof(text), "%u", id);
    struct kr_audit_event event = {.name = named->event, .ns = KR_NS_MARIADB, .id = text};
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = run_locked(keyring, text, named, &event, err);
    kr_keyring_unlock(keyring);
    if (status != KR_OK)
        kr_audit_end(keyring->audit, &event, err);
    return status;
}

static enum kr_status make_change(struct kr_keyring *keyring, struct named_step *named, uint32_t id,
                                  struct kr_error *err)
{
    if (!kr_gate_enter(&keyring->gate))
        return kr_fail(err, KR_REFUSED, "the keyring is paused");
    enum kr_status status = change_key(keyring, named, id, err);
    kr_gate_leave(&keyring->gate);
    return status;
}

/* --- a new version ---------------------------------------------------------------------------- */

struct new_version {
    const char *event, *done;
    enum kr_cipher cipher;
    const uint8_t *import; /* NULL: random */
    size_t len;
    uint32_t step;
    bool must_exist;
    uint32_t version; /* out */
};

static enum kr_status check_presence(struct kr_change *change, bool must_exist,
                                     struct kr_error *err)
{
    uint32_t latest;
    KR_TRY(kr_change_latest(change, &latest, err));
    if (must_exist && latest == 0) {
        kr_fail(err, KR_NOT_FOUND, "there is no key %s", change->id);
        kr_hint(err, "p11keyring key list; p11keyring key create %s", change->id);
        return err->status;
    }
    if (!must_exist && latest != 0) {
        kr_fail(err, KR_REFUSED, "key %s exists already (version %u)", change->id, latest);
        kr_hint(err, "for a new version: p11keyring key rotate %s", change->id);
        return err->status;
    }
    return KR_OK;
}

static enum kr_status add_version(struct kr_change *change, void *context, struct kr_error *err)
{
    struct new_version *new = context;
    KR_TRY(check_presence(change, new->must_exist, err));
    KR_SECRET uint8_t *bytes = kr_secret_alloc(new->len);
    if (!bytes)
        return kr_fail_memory(err);
    if (new->import)
        memcpy(bytes, new->import, new->len);
    else
        KR_TRY(kr_tokens_random(&change->keyring->tokens, bytes, new->len, err));
    return kr_change_add(change, new->step, kr_cipher_name(new->cipher), bytes, new->len,
                         &new->version, err);
}

static enum kr_status new_version(struct kr_keyring *keyring, uint32_t id, struct new_version *new,
                                  uint32_t *ret_version, struct kr_error *err)
{
    if (!kr_cipher_name(new->cipher))
        return kr_fail(err, KR_USAGE, "unknown cipher number %d", (int)new->cipher);
    struct named_step named = {new->event, new->done, add_version, new};
    KR_TRY(make_change(keyring, &named, id, err));
    *ret_version = new->version;
    return KR_OK;
}

static enum kr_status check_length(enum kr_cipher cipher, size_t len, struct kr_error *err)
{
    if (kr_cipher_takes(cipher, len))
        return KR_OK;
    if (!kr_cipher_derives(cipher))
        return kr_fail(err, KR_USAGE, "a key to import has 16, 24 or 32 bytes, not %zu", len);
    kr_fail(err, KR_USAGE, "a key for %s has 32 bytes, not %zu", kr_cipher_name(cipher), len);
    kr_hint(err,
            "import it with the cipher that it was used with, then: p11keyring key rotate ID "
            "--cipher %s",
            kr_cipher_name(cipher));
    return err->status;
}

enum kr_status kr_keyring_create_key(struct kr_keyring *keyring, uint32_t id, enum kr_cipher cipher,
                                     const uint8_t *import, size_t import_len,
                                     uint32_t *ret_version, struct kr_error *err)
{
    size_t len = import ? import_len : 32;
    KR_TRY(check_length(cipher, len, err));
    struct new_version new = {.event = import ? "key-import" : "key-create",
                              .done = import ? "imported" : "made",
                              .cipher = cipher,
                              .import = import,
                              .len = len,
                              .step = 1};
    return new_version(keyring, id, &new, ret_version, err);
}

enum kr_status kr_keyring_rotate_key(struct kr_keyring *keyring, uint32_t id, enum kr_cipher cipher,
                                     uint32_t *ret_version, struct kr_error *err)
{
    struct new_version new = {.event = "key-rotate",
                              .done = "rotated",
                              .cipher = cipher,
                              .len = 32,
                              .step = keyring->rotation_step,
                              .must_exist = true};
    return new_version(keyring, id, &new, ret_version, err);
}

/* --- the end of a version --------------------------------------------------------------------- */

struct destruction {
    uint32_t version;
    const char *reason;
};

static enum kr_status fail_latest(struct kr_error *err, const char *id, uint32_t version)
{
    kr_fail(err, KR_REFUSED, "version %u is the latest of key %s: servers write with it", version,
            id);
    kr_hint(err, "p11keyring key rotate %s first, and let the servers encrypt their data anew", id);
    return err->status;
}

static enum kr_status destroy_version(struct kr_change *change, void *context, struct kr_error *err)
{
    const struct destruction *destruction = context;
    uint32_t latest;
    KR_TRY(kr_change_latest(change, &latest, err));
    if (destruction->version == latest)
        return fail_latest(err, change->id, latest);
    change->audit.version = destruction->version;
    change->audit.detail = destruction->reason;
    return kr_keystore_remove_version(change->keystore, change->ns, change->id, change->owner,
                                      destruction->version, err);
}

enum kr_status kr_keyring_destroy_version(struct kr_keyring *keyring, uint32_t id, uint32_t version,
                                          bool dry_run, const char *reason, struct kr_error *err)
{
    struct destruction destruction = {.version = version, .reason = reason};
    struct named_step named = {"key-destroy", "changed", destroy_version, &destruction};
    char text[12];
    snprintf(text, sizeof(text), "%u", id);
    if (!kr_keyring_find(keyring, id, version))
        return kr_fail(err, KR_NOT_FOUND, "key %u has no version %u", id, version);
    if (kr_keyring_latest(keyring, id) == version)
        return fail_latest(err, text, version);
    return dry_run ? KR_OK : make_change(keyring, &named, id, err);
}

enum kr_status kr_keyring_ensure_key(struct kr_keyring *keyring, uint32_t id, enum kr_cipher cipher,
                                     uint32_t *ret_version, struct kr_error *err)
{
    uint32_t latest = kr_keyring_latest(keyring, id);
    if (latest == 0) {
        if (kr_keyring_create_key(keyring, id, cipher, NULL, 0, ret_version, err) == KR_OK)
            return KR_OK;
        /* Another process may have been first. */
        struct kr_error ignored = KR_ERROR_INIT;
        if (err->status != KR_REFUSED || kr_keyring_refresh(keyring, &ignored) != KR_OK)
            return err->status;
        latest = kr_keyring_latest(keyring, id);
        if (latest == 0)
            return err->status;
    }
    *ret_version = latest;
    return KR_OK;
}

/* --- the audit log's anchor ------------------------------------------------------------------- */

static enum kr_status read_anchor(struct kr_keystore *keystore, void *ret, struct kr_error *err)
{
    return kr_keystore_get_audit_head(keystore, ret, err);
}

enum kr_status kr_keyring_audit_anchor(struct kr_keyring *keyring, struct kr_audit_head *ret,
                                       struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = kr_rows_view(keyring->keystore, read_anchor, ret, err);
    kr_keyring_unlock(keyring);
    return status;
}

/* --- disabling -------------------------------------------------------------------------------- */

static enum kr_status set_disabled(struct kr_change *change, void *context, struct kr_error *err)
{
    const bool *disabled = context;
    return kr_keystore_set_disabled(change->keystore, change->ns, change->id, change->owner,
                                    *disabled, err);
}

enum kr_status kr_keyring_set_disabled(struct kr_keyring *keyring, uint32_t id, bool disabled,
                                       struct kr_error *err)
{
    struct named_step named = {disabled ? "key-disable" : "key-enable",
                               disabled ? "disabled" : "enabled", set_disabled, &disabled};
    return make_change(keyring, &named, id, err);
}
