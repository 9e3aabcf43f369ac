/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The table of kinds of keyring. */
#include "migrate/store_internal.h"

#include <errno.h>
#include <limits.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct kr_store_kind *const kinds[] = {
    &kr_store_file_key_management,
    &kr_store_component_keyring_file,
    &kr_store_keyring_file,
    &kr_store_p11keyring,
};
enum { KINDS = sizeof(kinds) / sizeof(*kinds) };

/* --- the text form ---------------------------------------------------------------------------- */

static enum kr_status fail_spec(struct kr_error *err, const char *text)
{
    kr_fail(err, KR_USAGE, "'%.100s' names no keyring", text);
    kr_hint(err, "file-key-management:PATH, component-keyring-file:PATH, keyring-file:PATH, "
                 "p11keyring or p11keyring:CONFIG");
    return err->status;
}

static const struct kr_store_kind *find_kind(const char *text, size_t len)
{
    for (size_t i = 0; i < KINDS; i++)
        if (strlen(kinds[i]->name) == len && strncmp(kinds[i]->name, text, len) == 0)
            return kinds[i];
    return NULL;
}

enum kr_status kr_store_parse(const char *text, struct kr_store_spec *ret, struct kr_error *err)
{
    size_t len = strcspn(text, ":");
    struct kr_store_spec spec = {.kind = find_kind(text, len)};
    if (!spec.kind || (text[len] == '\0' && spec.kind->is_file))
        return fail_spec(err, text);
    if (text[len] == ':')
        spec.path = text + len + 1;
    if (spec.path && *spec.path != '/') {
        kr_fail(err, KR_USAGE, "'%.100s' is no full path", spec.path);
        kr_hint(err, "give the path from the root on: %s:/...", spec.kind->name);
        return err->status;
    }
    *ret = spec;
    return KR_OK;
}

/* --- life ------------------------------------------------------------------------------------- */

/* Links are followed: what replaces a file must not replace the link to it. */
static enum kr_status find_file(struct kr_store *store, const char *path, struct kr_error *err)
{
    store->exists = stat(path, &store->st) == 0;
    if (!store->exists && errno != ENOENT)
        return kr_fail(err, KR_IO, "cannot look at %s: %s", path, strerror(errno));
    store->path = store->exists ? realpath(path, NULL) : strdup(path);
    return store->path ? KR_OK : kr_fail_memory(err);
}

static enum kr_status open_store(struct kr_store *store, const char *path, struct kr_error *err)
{
    KR_TRY(find_file(store, path, err));
    if (store->exists && !S_ISREG(store->st.st_mode))
        return kr_fail(err, KR_USAGE, "%s is no file", store->path);
    if (!store->exists && !(store->options.writable && store->kind->is_file))
        return kr_fail(err, KR_NOT_FOUND, "there is no %s", store->path);
    return store->kind->open(store, err);
}

enum kr_status kr_store_open(const struct kr_store_spec *spec,
                             const struct kr_store_options *options, struct kr_store **ret,
                             struct kr_error *err)
{
    struct kr_store *store = calloc(1, sizeof(*store));
    if (!store)
        return kr_fail_memory(err);
    store->kind = spec->kind;
    store->options = *options;
    const char *path = spec->kind->is_file ? spec->path : options->config->keyring.keystore;
    enum kr_status status = open_store(store, path, err);
    if (status != KR_OK) {
        kr_store_close(store);
        return status;
    }
    *ret = store;
    return KR_OK;
}

void kr_store_close(struct kr_store *store)
{
    if (!store)
        return;
    if (store->kind->close)
        store->kind->close(store);
    free(store->path);
    free(store);
}

void kr_store_cleanup(struct kr_store **store)
{
    kr_store_close(*store);
}

/* --- use -------------------------------------------------------------------------------------- */

enum kr_status kr_store_check_distinct(const char *from, const char *to, struct kr_error *err)
{
    struct stat a, b;
    if (stat(from, &a) != 0 || stat(to, &b) != 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "source and destination are the same file: %s", to);
    kr_hint(err, "to bring a keyring to another token: p11keyring keyring move");
    return err->status;
}

enum kr_status kr_store_read(struct kr_store *store, struct kr_key_set *set, struct kr_error *err)
{
    KR_TRY(store->kind->read(store, set, err));
    if (kr_key_set_sort(set, err) != KR_OK) {
        kr_error_context(err, "%s", store->path);
        return err->status;
    }
    return set->count > 0 ? KR_OK : kr_fail(err, KR_NOT_FOUND, "%s has no key", store->path);
}

enum kr_status kr_store_survey(struct kr_store *store, struct kr_key_set *set, struct kr_error *err)
{
    return store->kind->survey(store, set, err);
}

enum kr_status kr_store_add(struct kr_store *store, const struct kr_key_set *set,
                            const struct kr_import_options *options, struct kr_error *err)
{
    return store->kind->add(store, set, options, err);
}

/* --- what there is to say about it ------------------------------------------------------------ */

const char *kr_store_path(const struct kr_store *store)
{
    return store->path;
}

bool kr_store_is_open_to_others(const struct kr_store *store)
{
    return store->kind->is_clear && store->exists && (store->st.st_mode & 077) != 0;
}

static bool is_data_directory(const char *folder)
{
    static const char *const signs[] = {"ibdata1", "mysql.ibd", "aria_log_control"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(signs) / sizeof(*signs); i++) {
        int len = snprintf(path, sizeof(path), "%s/%s", folder, signs[i]);
        if (len < (int)sizeof(path) && access(path, F_OK) == 0)
            return true;
    }
    return false;
}

char *kr_store_data_directory(const struct kr_store *store)
{
    char *path = strdup(store->path);
    while (path && strcmp(path, "/") != 0) {
        char *folder = dirname(path);
        if (is_data_directory(folder)) {
            memmove(path, folder, strlen(folder) + 1);
            return path;
        }
        if (folder != path)
            memmove(path, folder, strlen(folder) + 1);
        if (strcmp(path, ".") == 0)
            break;
    }
    free(path);
    return NULL;
}
