/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Work on many files: small ones several at a time, so that calls to a token run in parallel; large
 * ones one after the other, each with all threads.
 */
#ifndef P11K_FILES_RUN_H
#define P11K_FILES_RUN_H

#include "files/file.h"
#include "files/walk.h"

/* Works on one file, number `index` of the walk; called by several threads. What is wrong with the
 * file belongs in the caller's own records: a failure here ends the whole run. */
typedef enum kr_status (*kr_files_work)(const char *path, size_t index,
                                        const struct kr_file_run *run, void *context,
                                        struct kr_error *err);

/* Called several times a second with bytes; false ends the run soon. */
typedef bool (*kr_files_progress)(uint64_t done, uint64_t total, void *context);

struct kr_files_options {
    struct kr_file_keys *keys;
    unsigned threads; /* 0: as many as processors */
    kr_files_work work;
    void *context;
    kr_files_progress progress; /* may be NULL */
    void *progress_context;
};

/* *ret_interrupted: not every file was worked on, because `progress` said so. */
KR_MUST_USE enum kr_status kr_files_run(const struct kr_walk *walk,
                                        const struct kr_files_options *options,
                                        bool *ret_interrupted, struct kr_error *err);

#endif
