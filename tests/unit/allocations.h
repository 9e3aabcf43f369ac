/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Counts what OpenSSL allocates, in all threads. */
#ifndef P11K_TESTS_ALLOCATIONS_H
#define P11K_TESTS_ALLOCATIONS_H

#include <stdbool.h>
#include <stddef.h>

/* Before anything else of OpenSSL is called; false when it is too late for that. */
bool allocations_count(void);

size_t allocations_so_far(void);

#endif
