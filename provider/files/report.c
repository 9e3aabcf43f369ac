/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Filling and freeing reports. */
#include "files/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kr_file_report_free(struct kr_file_report *report)
{
    for (size_t i = 0; i < report->note_count; i++)
        free(report->notes[i]);
    free(report->notes);
    free(report->needs);
    *report = (struct kr_file_report){0};
}

static bool is_same(const struct kr_file_need *need, const struct kr_file_need *other)
{
    return strcmp(need->name, other->name) == 0 && need->master == other->master &&
           need->id == other->id && need->version == other->version;
}

static enum kr_status add_need(struct kr_file_report *report, const struct kr_file_need *need,
                               struct kr_error *err)
{
    for (size_t i = 0; i < report->need_count; i++) {
        if (!is_same(&report->needs[i], need))
            continue;
        report->needs[i].count += need->count;
        return KR_OK;
    }
    struct kr_file_need *needs =
        reallocarray(report->needs, report->need_count + 1, sizeof(*report->needs));
    if (!needs)
        return kr_fail_memory(err);
    report->needs = needs;
    needs[report->need_count++] = *need;
    return KR_OK;
}

enum kr_status kr_file_report_need(struct kr_file_report *report, const char *name, uint32_t id,
                                   uint32_t version, uint64_t count, struct kr_error *err)
{
    struct kr_file_need need = {.id = id, .version = version, .count = count};
    snprintf(need.name, sizeof(need.name), "%s", name ? name : "");
    return add_need(report, &need, err);
}

enum kr_status kr_file_report_need_master(struct kr_file_report *report, const char *id,
                                          uint64_t count, struct kr_error *err)
{
    struct kr_file_need need = {.master = true, .count = count};
    snprintf(need.name, sizeof(need.name), "%s", id);
    return add_need(report, &need, err);
}

enum kr_status kr_file_report_note(struct kr_file_report *report, struct kr_error *err,
                                   const char *fmt, ...)
{
    char **notes = reallocarray(report->notes, report->note_count + 1, sizeof(*notes));
    va_list args;
    if (!notes)
        return kr_fail_memory(err);
    report->notes = notes;
    va_start(args, fmt);
    int len = vasprintf(&notes[report->note_count], fmt, args);
    va_end(args);
    if (len < 0)
        return kr_fail_memory(err);
    report->note_count++;
    return KR_OK;
}

void kr_file_report_judge(struct kr_file_report *report)
{
    const struct kr_file_units *units = &report->units;
    if (units->encrypted == 0)
        report->encrypted = KR_ENCRYPTED_NO;
    else
        report->encrypted = units->plain > 0 ? KR_ENCRYPTED_PARTLY : KR_ENCRYPTED_YES;
}
