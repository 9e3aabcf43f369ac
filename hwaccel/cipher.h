/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The page ciphers and their names, as recorded with each key version. */
#ifndef P11K_HWACCEL_CIPHER_H
#define P11K_HWACCEL_CIPHER_H

#include <stdbool.h>
#include <stddef.h>

enum kr_cipher {
    KR_CIPHER_AES_CBC = 1,    /* "aes-cbc": MariaDB's aes_cbc, its default */
    KR_CIPHER_AES_CTR = 2,    /* "aes-ctr": MariaDB's aes_ctr */
    KR_CIPHER_AES256_CBC = 3, /* "aes256-cbc": aes-cbc under a derived key (page_key.h) */
    KR_CIPHER_AES256_CTR = 4  /* "aes256-ctr": aes-ctr under a derived key */
};
#define KR_CIPHER_NAMES "aes-cbc, aes-ctr, aes256-cbc, aes256-ctr"

/* Static text; NULL for an unknown number. */
const char *kr_cipher_name(enum kr_cipher cipher);
bool kr_cipher_parse(const char *name, enum kr_cipher *ret);

/* What runs under the derived key; a cipher that derives none is its own base. */
enum kr_cipher kr_cipher_base(enum kr_cipher cipher);
bool kr_cipher_derives(enum kr_cipher cipher);

/* Whether a data key may have this many bytes: 16, 24 or 32; a cipher that derives wants 32. */
bool kr_cipher_takes(enum kr_cipher cipher, size_t key_len);

#endif
