/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The ways that MariaDB compresses pages (server source: fil/fil0pagecompress.cc). zlib and lz4 are
 * ours; lzo, lzma, bzip2 and snappy, which servers have in plugins, are asked of the system's
 * libraries while the program runs, and need not be there.
 */
#ifndef P11K_FORMATS_MARIADB_DECOMPRESS_H
#define P11K_FORMATS_MARIADB_DECOMPRESS_H

#include <stddef.h>
#include <stdint.h>

#include "formats/mariadb_tablespace.h"

enum kr_mariadb_decompressed {
    KR_MARIADB_DECOMPRESSED,
    KR_MARIADB_NOT_THAT,  /* they do not give exactly ret_len bytes */
    KR_MARIADB_NO_LIBRARY /* this machine has none for it */
};

/* `len` bytes, perhaps with some that do not count after them, but for lz4, lzo and snappy. */
enum kr_mariadb_decompressed kr_mariadb_decompress(enum kr_mariadb_compression how,
                                                   const uint8_t *bytes, size_t len, uint8_t *ret,
                                                   size_t ret_len);

#endif
