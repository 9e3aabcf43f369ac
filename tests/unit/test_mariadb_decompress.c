/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the libraries compressed, as a server has it; cut off, turned, and without a library. */
#include <dlfcn.h>
#include <lz4.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "formats/mariadb_decompress.h"

enum { PAGE = 16384, ROOM = 2 * PAGE };

static const char *hidden;

void *__real_dlopen(const char *name, int flags);
void *__wrap_dlopen(const char *name, int flags);
void *__wrap_dlopen(const char *name, int flags)
{
    return hidden && strcmp(name, hidden) == 0 ? NULL : __real_dlopen(name, flags);
}

static void find(const char *library, const char *name, void *ret_function)
{
    void *handle = __real_dlopen(library, RTLD_NOW);
    assert_non_null(handle);
    *(void **)ret_function = dlsym(handle, name);
    assert_non_null(*(void **)ret_function);
}

static void fill(uint8_t *page)
{
    for (size_t i = 0; i < PAGE; i++)
        page[i] = (uint8_t)(i % 7 == 0 ? rand() : (int)(i / 64));
}

static size_t by_lzma(const uint8_t *page, uint8_t *ret)
{
    int (*encode)(uint32_t, int, const void *, const uint8_t *, size_t, uint8_t *, size_t *,
                  size_t);
    size_t len = 0;
    find("liblzma.so.5", "lzma_easy_buffer_encode", &encode);
    assert_int_equal(encode(6, 0, NULL, page, PAGE, ret, &len, ROOM), 0);
    return len;
}

static size_t by_bzip2(uint8_t *page, uint8_t *ret)
{
    int (*compress)(uint8_t *, unsigned *, uint8_t *, unsigned, int, int, int);
    unsigned len = ROOM;
    find("libbz2.so.1.0", "BZ2_bzBuffToBuffCompress", &compress);
    assert_int_equal(compress(ret, &len, page, PAGE, 1, 0, 0), 0);
    return len;
}

static size_t by_lzo(const uint8_t *page, uint8_t *ret)
{
    static uint8_t work[65536 * sizeof(void *)];
    int (*compress)(const uint8_t *, unsigned long, uint8_t *, unsigned long *, void *);
    unsigned long len = ROOM;
    find("liblzo2.so.2", "lzo1x_1_15_compress", &compress);
    assert_int_equal(compress(page, PAGE, ret, &len, work), 0);
    return len;
}

static size_t by_snappy(const uint8_t *page, uint8_t *ret)
{
    int (*compress)(const uint8_t *, size_t, uint8_t *, size_t *);
    size_t len = ROOM;
    find("libsnappy.so.1", "snappy_compress", &compress);
    assert_int_equal(compress(page, PAGE, ret, &len), 0);
    return len;
}

static size_t compressed(enum kr_mariadb_compression how, uint8_t *page, uint8_t *ret)
{
    uLongf len = ROOM;
    switch (how) {
    case KR_MARIADB_ZLIB:
        assert_int_equal(compress(ret, &len, page, PAGE), Z_OK);
        return len;
    case KR_MARIADB_LZ4:
        return (size_t)LZ4_compress_default((char *)page, (char *)ret, PAGE, ROOM);
    case KR_MARIADB_LZO:
        return by_lzo(page, ret);
    case KR_MARIADB_LZMA:
        return by_lzma(page, ret);
    case KR_MARIADB_BZIP2:
        return by_bzip2(page, ret);
    default:
        return by_snappy(page, ret);
    }
}

static void test_every_way(void **state)
{
    static uint8_t page[PAGE], bytes[ROOM], again[PAGE];
    (void)state;
    for (unsigned i = KR_MARIADB_ZLIB; i <= KR_MARIADB_SNAPPY; i++) {
        enum kr_mariadb_compression how = (enum kr_mariadb_compression)i;
        fill(page);
        size_t len = compressed(how, page, bytes);
        assert_true(len > 0 && len < PAGE);
        assert_int_equal(kr_mariadb_decompress(how, bytes, len, again, PAGE),
                         KR_MARIADB_DECOMPRESSED);
        assert_memory_equal(again, page, PAGE);
        for (size_t cut = 0; cut < len; cut += 1 + cut / 4)
            assert_int_equal(kr_mariadb_decompress(how, bytes, cut, again, PAGE),
                             KR_MARIADB_NOT_THAT);
        assert_int_equal(kr_mariadb_decompress(how, bytes, len, again, PAGE / 2),
                         KR_MARIADB_NOT_THAT);
        for (size_t at = 0; at < len; at += 97) { /* it may give other bytes, but not write more */
            bytes[at] ^= 0x55;
            (void)kr_mariadb_decompress(how, bytes, len, again, PAGE);
            bytes[at] ^= 0x55;
        }
    }
    assert_int_equal(kr_mariadb_decompress(KR_MARIADB_UNCOMPRESSED, bytes, 1, again, PAGE),
                     KR_MARIADB_NOT_THAT);
    assert_int_equal(kr_mariadb_decompress((enum kr_mariadb_compression)9, bytes, 1, again, PAGE),
                     KR_MARIADB_NOT_THAT);
}

/* In a process of its own, since libraries are looked for once in each. */
static void test_without_a_library(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        uint8_t page[PAGE], bytes[8] = {0};
        hidden = "libsnappy.so.1";
        bool told =
            kr_mariadb_decompress(KR_MARIADB_SNAPPY, bytes, 8, page, PAGE) ==
                KR_MARIADB_NO_LIBRARY &&
            kr_mariadb_decompress(KR_MARIADB_LZO, bytes, 8, page, PAGE) == KR_MARIADB_NOT_THAT;
        _exit(told ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_library),
        cmocka_unit_test(test_every_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
