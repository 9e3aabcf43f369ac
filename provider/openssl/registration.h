/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The function that the keyring registered in this process, and the count of its calls. A lock is
 * taken for an operation with a handle, never held during it, and never taken without a handle.
 */
#ifndef P11K_PROVIDER_OPENSSL_REGISTRATION_H
#define P11K_PROVIDER_OPENSSL_REGISTRATION_H

#include <stdbool.h>

#include "handle.h"

/* To be called once before the others; keeps the registration out of forked children. */
bool kr_registration_start(void);

/* KR_FUNC_REGISTER and KR_FUNC_COUNTERS. */
int kr_registration_set(kr_handle_function function, void *context);
void kr_registration_counters(struct kr_handle_counters *ret);

void kr_registration_count_refused(void);

/* Runs the operation by the registered function: 1, or 0 with the reason on the error stack. */
int kr_registration_perform(const uint8_t handle[KR_HANDLE_BYTES], enum kr_handle_op op,
                            const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out);

#endif
