/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Pieces of work that do not depend on each other, done by several threads: envelopes that a token
 * wraps or opens, each on a session of its own. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_CREW_H
#define P11K_PROVIDER_CREW_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

struct kr_crew {
    unsigned threads;
    size_t count; /* of the pieces, numbered from 0 and begun in that order */
    enum kr_status (*work)(void *context, size_t piece, struct kr_error *err); /* on any thread */
    /* Several times a second, on the caller's thread; false: no other piece is begun. May be NULL.
     */
    bool (*go_on)(void *context, size_t begun, size_t done);
    void *context;
};

/* Ends when every piece that was begun has ended. After the first failure, which is returned, no
 * other piece is begun. */
KR_MUST_USE enum kr_status kr_crew_run(const struct kr_crew *crew, struct kr_error *err);

#endif
