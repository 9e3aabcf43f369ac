/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * One file that is looked at: open for reading, its first bytes, its kind, and what the functions
 * of its kind need beside it.
 */
#ifndef P11K_FILES_FILE_H
#define P11K_FILES_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "files/keys.h"
#include "files/report.h"
#include "files/walk.h"

/* What the files that one thread works on share. */
struct kr_file_run {
    struct kr_file_keys *keys;  /* never NULL; it may know no keyring */
    unsigned threads;           /* that one file may be worked on by; at least 1 */
    const atomic_bool *stop;    /* ends the work soon; never NULL */
    atomic_ullong *done_bytes;  /* what progress is told by; never NULL */
    const struct kr_walk *walk; /* the other files of the run; NULL: unknown */
    bool brief; /* inspect need not look at each unit for what its number and the header say */
};

struct kr_file {
    int fd;
    const char *path; /* borrowed from the caller */
    const char *name; /* its last component */
    struct stat st;   /* as it was when it was opened */
    uint64_t size;
    uint8_t *head; /* the first bytes, head_len of them */
    size_t head_len;
    enum kr_file_kind kind;
    const struct kr_file_run *run;
    bool twice; /* it is read twice: each time is half of its progress */
};

/* Opens a regular file, no link, and reads its first bytes. KR_IO, KR_REFUSED (no regular file). */
KR_MUST_USE enum kr_status kr_file_open(const char *path, const struct kr_file_run *run,
                                        struct kr_file *ret, struct kr_error *err);
/* A file of zeroes and fd -1 is accepted. */
void kr_file_close(struct kr_file *file);
#define KR_FILE __attribute__((cleanup(kr_file_close))) struct kr_file

/* Exactly `len` bytes. KR_INTEGRITY when the file ends before, KR_IO. */
KR_MUST_USE enum kr_status kr_file_read(const struct kr_file *file, uint64_t offset, void *ret,
                                        size_t len, struct kr_error *err);

/* The bytes of a system tablespace, of whose files this is one: its size and that of the others
 * beside it (ibdata1, ibdata2). UINT64_MAX when its name does not tell which those are. */
uint64_t kr_file_system_bytes(const struct kr_file *file);

/* Whether somebody wrote to the file since it was opened: what was read may be of two moments. */
bool kr_file_changed(const struct kr_file *file);

bool kr_file_stopped(const struct kr_file *file);
/* Tells progress of `bytes` more. */
void kr_file_done(const struct kr_file *file, uint64_t bytes);

#endif
