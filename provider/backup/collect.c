/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Choosing the keys of a bundle. */
#include "backup/collect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/chain.h"
#include "backup/file_keys.h"
#include "files/reseal.h"
#include "provider/bundled.h"
#include "provider/export.h"

void kr_collection_free(struct kr_collection *collection)
{
    kr_bundle_free(collection->bundle);
    kr_key_set_free(&collection->keys);
    kr_usage_free(&collection->usage);
}

static enum kr_status begin(struct kr_keyring *keyring, enum kr_bundle_scope scope,
                            struct kr_collection *ret, struct kr_error *err)
{
    struct kr_bundle_info info = {.scope = scope, .created = (int64_t)time(NULL)};
    *ret = (struct kr_collection){0};
    kr_usage_init(&ret->usage);
    KR_TRY(kr_keyring_identify(keyring, &info, err));
    KR_TRY(kr_bundle_new(&info, &ret->bundle, err));
    KR_TRY(kr_export(keyring, "backup-create", &ret->keys, err));
    return kr_key_set_sort(&ret->keys, err);
}

static enum kr_status add(struct kr_collection *collection, const struct kr_set_key *key,
                          struct kr_error *err)
{
    const bool data = key->kind == KR_KEY_DATA;
    const struct kr_bundle_record record = {.kind = data ? KR_BUNDLE_MARIADB : KR_BUNDLE_SECRET,
                                            .id = key->id,
                                            .version = key->version,
                                            .cipher = key->cipher,
                                            .disabled = key->disabled,
                                            .created = key->created,
                                            .name = key->name,
                                            .owner = key->owner,
                                            .type = key->type,
                                            .bytes = key->bytes,
                                            .len = key->len};
    collection->data_keys += data;
    collection->secrets += !data;
    return kr_bundle_add(collection->bundle, &record, err);
}

enum kr_status kr_collect_all(struct kr_file_keys *keys, struct kr_collection *ret,
                              struct kr_error *err)
{
    struct kr_keyring *keyring = NULL;
    KR_TRY(kr_file_keys_keyring(keys, &keyring, err));
    KR_TRY(begin(keyring, KR_BUNDLE_ALL, ret, err));
    for (size_t i = 0; i < ret->keys.count; i++)
        if (!ret->keys.keys[i].stuck)
            KR_TRY(add(ret, &ret->keys.keys[i], err));
    return kr_bundle_settle(ret->bundle, err);
}

/* --- of files --------------------------------------------------------------------------------- */

static enum kr_status look_at(const char *path, size_t index, const struct kr_file_run *run,
                              void *context, struct kr_error *err)
{
    struct kr_collection *collection = context;
    (void)index;
    if (kr_backup_is_plain(path))
        return KR_OK;
    return kr_usage_add(&collection->usage, path, run, err);
}

/* "MySQLReplicationKey_UUID", where the number of a key begins. */
static size_t stem_of(const char *name)
{
    const char *last = strrchr(name, '_');
    return last ? (size_t)(last - name) : 0;
}

/* What a server keeps beside the keys of its binary logs: which one is in use. */
static bool belongs_to(const char *name, const char *key)
{
    size_t stem = stem_of(key);
    return kr_reseal_is_binlog_key(key) && !kr_reseal_is_binlog_key(name) &&
           strncmp(name, key, stem) == 0 && (name[stem] == '\0' || name[stem] == '_');
}

static bool is_needed(const struct kr_collection *collection, const struct kr_set_key *key)
{
    const struct kr_usage *usage = &collection->usage;
    const bool data = key->kind == KR_KEY_DATA;
    for (size_t i = 0; i < usage->key_count; i++) {
        const struct kr_usage_key *used = &usage->keys[i];
        if (used->files == 0 || used->master || data != (*used->name == '\0'))
            continue;
        if (data ? used->id == key->id && used->version == key->version
                 : !*key->owner &&
                       (strcmp(used->name, key->name) == 0 || belongs_to(key->name, used->name)))
            return true;
    }
    return false;
}

static enum kr_status choose(struct kr_collection *collection, struct kr_error *err)
{
    for (size_t i = 0; i < collection->keys.count; i++) {
        struct kr_set_key *key = &collection->keys.keys[i];
        if (!key->stuck && !is_needed(collection, key))
            key->stuck = "no file needs it";
        if (!key->stuck)
            KR_TRY(add(collection, key, err));
    }
    return KR_OK;
}

static enum kr_status fail_lacking(const struct kr_usage_key *key, struct kr_error *err)
{
    if (*key->name)
        kr_fail(err, KR_NOT_FOUND, "%llu files need %s, which is not in the keyring",
                (unsigned long long)key->files, key->name);
    else
        kr_fail(err, KR_NOT_FOUND,
                "%llu files need version %u of key %u, which is not in the keyring",
                (unsigned long long)key->files, key->version, key->id);
    kr_hint(err, "p11keyring inspect --json says which files; nothing but another bundle or an "
                 "older keystore can have that key. No bundle was made");
    return err->status;
}

static enum kr_status fail_file(const char *path, const struct kr_error *why, struct kr_error *err)
{
    *err = *why;
    if (!strstr(err->text, path))
        kr_error_context(err, "%s", path);
    kr_hint(err, "p11keyring verify tells more of that file. No bundle was made");
    return err->status;
}

/* What MySQL's files seal under a master key that stays in its token. */
static enum kr_status add_file_keys(const struct kr_walk *walk,
                                    const struct kr_files_options *options,
                                    struct kr_collection *ret, bool *ret_interrupted,
                                    struct kr_error *err)
{
    struct kr_backup_file *files = calloc(walk->count + 1, sizeof(*files));
    if (!files)
        return kr_fail_memory(err);
    enum kr_status status =
        kr_backup_add_file_keys(walk, options, ret->bundle, files, ret_interrupted, err);
    for (size_t i = 0; i < walk->count && status == KR_OK; i++) {
        if (files[i].result == KR_BACKUP_FILE_FAILED)
            status = fail_file(walk->files[i].path, &files[i].why, err);
    }
    free(files);
    return status;
}

/* A key of a file of another kind of ours is no key of the backup: a copy of the keystore. */
static enum kr_status check_needs(const struct kr_collection *collection, struct kr_error *err)
{
    for (size_t i = 0; i < collection->usage.key_count; i++) {
        const struct kr_usage_key *key = &collection->usage.keys[i];
        if (key->files > 0 && !key->master && !key->here)
            return fail_lacking(key, err);
    }
    return KR_OK;
}

enum kr_status kr_collect_files(const struct kr_walk *walk, const struct kr_files_options *options,
                                struct kr_collection *ret, bool *ret_interrupted,
                                struct kr_error *err)
{
    struct kr_keyring *keyring = NULL;
    struct kr_files_options run = *options;
    KR_TRY(kr_file_keys_keyring(options->keys, &keyring, err));
    KR_TRY(begin(keyring, KR_BUNDLE_FILES, ret, err));
    run.work = look_at;
    run.context = ret;
    KR_TRY(kr_files_run(walk, &run, ret_interrupted, err));
    if (*ret_interrupted)
        return KR_OK;
    KR_TRY(kr_usage_end(&ret->usage, walk, options->keys, err));
    KR_TRY(check_needs(ret, err));
    KR_TRY(choose(ret, err));
    KR_TRY(add_file_keys(walk, options, ret, ret_interrupted, err));
    KR_TRY(kr_bundle_settle(ret->bundle, err));
    /* The files of a redo log have one key. */
    for (size_t i = 0; i < kr_bundle_count(ret->bundle); i++)
        ret->file_keys += kr_bundle_get(ret->bundle, i).kind == KR_BUNDLE_FILE_KEY;
    return KR_OK;
}
