/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's data directories: locked by ibdata1, as the server does it, and clean by its logs. */
#include "files/mysql_datadir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io.h"
#include "files/mysql_redo_headers.h"
#include "formats/mysql_redo.h"

/* A server writes the LSN of a clean shutdown into the first page of the system tablespace. */
enum { SHUTDOWN_LSN_AT = 26, LEVELS = 3, BLOCK = KR_MYSQL_REDO_BLOCK };
#define SYSTEM_FILE "/ibdata1"
#define REDO_FOLDER "/#innodb_redo"

struct held {
    char *path;
    int fd; /* of its ibdata1, locked */
};

struct kr_mysql_datadirs {
    bool alone;
    bool headers_only;
    struct kr_file_keys *to; /* of headers that are sealed anew already; may be NULL */
    pthread_mutex_t lock;
    struct held *held;
    size_t count;
};

enum kr_status kr_mysql_datadirs_new(bool alone, struct kr_mysql_datadirs **ret,
                                     struct kr_error *err)
{
    struct kr_mysql_datadirs *dirs = calloc(1, sizeof(*dirs));
    if (!dirs)
        return kr_fail_memory(err);
    pthread_mutex_init(&dirs->lock, NULL);
    dirs->alone = alone;
    *ret = dirs;
    return KR_OK;
}

void kr_mysql_datadirs_headers_only(struct kr_mysql_datadirs *dirs, struct kr_file_keys *to)
{
    dirs->headers_only = true;
    dirs->to = to;
}

void kr_mysql_datadirs_free(struct kr_mysql_datadirs *dirs)
{
    if (!dirs)
        return;
    for (size_t i = 0; i < dirs->count; i++) {
        close(dirs->held[i].fd);
        free(dirs->held[i].path);
    }
    free(dirs->held);
    pthread_mutex_destroy(&dirs->lock);
    free(dirs);
}

/* --- clean? --------------------------------------------------------------------------------------
 */

static enum kr_status refuse_unclean(const char *dir, const char *why, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "the server of %s was not shut down cleanly: %s", dir, why);
    kr_hint(err, "start the server and stop it: its redo log is still needed as it is");
    return err->status;
}

/* The file of the redo log that has the newest checkpoint. */
struct newest {
    struct kr_mysql_redo redo;
    char *path;
    uint64_t size;
};

static void look_at_redo(const char *path, const struct kr_file_run *run, struct newest *newest)
{
    KR_FILE file = {.fd = -1};
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_mysql_redo redo;
    if (kr_file_open(path, run, &file, &ignored) != KR_OK || file.head_len < KR_MYSQL_REDO_HEAD ||
        !kr_mysql_redo_parse(file.head, &redo) || !redo.numbered)
        return;
    if (redo.checkpoint <= newest->redo.checkpoint)
        return;
    char *copy = strdup(path);
    if (!copy)
        return;
    free(newest->path);
    *newest = (struct newest){.redo = redo, .path = copy, .size = file.size};
}

static void find_newest(const char *dir, const struct kr_file_run *run, struct newest *ret)
{
    char *folder = NULL;
    if (asprintf(&folder, "%s" REDO_FOLDER, dir) < 0)
        return;
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        char *path = NULL;
        if (!kr_mysql_redo_is_name(entry->d_name) ||
            asprintf(&path, "%s/%s", folder, entry->d_name) < 0)
            continue;
        look_at_redo(path, run, ret);
        free(path);
    }
    if (entries)
        closedir(entries);
    free(folder);
}

/* Whether the log ends where its newest checkpoint is. */
static bool ends_at_checkpoint(const struct newest *newest)
{
    const struct kr_mysql_redo *redo = &newest->redo;
    uint8_t blocks[2 * BLOCK] = {0};
    if (redo->checkpoint < redo->start_lsn)
        return false;
    uint64_t index = (redo->checkpoint - redo->start_lsn) / BLOCK + KR_MYSQL_REDO_HEAD / BLOCK;
    KR_FD int fd = open(newest->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || (index + 1) * BLOCK > newest->size ||
        pread(fd, blocks, sizeof(blocks), (off_t)(index * BLOCK)) < BLOCK)
        return false;
    return kr_mysql_redo_in_place(redo, index, blocks) &&
           kr_mysql_redo_used(blocks) == redo->checkpoint % BLOCK &&
           !kr_mysql_redo_in_place(redo, index + 1, blocks + BLOCK);
}

static enum kr_status check_clean(const char *dir, int system, const struct kr_file_run *run,
                                  struct kr_error *err)
{
    uint8_t lsn[8];
    struct newest newest = {.path = NULL};
    enum kr_status status = KR_OK;
    find_newest(dir, run, &newest);
    if (!newest.path)
        status = refuse_unclean(dir, "it has no redo log of MySQL 8.0.30 or later", err);
    else if (pread(system, lsn, sizeof(lsn), SHUTDOWN_LSN_AT) != sizeof(lsn) ||
             kr_get_number(lsn, sizeof(lsn)) != newest.redo.checkpoint)
        status = refuse_unclean(dir, "its newest checkpoint is not that of a shutdown", err);
    else if (newest.redo.off)
        status = refuse_unclean(dir, "its redo logging is turned off", err);
    else if (!ends_at_checkpoint(&newest))
        status = refuse_unclean(dir, "its redo log goes on behind the newest checkpoint", err);
    free(newest.path);
    return status;
}

/* --- or will recovery leave headers alone? -------------------------------------------------------
 */

/* The log has the key that the tablespaces have: of the one keyring, or of the other already. */
static enum kr_status log_has_headers(const char *dir, uint64_t checkpoint,
                                      const struct kr_file_run *run, struct kr_file_keys *to,
                                      bool *ret, struct kr_error *err)
{
    struct kr_file_run other = *run;
    struct kr_error ignored = KR_ERROR_INIT;
    char *folder = NULL;
    if (asprintf(&folder, "%s" REDO_FOLDER, dir) < 0)
        return kr_fail_memory(err);
    other.keys = to;
    enum kr_status status =
        to ? kr_mysql_redo_has_headers(folder, checkpoint, &other, ret, &ignored) : KR_NOT_FOUND;
    if (status != KR_OK)
        status = kr_mysql_redo_has_headers(folder, checkpoint, run, ret, err);
    free(folder);
    return status;
}

static bool is_clone(const struct newest *newest)
{
    return strncmp(newest->redo.creator, "MySQL Clone", 11) == 0;
}

static enum kr_status refuse_headers(const char *dir, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED,
            "the server of %s was not shut down cleanly, and its redo log has encryption headers "
            "that recovery puts in the place of others",
            dir);
    kr_hint(err,
            "start it with the keyring that it had and stop it, or copy it once more: stopped, "
            "or with CLONE");
    return err->status;
}

/* `unclean` is the answer where nothing else can be found out. */
static enum kr_status check_recovery(const char *dir, const struct kr_file_run *run,
                                     struct kr_file_keys *to, const struct kr_error *unclean,
                                     struct kr_error *err)
{
    bool has = false;
    enum kr_status status = KR_OK;
    struct newest newest = {.path = NULL};
    find_newest(dir, run, &newest);
    if (!newest.path || newest.redo.off) {
        *err = *unclean;
        status = unclean->status;
    } else if (!is_clone(&newest)) {
        status = log_has_headers(dir, newest.redo.checkpoint, run, to, &has, err);
    }
    free(newest.path);
    return status == KR_OK && has ? refuse_headers(dir, err) : status;
}

static enum kr_status check(const struct kr_mysql_datadirs *dirs, const char *dir, int system,
                            const struct kr_file_run *run, struct kr_error *err)
{
    struct kr_error unclean = KR_ERROR_INIT;
    enum kr_status status = check_clean(dir, system, run, &unclean);
    if (status == KR_REFUSED && dirs->headers_only)
        return check_recovery(dir, run, dirs->to, &unclean, err);
    if (status != KR_OK)
        *err = unclean;
    return status;
}

/* --- locked? -------------------------------------------------------------------------------------
 */

static enum kr_status take_lock(const char *dir, const char *system, int fd, struct kr_error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0)
        return kr_fail(err, KR_IO, "cannot open %s for writing: %s", system, strerror(errno));
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "a server runs in %s", dir);
    kr_hint(err, "stop it first, or work on a copy of its files");
    return err->status;
}

static enum kr_status lock(const struct kr_mysql_datadirs *dirs, const char *dir,
                           const char *system, const struct kr_file_run *run, int *ret,
                           struct kr_error *err)
{
    int fd = open(system, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    enum kr_status status = take_lock(dir, system, fd, err);
    if (status == KR_OK)
        status = check(dirs, dir, fd, run, err);
    if (status == KR_OK)
        *ret = fd;
    else
        kr_fd_cleanup(&fd);
    return status;
}

static bool is_held(const struct kr_mysql_datadirs *dirs, const char *dir)
{
    for (size_t i = 0; i < dirs->count; i++) {
        if (strcmp(dirs->held[i].path, dir) == 0)
            return true;
    }
    return false;
}

static enum kr_status hold(struct kr_mysql_datadirs *dirs, const char *dir, const char *system,
                           const struct kr_file_run *run, struct kr_error *err)
{
    if (is_held(dirs, dir))
        return KR_OK;
    struct held *held = reallocarray(dirs->held, dirs->count + 1, sizeof(*held));
    if (!held)
        return kr_fail_memory(err);
    dirs->held = held;
    struct held *entry = &held[dirs->count];
    entry->path = strdup(dir);
    if (!entry->path)
        return kr_fail_memory(err);
    enum kr_status status = lock(dirs, dir, system, run, &entry->fd, err);
    if (status == KR_OK)
        dirs->count++;
    else
        free(entry->path);
    return status;
}

/* A table with a DATA DIRECTORY may be of a server that runs: it locks what it has open, and keeps
 * the keys of the rest in memory. */
static enum kr_status refuse_unknown(const struct kr_file *file, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "%s is in no data directory: whether a server needs it is not known",
            file->path);
    kr_hint(err, "say that it is a copy, which no server uses or has to recover: --alone");
    return err->status;
}

/* The folder of the file or one above it that has a system tablespace. */
enum kr_status kr_mysql_datadirs_hold(struct kr_mysql_datadirs *dirs, const struct kr_file *file,
                                      struct kr_error *err)
{
    enum kr_status status = KR_OK;
    bool found = false;
    char *dir = realpath(file->path, NULL);
    if (!dir)
        return kr_fail(err, KR_IO, "cannot find %s: %s", file->path, strerror(errno));
    for (int level = 0; level < LEVELS && !found; level++) {
        char *slash = strrchr(dir, '/'), *system = NULL;
        if (!slash || slash == dir)
            break;
        *slash = '\0';
        if (asprintf(&system, "%s" SYSTEM_FILE, dir) < 0) {
            status = kr_fail_memory(err);
            break;
        }
        found = access(system, F_OK) == 0;
        pthread_mutex_lock(&dirs->lock);
        if (found)
            status = hold(dirs, dir, system, file->run, err);
        pthread_mutex_unlock(&dirs->lock);
        free(system);
    }
    free(dir);
    return status == KR_OK && !found && !dirs->alone ? refuse_unknown(file, err) : status;
}
