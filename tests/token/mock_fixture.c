/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* One token for all tests of a program, behind the mock. */
#include "mock_fixture.h"

struct fixture f;

int mock_up(void **state)
{
    (void)state;
    fixture_up(&f, "onetoken");
    mock_setup(f.dir);
    return 0;
}

int mock_down(void **state)
{
    (void)state;
    fixture_down(&f);
    return 0;
}

int no_rules(void **state)
{
    (void)state;
    mock_rules("%s", "");
    return 0;
}
