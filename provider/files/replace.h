/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Another content for a file, or a new file: written beside it, with its owner and mode, and put in
 * its place in one step. Killed before that step the old file is there, after it the new one.
 */
#ifndef P11K_FILES_REPLACE_H
#define P11K_FILES_REPLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/status.h"

struct kr_replacement {
    int fd;
    const char *path; /* borrowed */
    char *beside;     /* the name while it is written */
};

/* Whether this is the name of one that a killed run may have left. */
bool kr_replacement_is_name(const char *path);

/* Whether the folder may be written to, and has room for so many bytes. KR_IO. */
KR_MUST_USE enum kr_status kr_replacement_check(const char *path, uint64_t bytes,
                                                struct kr_error *err);

/* What an earlier, killed run left beside the file is removed. `like` is what the file is now;
 * NULL: there is none, and the new one is open to its owner alone. `path` is borrowed. KR_IO. */
KR_MUST_USE enum kr_status kr_replacement_open(const char *path, const struct stat *like,
                                               struct kr_replacement *ret, struct kr_error *err);
/* Puts it on the disk; it can be read by its name beside the file. */
KR_MUST_USE enum kr_status kr_replacement_sync(const struct kr_replacement *replacement,
                                               struct kr_error *err);
KR_MUST_USE enum kr_status kr_replacement_commit(struct kr_replacement *replacement,
                                                 struct kr_error *err);
/* Without a commit before, only the old file is left. A zeroed one with fd -1 is accepted. */
void kr_replacement_close(struct kr_replacement *replacement);
#define KR_REPLACEMENT __attribute__((cleanup(kr_replacement_close))) struct kr_replacement

#endif
