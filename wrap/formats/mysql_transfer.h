/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MySQL's .cfp, which FLUSH TABLES ... FOR EXPORT puts beside an encrypted tablespace (server
 * source: row/row0quiesce.cc): a transfer key in the clear, then the tablespace's key and iv sealed
 * by it with AES-256-ECB. Whoever has this file has the tablespace's key.
 *
 *   length 32, 4, big-endian | transfer key, 32 | sealed key, 32 | sealed iv, 32
 */
#ifndef P11K_FORMATS_MYSQL_TRANSFER_H
#define P11K_FORMATS_MYSQL_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/mysql_info.h"

enum { KR_MYSQL_TRANSFER_BYTES = 100 };

/* NULL, or what is wrong with it; static. */
const char *kr_mysql_transfer_check(const uint8_t *bytes, size_t len);

/* The tablespace's key and iv, of a file that was checked; false when OpenSSL failed. */
bool kr_mysql_transfer_open(const uint8_t bytes[KR_MYSQL_TRANSFER_BYTES],
                            uint8_t ret[KR_MYSQL_SEALED_BYTES]);

#endif
