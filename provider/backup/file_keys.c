/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Keys of MySQL's files, opened one by one. */
#include "backup/file_keys.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "files/journal.h"
#include "files/mysql_sealed.h"
#include "files/replace.h"
#include "provider/secrets.h"

struct adding {
    struct kr_secret_name *names; /* of the keyring's secrets, in order */
    size_t name_count;
    struct kr_backup_file *files;
    pthread_mutex_t lock; /* of the bundle */
    struct kr_bundle *bundle;
};

static int by_id(const void *key, const void *element)
{
    const struct kr_secret_name *name = element;
    int order = strcmp(key, name->id);
    return order ? order : -(name->owner[0] != '\0');
}

static enum kr_status find_form(const struct adding *all, const char *master,
                                enum kr_secret_form *ret, struct kr_error *err)
{
    const struct kr_secret_name *name =
        all->name_count ? bsearch(master, all->names, all->name_count, sizeof(*all->names), by_id)
                        : NULL;
    if (!name)
        return kr_fail(err, KR_NOT_FOUND, "the keyring has no key '%s'", master);
    *ret = name->form;
    return KR_OK;
}

static enum kr_bundle_file file_of(enum kr_file_kind kind)
{
    switch (kind) {
    case KR_FILE_MYSQL_REDO:
        return KR_BUNDLE_REDO;
    case KR_FILE_MYSQL_BINLOG_ENCRYPTED:
        return KR_BUNDLE_BINLOG;
    default:
        return KR_BUNDLE_TABLESPACE;
    }
}

static enum kr_status add_opened(struct adding *all, const struct kr_mysql_sealed *sealed,
                                 const uint8_t *opened, struct kr_error *err)
{
    uint8_t digest[KR_BUNDLE_DIGEST_BYTES];
    if (EVP_Digest(sealed->bytes, sealed->len, digest, NULL, EVP_sha256(), NULL) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to hash");
    const struct kr_bundle_record record = {.kind = KR_BUNDLE_FILE_KEY,
                                            .file = file_of(sealed->kind),
                                            .name = sealed->master,
                                            .digest = digest,
                                            .bytes = opened,
                                            .len = sealed->len};
    pthread_mutex_lock(&all->lock);
    enum kr_status status = kr_bundle_add(all->bundle, &record, err);
    pthread_mutex_unlock(&all->lock);
    return status;
}

static enum kr_status add_file(struct adding *all, const char *path, const struct kr_file_run *run,
                               enum kr_backup_file_result *ret, struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    struct kr_mysql_sealed sealed;
    enum kr_secret_form form = KR_SECRET_WRAPPED;
    bool found = false;
    if (kr_journal_is_name(path) || kr_replacement_is_name(path))
        return KR_OK;
    KR_TRY(kr_file_open(path, run, &file, err));
    KR_TRY(kr_mysql_sealed_find(&file, &sealed, &found, err));
    if (!found)
        return KR_OK;
    if (kr_journal_is_pending(path)) {
        kr_fail(err, KR_REFUSED, "the header of %s is half written", path);
        kr_hint(err, "repeat the rekey, or the restore, that was interrupted");
        return err->status;
    }
    KR_TRY(find_form(all, sealed.master, &form, err));
    *ret = KR_BACKUP_FILE_WRAPPED;
    if (form == KR_SECRET_WRAPPED)
        return KR_OK;
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_OPENED_MAX);
    if (!opened)
        return kr_fail_secret(err);
    KR_TRY(kr_mysql_sealed_open(&sealed, run->keys, &file, opened, err));
    KR_TRY(add_opened(all, &sealed, opened, err));
    *ret = KR_BACKUP_FILE_ADDED;
    return KR_OK;
}

/* What every other file would meet as well. */
static bool ends_the_run(enum kr_status status)
{
    return status != KR_OK && status != KR_NOT_FOUND && status != KR_INTEGRITY &&
           status != KR_REFUSED && status != KR_IO;
}

static enum kr_status work(const char *path, size_t index, const struct kr_file_run *run,
                           void *context, struct kr_error *err)
{
    struct adding *all = context;
    struct kr_backup_file *file = &all->files[index];
    struct kr_error why = KR_ERROR_INIT;
    enum kr_status status = add_file(all, path, run, &file->result, &why);
    if (status != KR_OK) {
        file->result = KR_BACKUP_FILE_FAILED;
        file->why = why;
    }
    if (ends_the_run(status)) {
        *err = why;
        return status;
    }
    return KR_OK;
}

enum kr_status kr_backup_add_file_keys(const struct kr_walk *walk,
                                       const struct kr_files_options *options,
                                       struct kr_bundle *bundle, struct kr_backup_file *ret,
                                       bool *ret_interrupted, struct kr_error *err)
{
    struct adding all = {.files = ret, .bundle = bundle};
    struct kr_secrets *secrets;
    KR_TRY(kr_file_keys_secrets(options->keys, &secrets, err));
    KR_TRY(kr_secrets_names(secrets, &all.names, &all.name_count, err));
    struct kr_files_options with = *options;
    with.work = work;
    with.context = &all;
    pthread_mutex_init(&all.lock, NULL);
    enum kr_status status = kr_files_run(walk, &with, ret_interrupted, err);
    pthread_mutex_destroy(&all.lock);
    kr_secret_names_free(all.names, all.name_count);
    return status;
}
