/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Encryption headers in MySQL's redo log. */
#include "files/mysql_redo_headers.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files/mysql_redo.h"

/* What tells a header: magic, number, uuid. The rest of it is anything. */
enum { UUID_AT = 7, MARK = UUID_AT + KR_MYSQL_UUID_CHARS, BLOCK = KR_MYSQL_REDO_BLOCK };
enum { DATA_MAX = BLOCK - KR_MYSQL_REDO_CLEAR - 4 };

/* --- looking for them ---------------------------------------------------------------------------
 */

struct search {
    uint64_t from;                  /* LSN */
    uint8_t bytes[MARK + DATA_MAX]; /* the end of what was seen, then the next block's data */
    size_t kept;
    bool found;
};

static bool is_header(const uint8_t *at)
{
    return at[0] == 'l' && at[1] == 'C' && at[2] >= 'A' && at[2] <= 'C' &&
           kr_mysql_is_uuid((const char *)at + UUID_AT);
}

/* A record goes on in the next block, behind that one's head. */
static void look(uint64_t lsn, const uint8_t block[KR_MYSQL_REDO_BLOCK], void *context)
{
    struct search *search = context;
    size_t end = kr_mysql_redo_used(block), start = KR_MYSQL_REDO_CLEAR;
    if (lsn + BLOCK <= search->from)
        return;
    if (search->from > lsn + start)
        start = (size_t)(search->from - lsn);
    if (end > BLOCK - 4)
        end = BLOCK - 4;
    if (start >= end)
        return;
    memcpy(search->bytes + search->kept, block + start, end - start);
    size_t len = search->kept + end - start;
    for (size_t at = 0; at + MARK <= len; at++)
        search->found |= is_header(search->bytes + at);
    search->kept = len < MARK - 1 ? len : MARK - 1;
    memmove(search->bytes, search->bytes + len - search->kept, search->kept);
}

/* --- the files of the log -----------------------------------------------------------------------
 */

struct part {
    uint64_t start, end; /* LSNs */
    char *path;
};

struct parts {
    struct part *of;
    size_t count;
};

bool kr_mysql_redo_is_name(const char *name)
{
    return strncmp(name, "#ib_redo", 8) == 0 && name[strspn(name + 8, "0123456789") + 8] == '\0';
}

static void free_parts(struct parts *parts)
{
    for (size_t i = 0; i < parts->count; i++)
        free(parts->of[i].path);
    free(parts->of);
}

static enum kr_status add_part(const char *path, const struct kr_file_run *run, uint64_t checkpoint,
                               struct parts *parts, struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    struct kr_mysql_redo redo;
    KR_TRY(kr_file_open(path, run, &file, err));
    if (file.head_len < KR_MYSQL_REDO_HEAD || !kr_mysql_redo_parse(file.head, &redo))
        return kr_fail(err, KR_INTEGRITY, "the head of %s is damaged", path);
    const struct part part = {.start = redo.start_lsn,
                              .end = redo.start_lsn + file.size - KR_MYSQL_REDO_HEAD,
                              .path = strdup(path)};
    struct part *more = reallocarray(parts->of, parts->count + 1, sizeof(*more));
    parts->of = more ? more : parts->of;
    if (!more || !part.path || part.end <= checkpoint) {
        free(part.path);
        return more && part.path ? KR_OK : kr_fail_memory(err);
    }
    parts->of[parts->count++] = part;
    return KR_OK;
}

static int by_start(const void *a, const void *b)
{
    const struct part *one = a, *other = b;
    return (one->start > other->start) - (one->start < other->start);
}

/* Those that reach behind the checkpoint, in order. */
static enum kr_status list_parts(const char *folder, uint64_t checkpoint,
                                 const struct kr_file_run *run, struct parts *ret,
                                 struct kr_error *err)
{
    enum kr_status status = KR_OK;
    DIR *entries = opendir(folder);
    if (!entries)
        return kr_fail(err, KR_IO, "cannot open %s: %s", folder, strerror(errno));
    for (struct dirent *entry; status == KR_OK && (entry = readdir(entries));) {
        char *path = NULL;
        if (!kr_mysql_redo_is_name(entry->d_name))
            continue;
        if (asprintf(&path, "%s/%s", folder, entry->d_name) < 0)
            path = NULL;
        status = path ? add_part(path, run, checkpoint, ret, err) : kr_fail_memory(err);
        free(path);
    }
    closedir(entries);
    if (status == KR_OK && ret->count > 0)
        qsort(ret->of, ret->count, sizeof(*ret->of), by_start);
    return status;
}

static enum kr_status fail_parts(const char *folder, struct kr_error *err)
{
    return kr_fail(err, KR_INTEGRITY, "the redo log in %s is not there as a whole", folder);
}

static enum kr_status search_part(const struct part *part, const struct kr_file_run *run,
                                  struct search *search, bool *ret_full, struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    KR_TRY(kr_file_open(part->path, run, &file, err));
    return kr_mysql_redo_each(&file, look, search, ret_full, err);
}

/* A file that is full has the next one behind it. */
static enum kr_status search_parts(const char *folder, const struct parts *parts,
                                   const struct kr_file_run *run, struct search *search,
                                   struct kr_error *err)
{
    bool full = true;
    if (parts->count == 0 || parts->of[0].start > search->from)
        return fail_parts(folder, err);
    for (size_t i = 0; i < parts->count && full && !search->found; i++) {
        if (i > 0 && parts->of[i].start != parts->of[i - 1].end)
            return fail_parts(folder, err);
        KR_TRY(search_part(&parts->of[i], run, search, &full, err));
    }
    return full && !search->found ? fail_parts(folder, err) : KR_OK;
}

enum kr_status kr_mysql_redo_has_headers(const char *folder, uint64_t checkpoint,
                                         const struct kr_file_run *run, bool *ret,
                                         struct kr_error *err)
{
    struct parts parts = {.count = 0};
    struct search search = {.from = checkpoint};
    atomic_ullong untold = 0; /* these files are read once more for their own sake */
    struct kr_file_run quiet = *run;
    quiet.done_bytes = &untold;
    enum kr_status status = list_parts(folder, checkpoint, &quiet, &parts, err);
    if (status == KR_OK)
        status = search_parts(folder, &parts, &quiet, &search, err);
    free_parts(&parts);
    if (status == KR_OK)
        *ret = search.found;
    return status;
}
