/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Killing a process at a random moment, and telling whether it was in the middle of a write: it is
 * stopped first, looked at while it stands still, and then killed. Works on any child process, a
 * forked loop as well as the real admin tool.
 */
#ifndef P11K_TESTS_KILL_WINDOW_H
#define P11K_TESTS_KILL_WINDOW_H

#include <stdbool.h>
#include <sys/types.h>

struct kill_tally {
    const char *name;
    unsigned kills, inside, late; /* late: the process had ended before the signal came */
};

/* Asked while the process stands still: true when a write is under way. */
typedef bool (*kill_inside)(const void *context);

/* `context` is the keystore's path: its rollback journal exists from the first changed page until
 * the commit. */
bool kill_inside_journal(const void *context);

/* $P11K_KILLS, or `otherwise`. */
unsigned kill_count(unsigned otherwise);

/* Sleeps for a random time below `microseconds`. */
void kill_sleep(unsigned microseconds);

/* Waits (at most a second) for a write to begin, then a random time below `microseconds`: for
 * processes that write only during a small part of their life. Does not give up the processor,
 * since a sleep is longer than a write. */
void kill_aim(kill_inside inside, const void *context, unsigned microseconds);

/* Stops, looks, kills and reaps a child. */
void kill_child(pid_t pid, kill_inside inside, const void *context, struct kill_tally *tally);

/* Prints "NAME: kills N, inside the write window M"; false when fewer than half were. */
bool kill_report(const struct kill_tally *tally);

#endif
