/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What mariadb-backup keeps of a tablespace in an incremental backup (server source: extra/
 * mariabackup/write_filt.cc): the pages that have changed, as they are in the tablespace. In
 * groups: a first page with "xtra", or "XTRA" in the last group, and the numbers of the pages,
 * big-endian, as many as fit or up to FFFFFFFF; then those pages. NAME.meta beside NAME.delta tells
 * page size and space.
 *
 * Page 0, which names the key, is seldom among them: then it is that of the tablespace in the
 * backup that this one follows, one of the other files of the run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io.h"
#include "base/secret.h"
#include "files/kinds.h"
#include "files/mariadb_pages.h"

enum { NUMBER = 4, NO_MORE = 0xffffffff };

struct delta {
    const struct kr_file *file;
    size_t page_size;
    uint32_t space_id;
    struct kr_mariadb_space space;
    uint8_t *group; /* its first page */
    uint8_t *page;  /* secret memory: it is decrypted in place */
};

static void end_delta(struct delta *delta)
{
    free(delta->group);
    kr_secret_free(delta->page);
}
#define DELTA __attribute__((cleanup(end_delta))) struct delta

/* --- its pages -------------------------------------------------------------------------------- */

typedef enum kr_status (*visitor)(struct delta *delta, uint32_t number, void *context,
                                  struct kr_error *err);

static bool is_last(const struct delta *delta)
{
    return memcmp(delta->group, "XTRA", 4) == 0;
}

/* *at is where the group begins, then where it ends. */
static enum kr_status visit_group(struct delta *delta, uint64_t *at, visitor visit, void *context,
                                  struct kr_error *err)
{
    const struct kr_file *file = delta->file;
    KR_TRY(kr_file_read(file, *at, delta->group, delta->page_size, err));
    if (!is_last(delta) && memcmp(delta->group, "xtra", 4) != 0)
        return kr_fail(err, KR_INTEGRITY, "%s has no group of pages at %llu", file->path,
                       (unsigned long long)*at);
    *at += delta->page_size;
    for (size_t i = NUMBER; i < delta->page_size && !kr_file_stopped(file); i += NUMBER) {
        const uint32_t number = (uint32_t)kr_get_number(delta->group + i, NUMBER);
        if (number == NO_MORE)
            break;
        KR_TRY(kr_file_read(file, *at, delta->page, delta->page_size, err));
        KR_TRY(visit(delta, number, context, err));
        *at += delta->page_size;
        kr_file_done(file, delta->page_size);
    }
    return KR_OK;
}

static enum kr_status visit_pages(struct delta *delta, visitor visit, void *context,
                                  struct kr_error *err)
{
    uint64_t at = 0;
    do {
        KR_TRY(visit_group(delta, &at, visit, context, err));
    } while (!is_last(delta) && !kr_file_stopped(delta->file));
    if (at == delta->file->size || kr_file_stopped(delta->file))
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY, "%s goes on behind its last page", delta->file->path);
}

/* --- its tablespace --------------------------------------------------------------------------- */

/* Without ".delta", which its kind is told by; malloc'ed. */
static char *name_without_end(const char *path, const char *end)
{
    char *name = NULL;
    return asprintf(&name, "%.*s%s", (int)(strlen(path) - strlen(".delta")), path, end) < 0 ? NULL
                                                                                            : name;
}

static bool read_meta(FILE *file, struct delta *delta)
{
    size_t page = 0, zip = 0, space = SIZE_MAX, value = 0;
    char line[128], name[32];
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%31s = %zu", name, &value) != 2)
            continue;
        if (strcmp(name, "page_size") == 0)
            page = value;
        else if (strcmp(name, "zip_size") == 0)
            zip = value;
        else if (strcmp(name, "space_id") == 0)
            space = value;
    }
    delta->page_size = zip ? zip : page;
    delta->space_id = (uint32_t)space;
    return delta->page_size >= 1024 && delta->page_size <= KR_MARIADB_PAGE_MAX &&
           (delta->page_size & (delta->page_size - 1)) == 0 && space <= UINT32_MAX;
}

static enum kr_status open_meta(struct delta *delta, struct kr_error *err)
{
    char *path = name_without_end(delta->file->path, ".meta");
    FILE *file = path ? fopen(path, "re") : NULL;
    bool sound = file && read_meta(file, delta);
    free(path);
    if (file)
        fclose(file);
    if (sound)
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY, "the .meta file of %s is missing or damaged",
                   delta->file->path);
}

/* From the first bytes of a file, or of a page. */
static bool take_space(struct delta *delta, const uint8_t *head, size_t len)
{
    struct kr_mariadb_space space;
    if (!kr_mariadb_space_parse(head, len, &space) || space.space_id != delta->space_id ||
        space.page_size != delta->page_size)
        return false;
    delta->space = space;
    return true;
}

static bool take_space_of(struct delta *delta, const char *path)
{
    uint8_t *head = malloc(KR_MARIADB_PAGE_MAX);
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t len = head && fd >= 0 ? kr_read_full(fd, head, KR_MARIADB_PAGE_MAX) : -1;
    bool taken = len > 0 && take_space(delta, head, (size_t)len);
    free(head);
    return taken;
}

/* "t/one.ibd" of "/backups/inc/t/one.ibd.delta": its folder, which is the database, and its name.
 */
static const char *tail_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    while (slash && slash > path && slash[-1] != '/')
        slash--;
    return slash ? slash : path;
}

static bool ends_with(const char *path, const char *tail)
{
    const size_t len = strlen(path), end = strlen(tail);
    return len > end && path[len - end - 1] == '/' && strcmp(path + len - end, tail) == 0;
}

/* The system's tablespaces lie in no database's folder. */
static bool find_base(struct delta *delta)
{
    const struct kr_walk *walk = delta->file->run->walk;
    char *path = name_without_end(delta->file->path, "");
    bool found = false;
    if (!path || !walk) {
        free(path);
        return false;
    }
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *tail = delta->space_id == 0 ? name : tail_of(path);
    for (size_t i = 0; i < walk->count && !found; i++)
        found = ends_with(walk->files[i].path, tail) && take_space_of(delta, walk->files[i].path);
    free(path);
    return found;
}

static enum kr_status take_first(struct delta *delta, bool *ret, struct kr_error *err)
{
    KR_TRY(kr_file_read(delta->file, 0, delta->group, delta->page_size, err));
    *ret = kr_get_number(delta->group + NUMBER, NUMBER) == 0;
    if (!*ret)
        return KR_OK;
    KR_TRY(kr_file_read(delta->file, delta->page_size, delta->page, delta->page_size, err));
    *ret = take_space(delta, delta->page, delta->page_size);
    return KR_OK;
}

/* *ret_known: `space` is set. */
static enum kr_status open_delta(const struct kr_file *file, struct delta *ret, bool *ret_known,
                                 struct kr_error *err)
{
    ret->file = file;
    KR_TRY(open_meta(ret, err));
    ret->group = malloc(ret->page_size ? ret->page_size : 1);
    ret->page = kr_secret_alloc(ret->page_size);
    if (!ret->group)
        return kr_fail_memory(err);
    if (!ret->page)
        return kr_fail_secret(err);
    KR_TRY(take_first(ret, ret_known, err));
    if (!*ret_known)
        *ret_known = find_base(ret);
    return KR_OK;
}

/* --- inspect ---------------------------------------------------------------------------------- */

static enum kr_status count_page(struct delta *delta, uint32_t number, void *context,
                                 struct kr_error *err)
{
    struct kr_file_report *report = context;
    struct kr_file_units *units = &report->units;
    struct kr_mariadb_page page = {0};
    units->total++;
    if (!kr_mariadb_page_read(&delta->space, number, delta->page, &page)) {
        report->damaged = true;
        return KR_OK;
    }
    bool copy = page.state == KR_MARIADB_PAGE_COPY;
    bool encrypted = page.state == KR_MARIADB_PAGE_ENCRYPTED || (copy && page.copy_encrypted);
    units->empty += page.state == KR_MARIADB_PAGE_EMPTY;
    units->encrypted += encrypted;
    units->plain += page.state != KR_MARIADB_PAGE_EMPTY && !encrypted;
    units->compressed += page.compressed;
    if (page.version == 0)
        return KR_OK;
    return kr_file_report_need(report, "", delta->space.key_id, page.version, 1, err);
}

static enum kr_status note_damage(struct kr_file_report *report, const struct kr_error *why,
                                  struct kr_error *err)
{
    report->damaged = true;
    return kr_file_report_note(report, err, "%s", why->text);
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    DELTA delta = {.file = file};
    struct kr_error why = KR_ERROR_INIT;
    bool known = false;
    enum kr_status status = open_delta(file, &delta, &known, &why);
    if (status == KR_OK && !known) {
        report->incomplete = true;
        return kr_file_report_note(report, err,
                                   "the tablespace of these pages is not among the files: name "
                                   "the backup that this one follows, too");
    }
    report->page_size = (uint32_t)delta.page_size;
    if (status == KR_OK)
        status = visit_pages(&delta, count_page, report, &why);
    kr_file_report_judge(report);
    if (status == KR_INTEGRITY)
        return note_damage(report, &why, err);
    if (status != KR_OK)
        *err = why;
    return status;
}

/* --- verify ----------------------------------------------------------------------------------- */

struct checking {
    struct kr_file_check *check;
    const struct kr_mariadb_keys *keys;
    uint8_t *room;
};

/* A page whose key is not here is not counted. */
static enum kr_status check_page(struct delta *delta, uint32_t number, void *context,
                                 struct kr_error *err)
{
    const struct checking *checking = context;
    struct kr_mariadb_page what = {0};
    enum kr_mariadb_page_fault fault = KR_MARIADB_PAGE_SOUND;
    const struct kr_mariadb_page_way page = {
        .number = number, .src = delta->page, .dst = delta->page, .room = checking->room};
    enum kr_status status =
        kr_mariadb_page_examine(&delta->space, checking->keys, &page, &what, &fault);
    if (status == KR_NOT_FOUND)
        return KR_OK;
    if (status != KR_OK)
        return kr_fail(err, status, "page %u of %s cannot be decrypted", number, delta->file->path);
    bool empty = what.state == KR_MARIADB_PAGE_EMPTY,
         unchecked = fault == KR_MARIADB_PAGE_UNCHECKED;
    if (fault > KR_MARIADB_PAGE_UNCHECKED)
        kr_file_check_damage(checking->check, number, "%s", kr_mariadb_page_fault_text(fault));
    else
        kr_file_check_count(checking->check, !empty && !unchecked, unchecked, empty);
    return KR_OK;
}

static enum kr_status verify(struct kr_file *file, const struct kr_file_report *report,
                             struct kr_file_check *check, struct kr_error *err)
{
    DELTA delta = {.file = file};
    KR_MARIADB_KEYS *keys = NULL;
    struct checking checking = {.check = check};
    bool known = false;
    if (report->damaged)
        return KR_OK; /* as the report says */
    KR_TRY(open_delta(file, &delta, &known, err));
    if (!known)
        return kr_fail(err, KR_NOT_FOUND, "the backup that %s follows was not named", file->path);
    if (report->need_count > 0)
        KR_TRY(kr_mariadb_keys_new(file, report, delta.space.iv, &keys, err));
    KR_SECRET uint8_t *room = kr_secret_alloc(delta.space.logical_size);
    if (!room)
        return kr_fail_secret(err);
    checking.keys = keys;
    checking.room = room;
    return visit_pages(&delta, check_page, &checking, err);
}

const struct kr_file_kind_ops kr_mariadb_delta_ops = {
    .kind = KR_FILE_MARIADB_DELTA, .unit = "page", .inspect = inspect, .verify = verify};
