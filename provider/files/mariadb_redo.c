/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MariaDB's redo log. Mini-transactions are checked by their checksums, which need no key: as far
 * as the log goes back without a gap, which is to its beginning in the ring's first lap, and else
 * to the last checkpoint.
 */
#include "formats/mariadb_redo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files/kinds.h"
#include "files/mariadb_datadir.h"

enum {
    WINDOW = 2 * KR_MARIADB_REDO_MTR_MAX,
    SIZE_STEP = 4096 /* of innodb_log_file_size */
};

/* A stretch of the ring, laid out in line. */
struct window {
    struct kr_file *file;
    const struct kr_mariadb_redo *redo;
    uint8_t *bytes;
    uint64_t lsn; /* of the first of them */
    size_t len;
};

static enum kr_status window_fill(struct window *window, uint64_t lsn, struct kr_error *err)
{
    uint64_t size = window->file->size, ring = size - KR_MARIADB_REDO_START;
    size_t wanted = ring < WINDOW ? (size_t)ring : WINDOW;
    window->lsn = lsn;
    window->len = 0;
    while (window->len < wanted) {
        uint64_t offset = kr_mariadb_redo_offset(window->redo, size, lsn + window->len);
        size_t piece = wanted - window->len;
        if (piece > size - offset)
            piece = (size_t)(size - offset);
        KR_TRY(kr_file_read(window->file, offset, window->bytes + window->len, piece, err));
        window->len += piece;
    }
    return KR_OK;
}

struct scan {
    uint64_t from, lsn; /* where it began; where the log ends */
    uint64_t count, damaged;
    bool torn;                   /* it ends before it can */
    bool only_mark;              /* after the last checkpoint there is only its own record */
    struct kr_file_check *check; /* may be NULL */
};

static void damage(struct scan *scan, uint64_t lsn, const char *why)
{
    scan->damaged++;
    if (scan->check)
        kr_file_check_damage(scan->check, lsn, "%s", why);
}

/* Steps over one; false at the end. */
static bool step(const struct window *window, struct scan *scan)
{
    const struct kr_mariadb_redo *redo = window->redo;
    size_t skip = (size_t)(scan->lsn - window->lsn), len = 0;
    enum kr_mariadb_mtr_state state = kr_mariadb_redo_mtr(
        redo, window->file->size, scan->lsn, window->bytes + skip, window->len - skip, &len);
    bool must = scan->lsn <= redo->end; /* the checkpoint's own record begins at its end */
    if (state == KR_MARIADB_MTR_SOUND) {
        scan->count++;
        if (scan->lsn >= redo->checkpoint)
            scan->only_mark = kr_mariadb_redo_is_checkpoint(redo, scan->lsn, len);
    } else if (state == KR_MARIADB_MTR_DAMAGED && must) {
        damage(scan, scan->lsn, "checksum mismatch");
    } else {
        return false;
    }
    scan->lsn += len;
    return true;
}

static bool first_lap(const struct kr_mariadb_redo *redo, uint64_t size)
{
    return redo->end - redo->first_lsn < size - KR_MARIADB_REDO_START - KR_MARIADB_REDO_MTR_MAX;
}

static enum kr_status walk(struct window *window, struct scan *scan, struct kr_error *err)
{
    const struct kr_mariadb_redo *redo = window->redo;
    uint64_t size = window->file->size;
    scan->from = first_lap(redo, size) ? redo->first_lsn : redo->checkpoint;
    scan->lsn = scan->from;
    KR_TRY(window_fill(window, scan->lsn, err));
    while (scan->lsn - scan->from < size && !kr_file_stopped(window->file)) {
        if (scan->lsn - window->lsn > window->len / 2)
            KR_TRY(window_fill(window, scan->lsn, err));
        if (!step(window, scan))
            break;
    }
    if (scan->lsn <= redo->end && !kr_file_stopped(window->file))
        damage(scan, scan->lsn, "the log breaks off here, although the checkpoint says it goes on");
    kr_file_done(window->file, scan->lsn - scan->from);
    return KR_OK;
}

static enum kr_status scan_log(struct kr_file *file, const struct kr_mariadb_redo *redo,
                               struct scan *scan, struct kr_error *err)
{
    struct window window = {.file = file, .redo = redo, .bytes = malloc(WINDOW)};
    if (!window.bytes)
        return kr_fail_memory(err);
    enum kr_status status = walk(&window, scan, err);
    free(window.bytes);
    return status;
}

/* --- inspect ---------------------------------------------------------------------------------- */

static enum kr_status fail_header(struct kr_file_report *report, struct kr_error *err,
                                  const char *why)
{
    report->damaged = true;
    return kr_file_report_note(report, err, "%s", why);
}

static enum kr_status describe(const struct kr_mariadb_redo *redo, const struct scan *scan,
                               struct kr_file_report *report, struct kr_error *err)
{
    unsigned long long checkpoint = redo->checkpoint, end = scan->lsn;
    report->units.total = scan->count + scan->damaged;
    report->units.encrypted = redo->encrypted ? report->units.total : 0;
    report->units.plain = report->units.total - report->units.encrypted;
    report->damaged = scan->damaged > 0;
    if (redo->encrypted)
        KR_TRY(kr_file_report_need(report, "", redo->key_id, redo->key_version, report->units.total,
                                   err));
    if (scan->damaged > 0)
        KR_TRY(kr_file_report_note(report, err, "%llu mini-transactions are damaged",
                                   (unsigned long long)scan->damaged));
    if (scan->only_mark)
        return kr_file_report_note(
            report, err, "checkpoint and end at LSN %llu: nothing to recover", checkpoint);
    return kr_file_report_note(report, err,
                               "checkpoint at LSN %llu, end at %llu: the server has to recover",
                               checkpoint, end);
}

/* A header that can be gone on with. */
static bool usable(const struct kr_mariadb_redo *redo, uint64_t size, const char **ret_why)
{
    *ret_why = NULL;
    if (!redo->sound)
        *ret_why = "its header is damaged: checksum mismatch";
    else if (size <= KR_MARIADB_REDO_START)
        *ret_why = "it is cut off within its header";
    else if (size % SIZE_STEP != 0 && strncmp(redo->creator, "Backup ", 7) != 0)
        *ret_why = "it is cut off: its size is none that a server gives it";
    else if (redo->checkpoints == 0)
        *ret_why = "both its checkpoints are damaged";
    return !*ret_why;
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    struct kr_mariadb_redo redo;
    struct scan scan = {.only_mark = false};
    const char *why;
    if (!kr_mariadb_redo_parse(file->head, file->head_len, &redo))
        return fail_header(report, err, "its header is none that a server writes");
    report->encrypted = redo.encrypted ? KR_ENCRYPTED_YES : KR_ENCRYPTED_NO;
    snprintf(report->format, sizeof(report->format), "%s, by %s",
             redo.known ? "10.8 and later" : "before 10.8", redo.creator);
    if (!redo.known) {
        report->incomplete = true;
        return kr_file_report_note(report, err, "redo logs from before MariaDB 10.8 are not looked into");
    }
    if (!usable(&redo, file->size, &why))
        return fail_header(report, err, why);
    KR_TRY(scan_log(file, &redo, &scan, err));
    return describe(&redo, &scan, report, err);
}

enum kr_status kr_mariadb_log_is_done(struct kr_file *file, bool *ret, struct kr_error *err)
{
    struct kr_mariadb_redo redo;
    struct scan scan = {.only_mark = false};
    const char *why = "not of a format that is known (10.8 and later)";
    if (!kr_mariadb_redo_parse(file->head, file->head_len, &redo) || !redo.known ||
        !usable(&redo, file->size, &why))
        return kr_fail(err, KR_INTEGRITY, "%s: %s", file->path, why);
    KR_TRY(scan_log(file, &redo, &scan, err));
    *ret = scan.only_mark && scan.damaged == 0;
    return KR_OK;
}

/* --- verify ----------------------------------------------------------------------------------- */

static enum kr_status verify(struct kr_file *file, const struct kr_file_report *report,
                             struct kr_file_check *check, struct kr_error *err)
{
    struct kr_mariadb_redo redo;
    struct scan scan = {.check = check};
    const char *why;
    (void)report;
    if (!kr_mariadb_redo_parse(file->head, file->head_len, &redo) || !redo.known ||
        !usable(&redo, file->size, &why))
        return KR_OK; /* the report says what is wrong */
    if (redo.bad_checkpoint)
        kr_file_check_damage(check, 0, "one of the two checkpoints: checksum mismatch");
    KR_TRY(scan_log(file, &redo, &scan, err));
    kr_file_check_count(check, scan.count, 0, 0);
    return KR_OK;
}

const struct kr_file_kind_ops kr_mariadb_redo_ops = {
    .kind = KR_FILE_MARIADB_REDO,
    .unit = "mini-transaction",
    .inspect = inspect,
    .verify = verify,
};
