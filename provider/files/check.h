/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The result of verifying one file. Its functions may be called from several threads at once.
 */
#ifndef P11K_FILES_CHECK_H
#define P11K_FILES_CHECK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { KR_FILE_DAMAGES_MAX = 1000 }; /* that are kept; all are counted */

struct kr_file_damage {
    uint64_t unit; /* its number, from 0 */
    char why[88];
};

struct kr_file_check {
    pthread_mutex_t lock;
    uint64_t checked;   /* units that were read, decrypted where needed, and are right */
    uint64_t unchecked; /* units that carry nothing to check them by, empty ones aside */
    uint64_t empty;     /* units of zeroes, as servers leave them in the middle and at the end */
    uint64_t damaged;
    struct kr_file_damage *damages; /* by number, once kr_file_check_end() was called */
    size_t damage_count;
    bool lost; /* no memory for a damage, which was counted */
};

void kr_file_check_init(struct kr_file_check *check);
void kr_file_check_free(struct kr_file_check *check);

/* Adds to the counts. */
void kr_file_check_count(struct kr_file_check *check, uint64_t checked, uint64_t unchecked,
                         uint64_t empty);
/* One damaged unit. */
void kr_file_check_damage(struct kr_file_check *check, uint64_t unit, const char *fmt, ...)
    KR_PRINTF(3, 4);
/* Sorts the damages. */
void kr_file_check_end(struct kr_file_check *check);

#endif
