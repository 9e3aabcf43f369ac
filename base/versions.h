/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Lists of server versions, as in `server-versions = 8.4.3-8.4.7, 9.7`: an entry is a version or
 * two with a hyphen between them, both included. A version that leaves numbers out stands for all
 * that begin with it.
 */
#ifndef P11K_BASE_VERSIONS_H
#define P11K_BASE_VERSIONS_H

#include <stdbool.h>

/* One entry or more, separated by commas or blanks, each of at most three numbers below 1000. */
bool kr_versions_valid(const char *list);

/* `version` is what a server says of itself, "9.7.4-0+deb13u1": what follows the third number does
 * not count. False when it does not begin with three numbers. */
bool kr_versions_include(const char *list, const char *version);

#endif
