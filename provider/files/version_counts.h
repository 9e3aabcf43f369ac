/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* How many pages of a file are encrypted with each version of a key. */
#ifndef P11K_FILES_VERSION_COUNTS_H
#define P11K_FILES_VERSION_COUNTS_H

#include "files/report.h"

enum { KR_VERSION_COUNTS_MAX = 64 /* of one file that are told apart */ };

struct kr_version_counts {
    struct kr_version_count {
        uint32_t version;
        uint64_t pages;
    } of[KR_VERSION_COUNTS_MAX];
    size_t count;
    bool more; /* than fit */
};

/* One page more. */
void kr_version_counts_add(struct kr_version_counts *counts, uint32_t version);

/* Puts them in order, and into the report as needs of key `id`. */
KR_MUST_USE enum kr_status kr_version_counts_report(struct kr_version_counts *counts, uint32_t id,
                                                    struct kr_file_report *report,
                                                    struct kr_error *err);

#endif
