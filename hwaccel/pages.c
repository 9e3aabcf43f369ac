/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Many pages under one key. */
#include "hwaccel/pages.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/secret.h"
#include "hwaccel/aes_context.h"
#include "hwaccel/block.h"
#include "hwaccel/lockstep.h"
#include "hwaccel/prefetch.h"

enum { BLOCK = 16, LEN_MAX = 1 << 30 };

enum { AHEAD = 4096 /* bytes that are fetched from memory while others are decrypted */ };

/* With fewer lanes than this, plain CBC is as fast. */
enum { LANES_WORTH_IT = 4 };

struct kr_pages {
    struct kr_lockstep lockstep;
    bool cbc, in_lockstep, ivs_by_evp; /* the last two of CBC */
    bool failed;                       /* after a failure nothing is known of the contexts */
    EVP_CIPHER_CTX *encrypt, *decrypt; /* CTR: decrypt is NULL */
    EVP_CIPHER_CTX *ecb;               /* CBC: for lockstep and for last partial blocks */
    size_t blocks_left[KR_LANES];
    uint8_t chain[BLOCK]; /* of `decrypt` */
};

/* --- one key's contexts ----------------------------------------------------------------------- */

static bool open_contexts(struct kr_pages *p, const uint8_t *key, size_t key_len)
{
    if (!p->cbc)
        return (p->encrypt = kr_aes_open("CTR", key, key_len, true));
    return (p->encrypt = kr_aes_open("CBC", key, key_len, true)) &&
           (p->decrypt = kr_aes_open("CBC", key, key_len, false)) &&
           (p->ecb = kr_aes_open("ECB", key, key_len, true));
}

enum kr_status kr_pages_new(enum kr_cipher cipher, const uint8_t *key, size_t key_len,
                            struct kr_pages **ret, struct kr_error *err)
{
    if (!kr_cipher_name(cipher) || !kr_cipher_takes(cipher, key_len))
        return kr_fail(err, KR_USAGE, "a key of %zu bytes is not for page cipher %d", key_len,
                       (int)cipher);
    struct kr_pages *p = aligned_alloc(_Alignof(struct kr_pages), sizeof(*p));
    if (!p)
        return kr_fail_memory(err);
    memset(p, 0, sizeof(*p));
    p->cbc = kr_cipher_base(cipher) == KR_CIPHER_AES_CBC;
    if (p->cbc) {
        enum kr_lockstep_state lockstep = kr_lockstep_state();
        p->ivs_by_evp = lockstep == KR_LOCKSTEP_FIPS;
        p->in_lockstep = lockstep == KR_LOCKSTEP_ON;
    }
    if (!open_contexts(p, key, key_len)) {
        ERR_clear_error();
        kr_pages_free(p);
        return kr_fail(err, KR_INTERNAL, "OpenSSL has no AES-%zu for pages", key_len * 8);
    }
    *ret = p;
    return KR_OK;
}

void kr_pages_free(struct kr_pages *pages)
{
    if (!pages)
        return;
    EVP_CIPHER_CTX_free(pages->encrypt);
    EVP_CIPHER_CTX_free(pages->decrypt);
    EVP_CIPHER_CTX_free(pages->ecb);
    kr_wipe(pages, sizeof(*pages));
    free(pages);
}

void kr_pages_cleanup(struct kr_pages **pages)
{
    kr_pages_free(*pages);
}

/* --- one page --------------------------------------------------------------------------------- */

static size_t whole_blocks(const struct kr_page_job *job)
{
    return job->len / BLOCK * BLOCK;
}

static void xor_bytes(uint8_t *dst, const uint8_t *src, const uint8_t *mask, size_t len)
{
    for (size_t i = 0; i < len; i++)
        dst[i] = src[i] ^ mask[i];
}

static bool crypt_ctr(struct kr_pages *p, const struct kr_page_job *job)
{
    int out;
    return EVP_EncryptInit_ex(p->encrypt, NULL, NULL, NULL, job->iv) &&
           EVP_EncryptUpdate(p->encrypt, job->dst, &out, job->src, (int)job->len);
}

static bool encrypt_cbc(struct kr_pages *p, const uint8_t *src, uint8_t *dst, size_t len,
                        const uint8_t *iv)
{
    int out;
    return EVP_EncryptInit_ex(p->encrypt, NULL, NULL, NULL, iv) &&
           EVP_EncryptUpdate(p->encrypt, dst, &out, src, (int)len);
}

/* In pieces, see prefetch.h. */
static bool decrypt_pieces(EVP_CIPHER_CTX *evp, uint8_t *dst, const uint8_t *src, size_t len)
{
    for (size_t at = 0; at < len; at += KR_PREFETCH_PIECE) {
        size_t piece = len - at < KR_PREFETCH_PIECE ? len - at : KR_PREFETCH_PIECE;
        kr_prefetch(src + at, AHEAD, piece);
        if (EVP_Cipher(evp, dst + at, src + at, (unsigned)piece) != (int)piece)
            return false;
    }
    return true;
}

/* EVP does not hear of the iv, see kr_page_pool_take(). */
static bool decrypt_cbc(struct kr_pages *p, const struct kr_page_job *job)
{
    size_t len = whole_blocks(job);
    uint8_t last[BLOCK];
    if (len == 0)
        return true;
    if (p->ivs_by_evp)
        return EVP_DecryptInit_ex(p->decrypt, NULL, NULL, NULL, job->iv) &&
               decrypt_pieces(p->decrypt, job->dst, job->src, len);
    memcpy(last, job->src + len - BLOCK, BLOCK); /* dst may be src */
    if (!decrypt_pieces(p->decrypt, job->dst, job->src, len))
        return false;
    kr_xor_block(job->dst, p->chain);
    kr_xor_block(job->dst, job->iv);
    memcpy(p->chain, last, BLOCK);
    return true;
}

/* --- last partial blocks ---------------------------------------------------------------------- */

static bool crypt_tail(struct kr_pages *p, const struct kr_page_job *job)
{
    size_t whole = whole_blocks(job);
    uint8_t mask[BLOCK];
    int out;
    if (whole == job->len)
        return true;
    if (!EVP_EncryptUpdate(p->ecb, mask, &out, job->iv, BLOCK))
        return false;
    xor_bytes(job->dst + whole, job->src + whole, mask, job->len - whole);
    return true;
}

/* --- many pages ------------------------------------------------------------------------------- */

/* The jobs not begun yet, and the lanes at work. */
struct queue {
    const struct kr_page_job *next, *end;
    unsigned lanes;
};

static void fill_lanes(struct kr_pages *p, struct queue *queue)
{
    for (; queue->next < queue->end && queue->lanes < KR_LANES; queue->next++) {
        const struct kr_page_job *job = queue->next;
        if (job->len < BLOCK)
            continue;
        unsigned lane = queue->lanes++;
        p->lockstep.src[lane] = job->src;
        p->lockstep.dst[lane] = job->dst;
        memcpy(p->lockstep.chain[lane], job->iv, BLOCK);
        p->blocks_left[lane] = job->len / BLOCK;
    }
}

/* The last lane takes the place of one that is done. */
static void drop_lanes_done(struct kr_pages *p, struct queue *queue)
{
    struct kr_lockstep *l = &p->lockstep;
    for (unsigned lane = 0; lane < queue->lanes;) {
        if (p->blocks_left[lane] > 0) {
            lane++;
            continue;
        }
        unsigned last = --queue->lanes;
        if (lane == last)
            break;
        l->src[lane] = l->src[last];
        l->dst[lane] = l->dst[last];
        memcpy(l->chain[lane], l->chain[last], BLOCK);
        p->blocks_left[lane] = p->blocks_left[last];
    }
}

static bool run_lanes(struct kr_pages *p, struct queue *queue)
{
    size_t blocks = SIZE_MAX;
    for (unsigned lane = 0; lane < queue->lanes; lane++)
        blocks = p->blocks_left[lane] < blocks ? p->blocks_left[lane] : blocks;
    if (!kr_lockstep_run(&p->lockstep, p->ecb, queue->lanes, blocks))
        return false;
    for (unsigned lane = 0; lane < queue->lanes; lane++)
        p->blocks_left[lane] -= blocks;
    drop_lanes_done(p, queue);
    return true;
}

static bool finish_lane(struct kr_pages *p, unsigned lane)
{
    struct kr_lockstep *l = &p->lockstep;
    return encrypt_cbc(p, l->src[lane], l->dst[lane], p->blocks_left[lane] * BLOCK, l->chain[lane]);
}

static bool encrypt_many(struct kr_pages *p, const struct kr_page_job *jobs, size_t count)
{
    struct queue queue = {jobs, jobs + count, 0};
    fill_lanes(p, &queue);
    while (queue.lanes >= LANES_WORTH_IT) {
        if (!run_lanes(p, &queue))
            return false;
        fill_lanes(p, &queue);
    }
    for (unsigned lane = 0; lane < queue.lanes; lane++)
        if (!finish_lane(p, lane))
            return false;
    return true;
}

/* --- all jobs of a call ----------------------------------------------------------------------- */

static bool each(bool (*function)(struct kr_pages *, const struct kr_page_job *),
                 struct kr_pages *p, const struct kr_page_job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!function(p, &jobs[i]))
            return false;
    return true;
}

static bool encrypt_one(struct kr_pages *p, const struct kr_page_job *job)
{
    return encrypt_cbc(p, job->src, job->dst, whole_blocks(job), job->iv);
}

static bool encrypt_all(struct kr_pages *p, const struct kr_page_job *jobs, size_t count)
{
    if (!p->cbc)
        return each(crypt_ctr, p, jobs, count);
    return each(crypt_tail, p, jobs, count) &&
           (p->in_lockstep ? encrypt_many(p, jobs, count) : each(encrypt_one, p, jobs, count));
}

static bool decrypt_all(struct kr_pages *p, const struct kr_page_job *jobs, size_t count)
{
    if (!p->cbc)
        return each(crypt_ctr, p, jobs, count);
    return each(crypt_tail, p, jobs, count) && each(decrypt_cbc, p, jobs, count);
}

static bool lengths_are_good(const struct kr_page_job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (jobs[i].len > LEN_MAX)
            return false;
    return true;
}

static enum kr_status run(bool (*all)(struct kr_pages *, const struct kr_page_job *, size_t),
                          struct kr_pages *p, const struct kr_page_job *jobs, size_t count)
{
    if (!lengths_are_good(jobs, count))
        return KR_USAGE;
    if (p->failed)
        return KR_INTERNAL;
    if (all(p, jobs, count))
        return KR_OK;
    p->failed = true;
    ERR_clear_error(); /* a server's TLS code would trip over what EVP left there */
    return KR_INTERNAL;
}

enum kr_status kr_pages_encrypt(struct kr_pages *pages, const struct kr_page_job *jobs,
                                size_t count)
{
    return run(encrypt_all, pages, jobs, count);
}

enum kr_status kr_pages_decrypt(struct kr_pages *pages, const struct kr_page_job *jobs,
                                size_t count)
{
    return run(decrypt_all, pages, jobs, count);
}
