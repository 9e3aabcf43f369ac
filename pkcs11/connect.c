/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The connection to the token: sessions opened on seats; everything built anew by one caller alone;
 * and its end.
 */
#include "pkcs11/pool_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <p11-kit/pkcs11.h>

#include <stdlib.h>

/* A token that had no more sessions is asked again after this time: others may have left it. */
enum { LIMIT_LASTS_MS = 10000 };

static enum kr_status start_worker(struct kr_seat *seat, struct kr_error *err)
{
    struct kr_pool *p = seat->pool;

    if (seat->worker)
        return KR_OK;
    KR_TRY(kr_module_check_write_offs(p->module, p->size * KR_WRITE_OFFS_MAX, err));
    KR_TRY(kr_worker_start(p->module, p->options->uri, p->options->timeout_ms, &seat->worker, err));
    kr_worker_session(seat->worker)->quirks = p->options->quirks;
    return KR_OK;
}

static enum kr_status run_open(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)args;
    return kr_session_open(s, err);
}

/* A handle that another seat holds too shows that the module was initialised anew underneath, by
 * somebody else: then all of ours are void. */
static bool handle_is_new(struct kr_seat *seat)
{
    const CK_SESSION_HANDLE handle = kr_worker_session(seat->worker)->handle;
    const struct kr_pool *p = seat->pool;

    for (unsigned i = 0; i < p->size; i++)
        if (p->seats[i].open && p->seats[i].handle == handle)
            return false;
    return true;
}

static enum kr_status note_opened(struct kr_seat *seat, struct kr_error *err)
{
    struct kr_pool *p = seat->pool;
    bool is_new;

    pthread_mutex_lock(&p->lock);
    is_new = handle_is_new(seat);
    if (is_new) {
        seat->handle = kr_worker_session(seat->worker)->handle;
        kr_seat_set_open(seat, true);
    }
    pthread_mutex_unlock(&p->lock);
    if (is_new)
        return KR_OK;
    seat->lost = KR_LOST_TOKEN;
    return kr_fail(err, KR_TOKEN_UNAVAILABLE, "somebody else in this process restarted %s",
                   kr_module_path(p->module));
}

/* No session to be had but those that the others of the pool have. */
static bool note_crowd(struct kr_pool *p)
{
    unsigned open;

    pthread_mutex_lock(&p->lock);
    open = kr_pool_count_open(p);
    if (open > 0) {
        p->limit = open;
        p->limit_until = kr_now_ms() + LIMIT_LASTS_MS;
    }
    pthread_mutex_unlock(&p->lock);
    return open > 0;
}

enum kr_status kr_seat_open(struct kr_seat *seat, bool *ret_crowded, struct kr_error *err)
{
    KR_JOB struct kr_job *job = NULL;
    struct kr_session *session;
    enum kr_status status;

    if (seat->open)
        return KR_OK;
    KR_TRY(start_worker(seat, err));
    job = kr_job_new(0, run_open, NULL);
    if (!job)
        return kr_fail_memory(err);
    session = kr_worker_session(seat->worker);
    session->p11 = seat->pool->p11;
    session->slot = seat->pool->slot;
    status = kr_seat_run(seat, job, err);
    if (status == KR_OK)
        return note_opened(seat, err);
    if (!seat->hung && err->ckr == CKR_SESSION_COUNT)
        *ret_crowded = note_crowd(seat->pool);
    return status;
}

/* --- the connection --------------------------------------------------------------------------- */

struct handles {
    bool restart;
    size_t count;
    CK_SESSION_HANDLE list[];
};

/* Whoever gets here has all seats. Handles of before another connection restarted the module are
 * void, and may be somebody else's now. */
static struct kr_job *handles_job(struct kr_pool *p, kr_job_run run)
{
    struct kr_job *job =
        kr_job_new(sizeof(struct handles) + p->size * sizeof(CK_SESSION_HANDLE), run, NULL);
    struct handles *handles;

    if (!job)
        return NULL;
    handles = (struct handles *)job->args;
    if (p->epoch != kr_module_epoch(p->module))
        return job;
    for (unsigned i = 0; i < p->size; i++)
        if (p->seats[i].open)
            handles->list[handles->count++] = p->seats[i].handle;
    return job;
}

/* Any thread of an application may close its sessions. */
static enum kr_status run_close_all(struct kr_session *s, void *args, struct kr_error *err)
{
    struct handles *handles = args;

    (void)err;
    s->handle = CK_INVALID_HANDLE;
    while (handles->count > 0)
        P11(s, C_CloseSession, handles->list[--handles->count]);
    return KR_OK;
}

static enum kr_status run_attach(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)args;
    return kr_module_attach(s->module, s->worker, &s->p11, err);
}

static enum kr_status run_connect(struct kr_session *s, void *args, struct kr_error *err)
{
    KR_TRY(run_close_all(s, args, err));
    return kr_session_connect(s, ((struct handles *)args)->restart, err);
}

static enum kr_status run_finalise(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)args;
    (void)err;
    kr_module_finalise(s->module, s->worker);
    return KR_OK;
}

static enum kr_status attach(struct kr_seat *seat, struct kr_error *err)
{
    struct kr_pool *p = seat->pool;
    KR_JOB struct kr_job *job = NULL;

    if (p->attached)
        return KR_OK;
    job = kr_job_new(0, run_attach, NULL);
    if (!job)
        return kr_fail_memory(err);
    KR_TRY(kr_seat_run(seat, job, err));
    p->attached = true;
    p->p11 = kr_worker_session(seat->worker)->p11;
    return KR_OK;
}

static enum kr_status use_module(struct kr_pool *p, struct kr_error *err)
{
    if (!p->in_use)
        p->in_use = kr_module_use(p->module, p->options->timeout_ms);
    return p->in_use ? KR_OK : kr_pool_fail_busy(p, err);
}

static enum kr_status connect_token(struct kr_seat *seat, struct kr_error *err)
{
    struct kr_pool *p = seat->pool;
    KR_JOB struct kr_job *job = NULL;

    KR_TRY(use_module(p, err));
    KR_TRY(start_worker(seat, err));
    KR_TRY(attach(seat, err));
    job = handles_job(p, run_connect);
    if (!job)
        return kr_fail_memory(err);
    ((struct handles *)job->args)->restart = p->restart;
    kr_worker_session(seat->worker)->p11 = p->p11;
    return kr_seat_run(seat, job, err);
}

/* Under the lock. The sessions of before are closed. */
static void forget_sessions(struct kr_pool *p)
{
    for (unsigned i = 0; i < p->size; i++) {
        kr_seat_set_open(&p->seats[i], false);
        if (p->seats[i].worker)
            kr_worker_session(p->seats[i].worker)->handle = CK_INVALID_HANDLE;
    }
}

static void note_connected(struct kr_seat *seat)
{
    struct kr_pool *p = seat->pool;
    const struct kr_session *s = kr_worker_session(seat->worker);

    seat->handle = s->handle;
    kr_seat_set_open(seat, true);
    seat->lost = KR_LOST_NOTHING;
    p->slot = s->slot;
    p->epoch = s->epoch;
    p->limit = s->session_max > 0 && s->session_max < p->size ? (unsigned)s->session_max : p->size;
    p->limit_until = 0;
    if (p->seen)
        kr_pool_count(&p->stats->reconnects, 1);
    p->connected = p->seen = true;
    p->served = p->restart = false;
}

static void note_failure(struct kr_seat *seat, const struct kr_error *err)
{
    struct kr_pool *p = seat->pool;

    p->failures++;
    p->failure = *err;
    p->failure_hung = seat->hung;
}

/* Under the lock, which is left while the caller is alone. */
static enum kr_status rebuild(struct kr_seat *seat, struct kr_error *err)
{
    struct kr_pool *p = seat->pool;
    CK_SESSION_HANDLE handle = CK_INVALID_HANDLE;
    enum kr_status status;

    p->logged_in = false;
    kr_pool_forget_keys(p);
    pthread_mutex_unlock(&p->lock);
    status = connect_token(seat, err);
    pthread_mutex_lock(&p->lock);
    if (!seat->hung && seat->worker) {
        handle = kr_worker_session(seat->worker)->handle;
        forget_sessions(p);
        kr_worker_session(seat->worker)->handle = handle;
    }
    if (status == KR_OK)
        note_connected(seat);
    else
        note_failure(seat, err);
    return status;
}

/* Under the lock. Waits until nobody else has a seat: each call of theirs ends, or is written off.
 */
enum kr_status kr_pool_connect(struct kr_pool *p, struct kr_seat **ret, bool *ret_hung,
                               struct kr_error *err)
{
    const uint64_t deadline = kr_now_ms() + p->options->timeout_ms;
    enum kr_status status;
    struct kr_seat *seat;

    p->rebuilding = true;
    while (p->taken > 0 && kr_pool_wait(p, deadline))
        ;
    if (p->taken > 0) {
        status = kr_pool_fail_busy(p, err);
    } else {
        seat = kr_seat_take(p);
        status = rebuild(seat, err);
        *ret_hung = seat->hung;
        if (status == KR_OK)
            *ret = seat;
        else
            kr_seat_give(seat);
    }
    p->rebuilding = false;
    pthread_cond_broadcast(&p->changed);
    kr_pool_rest(p);
    return status;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* A call that hangs now cannot keep us: its worker is written off like any other. */
static void run_last(struct kr_seat *seat, struct kr_job *job)
{
    struct kr_error err = KR_ERROR_INIT;

    if (seat->worker && job && kr_seat_run(seat, job, &err) != KR_OK)
        kr_log_error(KR_LOG_WARNING, &err);
}

void kr_pool_disconnect(struct kr_pool *p)
{
    KR_JOB struct kr_job *close_all = handles_job(p, run_close_all);
    KR_JOB struct kr_job *finalise = kr_job_new(0, run_finalise, NULL);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_seat *seat;

    pthread_mutex_lock(&p->lock);
    seat = kr_seat_take(p);
    pthread_mutex_unlock(&p->lock);
    if (start_worker(seat, &err) == KR_OK)
        kr_worker_session(seat->worker)->p11 = p->p11;
    run_last(seat, close_all);
    kr_module_detach(p->module);
    run_last(seat, finalise);
    if (p->in_use)
        kr_module_disuse(p->module);
}
