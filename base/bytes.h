/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Bytes of formats: numbers of so many bytes, in our own the most significant first; whether all are
 * zero. */
#ifndef P11K_BASE_BYTES_H
#define P11K_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void kr_put_number(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = bytes; i-- > 0; value >>= 8)
        at[i] = (uint8_t)value;
}

static inline uint64_t kr_get_number(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

/* The other way round, as in many of the servers' files. */
static inline void kr_put_little(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++, value >>= 8)
        at[i] = (uint8_t)value;
}

static inline uint64_t kr_get_little(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static inline bool kr_is_zero(const void *bytes, size_t len)
{
    const uint8_t *at = (const uint8_t *)bytes;
    return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

#endif
