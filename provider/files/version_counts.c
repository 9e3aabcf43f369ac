/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A short list of versions. */
#include "files/version_counts.h"

#include <stdlib.h>

void kr_version_counts_add(struct kr_version_counts *counts, uint32_t version)
{
    size_t i = 0;
    while (i < counts->count && counts->of[i].version != version)
        i++;
    if (i == KR_VERSION_COUNTS_MAX) {
        counts->more = true;
        return;
    }
    if (i == counts->count)
        counts->of[counts->count++] = (struct kr_version_count){.version = version};
    counts->of[i].pages++;
}

static int by_version(const void *a, const void *b)
{
    const struct kr_version_count *one = a, *other = b;
    return (one->version > other->version) - (one->version < other->version);
}

enum kr_status kr_version_counts_report(struct kr_version_counts *counts, uint32_t id,
                                        struct kr_file_report *report, struct kr_error *err)
{
    qsort(counts->of, counts->count, sizeof(*counts->of), by_version);
    for (size_t i = 0; i < counts->count; i++)
        KR_TRY(
            kr_file_report_need(report, "", id, counts->of[i].version, counts->of[i].pages, err));
    return KR_OK;
}
