/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* CRC-32C by ISA-L. */
#include "hwaccel/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L takes lengths as int. */
enum { STEP = 1 << 30 };

uint32_t kr_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    unsigned char *at = (unsigned char *)bytes; /* ISA-L only reads */
    crc = ~crc;
    for (; len > STEP; at += STEP, len -= STEP)
        crc = crc32_iscsi(at, STEP, crc);
    return ~crc32_iscsi(at, (int)len, crc);
}
