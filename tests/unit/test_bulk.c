/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The bulk pipeline on real files: every page once and in its place, whatever the sizes, threads
 * and ways; stopped and failing at any moment; within its memory.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bulk_fixture.h"
#include "scratch.h"

/* --- every page, once, in its place ------------------------------------------------------------*/

struct shape {
    size_t page_size;
    uint64_t size;
};

static const struct shape shapes[] = {{512, 512 * 1500 + 77},
                                      {1024, 100 * 1024},
                                      {4096, 0},
                                      {4096, 1},
                                      {4096, 4095},
                                      {4096, 4096},
                                      {4096, 4097},
                                      {16384, 37 * 16384 + 123},
                                      {16384, 128 * 16384},
                                      {65536, 65536 * 9},
                                      {65536, 1024 * 1024 - 512}};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static void check_run(struct pages *pages, struct kr_bulk *bulk)
{
    uint64_t count = pages_count(pages);
    struct kr_bulk_result result = pages_must_run(bulk);
    assert_int_equal(result.pages, count);
    assert_int_equal(result.resume_at, count);
    assert_int_equal(result.written_bytes, pages->size);
    assert_false(result.interrupted);
    assert_int_equal(pages_in_state(pages, bulk->out, PAGE_INVERTED), count);
    struct stat st;
    assert_int_equal(fstat(bulk->out, &st), 0);
    assert_int_equal(st.st_size, pages->size == 0 ? 0 : pages->offset + pages->size);
    if (bulk->direct) /* used, or refused and said */
        assert_true((result.direct_in && result.direct_out) == !result.buffered_because);
    assert_int_equal(fcntl(bulk->in, F_GETFL) & O_DIRECT, 0);
}

enum input { READ, DIRECT, MAPPED, INPUTS };

static void check_shape(const struct shape *shape, unsigned threads, enum input input)
{
    struct pages *pages = pages_new(shape->size, shape->page_size, 0);
    struct kr_bulk other = pages_run(pages), in_place = pages_run_in_place(pages);
    other.threads = in_place.threads = threads;
    other.direct = in_place.direct = input == DIRECT;
    other.map = in_place.map = input == MAPPED;
    check_run(pages, &other);
    assert_int_equal(pages_in_state(pages, pages->in, PAGE_BEFORE), pages_count(pages));
    check_run(pages, &in_place);
    pages_free(pages);
}

static void every_size_and_number_of_threads(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SHAPES; i++) {
        for (unsigned threads = 1; threads <= 8; threads += 1 + threads / 3) {
            for (unsigned input = 0; input < INPUTS; input++)
                check_shape(&shapes[i], threads, input);
        }
    }
}

static void small_chunks_and_orders(void **state)
{
    (void)state;
    struct pages *pages = pages_new(300 * 1024 + 5, 1024, 512);
    for (unsigned i = 0; i < 24; i++) {
        struct kr_bulk bulk = pages_run(pages);
        bulk.threads = 1 + i % 8;
        bulk.chunk = i / 8 == 0 ? 1 : 40960;
        bulk.in_order = i / 8 == 2;
        bulk.map = i % 2 == 0;
        assert_int_equal(ftruncate(pages->out, 0), 0);
        check_run(pages, &bulk);
    }
    pages_free(pages);
}

/* As a binary log is decrypted: behind a header in one file, at the beginning of the other. */
static void moved_to_another_place(void **state)
{
    (void)state;
    struct pages *pages = pages_new(100 * 8192 + 3000, 8192, 512);
    struct kr_bulk bulk = pages_run(pages);
    bulk.out_offset = 0;
    assert_int_equal(pages_must_run(&bulk).pages, 101);
    pages->offset = 0;
    assert_int_equal(pages_in_state(pages, pages->out, PAGE_INVERTED), 101);
    pages_free(pages);
}

static void a_copy(void **state)
{
    (void)state;
    struct pages *pages = pages_new(70 * 4096 + 9, 4096, 0);
    struct kr_bulk bulk = pages_run(pages);
    bulk.work = NULL;
    pages_must_run(&bulk);
    assert_int_equal(pages_in_state(pages, pages->out, PAGE_BEFORE), 71);
    pages_free(pages);
}

static enum kr_status invert_odd(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    for (unsigned i = 0; i < chunk->count; i++) {
        if (chunk->skip[i] || (uintptr_t)chunk->pages[i] % 512 != 0)
            return kr_fail(err, KR_INTERNAL, "not a fresh chunk");
        chunk->skip[i] = (chunk->first + i) % 2 == 0;
    }
    return invert(chunk, context, err);
}

static void skipped_pages_stay(void **state)
{
    (void)state;
    struct pages *pages = pages_new(99 * 4096 + 100, 4096, 0);
    struct kr_bulk bulk = pages_run_in_place(pages);
    bulk.work = invert_odd;
    bulk.threads = 3;
    struct kr_bulk_result result = pages_must_run(&bulk);
    assert_int_equal(result.pages, 100);
    assert_int_equal(result.written_bytes, 49 * 4096 + 100);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(page_state(pages, pages->in, i), i % 2 ? PAGE_INVERTED : PAGE_BEFORE);
    pages_free(pages);
}

static enum kr_status count_pages(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)err;
    atomic_fetch_add((atomic_uint *)context, chunk->count);
    return KR_OK;
}

static void nothing_is_written_without_an_output(void **state)
{
    (void)state;
    struct pages *pages = pages_new(65 * 4096, 4096, 0);
    atomic_uint count = 0;
    struct kr_bulk bulk = pages_run(pages);
    bulk.out = -1;
    bulk.work = count_pages;
    bulk.before_write = bulk.after_write = count_pages;
    bulk.context = &count;
    bulk.first_page = 5;
    struct kr_bulk_result result = pages_must_run(&bulk);
    assert_int_equal(count, 60);
    assert_int_equal(result.written_bytes, 0);
    bulk.first_page = 1000;
    assert_int_equal(pages_must_run(&bulk).pages, 0);
    pages_free(pages);
}

/* --- pipes -------------------------------------------------------------------------------------*/

struct reader {
    int fd;
    size_t limit, len; /* where it goes away; what it has read */
    uint8_t *bytes;
};

static void *read_slowly(void *argument)
{
    struct reader *reader = argument;
    ssize_t got;
    while (reader->len < reader->limit &&
           (got = read(reader->fd, reader->bytes + reader->len,
                       1 + (reader->limit - reader->len - 1) % 3000)) > 0)
        reader->len += (size_t)got;
    close(reader->fd);
    return NULL;
}

static enum kr_status run_to_pipe(struct pages *pages, size_t limit, struct kr_error *err)
{
    int ends[2];
    pthread_t thread;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct reader reader = {.fd = ends[0], .limit = limit, .bytes = malloc(pages->size)};
    assert_int_equal(pthread_create(&thread, NULL, read_slowly, &reader), 0);
    struct kr_bulk bulk = pages_run(pages);
    struct kr_bulk_result result;
    bulk.out = ends[1];
    bulk.work = NULL;
    bulk.threads = 4;
    bulk.direct = true; /* said, not an error */
    enum kr_status status = kr_bulk_run(&bulk, &result, err);
    close(ends[1]);
    pthread_join(thread, NULL);
    assert_non_null(result.buffered_because);
    assert_int_equal(reader.len, limit);
    assert_memory_equal(reader.bytes, pages->before, reader.len);
    free(reader.bytes);
    return status;
}

static void a_pipe_gets_the_pages_in_order(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct pages *pages = pages_new(200 * 1024 + 99, 1024, 0);
    assert_int_equal(run_to_pipe(pages, pages->size, &err), KR_OK);
    pages_free(pages);
}

static void a_reader_of_the_pipe_that_goes_away(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct pages *pages = pages_new(2 * 1024 * 1024, 1024, 0);
    assert_int_equal(run_to_pipe(pages, 100000, &err), KR_IO);
    assert_says(err.text, "output: cannot write at byte ");
    assert_error(&err, KR_IO, "Broken pipe", "");
    pages_free(pages);
}

/* Nobody reads, so only the stop ends the wait. */
static bool stop_at_once(uint64_t done, uint64_t total, void *context)
{
    (void)total;
    atomic_store((atomic_bool *)context, true);
    assert_true(done < 200);
    return true;
}

static void a_full_pipe_can_be_left(void **state)
{
    (void)state;
    int ends[2];
    atomic_bool stop = false;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct pages *pages = pages_new(200 * 4096, 4096, 0);
    struct kr_bulk bulk = pages_run(pages);
    bulk.out = ends[1];
    bulk.threads = 2;
    bulk.stop = &stop;
    bulk.progress = stop_at_once;
    bulk.context = &stop;
    assert_true(pages_must_run(&bulk).interrupted);
    close(ends[0]);
    close(ends[1]);
    pages_free(pages);
}

/* --- memory ------------------------------------------------------------------------------------*/

static size_t memory_peak(void)
{
    char line[128];
    size_t kib = 0;
    FILE *status = fopen("/proc/self/status", "re");
    assert_non_null(status);
    while (fgets(line, sizeof(line), status))
        sscanf(line, "VmHWM: %zu kB", &kib);
    fclose(status);
    return kib * 1024;
}

static void forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "5", 1), 1);
    close(fd);
}

/* Pages of a hole cost nothing but the memory that they are read into. */
static size_t growth(const struct kr_bulk *bulk)
{
    forget_peak();
    size_t before = memory_peak();
    struct kr_bulk_result result = pages_must_run(bulk);
    assert_true(bulk->memory == 0 || result.memory <= bulk->memory);
    return memory_peak() - before;
}

static enum kr_status wait_for_all(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)err;
    if (chunk->first < (uint64_t)8 * chunk->count) /* each thread's first chunk */
        pthread_barrier_wait(context);
    return KR_OK;
}

static void memory_stays_within_its_bound(void **state)
{
    (void)state;
    enum { MIB = 1024 * 1024 };
    pthread_barrier_t all;
    pthread_barrier_init(&all, NULL, 8);
    struct pages *pages = pages_new(1, 16384, 0);
    assert_int_equal(ftruncate(pages->in, 256 * MIB), 0);
    struct kr_bulk bulk = pages_run(pages);
    bulk.size = 256 * MIB;
    bulk.out = -1;
    bulk.threads = 8;
    bulk.chunk = 4 * MIB;
    bulk.work = wait_for_all;
    bulk.context = &all;
    size_t unbound = growth(&bulk); /* shows that it would be seen */
    bulk.memory = 8 * MIB;
    size_t bound = growth(&bulk);
    assert_true(unbound > 24 * MIB);
    assert_true(bound < unbound / 2);
#ifndef __SANITIZE_THREAD__                 /* which keeps several bytes for each */
    assert_true(bound < 8 * MIB + 4 * MIB); /* stacks and what the C library keeps */
#endif
    pages_free(pages);
    pthread_barrier_destroy(&all);
}

static void little_memory_means_fewer_pages_and_threads(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    struct pages *pages = pages_new(100 * 16384 + 1, 16384, 0);
    struct kr_bulk bulk = pages_run(pages);
    bulk.threads = 4;
    for (bulk.memory = 20480; bulk.memory < 2 * 1024 * 1024; bulk.memory += bulk.memory / 3) {
        result = pages_must_run(&bulk);
        assert_true(result.memory <= bulk.memory);
        assert_true(result.threads >= 1 && result.threads <= 4 && result.chunk_pages >= 1);
        assert_int_equal(pages_in_state(pages, pages->out, PAGE_INVERTED), 101);
    }
    bulk.memory = 20479;
    assert_int_equal(kr_bulk_run(&bulk, &result, &err), KR_USAGE);
    assert_error(&err, KR_USAGE, "not enough for one page of 16384", "at least 20480");
    pages_free(pages);
}

/* --- wrong use ---------------------------------------------------------------------------------*/

static void must_refuse(const struct kr_bulk *bulk, const char *text)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    assert_int_equal(kr_bulk_run(bulk, &result, &err), KR_USAGE);
    assert_error(&err, KR_USAGE, text, "");
}

static void wrong_use_is_refused(void **state)
{
    (void)state;
    struct pages *pages = pages_new(8192, 4096, 0);
    const struct kr_bulk right = pages_run(pages);
    struct kr_bulk wrong = right;
    for (unsigned i = 0; i < 3; i++) {
        wrong.page_size = ((size_t[]){0, 700, 2 * 1024 * 1024})[i];
        must_refuse(&wrong, "cannot be worked on");
    }
    wrong = right;
    wrong.size = UINT64_MAX;
    must_refuse(&wrong, "no file has");
    wrong = right;
    wrong.threads = 65;
    must_refuse(&wrong, "65 threads");
    wrong = pages_run_in_place(pages);
    wrong.in_offset = 512;
    must_refuse(&wrong, "cannot be moved within it");
    wrong = right;
    wrong.out = open(scratch_path("out"), O_WRONLY | O_APPEND | O_CLOEXEC);
    must_refuse(&wrong, "appending");
    close(wrong.out);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    wrong = right;
    wrong.in = ends[0];
    must_refuse(&wrong, "is a pipe");
    close(ends[0]);
    close(ends[1]);
    pages_free(pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_and_number_of_threads),
        cmocka_unit_test(small_chunks_and_orders),
        cmocka_unit_test(moved_to_another_place),
        cmocka_unit_test(a_copy),
        cmocka_unit_test(skipped_pages_stay),
        cmocka_unit_test(nothing_is_written_without_an_output),
        cmocka_unit_test(a_pipe_gets_the_pages_in_order),
        cmocka_unit_test(a_reader_of_the_pipe_that_goes_away),
        cmocka_unit_test(a_full_pipe_can_be_left),
        cmocka_unit_test(memory_stays_within_its_bound),
        cmocka_unit_test(little_memory_means_fewer_pages_and_threads),
        cmocka_unit_test(wrong_use_is_refused),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
