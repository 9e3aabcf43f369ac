/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Secret memory. Arenas of power-of-two blocks: an allocation is rounded up to a power of two of at
 * least 32 bytes and served from an arena of that block size; large ones get an arena of their own.
 * Arenas are few, so a block's arena is found by walking the list.
 */
#include "base/secret.h"

#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MIN_BLOCK = 32, ARENA_BYTES = 64 * 1024, MAX_BYTES = 16 * 1024 * 1024 };

struct arena {
    struct arena *next;
    uint8_t *base;
    size_t bytes, block, blocks, free_blocks;
    bool locked;
    uint64_t used[ARENA_BYTES / MIN_BLOCK / 64]; /* one bit per block */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct arena *arenas;
static enum kr_lock_policy policy = KR_LOCK_WARN;
static bool warned;

void kr_secret_set_policy(enum kr_lock_policy wanted)
{
    pthread_mutex_lock(&lock);
    policy = wanted;
    pthread_mutex_unlock(&lock);
}

void kr_wipe(void *bytes, size_t len)
{
    explicit_bzero(bytes, len);
}

/* Returns what to tell the operator: 0, or the errno of mlock. */
static int protect(struct arena *arena)
{
    madvise(arena->base, arena->bytes, MADV_DONTDUMP);
    arena->locked = mlock(arena->base, arena->bytes) == 0;
    return arena->locked ? 0 : errno;
}

static struct arena *new_arena(size_t block, int *lock_errno)
{
    struct arena *arena = calloc(1, sizeof(*arena));
    if (!arena)
        return NULL;
    arena->block = block;
    arena->bytes = block > ARENA_BYTES ? block : ARENA_BYTES;
    arena->blocks = arena->free_blocks = arena->bytes / block;
    arena->base =
        mmap(NULL, arena->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena->base == MAP_FAILED) {
        free(arena);
        return NULL;
    }
    *lock_errno = protect(arena);
    if (!arena->locked && policy == KR_LOCK_REQUIRE) {
        munmap(arena->base, arena->bytes);
        free(arena);
        return NULL;
    }
    arena->next = arenas;
    arenas = arena;
    return arena;
}

static void *take_block(struct arena *arena)
{
    for (size_t i = 0; i < arena->blocks; i++) {
        uint64_t bit = UINT64_C(1) << (i % 64);
        if (arena->used[i / 64] & bit)
            continue;
        arena->used[i / 64] |= bit;
        arena->free_blocks--;
        return arena->base + i * arena->block;
    }
    return NULL;
}

static size_t block_size(size_t size)
{
    size_t block = MIN_BLOCK;
    while (block < size)
        block *= 2;
    return block;
}

/* Outside the lock: the sink is foreign code. */
static void warn_unlocked(int lock_errno)
{
    kr_log(KR_LOG_WARNING,
           "secret memory could not be locked and may be swapped to disk: %s; hint: raise the "
           "memory-lock limit (LimitMEMLOCK= in systemd, ulimit -l)",
           strerror(lock_errno));
}

void *kr_secret_alloc(size_t size)
{
    if (size == 0 || size > MAX_BYTES)
        return NULL;
    size_t block = block_size(size);
    int lock_errno = 0;
    pthread_mutex_lock(&lock);
    struct arena *arena = arenas;
    while (arena && (arena->block != block || arena->free_blocks == 0))
        arena = arena->next;
    if (!arena)
        arena = new_arena(block, &lock_errno);
    void *taken = arena ? take_block(arena) : NULL;
    bool warn = lock_errno != 0 && !warned;
    warned = warned || warn;
    pthread_mutex_unlock(&lock);
    if (warn)
        warn_unlocked(lock_errno);
    return taken;
}

static struct arena *arena_of(const uint8_t *block)
{
    struct arena *arena = arenas;
    while (arena && (block < arena->base || block >= arena->base + arena->bytes))
        arena = arena->next;
    return arena;
}

static void release_arena(struct arena *arena)
{
    struct arena **link = &arenas;
    while (*link != arena)
        link = &(*link)->next;
    *link = arena->next;
    munmap(arena->base, arena->bytes);
    free(arena);
}

void kr_secret_free(void *secret)
{
    if (!secret)
        return;
    pthread_mutex_lock(&lock);
    struct arena *arena = arena_of(secret);
    if (!arena)
        abort(); /* not ours: memory is already corrupt, and keys may be in it */
    size_t i = (size_t)((uint8_t *)secret - arena->base) / arena->block;
    kr_wipe(secret, arena->block);
    arena->used[i / 64] &= ~(UINT64_C(1) << (i % 64));
    if (++arena->free_blocks == arena->blocks)
        release_arena(arena);
    pthread_mutex_unlock(&lock);
}

char *kr_secret_dup(const void *bytes, size_t len)
{
    char *copy = kr_secret_alloc(len + 1);
    if (copy && len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

void kr_secret_get_stats(struct kr_secret_stats *ret)
{
    memset(ret, 0, sizeof(*ret));
    pthread_mutex_lock(&lock);
    for (const struct arena *arena = arenas; arena; arena = arena->next) {
        *(arena->locked ? &ret->locked_bytes : &ret->unlocked_bytes) += arena->bytes;
        ret->used_bytes += (arena->blocks - arena->free_blocks) * arena->block;
    }
    pthread_mutex_unlock(&lock);
}

void kr_secret_cleanup(void *pointer_to_pointer)
{
    kr_secret_free(*(void **)pointer_to_pointer);
}
