/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Whether lockstep may be used in this process. */
#include "hwaccel/lockstep.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "hwaccel/aes_context.h"

enum { BLOCK = 16, BLOCKS = 3 * KR_LANE_CHUNK / BLOCK - 5, LEN = BLOCKS * BLOCK };

/* --- the proof -------------------------------------------------------------------------------- */

/* Messages of one length, so many that every lane is in use, and so long that chunks are exchanged
 * in every way. Their content is of no matter, as long as no two blocks are alike. */
struct batch {
    struct kr_lockstep lockstep;
    uint8_t key[32], iv[KR_LANES][BLOCK];
    uint8_t plain[KR_LANES][LEN], ours[KR_LANES][LEN], theirs[KR_LANES][LEN];
};

static void fill(uint8_t *bytes, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

static bool encrypt_ours(struct batch *b)
{
    EVP_CIPHER_CTX *ecb = kr_aes_open("ECB", b->key, sizeof(b->key), true);
    for (unsigned i = 0; i < KR_LANES; i++) {
        b->lockstep.src[i] = b->plain[i];
        b->lockstep.dst[i] = b->ours[i];
    }
    memcpy(b->lockstep.chain, b->iv, sizeof(b->iv));
    bool ok = ecb && kr_lockstep_run(&b->lockstep, ecb, KR_LANES, BLOCKS);
    EVP_CIPHER_CTX_free(ecb);
    return ok;
}

static bool encrypt_theirs(struct batch *b)
{
    EVP_CIPHER_CTX *cbc = kr_aes_open("CBC", b->key, sizeof(b->key), true);
    bool ok = cbc;
    int out;
    for (unsigned i = 0; i < KR_LANES && ok; i++)
        ok = EVP_EncryptInit_ex(cbc, NULL, NULL, NULL, b->iv[i]) &&
             EVP_EncryptUpdate(cbc, b->theirs[i], &out, b->plain[i], LEN);
    EVP_CIPHER_CTX_free(cbc);
    return ok;
}

static enum kr_lockstep_state prove(void)
{
    struct batch *b = aligned_alloc(_Alignof(struct batch), sizeof(*b));
    enum kr_lockstep_state state = KR_LOCKSTEP_FAILED;
    if (!b)
        return state;
    memset(b, 0, sizeof(*b));
    fill(b->key, sizeof(b->key), 1);
    fill(b->iv[0], sizeof(b->iv), 2);
    fill(b->plain[0], sizeof(b->plain), 3);
    if (encrypt_ours(b) && encrypt_theirs(b))
        state =
            memcmp(b->ours, b->theirs, sizeof(b->ours)) == 0 ? KR_LOCKSTEP_ON : KR_LOCKSTEP_DIFFERS;
    free(b);
    return state;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum kr_lockstep_state proven;

static void prove_once(void)
{
    proven = prove();
}

enum kr_lockstep_state kr_lockstep_state(void)
{
    enum kr_lockstep_state state = KR_LOCKSTEP_FIPS;
    ERR_set_mark();
    if (!kr_aes_is_fips()) {
        pthread_once(&once, prove_once);
        state = proven;
    }
    ERR_pop_to_mark();
    return state;
}

const char *kr_lockstep_text(enum kr_lockstep_state state)
{
    switch (state) {
    case KR_LOCKSTEP_ON:
        return "on";
    case KR_LOCKSTEP_FIPS:
        return "off: OpenSSL works with a FIPS provider";
    case KR_LOCKSTEP_DIFFERS:
        return "off: it did not give the bytes of OpenSSL's CBC";
    default:
        return "off: OpenSSL failed while it was tried";
    }
}
