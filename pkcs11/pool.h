/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The pool of a connection: seats, each with a worker and its session, opened when they are needed
 * and used by one caller at a time; and what all of them share: the module, the slot, the login and
 * the handles of keys. Whoever finds the token lost rebuilds all of it alone, when everybody else
 * has left their seat; so whoever sits knows that nothing is exchanged underneath.
 */
#ifndef P11K_PKCS11_POOL_H
#define P11K_PKCS11_POOL_H

#include "pkcs11/session.h"

struct kr_pool;

struct kr_seat {
    struct kr_pool *pool;
    struct kr_worker *worker; /* NULL: none yet, or it was written off */
    bool taken;
    bool open; /* its session can be used; its handle: */
    CK_SESSION_HANDLE handle;

    /* of the caller who has it */
    uint64_t deadline;    /* kr_now_ms() at which waiting for others ends */
    struct kr_keys *keys; /* what its last job knew of them */
    enum kr_loss lost;    /* the worst of all its jobs */
    bool hung, served;    /* it did something that the login is needed for */
};

/* `options` and `stats` are borrowed. No call is made. */
KR_MUST_USE enum kr_status kr_pool_new(struct kr_module *module,
                                       const struct kr_token_options *options,
                                       struct kr_token_stats *stats, struct kr_pool **ret,
                                       struct kr_error *err);
/* Closes the sessions, leaves the module, ends the workers. NULL is accepted. */
void kr_pool_free(struct kr_pool *pool);

/* In the child of a fork: the workers stayed with the parent, and what they owned may be half
 * changed. It is left where it is, and the next call starts afresh. */
void kr_pool_after_fork(struct kr_pool *pool);

/* Takes a seat, waiting for one until `deadline`. Without a connection the caller makes it, and
 * those who waited meanwhile share its failure. KR_TOKEN_UNAVAILABLE, with *ret_hung when a call
 * hung; and what connecting may fail with. */
KR_MUST_USE enum kr_status kr_pool_enter(struct kr_pool *pool, uint64_t deadline,
                                         struct kr_seat **ret, bool *ret_hung,
                                         struct kr_error *err);

/* Opens the seat's session if it has none. *ret_crowded tells that the token has no more sessions
 * than the others of the pool: then another seat must be waited for. */
KR_MUST_USE enum kr_status kr_seat_open(struct kr_seat *seat, bool *ret_crowded,
                                        struct kr_error *err);

/* Runs a job on the seat's worker, with the keys that are known. */
KR_MUST_USE enum kr_status kr_seat_run(struct kr_seat *seat, struct kr_job *job,
                                       struct kr_error *err);

/* Sees that the process is logged in, one caller at a time. */
KR_MUST_USE enum kr_status kr_seat_log_in(struct kr_seat *seat, struct kr_error *err);

/* Searches the token's keys unless somebody else has done so since the seat's last job. */
KR_MUST_USE enum kr_status kr_seat_search(struct kr_seat *seat, struct kr_error *err);

/* Gives the seat back, after taking away from the pool what was lost. True when this ended the
 * connection: then the next who enters makes it anew. */
bool kr_pool_leave(struct kr_seat *seat, enum kr_loss lost);

/* Gets a job done on a seat of its own (retry.c), within about `timeout_ms` for each thing that it
 * has to wait for. `may_wait`: an operation with keys may wait for a token that went away. */
enum kr_need { KR_NEED_SESSION, KR_NEED_LOGIN };
KR_MUST_USE enum kr_status kr_pool_run(struct kr_pool *pool, enum kr_need need, bool may_wait,
                                       struct kr_job *job, unsigned timeout_ms,
                                       struct kr_error *err);

/* Whether there was a connection once. */
bool kr_pool_seen(struct kr_pool *pool);

/* The child of a fork logs in for itself. */
void kr_login_after_fork(void);

#endif
