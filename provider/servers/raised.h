/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Variables of a MariaDB server that are set for the time of some work, and put back after it. What
 * they were is written to a file first: a run that was killed leaves it for the next one.
 */
#ifndef P11K_SERVERS_RAISED_H
#define P11K_SERVERS_RAISED_H

#include <stdint.h>

#include "servers/connection.h"

enum kr_raised_variable { KR_RAISED_THREADS, KR_RAISED_IOPS, KR_RAISED_AGE, KR_RAISED_COUNT };
extern const char *const kr_raised_names[KR_RAISED_COUNT]; /* "innodb_encryption_threads", ... */

struct kr_raised {
    char path[1024];       /* of the record */
    bool found;            /* of this life of the server, and a variable is still raised */
    uint64_t server_start; /* unix seconds */
    struct {
        bool set; /* and still raised */
        unsigned before, raised;
    } of[KR_RAISED_COUNT];
};

/* What a record in `folder` says of this server; one of an earlier life of the server says nothing.
 * KR_INTEGRITY for a record that makes no sense. */
KR_MUST_USE enum kr_status kr_raised_read(struct kr_server_conn *conn, const char *folder,
                                          struct kr_raised *ret, struct kr_error *err);

/* Sets each variable whose `to` is not 0, after the record is on the disk. What an earlier record
 * says is put back first. The folder is made; it must be ours alone. *ret_record is the open record
 * or -1: with it, the record can be ended also by a process that has given up its rights. */
KR_MUST_USE enum kr_status kr_raised_set(struct kr_server_conn *conn, const char *folder,
                                         const unsigned to[KR_RAISED_COUNT], int *ret_record,
                                         struct kr_error *err);

/* Puts back what the record says, if there is one, and ends it. A variable that somebody else has
 * set since stays. `record` may be -1. */
KR_MUST_USE enum kr_status kr_raised_put_back(struct kr_server_conn *conn, const char *folder,
                                              int record, struct kr_error *err);

#endif
