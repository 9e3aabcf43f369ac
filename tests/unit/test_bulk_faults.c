/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The bulk pipeline when system calls do less than they were asked for, or fail, each of them in
 * turn; in which order pages reach the disk; what is left in memory. The linker sends the calls
 * here.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "bulk_fixture.h"
#include "scratch.h"

ssize_t __real_preadv(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev(int fd, const struct iovec *iov, int count, off_t offset);
int __real_fdatasync(int fd);
int __real_fcntl(int fd, int command, ...);
int __real_munmap(void *memory, size_t size);
ssize_t __wrap_preadv(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t offset);
int __wrap_fdatasync(int fd);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_munmap(void *memory, size_t size);

enum call { CALL_READ = 1, CALL_WRITE = 2, CALL_SYNC = 4 };

static struct {
    unsigned calls;        /* which calls may fail */
    unsigned at;           /* the first of them that does, from 1 on; 0: none */
    bool only_once;        /* or all that follow, too */
    int error;             /* 0: no failure, but a part of what was asked for */
    bool refuses_direct;   /* fcntl() */
    bool unaligned_direct; /* EINVAL while O_DIRECT is set */
    bool nothing;          /* the call returns 0 */
} plan;
static atomic_uint steps, short_transfers;

static bool strikes(enum call call)
{
    if (!(plan.calls & call))
        return false;
    unsigned step = atomic_fetch_add(&steps, 1) + 1;
    return plan.at > 0 && (plan.only_once ? step == plan.at : step >= plan.at);
}

static bool is_direct(int fd)
{
    return __real_fcntl(fd, F_GETFL) & O_DIRECT;
}

/* What it gives when it strikes; -2: a part of the first piece. */
static ssize_t strike(void)
{
    if (plan.nothing)
        return 0;
    if (plan.error == 0) {
        atomic_fetch_add(&short_transfers, 1);
        return -2;
    }
    errno = plan.error;
    return -1;
}

static struct iovec part_of(const struct iovec *iov)
{
    return (struct iovec){iov->iov_base, iov->iov_len / 3 + 1};
}

ssize_t __wrap_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    struct iovec part = part_of(iov);
    if (plan.unaligned_direct && is_direct(fd)) {
        errno = EINVAL;
        return -1;
    }
    ssize_t struck = strikes(CALL_READ) ? strike() : 1;
    if (struck == -2)
        return __real_preadv(fd, &part, 1, offset);
    return struck <= 0 ? struck : __real_preadv(fd, iov, count, offset);
}

/* What was done, in order. */
enum event { EVENT_BEFORE = 1, EVENT_WRITE, EVENT_SYNC, EVENT_AFTER };
static pthread_mutex_t events_lock = PTHREAD_MUTEX_INITIALIZER;
static enum event events[4096];
static unsigned event_count;

static void add_event(enum event event)
{
    pthread_mutex_lock(&events_lock);
    if (event_count < sizeof(events) / sizeof(events[0]))
        events[event_count++] = event;
    pthread_mutex_unlock(&events_lock);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    struct iovec part = part_of(iov);
    add_event(EVENT_WRITE);
    ssize_t struck = strikes(CALL_WRITE) ? strike() : 1;
    if (struck == -2)
        return __real_pwritev(fd, &part, 1, offset);
    return struck <= 0 ? struck : __real_pwritev(fd, iov, count, offset);
}

int __wrap_fdatasync(int fd)
{
    add_event(EVENT_SYNC);
    return strikes(CALL_SYNC) ? (int)strike() : __real_fdatasync(fd);
}

int __wrap_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    int flags = va_arg(arguments, int);
    va_end(arguments);
    if (command == F_SETFL && (flags & O_DIRECT) && plan.refuses_direct) {
        errno = EINVAL;
        return -1;
    }
    return __real_fcntl(fd, command, flags);
}

static bool look_for_leftovers;
static size_t looked_at;
static unsigned leftovers;

int __wrap_munmap(void *memory, size_t size)
{
    for (size_t i = 0; look_for_leftovers && i < size; i++)
        leftovers += ((const uint8_t *)memory)[i] != 0;
    looked_at += size;
    return __real_munmap(memory, size);
}

static int fresh_plan(void **state)
{
    (void)state;
    memset(&plan, 0, sizeof(plan));
    atomic_store(&steps, 0);
    atomic_store(&short_transfers, 0);
    event_count = 0;
    return 0;
}

/* --- less than asked for -----------------------------------------------------------------------*/

static void calls_that_do_a_part(void **state)
{
    (void)state;
    struct pages *pages = pages_new(40 * 4096 + 1000, 4096, 0);
    for (unsigned threads = 1; threads <= 4; threads++) {
        struct kr_bulk bulk = pages_run(pages);
        bulk.threads = threads;
        plan.calls = CALL_READ | CALL_WRITE;
        plan.at = 1;
        assert_int_equal(ftruncate(pages->out, 0), 0);
        assert_int_equal(pages_must_run(&bulk).written_bytes, pages->size);
        assert_int_equal(pages_in_state(pages, pages->out, PAGE_INVERTED), 41);
        assert_true(short_transfers > 100);
    }
    pages_free(pages);
}

static void interrupted_calls_are_made_again(void **state)
{
    (void)state;
    struct pages *pages = pages_new(40 * 4096 + 1000, 4096, 0);
    struct kr_bulk bulk = pages_run_in_place(pages);
    plan.calls = CALL_READ | CALL_WRITE;
    plan.error = EINTR;
    plan.only_once = true;
    bulk.chunk = 16 * 4096;
    for (plan.at = 1; plan.at == 1 || atomic_load(&steps) >= plan.at; plan.at++) {
        bulk.first_page = 0;
        atomic_store(&steps, 0);
        assert_int_equal(pages_must_run(&bulk).pages, 41);
        assert_int_equal(
            pages_in_state(pages, pages->in, plan.at % 2 ? PAGE_INVERTED : PAGE_BEFORE), 41);
    }
    assert_true(plan.at > 6); /* three chunks, read and written */
    pages_free(pages);
}

/* --- failing, each call in turn ----------------------------------------------------------------*/

static const struct failure {
    enum call call;
    int error;
    bool nothing;
    const char *text, *hint;
} failures[] = {
    {CALL_READ, EIO, false, "input: cannot read at byte ", ""},
    {CALL_READ, 0, true, "input: ends at byte ", "what else has it open"},
    {CALL_WRITE, EIO, false, "output: cannot write at byte ", ""},
    {CALL_WRITE, ENOSPC, false, "No space left on device", "make room"},
    {CALL_WRITE, EDQUOT, false, "quota", "make room"},
    {CALL_WRITE, EINVAL, false, "Invalid argument", ""},
    {CALL_WRITE, 0, true, "No space left on device", "make room"},
    {CALL_SYNC, EIO, false, "output: the disk does not confirm", "write it anew"},
};
enum { FAILURES = sizeof(failures) / sizeof(failures[0]) };

/* False when the run has no call of that number any more. */
static bool fails_at(const struct failure *failure, unsigned at, unsigned threads)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    struct pages *pages = pages_new(80 * 1024 + 3, 1024, 0);
    struct kr_bulk bulk = pages_run_in_place(pages);
    fresh_plan(NULL);
    plan.calls = failure->call;
    plan.error = failure->error;
    plan.nothing = failure->nothing;
    plan.at = at;
    bulk.threads = threads;
    bulk.chunk = 16 * 1024;
    bulk.sync = KR_BULK_SYNC_CHUNK;
    bool fails = kr_bulk_run(&bulk, &result, &err) != KR_OK;
    if (fails) {
        assert_error(&err, KR_IO, failure->text, failure->hint);
        assert_false(result.interrupted);
        assert_true(result.pages < 81 || failure->call == CALL_SYNC);
    }
    assert_int_equal(fails, at <= steps);
    assert_int_equal(pages_in_state(pages, pages->in, PAGE_OTHER), 0);
    assert_true(pages_in_state(pages, pages->in, PAGE_INVERTED) >= result.pages);
    assert_true(pages_inverted_before(pages, pages->in) >= result.resume_at);
    pages_free(pages);
    return fails;
}

static void every_call_that_fails_is_told(void **state)
{
    (void)state;
    for (unsigned i = 0; i < FAILURES; i++) {
        for (unsigned threads = 1; threads <= 4; threads += 3) {
            unsigned at = 1;
            while (fails_at(&failures[i], at, threads))
                at++;
            assert_true(at > 6); /* six chunks */
        }
    }
}

/* --- O_DIRECT ----------------------------------------------------------------------------------*/

static void check_fallback(const char *because)
{
    struct pages *pages = pages_new(80 * 1024 + 3, 1024, 0);
    struct kr_bulk bulk = pages_run(pages);
    bulk.direct = true;
    bulk.threads = 4;
    struct kr_bulk_result result = pages_must_run(&bulk);
    assert_false(result.direct_in);
    assert_says(result.buffered_because, because);
    assert_int_equal(pages_in_state(pages, pages->out, PAGE_INVERTED), 81);
    assert_false(is_direct(pages->in) || is_direct(pages->out));
    pages_free(pages);
}

static void a_file_system_without_direct(void **state)
{
    (void)state;
    plan.refuses_direct = true;
    check_fallback("the file system does not support O_DIRECT");
}

static void a_disk_that_wants_other_positions(void **state)
{
    (void)state;
    plan.unaligned_direct = true;
    check_fallback("the disk does not take these positions");
}

/* --- the order on the disk ---------------------------------------------------------------------*/

static enum kr_status before(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)err;
    const struct pages *pages = context;
    add_event(EVENT_BEFORE);
    for (unsigned i = 0; i < chunk->count; i++) { /* nothing of the chunk is written yet */
        if (page_state(pages, pages->in, chunk->first + i) != PAGE_BEFORE)
            return kr_fail(err, KR_INTERNAL, "was written before");
    }
    return KR_OK;
}

static enum kr_status after(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct pages *pages = context;
    add_event(EVENT_AFTER);
    for (unsigned i = 0; i < chunk->count; i++) {
        if (page_state(pages, pages->in, chunk->first + i) != PAGE_INVERTED)
            return kr_fail(err, KR_INTERNAL, "is not written yet");
    }
    return KR_OK;
}

static unsigned events_of(enum event event)
{
    unsigned count = 0;
    for (unsigned i = 0; i < event_count; i++)
        count += events[i] == event;
    return count;
}

static struct kr_bulk_result run_with_hooks(enum kr_bulk_sync sync, unsigned threads)
{
    struct pages *pages = pages_new(80 * 1024 + 3, 1024, 0);
    struct kr_bulk bulk = pages_run_in_place(pages);
    event_count = 0;
    bulk.before_write = before;
    bulk.after_write = after;
    bulk.context = pages;
    bulk.sync = sync;
    bulk.threads = threads;
    bulk.chunk = 16 * 1024;
    struct kr_bulk_result result = pages_must_run(&bulk);
    assert_int_equal(events_of(EVENT_BEFORE), 6);
    assert_int_equal(events_of(EVENT_WRITE), 6);
    assert_int_equal(events_of(EVENT_AFTER), 6);
    pages_free(pages);
    return result;
}

static void hooks_and_syncs_come_in_order(void **state)
{
    (void)state;
    static const enum event of_a_chunk[] = {EVENT_BEFORE, EVENT_WRITE, EVENT_SYNC, EVENT_AFTER};
    run_with_hooks(KR_BULK_SYNC_CHUNK, 1);
    for (unsigned i = 0; i < 24; i++)
        assert_int_equal(events[i], of_a_chunk[i % 4]);
    run_with_hooks(KR_BULK_SYNC_END, 1);
    assert_int_equal(events_of(EVENT_SYNC), 1);
    assert_int_equal(events[event_count - 1], EVENT_SYNC);
    run_with_hooks(KR_BULK_SYNC_NONE, 1);
    assert_int_equal(events_of(EVENT_SYNC), 0);
    run_with_hooks(KR_BULK_SYNC_CHUNK, 6);
    assert_int_equal(events_of(EVENT_SYNC), 7);
}

static enum kr_status refuse(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)context;
    if (chunk->first < 40)
        return KR_OK;
    return kr_fail(err, KR_REFUSED, "the journal is full");
}

static void a_hook_that_fails_keeps_pages_from_being_written(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    struct pages *pages = pages_new(80 * 1024 + 3, 1024, 0);
    struct kr_bulk bulk = pages_run_in_place(pages);
    bulk.before_write = refuse;
    bulk.threads = 1;
    bulk.chunk = 16 * 1024;
    assert_int_equal(kr_bulk_run(&bulk, &result, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "the journal is full", "");
    assert_int_equal(result.pages, 48);
    assert_int_equal(result.resume_at, 48);
    assert_int_equal(pages_in_state(pages, pages->in, PAGE_BEFORE), 33);
    pages_free(pages);
}

/* --- memory ------------------------------------------------------------------------------------*/

static enum kr_status fail_late(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)context;
    return chunk->first < 40 ? KR_OK : kr_fail(err, KR_INTEGRITY, "wrong");
}

static void no_page_is_left_in_memory(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    struct pages *pages = pages_new(80 * 1024 + 3, 1024, 0);
    struct kr_bulk bulk = pages_run(pages);
    uint8_t *planted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(planted != MAP_FAILED);
    planted[77] = 1;
    look_for_leftovers = true;
    munmap(planted, 4096);
    assert_int_equal(leftovers, 1); /* it would be found */
    for (unsigned i = 0; i < 2; i++) {
        leftovers = 0;
        looked_at = 0;
        bulk.threads = 3;
        bulk.work = i == 0 ? invert : fail_late;
        assert_int_equal(kr_bulk_run(&bulk, &result, &err), i == 0 ? KR_OK : KR_INTEGRITY);
        assert_true(looked_at >= result.memory);
        assert_int_equal(leftovers, 0);
    }
    look_for_leftovers = false;
    pages_free(pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(calls_that_do_a_part, fresh_plan),
        cmocka_unit_test_setup(interrupted_calls_are_made_again, fresh_plan),
        cmocka_unit_test_setup(every_call_that_fails_is_told, fresh_plan),
        cmocka_unit_test_setup(a_file_system_without_direct, fresh_plan),
        cmocka_unit_test_setup(a_disk_that_wants_other_positions, fresh_plan),
        cmocka_unit_test_setup(hooks_and_syncs_come_in_order, fresh_plan),
        cmocka_unit_test_setup(a_hook_that_fails_keeps_pages_from_being_written, fresh_plan),
        cmocka_unit_test_setup(no_page_is_left_in_memory, fresh_plan),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
