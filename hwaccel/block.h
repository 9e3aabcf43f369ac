/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* One block of AES, 16 bytes; for hwaccel only. */
#ifndef P11K_HWACCEL_BLOCK_H
#define P11K_HWACCEL_BLOCK_H

#include <stdint.h>
#include <string.h>

/* In words: one byte after the other would cost a short message as much as EVP does. */
static inline void kr_xor_block(uint8_t *block, const uint8_t *mask)
{
    uint64_t words[2], other[2];
    memcpy(words, block, sizeof(words));
    memcpy(other, mask, sizeof(other));
    words[0] ^= other[0];
    words[1] ^= other[1];
    memcpy(block, words, sizeof(words));
}

#endif
