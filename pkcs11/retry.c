/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Getting a job done: on a seat of the pool, logged in where that is needed, and once more where
 * that helps. What a failed attempt lost says what is given up before the next one: handles, the
 * login, the session or the connection. A cheap remedy that did not help is followed by a dearer
 * one, and after the first the attempts keep a growing distance.
 */
#include "pkcs11/pool.h"

#include "base/clock.h"
#include "base/log.h"

#include <p11-kit/pkcs11.h>

#include <openssl/rand.h>

#include <time.h>

enum {
    QUICK_TRIES = 3,  /* for those who do not wait for a token to come back */
    VAGUE_TRIES = 5,  /* a failure without a reason, of a token that answers */
    CHEAP_TRIES = 2,  /* then the connection is built anew, */
    REBUILDS_MAX = 2, /* but only so often for a failure that it does not mend */
    SEARCHES_MAX = 3, /* of one attempt */
    PAUSE_FIRST_MS = 20,
    PAUSE_MAX_MS = 400,
};

/* A job's attempts. */
struct trial {
    uint64_t deadline;
    bool patient; /* waits for a token that went away, until the deadline */
    unsigned tries, rebuilds;
    enum kr_loss lost; /* by the last attempt */
    bool vague;        /* the token answers, and still failed */
    bool unreachable;  /* there was no connection to be had */
    bool hung;
};

/* Runs a job that may have to be preceded by a search; what is found may be forgotten at once,
 * because of others. */
static enum kr_status run_with_keys(struct kr_seat *seat, struct kr_job *job, struct kr_error *err)
{
    enum kr_status status;

    job->keys_fresh = false;
    for (unsigned searches = 0;; searches++) {
        status = kr_seat_run(seat, job, err);
        if (status == KR_OK || seat->hung || !job->wants_keys)
            return status;
        if (searches == SEARCHES_MAX)
            break;
        KR_TRY(kr_seat_search(seat, err));
        job->keys_fresh = true;
    }
    seat->lost = KR_LOST_KEYS;
    kr_hint(err, "try again: others were changing the keys of the token");
    return err->status = KR_TOKEN_UNAVAILABLE;
}

/* One attempt on a seat; what it lost is seat->lost. */
static enum kr_status use_seat(struct kr_seat *seat, enum kr_need need, struct kr_job *job,
                               bool *ret_crowded, struct kr_error *err)
{
    KR_TRY(kr_seat_open(seat, ret_crowded, err));
    if (need == KR_NEED_LOGIN)
        KR_TRY(kr_seat_log_in(seat, err));
    return run_with_keys(seat, job, err);
}

/* A full token stays full. */
static bool may_pass(const struct kr_error *err)
{
    return err->status == KR_TOKEN_UNAVAILABLE && err->ckr != CKR_DEVICE_MEMORY;
}

/* What to give up because of an attempt. */
static enum kr_loss judge(struct trial *t, enum kr_status status, enum kr_loss lost,
                          const struct kr_error *err)
{
    if (status == KR_OK)
        return lost;
    t->vague = lost == KR_LOST_NOTHING && may_pass(err);
    if (t->vague)
        lost = t->tries == 0 ? KR_LOST_SESSION : KR_LOST_TIME;
    if (lost != KR_LOST_NOTHING && t->tries >= CHEAP_TRIES && t->rebuilds < REBUILDS_MAX)
        lost = KR_LOST_TOKEN;
    if (lost == KR_LOST_TOKEN)
        t->rebuilds++;
    return lost;
}

static enum kr_status attempt(struct kr_pool *pool, struct trial *t, enum kr_need need,
                              struct kr_job *job, struct kr_error *err)
{
    enum kr_status status;
    bool crowded;

    t->unreachable = false;
    t->lost = KR_LOST_NOTHING;
    do {
        struct kr_seat *seat = NULL;

        crowded = false;
        status = kr_pool_enter(pool, t->deadline, &seat, &t->hung, err);
        if (status != KR_OK) {
            t->unreachable = true;
            return status;
        }
        status = use_seat(seat, need, job, &crowded, err);
        t->hung = seat->hung;
        seat->served = status == KR_OK && need == KR_NEED_LOGIN;
        t->lost = crowded || t->hung ? KR_LOST_NOTHING : judge(t, status, seat->lost, err);
        if (kr_pool_leave(seat, t->lost))
            kr_log(KR_LOG_NOTE, "the token failed (%s): connecting again", err->text);
    } while (crowded);
    return status;
}

/* Never after a call that hung, for the caller has waited; never after a refused PIN. */
static bool try_again(const struct trial *t, enum kr_status status)
{
    const bool waits = t->patient && status == KR_TOKEN_UNAVAILABLE && kr_now_ms() < t->deadline;

    if (status == KR_OK || status == KR_AUTH || t->hung)
        return false;
    if (t->unreachable)
        return waits;
    if (t->vague)
        return t->tries < (t->patient ? VAGUE_TRIES : QUICK_TRIES);
    return t->lost != KR_LOST_NOTHING && (t->tries < QUICK_TRIES || waits);
}

/* Grows, bounded; with a jitter, so that those who failed together do not come back together. */
static unsigned pause_ms(const struct trial *t)
{
    unsigned ms = PAUSE_FIRST_MS;
    unsigned char random = 0;

    for (unsigned i = 1; i < t->tries && ms < PAUSE_MAX_MS; i++)
        ms *= 2;
    if (ms > PAUSE_MAX_MS)
        ms = PAUSE_MAX_MS;
    if (RAND_bytes(&random, 1) != 1)
        random = 128;
    return ms * (192 + random / 2U) / 256; /* 75 % to 125 % */
}

static void pause_before_next(const struct trial *t)
{
    const bool at_once = t->tries == 1 && !t->unreachable && !t->vague && t->lost != KR_LOST_TIME;
    struct timespec pause;

    if (at_once)
        return;
    pause = (struct timespec){.tv_nsec = pause_ms(t) * 1000000L};
    nanosleep(&pause, NULL);
}

/* An operation that failed may stay active where the token does not end it, which the next attempt
 * meets: what failed first is to be told. */
static enum kr_status tell_cause(enum kr_status status, struct kr_error *cause,
                                 struct kr_error *err)
{
    if (status == KR_OK)
        return KR_OK;
    if (err->ckr == CKR_OPERATION_ACTIVE && cause->status != KR_OK)
        *err = *cause;
    *cause = *err;
    return err->status;
}

enum kr_status kr_pool_run(struct kr_pool *pool, enum kr_need need, bool may_wait,
                           struct kr_job *job, unsigned timeout_ms, struct kr_error *err)
{
    const bool hasty = job->patience_ms > 0 && job->patience_ms < timeout_ms;
    struct trial t = {
        .deadline = kr_now_ms() + (hasty ? job->patience_ms : timeout_ms),
        .patient = may_wait && need == KR_NEED_LOGIN && kr_pool_seen(pool),
    };
    struct kr_error cause = KR_ERROR_INIT;
    enum kr_status status = attempt(pool, &t, need, job, err);

    status = tell_cause(status, &cause, err);
    while (t.tries++, try_again(&t, status)) {
        pause_before_next(&t);
        status = attempt(pool, &t, need, job, err);
        status = tell_cause(status, &cause, err);
    }
    return status;
}
