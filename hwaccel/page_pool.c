/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The per-thread pool of cipher contexts. */
#include "hwaccel/page_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "hwaccel/aes_context.h"
#include "hwaccel/page_cipher.h"

enum { POOL_OPS = 16, KEY_LENGTHS = 3 };

/* With the bytes that the server gives, the name of a derived key. */
struct origin {
    uint32_t id, version, epoch;
};

struct kr_page_pool {
    struct kr_shape shapes[POOL_OPS]; /* beside each other: a search reads one cache line */
    uint8_t (*keys)[KR_AES_KEY_MAX];  /* secret memory; NULL: nothing can be remembered */
    struct origin origins[POOL_OPS];  /* of derived keys */
    uint32_t busy;                    /* one bit per op */
    uint64_t clock, last_used[POOL_OPS];
    struct kr_page_op ops[POOL_OPS];
    _Atomic uint64_t operations, schedule_hits; /* written by the owner only */
    struct kr_page_pool *next, **link;
};

/* --- what all threads share ------------------------------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_CIPHER *fetched[KR_MODES][KEY_LENGTHS], *fetched_ecb[KEY_LENGTHS];
static pthread_key_t thread_end;
static bool have_thread_end;
static bool ivs_by_evp; /* of CBC, see set_iv() */

static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kr_page_pool *pools;
static struct kr_page_stats retired; /* counters of threads that ended */

static _Thread_local struct kr_page_pool *own_pool;

static void destroy_pool(void *pool);

static EVP_CIPHER *fetch(const char *mode, unsigned key_index)
{
    char name[16];
    snprintf(name, sizeof(name), "AES-%u-%s", 128 + 64 * key_index, mode);
    return EVP_CIPHER_fetch(NULL, name, NULL);
}

static void prepare_process(void)
{
    for (unsigned i = 0; i < KEY_LENGTHS; i++) {
        fetched[KR_MODE_CBC][i] = fetched[KR_MODE_CBC_PADDED][i] = fetch("CBC", i);
        fetched[KR_MODE_CTR][i] = fetch("CTR", i);
        fetched[KR_MODE_GCM][i] = fetch("GCM", i);
        fetched_ecb[i] = fetch("ECB", i);
    }
    ivs_by_evp = kr_aes_is_fips();
    have_thread_end = pthread_key_create(&thread_end, destroy_pool) == 0;
}

void kr_page_get_stats(struct kr_page_stats *ret)
{
    pthread_mutex_lock(&pools_lock);
    *ret = retired;
    for (struct kr_page_pool *pool = pools; pool; pool = pool->next) {
        ret->operations += atomic_load_explicit(&pool->operations, memory_order_relaxed);
        ret->schedule_hits += atomic_load_explicit(&pool->schedule_hits, memory_order_relaxed);
    }
    pthread_mutex_unlock(&pools_lock);
}

static void count(_Atomic uint64_t *counter)
{
    uint64_t seen = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, seen + 1, memory_order_relaxed);
}

/* --- one context ------------------------------------------------------------------------------ */

static unsigned key_index(struct kr_shape shape)
{
    return (shape.key_use == KR_KEY_DERIVED ? KR_PAGE_KEY_BYTES : shape.key_len) / 8 - 2;
}

static void release_contexts(struct kr_page_op *op)
{
    EVP_CIPHER_CTX_free(op->evp);
    EVP_CIPHER_CTX_free(op->mask);
    op->evp = op->mask = NULL;
}

static bool set_mask_key(struct kr_page_op *op, struct kr_shape shape, const uint8_t *key)
{
    if (!op->mask && !(op->mask = EVP_CIPHER_CTX_new()))
        return false;
    return EVP_EncryptInit_ex(op->mask, fetched_ecb[key_index(shape)], NULL, key, NULL) &&
           kr_aes_pad_off(op->mask) && kr_aes_pad_off(op->evp);
}

static bool set_shape(struct kr_page_op *op, struct kr_shape shape, const uint8_t *key,
                      const uint8_t *iv)
{
    if (!op->evp && !(op->evp = EVP_CIPHER_CTX_new()))
        return false;
    return EVP_CIPHER_CTX_reset(op->evp) &&
           EVP_CipherInit_ex(op->evp, fetched[shape.mode][key_index(shape)], NULL, key, iv,
                             shape.encrypt) &&
           (shape.mode != KR_MODE_CBC || set_mask_key(op, shape, key));
}

static bool renew_key(struct kr_page_op *op, const uint8_t *key, const uint8_t *iv)
{
    return EVP_CipherInit_ex(op->evp, NULL, NULL, key, iv, -1) &&
           (op->shape.mode != KR_MODE_CBC || EVP_EncryptInit_ex(op->mask, NULL, NULL, key, NULL));
}

/* Where the shape stays, the contexts are kept and only their key schedules renewed. */
static bool set_aes_key(struct kr_page_op *op, struct kr_shape shape, const uint8_t *key,
                        const uint8_t *iv)
{
    bool same = memcmp(&op->shape, &shape, sizeof(shape)) == 0;
    if (!(same ? renew_key(op, key, iv) : set_shape(op, shape, key, iv))) {
        op->shape = (struct kr_shape){0};
        return false;
    }
    memcpy(op->chain, iv, KR_AES_BLOCK);
    op->first_block_due = false;
    op->shape = shape;
    return true;
}

static bool set_key(struct kr_page_op *op, struct kr_shape shape, const struct kr_page_key *key,
                    const uint8_t *iv)
{
    uint8_t derived[KR_PAGE_KEY_BYTES];
    if (shape.key_use == KR_KEY_ITSELF)
        return set_aes_key(op, shape, key->bytes, iv);
    bool ok = kr_page_key_derive(key, derived) == KR_OK && set_aes_key(op, shape, derived, iv);
    kr_wipe(derived, sizeof(derived));
    return ok;
}

static bool set_iv(struct kr_page_op *op, const uint8_t *iv)
{
    if (op->shape.mode == KR_MODE_CBC && !ivs_by_evp)
        return op->first_block_due = true;
    op->first_block_due = false;
    return EVP_CipherInit_ex(op->evp, NULL, NULL, NULL, iv, -1);
}

/* For a thread whose pool is full or could not be made: costs time, works all the same. */
static enum kr_status take_unpooled(struct kr_shape shape, const struct kr_page_key *key,
                                    const uint8_t *iv, struct kr_page_op **ret)
{
    struct kr_page_op *op = calloc(1, sizeof(*op));
    if (!op)
        return KR_INTERNAL;
    if (!set_key(op, shape, key, iv)) {
        release_contexts(op);
        free(op);
        return KR_INTERNAL;
    }
    *ret = op;
    return KR_OK;
}

/* --- a thread's pool -------------------------------------------------------------------------- */

static struct kr_page_pool *make_pool(void)
{
    pthread_once(&once, prepare_process);
    struct kr_page_pool *pool = calloc(1, sizeof(*pool));
    if (!pool || !have_thread_end || pthread_setspecific(thread_end, pool) != 0) {
        free(pool);
        return NULL;
    }
    pool->keys = kr_secret_alloc(sizeof(pool->keys[0]) * POOL_OPS);
    for (unsigned i = 0; i < POOL_OPS; i++)
        pool->ops[i].pool = pool;
    pthread_mutex_lock(&pools_lock);
    pool->next = pools;
    pool->link = &pools;
    if (pools)
        pools->link = &pool->next;
    pools = pool;
    pthread_mutex_unlock(&pools_lock);
    return own_pool = pool;
}

static void destroy_pool(void *pointer)
{
    struct kr_page_pool *pool = pointer;
    own_pool = NULL;
    pthread_mutex_lock(&pools_lock);
    *pool->link = pool->next;
    if (pool->next)
        pool->next->link = pool->link;
    retired.operations += pool->operations;
    retired.schedule_hits += pool->schedule_hits;
    pthread_mutex_unlock(&pools_lock);
    for (unsigned i = 0; i < POOL_OPS; i++)
        release_contexts(&pool->ops[i]);
    kr_secret_free(pool->keys);
    kr_wipe(pool, sizeof(*pool));
    free(pool);
}

static bool is_free(const struct kr_page_pool *pool, unsigned i)
{
    return !(pool->busy & (1u << i));
}

/* Two comparisons, since the compiler inlines the one of fixed length. */
static bool same_bytes(const uint8_t *known, const uint8_t *key, size_t len)
{
    return memcmp(known, key, 16) == 0 &&
           (len == 16 || memcmp(known + 16, key + 16, len - 16) == 0);
}

static struct origin origin_of(const struct kr_page_key *key)
{
    return (struct origin){key->id, key->version, kr_page_keys_epoch()};
}

static bool is_key(const struct kr_page_pool *pool, unsigned i, const struct kr_page_key *key)
{
    if (!same_bytes(pool->keys[i], key->bytes, pool->shapes[i].key_len))
        return false;
    if (pool->shapes[i].key_use == KR_KEY_ITSELF)
        return true;
    struct origin origin = origin_of(key);
    return memcmp(&pool->origins[i], &origin, sizeof(origin)) == 0;
}

/* POOL_OPS when the key is not there. */
static unsigned find_key(const struct kr_page_pool *pool, struct kr_shape shape,
                         const struct kr_page_key *key)
{
    for (unsigned i = 0; i < POOL_OPS; i++) {
        if (memcmp(&pool->shapes[i], &shape, sizeof(shape)) == 0 && is_free(pool, i) &&
            is_key(pool, i, key))
            return i;
    }
    return POOL_OPS;
}

/* The free place that was used longest ago; POOL_OPS when none is free. */
static unsigned find_place(const struct kr_page_pool *pool)
{
    unsigned best = POOL_OPS;
    for (unsigned i = 0; i < POOL_OPS; i++) {
        if (is_free(pool, i) && (best == POOL_OPS || pool->last_used[i] < pool->last_used[best]))
            best = i;
    }
    return best;
}

static bool set_pool_key(struct kr_page_pool *pool, unsigned i, struct kr_shape shape,
                         const struct kr_page_key *key, const uint8_t *iv)
{
    pool->shapes[i] = (struct kr_shape){0};
    pool->origins[i] = origin_of(key); /* before the key is derived: forgotten meanwhile is gone */
    if (!set_key(&pool->ops[i], shape, key, iv))
        return false;
    memcpy(pool->keys[i], key->bytes, shape.key_len);
    pool->shapes[i] = shape;
    return true;
}

enum kr_status kr_page_pool_take(struct kr_shape shape, const struct kr_page_key *key,
                                 const uint8_t *iv, struct kr_page_op **ret)
{
    struct kr_page_pool *pool = own_pool ? own_pool : make_pool();
    if (!pool)
        return take_unpooled(shape, key, iv, ret);
    count(&pool->operations);
    if (!pool->keys)
        return take_unpooled(shape, key, iv, ret);
    unsigned i = find_key(pool, shape, key);
    if (i < POOL_OPS) {
        if (!set_iv(&pool->ops[i], iv))
            return KR_INTERNAL;
        count(&pool->schedule_hits);
    } else if ((i = find_place(pool)) == POOL_OPS) {
        return take_unpooled(shape, key, iv, ret);
    } else if (!set_pool_key(pool, i, shape, key, iv)) {
        return KR_INTERNAL;
    }
    pool->busy |= 1u << i;
    *ret = &pool->ops[i];
    return KR_OK;
}

void kr_page_pool_give_back(struct kr_page_op *op)
{
    struct kr_page_pool *pool = op->pool;
    if (op->shape.mode != KR_MODE_CTR)
        kr_wipe_block(op->held);
    if (!pool) {
        release_contexts(op);
        free(op);
        return;
    }
    unsigned i = (unsigned)(op - pool->ops);
    if (op->failure != KR_OK)
        pool->shapes[i] = op->shape = (struct kr_shape){0};
    pool->last_used[i] = ++pool->clock;
    pool->busy &= ~(1u << i);
}
