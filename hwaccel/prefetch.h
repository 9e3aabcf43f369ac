/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Pages of a mapped file come from memory, and a cipher that takes a whole page at once waits for
 * each part of it when it comes to it, a fifth of its time. So what is decrypted is decrypted in
 * pieces, and before each of them the processor is asked to fetch one that is further on: it does
 * so meanwhile. To ask for more than a piece at once gains nothing.
 */
#ifndef P11K_HWACCEL_PREFETCH_H
#define P11K_HWACCEL_PREFETCH_H

#include <stddef.h>
#include <stdint.h>

enum { KR_PREFETCH_PIECE = 640, KR_CACHE_LINE = 64 };

/* The bytes need not be there. */
static inline void kr_prefetch(const uint8_t *from, size_t ahead, size_t len)
{
    for (size_t at = 0; at < len; at += KR_CACHE_LINE)
        __builtin_prefetch((const void *)((uintptr_t)from + ahead + at));
}

#endif
