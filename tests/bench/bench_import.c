/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * 10,000 keys from another keyring, with a millisecond for each call of the token: added to a
 * keystore, each envelope opened again and compared, and then the keyring opened, with one session
 * and with 32. And how much memory that takes.
 */
#include "life_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bar.h"
#include "base/clock.h"
#include "provider/import.h"

enum { KEYS = 10000, SESSIONS = 32, IMPORT_BAR = 15, OPEN_BAR = 15, MEMORY_BAR_KB = 64 * 1024 };

static void insist(enum kr_status status, const struct kr_error *err)
{
    if (status == KR_OK)
        return;
    fprintf(stderr, "bench_import: %s\n", err->text);
    exit(1);
}

static double seconds_since(uint64_t start)
{
    return (double)(kr_now_ms() - start) / 1000;
}

static long peak_kb(void)
{
    char line[256];
    long kb = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof(line), file))
        sscanf(line, "VmHWM: %ld", &kb);
    if (file)
        fclose(file);
    return kb;
}

static void fill(struct kr_key_set *set, uint32_t first)
{
    struct kr_error err = KR_ERROR_INIT;
    uint8_t bytes[32];
    for (uint32_t i = 0; i < KEYS; i++) {
        memset(bytes, (int)i, sizeof(bytes));
        const struct kr_set_key key = {.kind = KR_KEY_DATA,
                                       .id = first + i,
                                       .version = 1,
                                       .cipher = KR_CIPHER_AES_CBC,
                                       .bytes = bytes,
                                       .len = sizeof(bytes)};
        insist(kr_key_set_add(set, &key, &err), &err);
    }
    insist(kr_key_set_sort(set, &err), &err);
}

static double import(struct keyring_fixture *f, unsigned sessions, uint32_t first)
{
    const struct kr_import_options options = {.event = "migrate"};
    struct kr_error err = KR_ERROR_INIT;
    KR_KEY_SET set = {0};
    fill(&set, first);
    mock_rules("%s", "");
    life_configure(f, "one", sessions);
    struct kr_keyring *keyring = keyring_fixture_open(f);
    mock_rules("delay * 1");
    uint64_t start = kr_now_ms();
    insist(kr_import_survey(keyring, &set, &err), &err);
    insist(kr_import(keyring, &set, &options, &err), &err);
    double seconds = seconds_since(start);
    mock_rules("%s", "");
    kr_keyring_close(keyring);
    bar_info(0, "import, %d keys, %u sessions: %.1f s", KEYS, sessions, seconds);
    return seconds;
}

static double open_all(struct keyring_fixture *f, unsigned sessions)
{
    life_configure(f, "one", sessions);
    mock_rules("delay * 1");
    uint64_t start = kr_now_ms();
    struct kr_keyring *keyring = keyring_fixture_open(f);
    double seconds = seconds_since(start);
    mock_rules("%s", "");
    kr_keyring_close(keyring);
    bar_info(0, "open, %d keys, %u sessions: %.1f s", 2 * KEYS, sessions, seconds);
    return seconds;
}

int main(void)
{
    struct keyring_fixture f;
    life_up(&f);
    long before = peak_kb();
    double many = import(&f, SESSIONS, 1);
    long grown = peak_kb() - before;
    double one = import(&f, 1, KEYS + 1);
    bar_at_least(0, "import, 32 sessions / one", one / many, IMPORT_BAR);
    bar_at_most(0, "import, kB more at the peak", (double)grown, MEMORY_BAR_KB);
    double quick = open_all(&f, SESSIONS), slow = open_all(&f, 1);
    bar_at_least(0, "open, 32 sessions / one", slow / quick, OPEN_BAR);
    life_down(&f);
    return bar_exit_code();
}
