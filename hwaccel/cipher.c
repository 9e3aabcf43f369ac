/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Names of the page ciphers. */
#include "hwaccel/cipher.h"

#include <stddef.h>
#include <string.h>

static const char *const names[] = {
    [KR_CIPHER_AES_CBC] = "aes-cbc", [KR_CIPHER_AES_CTR] = "aes-ctr"};

enum { NAMES = sizeof(names) / sizeof(names[0]) };

const char *kr_cipher_name(enum kr_cipher cipher)
{
    return (unsigned)cipher < NAMES ? names[cipher] : NULL;
}

bool kr_cipher_parse(const char *name, enum kr_cipher *ret)
{
    for (unsigned i = 0; i < NAMES; i++) {
        if (names[i] && strcmp(names[i], name) == 0) {
            *ret = (enum kr_cipher)i;
            return true;
        }
    }
    return false;
}
