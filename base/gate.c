/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A gate that can be shut. */
#include "base/gate.h"

#include "base/clock.h"

void kr_gate_init(struct kr_gate *gate)
{
    pthread_mutex_init(&gate->lock, NULL);
    kr_cond_init(&gate->left);
    gate->inside = 0;
    gate->shut = false;
}

void kr_gate_destroy(struct kr_gate *gate)
{
    pthread_cond_destroy(&gate->left);
    pthread_mutex_destroy(&gate->lock);
}

bool kr_gate_enter(struct kr_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    bool open = !gate->shut;
    gate->inside += open;
    pthread_mutex_unlock(&gate->lock);
    return open;
}

void kr_gate_leave(struct kr_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    if (--gate->inside == 0)
        pthread_cond_broadcast(&gate->left);
    pthread_mutex_unlock(&gate->lock);
}

bool kr_gate_shut(struct kr_gate *gate, unsigned timeout_ms)
{
    struct timespec deadline = kr_deadline(timeout_ms);
    pthread_mutex_lock(&gate->lock);
    gate->shut = true;
    while (gate->inside > 0 && pthread_cond_timedwait(&gate->left, &gate->lock, &deadline) == 0)
        ;
    gate->shut = gate->inside == 0;
    bool shut = gate->shut;
    pthread_mutex_unlock(&gate->lock);
    return shut;
}

void kr_gate_open(struct kr_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->shut = false;
    pthread_mutex_unlock(&gate->lock);
}

bool kr_gate_is_shut(struct kr_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    bool shut = gate->shut;
    pthread_mutex_unlock(&gate->lock);
    return shut;
}
