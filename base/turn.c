/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Taking turns with a bounded wait. */
#include "base/turn.h"

#include "base/clock.h"

void kr_turn_init(struct kr_turn *turn)
{
    pthread_mutex_init(&turn->lock, NULL);
    kr_cond_init(&turn->given);
    turn->taken = false;
}

void kr_turn_destroy(struct kr_turn *turn)
{
    pthread_cond_destroy(&turn->given);
    pthread_mutex_destroy(&turn->lock);
}

bool kr_turn_take(struct kr_turn *turn, unsigned timeout_ms)
{
    struct timespec deadline = kr_deadline(timeout_ms);
    pthread_mutex_lock(&turn->lock);
    while (turn->taken && pthread_cond_timedwait(&turn->given, &turn->lock, &deadline) == 0)
        ;
    bool mine = !turn->taken;
    turn->taken = true;
    pthread_mutex_unlock(&turn->lock);
    return mine;
}

void kr_turn_give(struct kr_turn *turn)
{
    pthread_mutex_lock(&turn->lock);
    turn->taken = false;
    pthread_cond_signal(&turn->given);
    pthread_mutex_unlock(&turn->lock);
}
