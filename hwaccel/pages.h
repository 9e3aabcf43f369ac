/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Many pages under one key, for the file tools and benchmarks: unpadded forms of page_cipher.h (CBC
 * whose last partial block is XORed with AES-ECB(key, iv), and CTR). What CBC encryption can do of
 * several pages at once goes through lockstep.h; all the rest one page after the other.
 *
 * An engine is for one thread at a time. Nothing is allocated after kr_pages_new(), and the key is
 * kept by OpenSSL alone, as a schedule.
 */
#ifndef P11K_HWACCEL_PAGES_H
#define P11K_HWACCEL_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "hwaccel/cipher.h"

struct kr_pages;

/* `key` is what encrypts: 16, 24 or 32 bytes, and the derived 32 of page_key.h for the ciphers
 * aes256-*. KR_USAGE, KR_INTERNAL. */
KR_MUST_USE enum kr_status kr_pages_new(enum kr_cipher cipher, const uint8_t *key, size_t key_len,
                                        struct kr_pages **ret, struct kr_error *err);

/* dst is src, or apart from every src and dst of the other jobs, and from all iv, of 16 bytes. */
struct kr_page_job {
    const uint8_t *src;
    uint8_t *dst;
    size_t len; /* at most 1 GiB */
    const uint8_t *iv;
};

/* KR_USAGE (a length), KR_INTERNAL: what is in the dst then is of no use. */
KR_MUST_USE enum kr_status kr_pages_encrypt(struct kr_pages *pages, const struct kr_page_job *jobs,
                                            size_t count);
KR_MUST_USE enum kr_status kr_pages_decrypt(struct kr_pages *pages, const struct kr_page_job *jobs,
                                            size_t count);

/* NULL is accepted. */
void kr_pages_free(struct kr_pages *pages);
void kr_pages_cleanup(struct kr_pages **pages);
#define KR_PAGES __attribute__((cleanup(kr_pages_cleanup)))

#endif
