/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Threads that take the next file, and one that tells how far they are. */
#include "files/run.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "hwaccel/bulk.h"

enum {
    LARGE_BYTES = 64 * 1024 * 1024,
    THREADS_MAX = 64,
    THREADS_SMALL = 8, /* at least, for small files: they wait for the token more than they work */
    TICK_MS = 100
};

struct files_run {
    const struct kr_walk *walk;
    const struct kr_files_options *options;
    unsigned threads;   /* that a large file is worked on by */
    bool large;         /* this round's files */
    atomic_size_t next; /* file to look at */
    atomic_bool stop;
    atomic_ullong finished; /* bytes of files that are done */

    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t ended;
    unsigned working;
    enum kr_status status;
    struct kr_error error;
};

struct worker {
    struct files_run *all;
    struct kr_file_run run;
    atomic_ullong done; /* bytes of the file in work */
    pthread_t thread;
};

/* --- a thread --------------------------------------------------------------------------------- */

static void fail(struct files_run *all, enum kr_status status, const struct kr_error *err)
{
    pthread_mutex_lock(&all->lock);
    if (all->status == KR_OK) {
        all->status = status;
        all->error = *err;
    }
    pthread_mutex_unlock(&all->lock);
    atomic_store(&all->stop, true);
}

static bool is_large(const struct kr_walk_file *file)
{
    return file->size >= LARGE_BYTES;
}

static void *work(void *context)
{
    struct worker *worker = context;
    struct files_run *all = worker->all;
    struct kr_error err = KR_ERROR_INIT;
    size_t i;
    while ((i = atomic_fetch_add(&all->next, 1)) < all->walk->count && !atomic_load(&all->stop)) {
        const struct kr_walk_file *file = &all->walk->files[i];
        if (is_large(file) != all->large)
            continue;
        const struct kr_files_options *o = all->options;
        enum kr_status status = o->work(file->path, i, &worker->run, o->context, &err);
        if (status != KR_OK)
            fail(all, status, &err);
        atomic_fetch_add(&all->finished, file->size);
        atomic_store(&worker->done, 0);
    }
    pthread_mutex_lock(&all->lock);
    all->working--;
    pthread_cond_signal(&all->ended);
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

/* --- the caller's thread ---------------------------------------------------------------------- */

static void tell(struct files_run *all, const struct worker *workers, unsigned count)
{
    const struct kr_files_options *o = all->options;
    uint64_t done = atomic_load(&all->finished), total = all->walk->bytes;
    for (unsigned i = 0; i < count; i++)
        done += atomic_load(&workers[i].done);
    if (o->progress && !o->progress(done < total ? done : total, total, o->progress_context))
        atomic_store(&all->stop, true);
}

/* Returns when all threads have ended. */
static void watch(struct files_run *all, const struct worker *workers, unsigned count)
{
    pthread_mutex_lock(&all->lock);
    while (all->working > 0) {
        const struct timespec until = kr_deadline(TICK_MS);
        pthread_cond_timedwait(&all->ended, &all->lock, &until);
        pthread_mutex_unlock(&all->lock);
        tell(all, workers, count);
        pthread_mutex_lock(&all->lock);
    }
    pthread_mutex_unlock(&all->lock);
}

static void start(struct files_run *all, struct worker *worker)
{
    worker->all = all;
    worker->run = (struct kr_file_run){.keys = all->options->keys,
                                       .threads = all->large ? all->threads : 1,
                                       .stop = &all->stop,
                                       .done_bytes = &worker->done,
                                       .walk = all->walk};
    pthread_mutex_lock(&all->lock);
    all->working++;
    pthread_mutex_unlock(&all->lock);
}

/* One round over all files, for the large or the small ones. */
static void run_round(struct files_run *all, struct worker *workers, unsigned wanted, bool large)
{
    unsigned count = 0;
    all->large = large;
    atomic_store(&all->next, 0);
    for (unsigned i = 0; i < wanted; i++)
        start(all, &workers[i]);
    while (count < wanted &&
           pthread_create(&workers[count].thread, NULL, work, &workers[count]) == 0)
        count++;
    /* Fewer threads do the same; without any the caller's own does. */
    for (unsigned i = count > 0 ? count : 1; i < wanted; i++) {
        pthread_mutex_lock(&all->lock);
        all->working--;
        pthread_mutex_unlock(&all->lock);
    }
    if (count == 0)
        work(&workers[0]);
    watch(all, workers, wanted);
    for (unsigned i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
}

enum kr_status kr_files_run(const struct kr_walk *walk, const struct kr_files_options *options,
                            bool *ret_interrupted, struct kr_error *err)
{
    struct files_run all = {.walk = walk, .options = options, .threads = options->threads};
    if (all.threads == 0 || all.threads > THREADS_MAX)
        all.threads = all.threads == 0 ? kr_bulk_default_threads() : THREADS_MAX;
    unsigned small =
        options->threads == 0 && all.threads < THREADS_SMALL ? THREADS_SMALL : all.threads;
    struct worker *workers = calloc(small, sizeof(*workers));
    if (!workers)
        return kr_fail_memory(err);
    pthread_mutex_init(&all.lock, NULL);
    kr_cond_init(&all.ended);
    run_round(&all, workers, small, false);
    run_round(&all, workers, 1, true);
    pthread_cond_destroy(&all.ended);
    pthread_mutex_destroy(&all.lock);
    free(workers);
    if (all.status != KR_OK)
        *err = all.error;
    else
        *ret_interrupted = atomic_load(&all.stop);
    return all.status;
}
