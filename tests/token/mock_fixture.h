/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* One token for all tests of a program, behind the mock. */
#ifndef P11K_TESTS_MOCK_FIXTURE_H
#define P11K_TESTS_MOCK_FIXTURE_H

#include "check.h"

extern struct fixture f; /* its token is "onetoken" */

/* cmocka setup and teardown of the group. */
int mock_up(void **state);
int mock_down(void **state);

/* ... and of each test: the mock does as the real module. */
int no_rules(void **state);

#endif
