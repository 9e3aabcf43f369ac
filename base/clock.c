/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Clocks. */
#include "base/clock.h"

#include <stdio.h>

uint64_t kr_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void kr_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct timespec kr_deadline(uint64_t ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(ms / 1000);
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

void kr_time_text(int64_t unix_seconds, char *ret)
{
    time_t seconds = (time_t)unix_seconds;
    struct tm utc;
    if (!gmtime_r(&seconds, &utc) || !strftime(ret, KR_TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &utc))
        ret[0] = '\0';
}

void kr_time_text_now_ms(char ret[KR_TIME_TEXT_MS])
{
    struct timespec now;
    char text[KR_TIME_TEXT];
    clock_gettime(CLOCK_REALTIME, &now);
    kr_time_text(now.tv_sec, text);
    snprintf(ret, KR_TIME_TEXT_MS, "%.19s.%03uZ", text, (unsigned)(now.tv_nsec / 1000000) % 1000);
}
