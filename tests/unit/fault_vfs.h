/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A SQLite VFS over the system's own that fails or kills the process at a chosen step. Steps are
 * counted from the moment of arming: opening, writing, truncating, syncing, deleting and locking a
 * file; other code adds its own with fault_step(). One plan per process; a forked child inherits
 * it.
 */
#ifndef P11K_TESTS_FAULT_VFS_H
#define P11K_TESTS_FAULT_VFS_H

#include <stdbool.h>

enum fault {
    FAULT_NONE,      /* only counts */
    FAULT_FAIL_ONCE, /* this one step fails with an I/O error */
    FAULT_FULL_FROM, /* from this step on every write finds the disk full; other steps fail */
    FAULT_KILL,      /* SIGKILL before the step */
    FAULT_KILL_TORN  /* a write is done half, then SIGKILL; other steps as FAULT_KILL */
};
#define FAULT_KINDS 5

/* Makes the shim the default VFS of this process. */
void fault_vfs_install(void);
void fault_vfs_arm(enum fault fault, unsigned step);
/* Steps since arming. */
unsigned fault_vfs_steps(void);

/* Counts one step; true when it has to fail. */
bool fault_step(void);

#endif
