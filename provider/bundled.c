/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Bundles in the keystore: which versions are in one. */
#include "provider/bundled.h"

#include <stdio.h>
#include <string.h>

#include "provider/change.h"
#include "provider/secrets.h"

enum kr_status kr_keyring_identify(struct kr_keyring *keyring, struct kr_bundle_info *ret,
                                   struct kr_error *err)
{
    if (strlen(keyring->name) >= sizeof(ret->keyring))
        return kr_fail(err, KR_REFUSED, "the keyring's name is too long for a bundle");
    KR_TRY(kr_keyring_lock(keyring, err));
    memcpy(ret->keystore, kr_keystore_uuid(keyring->keystore), sizeof(ret->keystore));
    kr_keyring_unlock(keyring);
    snprintf(ret->keyring, sizeof(ret->keyring), "%s", keyring->name);
    return KR_OK;
}

static enum kr_status mark(struct kr_keystore *keystore, const struct kr_bundle *bundle,
                           const struct kr_bundle_record *record, struct kr_error *err)
{
    const bool data = record->kind == KR_BUNDLE_MARIADB;
    const int64_t when = kr_bundle_info(bundle)->created;
    char id[12];
    snprintf(id, sizeof(id), "%u", record->id);
    return kr_keystore_set_bundled(keystore, data ? KR_NS_MARIADB : KR_NS_MYSQL,
                                   data ? id : record->name,
                                   record->kind == KR_BUNDLE_SECRET ? record->owner : "",
                                   data ? record->version : KR_EVERY_VERSION, when, err);
}

static enum kr_status mark_all(struct kr_keystore *keystore, const struct kr_bundle *bundle,
                               struct kr_error *err)
{
    const char *last = "";
    for (size_t i = 0; i < kr_bundle_count(bundle); i++) {
        const struct kr_bundle_record record = kr_bundle_get(bundle, i);
        bool again = record.kind == KR_BUNDLE_FILE_KEY && strcmp(record.name, last) == 0;
        if (!again)
            KR_TRY(mark(keystore, bundle, &record, err));
        last = record.name ? record.name : "";
    }
    return KR_OK;
}

static enum kr_status set_bundled(struct kr_keyring *keyring, const struct kr_bundle *bundle,
                                  struct kr_error *err)
{
    const struct kr_audit_event nothing = {0}; /* what took place was recorded by who did it */
    struct kr_keystore *keystore = NULL;
    KR_TRY(kr_change_begin(keyring, &keystore, err));
    enum kr_status status = mark_all(keystore, bundle, err);
    if (status == KR_OK)
        status = kr_change_commit(keyring, keystore, &nothing, err);
    kr_keystore_close(keystore);
    return status;
}

enum kr_status kr_keyring_set_bundled(struct kr_keyring *keyring, const struct kr_bundle *bundle,
                                      struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = set_bundled(keyring, bundle, err);
    kr_keyring_unlock(keyring);
    return status;
}

enum kr_status kr_keyring_random(struct kr_keyring *keyring, uint8_t *ret, size_t len,
                                 struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = kr_tokens_random(&keyring->tokens, ret, len, err);
    kr_keyring_unlock(keyring);
    return status;
}
