/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Texts for machines and people: hexadecimal digits, points in time. */
#include "base/clock.h"
#include "base/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void every_byte_survives_the_round_trip(void **state)
{
    (void)state;
    uint8_t bytes[256], back[256];
    char text[2 * 256 + 1];
    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    kr_hex_encode(bytes, sizeof(bytes), text);
    assert_int_equal(strlen(text), 512);
    assert_memory_equal(text, "000102", 6);
    assert_string_equal(text + 512 - 6, "fdfeff");
    assert_true(kr_hex_decode(text, 512, back));
    assert_memory_equal(back, bytes, sizeof(bytes));
}

static void both_cases_and_nothing_are_read(void **state)
{
    (void)state;
    uint8_t bytes[3] = {0};
    assert_true(kr_hex_decode("aBcDeF", 6, bytes));
    assert_memory_equal(bytes, "\xab\xcd\xef", 3);
    assert_true(kr_hex_decode("", 0, bytes));
    char text[1] = {'x'};
    kr_hex_encode(bytes, 0, text);
    assert_int_equal(text[0], '\0');
}

/* Every byte that is no digit, at either place, and an odd length. */
static void anything_else_is_refused_and_nothing_written(void **state)
{
    (void)state;
    int refused = 0;
    for (int c = 0; c < 256; c++) {
        const char first[] = {'0', '0', (char)c, '0'}, second[] = {'0', '0', '0', (char)c};
        uint8_t bytes[2] = {0xaa, 0xaa};
        bool digit = c && strchr("0123456789abcdefABCDEF", c);
        assert_int_equal(kr_hex_decode(first, 4, bytes), digit);
        assert_int_equal(bytes[0], digit ? 0 : 0xaa);
        assert_int_equal(kr_hex_decode(second, 4, bytes), digit);
        refused += !digit;
    }
    assert_int_equal(refused, 256 - 22);
    uint8_t byte = 0xaa;
    assert_false(kr_hex_decode("123", 3, &byte));
    assert_int_equal(byte, 0xaa);
}

static void time_is_written_in_utc(void **state)
{
    (void)state;
    char text[KR_TIME_TEXT];
    kr_time_text(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00Z");
    kr_time_text(1769860800, text);
    assert_string_equal(text, "2026-01-31T12:00:00Z");
    kr_time_text(INT64_MAX, text);
    assert_string_equal(text, "");
}

static void deadline_is_that_far_ahead(void **state)
{
    (void)state;
    uint64_t before = kr_now_ms();
    struct timespec at = kr_deadline(2999);
    uint64_t after = kr_now_ms();
    uint64_t ms = (uint64_t)at.tv_sec * 1000 + (uint64_t)at.tv_nsec / 1000000;
    assert_in_range(ms, before + 2999, after + 2999);
    assert_in_range(at.tv_nsec, 0, 999999999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_survives_the_round_trip),
        cmocka_unit_test(both_cases_and_nothing_are_read),
        cmocka_unit_test(anything_else_is_refused_and_nothing_written),
        cmocka_unit_test(time_is_written_in_utc),
        cmocka_unit_test(deadline_is_that_far_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
