/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Keyrings that are one file. */
#include "migrate/file_store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/io.h"
#include "files/replace.h"

/* --- reading ---------------------------------------------------------------------------------- */

static enum kr_status fail_file(const char *what, const char *path, struct kr_error *err)
{
    return kr_fail(err, KR_IO, "cannot %s %s: %s", what, path, strerror(errno));
}

/* A server that was killed while it wrote leaves what it wrote last in PATH.backup. */
static enum kr_status refuse_backup(const struct kr_store *store, struct kr_error *err)
{
    char *backup;
    if (asprintf(&backup, "%s.backup", store->path) < 0)
        return kr_fail_memory(err);
    bool found = access(backup, F_OK) == 0;
    if (found) {
        kr_fail(err, KR_REFUSED, "%s is there: a server wrote to the keyring and did not finish",
                backup);
        kr_hint(err, "start and stop the server that uses the keyring: it puts that right");
    }
    free(backup);
    return found ? err->status : KR_OK;
}

enum kr_status kr_file_store_open(struct kr_store *store, const struct kr_file_format *format,
                                  struct kr_error *err)
{
    store->format = format;
    if (store->exists && (size_t)store->st.st_size > format->bytes_max)
        return kr_fail(err, KR_USAGE, "%s is larger than %zu bytes", store->path,
                       format->bytes_max);
    return format->has_backup ? refuse_backup(store, err) : KR_OK;
}

static void free_text(struct kr_file_text *text)
{
    kr_secret_free(text->bytes);
}
#define FILE_TEXT __attribute__((cleanup(free_text))) struct kr_file_text

/* The whole file, terminated. */
static enum kr_status read_fd(int fd, const char *path, size_t bytes_max, struct kr_file_text *ret,
                              struct kr_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_file("look at", path, err);
    if ((size_t)st.st_size > bytes_max)
        return kr_fail(err, KR_USAGE, "%s is larger than %zu bytes", path, bytes_max);
    KR_SECRET char *bytes = kr_secret_alloc((size_t)st.st_size + 1);
    if (!bytes)
        return kr_fail_secret(err);
    ssize_t len = kr_read_full(fd, bytes, (size_t)st.st_size + 1);
    if (len < 0)
        return fail_file("read", path, err);
    if (len != st.st_size)
        return kr_fail(err, KR_IO, "%s was written to while it was read", path);
    *ret = (struct kr_file_text){bytes, (size_t)len};
    bytes = NULL;
    return KR_OK;
}

static enum kr_status read_text(const char *path, size_t bytes_max, struct kr_file_text *ret,
                                struct kr_error *err)
{
    KR_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? fail_file("open", path, err) : read_fd(fd, path, bytes_max, ret, err);
}

/* Without a file there is no text, and no key. */
static enum kr_status read_keys(const struct kr_store *store, const char *path,
                                struct kr_file_text *ret, struct kr_key_set *set,
                                struct kr_error *err)
{
    KR_TRY(read_text(path, store->format->bytes_max, ret, err));
    enum kr_status status = store->format->parse(store, ret, set, err);
    if (status == KR_OK)
        status = kr_key_set_sort(set, err);
    if (status != KR_OK)
        kr_error_context(err, "%s", path);
    return status;
}

enum kr_status kr_file_store_read(struct kr_store *store, struct kr_key_set *set,
                                  struct kr_error *err)
{
    FILE_TEXT text = {0};
    return read_keys(store, store->path, &text, set, err);
}

/* --- what is there already -------------------------------------------------------------------- */

static enum kr_presence look_for(const struct kr_key_set *there, const struct kr_set_key *key)
{
    const struct kr_set_key *found = kr_key_set_find(there, key);
    if (!found)
        return KR_ABSENT;
    return kr_set_key_equal(found, key) ? KR_EQUAL : KR_CONFLICT;
}

static enum kr_status read_existing(const struct kr_store *store, struct kr_file_text *text,
                                    struct kr_key_set *set, struct kr_error *err)
{
    return store->exists ? read_keys(store, store->path, text, set, err) : KR_OK;
}

enum kr_status kr_file_store_survey(struct kr_store *store, struct kr_key_set *set,
                                    struct kr_error *err)
{
    KR_KEY_SET there = {0};
    FILE_TEXT text = {0};
    KR_TRY(read_existing(store, &text, &there, err));
    for (size_t i = 0; i < set->count; i++) {
        struct kr_set_key *key = &set->keys[i];
        if (!key->stuck)
            key->stuck = store->format->refuse(set, key);
        key->presence = look_for(&there, key);
    }
    return KR_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

struct writing {
    const struct kr_store *store;
    const struct kr_key_set *set;
    const struct kr_import_options *options;
    struct kr_key_set there; /* what the file had */
    size_t added;
};

/* What was written holds what was there, and what was to be added, and nothing else. */
static enum kr_status compare(const struct writing *writing, const struct kr_key_set *written,
                              struct kr_error *err)
{
    const struct kr_key_set *parts[] = {&writing->there, writing->set};
    size_t same = 0, wanted = writing->there.count + writing->added;
    for (size_t part = 0; part < 2; part++)
        for (size_t i = 0; i < parts[part]->count; i++) {
            const struct kr_set_key *key = &parts[part]->keys[i];
            if (part == 0 || key->presence == KR_ABSENT)
                same += look_for(written, key) == KR_EQUAL;
        }
    if (same == wanted && written->count == wanted)
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY, "%s reads otherwise than it was written: it stays as it was",
                   writing->store->path);
}

static enum kr_status write_all(const struct kr_replacement *replacement,
                                const struct kr_file_text *text, struct kr_error *err)
{
    for (size_t done = 0; done < text->len;) {
        ssize_t count = write(replacement->fd, text->bytes + done, text->len - done);
        if (count < 0 && errno != EINTR)
            return fail_file("write", replacement->beside, err);
        if (count > 0)
            done += (size_t)count;
    }
    return kr_replacement_sync(replacement, err);
}

static enum kr_status read_back(const struct writing *writing, const char *path,
                                struct kr_error *err)
{
    KR_KEY_SET written = {0};
    FILE_TEXT text = {0};
    KR_TRY(read_keys(writing->store, path, &text, &written, err));
    return compare(writing, &written, err);
}

/* Nobody else may have made or changed the file since it was looked at. */
static enum kr_status check_unchanged(const struct kr_store *store, struct kr_error *err)
{
    const struct stat *then = &store->st;
    struct stat now;
    bool exists = lstat(store->path, &now) == 0;
    if (exists == store->exists &&
        (!exists || (now.st_ino == then->st_ino && now.st_size == then->st_size &&
                     now.st_mtim.tv_sec == then->st_mtim.tv_sec &&
                     now.st_mtim.tv_nsec == then->st_mtim.tv_nsec)))
        return KR_OK;
    kr_fail(err, KR_REFUSED, "somebody else wrote to %s meanwhile: it was left as it is",
            store->path);
    kr_hint(err, "stop the server that uses it, or name it with --server; then give the same "
                 "command again");
    return err->status;
}

static enum kr_status replace(const struct writing *writing, const struct kr_file_text *text,
                              struct kr_error *err)
{
    const struct kr_store *store = writing->store;
    KR_REPLACEMENT replacement = {.fd = -1};
    KR_TRY(kr_replacement_open(store->path, store->exists ? &store->st : NULL, &replacement, err));
    KR_TRY(write_all(&replacement, text, err));
    KR_TRY(read_back(writing, replacement.beside, err));
    KR_TRY(check_unchanged(store, err));
    if (writing->options->may_commit)
        KR_TRY(writing->options->may_commit(writing->options->commit_context, err));
    return kr_replacement_commit(&replacement, err);
}

/* Two of us must not write beside the same file. */
static enum kr_status lock_folder(const struct kr_store *store, int *ret, struct kr_error *err)
{
    char *copy = strdup(store->path);
    if (!copy)
        return kr_fail_memory(err);
    KR_FD int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return fail_file("open the folder of", store->path, err);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return kr_fail(err, KR_REFUSED, "another p11keyring writes to the folder of %s",
                       store->path);
    *ret = kr_fd_take(&fd);
    return KR_OK;
}

static enum kr_status check_absent(struct writing *writing, struct kr_error *err)
{
    for (size_t i = 0; i < writing->set->count; i++) {
        const struct kr_set_key *key = &writing->set->keys[i];
        char text[KR_SET_KEY_TEXT];
        if (key->presence != KR_ABSENT)
            continue;
        writing->added++;
        if (look_for(&writing->there, key) == KR_ABSENT)
            continue;
        kr_set_key_text(key, text);
        return kr_fail(err, KR_REFUSED, "%s has %s by now", writing->store->path, text);
    }
    return KR_OK;
}

static enum kr_status add(struct writing *writing, struct kr_error *err)
{
    const struct kr_file_format *format = writing->store->format;
    KR_FD int lock = -1;
    FILE_TEXT before = {0};
    FILE_TEXT after = {0};
    KR_KEY_SET all = {0};
    KR_TRY(lock_folder(writing->store, &lock, err));
    KR_TRY(read_existing(writing->store, &before, &writing->there, err));
    KR_TRY(check_absent(writing, err));
    KR_TRY(format->extend(writing->store, &before, writing->set, &after, err));
    KR_TRY(format->parse(writing->store, &after, &all, err));
    KR_TRY(kr_key_set_sort(&all, err));
    if (format->check)
        KR_TRY(format->check(writing->store, &all, err));
    return replace(writing, &after, err);
}

enum kr_status kr_file_store_add(struct kr_store *store, const struct kr_key_set *set,
                                 const struct kr_import_options *options, struct kr_error *err)
{
    struct writing writing = {.store = store, .set = set, .options = options};
    enum kr_status status = add(&writing, err);
    kr_key_set_free(&writing.there);
    return status;
}
