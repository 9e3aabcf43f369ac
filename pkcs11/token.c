/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The connection, seen from its callers: one turn at a time, on a worker that is replaced when a
 * call hangs, connected and logged in again when the token was lost.
 */
#include "pkcs11/token.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/turn.h"
#include "pkcs11/ckr.h"
#include "pkcs11/pin_guard.h"
#include "pkcs11/token_internal.h"
#include "pkcs11/uri.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kr_token {
    struct kr_token *next; /* all of this process, for the child of a fork */
    struct kr_token_options options;
    char *name, *uri, *guard_path;
    struct kr_module *module;

    struct kr_turn turn; /* what follows belongs to the caller who has it */

    struct kr_worker *worker;
    bool connected, logged_in, seen; /* seen: it was there once */

    bool up; /* atomic, as are the counters */
    struct kr_token_stats stats;
};

static void count(uint64_t *counter, uint64_t n)
{
    __atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

/* --- forks --------------------------------------------------------------------------------------
 */

static pthread_mutex_t tokens_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kr_token *tokens;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&tokens_lock);
}

static void after_fork_parent(void)
{
    pthread_mutex_unlock(&tokens_lock);
}

/* The worker threads stayed with the parent, and what they owned may be half changed: it is left
 * where it is, and the child's next call makes a worker of its own. */
static void after_fork_child(void)
{
    for (struct kr_token *t = tokens; t; t = t->next) {
        kr_turn_init(&t->turn);
        t->worker = NULL;
        t->connected = t->logged_in = false;
    }
    pthread_mutex_unlock(&tokens_lock);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void add_token(struct kr_token *t)
{
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&tokens_lock);
    t->next = tokens;
    tokens = t;
    pthread_mutex_unlock(&tokens_lock);
}

static void remove_token(struct kr_token *t)
{
    struct kr_token **link;

    pthread_mutex_lock(&tokens_lock);
    for (link = &tokens; *link; link = &(*link)->next) {
        if (*link == t) {
            *link = t->next;
            break;
        }
    }
    pthread_mutex_unlock(&tokens_lock);
}

/* --- turns --------------------------------------------------------------------------------------
 */

static enum kr_status take_turn(struct kr_token *t, struct kr_error *err)
{
    if (kr_turn_take(&t->turn, t->options.timeout_ms))
        return KR_OK;
    kr_fail(err, KR_TOKEN_UNAVAILABLE, "the token was busy with other requests for %u ms",
            t->options.timeout_ms);
    kr_hint(err, "try again; option timeout in section [pkcs11] allows more time");
    return KR_TOKEN_UNAVAILABLE;
}

/* --- jobs of the connection itself --------------------------------------------------------------
 */

static enum kr_status run_connect(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)args;
    kr_session_drop(s);
    return kr_session_connect(s, err);
}

static enum kr_status run_detach(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)args;
    (void)err;
    kr_session_detach(s);
    return KR_OK;
}

/* Runs one job; a worker that hangs in it is replaced at the next call. */
static enum kr_status run_job(struct kr_token *t, struct kr_job *job, struct kr_error *err)
{
    bool hung = false;
    enum kr_status status = kr_worker_run(t->worker, job, &hung, err);

    if (hung) {
        t->worker = NULL;
        t->connected = t->logged_in = false;
        count(&t->stats.timeouts, 1);
        return status;
    }
    count(&t->stats.searches, job->searches);
    if (job->lost)
        t->connected = t->logged_in = false;
    return status;
}

static enum kr_status connect_token(struct kr_token *t, struct kr_error *err)
{
    KR_JOB struct kr_job *job = NULL;

    if (t->connected)
        return KR_OK;
    if (!t->worker)
        KR_TRY(kr_worker_start(t->module, t->uri, t->options.timeout_ms, &t->worker, err));
    job = kr_job_new(0, run_connect, NULL);
    if (!job)
        return kr_fail_memory(err);
    KR_TRY(run_job(t, job, err));
    if (t->seen)
        count(&t->stats.reconnects, 1);
    t->connected = t->seen = true;
    return KR_OK;
}

static enum kr_status log_in(struct kr_token *t, struct kr_error *err)
{
    bool tried = false;

    if (t->logged_in)
        return KR_OK;
    KR_TRY(kr_login(t, &t->options, run_job, &tried, err));
    t->logged_in = true;
    if (tried)
        count(&t->stats.logins, 1);
    return KR_OK;
}

static enum kr_status run_once(struct kr_token *t, enum kr_need need, struct kr_job *job,
                               struct kr_error *err)
{
    KR_TRY(connect_token(t, err));
    if (need == KR_NEED_LOGIN)
        KR_TRY(log_in(t, err));
    return run_job(t, job, err);
}

static void note_outcome(struct kr_token *t, enum kr_status status)
{
    if (status != KR_OK)
        count(&t->stats.errors, 1);
    if (status == KR_OK || status == KR_TOKEN_UNAVAILABLE)
        __atomic_store_n(&t->up, status == KR_OK, __ATOMIC_RELAXED);
}

/* A token that fails is connected to again, from the start, but not after a call that hung (that
 * worker is gone and the caller has waited), and never after a refused PIN. */
static bool worth_another_try(const struct kr_token *t, enum kr_status status)
{
    return t->worker && (status == KR_TOKEN_UNAVAILABLE || (status != KR_OK && !t->connected));
}

/* Once again from the start when the token was lost underneath; and an operation with keys waits
 * for a token that was there before, until its time is up. */
static enum kr_status run_patiently(struct kr_token *t, enum kr_need need, struct kr_job *job,
                                    struct kr_error *err)
{
    uint64_t deadline = kr_now_ms() + t->options.timeout_ms;
    bool patient = need == KR_NEED_LOGIN && t->seen, again = patient || t->connected;
    enum kr_status status = run_once(t, need, job, err);

    if (again && worth_another_try(t, status) && kr_token_is_up(t))
        kr_log(KR_LOG_NOTE, "the token failed (%s): connecting again", err->text);
    while (again && worth_another_try(t, status)) {
        t->connected = t->logged_in = false;
        kr_session_pause();
        status = run_once(t, need, job, err);
        again = patient && !t->connected && kr_now_ms() < deadline;
    }
    return status;
}

enum kr_status kr_token_run(struct kr_token *t, enum kr_need need, struct kr_job *job,
                            struct kr_error *err)
{
    enum kr_status status;

    KR_TRY(take_turn(t, err));
    status = run_patiently(t, need, job, err);
    note_outcome(t, status);
    kr_turn_give(&t->turn);
    return status;
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void token_free(struct kr_token *t)
{
    remove_token(t);
    kr_turn_destroy(&t->turn);
    free(t->name);
    free(t->uri);
    free(t->guard_path);
    free(t);
}

static void token_cleanup(struct kr_token **t)
{
    kr_token_close(*t);
}

static enum kr_status copy_options(struct kr_token *t, const struct kr_token_options *options,
                                   struct kr_error *err)
{
    t->options = *options;
    t->options.module = NULL; /* t->module has it */
    t->uri = strdup(options->uri);
    if (!t->uri)
        return kr_fail_memory(err);
    t->options.uri = t->uri;
    t->name = strdup(options->name ? options->name : "token");
    if (!t->name)
        return kr_fail_memory(err);
    if (!options->guard_path)
        return KR_OK;
    t->guard_path = strdup(options->guard_path);
    if (!t->guard_path)
        return kr_fail_memory(err);
    t->options.guard_path = t->guard_path;
    return KR_OK;
}

static enum kr_status run_nothing(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)s;
    (void)args;
    (void)err;
    return KR_OK;
}

enum kr_status kr_token_new(const struct kr_token_options *options, struct kr_token **ret,
                            struct kr_error *err)
{
    __attribute__((cleanup(token_cleanup))) struct kr_token *t = NULL;
    KR_URI P11KitUri *uri = NULL;

    KR_TRY(kr_uri_parse(options->uri, P11_KIT_URI_FOR_TOKEN, &uri, err));
    t = calloc(1, sizeof(*t));
    if (!t)
        return kr_fail_memory(err);
    kr_turn_init(&t->turn);
    add_token(t);
    KR_TRY(copy_options(t, options, err));
    KR_TRY(kr_module_get(options->module, &t->module, err));
    *ret = t;
    t = NULL;
    return KR_OK;
}

enum kr_status kr_token_open(const struct kr_token_options *options, struct kr_token **ret,
                             struct kr_error *err)
{
    __attribute__((cleanup(token_cleanup))) struct kr_token *t = NULL;
    KR_JOB struct kr_job *job = kr_job_new(0, run_nothing, NULL);

    if (!job)
        return kr_fail_memory(err);
    KR_TRY(kr_token_new(options, &t, err));
    KR_TRY(kr_token_run(t, KR_NEED_SESSION, job, err));
    *ret = t;
    t = NULL;
    return KR_OK;
}

const char *kr_token_name(const struct kr_token *t)
{
    return t->name;
}

bool kr_token_worth_trying(const struct kr_token *t)
{
    return kr_token_is_up(t) || !t->seen;
}

void kr_token_close(struct kr_token *t)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_JOB struct kr_job *job = NULL;

    if (!t)
        return;
    job = t->worker ? kr_job_new(0, run_detach, NULL) : NULL;
    if (job && run_job(t, job, &err) != KR_OK)
        kr_log_error(KR_LOG_WARNING, &err);
    if (t->worker)
        kr_worker_stop(t->worker);
    token_free(t);
}

/* --- questions ----------------------------------------------------------------------------------
 */

static enum kr_status run_info(struct kr_session *s, void *args, struct kr_error *err)
{
    CK_TOKEN_INFO info;

    KR_TRY(kr_session_token_info(s, &info, err));
    kr_token_info_fill(args, s->slot, &info);
    return KR_OK;
}

enum kr_status kr_token_get_info(struct kr_token *t, struct kr_token_info *ret,
                                 struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(*ret), run_info, NULL);

    if (!job)
        return kr_fail_memory(err);
    KR_TRY(kr_token_run(t, KR_NEED_SESSION, job, err));
    memcpy(ret, job->args, sizeof(*ret));
    return KR_OK;
}

struct mechanisms_args {
    CK_ULONG *list;
    size_t count;
};

static void clear_mechanisms(void *data)
{
    free(((struct mechanisms_args *)data)->list);
}

static enum kr_status run_mechanisms(struct kr_session *s, void *data, struct kr_error *err)
{
    struct mechanisms_args *args = data;

    return kr_session_mechanisms(s, &args->list, &args->count, err);
}

enum kr_status kr_token_mechanisms(struct kr_token *t, unsigned long **ret, size_t *ret_count,
                                   struct kr_error *err)
{
    KR_JOB struct kr_job *job =
        kr_job_new(sizeof(struct mechanisms_args), run_mechanisms, clear_mechanisms);
    struct mechanisms_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct mechanisms_args *)job->args;
    KR_TRY(kr_token_run(t, KR_NEED_SESSION, job, err));
    *ret = args->list;
    *ret_count = args->count;
    args->list = NULL;
    return KR_OK;
}

enum kr_status kr_token_login(struct kr_token *t, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(0, run_nothing, NULL);

    if (!job)
        return kr_fail_memory(err);
    return kr_token_run(t, KR_NEED_LOGIN, job, err);
}

struct random_args {
    size_t len;
    uint8_t bytes[1024];
};

static enum kr_status run_random(struct kr_session *s, void *data, struct kr_error *err)
{
    struct random_args *args = data;

    return kr_session_random(s, args->bytes, args->len, err);
}

enum kr_status kr_token_random(struct kr_token *t, uint8_t *ret, size_t len, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct random_args), run_random, NULL);
    struct random_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct random_args *)job->args;
    if (len > sizeof(args->bytes))
        return kr_fail(err, KR_USAGE, "at most %zu random bytes at once", sizeof(args->bytes));
    args->len = len;
    KR_TRY(kr_token_run(t, KR_NEED_SESSION, job, err));
    memcpy(ret, args->bytes, len);
    return KR_OK;
}

bool kr_token_is_up(const struct kr_token *t)
{
    return __atomic_load_n(&t->up, __ATOMIC_RELAXED);
}

void kr_token_get_stats(const struct kr_token *t, struct kr_token_stats *ret)
{
    const struct kr_token_stats *s = &t->stats;

    *ret = (struct kr_token_stats){
        .wraps = __atomic_load_n(&s->wraps, __ATOMIC_RELAXED),
        .unwraps = __atomic_load_n(&s->unwraps, __ATOMIC_RELAXED),
        .logins = __atomic_load_n(&s->logins, __ATOMIC_RELAXED),
        .reconnects = __atomic_load_n(&s->reconnects, __ATOMIC_RELAXED),
        .errors = __atomic_load_n(&s->errors, __ATOMIC_RELAXED),
        .timeouts = __atomic_load_n(&s->timeouts, __ATOMIC_RELAXED),
        .searches = __atomic_load_n(&s->searches, __ATOMIC_RELAXED),
        .resident_operations = __atomic_load_n(&s->resident_operations, __ATOMIC_RELAXED),
    };
}

void kr_token_count_wrap(struct kr_token *t)
{
    count(&t->stats.wraps, 1);
}

void kr_token_count_unwrap(struct kr_token *t)
{
    count(&t->stats.unwraps, 1);
}

void kr_token_count_resident(struct kr_token *t)
{
    count(&t->stats.resident_operations, 1);
}
