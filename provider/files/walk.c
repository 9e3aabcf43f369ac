/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Folder by folder, each read whole and sorted; descriptors, not paths, lead downwards. */
#include "files/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 64, FIRST_ROOM = 64 };

/* Room for one element more in an array that grows by doubling; NULL without memory. */
static void *grow(void *array, size_t count, size_t element)
{
    bool full = count == 0 || (count >= FIRST_ROOM && (count & (count - 1)) == 0);
    size_t room = count < FIRST_ROOM ? FIRST_ROOM : 2 * count;
    return full ? reallocarray(array, room, element) : array;
}

static enum kr_status add_file(struct kr_walk *walk, const char *path, uint64_t size,
                               struct kr_error *err)
{
    struct kr_walk_file *files = grow(walk->files, walk->count, sizeof(*files));
    if (!files)
        return kr_fail_memory(err);
    walk->files = files;
    files[walk->count] = (struct kr_walk_file){.path = strdup(path), .size = size};
    if (!files[walk->count].path)
        return kr_fail_memory(err);
    walk->count++;
    walk->bytes += size;
    return KR_OK;
}

static enum kr_status add_skip(struct kr_walk *walk, const char *path, bool harmless,
                               const char *why, struct kr_error *err)
{
    struct kr_walk_skip *skips = grow(walk->skips, walk->skip_count, sizeof(*skips));
    if (!skips)
        return kr_fail_memory(err);
    walk->skips = skips;
    struct kr_walk_skip *skip = &skips[walk->skip_count];
    *skip = (struct kr_walk_skip){.path = strdup(path), .harmless = harmless};
    if (!skip->path)
        return kr_fail_memory(err);
    snprintf(skip->why, sizeof(skip->why), "%s", why);
    walk->skip_count++;
    return KR_OK;
}

void kr_walk_free(struct kr_walk *walk)
{
    for (size_t i = 0; i < walk->count; i++)
        free(walk->files[i].path);
    for (size_t i = 0; i < walk->skip_count; i++)
        free(walk->skips[i].path);
    free(walk->files);
    free(walk->skips);
    *walk = (struct kr_walk){0};
}

/* --- one folder ------------------------------------------------------------------------------- */

struct names {
    char **at;
    size_t count;
};

static void free_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->at[i]);
    free(names->at);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Takes `fd` over. False with errno. */
static bool read_names(int fd, struct names *ret)
{
    DIR *dir = fdopendir(fd);
    const struct dirent *entry;
    bool ok = dir != NULL;
    if (!dir)
        close(fd);
    errno = 0;
    while (ok && (entry = readdir(dir))) {
        if (is_dot(entry->d_name))
            continue;
        char **at = grow(ret->at, ret->count, sizeof(*at));
        ok = at != NULL;
        if (!ok)
            break;
        ret->at = at;
        at[ret->count] = strdup(entry->d_name);
        ok = at[ret->count] != NULL;
        ret->count += ok;
        errno = 0;
    }
    int why = errno;
    if (dir)
        closedir(dir);
    errno = why;
    if (ret->count > 1)
        qsort(ret->at, ret->count, sizeof(*ret->at), by_name);
    return ok && why == 0;
}

/* --- downwards -------------------------------------------------------------------------------- */

/* A folder on the way: its path as it was given, and its file system. */
struct place {
    struct kr_walk *walk;
    const char *path;
    int fd;
    dev_t device;
    unsigned depth;
};

static enum kr_status walk_folder(const struct place *place, struct kr_error *err);

static enum kr_status skip_errno(struct kr_walk *walk, const char *path, const char *what,
                                 struct kr_error *err)
{
    char why[120];
    snprintf(why, sizeof(why), "cannot %s it: %s", what, strerror(errno));
    return add_skip(walk, path, false, why, err);
}

static enum kr_status enter(const struct place *place, const char *name, const char *path,
                            const struct stat *st, struct kr_error *err)
{
    if (st->st_dev != place->device)
        return add_skip(place->walk, path, false, "a folder of another file system: name it", err);
    if (place->depth >= DEPTH_MAX)
        return add_skip(place->walk, path, false, "folders nested too deeply", err);
    int fd = openat(place->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return skip_errno(place->walk, path, "open", err);
    const struct place below = {.walk = place->walk,
                                .path = path,
                                .fd = fd,
                                .device = place->device,
                                .depth = place->depth + 1};
    enum kr_status status = walk_folder(&below, err);
    close(fd);
    return status;
}

static enum kr_status visit(const struct place *place, const char *name, const char *path,
                            struct kr_error *err)
{
    struct stat st;
    if (fstatat(place->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? add_skip(place->walk, path, false, "removed meanwhile", err)
                               : skip_errno(place->walk, path, "look at", err);
    if (S_ISREG(st.st_mode))
        return add_file(place->walk, path, (uint64_t)st.st_size, err);
    if (S_ISDIR(st.st_mode))
        return enter(place, name, path, &st, err);
    if (S_ISLNK(st.st_mode))
        return add_skip(place->walk, path, false, "a symbolic link: name its target", err);
    return add_skip(place->walk, path, true, "no regular file", err);
}

static enum kr_status visit_names(const struct place *place, const struct names *names,
                                  struct kr_error *err)
{
    size_t used = strlen(place->path);
    const char *gap = used > 0 && place->path[used - 1] == '/' ? "" : "/";
    for (size_t i = 0; i < names->count; i++) {
        char *path = NULL;
        if (asprintf(&path, "%s%s%s", place->path, gap, names->at[i]) < 0)
            return kr_fail_memory(err);
        enum kr_status status = visit(place, names->at[i], path, err);
        free(path);
        KR_TRY(status);
    }
    return KR_OK;
}

static enum kr_status walk_folder(const struct place *place, struct kr_error *err)
{
    struct names names = {0};
    int fd = openat(place->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool whole = fd >= 0 && read_names(fd, &names);
    enum kr_status status = KR_OK;
    if (!whole)
        status = skip_errno(place->walk, place->path, "list all of", err);
    if (status == KR_OK)
        status = visit_names(place, &names, err);
    free_names(&names);
    return status;
}

/* --- the whole -------------------------------------------------------------------------------- */

static enum kr_status start_folder(struct kr_walk *walk, const char *path, const struct stat *st,
                                   struct kr_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return kr_fail(err, KR_IO, "cannot open %s: %s", path, strerror(errno));
    const struct place place = {.walk = walk, .path = path, .fd = fd, .device = st->st_dev};
    enum kr_status status = walk_folder(&place, err);
    close(fd);
    return status;
}

/* A link that is named is followed: somebody meant it. */
static enum kr_status start(struct kr_walk *walk, const char *path, struct kr_error *err)
{
    struct stat st, link;
    if (stat(path, &st) != 0)
        return kr_fail(err, errno == ENOENT ? KR_NOT_FOUND : KR_IO, "cannot look at %s: %s", path,
                       strerror(errno));
    if (S_ISDIR(st.st_mode))
        return start_folder(walk, path, &st, err);
    if (!S_ISREG(st.st_mode))
        return kr_fail(err, KR_REFUSED, "%s is neither a regular file nor a folder", path);
    if (lstat(path, &link) == 0 && !S_ISLNK(link.st_mode))
        return add_file(walk, path, (uint64_t)st.st_size, err);
    char *target = realpath(path, NULL);
    if (!target)
        return kr_fail(err, KR_IO, "cannot look at %s: %s", path, strerror(errno));
    enum kr_status status = add_file(walk, target, (uint64_t)st.st_size, err);
    free(target);
    return status;
}

enum kr_status kr_walk(char *const *paths, size_t count, struct kr_walk *ret, struct kr_error *err)
{
    struct kr_walk walk = {0};
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < count && status == KR_OK; i++)
        status = start(&walk, paths[i], err);
    if (status == KR_OK)
        *ret = walk;
    else
        kr_walk_free(&walk);
    return status;
}
