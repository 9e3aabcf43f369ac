/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A data directory of MySQL under new master keys, from a bundle. */
#include "backup/mysql_restore.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "files/reseal.h"

static const char system_file[] = "/ibdata1", index_suffix[] = ".index";

struct restoring {
    const struct kr_mysql_restore *restore;
    struct kr_mysql_restored *restored;
    struct kr_file_keys *bundle, *both; /* the bundle alone; the keyring where it has none */
    struct kr_mysql_datadirs *datadirs;
    pthread_mutex_t lock; /* of the rest */
    struct kr_mysql_masters *masters;
    bool innodb, binlog; /* there are such files */
};

void kr_mysql_restored_free(struct kr_mysql_restored *restored)
{
    free(restored->dir);
    free(restored->foreign_index);
    free(restored->files);
    *restored = (struct kr_mysql_restored){.dir = NULL};
}

/* --- which data directory --------------------------------------------------------------------- */

static enum kr_status find_dir(const struct kr_walk *walk, char **ret, struct kr_error *err)
{
    for (size_t i = 0; i < walk->count; i++) {
        const char *path = walk->files[i].path;
        size_t len = strlen(path), tail = sizeof(system_file) - 1;
        if (len < tail || strcmp(path + len - tail, system_file) != 0)
            continue;
        if (*ret)
            return kr_fail(err, KR_REFUSED, "%s and %s are two data directories: one at a time",
                           *ret, path);
        *ret = strndup(path, len - tail);
        if (!*ret)
            return kr_fail_memory(err);
    }
    return KR_OK;
}

/* The index of binary or relay logs has their names as log-bin says: with it, or not, their folder.
 */
static bool is_foreign_index(const char *path, const char *dir)
{
    char line[PATH_MAX];
    size_t len = strlen(path), dir_len = strlen(dir), tail = sizeof(index_suffix) - 1;
    if (len < tail || strcmp(path + len - tail, index_suffix) != 0)
        return false;
    FILE *file = fopen(path, "re");
    bool absolute = file && fgets(line, sizeof(line), file) && line[0] == '/';
    if (file)
        fclose(file);
    return absolute && (strncmp(line, dir, dir_len) != 0 || line[dir_len] != '/');
}

static enum kr_status find_foreign_index(const struct kr_walk *walk, const char *dir, char **ret,
                                         struct kr_error *err)
{
    char *real = realpath(dir, NULL);
    if (!real)
        return kr_fail(err, KR_IO, "cannot find %s: %s", dir, strerror(errno));
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < walk->count && !*ret && status == KR_OK; i++) {
        if (!is_foreign_index(walk->files[i].path, real))
            continue;
        *ret = strdup(walk->files[i].path);
        status = *ret ? KR_OK : kr_fail_memory(err);
    }
    free(real);
    return status;
}

/* --- before anything is written ----------------------------------------------------------------
 */

/* Sealed by the keyring, since a restore was interrupted. */
static bool is_done(const struct restoring *all, const struct kr_mysql_sealed *sealed,
                    const struct kr_file *file, uint8_t *opened)
{
    struct kr_file_keys *to = all->restore->to;
    struct kr_error ignored = KR_ERROR_INIT;
    return to && kr_mysql_sealed_open(sealed, all->bundle, file, opened, &ignored) != KR_OK &&
           kr_mysql_sealed_open(sealed, to, file, opened, &ignored) == KR_OK;
}

/* Which number of its master key a file names. */
static enum kr_status see_file(struct restoring *all, const char *path,
                               const struct kr_file_run *run, struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    struct kr_mysql_sealed sealed;
    bool found;
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_OPENED_MAX);
    if (!opened)
        return kr_fail_secret(err);
    KR_TRY(kr_file_open(path, run, &file, err));
    KR_TRY(kr_mysql_sealed_find(&file, &sealed, &found, err));
    bool done = found && is_done(all, &sealed, &file, opened);
    pthread_mutex_lock(&all->lock);
    if (sealed.kind == KR_FILE_MYSQL_BINLOG_ENCRYPTED)
        all->binlog = true;
    else
        all->innodb = true;
    if (done)
        kr_mysql_masters_see_sealed(all->masters, &sealed);
    else if (found)
        kr_mysql_masters_see(all->masters, &sealed);
    pthread_mutex_unlock(&all->lock);
    return KR_OK;
}

static enum kr_status check_file(struct restoring *all, const char *path,
                                 const struct kr_file_run *run, struct kr_error *err)
{
    bool seals;
    if (!all->restore->dry_run)
        KR_TRY(kr_file_rekey_recover(path, run, all->datadirs, err));
    KR_TRY(kr_file_reseal_check(path, run, all->datadirs, &seals, err));
    return seals ? see_file(all, path, run, err) : KR_OK;
}

static enum kr_status check_one(const char *path, size_t index, const struct kr_file_run *run,
                                void *context, struct kr_error *err)
{
    struct restoring *all = context;
    struct kr_mysql_restored_file *file = &all->restored->files[index];
    struct kr_error why = KR_ERROR_INIT;
    (void)err;
    file->result = KR_REKEY_LEFT;
    if (check_file(all, path, run, &why) != KR_OK)
        file->why = why;
    return KR_OK;
}

/* --- writing -----------------------------------------------------------------------------------
 */

static enum kr_status write_one(const char *path, size_t index, const struct kr_file_run *run,
                                void *context, struct kr_error *err)
{
    struct restoring *all = context;
    struct kr_mysql_restored_file *file = &all->restored->files[index];
    struct kr_error why = KR_ERROR_INIT;
    const struct kr_reseal reseal = {.datadirs = all->datadirs,
                                     .to = all->restore->to,
                                     .innodb_key = all->masters->innodb,
                                     .binlog_key =
                                         *all->masters->binlog ? all->masters->binlog : NULL};
    (void)err;
    if (kr_file_reseal(path, run, &reseal, &file->result, &why) != KR_OK)
        file->why = why;
    return KR_OK;
}

static enum kr_status run_all(struct restoring *all, kr_files_work work, struct kr_error *err)
{
    struct kr_files_options options = all->restore->options;
    options.keys = all->both;
    options.work = work;
    options.context = all;
    KR_TRY(kr_files_run(all->restore->walk, &options, &all->restored->interrupted, err));
    struct kr_mysql_restored *restored = all->restored;
    restored->done = restored->current = restored->left = restored->failed = 0;
    for (size_t i = 0; i < all->restore->walk->count; i++) {
        const struct kr_mysql_restored_file *file = &restored->files[i];
        restored->failed += file->why.status != KR_OK;
        restored->done += file->why.status == KR_OK && file->result == KR_REKEY_DONE;
        restored->current += file->why.status == KR_OK && file->result == KR_REKEY_CURRENT;
        restored->left += file->why.status == KR_OK && file->result == KR_REKEY_LEFT;
    }
    return KR_OK;
}

static enum kr_status write_all(struct restoring *all, struct kr_error *err)
{
    const struct kr_mysql_restore *restore = all->restore;
    const struct kr_mysql_restored *restored = all->restored;
    const struct kr_audit_event event = {.name = "file-restore", .detail = restored->dir};
    KR_TRY(kr_audit_begin(restore->audit, &event, err));
    if (all->masters->new_uuid && restored->dir)
        KR_TRY(kr_mysql_masters_name_server(all->masters, restored->dir, err));
    KR_TRY(kr_mysql_masters_make(all->masters, restore->to, restore->resident, err));
    KR_TRY(run_all(all, write_one, err));
    const struct kr_error *first = NULL;
    for (size_t i = 0; i < restore->walk->count && !first; i++)
        first = restored->files[i].why.status != KR_OK ? &restored->files[i].why : NULL;
    kr_audit_end(restore->audit, &event, first);
    return KR_OK;
}

/* --- all of it ---------------------------------------------------------------------------------
 */

static enum kr_status prepare(struct restoring *all, struct kr_error *err)
{
    const struct kr_mysql_restore *restore = all->restore;
    struct kr_mysql_restored *restored = all->restored;
    all->masters = &restored->masters;
    restored->files = calloc(restore->walk->count + 1, sizeof(*restored->files));
    if (!restored->files)
        return kr_fail_memory(err);
    KR_TRY(find_dir(restore->walk, &restored->dir, err));
    if (restored->dir)
        KR_TRY(find_foreign_index(restore->walk, restored->dir, &restored->foreign_index, err));
    KR_TRY(kr_mysql_masters_server(restored->dir, &restored->masters, err));
    KR_TRY(kr_file_keys_of_bundle(restore->bundle, &all->bundle, err));
    KR_TRY(kr_file_keys_of_bundle(restore->bundle, &all->both, err));
    kr_file_keys_fall_back(all->both, restore->to);
    KR_TRY(kr_mysql_datadirs_new(restore->alone, &all->datadirs, err));
    kr_mysql_datadirs_headers_only(all->datadirs, restore->to);
    return KR_OK;
}

static enum kr_status restore_all(struct restoring *all, struct kr_error *err)
{
    KR_TRY(prepare(all, err));
    KR_TRY(run_all(all, check_one, err));
    if (all->restored->interrupted || all->restored->failed > 0)
        return KR_OK;
    if (all->restore->to)
        KR_TRY(
            kr_mysql_masters_choose(all->masters, all->restore->to, all->innodb, all->binlog, err));
    return all->restore->dry_run ? KR_OK : write_all(all, err);
}

enum kr_status kr_mysql_restore(const struct kr_mysql_restore *restore,
                                struct kr_mysql_restored *ret, struct kr_error *err)
{
    struct kr_mysql_restored restored = {.dir = NULL};
    struct restoring all = {.restore = restore, .restored = &restored};
    pthread_mutex_init(&all.lock, NULL);
    enum kr_status status = restore_all(&all, err);
    kr_mysql_datadirs_free(all.datadirs);
    kr_file_keys_free(all.both);
    kr_file_keys_free(all.bundle);
    pthread_mutex_destroy(&all.lock);
    if (status == KR_OK)
        *ret = restored;
    else
        kr_mysql_restored_free(&restored);
    return status;
}
