/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Ten thousand key versions: how much memory opening takes, how often the token is searched. */
#include "keyring_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { VERSIONS = 10000, MAX_GROWTH_KB = 20 * 1024 };

/* A sanitizer keeps freed memory and puts zones around the rest: its figure says nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool memory_is_ours = false;
#else
static const bool memory_is_ours = true;
#endif

/* A "VmXXX:  123 kB" line of /proc/self/status. */
static long status_kb(const char *name)
{
    char line[256];
    long kb = -1;
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), ": %ld", &kb);
    fclose(file);
    assert_true(kb >= 0);
    return kb;
}

/* Makes VmHWM start again from the present size. */
static void reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    assert_non_null(file);
    fputs("5", file);
    assert_int_equal(fclose(file), 0);
}

static void test_ten_thousand_versions(void **state)
{
    (void)state;
    static struct keyring_fixture f;
    keyring_fixture_up(&f);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    kr_keyring_close(keyring);
    keyring_fixture_add_versions(&f, 1, VERSIONS / 2);
    keyring_fixture_add_versions(&f, 4000000000u, VERSIONS / 2);

    reset_peak();
    long before = status_kb("VmHWM"), locked_before = status_kb("VmLck");
    uint64_t start = kr_now_ms();
    keyring = keyring_fixture_open(&f);
    uint64_t took = kr_now_ms() - start;
    long growth = status_kb("VmHWM") - before, locked = status_kb("VmLck") - locked_before;
    struct kr_keyring_stats stats;
    kr_keyring_get_stats(keyring, &stats);
    print_message("%d versions: %ld kB more at the peak, %ld kB locked, %u ms, %u searches\n",
                  VERSIONS, growth, locked, (unsigned)took, (unsigned)stats.token.searches);
    assert_int_equal(stats.versions, VERSIONS);
    assert_int_equal(kr_keyring_latest(keyring, 4000000000u), VERSIONS / 2);
    assert_true(growth <= MAX_GROWTH_KB || !memory_is_ours);
    assert_true(locked >= VERSIONS * (long)sizeof(struct kr_data_key) / 1024);
    assert_int_equal(stats.token.searches, 1);
    kr_keyring_close(keyring);
    keyring_fixture_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ten_thousand_versions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
