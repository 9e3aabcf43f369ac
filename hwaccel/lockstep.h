/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * CBC encryption of up to 16 messages at once, through one EVP context of AES-ECB under their key:
 * in each step the next block of every message is XORed with its chain value, and one EVP call
 * encrypts them all. One message alone waits for its last block before the next can begin; here the
 * processor always has 16 blocks to work on, and runs as fast as its ECB. pages.h is the interface
 * for others than hwaccel.
 *
 * A mode is put together from ECB outside of the provider, which a FIPS provider's approval does
 * not cover: under one lockstep is off. It is off, too, unless it has shown in this process that it
 * gives what EVP's CBC gives.
 */
#ifndef P11K_HWACCEL_LOCKSTEP_H
#define P11K_HWACCEL_LOCKSTEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

enum kr_lockstep_state {
    KR_LOCKSTEP_ON,
    KR_LOCKSTEP_FIPS,    /* off: OpenSSL works with a FIPS provider */
    KR_LOCKSTEP_DIFFERS, /* off: the proof failed, the bytes were not those of EVP's CBC */
    KR_LOCKSTEP_FAILED   /* off: the proof could not be made */
};

/* Proves lockstep at the first call in a process; asks for FIPS at each. */
enum kr_lockstep_state kr_lockstep_state(void);

/* "on", "off: ..."; static. */
const char *kr_lockstep_text(enum kr_lockstep_state state);

enum { KR_LANES = 16, KR_LANE_CHUNK = 512 };

/* `src`, `dst` and `chain` are set for each lane in use before a run. Pages lie so that their lines
 * fight for the same few places of the first-level cache; so a lane is read and written in whole
 * chunks, by way of `chunks`. */
struct kr_lockstep {
    uint8_t chain[KR_LANES][16]; /* at first the iv, then the last block encrypted */
    uint8_t chunks[2][KR_LANES][KR_LANE_CHUNK];
    const uint8_t *src[KR_LANES];
    uint8_t *dst[KR_LANES];
} __attribute__((aligned(64)));

/* Encrypts the next `blocks` blocks of lanes 0 to `lanes` - 1 and moves their pointers on. dst is
 * src, or apart from it. `ecb` pads nothing. False when EVP fails. */
bool kr_lockstep_run(struct kr_lockstep *lockstep, EVP_CIPHER_CTX *ecb, unsigned lanes,
                     size_t blocks);

#endif
