/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Names and kinds of the page ciphers. */
#include "hwaccel/cipher.h"

#include <stddef.h>
#include <string.h>

static const char *const names[] = {[KR_CIPHER_AES_CBC] = "aes-cbc",
                                    [KR_CIPHER_AES_CTR] = "aes-ctr",
                                    [KR_CIPHER_AES256_CBC] = "aes256-cbc",
                                    [KR_CIPHER_AES256_CTR] = "aes256-ctr"};

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

enum kr_cipher kr_cipher_base(enum kr_cipher cipher)
{
    switch (cipher) {
    case KR_CIPHER_AES256_CBC:
        return KR_CIPHER_AES_CBC;
    case KR_CIPHER_AES256_CTR:
        return KR_CIPHER_AES_CTR;
    default:
        return cipher;
    }
}

bool kr_cipher_derives(enum kr_cipher cipher)
{
    return kr_cipher_base(cipher) != cipher;
}

bool kr_cipher_takes(enum kr_cipher cipher, size_t key_len)
{
    return key_len == 32 || (!kr_cipher_derives(cipher) && (key_len == 16 || key_len == 24));
}
