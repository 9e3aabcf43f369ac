/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The PIN guard: a wrong PIN is tried once, by one process, never again.
 *
 * A small file beside the keystore (KR_GUARD_SUFFIX), shared by every process that may log in.
 * Under an exclusive lock an attempt is written and fsynced before C_Login, its outcome after it. A
 * refused PIN blocks every later attempt until the PIN source's identity changes
 * (base/pin_source.h) or an admin clears the guard (`p11keyring token unguard`). An attempt whose
 * outcome was never written (killed, hung) blocks only if the token itself reports a wrong PIN
 * since the last good login (CKF_USER_PIN_COUNT_LOW). Written as root, the file gets the owner of
 * its directory's keystore, so that a server is never locked out.
 */
#ifndef P11K_PKCS11_PIN_GUARD_H
#define P11K_PKCS11_PIN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define KR_GUARD_SUFFIX ".pin-guard"

/* The identity that stands for a token's own PIN pad: only an admin lifts its guard. */
#define KR_GUARD_PIN_PAD "pin-pad"

struct kr_pin_guard; /* holds the lock */

enum kr_guard_outcome {
    KR_GUARD_ACCEPTED,
    KR_GUARD_REFUSED,
    KR_GUARD_NOT_TRIED, /* C_Login was not called: the record of the attempt is taken back */
    KR_GUARD_UNKNOWN    /* C_Login did not return: the attempt stays without an outcome */
};

/* Locks `path` (waiting at most `timeout_ms`), checks that `token_id` (model/serial/label) may be
 * tried with the source `identity`, and records the attempt. `count_low` is the token's flag.
 * KR_AUTH when guarded, KR_IO when it cannot be recorded: then no login may happen. */
KR_MUST_USE enum kr_status kr_pin_guard_begin(const char *path, const char *token_id,
                                              const char *identity, bool count_low,
                                              unsigned timeout_ms, struct kr_pin_guard **ret,
                                              struct kr_error *err);

/* Records the outcome, unlocks, frees. */
void kr_pin_guard_end(struct kr_pin_guard *guard, enum kr_guard_outcome outcome);

/* Reads the state without changing it: KR_OK with *ret_guarded; `ret_since` is unix seconds. A
 * missing file is not guarded. */
KR_MUST_USE enum kr_status kr_pin_guard_query(const char *path, const char *token_id,
                                              const char *identity, bool *ret_guarded,
                                              int64_t *ret_since, struct kr_error *err);

/* Forgets every refusal of `token_id`; *ret_cleared tells whether there was one. */
KR_MUST_USE enum kr_status kr_pin_guard_clear(const char *path, const char *token_id,
                                              unsigned timeout_ms, bool *ret_cleared,
                                              struct kr_error *err);

#endif
