/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A token behind the mock, connections with several sessions, and threads that use them. */
#include "pool_fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct kr_object_id master_id;

struct kr_token *open_pool(unsigned sessions)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, TIMEOUT_MS);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;

    options.sessions = sessions;
    options.lock_timeout_ms = TIMEOUT_MS;
    assert_ok(kr_token_open(&options, &token, &err));
    return token;
}

enum kr_status round_trip(struct kr_token *token, uint8_t tag, struct kr_error *err)
{
    return check_round_trip(token, &master_id, tag, err);
}

int pool_up(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    struct kr_token *token;

    mock_up(state);
    token = open_pool(1);
    assert_ok(kr_master_generate(token, "test", KR_WRAP_AES_GCM, &info, &err));
    master_id = info.id;
    kr_token_close(token);
    return 0;
}

int pool_fresh(void **state)
{
    static unsigned number;
    char folder[300];

    (void)state;
    snprintf(folder, sizeof(folder), "%s/%u", f.dir, number++);
    assert_int_equal(mkdir(folder, 0700), 0);
    mock_setup(folder);
    unlink(f.guard);
    check_write_pin(&f, f.pin);
    return 0;
}

static void *work(void *argument)
{
    struct thread *t = argument;

    for (unsigned i = 0; i < t->rounds; i++) {
        enum kr_status status = round_trip(t->token, t->tag, &t->err);

        t->failures += status != KR_OK;
        if (status != KR_OK && (t->worst == KR_OK || t->worst == KR_TOKEN_UNAVAILABLE))
            t->worst = status;
    }
    return NULL;
}

void start(struct thread *threads, unsigned n, struct kr_token *token, unsigned rounds)
{
    memset(threads, 0, n * sizeof(*threads));
    for (unsigned i = 0; i < n; i++) {
        threads[i].token = token;
        threads[i].tag = (uint8_t)i;
        threads[i].rounds = rounds;
        assert_int_equal(pthread_create(&threads[i].id, NULL, work, &threads[i]), 0);
    }
}

void join(struct thread *threads, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(pthread_join(threads[i].id, NULL), 0);
}

void work_together(struct kr_token *token, unsigned n, unsigned rounds)
{
    struct thread threads[2 * THREADS];

    assert_true(n <= 2 * THREADS);
    start(threads, n, token, rounds);
    join(threads, n);
    for (unsigned i = 0; i < n; i++)
        if (threads[i].failures > 0)
            fail_msg("thread %u: %u failures: %s", i, threads[i].failures, threads[i].err.text);
}

void work_until(struct kr_token *token, unsigned n, uint64_t at_once)
{
    for (int i = 0; i < 100 && mock_calls("calls-at-once-max") < at_once; i++)
        work_together(token, n, 4);
}

struct kr_token *open_busy_pool(unsigned sessions)
{
    struct kr_token *token = open_pool(sessions);

    mock_rules("delay C_Encrypt 5\n");
    work_until(token, sessions, sessions);
    mock_rules("%s", "");
    assert_int_equal(check_stats(token).sessions, sessions);
    return token;
}
