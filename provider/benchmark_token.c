/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The token's operations: callers that wrap or unwrap as fast as they can, each timing its own. */
#include "provider/benchmark.h"

#include "base/clock.h"
#include "base/secret.h"

#include <openssl/rand.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 50, SAMPLES = 1 << 18 }; /* SAMPLES: of a row; that many are enough */

struct row {
    const struct kr_benchmark_token *subject;
    unsigned sessions;
    bool unwrap;
    double seconds;
    unsigned most; /* operations of a caller */
    atomic_bool stop;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    unsigned ready, ended;
    bool begun;
    struct timespec begin;
    struct kr_error error; /* the first failure */
};

struct caller {
    struct row *row;
    pthread_t thread;
    double *samples; /* microseconds */
    unsigned count;
    uint8_t *key; /* secret memory */
    uint8_t wrapped[KR_WRAPPED_MAX];
    size_t wrapped_len;
};

static struct timespec now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at;
}

static double seconds_since(const struct timespec *from)
{
    struct timespec at = now();
    return (double)(at.tv_sec - from->tv_sec) + (double)(at.tv_nsec - from->tv_nsec) * 1e-9;
}

/* --- a caller --------------------------------------------------------------------------------- */

static enum kr_status wrap(struct caller *caller, struct kr_error *err)
{
    const struct kr_benchmark_token *subject = caller->row->subject;
    return kr_master_wrap(subject->token, &subject->master, subject->mechanism, caller->key,
                          caller->wrapped, &caller->wrapped_len, err);
}

static enum kr_status unwrap(struct caller *caller, struct kr_error *err)
{
    const struct kr_benchmark_token *subject = caller->row->subject;
    return kr_master_unwrap(subject->token, &subject->master, subject->mechanism, caller->wrapped,
                            caller->wrapped_len, caller->key, err);
}

/* All begin at the same time, when each has its session. */
static void wait_for_begin(struct row *row)
{
    pthread_mutex_lock(&row->lock);
    if (++row->ready == row->sessions) {
        row->begin = now();
        row->begun = true;
        pthread_cond_broadcast(&row->changed);
    }
    while (!row->begun && !row->stop)
        pthread_cond_wait(&row->changed, &row->lock);
    pthread_mutex_unlock(&row->lock);
}

static enum kr_status call_on(struct caller *caller, struct kr_error *err)
{
    struct row *row = caller->row;
    KR_TRY(wrap(caller, err));
    wait_for_begin(row);
    if (row->stop)
        return KR_OK;
    do {
        struct timespec start = now();
        KR_TRY(row->unwrap ? unwrap(caller, err) : wrap(caller, err));
        caller->samples[caller->count++] = seconds_since(&start) * 1e6;
    } while (!row->stop && caller->count < row->most && seconds_since(&row->begin) < row->seconds);
    return KR_OK;
}

static void *run_caller(void *context)
{
    struct caller *caller = context;
    struct row *row = caller->row;
    struct kr_error err = KR_ERROR_INIT;
    enum kr_status status = call_on(caller, &err);
    pthread_mutex_lock(&row->lock);
    if (status != KR_OK) {
        if (row->error.status == KR_OK)
            row->error = err;
        row->stop = true;
    }
    row->ended++;
    pthread_cond_broadcast(&row->changed);
    pthread_mutex_unlock(&row->lock);
    return NULL;
}

static enum kr_status new_caller(struct row *row, struct caller *caller, struct kr_error *err)
{
    *caller = (struct caller){.row = row, .key = kr_secret_alloc(KR_SEALING_KEY_BYTES)};
    if (!caller->key)
        return kr_fail_secret(err);
    if (RAND_bytes(caller->key, KR_SEALING_KEY_BYTES) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL has no random bytes");
    caller->samples = malloc(row->most * sizeof(*caller->samples));
    return caller->samples ? KR_OK : kr_fail_memory(err);
}

static void free_callers(struct caller *callers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        kr_secret_free(callers[i].key);
        free(callers[i].samples);
    }
    free(callers);
}

/* --- a row ------------------------------------------------------------------------------------ */

static void stop(struct row *row)
{
    pthread_mutex_lock(&row->lock);
    row->stop = true;
    pthread_cond_broadcast(&row->changed);
    pthread_mutex_unlock(&row->lock);
}

static bool have_ended(struct row *row, unsigned callers)
{
    const struct timespec until = kr_deadline(TICK_MS);
    pthread_mutex_lock(&row->lock);
    if (row->ended < callers)
        pthread_cond_timedwait(&row->changed, &row->lock, &until);
    bool ended = row->ended == callers;
    pthread_mutex_unlock(&row->lock);
    return ended;
}

static void watch(struct row *row, unsigned callers, struct kr_benchmark *benchmark, uint64_t done,
                  uint64_t total)
{
    do {
        if (benchmark->interrupted || benchmark->progress(done, total, benchmark->context))
            continue;
        benchmark->interrupted = true;
        stop(row);
    } while (!have_ended(row, callers));
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum kr_status sum_up(const struct row *row, const struct caller *callers, double seconds,
                             struct kr_token_rate *ret, struct kr_error *err)
{
    struct kr_token_stats stats;
    size_t count = 0;
    double *all = calloc((size_t)row->sessions * row->most + 1, sizeof(*all));
    if (!all)
        return kr_fail_memory(err);
    for (unsigned i = 0; i < row->sessions; i++) {
        memcpy(all + count, callers[i].samples, callers[i].count * sizeof(*all));
        count += callers[i].count;
    }
    qsort(all, count, sizeof(*all), compare);
    kr_token_get_stats(row->subject->token, &stats);
    *ret = (struct kr_token_rate){.sessions = row->sessions,
                                  .open = (unsigned)stats.sessions,
                                  .unwrap = row->unwrap,
                                  .operations = count};
    if (count > 0) {
        ret->per_second = (double)count / seconds;
        ret->p50_us = all[count / 2];
        ret->p99_us = all[count * 99 / 100];
    }
    free(all);
    return KR_OK;
}

static enum kr_status fail_row(const struct row *row, struct kr_error *err)
{
    *err = row->error;
    return err->status;
}

/* Starts the callers, waits for them, and adds their samples up. */
static enum kr_status run_callers(struct row *row, struct caller *callers,
                                  struct kr_benchmark *benchmark, uint64_t done, uint64_t total,
                                  struct kr_token_rate *ret, struct kr_error *err)
{
    unsigned started = 0;
    for (unsigned i = 0; i < row->sessions; i++)
        KR_TRY(new_caller(row, &callers[i], err));
    while (started < row->sessions &&
           pthread_create(&callers[started].thread, NULL, run_caller, &callers[started]) == 0)
        started++;
    if (started < row->sessions)
        stop(row);
    watch(row, started, benchmark, done, total);
    double seconds = seconds_since(&row->begin);
    for (unsigned i = 0; i < started; i++)
        pthread_join(callers[i].thread, NULL);
    if (started < row->sessions)
        return kr_fail(err, KR_INTERNAL, "cannot start %u threads", row->sessions);
    if (row->error.status != KR_OK)
        return fail_row(row, err);
    return benchmark->interrupted ? KR_OK : sum_up(row, callers, seconds, ret, err);
}

static enum kr_status run_row(struct row *row, struct kr_benchmark *benchmark, uint64_t done,
                              uint64_t total, struct kr_token_rate *ret, struct kr_error *err)
{
    struct caller *callers = calloc(row->sessions, sizeof(*callers));
    if (!callers)
        return kr_fail_memory(err);
    pthread_mutex_init(&row->lock, NULL);
    kr_cond_init(&row->changed);
    enum kr_status status = run_callers(row, callers, benchmark, done, total, ret, err);
    pthread_cond_destroy(&row->changed);
    pthread_mutex_destroy(&row->lock);
    free_callers(callers, row->sessions);
    return status;
}

enum kr_status kr_benchmark_token(struct kr_benchmark *benchmark,
                                  const struct kr_benchmark_token *subject,
                                  struct kr_token_rate ret[2 * KR_BENCHMARK_ROWS_MAX],
                                  size_t *ret_count, struct kr_error *err)
{
    struct kr_master_info info;
    size_t total = 2 * subject->count, done = 0;
    KR_TRY(kr_master_find(subject->token, &subject->master, &info, err));
    for (; done < total; done++) {
        unsigned sessions = subject->sessions[done / 2];
        bool unwraps = done % 2 == 0;
        struct row row = {.subject = subject,
                          .sessions = sessions,
                          .unwrap = unwraps,
                          .seconds = benchmark->seconds / (double)total,
                          .most = (unwraps ? SAMPLES : KR_BENCHMARK_WRAPS - sessions) / sessions};
        KR_TRY(run_row(&row, benchmark, done, total, &ret[done], err));
        if (benchmark->interrupted)
            break;
    }
    *ret_count = done;
    return KR_OK;
}
