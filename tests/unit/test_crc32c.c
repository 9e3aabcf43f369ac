/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* CRC-32C against the vectors of RFC 3720 B.4 and against its definition, bit by bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <isa-l/crc.h>
#include <openssl/rand.h>

#include "hwaccel/crc32c.h"

/* The polynomial 0x1EDC6F41 with its bits reversed. */
static uint32_t by_definition(uint32_t crc, const uint8_t *bytes, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78U : 0);
    }
    return ~crc;
}

static void known_vectors(void **state)
{
    (void)state;
    static const uint8_t scsi_read[48] = {
        1, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0,
        0, 0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2,    0, 0, 0, 0, 0, 0, 0};
    uint8_t bytes[32];
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(kr_crc32c(0, bytes, 32), 0x8A9136AA);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(kr_crc32c(0, bytes, 32), 0x62A8AB43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(kr_crc32c(0, bytes, 32), 0x46DD794E);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = 31 - i;
    assert_int_equal(kr_crc32c(0, bytes, 32), 0x113FDB5C);
    assert_int_equal(kr_crc32c(0, scsi_read, sizeof(scsi_read)), 0xD9963A56);
    assert_int_equal(kr_crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(kr_crc32c(0, "", 0), 0);
}

/* Every length around the steps of the fast ways, at every alignment, in one piece and in two; and
 * ISA-L's way for processors without the instructions gives the same. */
static void same_as_the_definition(void **state)
{
    (void)state;
    enum { LENGTHS = 700, ALIGNMENTS = 17 };
    uint8_t bytes[LENGTHS + ALIGNMENTS];
    assert_int_equal(RAND_bytes(bytes, sizeof(bytes)), 1);
    for (size_t len = 0; len < LENGTHS; len++) {
        uint8_t *at = bytes + len % ALIGNMENTS;
        uint32_t crc = by_definition(0, at, len), first = kr_crc32c(0, at, len / 3);
        assert_int_equal(kr_crc32c(0, at, len), crc);
        assert_int_equal(kr_crc32c(first, at + len / 3, len - len / 3), crc);
        assert_int_equal(~crc32_iscsi_base(at, (int)len, ~0U), crc);
    }
}

static void pages(void **state)
{
    (void)state;
    for (size_t len = 1024; len <= 65536; len *= 2) {
        uint8_t *page = malloc(len);
        assert_non_null(page);
        assert_int_equal(RAND_bytes(page, (int)len), 1);
        uint32_t crc = by_definition(0, page, len);
        assert_int_equal(kr_crc32c(0, page, len), crc);
        page[len / 2] ^= 1;
        assert_int_not_equal(kr_crc32c(0, page, len), crc);
        free(page);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors),
        cmocka_unit_test(same_as_the_definition),
        cmocka_unit_test(pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
