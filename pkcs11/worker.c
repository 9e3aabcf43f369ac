/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The worker thread, its jobs, and the deadline of each call. */
#include "pkcs11/worker.h"

#include "base/clock.h"
#include "base/secret.h"
#include "pkcs11/session.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct kr_worker {
    pthread_mutex_t lock;
    pthread_cond_t work; /* a job is there, or `stop` */
    pthread_cond_t done; /* the job is done */
    pthread_t thread;
    unsigned timeout_ms;
    struct kr_module *module;
    struct kr_session *session; /* the thread's own */
    struct kr_job *job;
    const char *call; /* the call that is being made; NULL between calls */
    uint64_t call_started;
    bool stop;
    bool written_off; /* the caller is gone: the thread frees everything when it gets here */
};

/* --- jobs ------------------------------------------------------------------------------------- */

struct kr_job *kr_job_new(size_t size, kr_job_run run, kr_job_clear clear)
{
    struct kr_job *job = kr_secret_alloc(sizeof(*job) + size);

    if (!job)
        return NULL;
    job->run = run;
    job->clear = clear;
    job->refs = 1;
    return job;
}

static void job_unref(struct kr_job *job)
{
    if (!job || __atomic_sub_fetch(&job->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (job->clear)
        job->clear(job->args);
    kr_keys_unref(job->keys);
    kr_secret_free(job);
}

void kr_job_cleanup(struct kr_job **job)
{
    job_unref(*job);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void worker_free(struct kr_worker *w)
{
    kr_session_free(w->session);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->done);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static struct kr_job *next_job(struct kr_worker *w)
{
    struct kr_job *job;

    pthread_mutex_lock(&w->lock);
    while (!w->job && !w->stop)
        pthread_cond_wait(&w->work, &w->lock);
    job = w->job;
    pthread_mutex_unlock(&w->lock);
    return job;
}

/* Hands the job back; false when nobody waits for it any more. */
static bool finish_job(struct kr_worker *w, struct kr_job *job)
{
    bool wanted;

    pthread_mutex_lock(&w->lock);
    job->done = true;
    w->job = NULL;
    wanted = !w->written_off;
    pthread_cond_signal(&w->done);
    pthread_mutex_unlock(&w->lock);
    job_unref(job);
    return wanted;
}

static void *worker_main(void *arg)
{
    struct kr_worker *w = arg;
    struct kr_module *module = w->module;
    struct kr_job *job;

    while ((job = next_job(w))) {
        kr_session_run(w->session, job);
        if (!finish_job(w, job)) {
            const char *call = w->call;

            kr_session_abandon(w->session);
            worker_free(w);
            kr_module_write_on(module, call);
            break;
        }
    }
    return NULL;
}

bool kr_call_begin(struct kr_worker *w, const char *function)
{
    bool go;

    pthread_mutex_lock(&w->lock);
    go = !w->written_off;
    if (go) {
        w->call = function;
        w->call_started = kr_now_ms();
    }
    pthread_mutex_unlock(&w->lock);
    return go;
}

/* The name of a call that was given up stays, for the books. */
bool kr_call_end(struct kr_worker *w)
{
    bool wanted;

    pthread_mutex_lock(&w->lock);
    wanted = !w->written_off;
    if (wanted)
        w->call = NULL;
    pthread_mutex_unlock(&w->lock);
    return wanted;
}

unsigned kr_worker_timeout(const struct kr_worker *w)
{
    return w->timeout_ms;
}

/* --- the caller's side ------------------------------------------------------------------------ */

static void init_locks(struct kr_worker *w)
{
    pthread_mutex_init(&w->lock, NULL);
    kr_cond_init(&w->work);
    kr_cond_init(&w->done);
}

static int start_thread(struct kr_worker *w)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&w->thread, NULL, worker_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pthread_setname_np(w->thread, "p11k-token");
    return rc;
}

enum kr_status kr_worker_start(struct kr_module *module, const char *uri, unsigned timeout_ms,
                               struct kr_worker **ret, struct kr_error *err)
{
    struct kr_worker *w;
    int rc;

    w = calloc(1, sizeof(*w));
    if (!w)
        return kr_fail_memory(err);
    init_locks(w);
    w->module = module;
    w->timeout_ms = timeout_ms;
    w->session = kr_session_new(w, module, uri);
    if (!w->session) {
        worker_free(w);
        return kr_fail_memory(err);
    }
    rc = start_thread(w);
    if (rc != 0) {
        worker_free(w);
        return kr_fail(err, KR_INTERNAL, "starting a thread for the token failed: %s",
                       strerror(rc));
    }
    *ret = w;
    return KR_OK;
}

static unsigned timeout_of(const struct kr_worker *w, const struct kr_job *job)
{
    return job->timeout_ms ? job->timeout_ms : w->timeout_ms;
}

/* Under the lock. Waits until the job is done (true) or one call lasts too long (false). */
static bool wait_done(struct kr_worker *w, const struct kr_job *job)
{
    while (!job->done) {
        uint64_t now = kr_now_ms(), due = (w->call ? w->call_started : now) + timeout_of(w, job);
        struct timespec deadline;

        if (due <= now)
            return false;
        deadline = kr_deadline(due - now);
        pthread_cond_timedwait(&w->done, &w->lock, &deadline);
    }
    return true;
}

static enum kr_status fail_hung(const struct kr_worker *w, const char *call, unsigned timeout_ms,
                                struct kr_error *err)
{
    kr_fail(err, KR_TOKEN_UNAVAILABLE, "%s of %s did not return within %u ms", call,
            kr_module_path(w->module), timeout_ms);
    kr_hint(err, "check that the token is connected and its service runs; option timeout in "
                 "section [pkcs11] allows more time");
    return KR_TOKEN_UNAVAILABLE;
}

enum kr_status kr_worker_run(struct kr_worker *w, struct kr_job *job, bool *ret_hung,
                             struct kr_error *err)
{
    enum kr_status status;

    job->done = false;
    __atomic_add_fetch(&job->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&w->lock);
    w->job = job;
    pthread_cond_signal(&w->work);
    if (!wait_done(w, job)) {
        status = fail_hung(w, w->call, timeout_of(w, job), err);
        kr_module_write_off(w->module, w->call);
        w->written_off = true;
        *ret_hung = true;
        pthread_detach(w->thread);
        pthread_mutex_unlock(&w->lock);
        return status;
    }
    pthread_mutex_unlock(&w->lock);
    if (job->status != KR_OK)
        *err = job->err;
    return job->status;
}

struct kr_session *kr_worker_session(struct kr_worker *w)
{
    return w->session;
}

void kr_worker_stop(struct kr_worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    worker_free(w);
}
