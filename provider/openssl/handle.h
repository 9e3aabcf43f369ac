/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What the MySQL component and the OpenSSL provider agree on: the form of a handle, and how the
 * component registers the function that runs an operation in the token.
 *
 * A handle stands where MySQL expects a 32-byte master key. It is the magic and 24 random bytes,
 * made new in each process and looked up in memory only; it names a key and is not one.
 */
#ifndef P11K_PROVIDER_OPENSSL_HANDLE_H
#define P11K_PROVIDER_OPENSSL_HANDLE_H

#include <stddef.h>
#include <stdint.h>

#define KR_HANDLE_BYTES 32
#define KR_HANDLE_MAGIC_BYTES 8
#define KR_HANDLE_MAGIC "\x89p11k\x0d\x0a\x1a"

/* The name under which the provider is activated and fetched (?provider=p11keyring). */
#define KR_OSSL_PROVIDER_NAME "p11keyring"

/* The exact calls of the server: InnoDB's tablespace key || iv, the binary log's file password. */
enum { KR_HANDLE_ECB_BYTES = 64, KR_HANDLE_CBC_BYTES = 32 };

enum kr_handle_op {
    KR_HANDLE_ECB_ENCRYPT,
    KR_HANDLE_ECB_DECRYPT,
    KR_HANDLE_CBC_ENCRYPT,
    KR_HANDLE_CBC_DECRYPT
};

/* Runs one operation in the token: `len` bytes (64 for ECB, 32 for CBC; `iv` is 16 bytes for CBC
 * and NULL for ECB) from `in` to `out`, which may be the same. Returns 1 on success; on 0 `out` is
 * not used. Called from any thread, with no lock held; it may use OpenSSL itself. */
typedef int (*kr_handle_function)(void *context, const uint8_t handle[KR_HANDLE_BYTES],
                                  enum kr_handle_op op, const uint8_t *iv, const uint8_t *in,
                                  size_t len, uint8_t *out);

/* Function ids in the provider's own dispatch table (OSSL_PROVIDER_get0_dispatch); far from the
 * ids of OpenSSL's core. */
#define KR_FUNC_REGISTER 0x70110001
#define KR_FUNC_COUNTERS 0x70110002

/* KR_FUNC_REGISTER: sets the function of this process, or with NULL takes it away again: then it
 * waits for calls that are under way (so never do that from inside the function). Returns 1, or 0
 * when another one is registered or still under way. All library contexts of the process share the
 * registration; a forked child starts without one. The pointer to this function stays good for the
 * life of the process, also after the provider is unloaded. */
typedef int (*kr_register_function)(kr_handle_function function, void *context);

/* KR_FUNC_COUNTERS: since the start of this process (a forked child counts from 0). One use of a
 * handle may be refused more than once, when its caller goes on after an error. */
struct kr_handle_counters {
    uint64_t performed; /* operations that the registered function did */
    uint64_t failed;    /* operations that it answered with 0 */
    uint64_t refused;   /* calls turned away: wrong form, wrong cipher, nothing registered */
};
typedef void (*kr_counters_function)(struct kr_handle_counters *ret);

#endif
