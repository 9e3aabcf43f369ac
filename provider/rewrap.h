/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Bringing envelopes up to date: each one that is not wrapped by exactly the current master keys is
 * wrapped anew, the newest first. In batches: read without a lock that outlives the reading,
 * wrapped by many threads, stored in one short transaction. A row that changed in between is left
 * to who changed it, and a batch is dropped when the master keys changed, so that it may run at the
 * same time as servers and as another one of its kind. It may be killed anywhere: the next run goes
 * on with what is left. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_REWRAP_H
#define P11K_PROVIDER_REWRAP_H

#include "provider/keyring_internal.h"
#include "provider/life.h"

/* Visits the manifest key's envelope as a row, then all the others, the newest first. */
KR_MUST_USE enum kr_status kr_each_envelope(struct kr_keyring *keyring,
                                            struct kr_keystore *keystore, kr_version_visitor visit,
                                            void *context, struct kr_error *err);

/* How far the envelopes, the manifest key's among them, are up to date. */
struct kr_rewrap_state {
    uint64_t envelopes;
    uint64_t outdated; /* not wrapped by exactly the current master keys */
    uint64_t old;      /* of those: wrapped by an old master key */
    uint64_t named;    /* naming `master` */
};

/* In a view or a transaction of `keystore`. The caller holds the keyring's lock; the keyring knows
 * the master keys. `master` may be NULL. */
KR_MUST_USE enum kr_status kr_rewrap_survey(struct kr_keyring *keyring,
                                            struct kr_keystore *keystore,
                                            const struct kr_object_id *master,
                                            struct kr_rewrap_state *ret, struct kr_error *err);

struct kr_rewrap_options {
    unsigned threads;
    size_t batch; /* most envelopes of one batch; 0: as many as memory allows */
    bool once;    /* one batch that takes no longer than it must, not all of them */
    kr_progress_function progress;
    void *context;
};

struct kr_rewrap_result {
    uint64_t rewrapped;
    uint64_t waiting; /* not up to date, and a token that would be needed is away */
    uint64_t left;    /* could be brought up to date, but were not: interrupted, or `once` */
    bool interrupted; /* by the progress function */
};

/* The caller does not hold the keyring's lock: it is taken for reading and for storing only. After
 * a failure *ret tells what was done before. */
KR_MUST_USE enum kr_status kr_rewrap(struct kr_keyring *keyring,
                                     const struct kr_rewrap_options *options,
                                     struct kr_rewrap_result *ret, struct kr_error *err);

#endif
