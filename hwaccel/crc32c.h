/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * CRC-32C (Castagnoli), the checksum of InnoDB's pages and of both servers' encryption headers, by
 * ISA-L: with the processor's instructions where it has them, the same value everywhere.
 */
#ifndef P11K_HWACCEL_CRC32C_H
#define P11K_HWACCEL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of `len` bytes that follow those whose CRC is `crc`; 0 to begin with. */
uint32_t kr_crc32c(uint32_t crc, const void *bytes, size_t len);

#endif
