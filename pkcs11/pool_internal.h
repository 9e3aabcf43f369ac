/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the files of the pool share: pool.c (seats), connect.c (the connection), login.c. */
#ifndef P11K_PKCS11_POOL_INTERNAL_H
#define P11K_PKCS11_POOL_INTERNAL_H

#include "pkcs11/pool.h"

#include <pthread.h>

struct kr_pool {
    const struct kr_token_options *options;
    struct kr_token_stats *stats;
    struct kr_module *module;

    pthread_mutex_t lock; /* of everything below, but for what belongs to the taker of a seat */
    pthread_cond_t changed;

    struct kr_seat *seats;
    unsigned size, taken;
    unsigned limit;       /* how many sessions the token allows now; at least one */
    uint64_t limit_until; /* kr_now_ms(); 0: it is the token's own, or the configured one */

    bool attached, connected, seen;
    bool in_use;             /* of the module, see kr_module_use() */
    unsigned epoch;          /* the module's, of all sessions */
    bool served;             /* this connection did something that the login is needed for */
    bool restart;            /* one did not: the module must start anew */
    bool rebuilding;         /* one caller has everything */
    unsigned failures;       /* how often that failed, and the last time: */
    struct kr_error failure; /* ... this was why */
    bool failure_hung;
    CK_FUNCTION_LIST *p11;
    CK_SLOT_ID slot;

    bool logged_in, searching;
    struct kr_keys *keys;
    unsigned keys_epoch; /* changes when the keys are forgotten */
};

/* Adds to a counter that may be read at any time. */
void kr_pool_count(uint64_t *counter, int64_t n);

KR_MUST_USE enum kr_status kr_pool_fail_busy(const struct kr_pool *pool, struct kr_error *err);

/* --- under the lock --------------------------------------------------------------------------- */

/* Waits for a change. False when the time is up. */
bool kr_pool_wait(struct kr_pool *pool, uint64_t deadline);
unsigned kr_pool_count_open(const struct kr_pool *pool);
void kr_pool_forget_keys(struct kr_pool *pool);
void kr_seat_set_open(struct kr_seat *seat, bool open);
/* A free seat, if possible one whose session is open; NULL without one. */
struct kr_seat *kr_seat_take(struct kr_pool *pool);
void kr_seat_give(struct kr_seat *seat);
/* Leaves the module to other connections while this one is lost and makes no calls. */
void kr_pool_rest(struct kr_pool *pool);

/* Finds the token and opens a session on a seat, when nobody else has one; the lock is left
 * meanwhile (connect.c). */
KR_MUST_USE enum kr_status kr_pool_connect(struct kr_pool *pool, struct kr_seat **ret,
                                           bool *ret_hung, struct kr_error *err);
/* Closes all sessions and leaves the module; not under the lock. */
void kr_pool_disconnect(struct kr_pool *pool);

#endif
