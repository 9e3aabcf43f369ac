/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* By the table of kinds. */
#include "files/inspect.h"

#include "files/kinds.h"

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    const struct kr_file_kind_ops *ops = kr_file_ops(file->kind);
    if (ops)
        KR_TRY(ops->inspect(file, report, err));
    kr_file_keys_look(file->run->keys, report);
    if (!kr_file_changed(file))
        return KR_OK;
    report->incomplete = true;
    return kr_file_report_note(report, err, "somebody writes to it: this may be of two moments");
}

enum kr_status kr_file_inspect(struct kr_file *file, struct kr_file_report *ret,
                               struct kr_error *err)
{
    struct kr_file_report report = {.kind = file->kind, .size = file->size};
    enum kr_status status = inspect(file, &report, err);
    if (status == KR_OK)
        *ret = report;
    else
        kr_file_report_free(&report);
    return status;
}

enum kr_status kr_file_inspect_first(struct kr_file *file, bool brief, struct kr_file_report *ret,
                                     struct kr_error *err)
{
    const struct kr_file_run *run = file->run;
    unsigned long long before = atomic_load(run->done_bytes);
    struct kr_file_run first = *run;
    first.brief = brief;
    file->run = &first;
    file->twice = true;
    enum kr_status status = kr_file_inspect(file, ret, err);
    file->run = run;
    file->twice = atomic_load(run->done_bytes) > before;
    return status;
}
