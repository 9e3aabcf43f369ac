/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What a benchmark prints: one line per bar (its number in the table of docs/DEVELOPMENT.md, name,
 * measured, bar, and pass, FAIL or info), the same from every program; tests/lib/bench.sh has the
 * like for scripts.
 */
#ifndef P11K_TESTS_BAR_H
#define P11K_TESTS_BAR_H

#define BAR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* `number` is 0 for a bar that is not in the table. A NaN passes no bar. */
void bar_at_least(unsigned number, const char *name, double measured, double bar);
void bar_at_most(unsigned number, const char *name, double measured, double bar);

/* Reported, not gating: never a FAIL. */
void bar_reported(unsigned number, const char *name, double measured, const char *bar);

/* A measurement that explains a bar. */
void bar_info(unsigned number, const char *fmt, ...) BAR_PRINTF(2, 3);

/* The exit status of the program: 1 after a FAIL. */
int bar_exit_code(void);

/* Of `count` values, which it sorts. */
double bar_median(double *values, unsigned count);

#endif
