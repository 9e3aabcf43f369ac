/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A server's own share in keeping envelopes up to date: what a token missed while it was away, or
 * an admin's run left undone, is wrapped anew in small steps, once nothing has changed for a while,
 * so that a run that is going on is not disturbed. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_SYNC_H
#define P11K_PROVIDER_SYNC_H

#include "provider/keyring_internal.h"

/* Zeroed: nothing was looked at yet. */
struct kr_sync {
    uint64_t refreshes;  /* changes of the keystore that were seen */
    unsigned tokens;     /* a bit for each that was up */
    uint64_t not_before; /* milliseconds; 0: nothing to do */
    uint64_t rewrapped;  /* since it was said that it begins */
    bool begun;          /* said */
    bool off;            /* the keystore cannot be written */
};

/* One step, of a fraction of a second; does nothing most of the time. *ret_tried tells whether
 * something was tried. */
KR_MUST_USE enum kr_status kr_sync_step(struct kr_sync *sync, struct kr_keyring *keyring,
                                        bool *ret_tried, struct kr_error *err);

#endif
