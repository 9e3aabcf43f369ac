/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Many messages through one AES-ECB context. */
#include "hwaccel/lockstep.h"

#include <string.h>

#include "hwaccel/features.h"

enum { BLOCK = 16, CHUNK_BLOCKS = KR_LANE_CHUNK / BLOCK, STEPS_PER_LANE = CHUNK_BLOCKS / KR_LANES };

typedef uint64_t vector16 __attribute__((vector_size(16), aligned(16), may_alias));
typedef uint64_t vector32 __attribute__((vector_size(32), aligned(1), may_alias));

#define INLINED static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

/* --- chunks between the pages and the lanes
 * ------------------------------------------------------- */

INLINED void copy_chunk(uint8_t *dst, const uint8_t *src)
{
    UNROLLED for (unsigned i = 0; i < KR_LANE_CHUNK / 32; i++)((vector32 *)(void *)dst)[i] =
        ((const vector32 *)(const void *)src)[i];
}

INLINED void copy(uint8_t *dst, const uint8_t *src, size_t blocks)
{
    if (blocks == CHUNK_BLOCKS)
        copy_chunk(dst, src);
    else
        memcpy(dst, src, blocks * BLOCK);
}

INLINED size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- steps
 * ---------------------------------------------------------------------------------------- */

/* Writes the last step's result where its input was, and makes the next step's input. In halves of
 * 32 bytes the XOR would wait for what EVP has just stored in 16s. */
INLINED void chain(struct kr_lockstep *l, uint8_t *done, const uint8_t *next)
{
    UNROLLED for (unsigned lane = 0; lane < KR_LANES; lane++)
    {
        vector16 *chained = (vector16 *)(void *)l->chain[lane];
        vector16 result = *chained;
        *(vector16 *)(void *)(done + lane * KR_LANE_CHUNK) = result;
        *chained = result ^ *(const vector16 *)(const void *)(next + lane * KR_LANE_CHUNK);
    }
}

/* A page's lines share a set of the cache with those of the other pages: a lane's last chunk goes
 * out and its next one comes in at one time, in turn, while the others are at work. */
INLINED void exchange(struct kr_lockstep *l, unsigned lane, unsigned side, size_t out, size_t in)
{
    if (out > 0)
        copy(l->dst[lane], l->chunks[side][lane], out);
    if (in > 0)
        copy(l->chunks[side][lane], l->src[lane], in);
    l->dst[lane] += out * BLOCK;
    l->src[lane] += in * BLOCK;
}

INLINED bool encrypt(struct kr_lockstep *l, EVP_CIPHER_CTX *ecb, unsigned lanes)
{
    int out;
    return EVP_EncryptUpdate(ecb, l->chain[0], &out, l->chain[0], (int)(lanes * BLOCK));
}

INLINED bool run(struct kr_lockstep *l, EVP_CIPHER_CTX *ecb, unsigned lanes, size_t blocks)
{
    uint8_t *done = l->chunks[1][0]; /* the chain values of the beginning go nowhere */
    size_t before = 0, now = least(blocks, CHUNK_BLOCKS);
    unsigned side = 0;
    for (unsigned lane = 0; lane < lanes; lane++)
        exchange(l, lane, side, 0, now);
    for (; blocks > 0; side = !side) {
        unsigned lane = 0;
        size_t after = least(blocks - now, CHUNK_BLOCKS);
        for (size_t step = 0; step < now; step++) {
            uint8_t *next = l->chunks[side][0] + step * BLOCK;
            chain(l, done, next);
            if (!encrypt(l, ecb, lanes))
                return false;
            done = next;
            if (step % STEPS_PER_LANE == 0 && lane < lanes)
                exchange(l, lane++, !side, before, after);
        }
        while (lane < lanes)
            exchange(l, lane++, !side, before, after);
        blocks -= now;
        before = now;
        now = after;
    }
    for (unsigned lane = 0; lane < KR_LANES; lane++)
        memcpy(done + lane * KR_LANE_CHUNK, l->chain[lane], BLOCK);
    for (unsigned lane = 0; lane < lanes; lane++)
        exchange(l, lane, !side, before, 0);
    return true;
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static bool run_avx2(struct kr_lockstep *l, EVP_CIPHER_CTX *ecb,
                                                     unsigned lanes, size_t blocks)
{
    return run(l, ecb, lanes, blocks);
}
#endif

bool kr_lockstep_run(struct kr_lockstep *lockstep, EVP_CIPHER_CTX *ecb, unsigned lanes,
                     size_t blocks)
{
#ifdef __x86_64__
    if (kr_features_have("avx2"))
        return run_avx2(lockstep, ecb, lanes, blocks);
#endif
    return run(lockstep, ecb, lanes, blocks);
}
