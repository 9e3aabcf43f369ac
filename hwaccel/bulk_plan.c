/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Chunks and memory of a bulk run. */
#include "hwaccel/bulk_plan.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/secret.h"
#include "hwaccel/bulk_io.h"
#include "hwaccel/bulk_map.h"

/* A chunk that stays in a processor's second cache, or one that is worth a trip to the disk. LANES:
 * as many pages as are encrypted at once. */
enum {
    CHUNK_CACHED = 256 * 1024,
    CHUNK_DIRECT = 1024 * 1024,
    LANES = 16,
    SPREAD = 512,
    SPREAD_FROM = 2048, /* smaller pages reach enough cache sets as they are */
    MEMORY_PAGE = 4096,
    DEFAULT_THREADS_MAX = 16
};

unsigned kr_bulk_default_threads(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    unsigned count = (unsigned)CPU_COUNT(&set);
    return count > DEFAULT_THREADS_MAX ? DEFAULT_THREADS_MAX : count;
}

static enum kr_status check(const struct kr_bulk *bulk, struct kr_error *err)
{
    uint64_t offset = bulk->in_offset > bulk->out_offset ? bulk->in_offset : bulk->out_offset;
    if (bulk->page_size == 0 || bulk->page_size % 512 != 0 || bulk->page_size > KR_BULK_PAGE_MAX)
        return kr_fail(err, KR_USAGE, "pages of %zu bytes cannot be worked on in bulk",
                       bulk->page_size);
    if (offset > INT64_MAX || bulk->size > INT64_MAX - offset)
        return kr_fail(err, KR_USAGE, "no file has %llu bytes from byte %llu on",
                       (unsigned long long)bulk->size, (unsigned long long)offset);
    if (bulk->threads > KR_BULK_THREADS_MAX)
        return kr_fail(err, KR_USAGE, "%u threads are more than %d", bulk->threads,
                       KR_BULK_THREADS_MAX);
    return KR_OK;
}

static uint64_t at_least_1(uint64_t number)
{
    return number > 0 ? number : 1;
}

static size_t memory_for(const struct kr_bulk_plan *plan, uint64_t pages)
{
    return (pages * plan->stride + MEMORY_PAGE - 1) / MEMORY_PAGE * MEMORY_PAGE;
}

/* What is mapped, and not written, is best mapped for one thread alone. */
static size_t chunk_bytes(const struct kr_bulk *bulk)
{
    if (bulk->chunk > 0)
        return bulk->chunk;
    if (bulk->direct)
        return CHUNK_DIRECT;
    return bulk->map && bulk->out < 0 ? KR_BULK_MAP_UNIT : CHUNK_CACHED;
}

/* Wanted: at least LANES pages, and a file that is small for all threads. */
static uint64_t wanted_pages(const struct kr_bulk *bulk, const struct kr_bulk_plan *plan)
{
    uint64_t pages = chunk_bytes(bulk) / bulk->page_size;
    uint64_t share = (plan->pages + plan->threads - 1) / plan->threads;
    if (pages > share)
        pages = share;
    pages = (pages + LANES - 1) / LANES * LANES;
    return pages < KR_BULK_IOV ? pages : KR_BULK_IOV;
}

static enum kr_status fit_memory(const struct kr_bulk *bulk, struct kr_bulk_plan *plan,
                                 struct kr_error *err)
{
    uint64_t pages = at_least_1(wanted_pages(bulk, plan));
    size_t one = memory_for(plan, 1);
    if (bulk->memory > 0 && bulk->memory < one) {
        kr_fail(err, KR_USAGE, "%zu bytes of memory are not enough for one page of %zu",
                bulk->memory, bulk->page_size);
        kr_hint(err, "allow at least %zu", one);
        return KR_USAGE;
    }
    if (bulk->memory > 0 && bulk->memory / plan->threads < one)
        plan->threads = (unsigned)(bulk->memory / one);
    while (bulk->memory > 0 && memory_for(plan, pages) > bulk->memory / plan->threads)
        pages = pages > LANES ? pages - LANES : pages - 1;
    plan->chunk_pages = (unsigned)pages;
    plan->memory = memory_for(plan, pages);
    return KR_OK;
}

enum kr_status kr_bulk_make_plan(const struct kr_bulk *bulk, struct kr_bulk_plan *ret,
                                 struct kr_error *err)
{
    KR_TRY(check(bulk, err));
    struct kr_bulk_plan plan = {.pages = (bulk->size + bulk->page_size - 1) / bulk->page_size};
    size_t over = bulk->size % bulk->page_size;
    plan.tail_len = over > 0 ? over : bulk->page_size;
    plan.threads = bulk->threads > 0 ? bulk->threads : kr_bulk_default_threads();
    plan.stride = bulk->page_size + (bulk->page_size >= SPREAD_FROM ? SPREAD : 0);
    KR_TRY(fit_memory(bulk, &plan, err));
    *ret = plan;
    return KR_OK;
}

enum kr_status kr_bulk_make_room(const struct kr_bulk_plan *plan, struct kr_bulk_room *ret,
                                 struct kr_error *err)
{
    struct kr_bulk_room room = {.size = plan->memory};
    room.pages = calloc(plan->chunk_pages, sizeof(*room.pages));
    room.src = calloc(plan->chunk_pages, sizeof(*room.src));
    room.skip = calloc(plan->chunk_pages, sizeof(*room.skip));
    room.iov = calloc(plan->chunk_pages, sizeof(*room.iov));
    void *memory =
        mmap(NULL, room.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        room.memory = memory;
    if (!room.memory || !room.pages || !room.src || !room.skip || !room.iov) {
        kr_bulk_free_room(&room);
        return kr_fail_memory(err);
    }
    madvise(memory, room.size, MADV_DONTDUMP);
    for (unsigned i = 0; i < plan->chunk_pages; i++)
        room.pages[i] = room.memory + i * plan->stride;
    *ret = room;
    return KR_OK;
}

void kr_bulk_free_room(struct kr_bulk_room *room)
{
    if (room->memory) {
        kr_wipe(room->memory, room->size);
        munmap(room->memory, room->size);
    }
    free(room->pages);
    free(room->src);
    free(room->skip);
    free(room->iov);
    *room = (struct kr_bulk_room){0};
}
