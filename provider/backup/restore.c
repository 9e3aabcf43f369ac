/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A bundle's keys as a set, with the new versions, imported. */
#include "backup/restore.h"

#include <string.h>

#include "backup/mysql_masters.h"
#include "base/secret.h"
#include "provider/bundled.h"

static enum kr_status add_record(struct kr_key_set *set, const struct kr_bundle_record *record,
                                 struct kr_error *err)
{
    const bool data = record->kind == KR_BUNDLE_MARIADB;
    const struct kr_set_key key = {.kind = data ? KR_KEY_DATA : KR_KEY_SECRET,
                                   .id = record->id,
                                   .version = record->version,
                                   .cipher = record->cipher,
                                   .disabled = record->disabled,
                                   .created = record->created,
                                   .name = (char *)record->name,
                                   .owner = (char *)record->owner,
                                   .type = (char *)record->type,
                                   .bytes = (uint8_t *)record->bytes,
                                   .len = record->len};
    return kr_key_set_add(set, &key, err);
}

static bool is_wanted(const struct kr_bundle_record *record,
                      const struct kr_restore_options *options)
{
    if (record->kind == KR_BUNDLE_FILE_KEY)
        return false;
    return !options->without_masters || record->kind != KR_BUNDLE_SECRET ||
           !kr_mysql_masters_are(record->name, record->owner);
}

static enum kr_status make_set(const struct kr_bundle *bundle,
                               const struct kr_restore_options *options, struct kr_key_set *set,
                               struct kr_error *err)
{
    for (size_t i = 0; i < kr_bundle_count(bundle); i++) {
        const struct kr_bundle_record record = kr_bundle_get(bundle, i);
        if (is_wanted(&record, options))
            KR_TRY(add_record(set, &record, err));
    }
    return kr_key_set_sort(set, err);
}

/* --- conflicts -------------------------------------------------------------------------------- */

static enum kr_status fail_conflicts(const struct kr_set_key *first, size_t count,
                                     struct kr_error *err)
{
    char text[KR_SET_KEY_TEXT];
    kr_set_key_text(first, text);
    kr_fail(err, KR_REFUSED,
            "%zu keys of the bundles cannot be restored, the first is %s: the keyring has another "
            "one of that name, or newer versions",
            count, text);
    kr_hint(err, "nothing was changed; restore into a keyring of its own, and the bundles of one "
                 "chain all at once");
    return KR_REFUSED;
}

static enum kr_status count_presence(const struct kr_key_set *set, struct kr_restore_result *ret,
                                     struct kr_error *err)
{
    const struct kr_set_key *first = NULL;
    for (size_t i = 0; i < set->count; i++) {
        const struct kr_set_key *key = &set->keys[i];
        ret->equal += key->presence == KR_EQUAL;
        ret->added += key->presence == KR_ABSENT || key->presence == KR_ADDABLE;
        ret->conflicts += key->presence == KR_CONFLICT;
        if (key->presence == KR_CONFLICT && !first)
            first = key;
    }
    return first ? fail_conflicts(first, ret->conflicts, err) : KR_OK;
}

/* --- new versions ----------------------------------------------------------------------------- */

static enum kr_status add_version(struct kr_keyring *keyring, struct kr_key_set *set,
                                  const struct kr_set_key *newest, unsigned step,
                                  struct kr_error *err)
{
    KR_SECRET uint8_t *bytes = kr_secret_alloc(32);
    if (!bytes)
        return kr_fail_secret(err);
    if (newest->version > KR_KEY_VERSION_MAX - step)
        return kr_fail(err, KR_REFUSED, "key %u has no higher version number for a new version",
                       newest->id);
    KR_TRY(kr_keyring_random(keyring, bytes, 32, err));
    const struct kr_set_key key = {.kind = KR_KEY_DATA,
                                   .id = newest->id,
                                   .version = newest->version + step,
                                   .cipher = newest->cipher,
                                   .presence = KR_ADDABLE,
                                   .bytes = bytes,
                                   .len = 32};
    return kr_key_set_add(set, &key, err);
}

/* Of each data key of which a version comes. One that is disabled gets none, there as here. */
static enum kr_status add_versions(struct kr_keyring *keyring, struct kr_key_set *set,
                                   unsigned step, struct kr_restore_result *ret,
                                   struct kr_error *err)
{
    const size_t count = set->count;
    bool comes = false;
    for (size_t i = 0; i < count; i++) {
        const struct kr_set_key key = set->keys[i];
        bool newest =
            i + 1 == count || set->keys[i + 1].kind != KR_KEY_DATA || set->keys[i + 1].id != key.id;
        if (key.kind != KR_KEY_DATA)
            break;
        comes |= key.presence != KR_EQUAL;
        if (newest && comes && !key.disabled) {
            KR_TRY(add_version(keyring, set, &key, step, err));
            ret->rotated++;
        }
        comes &= !newest;
    }
    return kr_key_set_sort(set, err);
}

/* --- all together ----------------------------------------------------------------------------- */

static enum kr_status import(struct kr_keyring *keyring, struct kr_key_set *set,
                             const struct kr_bundle *bundle,
                             const struct kr_restore_options *options, struct kr_error *err)
{
    const struct kr_import_options how = {.event = "backup-restore",
                                          .detail = options->detail,
                                          .resident = options->resident,
                                          .progress = options->progress,
                                          .context = options->context};
    KR_TRY(kr_import(keyring, set, &how, err));
    return kr_keyring_set_bundled(keyring, bundle, err);
}

enum kr_status kr_restore(struct kr_keyring *keyring, const struct kr_bundle *bundle,
                          const struct kr_restore_options *options, struct kr_restore_result *ret,
                          struct kr_error *err)
{
    KR_KEY_SET set = {0};
    *ret = (struct kr_restore_result){0};
    KR_TRY(make_set(bundle, options, &set, err));
    KR_TRY(kr_import_survey(keyring, &set, err));
    KR_TRY(count_presence(&set, ret, err));
    if (ret->added == 0)
        return KR_OK;
    if (options->rotation_step > 0)
        KR_TRY(add_versions(keyring, &set, options->rotation_step, ret, err));
    return options->dry_run ? KR_OK : import(keyring, &set, bundle, options, err);
}
