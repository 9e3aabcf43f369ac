/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Pages by plain EVP, one operation after the other with kept contexts, as servers do it: what whole
 * files through the bulk pipeline are compared with. */
#ifndef P11K_TESTS_EVP_PAGE_H
#define P11K_TESTS_EVP_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

/* "AES-256-CBC" and so on, without padding. Ends the program on failure. */
EVP_CIPHER_CTX *evp_page_open(const char *cipher, const uint8_t *key, bool encrypt);

/* In place. */
bool evp_page_run(EVP_CIPHER_CTX *evp, const uint8_t *iv, uint8_t *bytes, size_t len);

/* As mysqld does it: all whole blocks, then the last 32 bytes of the page once more. */
bool evp_page_mysql_encrypt(EVP_CIPHER_CTX *evp, const uint8_t *iv, uint8_t *page, size_t size);
bool evp_page_mysql_decrypt(EVP_CIPHER_CTX *evp, const uint8_t *iv, uint8_t *page, size_t size);

#endif
