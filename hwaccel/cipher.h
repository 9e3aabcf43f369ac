/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The page ciphers and their names, as recorded with each key version. */
#ifndef P11K_HWACCEL_CIPHER_H
#define P11K_HWACCEL_CIPHER_H

#include <stdbool.h>

enum kr_cipher {
    KR_CIPHER_AES_CBC = 1, /* "aes-cbc": MariaDB's aes_cbc, its default */
    KR_CIPHER_AES_CTR = 2  /* "aes-ctr": MariaDB's aes_ctr */
};

/* Static text; NULL for an unknown number. */
const char *kr_cipher_name(enum kr_cipher cipher);
bool kr_cipher_parse(const char *name, enum kr_cipher *ret);

#endif
