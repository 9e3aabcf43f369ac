/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * One connection of the load: its statements are timed, its failures logged, and a lost connection
 * is made again. Each client belongs to one thread.
 */
#ifndef P11K_TESTS_LOAD_CLIENT_H
#define P11K_TESTS_LOAD_CLIENT_H

#include <mysql.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct client {
    const char *name;      /* in the log */
    bool log_all;          /* not only what failed or was slow */
    MYSQL *mysql;          /* NULL: not connected */
    unsigned seed;         /* of client_random() */
    _Atomic int64_t since; /* when the statement that is under way began; 0: none is */
    _Atomic int64_t slowest;
    _Atomic uint64_t statements, failures, lost, wrong;
    _Atomic bool ended;
};

/* The server's socket, and the log: a line "NAME ERROR FROM TO TEXT" for a statement, with the
 * error's number (0: none) and times in microseconds since 1970. */
bool load_open(const char *socket, const char *log);

int64_t load_now(void);
void load_pause(unsigned ms);

/* Tries once; true when there is a connection. A new one is made known by *ret_new. */
bool client_connect(struct client *client, bool *ret_new);
void client_close(struct client *client);

/* Runs a statement (printf-like) and forgets its rows; 0 or the error's number. After a lost
 * connection client->mysql is NULL. */
unsigned client_run(struct client *client, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The numbers of a statement's one row. */
unsigned client_numbers(struct client *client, int64_t *ret, unsigned count, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A result that must not be. */
void client_wrong(struct client *client, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* 0..below-1 */
unsigned client_random(struct client *client, unsigned below);

#endif
