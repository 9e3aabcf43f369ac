/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A file's pages through the bulk pipeline (hwaccel/bulk.h), with the run's threads and progress.
 */
#ifndef P11K_FILES_PAGES_H
#define P11K_FILES_PAGES_H

#include "files/file.h"
#include "hwaccel/bulk.h"

struct kr_file_pages {
    size_t page_size;
    kr_bulk_function work;
    void *context; /* of the work */
    int out;       /* -1: nothing is written */
    bool map;      /* the work takes pages from chunk->src, and fills those that are written */
};

/* The threads that the work is called by: chunk->worker is below. */
unsigned kr_file_pages_threads(const struct kr_file *file);

/* Calls the work for all pages as far as the file went when it was opened; the last one may be cut
 * off (chunk->last_len). KR_OK also when the run was stopped: kr_file_stopped(). */
KR_MUST_USE enum kr_status kr_file_pages_run(const struct kr_file *file,
                                             const struct kr_file_pages *pages,
                                             struct kr_error *err);

/* Length of page `i` of a chunk. */
static inline size_t kr_chunk_page_len(const struct kr_bulk_chunk *chunk, unsigned i)
{
    return i + 1 == chunk->count ? chunk->last_len : chunk->page_size;
}

#endif
