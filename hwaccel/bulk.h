/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Whole files at the machine's speed: pages are read, worked on and written by several threads in
 * bounded memory. What the work is, and what a page holds, is the caller's affair.
 *
 * Each thread takes the next chunk of pages, reads it, calls the work, and writes what the work
 * left in the pages, to another file or in place. A chunk is a few hundred KiB, so that it stays in
 * the thread's cache on its way, or 2 MiB of a mapped file where nothing is written. Pages in
 * memory lie a little more than their size apart: at a distance of 4096 bytes or a multiple, the
 * pages of a batch fight for the same cache sets.
 *
 * After a failure, or when it is stopped, no chunk is begun; a chunk whose writing has begun is
 * written to its end, one that was only read is dropped. So a page is either as it was or as the
 * work made it, unless the machine stops or the disk fails in the middle of a write: who changes
 * files in place keeps a journal with the two hooks around writing.
 *
 * A work that does not change pages in place, but takes them from `src`, may have the input mapped,
 * which saves a third of the time of a scan. A file that becomes shorter meanwhile is then a
 * failure like any other (bulk_map.h).
 *
 * Memory that held pages is kept out of core dumps and wiped.
 */
#ifndef P11K_HWACCEL_BULK_H
#define P11K_HWACCEL_BULK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { KR_BULK_THREADS_MAX = 64, KR_BULK_PAGE_MAX = 1024 * 1024 };

struct kr_bulk_chunk {
    uint64_t first;        /* number of its first page */
    unsigned count;        /* of its pages, at least 1 */
    unsigned worker;       /* 0 to threads - 1: for what each thread keeps for itself */
    size_t page_size;      /* length of its pages, but for: */
    size_t last_len;       /* length of its last page, less where the file ends within it */
    uint8_t *const *pages; /* each aligned to 512 bytes: what is written when the work is done */
    const uint8_t *const *src; /* the pages that were read: `pages`, but with `map` */
    bool *skip;                /* all false; the work sets it where a page is not to be written */
};

/* Called by the threads, several at a time, each with a chunk of its own. */
typedef enum kr_status (*kr_bulk_function)(struct kr_bulk_chunk *chunk, void *context,
                                           struct kr_error *err);

/* Called by the thread that called kr_bulk_run(), several times a second and at the end, with the
 * pages that are done; false stops. */
typedef bool (*kr_bulk_progress)(uint64_t done, uint64_t total, void *context);

enum kr_bulk_sync {
    KR_BULK_SYNC_END,   /* what was written is on the disk when kr_bulk_run() returns KR_OK */
    KR_BULK_SYNC_CHUNK, /* and each chunk is when its after_write is called */
    KR_BULK_SYNC_NONE
};

struct kr_bulk {
    int in, out; /* out: -1 where nothing is written; `in`, or another descriptor of the same
                    file, in place; a pipe, which is written in the order of the file */
    const char *in_name, *out_name; /* for messages */
    uint64_t in_offset, out_offset; /* where page 0 begins */
    uint64_t size;                  /* bytes of all pages; the last page may be a part of one */
    size_t page_size;               /* a multiple of 512 */
    uint64_t first_page;            /* the pages below it are left alone */
    unsigned threads;               /* 0: kr_bulk_default_threads() */
    size_t memory; /* most bytes for pages, 0: the best for speed, below 5 MiB for each thread */
    size_t chunk;  /* bytes of a chunk, 0: the best for speed */
    bool map;      /* pages in the page cache are not copied: the work finds them at `src`, perhaps
                      in the file itself, and fills each of `pages` that is not to be skipped */
    bool direct;   /* past the page cache (O_DIRECT) where the file system allows it */
    bool in_order; /* chunks are written one after the other, in the order of the file */
    enum kr_bulk_sync sync;

    kr_bulk_function work;         /* NULL: a copy */
    kr_bulk_function before_write; /* may be NULL; the pages are as they will be written */
    kr_bulk_function after_write;  /* may be NULL */
    kr_bulk_progress progress;     /* may be NULL */
    void *context;                 /* of the four */
    const atomic_bool *stop;       /* may be NULL; set it from anywhere, a signal handler too */
};

/* Also of a run that failed. */
struct kr_bulk_result {
    uint64_t pages;         /* done: worked on and, but for those to be skipped, written */
    uint64_t resume_at;     /* every page below is done or was below first_page */
    uint64_t written_bytes; /* to the output */
    unsigned threads;
    unsigned chunk_pages;
    size_t memory; /* bytes for pages, of all threads */
    bool direct_in, direct_out;
    const char *buffered_because; /* static text where `direct` was asked for but is not; or NULL */
    bool interrupted;             /* stopped before the end; the status is KR_OK */
};

/* The processors that this process may use, at most 16. */
unsigned kr_bulk_default_threads(void);

/* The first failure of a thread is the result: the work's own, or KR_IO (an error of the disk, disk
 * full, the input ends before `size`). KR_USAGE (sizes, memory too small), KR_INTERNAL. Signals are
 * left to the other threads of the process. While it runs with `direct` the descriptors carry
 * O_DIRECT. */
KR_MUST_USE enum kr_status kr_bulk_run(const struct kr_bulk *bulk, struct kr_bulk_result *ret,
                                       struct kr_error *err);

#endif
