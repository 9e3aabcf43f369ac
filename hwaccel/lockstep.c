/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Many messages through one AES-ECB context. */
#include "hwaccel/lockstep.h"

#include <string.h>

#include "hwaccel/features.h"

enum { BLOCK = 16, CHUNK_BLOCKS = KR_LANE_CHUNK / BLOCK, STEPS_PER_LANE = CHUNK_BLOCKS / KR_LANES };
#define LANE_STRIDE ((size_t)KR_LANE_CHUNK)

typedef uint64_t vector16 __attribute__((vector_size(16), aligned(16), may_alias));
typedef uint64_t unaligned16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t vector32 __attribute__((vector_size(32), aligned(1), may_alias));

#define INLINED static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

/* --- chunks between the pages and the lanes --------------------------------------------------- */

INLINED void copy_chunk(uint8_t *dst, const uint8_t *src)
{
    UNROLLED for (unsigned i = 0; i < KR_LANE_CHUNK / 32; i++)((vector32 *)(void *)dst)[i] =
        ((const vector32 *)(const void *)src)[i];
}

/* The loop of blocks is no memcpy(), which costs several times as much at such lengths. */
INLINED void copy(uint8_t *dst, const uint8_t *src, size_t blocks)
{
    if (blocks == CHUNK_BLOCKS)
        copy_chunk(dst, src);
    else
        for (size_t i = 0; i < blocks; i++)
            ((unaligned16 *)(void *)dst)[i] = ((const unaligned16 *)(const void *)src)[i];
}

INLINED size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* Writes the last step's result where its input was, and makes the next step's input. In halves of
 * 32 bytes the XOR would wait for what EVP has just stored in 16s. */
INLINED void chain(struct kr_lockstep *l, uint8_t *done, const uint8_t *next)
{
    UNROLLED for (unsigned lane = 0; lane < KR_LANES; lane++)
    {
        vector16 *chained = (vector16 *)(void *)l->chain[lane];
        vector16 result = *chained;
        *(vector16 *)(void *)(done + lane * LANE_STRIDE) = result;
        *chained = result ^ *(const vector16 *)(const void *)(next + lane * LANE_STRIDE);
    }
}

/* A page's lines share a set of the cache with those of the other pages: a lane's last chunk goes
 * out and its next one comes in at one time, in turn, while the others are at work. */
INLINED void exchange(struct kr_lockstep *l, unsigned lane, unsigned side, size_t out, size_t in)
{
    uint8_t *chunk = l->chunks[side][lane], *dst = l->dst[lane];
    const uint8_t *src = l->src[lane];
    copy(dst, chunk, out);
    copy(chunk, src, in);
    l->dst[lane] = dst + out * BLOCK;
    l->src[lane] = src + in * BLOCK;
}

/* EVP_EncryptUpdate() does the same with 40 instructions more, which is 2 % of it all. */
INLINED bool encrypt(struct kr_lockstep *l, EVP_CIPHER_CTX *ecb, unsigned lanes)
{
    return EVP_Cipher(ecb, l->chain[0], l->chain[0], lanes * BLOCK) == (int)(lanes * BLOCK);
}

struct run {
    struct kr_lockstep *lockstep;
    EVP_CIPHER_CTX *ecb;
    unsigned lanes, side; /* of the chunks at work */
    uint8_t *done;        /* where the result in the chain belongs */
};

INLINED bool step(struct run *run, uint8_t *next)
{
    chain(run->lockstep, run->done, next);
    run->done = next;
    return encrypt(run->lockstep, run->ecb, run->lanes);
}

/* A chunk of every lane, between two others: constants for the compiler to work with. */
INLINED bool encrypt_full_chunks(struct run *run)
{
    struct kr_lockstep *l = run->lockstep;
    uint8_t *next = l->chunks[run->side][0];
    for (unsigned lane = 0; lane < KR_LANES; lane++, next += (size_t)STEPS_PER_LANE * BLOCK) {
        if (!step(run, next))
            return false;
        exchange(l, lane, !run->side, CHUNK_BLOCKS, CHUNK_BLOCKS);
        for (unsigned more = 1; more < STEPS_PER_LANE; more++)
            if (!step(run, next + (size_t)more * BLOCK))
                return false;
    }
    return true;
}

INLINED bool encrypt_chunks(struct run *run, size_t before, size_t now, size_t after)
{
    struct kr_lockstep *l = run->lockstep;
    uint8_t *next = l->chunks[run->side][0];
    unsigned lane = 0;
    for (size_t i = 0; i < now; i++, next += BLOCK) {
        if (!step(run, next))
            return false;
        if (i % STEPS_PER_LANE == 0 && lane < run->lanes)
            exchange(l, lane++, !run->side, before, after);
    }
    while (lane < run->lanes)
        exchange(l, lane++, !run->side, before, after);
    return true;
}

INLINED bool encrypt_lanes(struct kr_lockstep *l, EVP_CIPHER_CTX *ecb, unsigned lanes,
                           size_t blocks)
{
    /* The chain values of the beginning go nowhere. */
    struct run run = {l, ecb, lanes, 0, l->chunks[1][0]};
    size_t before = 0, now = least(blocks, CHUNK_BLOCKS), after;
    for (unsigned lane = 0; lane < lanes; lane++)
        exchange(l, lane, 0, 0, now);
    for (; now > 0; blocks -= now, before = now, now = after, run.side = !run.side) {
        after = least(blocks - now, CHUNK_BLOCKS);
        bool full = lanes == KR_LANES && before == CHUNK_BLOCKS && after == CHUNK_BLOCKS;
        if (!(full ? encrypt_full_chunks(&run) : encrypt_chunks(&run, before, now, after)))
            return false;
    }
    for (unsigned lane = 0; lane < KR_LANES; lane++)
        memcpy(run.done + lane * LANE_STRIDE, l->chain[lane], BLOCK);
    for (unsigned lane = 0; lane < lanes; lane++)
        exchange(l, lane, !run.side, before, 0);
    return true;
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static bool encrypt_lanes_avx2(struct kr_lockstep *l,
                                                               EVP_CIPHER_CTX *ecb, unsigned lanes,
                                                               size_t blocks)
{
    return encrypt_lanes(l, ecb, lanes, blocks);
}
#endif

bool kr_lockstep_run(struct kr_lockstep *lockstep, EVP_CIPHER_CTX *ecb, unsigned lanes,
                     size_t blocks)
{
#ifdef __x86_64__
    if (kr_features_have("avx2"))
        return encrypt_lanes_avx2(lockstep, ecb, lanes, blocks);
#endif
    return encrypt_lanes(lockstep, ecb, lanes, blocks);
}
