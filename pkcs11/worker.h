/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The worker: one thread that makes all Cryptoki calls of a session and owns everything that they
 * change (struct kr_session). A caller hands it a job and waits until the job is done or one call
 * in it has lasted longer than the timeout. In the second case the worker is written off: when its
 * call ever returns it closes its session, so that the token does not run out of them, frees what
 * it owns and ends.
 *
 * A job and its arguments belong to caller and worker together and are freed by whoever lets go
 * last, so that a caller who gave up leaves no dangling pointer. They are secret memory.
 */
#ifndef P11K_PKCS11_WORKER_H
#define P11K_PKCS11_WORKER_H

#include "pkcs11/module.h"

#include <stddef.h>
#include <stdint.h>

struct kr_keys;
struct kr_session;
struct kr_worker;

/* What went away underneath a job, from the least to the most. */
enum kr_loss {
    KR_LOST_NOTHING,
    KR_LOST_KEYS,    /* the handles of keys: they must be searched again */
    KR_LOST_LOGIN,   /* and we must log in again */
    KR_LOST_TIME,    /* the token was too busy, or failed without a reason */
    KR_LOST_SESSION, /* the session is not to be used any more */
    KR_LOST_TOKEN    /* the token or the module went away */
};

/* Runs on the worker. `args` holds inputs and outputs; it may be run a second time. */
typedef enum kr_status (*kr_job_run)(struct kr_session *session, void *args, struct kr_error *err);

/* Frees what `args` points to. */
typedef void (*kr_job_clear)(void *args);

struct kr_job {
    kr_job_run run;
    kr_job_clear clear; /* or NULL */
    enum kr_status status;
    struct kr_error err;
    enum kr_loss lost;
    uint64_t searches;    /* C_FindObjectsInit calls made */
    unsigned timeout_ms;  /* of each of its calls; 0: the worker's */
    unsigned patience_ms; /* how long a token that went away is waited for; 0: the timeout */
    struct kr_keys *keys; /* known before; known after */
    bool keys_fresh;      /* no search would find more than `keys` */
    bool wants_keys;      /* it failed for want of a (fresh) search */
    bool forget_keys;     /* it made or destroyed one */
    int refs;
    bool done;
    _Alignas(max_align_t) unsigned char args[];
};

/* Zeroed arguments of `size` bytes in job->args; NULL when out of memory. */
struct kr_job *kr_job_new(size_t size, kr_job_run run, kr_job_clear clear);
void kr_job_cleanup(struct kr_job **job);
#define KR_JOB __attribute__((cleanup(kr_job_cleanup)))

/* Starts a thread with all signals blocked, so that none of a server's land there. KR_INTERNAL. */
KR_MUST_USE enum kr_status kr_worker_start(struct kr_module *module, const char *uri,
                                           unsigned timeout_ms, struct kr_worker **ret,
                                           struct kr_error *err);

/* The job's status, with `err` filled; on a timeout KR_TOKEN_UNAVAILABLE with *ret_hung set: then
 * the worker is gone for the caller. One caller at a time. */
KR_MUST_USE enum kr_status kr_worker_run(struct kr_worker *worker, struct kr_job *job,
                                         bool *ret_hung, struct kr_error *err);

/* What the worker owns; to be touched by others only while it is idle. */
struct kr_session *kr_worker_session(struct kr_worker *worker);

/* Ends an idle worker and waits for its thread; it makes no more calls. */
void kr_worker_stop(struct kr_worker *worker);

/* --- on the worker thread --------------------------------------------------------------------- */

/* Stamps the start of a call that may hang; false when the worker was written off: then it must not
 * be made. `function` is static text. */
bool kr_call_begin(struct kr_worker *worker, const char *function);
/* False when the worker was written off meanwhile. */
bool kr_call_end(struct kr_worker *worker);

unsigned kr_worker_timeout(const struct kr_worker *worker);

#endif
