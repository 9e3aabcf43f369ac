/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Many pages to be encrypted, in memory of any alignment with watched gaps between them, and what
 * plain EVP makes of each. */
#ifndef P11K_TESTS_PAGE_BATCH_H
#define P11K_TESTS_PAGE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hwaccel/pages.h"

enum { BATCH_JOBS_MAX = 40, BATCH_IV = 16 };

struct page_batch {
    enum kr_cipher cipher;
    uint8_t key[32];
    size_t key_len, count, room;
    size_t at[BATCH_JOBS_MAX];
    struct kr_page_job jobs[BATCH_JOBS_MAX];
    uint8_t ivs[BATCH_JOBS_MAX][BATCH_IV];
    uint8_t *plain, *expected, *out; /* of `room` bytes, alike but for the content of the jobs */
};

/* Random key, ivs, content and alignment; expected holds what EVP gives. */
void page_batch_make(struct page_batch *batch, enum kr_cipher cipher, size_t key_len,
                     const size_t *lengths, size_t count);
void page_batch_free(struct page_batch *batch);

/* Encrypts, in place or not, and compares every byte, and back. */
void page_batch_check(struct page_batch *batch, struct kr_pages *pages, bool in_place);

/* The same with an engine of its own. */
void page_batch_check_both(struct page_batch *batch);

/* One message by plain EVP, with a context of its own: "CBC", "ECB", "CTR", whole blocks. */
void page_batch_evp(const char *mode, const uint8_t *key, size_t key_len, const uint8_t *iv,
                    const uint8_t *src, uint8_t *dst, size_t len);

#endif
