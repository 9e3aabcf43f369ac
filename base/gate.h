/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A gate that work goes through until it is shut; shutting it waits for the work inside. */
#ifndef P11K_BASE_GATE_H
#define P11K_BASE_GATE_H

#include <pthread.h>
#include <stdbool.h>

struct kr_gate {
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t left;
    unsigned inside;
    bool shut;
};

void kr_gate_init(struct kr_gate *gate);
void kr_gate_destroy(struct kr_gate *gate);

/* False while the gate is shut; otherwise it is left again. */
bool kr_gate_enter(struct kr_gate *gate);
void kr_gate_leave(struct kr_gate *gate);

/* Nothing enters any more, and nothing is inside. False, with the gate open again, when what is
 * inside has not left within `timeout_ms`. */
bool kr_gate_shut(struct kr_gate *gate, unsigned timeout_ms);
void kr_gate_open(struct kr_gate *gate);

bool kr_gate_is_shut(struct kr_gate *gate);

#endif
