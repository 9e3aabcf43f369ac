/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Clocks: monotonic milliseconds for deadlines, UTC text for people and records. */
#ifndef P11K_BASE_CLOCK_H
#define P11K_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC in milliseconds. */
uint64_t kr_now_ms(void);

/* A condition that waits by CLOCK_MONOTONIC: setting the date neither hurries nor delays it. */
void kr_cond_init(pthread_cond_t *cond);

/* `ms` milliseconds from now, for pthread_cond_timedwait on such a condition. */
struct timespec kr_deadline(uint64_t ms);

/* RFC 3339 in UTC, "2026-01-31T12:00:00Z"; `ret` holds at least KR_TIME_TEXT bytes. */
#define KR_TIME_TEXT 24
void kr_time_text(int64_t unix_seconds, char *ret);

/* Now, with milliseconds: "2026-01-31T12:00:00.123Z". */
#define KR_TIME_TEXT_MS 28
void kr_time_text_now_ms(char ret[KR_TIME_TEXT_MS]);

#endif
