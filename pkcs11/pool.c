/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Seats, and what their callers share. */
#include "pkcs11/pool_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

void kr_pool_count(uint64_t *counter, int64_t n)
{
    __atomic_add_fetch(counter, (uint64_t)n, __ATOMIC_RELAXED);
}

/* --- life ------------------------------------------------------------------------------------- */

static void init_locks(struct kr_pool *p)
{
    pthread_mutex_init(&p->lock, NULL);
    kr_cond_init(&p->changed);
}

enum kr_status kr_pool_new(struct kr_module *module, const struct kr_token_options *options,
                           struct kr_token_stats *stats, struct kr_pool **ret, struct kr_error *err)
{
    const unsigned size = options->sessions ? options->sessions : 1;
    struct kr_pool *p = calloc(1, sizeof(*p));
    struct kr_seat *seats = calloc(size, sizeof(*seats));

    if (!p || !seats) {
        free(p);
        free(seats);
        return kr_fail_memory(err);
    }
    init_locks(p);
    p->module = module;
    p->options = options;
    p->stats = stats;
    p->seats = seats;
    p->size = p->limit = size;
    for (unsigned i = 0; i < size; i++)
        seats[i].pool = p;
    *ret = p;
    return KR_OK;
}

void kr_pool_after_fork(struct kr_pool *p)
{
    init_locks(p);
    memset(p->seats, 0, p->size * sizeof(p->seats[0]));
    for (unsigned i = 0; i < p->size; i++)
        p->seats[i].pool = p;
    p->taken = 0;
    p->attached = p->connected = p->rebuilding = p->logged_in = p->searching = false;
    p->in_use = false;
    p->keys = NULL;
    __atomic_store_n(&p->stats->sessions, 0, __ATOMIC_RELAXED);
}

bool kr_pool_seen(struct kr_pool *p)
{
    bool seen;

    pthread_mutex_lock(&p->lock);
    seen = p->seen;
    pthread_mutex_unlock(&p->lock);
    return seen;
}

/* --- under the lock --------------------------------------------------------------------------- */

/* False when the time is up. */
bool kr_pool_wait(struct kr_pool *p, uint64_t deadline)
{
    uint64_t now = kr_now_ms();
    struct timespec at;

    if (now >= deadline)
        return false;
    at = kr_deadline(deadline - now);
    pthread_cond_timedwait(&p->changed, &p->lock, &at);
    return true;
}

enum kr_status kr_pool_fail_busy(const struct kr_pool *p, struct kr_error *err)
{
    kr_fail(err, KR_TOKEN_UNAVAILABLE, "the token was busy with other requests for %u ms",
            p->options->timeout_ms);
    kr_hint(err, "try again; option timeout in section [pkcs11] allows more time, option sessions "
                 "more requests at once");
    return KR_TOKEN_UNAVAILABLE;
}

unsigned kr_pool_count_open(const struct kr_pool *p)
{
    unsigned open = 0;

    for (unsigned i = 0; i < p->size; i++)
        open += p->seats[i].open;
    return open;
}

void kr_pool_forget_keys(struct kr_pool *p)
{
    kr_keys_unref(p->keys);
    p->keys = NULL;
    p->keys_epoch++;
}

/* With its last session an application is logged out, and its handles are void (PKCS#11 v3.0,
 * section 5.6.2). */
void kr_seat_set_open(struct kr_seat *seat, bool open)
{
    struct kr_pool *p = seat->pool;

    if (seat->open == open)
        return;
    seat->open = open;
    kr_pool_count(&p->stats->sessions, open ? 1 : -1);
    if (!open && kr_pool_count_open(p) == 0) {
        p->logged_in = false;
        kr_pool_forget_keys(p);
    }
}

/* A free seat, if possible one whose session is open. */
struct kr_seat *kr_seat_take(struct kr_pool *p)
{
    struct kr_seat *best = NULL;

    if (p->limit_until && kr_now_ms() >= p->limit_until) {
        p->limit = p->size;
        p->limit_until = 0;
    }
    if (p->taken >= p->limit)
        return NULL;
    for (unsigned i = 0; i < p->size; i++) {
        struct kr_seat *seat = &p->seats[i];

        if (!seat->taken && (!best || seat->open > best->open ||
                             (seat->open == best->open && seat->worker && !best->worker)))
            best = seat;
    }
    best->taken = true;
    best->lost = KR_LOST_NOTHING;
    best->hung = best->served = false;
    p->taken++;
    return best;
}

void kr_seat_give(struct kr_seat *seat)
{
    struct kr_pool *p = seat->pool;

    kr_keys_unref(seat->keys);
    seat->keys = NULL;
    seat->taken = false;
    p->taken--;
    pthread_cond_broadcast(&p->changed);
    kr_pool_rest(p);
}

void kr_pool_rest(struct kr_pool *p)
{
    if (!p->in_use || p->connected || p->rebuilding || p->taken > 0)
        return;
    kr_module_disuse(p->module);
    p->in_use = false;
}

/* --- jobs ------------------------------------------------------------------------------------- */

static unsigned lend_keys(struct kr_seat *seat, struct kr_job *job)
{
    struct kr_pool *p = seat->pool;
    unsigned epoch;

    kr_keys_unref(job->keys);
    kr_keys_unref(seat->keys);
    pthread_mutex_lock(&p->lock);
    job->keys = kr_keys_ref(p->keys);
    seat->keys = kr_keys_ref(p->keys);
    epoch = p->keys_epoch;
    pthread_mutex_unlock(&p->lock);
    return epoch;
}

/* What a job searched is for everybody, unless keys were made or destroyed meanwhile. */
static void take_keys_back(struct kr_seat *seat, struct kr_job *job, unsigned epoch)
{
    struct kr_pool *p = seat->pool;

    pthread_mutex_lock(&p->lock);
    if (job->forget_keys) {
        kr_pool_forget_keys(p);
    } else if (job->keys != seat->keys && epoch == p->keys_epoch) {
        kr_keys_unref(p->keys);
        p->keys = kr_keys_ref(job->keys);
    }
    pthread_mutex_unlock(&p->lock);
}

enum kr_status kr_seat_run(struct kr_seat *seat, struct kr_job *job, struct kr_error *err)
{
    struct kr_pool *p = seat->pool;
    unsigned epoch = lend_keys(seat, job);
    bool hung = false;
    enum kr_status status = kr_worker_run(seat->worker, job, &hung, err);

    if (hung) {
        seat->worker = NULL;
        seat->hung = true;
        pthread_mutex_lock(&p->lock);
        kr_seat_set_open(seat, false);
        pthread_mutex_unlock(&p->lock);
        kr_pool_count(&p->stats->timeouts, 1);
        return status;
    }
    kr_pool_count(&p->stats->searches, (int64_t)job->searches);
    if (job->lost > seat->lost)
        seat->lost = job->lost;
    take_keys_back(seat, job, epoch);
    return status;
}

/* --- entering and leaving --------------------------------------------------------------------- */

static enum kr_status enter(struct kr_pool *p, uint64_t deadline, struct kr_seat **ret,
                            bool *ret_hung, struct kr_error *err)
{
    const unsigned failures = p->failures;

    for (;;) {
        if (!p->rebuilding && !p->connected && p->failures != failures) {
            *ret_hung = p->failure_hung;
            *err = p->failure;
            return err->status;
        }
        if (!p->rebuilding && !p->connected)
            return kr_pool_connect(p, ret, ret_hung, err);
        if (!p->rebuilding && (*ret = kr_seat_take(p)))
            return KR_OK;
        if (!kr_pool_wait(p, deadline))
            return kr_pool_fail_busy(p, err);
    }
}

enum kr_status kr_pool_enter(struct kr_pool *p, uint64_t deadline, struct kr_seat **ret,
                             bool *ret_hung, struct kr_error *err)
{
    struct kr_seat *seat = NULL;
    enum kr_status status;

    pthread_mutex_lock(&p->lock);
    status = enter(p, deadline, &seat, ret_hung, err);
    pthread_mutex_unlock(&p->lock);
    if (status != KR_OK)
        return status;
    seat->deadline = deadline;
    *ret = seat;
    return KR_OK;
}

static enum kr_status run_drop(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)args;
    (void)err;
    kr_session_drop(s);
    return KR_OK;
}

/* At once, since the module may give the handle to another session. */
static void close_session(struct kr_seat *seat)
{
    KR_JOB struct kr_job *job = NULL;
    struct kr_error err = KR_ERROR_INIT;

    if (!seat->worker || !seat->open)
        return;
    kr_pool_count(&seat->pool->stats->evictions, 1);
    job = kr_job_new(0, run_drop, NULL);
    if (job && kr_seat_run(seat, job, &err) != KR_OK)
        kr_log_error(KR_LOG_WARNING, &err);
}

bool kr_pool_leave(struct kr_seat *seat, enum kr_loss lost)
{
    struct kr_pool *p = seat->pool;
    bool ended;

    if (lost == KR_LOST_SESSION)
        close_session(seat);
    pthread_mutex_lock(&p->lock);
    ended = lost == KR_LOST_TOKEN && p->connected;
    p->served = p->served || seat->served;
    if (ended)
        p->restart = !p->served;
    if (lost == KR_LOST_TOKEN)
        p->connected = false;
    if (lost == KR_LOST_SESSION)
        kr_seat_set_open(seat, false);
    /* Handles of private objects are void after a logout, too: the login is looked at again. */
    if (lost == KR_LOST_LOGIN || lost == KR_LOST_KEYS)
        p->logged_in = false;
    if (lost == KR_LOST_LOGIN || (lost == KR_LOST_KEYS && p->keys == seat->keys))
        kr_pool_forget_keys(p);
    kr_seat_give(seat);
    pthread_mutex_unlock(&p->lock);
    return ended;
}

/* --- searching -------------------------------------------------------------------------------- */

static enum kr_status run_search(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)args;
    return kr_keys_load(s, err);
}

/* Waits for a search that is under way. KR_OK with *ret_known when it found what is wanted. */
static enum kr_status begin_search(struct kr_seat *seat, bool *ret_known, struct kr_error *err)
{
    struct kr_pool *p = seat->pool;
    enum kr_status status = KR_OK;

    pthread_mutex_lock(&p->lock);
    while (p->searching && kr_pool_wait(p, seat->deadline))
        ;
    *ret_known = p->keys && p->keys != seat->keys;
    if (!*ret_known && p->searching)
        status = kr_pool_fail_busy(p, err);
    else if (!*ret_known)
        p->searching = true;
    pthread_mutex_unlock(&p->lock);
    return status;
}

enum kr_status kr_seat_search(struct kr_seat *seat, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(0, run_search, NULL);
    struct kr_pool *p = seat->pool;
    enum kr_status status;
    bool known = false;

    if (!job)
        return kr_fail_memory(err);
    KR_TRY(begin_search(seat, &known, err));
    if (known)
        return KR_OK;
    status = kr_seat_run(seat, job, err);
    pthread_mutex_lock(&p->lock);
    p->searching = false;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return status;
}

/* --- the end ---------------------------------------------------------------------------------- */

void kr_pool_free(struct kr_pool *p)
{
    if (!p)
        return;
    if (p->attached)
        kr_pool_disconnect(p);
    for (unsigned i = 0; i < p->size; i++) {
        if (p->seats[i].worker)
            kr_worker_stop(p->seats[i].worker);
        kr_keys_unref(p->seats[i].keys);
    }
    kr_keys_unref(p->keys);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p->seats);
    free(p);
}
