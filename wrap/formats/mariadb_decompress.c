/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* One function for each way. */
#include "formats/mariadb_decompress.h"

#include <dlfcn.h>
#include <lz4.h>
#include <pthread.h>
#include <stdbool.h>
#include <zlib.h>

enum { DICTIONARY_MAX = 128 * 1024 * 1024 /* of a hostile lzma stream */ };

/* --- the system's libraries --------------------------------------------------------------------
 */

static int (*lzma)(uint64_t *memory, uint32_t flags, const void *allocator, const uint8_t *in,
                   size_t *in_at, size_t in_len, uint8_t *out, size_t *out_at, size_t out_len);
static int (*bzip2)(char *out, unsigned *out_len, char *in, unsigned in_len, int small,
                    int verbose);
static int (*lzo)(const uint8_t *in, unsigned long in_len, uint8_t *out, unsigned long *out_len,
                  void *unused);
static int (*snappy)(const char *in, size_t in_len, char *out, size_t *out_len);

/* They stay until the program ends. */
static void find(const char *library, const char *name, void *ret_function)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle)
        *(void **)ret_function = dlsym(handle, name);
}

static void find_all(void)
{
    find("liblzma.so.5", "lzma_stream_buffer_decode", &lzma);
    find("libbz2.so.1.0", "BZ2_bzBuffToBuffDecompress", &bzip2);
    find("liblzo2.so.2", "lzo1x_decompress_safe", &lzo);
    find("libsnappy.so.1", "snappy_uncompress", &snappy);
}

/* --- the ways ----------------------------------------------------------------------------------
 */

static bool by_zlib(const uint8_t *bytes, size_t len, uint8_t *ret, size_t ret_len)
{
    uLongf got = ret_len;
    return uncompress(ret, &got, bytes, len) == Z_OK && got == ret_len;
}

static bool by_lz4(const uint8_t *bytes, size_t len, uint8_t *ret, size_t ret_len)
{
    return LZ4_decompress_safe((const char *)bytes, (char *)ret, (int)len, (int)ret_len) ==
           (int)ret_len;
}

static bool by_lzo(const uint8_t *bytes, size_t len, uint8_t *ret, size_t ret_len)
{
    unsigned long got = ret_len;
    return lzo(bytes, len, ret, &got, NULL) == 0 && got == ret_len;
}

static bool by_lzma(const uint8_t *bytes, size_t len, uint8_t *ret, size_t ret_len)
{
    uint64_t memory = DICTIONARY_MAX;
    size_t used = 0, got = 0;
    return lzma(&memory, 0, NULL, bytes, &used, len, ret, &got, ret_len) == 0 && got == ret_len;
}

static bool by_bzip2(const uint8_t *bytes, size_t len, uint8_t *ret, size_t ret_len)
{
    unsigned got = (unsigned)ret_len;
    return bzip2((char *)ret, &got, (char *)bytes, (unsigned)len, 1, 0) == 0 && got == ret_len;
}

static bool by_snappy(const uint8_t *bytes, size_t len, uint8_t *ret, size_t ret_len)
{
    size_t got = ret_len;
    return snappy((const char *)bytes, len, (char *)ret, &got) == 0 && got == ret_len;
}

enum kr_mariadb_decompressed kr_mariadb_decompress(enum kr_mariadb_compression how,
                                                   const uint8_t *bytes, size_t len, uint8_t *ret,
                                                   size_t ret_len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_all);
    const struct {
        bool there;
        bool (*function)(const uint8_t *, size_t, uint8_t *, size_t);
    } ways[] = {
        [KR_MARIADB_ZLIB] = {true, by_zlib},    [KR_MARIADB_LZ4] = {true, by_lz4},
        [KR_MARIADB_LZO] = {lzo, by_lzo},       [KR_MARIADB_LZMA] = {lzma, by_lzma},
        [KR_MARIADB_BZIP2] = {bzip2, by_bzip2}, [KR_MARIADB_SNAPPY] = {snappy, by_snappy},
    };
    if ((size_t)how >= sizeof(ways) / sizeof(*ways) || !ways[how].function)
        return KR_MARIADB_NOT_THAT;
    if (!ways[how].there)
        return KR_MARIADB_NO_LIBRARY;
    return ways[how].function(bytes, len, ret, ret_len) ? KR_MARIADB_DECOMPRESSED
                                                        : KR_MARIADB_NOT_THAT;
}
