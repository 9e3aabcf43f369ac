/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A file of random pages, a work that turns each page into another one, and what is left of both.
 */
#ifndef P11K_TESTS_BULK_FIXTURE_H
#define P11K_TESTS_BULK_FIXTURE_H

#include "hwaccel/bulk.h"

struct pages {
    uint64_t size;
    size_t page_size;
    uint64_t offset; /* of page 0 in the file */
    int in, out;     /* two files of the scratch folder */
    uint8_t *before; /* what page 0 and all that follows are in `in` */
};

struct pages *pages_new(uint64_t size, size_t page_size, uint64_t offset);
void pages_free(struct pages *pages);

/* A run over them with `invert` as the work: from `in` to `out`, or in place. */
struct kr_bulk pages_run(const struct pages *pages);
struct kr_bulk pages_run_in_place(const struct pages *pages);

/* Fails the test unless it ends with KR_OK. */
struct kr_bulk_result pages_must_run(const struct kr_bulk *bulk);

/* Inverts every bit of each page but for those of the first byte that the page's number chooses. */
enum kr_status invert(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err);

/* What a page is, in a file. */
enum page_state { PAGE_BEFORE, PAGE_INVERTED, PAGE_OTHER };
enum page_state page_state(const struct pages *pages, int fd, uint64_t page);

uint64_t pages_count(const struct pages *pages);

/* How many pages of `fd` are in `state`. */
uint64_t pages_in_state(const struct pages *pages, int fd, enum page_state state);

/* The first page that is not inverted, or their number. */
uint64_t pages_inverted_before(const struct pages *pages, int fd);

#endif
