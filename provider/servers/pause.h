/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Pausing the keyrings of running servers, all or none, while their keystore is worked on:
 * keyring_operations on MySQL, pkcs11_key_management_operations on MariaDB.
 *
 * The connections belong to a process of their own, the watchdog, which outlives this one: it puts
 * the servers back when it is told to, or when this process ends in whatever way. For the case
 * that it ends as well, a record file beside the keystore names the servers that are paused;
 * kr_pause_repair() puts back what it names.
 *
 * - kr_pause_open(): before threads, tokens and secrets, and before root's rights are given up
 * - kr_pause_servers(): as late as possible
 * - kr_pause_check(): before what is done is committed
 * - kr_resume_servers(), or kr_pause_close(), which does it unless it was done
 */
#ifndef P11K_SERVERS_PAUSE_H
#define P11K_SERVERS_PAUSE_H

#include "servers/connection.h"

struct kr_pause;

enum { KR_PAUSE_SERVERS_MAX = 16, KR_PAUSE_NAME = 192 };

enum kr_pause_state {
    KR_PAUSE_ON,      /* not paused yet, or no more */
    KR_PAUSE_OFF,     /* paused by us */
    KR_PAUSE_WAS_OFF, /* somebody else had paused it: left as it is */
    KR_PAUSE_NONE,    /* a MariaDB without our plugin: it reads a key file when it starts only */
    KR_PAUSE_ENDED    /* does not run any more: it is on when it starts again */
};

struct kr_paused_server {
    char name[KR_PAUSE_NAME]; /* "MySQL 9.7.4 at /run/mysqld/mysqld.sock" */
    enum kr_pause_state state;
};

/* The record of a keystore or key file: its path with this behind it, malloc'ed; NULL when out of
 * memory. */
#define KR_PAUSE_SUFFIX ".paused-servers"
char *kr_pause_record_path(const char *path);

/* Starts the watchdog, connects to each server (`specs` as kr_server_connect(); the options'
 * password may be a prompt) and sees that its account may pause it; nothing is paused. KR_REFUSED
 * when privileges are missing, which names all on all servers, and when the record file is there:
 * another run is at work, or was killed. */
KR_MUST_USE enum kr_status kr_pause_open(const char *const *specs, size_t count,
                                         const struct kr_server_options *options,
                                         const char *record_path, struct kr_pause **ret,
                                         struct kr_error *err);

/* Pauses all that are on, or none. */
KR_MUST_USE enum kr_status kr_pause_servers(struct kr_pause *pause, struct kr_error *err);

/* KR_REFUSED when a server that was paused has ended or is on again: it may be using the keystore.
 */
KR_MUST_USE enum kr_status kr_pause_check(struct kr_pause *pause, struct kr_error *err);

/* Puts back what was paused. A failure names the first server that could not be; the record then
 * stays, and the hint says how to repair it. */
KR_MUST_USE enum kr_status kr_resume_servers(struct kr_pause *pause, struct kr_error *err);

/* As they were at the last call, in the order of `specs`. Owned by `pause`. */
const struct kr_paused_server *kr_pause_list(const struct kr_pause *pause, size_t *ret_count);

/* Ends the watchdog, which first resumes what is still paused. NULL is accepted. */
void kr_pause_close(struct kr_pause *pause);
void kr_pause_cleanup(struct kr_pause **pause);
#define KR_PAUSE __attribute__((cleanup(kr_pause_cleanup))) struct kr_pause

/* Puts back the servers that a record names, as the same account that made it, and removes it.
 * *ret_count is 0 without a record. KR_REFUSED while a run, or its watchdog, is still at work. */
KR_MUST_USE enum kr_status kr_pause_repair(const char *record_path,
                                           const struct kr_server_options *options,
                                           struct kr_paused_server ret[KR_PAUSE_SERVERS_MAX],
                                           size_t *ret_count, struct kr_error *err);

#endif
