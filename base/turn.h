/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Taking turns with a bounded wait: a lock whose waiters give up after a time. */
#ifndef P11K_BASE_TURN_H
#define P11K_BASE_TURN_H

#include <pthread.h>
#include <stdbool.h>

struct kr_turn {
    pthread_mutex_t lock; /* of `taken` */
    pthread_cond_t given;
    bool taken;
};

/* Also for the child of a fork, whose turn may have been another thread's. */
void kr_turn_init(struct kr_turn *turn);
void kr_turn_destroy(struct kr_turn *turn);

/* False when it was not to be had within `timeout_ms`. Not recursive. */
bool kr_turn_take(struct kr_turn *turn, unsigned timeout_ms);
void kr_turn_give(struct kr_turn *turn);

#endif
