/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What `openssl enc -aes-256-cbc -md sha1` makes, as MariaDB's file_key_management reads it:
 * "Salted__" | salt 8 | AES-256-CBC of the text, padded. Key and iv are the first 48 bytes of
 * D1 | D2 | D3, where Dn = SHA-1(Dn-1 | password | salt).
 */
#ifndef P11K_FORMATS_OPENSSL_ENC_H
#define P11K_FORMATS_OPENSSL_ENC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

bool kr_openssl_enc_is(const void *bytes, size_t len);

/* *ret is secret memory, terminated. KR_INTEGRITY: another password, or damaged: there is no
 * checksum, and one of 256 wrong passwords gives nonsense instead. */
KR_MUST_USE enum kr_status kr_openssl_enc_open(const void *bytes, size_t len, const char *password,
                                               char **ret, size_t *ret_len, struct kr_error *err);

/* With a random salt. *ret is secret memory. */
KR_MUST_USE enum kr_status kr_openssl_enc_seal(const char *text, size_t len, const char *password,
                                               char **ret, size_t *ret_len, struct kr_error *err);

#endif
