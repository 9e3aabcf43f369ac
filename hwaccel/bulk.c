/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The threads of a bulk run. All that they share is behind one lock, which is taken a few times for
 * each chunk. The thread that called waits, reports the progress and joins them.
 */
#include "hwaccel/bulk.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "hwaccel/bulk_io.h"
#include "hwaccel/bulk_map.h"
#include "hwaccel/bulk_plan.h"

enum { PROGRESS_MS = 200 };

struct run {
    const struct kr_bulk *bulk;
    struct kr_bulk_plan plan;
    struct kr_bulk_file in, out;
    struct kr_bulk_map *map; /* NULL: pages are read */
    bool in_order;

    pthread_mutex_t lock;  /* of all that follows */
    pthread_cond_t turned; /* a turn has come, or none will */
    pthread_cond_t ended;  /* a thread has */
    unsigned running;      /* threads */
    uint64_t first, next;  /* page of the run; that no thread has taken */
    uint64_t turn;         /* in order: first page that is not written */
    uint64_t done, written_bytes;
    uint64_t dropped; /* first page of those that were taken but not done */
    bool stopped;
    enum kr_status status; /* of the first failure */
    struct kr_error failure;
};

struct worker {
    struct run *run;
    pthread_t thread;
    struct kr_bulk_room room;
    struct kr_bulk_chunk chunk;
    struct kr_error err;
};

/* --- what the threads share --------------------------------------------------------------------*/

/* With the lock. */
static bool halted(struct run *run)
{
    if (run->bulk->stop && atomic_load(run->bulk->stop))
        run->stopped = true;
    return run->stopped || run->status != KR_OK;
}

static bool take_chunk(struct worker *w)
{
    struct run *run = w->run;
    pthread_mutex_lock(&run->lock);
    uint64_t first = run->next, left = run->plan.pages - first;
    bool taken = left > 0 && !halted(run);
    if (taken) {
        unsigned count = left < run->plan.chunk_pages ? (unsigned)left : run->plan.chunk_pages;
        run->next += count;
        w->chunk.first = first;
        w->chunk.count = count;
        w->chunk.last_len = count == left ? run->plan.tail_len : run->bulk->page_size;
        memset(w->chunk.skip, 0, count * sizeof(*w->chunk.skip));
    }
    pthread_mutex_unlock(&run->lock);
    return taken;
}

/* Whether the chunk may be written; in order, waits for its turn. */
static bool may_write(struct worker *w)
{
    struct run *run = w->run;
    pthread_mutex_lock(&run->lock);
    while (run->in_order && run->turn != w->chunk.first && !halted(run))
        pthread_cond_wait(&run->turned, &run->lock);
    bool may = !halted(run);
    pthread_mutex_unlock(&run->lock);
    return may;
}

static void count_chunk(struct worker *w, uint64_t written)
{
    struct run *run = w->run;
    pthread_mutex_lock(&run->lock);
    run->done += w->chunk.count;
    run->written_bytes += written;
    if (run->in_order) {
        run->turn += w->chunk.count;
        pthread_cond_broadcast(&run->turned);
    }
    pthread_mutex_unlock(&run->lock);
}

/* The chunk is not done: it was stopped (KR_OK), or this failure is the reason. */
static void drop_chunk(struct worker *w, enum kr_status status)
{
    struct run *run = w->run;
    pthread_mutex_lock(&run->lock);
    if (w->chunk.first < run->dropped)
        run->dropped = w->chunk.first;
    bool cancelled = status == KR_REFUSED && run->out.is_pipe && halted(run);
    if (status != KR_OK && !cancelled && run->status == KR_OK) {
        run->status = status;
        run->failure = w->err;
    }
    pthread_cond_broadcast(&run->turned);
    pthread_mutex_unlock(&run->lock);
}

/* --- one thread --------------------------------------------------------------------------------*/

static enum kr_status call(kr_bulk_function function, struct worker *w)
{
    return function ? function(&w->chunk, w->run->bulk->context, &w->err) : KR_OK;
}

static bool nothing_to_write(const struct kr_bulk_chunk *chunk)
{
    for (unsigned i = 0; i < chunk->count; i++) {
        if (!chunk->skip[i])
            return false;
    }
    return true;
}

static enum kr_status write_chunk(struct worker *w, uint64_t *written)
{
    const struct kr_bulk *bulk = w->run->bulk;
    struct kr_bulk_file *out = &w->run->out;
    KR_TRY(call(bulk->before_write, w));
    KR_TRY(kr_bulk_write(out, &w->chunk, w->room.iov, written, &w->err));
    if (bulk->sync == KR_BULK_SYNC_CHUNK)
        KR_TRY(kr_bulk_sync(out, &w->err));
    return call(bulk->after_write, w);
}

static size_t bytes_of(const struct kr_bulk_chunk *chunk)
{
    return (chunk->count - 1) * chunk->page_size + chunk->last_len;
}

/* What cannot be mapped is read, and says why it cannot be read either. */
static enum kr_status fetch(struct worker *w)
{
    struct kr_bulk_chunk *chunk = &w->chunk;
    const uint8_t *at = NULL;
    if (w->run->map)
        at = kr_bulk_map_fetch(w->run->map, chunk->first * chunk->page_size, bytes_of(chunk));
    for (unsigned i = 0; i < chunk->count; i++)
        w->room.src[i] = at ? at + i * chunk->page_size : chunk->pages[i];
    return at ? KR_OK : kr_bulk_read(&w->run->in, chunk, w->room.iov, &w->err);
}

/* The map's pages are not used after the work. */
static enum kr_status read_and_work(struct worker *w)
{
    struct kr_bulk_map *map = w->run->map;
    KR_TRY(fetch(w));
    enum kr_status status = call(w->run->bulk->work, w);
    if (map)
        kr_bulk_map_drop(map, w->chunk.first * w->chunk.page_size, bytes_of(&w->chunk));
    if (kr_bulk_map_is_broken(map)) {
        status = kr_fail(&w->err, KR_IO, "%s: could not be read to its end", w->run->in.name);
        kr_hint(&w->err,
                "it became shorter while it was read, or its disk fails: see what else has "
                "it open (fuser), and the kernel's log (dmesg)");
    }
    return status;
}

/* False when nothing more is to be done. */
static bool do_chunk(struct worker *w)
{
    uint64_t written = 0;
    enum kr_status status = read_and_work(w);
    bool may = status == KR_OK && may_write(w);
    if (may && w->run->out.fd >= 0 && !nothing_to_write(&w->chunk))
        status = write_chunk(w, &written);
    if (may && status == KR_OK) {
        count_chunk(w, written);
        return true;
    }
    drop_chunk(w, status);
    return false;
}

static void *work(void *argument)
{
    struct worker *w = argument;
    while (take_chunk(w) && do_chunk(w))
        ;
    pthread_mutex_lock(&w->run->lock);
    w->run->running--;
    pthread_cond_signal(&w->run->ended);
    pthread_mutex_unlock(&w->run->lock);
    return NULL;
}

/* --- all of them -------------------------------------------------------------------------------*/

/* The thread is for work alone: a handler runs in a thread of the caller's. Signals that a fault of
 * the processor raises come through. */
static int start_thread(struct worker *w)
{
    sigset_t all, before;
    sigfillset(&all);
    for (const int *fault = (const int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, 0}; *fault; fault++)
        sigdelset(&all, *fault);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* With fewer threads than wanted where the system gives no more. */
static enum kr_status start_threads(struct run *run, struct worker *workers, struct kr_error *err)
{
    int rc = 0;
    for (unsigned i = 0; i < run->plan.threads && rc == 0; i++) {
        pthread_mutex_lock(&run->lock);
        run->running++;
        pthread_mutex_unlock(&run->lock);
        rc = start_thread(&workers[i]);
        if (rc != 0) {
            pthread_mutex_lock(&run->lock);
            run->running--;
            pthread_mutex_unlock(&run->lock);
            run->plan.threads = i;
        }
    }
    if (run->plan.threads == 0)
        return kr_fail(err, KR_INTERNAL, "cannot start a thread: %s", strerror(rc));
    return KR_OK;
}

/* With the lock, which it gives back meanwhile. */
static void report(struct run *run)
{
    uint64_t done = run->done, total = run->plan.pages - run->first;
    if (!run->bulk->progress)
        return;
    pthread_mutex_unlock(&run->lock);
    bool go_on = run->bulk->progress(done, total, run->bulk->context);
    pthread_mutex_lock(&run->lock);
    run->stopped = run->stopped || !go_on;
}

static void wait_for_threads(struct run *run, struct worker *workers)
{
    struct timespec next = kr_deadline(PROGRESS_MS);
    pthread_mutex_lock(&run->lock);
    while (run->running > 0) {
        if (pthread_cond_timedwait(&run->ended, &run->lock, &next) == ETIMEDOUT) {
            report(run);
            next = kr_deadline(PROGRESS_MS);
        }
    }
    report(run);
    pthread_mutex_unlock(&run->lock);
    for (unsigned i = 0; i < run->plan.threads; i++)
        pthread_join(workers[i].thread, NULL);
}

static enum kr_status run_threads(struct run *run, struct worker *workers, struct kr_error *err)
{
    for (unsigned i = 0; i < run->plan.threads; i++) {
        struct worker *w = &workers[i];
        KR_TRY(kr_bulk_make_room(&run->plan, &w->room, err));
        w->run = run;
        w->err = (struct kr_error)KR_ERROR_INIT;
        w->chunk = (struct kr_bulk_chunk){.worker = i,
                                          .page_size = run->bulk->page_size,
                                          .pages = w->room.pages,
                                          .src = w->room.src,
                                          .skip = w->room.skip};
    }
    KR_TRY(start_threads(run, workers, err));
    wait_for_threads(run, workers);
    if (run->status != KR_OK)
        *err = run->failure;
    else if (run->written_bytes > 0 && run->bulk->sync != KR_BULK_SYNC_NONE)
        KR_TRY(kr_bulk_sync(&run->out, err));
    return run->status;
}

static enum kr_status make_run(const struct kr_bulk *bulk, struct run *ret, struct kr_error *err)
{
    struct run run = {.bulk = bulk, .dropped = UINT64_MAX};
    KR_TRY(kr_bulk_make_plan(bulk, &run.plan, err));
    KR_TRY(kr_bulk_open(bulk, &run.in, &run.out, err));
    run.first = bulk->first_page < run.plan.pages ? bulk->first_page : run.plan.pages;
    run.next = run.turn = run.first;
    run.in_order = bulk->in_order || run.out.is_pipe;
    if (bulk->map && bulk->work && !bulk->direct)
        run.map = kr_bulk_map_open(bulk->in, bulk->in_offset, bulk->size);
    *ret = run;
    kr_cond_init(&ret->ended);
    pthread_cond_init(&ret->turned, NULL);
    pthread_mutex_init(&ret->lock, NULL);
    return KR_OK;
}

static struct kr_bulk_result result_of(struct run *run)
{
    const char *in_refused = atomic_load(&run->in.refused);
    const char *out_refused = atomic_load(&run->out.refused);
    return (struct kr_bulk_result){
        .pages = run->done,
        .resume_at = run->dropped < run->next ? run->dropped : run->next,
        .written_bytes = run->written_bytes,
        .threads = run->plan.threads,
        .chunk_pages = run->plan.chunk_pages,
        .memory = run->plan.threads * run->plan.memory,
        .direct_in = run->bulk->direct && !in_refused,
        .direct_out = run->bulk->direct && run->out.fd >= 0 && !out_refused,
        .buffered_because = in_refused ? in_refused : out_refused,
        .interrupted = run->status == KR_OK && run->done < run->plan.pages - run->first,
    };
}

static void free_run(struct run *run)
{
    pthread_mutex_destroy(&run->lock);
    pthread_cond_destroy(&run->turned);
    pthread_cond_destroy(&run->ended);
    kr_bulk_map_close(run->map);
    kr_bulk_close(&run->in);
    kr_bulk_close(&run->out);
}

enum kr_status kr_bulk_run(const struct kr_bulk *bulk, struct kr_bulk_result *ret,
                           struct kr_error *err)
{
    struct run run;
    KR_TRY(make_run(bulk, &run, err));
    struct worker *workers = calloc(run.plan.threads, sizeof(*workers));
    unsigned count = run.plan.threads;
    enum kr_status status = workers ? run_threads(&run, workers, err) : kr_fail_memory(err);
    for (unsigned i = 0; workers && i < count; i++)
        kr_bulk_free_room(&workers[i].room);
    free(workers);
    *ret = result_of(&run);
    free_run(&run);
    return status;
}
