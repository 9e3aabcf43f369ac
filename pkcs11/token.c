/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The connection, seen from its callers; what it does is in pool.c and retry.c. */
#include "pkcs11/token.h"

#include "base/clock.h"
#include "pkcs11/ckr.h"
#include "pkcs11/token_internal.h"
#include "pkcs11/uri.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How soon a token that failed is worth trying again: at first, and later; when its PIN was
 * refused, which a look at the PIN guard shows. */
enum { BACK_OFF_MS = 100, BACK_OFF_MAX_MS = 2000, PIN_BACK_OFF_MS = 30000 };

struct kr_token {
    struct kr_token *next; /* all of this process, for the child of a fork */
    struct kr_token_options options;
    char *name, *uri, *guard_path;
    struct kr_pool *pool;

    /* atomic, as are the counters */
    enum kr_token_state state;
    unsigned failures; /* since it was up */
    uint64_t retry_at; /* kr_now_ms() */
    struct kr_token_stats stats;
};

/* --- forks ------------------------------------------------------------------------------------ */

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

static void after_fork_child(void)
{
    for (struct kr_token *t = tokens; t; t = t->next)
        kr_pool_after_fork(t->pool);
    kr_login_after_fork();
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

/* --- running a job ---------------------------------------------------------------------------- */

/* A token that hangs, or is slow to fail, is left alone for longer than a server's watcher takes to
 * find out that it still does: so that nobody else waits for it again. */
static uint64_t back_off_ms(unsigned failures, uint64_t took_ms)
{
    uint64_t ms = BACK_OFF_MS;

    for (unsigned i = 1; i < failures && ms < BACK_OFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACK_OFF_MAX_MS)
        ms = BACK_OFF_MAX_MS;
    return ms > 3 * took_ms ? ms : 3 * took_ms;
}

static void set_state(struct kr_token *t, enum kr_token_state state, uint64_t wait_ms)
{
    __atomic_store_n(&t->retry_at, kr_now_ms() + wait_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&t->state, state, __ATOMIC_RELEASE);
}

static void note_outcome(struct kr_token *t, enum kr_status status, uint64_t took_ms)
{
    unsigned failures;

    if (status != KR_OK)
        __atomic_add_fetch(&t->stats.errors, 1, __ATOMIC_RELAXED);
    if (status == KR_OK) {
        __atomic_store_n(&t->failures, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&t->state, KR_TOKEN_UP, __ATOMIC_RELEASE);
    } else if (status == KR_TOKEN_UNAVAILABLE) {
        failures = __atomic_add_fetch(&t->failures, 1, __ATOMIC_RELAXED);
        set_state(t, KR_TOKEN_DOWN, back_off_ms(failures, took_ms));
    } else if (status == KR_AUTH) {
        set_state(t, KR_TOKEN_PIN_REFUSED, PIN_BACK_OFF_MS);
    }
}

enum kr_status kr_token_run(struct kr_token *t, enum kr_need need, struct kr_job *job,
                            struct kr_error *err)
{
    const uint64_t start = kr_now_ms();
    enum kr_status status =
        kr_pool_run(t->pool, need, !t->options.one_of_several, job, t->options.timeout_ms, err);

    note_outcome(t, status, t->options.one_of_several ? kr_now_ms() - start : 0);
    if (status != KR_OK)
        kr_ckr_hint_default(err);
    return status;
}

/* --- life ------------------------------------------------------------------------------------- */

static void token_free(struct kr_token *t)
{
    free(t->name);
    free(t->uri);
    free(t->guard_path);
    free(t);
}

static void token_cleanup(struct kr_token **t)
{
    if (*t)
        token_free(*t);
}

static enum kr_status copy(const char *text, char **ret, struct kr_error *err)
{
    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? kr_fail_memory(err) : KR_OK;
}

static enum kr_status copy_options(struct kr_token *t, const struct kr_token_options *options,
                                   struct kr_error *err)
{
    t->options = *options;
    t->options.module = NULL;           /* the pool has it */
    t->options.quirks.init_args = NULL; /* the module has them */
    KR_TRY(copy(options->name ? options->name : "token", &t->name, err));
    KR_TRY(copy(options->uri, &t->uri, err));
    KR_TRY(copy(options->guard_path, &t->guard_path, err));
    t->options.name = t->name;
    t->options.uri = t->uri;
    t->options.guard_path = t->guard_path;
    return KR_OK;
}

enum kr_status kr_token_new(const struct kr_token_options *options, struct kr_token **ret,
                            struct kr_error *err)
{
    __attribute__((cleanup(token_cleanup))) struct kr_token *t = NULL;
    struct kr_module *module = NULL;
    KR_URI P11KitUri *uri = NULL;

    KR_TRY(kr_uri_parse(options->uri, P11_KIT_URI_FOR_TOKEN, &uri, err));
    t = calloc(1, sizeof(*t));
    if (!t)
        return kr_fail_memory(err);
    KR_TRY(copy_options(t, options, err));
    KR_TRY(kr_module_get(options->module, &module, err));
    KR_TRY(kr_module_set_init_args(module, options->quirks.init_args, err));
    KR_TRY(kr_pool_new(module, &t->options, &t->stats, &t->pool, err));
    add_token(t);
    *ret = t;
    t = NULL;
    return KR_OK;
}

static enum kr_status run_nothing(struct kr_session *s, void *args, struct kr_error *err)
{
    (void)s;
    (void)args;
    (void)err;
    return KR_OK;
}

static enum kr_status reach(struct kr_token *t, enum kr_need need, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(0, run_nothing, NULL);

    return job ? kr_token_run(t, need, job, err) : kr_fail_memory(err);
}

enum kr_status kr_token_open(const struct kr_token_options *options, struct kr_token **ret,
                             struct kr_error *err)
{
    struct kr_token *t = NULL;
    enum kr_status status;

    KR_TRY(kr_token_new(options, &t, err));
    status = reach(t, KR_NEED_SESSION, err);
    if (status == KR_OK)
        *ret = t;
    else
        kr_token_close(t);
    return status;
}

void kr_token_close(struct kr_token *t)
{
    if (!t)
        return;
    remove_token(t);
    kr_pool_free(t->pool);
    token_free(t);
}

const char *kr_token_name(const struct kr_token *t)
{
    return t->name;
}

/* --- questions -------------------------------------------------------------------------------- */

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
    return reach(t, KR_NEED_LOGIN, err);
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

enum kr_token_state kr_token_state(const struct kr_token *t)
{
    return __atomic_load_n(&t->state, __ATOMIC_ACQUIRE);
}

const char *kr_token_state_name(enum kr_token_state state)
{
    static const char *const names[] = {[KR_TOKEN_NOT_ASKED] = "not asked",
                                        [KR_TOKEN_UP] = "up",
                                        [KR_TOKEN_DOWN] = "down",
                                        [KR_TOKEN_PIN_REFUSED] = "PIN refused"};

    return names[state];
}

bool kr_token_is_up(const struct kr_token *t)
{
    return kr_token_state(t) == KR_TOKEN_UP;
}

bool kr_token_worth_trying(const struct kr_token *t)
{
    const enum kr_token_state state = __atomic_load_n(&t->state, __ATOMIC_ACQUIRE);

    return state == KR_TOKEN_UP || state == KR_TOKEN_NOT_ASKED ||
           kr_now_ms() >= __atomic_load_n(&t->retry_at, __ATOMIC_RELAXED);
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
        .evictions = __atomic_load_n(&s->evictions, __ATOMIC_RELAXED),
        .sessions = __atomic_load_n(&s->sessions, __ATOMIC_RELAXED),
    };
}

static void count(uint64_t *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

void kr_token_count_wrap(struct kr_token *t)
{
    count(&t->stats.wraps);
}

void kr_token_count_unwrap(struct kr_token *t)
{
    count(&t->stats.unwraps);
}

void kr_token_count_resident(struct kr_token *t)
{
    count(&t->stats.resident_operations);
}
