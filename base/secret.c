/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Secret memory. Small secrets of all sizes share arenas of 64 KiB, so that few pages need the lock
 * limit; a large one gets an arena of its own. An arena is cut into granules; two bitmaps say which
 * are taken and where an allocation ends. One empty arena is kept, or each short-lived secret would
 * map, lock and unmap memory.
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

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif

/* ASan cannot see into our arenas unless told; a free granule behind each secret shows overruns. */
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
enum { GUARD = 1 };
#else
#define ASAN_POISON_MEMORY_REGION(at, len) ((void)(at), (void)(len))
#define ASAN_UNPOISON_MEMORY_REGION(at, len) ((void)(at), (void)(len))
enum { GUARD = 0 };
#endif

enum {
    GRANULE = 32,
    ARENA_BYTES = 64 * 1024,
    ARENA_GRANULES = ARENA_BYTES / GRANULE,
    SHARED_MAX = ARENA_BYTES / 2, /* a larger secret gets an arena of its own */
    MAX_BYTES = 16 * 1024 * 1024,
    PAGE = 4096
};

struct arena {
    struct arena *next;
    uint8_t *base;
    size_t bytes, used_bytes;
    bool shared; /* of small secrets; otherwise it is one secret and has no bitmaps */
    bool locked;
    uint64_t taken[ARENA_GRANULES / 64], last[ARENA_GRANULES / 64]; /* one bit per granule */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;
static struct arena *arenas;
static enum kr_lock_policy policy = KR_LOCK_WARN;
static bool warned;

static bool get_bit(const uint64_t *bits, size_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static void set_bit(uint64_t *bits, size_t i, bool value)
{
    uint64_t bit = UINT64_C(1) << (i % 64);
    bits[i / 64] = value ? bits[i / 64] | bit : bits[i / 64] & ~bit;
}

void kr_secret_set_policy(enum kr_lock_policy wanted)
{
    pthread_mutex_lock(&lock);
    policy = wanted;
    pthread_mutex_unlock(&lock);
}

void kr_wipe(void *bytes, size_t len)
{
    if (len > 0)
        explicit_bzero(bytes, len);
}

/* Copies of up to 64 bytes go through vector registers, where a key stays until something else
 * passes through; a core dump holds the registers of every thread. */
#if defined(__x86_64__)
#define ZERO(n) "vpxorq %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"
__attribute__((target("avx512f"))) static void wipe_upper_registers(void)
{
    __asm__ volatile(ZERO(16) ZERO(17) ZERO(18) ZERO(19) ZERO(20) ZERO(21) ZERO(22) ZERO(23)
                         ZERO(24) ZERO(25) ZERO(26) ZERO(27) ZERO(28) ZERO(29) ZERO(30) ZERO(31)::
                             : "memory");
}

static void wipe_registers(void)
{
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroall" ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                               "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
                               "memory");
    if (__builtin_cpu_supports("avx512f"))
        wipe_upper_registers();
}
#else
/* The same copy of zeros takes the same way. */
static void wipe_registers(void)
{
    static const uint8_t zeros[64];
    uint8_t copy[sizeof(zeros)];
    memcpy(copy, zeros, sizeof(zeros));
    __asm__ volatile("" ::"r"(copy) : "memory");
}
#endif

/* --- fork ------------------------------------------------------------------------------------- */

/* mlock2 without flags is mlock, which the sanitizers turn into nothing. */
static bool lock_arena(struct arena *arena)
{
    arena->locked = mlock2(arena->base, arena->bytes, 0) == 0;
    return arena->locked;
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* A child inherits the memory but not the memory locks. */
static void after_fork_in_child(void)
{
    for (struct arena *arena = arenas; arena; arena = arena->next)
        lock_arena(arena);
    pthread_mutex_unlock(&lock);
}

static void set_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* --- arenas; all under the lock --------------------------------------------------------------- */

static void unmap(struct arena *arena)
{
    ASAN_UNPOISON_MEMORY_REGION(arena->base, arena->bytes);
    munmap(arena->base, arena->bytes);
    free(arena);
}

/* *ret_lock_errno is set when the memory could not be locked, whatever the policy makes of it. */
static struct arena *new_arena(size_t bytes, bool shared, int *ret_lock_errno)
{
    struct arena *arena = calloc(1, sizeof(*arena));
    if (!arena)
        return NULL;
    arena->bytes = bytes;
    arena->shared = shared;
    arena->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena->base == MAP_FAILED) {
        free(arena);
        return NULL;
    }
    bool dumpable = madvise(arena->base, bytes, MADV_DONTDUMP) != 0;
    if (!dumpable && !lock_arena(arena))
        *ret_lock_errno = errno;
    if (dumpable || (!arena->locked && policy == KR_LOCK_REQUIRE)) {
        unmap(arena);
        return NULL;
    }
    ASAN_POISON_MEMORY_REGION(arena->base, bytes);
    arena->next = arenas;
    arenas = arena;
    return arena;
}

static void release_arena(struct arena *arena)
{
    struct arena **link = &arenas;
    while (*link != arena)
        link = &(*link)->next;
    *link = arena->next;
    unmap(arena);
}

static bool other_is_empty(const struct arena *arena)
{
    for (const struct arena *other = arenas; other; other = other->next)
        if (other != arena && other->shared && other->used_bytes == 0)
            return true;
    return false;
}

/* First fit: the first granule of a free run, or -1. */
static long find_run(const struct arena *arena, size_t granules)
{
    size_t run = 0;
    for (size_t i = 0; i < ARENA_GRANULES; i++) {
        if (i % 64 == 0 && arena->taken[i / 64] == UINT64_MAX) {
            run = 0;
            i += 63;
            continue;
        }
        run = get_bit(arena->taken, i) ? 0 : run + 1;
        if (run == granules)
            return (long)(i + 1 - granules);
    }
    return -1;
}

static void *take_run(struct arena *arena, size_t first, size_t granules)
{
    for (size_t i = first; i < first + granules; i++)
        set_bit(arena->taken, i, true);
    set_bit(arena->last, first + granules - 1, true);
    arena->used_bytes += granules * GRANULE;
    return arena->base + first * GRANULE;
}

static void *take_shared(size_t size, int *ret_lock_errno)
{
    size_t granules = (size + GRANULE - 1) / GRANULE + GUARD;
    for (struct arena *arena = arenas; arena; arena = arena->next) {
        if (!arena->shared || arena->bytes - arena->used_bytes < granules * GRANULE)
            continue;
        long first = find_run(arena, granules);
        if (first >= 0)
            return take_run(arena, (size_t)first, granules);
    }
    struct arena *arena = new_arena(ARENA_BYTES, true, ret_lock_errno);
    return arena ? take_run(arena, 0, granules) : NULL;
}

static void *take_own(size_t size, int *ret_lock_errno)
{
    size_t bytes = (size + (size_t)GUARD * GRANULE + PAGE - 1) / PAGE * PAGE;
    struct arena *arena = new_arena(bytes, false, ret_lock_errno);
    if (!arena)
        return NULL;
    arena->used_bytes = bytes;
    return arena->base;
}

/* --- allocation ------------------------------------------------------------------------------- */

/* Outside the lock: the sink is foreign code. */
static void say_not_locked(bool refused, int lock_errno)
{
    kr_log(refused ? KR_LOG_ERROR : KR_LOG_WARNING,
           "secret memory could not be locked%s: %s; hint: raise the memory-lock limit "
           "(LimitMEMLOCK= in systemd, ulimit -l)",
           refused ? ", and lock-memory = require refuses to go on" : " and may be swapped to disk",
           strerror(lock_errno));
}

void *kr_secret_alloc(size_t size)
{
    if (size == 0 || size > MAX_BYTES)
        return NULL;
    pthread_once(&fork_handlers, set_fork_handlers);
    int lock_errno = 0;
    pthread_mutex_lock(&lock);
    void *secret =
        size <= SHARED_MAX ? take_shared(size, &lock_errno) : take_own(size, &lock_errno);
    bool warn = lock_errno != 0 && !warned;
    warned = warned || warn;
    pthread_mutex_unlock(&lock);
    if (secret)
        ASAN_UNPOISON_MEMORY_REGION(secret, size);
    if (warn)
        say_not_locked(!secret, lock_errno);
    return secret;
}

static struct arena *arena_of(const uint8_t *secret)
{
    struct arena *arena = arenas;
    while (arena && (secret < arena->base || secret >= arena->base + arena->bytes))
        arena = arena->next;
    return arena;
}

/* A pointer that is not the start of a secret means that memory is corrupt already, and keys may be
 * in it: nothing good can follow. */
static void insist(bool sound)
{
    if (!sound)
        abort();
}

static void give_back(struct arena *arena, uint8_t *secret)
{
    size_t first = (size_t)(secret - arena->base) / GRANULE, end = first;
    insist((size_t)(secret - arena->base) % GRANULE == 0 && get_bit(arena->taken, first));
    insist(first == 0 || !get_bit(arena->taken, first - 1) || get_bit(arena->last, first - 1));
    do
        set_bit(arena->taken, end, false);
    while (!get_bit(arena->last, end++));
    set_bit(arena->last, end - 1, false);
    size_t bytes = (end - first) * GRANULE;
    ASAN_UNPOISON_MEMORY_REGION(secret, bytes);
    kr_wipe(secret, bytes);
    ASAN_POISON_MEMORY_REGION(secret, bytes);
    arena->used_bytes -= bytes;
}

void kr_secret_free(void *secret)
{
    if (!secret)
        return;
    pthread_mutex_lock(&lock);
    struct arena *arena = arena_of(secret);
    insist(arena != NULL);
    if (arena->shared) {
        give_back(arena, secret);
    } else {
        insist(secret == arena->base);
        ASAN_UNPOISON_MEMORY_REGION(arena->base, arena->bytes);
        kr_wipe(arena->base, arena->bytes);
        arena->used_bytes = 0;
    }
    if (arena->used_bytes == 0 && (!arena->shared || other_is_empty(arena)))
        release_arena(arena);
    pthread_mutex_unlock(&lock);
    wipe_registers();
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
    struct kr_secret_stats stats = {0};
    pthread_mutex_lock(&lock);
    for (const struct arena *arena = arenas; arena; arena = arena->next) {
        *(arena->locked ? &stats.locked_bytes : &stats.unlocked_bytes) += arena->bytes;
        stats.used_bytes += arena->used_bytes;
    }
    pthread_mutex_unlock(&lock);
    *ret = stats;
}

void kr_secret_cleanup(void *pointer_to_pointer)
{
    kr_secret_free(*(void **)pointer_to_pointer);
}

enum kr_status kr_fail_secret(struct kr_error *err)
{
    pthread_mutex_lock(&lock);
    bool required = policy == KR_LOCK_REQUIRE;
    pthread_mutex_unlock(&lock);
    if (!required)
        return kr_fail_memory(err);
    kr_fail(err, KR_INTERNAL, "out of memory, or out of memory that may be locked");
    kr_hint(err, "raise the memory-lock limit (LimitMEMLOCK= in systemd, ulimit -l), or set "
                 "lock-memory = warn in [keyring]");
    return KR_INTERNAL;
}
