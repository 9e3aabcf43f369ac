/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Which keys the files of a run need, and whether that is all there is to know: a key that no file
 * needs may go only when every file could be asked.
 */
#ifndef P11K_FILES_USAGE_H
#define P11K_FILES_USAGE_H

#include <pthread.h>

#include "files/file.h"
#include "files/walk.h"

/* One key, as in struct kr_file_need, over all files. */
struct kr_usage_key {
    char name[96];
    char label[128]; /* of a master key that the keyring has */
    bool master;
    uint32_t id, version;
    bool here;   /* the keyring's keystore names it */
    bool in_use; /* by the keyring or a server, whatever files need: it is the newest of its kind */
    uint64_t files, units;
};

struct kr_usage {
    pthread_mutex_t lock;
    struct kr_usage_key *keys; /* ordered once kr_usage_end() was called */
    size_t key_count;
    uint64_t files;
    uint64_t silent;                    /* files that could not be asked as a whole */
    uint64_t unknown;                   /* files of no kind that is known, with something in them */
    char *first_silent, *first_unknown; /* paths, to begin with */
};

void kr_usage_init(struct kr_usage *usage);
void kr_usage_free(struct kr_usage *usage);

/* Adds one file. What is wrong with it makes it a silent one; fails without memory alone. May be
 * called from several threads. */
KR_MUST_USE enum kr_status kr_usage_add(struct kr_usage *usage, const char *path,
                                        const struct kr_file_run *run, struct kr_error *err);

/* Adds the keys that the keyring has and no file needs, and puts all in order. What the walk left
 * out counts as silent, unless it holds no data. */
KR_MUST_USE enum kr_status kr_usage_end(struct kr_usage *usage, const struct kr_walk *walk,
                                        struct kr_file_keys *keys, struct kr_error *err);

#endif
