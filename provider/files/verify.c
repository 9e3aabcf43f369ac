/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The verdict on one file. */
#include "files/verify.h"

#include <stdarg.h>
#include <stdio.h>

#include "files/inspect.h"
#include "files/kinds.h"

void kr_file_verified_free(struct kr_file_verified *verified)
{
    kr_file_report_free(&verified->report);
    kr_file_check_free(&verified->check);
}

KR_PRINTF(3, 4)
static void judge(struct kr_file_verified *ret, enum kr_file_verdict verdict, const char *fmt, ...)
{
    va_list args;
    ret->verdict = verdict;
    va_start(args, fmt);
    vsnprintf(ret->why, sizeof(ret->why), fmt, args);
    va_end(args);
}

/* What a file's kind said of its own header. */
static const char *first_note(const struct kr_file_verified *ret)
{
    return ret->report.note_count > 0 ? ret->report.notes[0] : "it is not what its kind should be";
}

/* After the work of its kind. Damage comes first: it is known, whatever else is not. */
static void judge_units(const struct kr_file *file, const char *unit, struct kr_file_verified *ret)
{
    const struct kr_file_check *check = &ret->check;
    uint64_t seen = check->checked + check->empty, total = ret->report.units.total;
    if (kr_file_changed(file))
        judge(ret, KR_VERDICT_SKIPPED, "somebody wrote to it while it was read");
    else if (check->damaged > 0)
        judge(ret, KR_VERDICT_DAMAGED, "%llu of %llu %ss damaged",
              (unsigned long long)check->damaged, (unsigned long long)total, unit);
    else if (ret->report.damaged)
        judge(ret, KR_VERDICT_DAMAGED, "%s", first_note(ret));
    else if (check->unchecked > 0)
        judge(ret, KR_VERDICT_SKIPPED, "%llu %ss carry nothing to check them by",
              (unsigned long long)check->unchecked, unit);
    else if (seen == 0 && ret->report.incomplete)
        judge(ret, KR_VERDICT_SKIPPED, "%s", first_note(ret));
    else if (seen < total || seen == 0)
        judge(ret, KR_VERDICT_SKIPPED, "only %llu of %llu %ss were read", (unsigned long long)seen,
              (unsigned long long)total, unit);
    else
        ret->verdict = KR_VERDICT_OK;
}

static enum kr_status check_units(struct kr_file *file, const struct kr_file_kind_ops *ops,
                                  struct kr_file_verified *ret, struct kr_error *err)
{
    KR_TRY(ops->verify(file, &ret->report, &ret->check, err));
    kr_file_check_end(&ret->check);
    if (kr_file_stopped(file))
        judge(ret, KR_VERDICT_SKIPPED, "interrupted");
    else
        judge_units(file, ops->unit, ret);
    return KR_OK;
}

static enum kr_status verify(struct kr_file *file, struct kr_file_verified *ret,
                             struct kr_error *err)
{
    const struct kr_file_kind_ops *ops = kr_file_ops(file->kind);
    KR_TRY(kr_file_inspect_first(file, true, &ret->report, err));
    if (ops && ops->verify)
        return check_units(file, ops, ret, err);
    if (ret->report.damaged)
        judge(ret, KR_VERDICT_DAMAGED, "%s", first_note(ret));
    else if (file->kind == KR_FILE_UNKNOWN || file->kind == KR_FILE_EMPTY)
        judge(ret, KR_VERDICT_NO_KIND, "%s",
              file->size == 0 ? "it is empty" : "no file of a kind that is known");
    else if (kr_file_kind_is_bare(file->kind))
        judge(ret, KR_VERDICT_BARE, "in the clear, and nothing in it to check it by");
    else
        judge(ret, KR_VERDICT_SKIPPED, "a file of this kind cannot be verified");
    return KR_OK;
}

void kr_file_verify(const char *path, const struct kr_file_run *run, struct kr_file_verified *ret)
{
    struct kr_error why = KR_ERROR_INIT;
    KR_FILE file = {.fd = -1};
    *ret = (struct kr_file_verified){.verdict = KR_VERDICT_SKIPPED};
    kr_file_check_init(&ret->check);
    ret->status = kr_file_open(path, run, &file, &why);
    if (ret->status == KR_OK)
        ret->status = verify(&file, ret, &why);
    if (ret->status == KR_OK)
        return;
    judge(ret, KR_VERDICT_SKIPPED, "%s", why.text);
    snprintf(ret->hint, sizeof(ret->hint), "%s", why.hint);
}

enum kr_status kr_file_require_verified(const struct kr_file *file, struct kr_error *err)
{
    KR_FILE_VERIFIED verified;
    kr_file_verify(file->path, file->run, &verified);
    bool damaged = verified.verdict == KR_VERDICT_DAMAGED;
    if (verified.verdict == KR_VERDICT_OK || (file->kind == KR_FILE_MYSQL_REDO && !damaged))
        return KR_OK;
    kr_fail(err, damaged ? KR_INTEGRITY : KR_REFUSED, "%s is %s: %s", file->path,
            damaged ? "damaged" : "not verified", verified.why);
    kr_hint(err, "p11keyring verify lists what is damaged; restore it from a backup");
    return err->status;
}
