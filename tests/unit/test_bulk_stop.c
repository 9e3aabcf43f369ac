/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The bulk pipeline stopped, or failing, at any moment: what is done is done, the rest untouched.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/rand.h>

#include "bulk_fixture.h"
#include "scratch.h"

static unsigned random_below(unsigned limit)
{
    uint32_t number;
    assert_int_equal(RAND_bytes((uint8_t *)&number, sizeof(number)), 1);
    return number % limit;
}

/* --- stopped -----------------------------------------------------------------------------------*/

static atomic_bool interrupted;
static atomic_uint handled_elsewhere;
static pthread_t main_thread;

static void interrupt(int signal)
{
    (void)signal;
    if (!pthread_equal(pthread_self(), main_thread))
        atomic_fetch_add(&handled_elsewhere, 1);
    atomic_store(&interrupted, true);
}

struct interruption {
    const struct pages *pages;
    uint64_t page; /* the signal comes while it is worked on */
    bool once; /* a page that is inverted already stays, so that nobody must know where to go on */
};

/* Waits until the handler has run; the other threads are wherever they are. */
static enum kr_status invert_until(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct interruption *plan = context;
    if (chunk->first <= plan->page && plan->page < chunk->first + chunk->count) {
        pthread_kill(main_thread, SIGALRM);
        while (!atomic_load(&interrupted))
            usleep(100);
    }
    for (unsigned i = 0; plan->once && i < chunk->count; i++)
        chunk->skip[i] =
            memcmp(chunk->src[i], plan->pages->before + (chunk->first + i) * chunk->page_size,
                   chunk->page_size) != 0;
    return invert(chunk, NULL, err);
}

static bool run_interrupted(const struct pages *pages, struct kr_bulk *bulk)
{
    atomic_store(&interrupted, false);
    uint64_t inverted = pages_in_state(pages, pages->in, PAGE_INVERTED);
    struct kr_bulk_result result = pages_must_run(bulk);
    assert_int_equal(pages_in_state(pages, pages->in, PAGE_OTHER), 0);
    uint64_t now = pages_in_state(pages, pages->in, PAGE_INVERTED);
    assert_int_equal(now - inverted, result.written_bytes / pages->page_size);
    assert_true(pages_inverted_before(pages, pages->in) >= result.resume_at);
    assert_int_equal(result.interrupted, result.pages < pages_count(pages) - bulk->first_page);
    if (bulk->in_order)
        bulk->first_page = result.resume_at;
    return result.interrupted;
}

/* Every second run is not interrupted at all: each file is carried to its end. */
static unsigned interrupt_one(unsigned threads, bool in_order, bool map)
{
    unsigned interruptions = 0;
    struct pages *pages = pages_new(128 * 1024, 512, 0);
    struct interruption plan = {.pages = pages, .once = !in_order};
    struct kr_bulk bulk = pages_run_in_place(pages);
    bulk.threads = threads;
    bulk.chunk = 8192;
    bulk.stop = &interrupted;
    bulk.work = invert_until;
    bulk.context = &plan;
    bulk.in_order = in_order;
    bulk.map = map;
    bulk.sync = KR_BULK_SYNC_NONE;
    do
        plan.page = random_below(2 * (unsigned)pages_count(pages));
    while (run_interrupted(pages, &bulk) && ++interruptions);
    assert_int_equal(pages_in_state(pages, pages->in, PAGE_INVERTED), pages_count(pages));
    pages_free(pages);
    return interruptions;
}

static void interrupted_by_signals_at_random_moments(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = interrupt}, before;
    unsigned interruptions = 0, wanted = getenv("P11K_SOAK") ? 1000 : 60;
    main_thread = pthread_self();
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    for (unsigned round = 0; interruptions < wanted; round++)
        interruptions += interrupt_one(1 + round % 8, round / 8 % 2, round / 16 % 2);
    sigaction(SIGALRM, &before, NULL);
    assert_int_equal(handled_elsewhere, 0);
}

struct told {
    atomic_bool was_told;
    uint64_t done, total;
    unsigned calls;
};

static bool stop_when_told(uint64_t done, uint64_t total, void *context)
{
    struct told *told = context;
    told->done = done;
    told->total = total;
    told->calls++;
    atomic_store(&told->was_told, true);
    return false;
}

static enum kr_status wait_until_told(struct kr_bulk_chunk *chunk, void *context,
                                      struct kr_error *err)
{
    struct told *told = context;
    (void)err;
    while (chunk->first >= 100 && !atomic_load(&told->was_told))
        usleep(1000);
    return KR_OK;
}

static void stopped_by_the_progress_function(void **state)
{
    (void)state;
    struct told told = {0};
    struct pages *pages = pages_new(2000 * 1024, 1024, 0);
    struct kr_bulk bulk = pages_run_in_place(pages);
    bulk.work = wait_until_told;
    bulk.progress = stop_when_told;
    bulk.context = &told;
    bulk.threads = 2;
    bulk.chunk = 16 * 1024;
    struct kr_bulk_result result = pages_must_run(&bulk);
    assert_true(result.interrupted);
    assert_true(result.pages <= 128);
    assert_int_equal(told.total, 2000);
    assert_int_equal(told.done, result.pages);
    assert_true(told.calls >= 2);
    pages_free(pages);
}

/* --- failing -----------------------------------------------------------------------------------*/

struct failing {
    uint64_t page; /* whose chunk fails */
    _Atomic(pid_t) thread;
    atomic_uint begun_after;
};

/* Others wait until the thread that failed has ended, so that all of them could know. */
static enum kr_status fail_at_page(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct failing *failing = context;
    if (chunk->first <= failing->page && failing->page < chunk->first + chunk->count) {
        atomic_store(&failing->thread, gettid());
        return kr_fail(err, KR_INTEGRITY, "page %llu is damaged",
                       (unsigned long long)failing->page);
    }
    char task[64];
    if (atomic_load(&failing->thread) == 0)
        return invert(chunk, context, err);
    atomic_fetch_add(&failing->begun_after, 1);
    snprintf(task, sizeof(task), "/proc/self/task/%d", (int)atomic_load(&failing->thread));
    while (access(task, F_OK) == 0)
        usleep(1000);
    return kr_fail(err, KR_INTERNAL, "a later failure");
}

static void a_failure_of_the_work_ends_it(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    for (unsigned threads = 1; threads <= 8; threads++) {
        struct pages *pages = pages_new(4000 * 512, 512, 0);
        struct failing failing = {.page = random_below(3000)};
        struct kr_bulk bulk = pages_run_in_place(pages);
        struct kr_bulk_result result;
        bulk.work = fail_at_page;
        bulk.context = &failing;
        bulk.threads = threads;
        bulk.chunk = 16 * 512;
        assert_int_equal(kr_bulk_run(&bulk, &result, &err), KR_INTEGRITY);
        assert_error(&err, KR_INTEGRITY, "is damaged", "");
        assert_true(failing.begun_after < threads);
        assert_true(result.pages < 4000);
        assert_true(result.resume_at <= failing.page);
        assert_false(result.interrupted);
        assert_int_equal(pages_in_state(pages, pages->in, PAGE_INVERTED), result.pages);
        assert_int_equal(pages_in_state(pages, pages->in, PAGE_OTHER), 0);
        pages_free(pages);
    }
}

static enum kr_status cut_off(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    if (ftruncate(*(int *)context, 100000) != 0)
        return KR_INTERNAL;
    return invert(chunk, NULL, err);
}

static void a_file_that_shrinks_while_it_is_read(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    for (unsigned way = 0; way < 3; way++) {
        struct pages *pages = pages_new(4 * 1024 * 1024, 4096, 0);
        struct kr_bulk bulk = pages_run(pages);
        bulk.work = cut_off;
        bulk.context = &pages->in;
        bulk.threads = 3;
        bulk.direct = way == 1;
        bulk.map = way == 2;
        bulk.chunk = 65536;
        assert_int_equal(kr_bulk_run(&bulk, &result, &err), KR_IO);
        assert_says(err.text, "input: ");
        assert_error(&err, KR_IO, "", "what else has it open");
        pages_free(pages);
    }
}

/* Of a whole chunk, while it is worked on. */
static enum kr_status cut_off_all(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    if (ftruncate(*(int *)context, 0) != 0)
        return KR_INTERNAL;
    return invert(chunk, NULL, err);
}

static atomic_uint other_faults;

static void count_fault(int number)
{
    (void)number;
    atomic_fetch_add(&other_faults, 1);
}

static enum kr_status raise_fault(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)context;
    raise(SIGBUS);
    return invert(chunk, NULL, err);
}

static void a_mapped_file_that_vanishes(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    struct sigaction action = {.sa_handler = count_fault}, before, after;
    assert_int_equal(sigaction(SIGBUS, &action, &before), 0);
    struct pages *pages = pages_new(64 * 4096, 4096, 0);
    struct kr_bulk bulk = pages_run(pages);
    bulk.map = true;
    bulk.context = &pages->in;
    bulk.work = raise_fault; /* somebody else's */
    bulk.threads = 1;
    bulk.chunk = 65536;
    pages_must_run(&bulk);
    assert_int_equal(other_faults, 4);
    bulk.work = cut_off_all;
    assert_int_equal(kr_bulk_run(&bulk, &result, &err), KR_IO);
    assert_error(&err, KR_IO, "input: could not be read to its end", "became shorter");
    assert_int_equal(result.pages, 0);
    assert_int_equal(other_faults, 4);
    sigaction(SIGBUS, &before, &after);
    assert_ptr_equal(after.sa_handler, count_fault);
    pages_free(pages);
}

/* A file system of 1 MiB that is mounted nowhere. */
static int open_on_small_disk(void)
{
    int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
    assert_true(context >= 0);
    assert_int_equal(fsconfig(context, FSCONFIG_SET_STRING, "size", "1m", 0), 0);
    assert_int_equal(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), 0);
    int disk = fsmount(context, FSMOUNT_CLOEXEC, 0);
    assert_true(disk >= 0);
    int fd = openat(disk, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(disk);
    close(context);
    return fd;
}

static void a_disk_that_gets_full(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    struct pages *pages = pages_new(3 * 1024 * 1024, 4096, 0);
    struct kr_bulk bulk = pages_run(pages);
    for (bulk.threads = 1; bulk.threads <= 4; bulk.threads++) {
        bulk.out = open_on_small_disk();
        bulk.direct = bulk.threads % 2 == 0;
        assert_int_equal(kr_bulk_run(&bulk, &result, &err), KR_IO);
        assert_error(&err, KR_IO, "No space left", "make room");
        assert_true(result.pages <= 256);
        assert_true(pages_inverted_before(pages, bulk.out) >= result.resume_at);
        close(bulk.out);
    }
    pages_free(pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interrupted_by_signals_at_random_moments),
        cmocka_unit_test(stopped_by_the_progress_function),
        cmocka_unit_test(a_failure_of_the_work_ends_it),
        cmocka_unit_test(a_file_that_shrinks_while_it_is_read),
        cmocka_unit_test(a_mapped_file_that_vanishes),
        cmocka_unit_test(a_disk_that_gets_full),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
