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

static bool is_for(const struct kr_file_need *need, const char *name, uint32_t id, uint32_t version)
{
    return strcmp(need->name, name) == 0 && need->id == id && need->version == version;
}

enum kr_status kr_file_report_need(struct kr_file_report *report, const char *name, uint32_t id,
                                   uint32_t version, uint64_t count, struct kr_error *err)
{
    const char *wanted = name ? name : "";
    for (size_t i = 0; i < report->need_count; i++) {
        if (!is_for(&report->needs[i], wanted, id, version))
            continue;
        report->needs[i].count += count;
        return KR_OK;
    }
    struct kr_file_need *needs =
        reallocarray(report->needs, report->need_count + 1, sizeof(*report->needs));
    if (!needs)
        return kr_fail_memory(err);
    report->needs = needs;
    struct kr_file_need *need = &needs[report->need_count++];
    *need = (struct kr_file_need){.id = id, .version = version, .count = count};
    snprintf(need->name, sizeof(need->name), "%s", wanted);
    return KR_OK;
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
