/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * OpenSSL's default provider in a library context of our own, and what of it we offer: all of its
 * ciphers with keys of 32 bytes or more, each with some of its functions replaced.
 */
#ifndef P11K_PROVIDER_OPENSSL_INNER_H
#define P11K_PROVIDER_OPENSSL_INNER_H

#include <stdbool.h>

#include <openssl/core.h>

/* Each library context of the process that loads our provider acquires it; the last to release it
 * ends it. Thread-safe. */
bool kr_inner_acquire(void);
void kr_inner_release(void);

/* While acquired. The context of the inner provider is also ours: its functions are called with it
 * directly. */
void *kr_inner_provctx(void);
const OSSL_ALGORITHM *kr_inner_ciphers(void);

#endif
