/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Pages by plain EVP. */
#include "evp_page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 38, BLOCK = 16, TYPE_AT = 24, ORIGINAL_TYPE_AT = 28, ENCRYPTED = 15 };

EVP_CIPHER_CTX *evp_page_open(const char *cipher, const uint8_t *key, bool encrypt)
{
    EVP_CIPHER *fetched = EVP_CIPHER_fetch(NULL, cipher, NULL);
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    if (!EVP_CipherInit_ex(evp, fetched, NULL, key, NULL, encrypt) ||
        !EVP_CIPHER_CTX_set_padding(evp, 0)) {
        fprintf(stderr, "error: EVP has no %s\n", cipher);
        exit(1);
    }
    EVP_CIPHER_free(fetched);
    return evp;
}

bool evp_page_run(EVP_CIPHER_CTX *evp, const uint8_t *iv, uint8_t *bytes, size_t len)
{
    int out;
    return EVP_CipherInit_ex(evp, NULL, NULL, NULL, iv, -1) &&
           EVP_CipherUpdate(evp, bytes, &out, bytes, (int)len) && out == (int)len;
}

bool evp_page_mysql_encrypt(EVP_CIPHER_CTX *evp, const uint8_t *iv, uint8_t *page, size_t size)
{
    memcpy(page + ORIGINAL_TYPE_AT, page + TYPE_AT, 2);
    memcpy(page + TYPE_AT, (const uint8_t[]){0, ENCRYPTED}, 2);
    return evp_page_run(evp, iv, page + HEADER, (size - HEADER) / BLOCK * BLOCK) &&
           evp_page_run(evp, iv, page + size - 2 * BLOCK, 2 * BLOCK);
}

bool evp_page_mysql_decrypt(EVP_CIPHER_CTX *evp, const uint8_t *iv, uint8_t *page, size_t size)
{
    memcpy(page + TYPE_AT, page + ORIGINAL_TYPE_AT, 2);
    memset(page + ORIGINAL_TYPE_AT, 0, 2);
    return evp_page_run(evp, iv, page + size - 2 * BLOCK, 2 * BLOCK) &&
           evp_page_run(evp, iv, page + HEADER, (size - HEADER) / BLOCK * BLOCK);
}
