/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* One line per bar. */
#include "bar.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;

static void begin(unsigned number)
{
    if (number > 0)
        printf("%2u  ", number);
    else
        printf(" -  ");
}

static void line(unsigned number, const char *name, double measured, const char *bar,
                 const char *verdict)
{
    begin(number);
    printf("%-54s %9.3f  %-9s %s\n", name, measured, bar, verdict);
    fflush(stdout);
}

static void judge(unsigned number, const char *name, double measured, const char *sense, double bar,
                  bool passed)
{
    char text[32];

    snprintf(text, sizeof(text), "%s%.2f", sense, bar);
    line(number, name, measured, text, passed ? "pass" : "FAIL");
    failures += !passed;
}

void bar_at_least(unsigned number, const char *name, double measured, double bar)
{
    judge(number, name, measured, ">=", bar, measured >= bar);
}

void bar_at_most(unsigned number, const char *name, double measured, double bar)
{
    judge(number, name, measured, "<=", bar, measured <= bar);
}

void bar_reported(unsigned number, const char *name, double measured, const char *bar)
{
    line(number, name, measured, bar, "info");
}

void bar_info(unsigned number, const char *fmt, ...)
{
    va_list args;

    begin(number);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    puts("  info");
    fflush(stdout);
}

int bar_exit_code(void)
{
    return failures > 0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bar_median(double *values, unsigned count)
{
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}
