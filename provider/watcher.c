/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The watcher: one thread per keyring that takes over what other processes commit, and looks at the
 * token now and then so that its state is known before somebody needs it. It also brings envelopes
 * up to date when a token comes back.
 */
#include "provider/sync.h"

#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { PROBE_INTERVAL_MS = 2000 };

struct kr_watcher {
    struct kr_keyring *keyring;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
};

/* --- forks ------------------------------------------------------------------------------------ */

/* A fork waits a little until no watcher is at work: in the child, locks of SQLite or of a module
 * that another thread held would never be given back. */
enum { FORK_WAITS_MS = 2000 };

static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fork_changed; /* of what follows */
static unsigned at_work;
static bool forking;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void begin_work(void)
{
    pthread_mutex_lock(&fork_lock);
    while (forking)
        pthread_cond_wait(&fork_changed, &fork_lock);
    at_work++;
    pthread_mutex_unlock(&fork_lock);
}

static void end_work(void)
{
    pthread_mutex_lock(&fork_lock);
    at_work--;
    pthread_cond_broadcast(&fork_changed);
    pthread_mutex_unlock(&fork_lock);
}

static void before_fork(void)
{
    struct timespec until = kr_deadline(FORK_WAITS_MS);
    int rc = 0;
    pthread_mutex_lock(&fork_lock);
    forking = true;
    while (at_work > 0 && rc == 0)
        rc = pthread_cond_timedwait(&fork_changed, &fork_lock, &until);
}

static void after_fork_in_parent(void)
{
    forking = false;
    pthread_cond_broadcast(&fork_changed);
    pthread_mutex_unlock(&fork_lock);
}

/* The watchers stayed with the parent. */
static void after_fork_in_child(void)
{
    forking = false;
    at_work = 0;
    kr_cond_init(&fork_changed);
    pthread_mutex_unlock(&fork_lock);
}

static void watch_forks(void)
{
    kr_cond_init(&fork_changed);
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* --- watching --------------------------------------------------------------------------------- */

/* Something that can fail for a long time: said once when it begins and once when it is over. */
struct trouble {
    char what[48];
    bool now;
};

static void report(struct trouble *trouble, enum kr_status status, struct kr_error *err)
{
    if (status != KR_OK && !trouble->now) {
        kr_error_context(err, "%s", trouble->what);
        kr_log_error(KR_LOG_ERROR, err);
    } else if (status == KR_OK && trouble->now) {
        kr_log(KR_LOG_NOTE, "%s: works again", trouble->what);
    }
    trouble->now = status != KR_OK;
}

/* False when the watcher is to end. */
static bool sleep_interval(struct kr_watcher *watcher)
{
    struct timespec until = kr_deadline(watcher->keyring->poll_ms);
    pthread_mutex_lock(&watcher->lock);
    int rc = 0;
    while (!watcher->stop && rc == 0)
        rc = pthread_cond_timedwait(&watcher->wake, &watcher->lock, &until);
    bool go_on = !watcher->stop;
    pthread_mutex_unlock(&watcher->lock);
    return go_on;
}

/* Asks each token, so that its state is known also while nothing is asked of it. */
static void probe_tokens(const struct kr_tokens *tokens, struct trouble *troubles)
{
    for (size_t i = 0; i < tokens->count; i++) {
        struct kr_error err = KR_ERROR_INIT;
        struct kr_token_info info;
        report(&troubles[i], kr_token_get_info(tokens->at[i], &info, &err), &err);
    }
}

/* A token that was away is compared with, and told, as soon as it is back. */
static enum kr_status compare_generation(struct kr_keyring *keyring, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = KR_OK;
    if (kr_anchors_behind(&keyring->anchors, keyring->keystore))
        status = kr_keyring_check_generation(keyring, err);
    kr_keyring_unlock(keyring);
    return status;
}

static void sync_envelopes(struct kr_keyring *keyring, struct kr_sync *sync,
                           struct trouble *trouble)
{
    struct kr_error err = KR_ERROR_INIT;
    bool tried = false;
    enum kr_status status = kr_sync_step(sync, keyring, &tried, &err);
    if (tried)
        report(trouble, status, &err);
}

/* What a watcher remembers from one round to the next. */
struct rounds {
    struct trouble refresh, rewrap, generation, outage, token[KR_TOKENS_MAX];
    struct kr_sync sync;
    uint64_t next_probe;
};

static void init_rounds(struct rounds *rounds, const struct kr_tokens *tokens)
{
    *rounds = (struct rounds){.refresh = {.what = "taking over changes of the keystore"},
                              .rewrap = {.what = "wrapping envelopes anew"},
                              .generation = {.what = "the keystore's generation"},
                              .outage = {.what = "the start cache"}};
    for (size_t i = 0; i < tokens->count; i++)
        snprintf(rounds->token[i].what, sizeof(rounds->token[i].what), "token '%s'",
                 kr_token_name(tokens->at[i]));
}

static void go_round(struct kr_keyring *keyring, struct rounds *rounds)
{
    struct kr_error err = KR_ERROR_INIT;
    report(&rounds->refresh, kr_keyring_refresh(keyring, &err), &err);
    sync_envelopes(keyring, &rounds->sync, &rounds->rewrap);
    if (kr_now_ms() < rounds->next_probe)
        return;
    probe_tokens(&keyring->tokens, rounds->token);
    report(&rounds->generation, compare_generation(keyring, &err), &err);
    report(&rounds->outage, kr_outage_tend(keyring, &err), &err);
    rounds->next_probe = kr_now_ms() + PROBE_INTERVAL_MS;
}

static void *watch(void *arg)
{
    struct kr_watcher *watcher = arg;
    struct rounds rounds;
    init_rounds(&rounds, &watcher->keyring->tokens);
    while (sleep_interval(watcher)) {
        if (!kr_gate_enter(&watcher->keyring->gate))
            continue;
        begin_work();
        go_round(watcher->keyring, &rounds);
        end_work();
        kr_gate_leave(&watcher->keyring->gate);
    }
    return NULL;
}

/* Signals are the server's business: the thread starts with all of them blocked. */
static int start_thread(struct kr_watcher *watcher)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&watcher->thread, NULL, watch, watcher);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pthread_setname_np(watcher->thread, "p11k-watcher");
    return rc;
}

enum kr_status kr_watcher_start(struct kr_keyring *keyring, struct kr_watcher **ret,
                                struct kr_error *err)
{
    struct kr_watcher *watcher = calloc(1, sizeof(*watcher));
    if (!watcher)
        return kr_fail_memory(err);
    watcher->keyring = keyring;
    pthread_mutex_init(&watcher->lock, NULL);
    kr_cond_init(&watcher->wake);
    pthread_once(&once, watch_forks);
    if (start_thread(watcher) != 0) {
        free(watcher);
        return kr_fail(err, KR_INTERNAL, "the keystore watcher's thread could not be started");
    }
    *ret = watcher;
    return KR_OK;
}

void kr_watcher_stop(struct kr_watcher *watcher)
{
    if (!watcher)
        return;
    pthread_mutex_lock(&watcher->lock);
    watcher->stop = true;
    pthread_cond_signal(&watcher->wake);
    pthread_mutex_unlock(&watcher->lock);
    pthread_join(watcher->thread, NULL);
    pthread_cond_destroy(&watcher->wake);
    pthread_mutex_destroy(&watcher->lock);
    free(watcher);
}
