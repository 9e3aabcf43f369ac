/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* How a run of bulk.h is cut into chunks, and the memory of its threads; for hwaccel only. */
#ifndef P11K_HWACCEL_BULK_PLAN_H
#define P11K_HWACCEL_BULK_PLAN_H

#include <sys/uio.h>

#include "hwaccel/bulk.h"

struct kr_bulk_plan {
    uint64_t pages;  /* of the file, the last one perhaps a part */
    size_t tail_len; /* length of that one */
    unsigned threads;
    unsigned chunk_pages;
    size_t stride; /* from one page to the next in memory */
    size_t memory; /* of one thread */
};

/* KR_USAGE. */
KR_MUST_USE enum kr_status kr_bulk_make_plan(const struct kr_bulk *bulk, struct kr_bulk_plan *ret,
                                             struct kr_error *err);

/* What one thread reads into. */
struct kr_bulk_room {
    uint8_t *memory;
    size_t size;
    uint8_t **pages;
    const uint8_t **src;
    bool *skip;
    struct iovec *iov;
};

KR_MUST_USE enum kr_status kr_bulk_make_room(const struct kr_bulk_plan *plan,
                                             struct kr_bulk_room *ret, struct kr_error *err);

/* Wipes it. A room of zeros is accepted. */
void kr_bulk_free_room(struct kr_bulk_room *room);

#endif
