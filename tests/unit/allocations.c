/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* OpenSSL's allocator, with a counter. */
#include "allocations.h"

#include <stdatomic.h>
#include <stdlib.h>

#include <openssl/crypto.h>

static atomic_size_t allocations;

static void *counting_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return malloc(size);
}

static void *counting_realloc(void *old, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return realloc(old, size);
}

static void plain_free(void *old, const char *file, int line)
{
    (void)file;
    (void)line;
    free(old);
}

bool allocations_count(void)
{
    return CRYPTO_set_mem_functions(counting_malloc, counting_realloc, plain_free);
}

size_t allocations_so_far(void)
{
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}
