/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A token behind the mock, connections with several sessions, and threads that use them. */
#ifndef P11K_TESTS_POOL_FIXTURE_H
#define P11K_TESTS_POOL_FIXTURE_H

#include "mock_fixture.h"

#include <pthread.h>

enum { THREADS = 16, TIMEOUT_MS = 20000 };

/* cmocka setup of the group, to be ended by mock_down. */
int pool_up(void **state);

/* ... and of each test: counters from the start, no rules, nothing guarded, the right PIN. */
int pool_fresh(void **state);

/* A connection with at most so many sessions. */
struct kr_token *open_pool(unsigned sessions);

/* ... with all of them in use before. */
struct kr_token *open_busy_pool(unsigned sessions);

/* check_round_trip() under the master key of all tests, which is this one. */
enum kr_status round_trip(struct kr_token *token, uint8_t tag, struct kr_error *err);
extern struct kr_object_id master_id;

struct thread {
    pthread_t id;
    struct kr_token *token;
    uint8_t tag;
    unsigned rounds;
    unsigned failures;
    enum kr_status worst; /* other than KR_TOKEN_UNAVAILABLE, if there was one */
    struct kr_error err;  /* the last */
};

/* Threads that make so many round trips each. */
void start(struct thread *threads, unsigned n, struct kr_token *token, unsigned rounds);
void join(struct thread *threads, unsigned n);

/* ... none of which may fail. */
void work_together(struct kr_token *token, unsigned n, unsigned rounds);

/* ... until so many calls were made at once. */
void work_until(struct kr_token *token, unsigned n, uint64_t at_once);

#endif
