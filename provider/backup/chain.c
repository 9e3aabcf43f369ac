/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * xtrabackup_checkpoints (mariadb_backup_checkpoints since 11.1) and xtrabackup_info are lines of
 * `name = value`. The first is written when a backup is complete.
 */
#include "backup/chain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME = 64, VALUE = 256 };

static void close_file(FILE **file)
{
    if (*file)
        fclose(*file);
}
#define FILE_OWNED __attribute__((cleanup(close_file))) FILE

/* The first of these that is in the folder, opened; NULL: none is. */
static FILE *open_one(const char *folder, const char *const *names)
{
    FILE *file = NULL;
    for (; *names && !file; names++) {
        char *path = NULL;
        if (asprintf(&path, "%s/%s", folder, *names) < 0)
            return NULL;
        file = fopen(path, "re");
        free(path);
    }
    return file;
}

static const char *const checkpoints[] = {"xtrabackup_checkpoints", "mariadb_backup_checkpoints",
                                          NULL};
static const char *const infos[] = {"xtrabackup_info", "mariadb_backup_info", NULL};
/* What mariadb-backup writes early or always. */
static const char *const traces[] = {"backup-my.cnf", "xtrabackup_info", "mariadb_backup_info",
                                     "xtrabackup_logfile", NULL};

struct seen {
    bool type, from, to;
};

static bool take_number(const char *value, uint64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoull(value, &end, 10);
    return *value >= '0' && *value <= '9' && *end == '\0' && errno == 0;
}

static bool take_type(const char *value, struct kr_chain_link *link)
{
    link->incremental = strcmp(value, "incremental") == 0;
    link->prepared = strcmp(value, "log-applied") == 0 || strcmp(value, "full-prepared") == 0;
    return link->incremental || link->prepared || strcmp(value, "full-backuped") == 0;
}

/* false: a value that makes no sense. */
static bool take_line(const char *name, const char *value, struct kr_chain_link *link,
                      struct seen *seen)
{
    if (strcmp(name, "backup_type") == 0)
        return seen->type = take_type(value, link);
    if (strcmp(name, "from_lsn") == 0)
        return seen->from = take_number(value, &link->from);
    if (strcmp(name, "to_lsn") == 0)
        return seen->to = take_number(value, &link->to);
    return true;
}

static bool read_checkpoints(FILE *file, struct kr_chain_link *link)
{
    char line[NAME + VALUE + 8], name[NAME], value[VALUE];
    struct seen seen = {0};
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "%63s = %255s", name, value) == 2 && !take_line(name, value, link, &seen))
            return false;
    return seen.type && seen.from && seen.to && link->from <= link->to &&
           (link->incremental || link->from == 0);
}

static bool is_partial(const char *folder)
{
    FILE_OWNED *file = open_one(folder, infos);
    char line[NAME + VALUE + 8], value[VALUE];
    bool partial = false;
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "partial = %255s", value) == 1)
            partial = *value == 'Y';
    return partial;
}

static enum kr_status fail_unfinished(const char *path, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY,
            "%s is a backup that was not completed: mariadb-backup left no checkpoints in it",
            path);
    kr_hint(err, "make it again");
    return KR_INTEGRITY;
}

/* *ret_link says whether mariadb-backup made the folder. */
static enum kr_status read_link(const char *path, struct kr_chain_link *ret, bool *ret_link,
                                struct kr_error *err)
{
    struct stat st;
    *ret = (struct kr_chain_link){.path = path};
    *ret_link = false;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return KR_OK;
    FILE_OWNED *file = open_one(path, checkpoints);
    FILE_OWNED *trace = file ? NULL : open_one(path, traces);
    if (trace)
        return fail_unfinished(path, err);
    if (!file)
        return KR_OK;
    *ret_link = true;
    ret->partial = is_partial(path);
    if (read_checkpoints(file, ret))
        return KR_OK;
    kr_fail(err, KR_INTEGRITY, "the checkpoints of the backup %s are damaged", path);
    kr_hint(err, "use another copy of it");
    return KR_INTEGRITY;
}

enum kr_status kr_chain_read(char *const *paths, size_t count, struct kr_chain *ret,
                             struct kr_error *err)
{
    KR_CHAIN chain = {.links = calloc(count + 1, sizeof(*chain.links))};
    bool is_link = false;
    if (!chain.links)
        return kr_fail_memory(err);
    for (size_t i = 0; i < count; i++) {
        KR_TRY(read_link(paths[i], &chain.links[chain.count], &is_link, err));
        chain.count += is_link;
    }
    *ret = chain;
    chain.links = NULL;
    return KR_OK;
}

void kr_chain_free(struct kr_chain *chain)
{
    free(chain->links);
    *chain = (struct kr_chain){0};
}

static enum kr_status fail_gap(const struct kr_chain_link *before, const struct kr_chain_link *link,
                               struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY,
            "%s does not follow %s: it begins at %" PRIu64 ", and that ends at %" PRIu64,
            link->path, before->path, link->from, before->to);
    kr_hint(err, link->from > before->to
                     ? "an incremental backup in between is missing: name it, too"
                     : "name the folders in the order in which they were made, those of one chain");
    return KR_INTEGRITY;
}

enum kr_status kr_chain_check(const struct kr_chain *chain, struct kr_error *err)
{
    const struct kr_chain_link *before = NULL;
    for (size_t i = 0; i < chain->count; i++) {
        const struct kr_chain_link *link = &chain->links[i];
        if (link->incremental && !before) {
            kr_fail(err, KR_INTEGRITY, "%s is incremental, and no full backup is named before it",
                    link->path);
            kr_hint(err, "name the full backup first, then each incremental one");
            return KR_INTEGRITY;
        }
        if (link->incremental && link->from != before->to)
            return fail_gap(before, link, err);
        before = link;
    }
    return KR_OK;
}

/* --- files without keys ----------------------------------------------------------------------- */

bool kr_backup_is_plain(const char *path)
{
    static const char *const ends[] = {".frm", ".opt", ".meta", ".cnf", ".CSM",   ".CSV",  ".MYI",
                                       ".MYD", ".TRG", ".TRN",  ".par", ".index", ".info", ".sdi"};
    static const char *const names[] = {
        "xtrabackup_checkpoints",     "xtrabackup_info",           "xtrabackup_binlog_info",
        "xtrabackup_slave_info",      "mariadb_backup_info",       "mariadb_backup_checkpoints",
        "mariadb_backup_binlog_info", "mariadb_backup_slave_info", "ib_buffer_pool",
        "mysql_upgrade_info",         "mariadb_upgrade_info"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof(ends) / sizeof(ends[0]); i++)
        if (strcmp(dot, ends[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}
