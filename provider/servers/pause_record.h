/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The record of paused servers: a file with one server on each line, locked as long as a process
 * is there that will resume them. It is there before the first server is paused, and goes when the
 * last one is resumed. Private to pause.
 */
#ifndef P11K_SERVERS_PAUSE_RECORD_H
#define P11K_SERVERS_PAUSE_RECORD_H

#include "servers/pause.h"

/* Where a server is. A socket that is gone says that its server has ended, an option file does
 * not. */
struct kr_pause_target {
    char *spec; /* a full path */
    bool is_socket;
};

struct kr_pause_record {
    int fd; /* locked */
    size_t count;
    struct kr_pause_target targets[KR_PAUSE_SERVERS_MAX];
};

/* KR_REFUSED when there is a record. */
KR_MUST_USE enum kr_status kr_pause_record_check(const char *path, struct kr_error *err);

/* Makes it, durably; *ret_fd holds its lock. KR_REFUSED when there is one. */
KR_MUST_USE enum kr_status kr_pause_record_write(const char *path,
                                                 const struct kr_pause_target *targets,
                                                 size_t count, int *ret_fd, struct kr_error *err);

/* KR_REFUSED while somebody holds its lock, or when another account made it; KR_NOT_FOUND. */
KR_MUST_USE enum kr_status kr_pause_record_read(const char *path, struct kr_pause_record *ret,
                                                struct kr_error *err);
void kr_pause_record_cleanup(struct kr_pause_record *record);
#define KR_PAUSE_RECORD __attribute__((cleanup(kr_pause_record_cleanup))) struct kr_pause_record

KR_MUST_USE enum kr_status kr_pause_record_remove(const char *path, struct kr_error *err);

#endif
