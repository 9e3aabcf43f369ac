/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * AES-256-ECB and AES-256-CBC, the two ciphers in which a handle has a meaning. A context is in
 * one of two lives: with a key it passes every call on to the inner provider's context, with a
 * handle it passes nothing on.
 */
#ifndef P11K_PROVIDER_OPENSSL_HANDLE_CIPHER_H
#define P11K_PROVIDER_OPENSSL_HANDLE_CIPHER_H

#include <openssl/core_dispatch.h>

enum kr_handle_cipher { KR_HANDLE_CIPHER_ECB, KR_HANDLE_CIPHER_CBC, KR_HANDLE_CIPHERS };

/* The inner cipher's functions, indexed by OSSL_FUNC_CIPHER_*. All that OpenSSL 3.0 knows; later
 * ones, which may take a key in another way, are not offered. */
enum { KR_CIPHER_FUNCTIONS = OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS + 1 };
typedef void kr_function(void);

/* The functions to put in place of the inner cipher's, ended by {0, NULL}; NULL when one of those
 * is missing. Serialised by the caller; the answer stays valid for the process. */
const OSSL_DISPATCH *kr_handle_cipher_over(enum kr_handle_cipher kind, kr_function *const *inner);

#endif
