/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Many pages and what plain EVP makes of them. */
#include "page_batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

enum { BLOCK = 16, GAP = 64 };

void page_batch_evp(const char *mode, const uint8_t *key, size_t key_len, const uint8_t *iv,
                    const uint8_t *src, uint8_t *dst, size_t len)
{
    char name[32];
    int out = 0;
    snprintf(name, sizeof(name), "AES-%zu-%s", key_len * 8, mode);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_true(EVP_EncryptInit_ex(ctx, EVP_get_cipherbyname(name), NULL, key, iv));
    EVP_CIPHER_CTX_set_padding(ctx, 0);
    if (len > 0)
        assert_true(EVP_EncryptUpdate(ctx, dst, &out, src, (int)len));
    assert_int_equal(out, len);
    EVP_CIPHER_CTX_free(ctx);
}

static void expect(struct page_batch *b, const struct kr_page_job *job, const uint8_t *src,
                   uint8_t *dst)
{
    uint8_t mask[BLOCK];
    if (kr_cipher_base(b->cipher) == KR_CIPHER_AES_CTR) {
        page_batch_evp("CTR", b->key, b->key_len, job->iv, src, dst, job->len);
        return;
    }
    size_t whole = job->len / BLOCK * BLOCK;
    page_batch_evp("CBC", b->key, b->key_len, job->iv, src, dst, whole);
    page_batch_evp("ECB", b->key, b->key_len, NULL, job->iv, mask, BLOCK);
    for (size_t i = whole; i < job->len; i++)
        dst[i] = src[i] ^ mask[i - whole];
}

void page_batch_make(struct page_batch *b, enum kr_cipher cipher, size_t key_len,
                     const size_t *lengths, size_t count)
{
    memset(b, 0, sizeof(*b));
    b->cipher = cipher;
    b->key_len = key_len;
    b->count = count;
    for (size_t i = 0; i < count; i++) {
        b->at[i] = b->room + (size_t)rand() % GAP;
        b->room = b->at[i] + lengths[i] + GAP;
    }
    b->plain = malloc(b->room);
    b->expected = malloc(b->room);
    b->out = malloc(b->room);
    RAND_bytes(b->plain, (int)b->room);
    RAND_bytes(b->key, sizeof(b->key));
    RAND_bytes(b->ivs[0], sizeof(b->ivs));
    memcpy(b->expected, b->plain, b->room);
    for (size_t i = 0; i < count; i++) {
        b->jobs[i].len = lengths[i];
        b->jobs[i].iv = b->ivs[i];
        expect(b, &b->jobs[i], b->plain + b->at[i], b->expected + b->at[i]);
    }
}

void page_batch_free(struct page_batch *b)
{
    free(b->plain);
    free(b->expected);
    free(b->out);
}

static void aim(struct page_batch *b, const uint8_t *src)
{
    for (size_t i = 0; i < b->count; i++) {
        b->jobs[i].src = src + b->at[i];
        b->jobs[i].dst = b->out + b->at[i];
    }
}

void page_batch_check(struct page_batch *b, struct kr_pages *pages, bool in_place)
{
    memcpy(b->out, b->plain, b->room);
    aim(b, in_place ? b->out : b->plain);
    assert_int_equal(kr_pages_encrypt(pages, b->jobs, b->count), KR_OK);
    assert_memory_equal(b->out, b->expected, b->room);
    memcpy(b->out, in_place ? b->expected : b->plain, b->room);
    aim(b, in_place ? b->out : b->expected);
    assert_int_equal(kr_pages_decrypt(pages, b->jobs, b->count), KR_OK);
    assert_memory_equal(b->out, b->plain, b->room);
}

void page_batch_check_both(struct page_batch *b)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pages *pages;
    assert_int_equal(kr_pages_new(b->cipher, b->key, b->key_len, &pages, &err), KR_OK);
    page_batch_check(b, pages, false);
    page_batch_check(b, pages, true);
    kr_pages_free(pages);
}
