/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Files in memory, and what becomes of SIGBUS meanwhile. */
#include "hwaccel/bulk_map.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* since Linux 5.14; where it is not known, pages are read */
#endif

enum { MEMORY_PAGE = 4096, MAPS_MAX = 16 };

/* Handlers of any thread look at all of them at any time: they are never freed. */
struct kr_bulk_map {
    _Atomic(uint8_t *) base; /* NULL: not in use */
    atomic_size_t size;
    size_t begin; /* in the map: the first byte that was asked for */
    atomic_bool broken;
};

static struct kr_bulk_map maps[MAPS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of opening and closing */
static unsigned open_maps;
static struct sigaction before;

/* --- SIGBUS ------------------------------------------------------------------------------------*/

/* mmap() is one system call, which a handler may make. */
static bool mend(uint8_t *at)
{
    uint8_t *page = at - (uintptr_t)at % MEMORY_PAGE;
    for (struct kr_bulk_map *map = maps; map < maps + MAPS_MAX; map++) {
        uint8_t *base = atomic_load(&map->base);
        if (!base || at < base || at >= base + atomic_load(&map->size))
            continue;
        atomic_store(&map->broken, true);
        return mmap(page, MEMORY_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
               page;
    }
    return false;
}

/* What is not ours meets the handler that was there before, or faults again without one. */
static void handle(int number, siginfo_t *info, void *context)
{
    if (mend(info->si_addr))
        return;
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else
        sigaction(number, &before, NULL);
}

/* --- maps --------------------------------------------------------------------------------------*/

static struct kr_bulk_map *take(uint8_t *base, size_t size, size_t begin)
{
    const struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    struct kr_bulk_map *map = maps;
    pthread_mutex_lock(&lock);
    while (map < maps + MAPS_MAX && atomic_load(&map->base))
        map++;
    if (map < maps + MAPS_MAX) {
        if (open_maps++ == 0)
            sigaction(SIGBUS, &action, &before);
        map->begin = begin;
        atomic_store(&map->broken, false);
        atomic_store(&map->size, size);
        atomic_store(&map->base, base);
    }
    pthread_mutex_unlock(&lock);
    return map < maps + MAPS_MAX ? map : NULL;
}

struct kr_bulk_map *kr_bulk_map_open(int fd, uint64_t offset, uint64_t size)
{
    size_t begin = offset % MEMORY_PAGE, all = begin + size;
    if (size == 0)
        return NULL;
    void *base = mmap(NULL, all, PROT_READ, MAP_SHARED, fd, (off_t)(offset - begin));
    if (base == MAP_FAILED)
        return NULL;
    struct kr_bulk_map *map = take(base, all, begin);
    if (!map)
        munmap(base, all);
    return map;
}

void kr_bulk_map_close(struct kr_bulk_map *map)
{
    if (!map)
        return;
    pthread_mutex_lock(&lock);
    munmap(atomic_load(&map->base), atomic_load(&map->size));
    atomic_store(&map->base, NULL);
    if (--open_maps == 0)
        sigaction(SIGBUS, &before, NULL);
    pthread_mutex_unlock(&lock);
}

/* The memory pages around them. */
const uint8_t *kr_bulk_map_fetch(struct kr_bulk_map *map, uint64_t at, size_t len)
{
    uint8_t *from = atomic_load(&map->base) + map->begin + at;
    size_t over = (uintptr_t)from % MEMORY_PAGE;
    return madvise(from - over, len + over, MADV_POPULATE_READ) == 0 ? from : NULL;
}

/* In whole units, which Linux would split otherwise and stop the other threads for; each when its
 * end is dropped. What another thread still reads of it comes back by itself. */
void kr_bulk_map_drop(struct kr_bulk_map *map, uint64_t at, size_t len)
{
    uint8_t *base = atomic_load(&map->base), *from = base + map->begin + at, *to = from + len;
    to -= (uintptr_t)to % KR_BULK_MAP_UNIT;
    from -= (uintptr_t)from % KR_BULK_MAP_UNIT;
    if (from < base)
        from = base;
    if (from < to)
        madvise(from, (size_t)(to - from), MADV_DONTNEED);
}

bool kr_bulk_map_is_broken(const struct kr_bulk_map *map)
{
    return map && atomic_load(&map->broken);
}
