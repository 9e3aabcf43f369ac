/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A SQLite VFS that fails or kills at a chosen step. */
#include "fault_vfs.h"

#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

static enum fault plan;
static unsigned plan_step, steps;
static sqlite3_vfs *below;

/* Ours, then the file of the VFS below. */
struct shim_file {
    sqlite3_file base;
    sqlite3_file real[];
};

void fault_vfs_arm(enum fault fault, unsigned step)
{
    plan = fault;
    plan_step = step;
    steps = 0;
}

unsigned fault_vfs_steps(void)
{
    return steps;
}

static bool reached(void)
{
    steps++;
    return plan == FAULT_FULL_FROM ? steps >= plan_step : plan != FAULT_NONE && steps == plan_step;
}

static bool fails(bool at_step)
{
    if (at_step && (plan == FAULT_KILL || plan == FAULT_KILL_TORN))
        kill(getpid(), SIGKILL);
    return at_step;
}

bool fault_step(void)
{
    return fails(reached());
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct shim_file *)file)->real;
}

static int shim_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int shim_read(sqlite3_file *file, void *at, int len, sqlite3_int64 offset)
{
    return real_of(file)->pMethods->xRead(real_of(file), at, len, offset);
}

static int shim_write(sqlite3_file *file, const void *at, int len, sqlite3_int64 offset)
{
    sqlite3_file *real = real_of(file);
    bool at_step = reached();
    if (at_step && plan == FAULT_KILL_TORN)
        real->pMethods->xWrite(real, at, len / 2, offset);
    if (fails(at_step))
        return plan == FAULT_FULL_FROM ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    return real->pMethods->xWrite(real, at, len, offset);
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    if (fault_step())
        return SQLITE_IOERR_TRUNCATE;
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int shim_sync(sqlite3_file *file, int flags)
{
    if (fault_step())
        return SQLITE_IOERR_FSYNC;
    return real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int shim_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), ret);
}

static int shim_lock(sqlite3_file *file, int level)
{
    if (fault_step())
        return SQLITE_IOERR_LOCK;
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int shim_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int shim_reserved(sqlite3_file *file, int *ret)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), ret);
}

static int shim_control(sqlite3_file *file, int op, void *argument)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, argument);
}

static int shim_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int shim_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

/* Version 1: without shared memory and memory maps, which the keystore does not use. */
static const sqlite3_io_methods methods = {.iVersion = 1,
                                           .xClose = shim_close,
                                           .xRead = shim_read,
                                           .xWrite = shim_write,
                                           .xTruncate = shim_truncate,
                                           .xSync = shim_sync,
                                           .xFileSize = shim_size,
                                           .xLock = shim_lock,
                                           .xUnlock = shim_unlock,
                                           .xCheckReservedLock = shim_reserved,
                                           .xFileControl = shim_control,
                                           .xSectorSize = shim_sector,
                                           .xDeviceCharacteristics = shim_device};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                     int *ret_flags)
{
    (void)vfs;
    file->pMethods = NULL;
    if (fault_step())
        return SQLITE_CANTOPEN;
    int rc = below->xOpen(below, name, real_of(file), flags, ret_flags);
    if (real_of(file)->pMethods)
        file->pMethods = &methods;
    return rc;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    (void)vfs;
    if (fault_step())
        return SQLITE_IOERR_DELETE;
    return below->xDelete(below, name, sync_directory);
}

void fault_vfs_install(void)
{
    static sqlite3_vfs shim;
    below = sqlite3_vfs_find(NULL);
    shim = *below; /* the calls that are no steps go straight to the VFS below */
    shim.pNext = NULL;
    shim.zName = "fault";
    shim.szOsFile = (int)sizeof(struct shim_file) + below->szOsFile;
    shim.xOpen = shim_open;
    shim.xDelete = shim_delete;
    sqlite3_vfs_register(&shim, 1);
}
