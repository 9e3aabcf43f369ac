/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's redo logs. */
#include "formats/mysql_redo.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/secret.h"
#include "files/kinds.h"
#include "files/mysql_keys.h"
#include "files/mysql_redo.h"
#include "files/stream.h"
#include "hwaccel/pages.h"

enum { BLOCK = KR_MYSQL_REDO_BLOCK, HEAD_BLOCKS = KR_MYSQL_REDO_HEAD / BLOCK };

static bool parse(const struct kr_file *file, struct kr_mysql_redo *ret)
{
    return file->head_len >= KR_MYSQL_REDO_HEAD && kr_mysql_redo_parse(file->head, ret);
}

/* --- the encryption header, which may stand in another file of the log ---------------------------
 */

static bool header_in(const char *path, const struct kr_file_run *run, struct kr_mysql_info *ret)
{
    KR_FILE file = {.fd = -1};
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_mysql_redo redo;
    if (kr_file_open(path, run, &file, &ignored) != KR_OK || file.kind != KR_FILE_MYSQL_REDO ||
        !parse(&file, &redo) || redo.info.state != KR_MYSQL_INFO_SEALED)
        return false;
    *ret = redo.info;
    return true;
}

static bool is_redo_name(const char *name)
{
    return strncmp(name, "#ib_redo", 8) == 0 || strncmp(name, "ib_logfile", 10) == 0;
}

/* Whichever has one: they are all of the same key. */
static bool header_beside(const struct kr_file *file, struct kr_mysql_info *ret)
{
    size_t folder_len = (size_t)(file->name - file->path);
    char *folder = folder_len ? strndup(file->path, folder_len) : strdup("./");
    DIR *dir = folder ? opendir(folder) : NULL;
    bool found = false;
    for (struct dirent *entry; !found && dir && (entry = readdir(dir));) {
        char *path = NULL;
        if (!is_redo_name(entry->d_name) || strcmp(entry->d_name, file->name) == 0 ||
            asprintf(&path, "%s%s", folder, entry->d_name) < 0)
            continue;
        found = header_in(path, file->run, ret);
        free(path);
    }
    if (dir)
        closedir(dir);
    free(folder);
    return found;
}

/* --- inspect -------------------------------------------------------------------------------------
 */

static enum kr_status count_blocks(uint8_t *bytes, size_t len, uint64_t offset, void *context,
                                   struct kr_error *err)
{
    struct kr_file_units *units = context;
    (void)offset;
    (void)err;
    for (size_t at = 0; at + BLOCK <= len; at += BLOCK) {
        bool empty = kr_is_zero(bytes + at, BLOCK);
        bool encrypted = !empty && kr_mysql_redo_is_encrypted(bytes + at);
        units->total++;
        units->empty += empty;
        units->encrypted += encrypted;
        units->plain += !empty && !encrypted;
    }
    return KR_OK;
}

static enum kr_status report_key(struct kr_file *file, struct kr_mysql_redo *redo,
                                 struct kr_file_report *report, struct kr_error *err)
{
    uint64_t encrypted = report->units.encrypted;
    if (redo->info.state == KR_MYSQL_INFO_NONE && encrypted > 0 &&
        !header_beside(file, &redo->info))
        return kr_file_report_note(report, err,
                                   "its key stands in another file of the log, not here");
    return kr_mysql_info_report(&redo->info, encrypted ? encrypted : 1, report, err);
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    struct kr_mysql_redo redo;
    if (!parse(file, &redo)) {
        report->damaged = true;
        return kr_file_report_note(report, err, "its head is damaged or not there as a whole");
    }
    const struct kr_stream stream = {.file = file,
                                     .offset = KR_MYSQL_REDO_HEAD,
                                     .unit = BLOCK,
                                     .out = -1,
                                     .work = count_blocks,
                                     .context = &report->units};
    report->page_size = BLOCK;
    snprintf(report->format, sizeof(report->format), "format %u%s, %s, from LSN %llu", redo.format,
             redo.numbered ? "" : " (before MySQL 8.0.30)", redo.creator,
             (unsigned long long)redo.start_lsn);
    KR_TRY(kr_stream_run(&stream, err));
    kr_file_report_judge(report);
    return report_key(file, &redo, report, err);
}

/* --- verify and decrypt --------------------------------------------------------------------------
 */

/* Blocks that are decrypted at a time. */
enum { BATCH = 64, DATA = BLOCK - KR_MYSQL_REDO_CLEAR, WHOLE = DATA / 16 * 16, TAIL = 32 };

struct reading {
    const struct kr_file *file;
    struct kr_mysql_redo redo;
    struct kr_pages *cipher; /* NULL: there is no key */
    const uint8_t *iv;
    struct kr_file_check *check; /* NULL: a damaged block is a failure */
    kr_mysql_redo_visitor visit; /* NULL: all blocks are checked, also those of earlier uses */
    void *visit_context;
    bool ended; /* nothing more to visit */
};

static enum kr_status damaged(const struct reading *reading, uint64_t block, const char *why,
                              struct kr_error *err)
{
    if (!reading->check)
        return kr_fail(err, KR_INTEGRITY, "block %llu of %s is damaged: %s",
                       (unsigned long long)block, reading->file->path, why);
    kr_file_check_damage(reading->check, block, "%s", why);
    return KR_OK;
}

/* The last 32 bytes were encrypted once more, after the rest. */
static enum kr_status decrypt_blocks(const struct reading *reading, uint8_t *bytes, size_t count,
                                     struct kr_error *err)
{
    struct kr_page_job tails[BATCH], wholes[BATCH];
    size_t jobs = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t *block = bytes + i * BLOCK, *tail = block + BLOCK - TAIL;
        uint8_t *data = block + KR_MYSQL_REDO_CLEAR;
        if (!kr_mysql_redo_is_encrypted(block))
            continue;
        kr_mysql_redo_set_clear(block);
        tails[jobs] = (struct kr_page_job){tail, tail, TAIL, reading->iv};
        wholes[jobs++] = (struct kr_page_job){data, data, WHOLE, reading->iv};
    }
    if (jobs > 0 && (kr_pages_decrypt(reading->cipher, tails, jobs) != KR_OK ||
                     kr_pages_decrypt(reading->cipher, wholes, jobs) != KR_OK))
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to decrypt %s", reading->file->path);
    return KR_OK;
}

static enum kr_status check_blocks(const struct reading *reading, const uint8_t *bytes,
                                   size_t count, uint64_t first, struct kr_error *err)
{
    uint64_t sound = 0, unused = 0;
    for (size_t i = 0; i < count; i++) {
        switch (kr_mysql_redo_check(&reading->redo, first + i, bytes + i * BLOCK)) {
        case KR_MYSQL_REDO_SOUND:
            sound++;
            break;
        case KR_MYSQL_REDO_UNUSED:
            unused++;
            break;
        default:
            KR_TRY(damaged(reading, first + i, "checksum mismatch, or of another place", err));
        }
    }
    if (reading->check)
        kr_file_check_count(reading->check, sound, 0, unused);
    return KR_OK;
}

/* The log ends with the first block that is not of its place. One that is must be right: what does
 * not open with this key must not pass for the end. */
static enum kr_status visit_blocks(struct reading *reading, const uint8_t *bytes, size_t count,
                                   uint64_t first, struct kr_error *err)
{
    const struct kr_mysql_redo *redo = &reading->redo;
    for (size_t i = 0; i < count && !reading->ended; i++) {
        const uint8_t *block = bytes + i * BLOCK;
        reading->ended = !kr_mysql_redo_in_place(redo, first + i, block);
        if (reading->ended)
            break;
        if (kr_mysql_redo_check(redo, first + i, block) != KR_MYSQL_REDO_SOUND)
            return damaged(reading, first + i, "checksum mismatch, or it has another key", err);
        reading->visit(redo->start_lsn + (first + i - HEAD_BLOCKS) * BLOCK, block,
                       reading->visit_context);
    }
    return KR_OK;
}

static enum kr_status work(uint8_t *bytes, size_t len, uint64_t offset, void *context,
                           struct kr_error *err)
{
    struct reading *reading = context;
    uint64_t first = offset / BLOCK;
    size_t blocks = len / BLOCK;
    for (size_t done = 0; done < blocks; done += BATCH) {
        size_t count = blocks - done < BATCH ? blocks - done : BATCH;
        uint8_t *at = bytes + done * BLOCK;
        if (reading->cipher)
            KR_TRY(decrypt_blocks(reading, at, count, err));
        KR_TRY(reading->visit ? visit_blocks(reading, at, count, first + done, err)
                              : check_blocks(reading, at, count, first + done, err));
    }
    if (len % BLOCK)
        return damaged(reading, first + blocks, "the file ends within it", err);
    return KR_OK;
}

static enum kr_status read_blocks(struct reading *reading, int out, struct kr_error *err)
{
    const struct kr_stream stream = {.file = reading->file,
                                     .offset = KR_MYSQL_REDO_HEAD,
                                     .unit = BLOCK,
                                     .out = out,
                                     .work = work,
                                     .context = reading};
    uint8_t head[KR_MYSQL_REDO_HEAD];
    memcpy(head, reading->file->head, sizeof(head));
    kr_mysql_redo_clear_head(head);
    for (unsigned i = 0; i < HEAD_BLOCKS; i++) {
        if (reading->redo.bad[i])
            KR_TRY(damaged(reading, i, "a part of the head is not what it should be", err));
    }
    if (out >= 0)
        KR_TRY(kr_stream_write(out, head, sizeof(head), err));
    return kr_stream_run(&stream, err);
}

static enum kr_status unseal(struct reading *reading, const struct kr_mysql_info *info,
                             uint8_t *opened, struct kr_error *err)
{
    const struct kr_file *file = reading->file;
    KR_TRY(kr_mysql_unseal(file->run->keys, file->path, info, opened, err));
    reading->iv = opened + KR_MYSQL_KEY_BYTES;
    return kr_pages_new(KR_CIPHER_AES_CBC, opened, KR_MYSQL_KEY_BYTES, &reading->cipher, err);
}

static enum kr_status open_key(struct reading *reading, const struct kr_file_report *report,
                               uint8_t *opened, struct kr_error *err)
{
    const struct kr_file *file = reading->file;
    struct kr_mysql_info info = reading->redo.info;
    if (info.state == KR_MYSQL_INFO_NONE && report->units.encrypted == 0)
        return KR_OK;
    if (info.state == KR_MYSQL_INFO_NONE && !header_beside(file, &info)) {
        kr_fail(err, KR_NOT_FOUND, "%s is encrypted, and its key is in another file of the log",
                file->path);
        kr_hint(err, "keep the files of #innodb_redo together");
        return err->status;
    }
    return unseal(reading, &info, opened, err);
}

static enum kr_status read_log(struct reading *reading, const struct kr_file_report *report,
                               int out, struct kr_error *err)
{
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    if (!opened)
        return kr_fail_secret(err);
    enum kr_status status = open_key(reading, report, opened, err);
    /* The header has no checksum of its own: what it does not open is its damage. */
    if (status == KR_INTEGRITY && reading->check) {
        kr_file_check_damage(reading->check, 2, "the encryption header; the log was not read");
        return KR_OK;
    }
    if (status == KR_OK)
        status = read_blocks(reading, out, err);
    kr_pages_free(reading->cipher);
    return status;
}

static enum kr_status verify(struct kr_file *file, const struct kr_file_report *report,
                             struct kr_file_check *check, struct kr_error *err)
{
    struct reading reading = {.file = file, .check = check};
    if (!parse(file, &reading.redo)) {
        kr_file_check_damage(check, 0, "it does not begin a redo log; the rest was not read");
        return KR_OK;
    }
    return read_log(&reading, report, -1, err);
}

static enum kr_status decrypt(struct kr_file *file, const struct kr_file_report *report, int out,
                              struct kr_error *err)
{
    struct reading reading = {.file = file};
    if (!parse(file, &reading.redo))
        return kr_fail(err, KR_INTEGRITY, "the head of %s is damaged", file->path);
    return read_log(&reading, report, out, err);
}

enum kr_status kr_mysql_redo_each(const struct kr_file *file, kr_mysql_redo_visitor visit,
                                  void *context, bool *ret_full, struct kr_error *err)
{
    struct reading reading = {.file = file, .visit = visit, .visit_context = context};
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    if (!opened)
        return kr_fail_secret(err);
    if (!parse(file, &reading.redo))
        return kr_fail(err, KR_INTEGRITY, "the head of %s is damaged", file->path);
    if (reading.redo.info.state != KR_MYSQL_INFO_NONE || header_beside(file, &reading.redo.info))
        KR_TRY(unseal(&reading, &reading.redo.info, opened, err));
    enum kr_status status = read_blocks(&reading, -1, err);
    kr_pages_free(reading.cipher);
    if (status == KR_OK)
        *ret_full = !reading.ended;
    return status;
}

const struct kr_file_kind_ops kr_mysql_redo_ops = {
    .kind = KR_FILE_MYSQL_REDO,
    .unit = "block",
    .inspect = inspect,
    .verify = verify,
    .decrypt = decrypt,
    .streams = true,
};
