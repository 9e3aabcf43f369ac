/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The one allocator for secrets (PINs, data keys, sealing keys).
 *
 * Memory comes from arenas that are locked (mlock), kept out of core dumps (MADV_DONTDUMP) and
 * wiped when freed. Where RLIMIT_MEMLOCK is too low the policy decides: KR_LOCK_WARN (default)
 * goes on with memory that is not dumped but may be swapped, and says so once in the log;
 * KR_LOCK_REQUIRE makes the allocation fail. Thread-safe.
 */
#ifndef P11K_BASE_SECRET_H
#define P11K_BASE_SECRET_H

#include <stddef.h>

enum kr_lock_policy { KR_LOCK_WARN, KR_LOCK_REQUIRE };

struct kr_secret_stats {
    size_t locked_bytes;   /* arena memory that is locked */
    size_t unlocked_bytes; /* arena memory that could not be locked */
    size_t used_bytes;     /* handed out at this moment, rounded up to the allocation classes */
};

/* Process-wide; set it before the first allocation. */
void kr_secret_set_policy(enum kr_lock_policy policy);

/* Zeroed memory of at least `size` bytes (1..16 MiB), or NULL. Free with kr_secret_free(). */
void *kr_secret_alloc(size_t size);

/* Wipes and frees; NULL is accepted. */
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
