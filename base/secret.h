/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The one allocator for secrets (PINs, data keys, sealing keys).
 *
 * Memory comes from arenas that are locked (mlock), kept out of core dumps (MADV_DONTDUMP) and
 * wiped when freed. Where RLIMIT_MEMLOCK is too low the policy decides: KR_LOCK_WARN (default)
 * goes on with memory that is not dumped but may be swapped, and says so once in the log;
 * KR_LOCK_REQUIRE makes the allocation fail, and says why once. Thread-safe. After a fork the
 * child has its copy of every secret, locked anew as far as its limit allows.
 */
#ifndef P11K_BASE_SECRET_H
#define P11K_BASE_SECRET_H

#include <stddef.h>

#include "base/status.h"

enum kr_lock_policy { KR_LOCK_WARN, KR_LOCK_REQUIRE };

struct kr_secret_stats {
    size_t locked_bytes;   /* arena memory that is locked */
    size_t unlocked_bytes; /* arena memory that could not be locked */
    size_t used_bytes;     /* handed out at this moment, rounded up to granules of 32 bytes */
};

/* Process-wide; set it before the first allocation. */
void kr_secret_set_policy(enum kr_lock_policy policy);

/* Zeroed memory of at least `size` bytes (1..16 MiB), aligned to 32, or NULL. Free with
 * kr_secret_free(). One call is cheap, a thousand small secrets in one slab are cheaper. */
void *kr_secret_alloc(size_t size);

/* The failure of kr_secret_alloc() or kr_secret_dup(): KR_INTERNAL, with a hint where the lock
 * limit may be the cause. */
enum kr_status kr_fail_secret(struct kr_error *err);

/* Wipes and frees; NULL is accepted. Aborts on a pointer that is not (or no longer) a secret. */
void kr_secret_free(void *secret);

/* A locked copy of `len` bytes plus a terminating NUL that is not counted; NULL on failure. */
char *kr_secret_dup(const void *bytes, size_t len);

/* Wipes memory that the compiler may not optimise away. */
void kr_wipe(void *bytes, size_t len);

void kr_secret_get_stats(struct kr_secret_stats *ret);

/* For __attribute__((cleanup)): `KR_SECRET char *pin = ...;` */
void kr_secret_cleanup(void *pointer_to_pointer);
#define KR_SECRET __attribute__((cleanup(kr_secret_cleanup)))

#endif
