/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * master rotate over 10,000 envelopes with a millisecond for each call of the token: with one
 * session and with 32.
 */
#include "life_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "bar.h"
#include "base/clock.h"

enum { VERSIONS = 10000, SESSIONS = 32, BAR = 20 };

static double rotate(struct keyring_fixture *f, unsigned sessions)
{
    struct kr_error err = KR_ERROR_INIT;
    const struct kr_life_options options = {0};
    struct kr_life_result result;
    mock_rules("%s", "");
    life_configure(f, "one", sessions);
    struct kr_keyring *keyring = keyring_fixture_open(f);
    mock_rules("delay * 1");
    uint64_t start = kr_now_ms();
    enum kr_status status = kr_keyring_rotate_masters(keyring, &options, &result, &err);
    double seconds = (double)(kr_now_ms() - start) / 1000;
    mock_rules("%s", "");
    kr_keyring_close(keyring);
    if (status != KR_OK || result.rewrapped != VERSIONS + 1) {
        fprintf(stderr, "master rotate: %s\n", err.text);
        exit(1);
    }
    bar_info(0, "master rotate, %d envelopes, %u sessions: %.1f s", VERSIONS, sessions, seconds);
    return seconds;
}

int main(void)
{
    struct keyring_fixture f;
    life_up(&f);
    keyring_fixture_add_versions(&f, 1, VERSIONS);
    double many = rotate(&f, SESSIONS), one = rotate(&f, 1);
    bar_at_least(0, "master rotate, 32 sessions / one", one / many, BAR);
    life_down(&f);
    return bar_exit_code();
}
