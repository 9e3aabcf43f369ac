/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keys of a keyring in the clear. */
#include "provider/export.h"

#include <stdlib.h>
#include <string.h>

#include "provider/rows.h"
#include "provider/secrets.h"

struct reading {
    struct kr_keyring *keyring;
    struct kr_key_set *set;
};

static enum kr_status add_version(const struct kr_version_row *row, void *context,
                                  struct kr_error *err)
{
    const struct reading *reading = context;
    const uint32_t id = (uint32_t)strtoul(row->id, NULL, 10);
    const struct kr_data_key *data = kr_keyring_find(reading->keyring, id, row->version);
    if (!data)
        return kr_fail(err, KR_INTEGRITY, "key %s version %u came while the keys were read",
                       row->id, row->version);
    const struct kr_set_key key = {.kind = KR_KEY_DATA,
                                   .id = data->id,
                                   .version = data->version,
                                   .cipher = data->cipher,
                                   .disabled = row->key_disabled,
                                   .created = row->created,
                                   .bytes = (uint8_t *)data->bytes,
                                   .len = data->len};
    return kr_key_set_add(reading->set, &key, err);
}

static enum kr_status add_versions(struct kr_keystore *keystore, void *context,
                                   struct kr_error *err)
{
    return kr_keystore_each_version(keystore, KR_NS_MARIADB, add_version, context, err);
}

static enum kr_status add_data_keys(struct kr_keyring *keyring, struct kr_key_set *set,
                                    struct kr_error *err)
{
    struct reading reading = {.keyring = keyring, .set = set};
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = kr_keyring_refresh_locked(keyring, err);
    if (status == KR_OK)
        status = kr_rows_view(keyring->keystore, add_versions, &reading, err);
    kr_keyring_unlock(keyring);
    return status;
}

static enum kr_status add_secret(struct kr_secrets *secrets, const struct kr_secret_name *name,
                                 struct kr_key_set *set, struct kr_error *err)
{
    struct kr_set_key key = {
        .kind = KR_KEY_SECRET, .name = name->id, .owner = name->owner, .type = ""};
    if (name->form != KR_SECRET_WRAPPED) {
        key.stuck = "it is in the token, which does not give it out";
        return kr_key_set_add(set, &key, err);
    }
    struct kr_secret secret;
    KR_TRY(kr_secrets_fetch(secrets, name->id, name->owner, &secret, err));
    key.type = secret.type;
    key.bytes = secret.bytes;
    key.len = secret.len;
    enum kr_status status = kr_key_set_add(set, &key, err);
    kr_secret_free(secret.bytes);
    return status;
}

static enum kr_status add_secrets(struct kr_secrets *secrets, struct kr_key_set *set,
                                  struct kr_error *err)
{
    struct kr_secret_name *names;
    size_t count;
    KR_TRY(kr_secrets_names(secrets, &names, &count, err));
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < count && status == KR_OK; i++)
        status = add_secret(secrets, &names[i], set, err);
    kr_secret_names_free(names, count);
    return status;
}

static enum kr_status export(struct kr_keyring *keyring, struct kr_key_set *set,
                             struct kr_error *err) {
    struct kr_secrets *secrets = NULL; KR_TRY(add_data_keys(keyring, set, err));
    KR_TRY(kr_secrets_open(keyring, &secrets, err));
    enum kr_status status = add_secrets(secrets, set, err);
    kr_secrets_close(secrets);
    return status;
}

static enum kr_status fail_forbidden(struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "the configuration forbids that keys leave the keyring");
    kr_hint(err, "export = allowed in [keyring], if whoever answers for the keys agrees");
    return err->status;
}

enum kr_status kr_export(struct kr_keyring *keyring, const char *event, struct kr_key_set *set,
                         struct kr_error *err)
{
    struct kr_audit_event record = {.name = event};
    if (keyring->export_forbidden)
        return fail_forbidden(err);
    KR_TRY(kr_audit_begin(keyring->audit, &record, err));
    enum kr_status status = export(keyring, set, err);
    record.keys = set->count;
    kr_audit_end(keyring->audit, &record, status == KR_OK ? NULL : err);
    return status;
}
