/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Finds the files to look at: those that are named, and all regular files below the folders that
 * are, in the order of their names. Links below a folder are not followed, other file systems not
 * entered; both are told, as is what cannot be read: nothing is left out in silence.
 */
#ifndef P11K_FILES_WALK_H
#define P11K_FILES_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct kr_walk_file {
    char *path;
    uint64_t size; /* as it was seen */
};

/* What was not looked at. */
struct kr_walk_skip {
    char *path;
    char why[120];
    bool harmless; /* a socket, a pipe: it holds no data */
};

struct kr_walk {
    struct kr_walk_file *files;
    size_t count;
    uint64_t bytes; /* of all files */
    struct kr_walk_skip *skips;
    size_t skip_count;
};

/* A path that is not there is KR_NOT_FOUND. */
KR_MUST_USE enum kr_status kr_walk(char *const *paths, size_t count, struct kr_walk *ret,
                                   struct kr_error *err);
void kr_walk_free(struct kr_walk *walk);
#define KR_WALK __attribute__((cleanup(kr_walk_free))) struct kr_walk

#endif
