/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Counting what was checked, and keeping what was not right. */
#include "files/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void kr_file_check_init(struct kr_file_check *check)
{
    *check = (struct kr_file_check){0};
    pthread_mutex_init(&check->lock, NULL);
}

void kr_file_check_free(struct kr_file_check *check)
{
    free(check->damages);
    pthread_mutex_destroy(&check->lock);
    *check = (struct kr_file_check){0};
}

void kr_file_check_count(struct kr_file_check *check, uint64_t checked, uint64_t unchecked,
                         uint64_t empty)
{
    pthread_mutex_lock(&check->lock);
    check->checked += checked;
    check->unchecked += unchecked;
    check->empty += empty;
    pthread_mutex_unlock(&check->lock);
}

/* Room for one more; NULL when there is none. */
static struct kr_file_damage *next_damage(struct kr_file_check *check)
{
    if (check->damage_count >= KR_FILE_DAMAGES_MAX)
        return NULL;
    struct kr_file_damage *damages =
        reallocarray(check->damages, check->damage_count + 1, sizeof(*damages));
    if (!damages) {
        check->lost = true;
        return NULL;
    }
    check->damages = damages;
    return &damages[check->damage_count++];
}

void kr_file_check_damage(struct kr_file_check *check, uint64_t unit, const char *fmt, ...)
{
    va_list args;
    pthread_mutex_lock(&check->lock);
    check->damaged++;
    struct kr_file_damage *damage = next_damage(check);
    if (damage) {
        damage->unit = unit;
        va_start(args, fmt);
        vsnprintf(damage->why, sizeof(damage->why), fmt, args);
        va_end(args);
    }
    pthread_mutex_unlock(&check->lock);
}

static int by_unit(const void *a, const void *b)
{
    const struct kr_file_damage *one = a, *other = b;
    return (one->unit > other->unit) - (one->unit < other->unit);
}

void kr_file_check_end(struct kr_file_check *check)
{
    if (check->damage_count > 1)
        qsort(check->damages, check->damage_count, sizeof(*check->damages), by_unit);
}
