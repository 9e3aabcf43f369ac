/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Many callers at one token: sessions work in parallel, up to the limit; what one of them loses is
 * repaired for it alone, what all lose once for all. With P11K_SOAK=1 in full counts.
 */
#include "check.h"

#include "pkcs11/pin_guard.h"

#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS = 16, TIMEOUT_MS = 20000 };

static struct fixture f;
static struct kr_object_id master_id;

static struct kr_token *open_pool(unsigned sessions)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, TIMEOUT_MS);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;

    options.sessions = sessions;
    options.lock_timeout_ms = TIMEOUT_MS;
    assert_ok(kr_token_open(&options, &token, &err));
    return token;
}

static struct kr_token_stats stats_of(const struct kr_token *token)
{
    struct kr_token_stats stats;

    kr_token_get_stats(token, &stats);
    return stats;
}

/* The key tells which call it was, so that answers to others' questions show. */
static enum kr_status round_trip(struct kr_token *token, uint8_t tag, struct kr_error *err)
{
    uint8_t key[KR_SEALING_KEY_BYTES] = {tag, 2, 3}, back[KR_SEALING_KEY_BYTES] = {0};
    uint8_t wrapped[KR_WRAPPED_MAX];
    size_t len = 0;

    KR_TRY(kr_master_wrap(token, &master_id, KR_WRAP_AES_GCM, key, wrapped, &len, err));
    KR_TRY(kr_master_unwrap(token, &master_id, KR_WRAP_AES_GCM, wrapped, len, back, err));
    return memcmp(key, back, sizeof(key)) == 0 ? KR_OK
                                               : kr_fail(err, KR_INTERNAL, "another key came back");
}

static int up(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    struct kr_token *token;

    (void)state;
    fixture_up(&f, "pooltest");
    mock_setup(f.dir);
    token = open_pool(1);
    assert_ok(kr_master_generate(token, "test", KR_WRAP_AES_GCM, &info, &err));
    master_id = info.id;
    kr_token_close(token);
    return 0;
}

static int down(void **state)
{
    (void)state;
    fixture_down(&f);
    return 0;
}

/* Between tests: counters from the start, no rules, nothing guarded, the right PIN. */
static int fresh(void **state)
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

/* --- threads ------------------------------------------------------------------------------------
 */

struct thread {
    pthread_t id;
    struct kr_token *token;
    uint8_t tag;
    unsigned rounds;
    unsigned failures;
    enum kr_status worst; /* other than KR_TOKEN_UNAVAILABLE, if there was one */
    struct kr_error err;  /* the last */
};

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

static void start(struct thread *threads, unsigned n, struct kr_token *token, unsigned rounds)
{
    memset(threads, 0, n * sizeof(*threads));
    for (unsigned i = 0; i < n; i++) {
        threads[i].token = token;
        threads[i].tag = (uint8_t)i;
        threads[i].rounds = rounds;
        assert_int_equal(pthread_create(&threads[i].id, NULL, work, &threads[i]), 0);
    }
}

static void join(struct thread *threads, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(pthread_join(threads[i].id, NULL), 0);
}

static void work_together(struct kr_token *token, unsigned n, unsigned rounds)
{
    struct thread threads[2 * THREADS];

    assert_true(n <= 2 * THREADS);
    start(threads, n, token, rounds);
    join(threads, n);
    for (unsigned i = 0; i < n; i++)
        if (threads[i].failures > 0)
            fail_msg("thread %u: %u failures: %s", i, threads[i].failures, threads[i].err.text);
}

/* --- sessions -----------------------------------------------------------------------------------
 */

/* Work that goes on until so many calls were made at once. */
static void work_until(struct kr_token *token, unsigned n, uint64_t at_once)
{
    for (int i = 0; i < 100 && mock_calls("calls-at-once-max") < at_once; i++)
        work_together(token, n, 4);
}

static void works_in_parallel(void **state)
{
    struct kr_token *token = open_pool(1);

    (void)state;
    mock_rules("delay C_Encrypt 5\n");
    work_together(token, 8, 4);
    assert_int_equal(mock_calls("calls-at-once-max"), 1);
    assert_int_equal(stats_of(token).sessions, 1);
    kr_token_close(token);

    token = open_pool(8);
    assert_int_equal(stats_of(token).sessions, 1);
    work_until(token, 12, 8);
    assert_int_equal(mock_calls("calls-at-once-max"), 8);
    assert_int_equal(stats_of(token).sessions, 8);
    assert_int_equal(mock_calls("sessions-open"), 8);
    assert_int_equal(stats_of(token).logins, 1);
    assert_int_equal(stats_of(token).searches, 1);
    assert_int_equal(stats_of(token).errors, 0);
    kr_token_close(token);
    assert_int_equal(mock_calls("sessions-open"), 0);
}

static void keeps_to_what_the_token_has(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_pool(8), *other;

    (void)state;
    mock_rules("limit-sessions 3\ndelay C_Encrypt 5\n");
    work_until(token, 8, 3); /* those who ask for a fourth session are calls, too */
    assert_true(mock_calls("calls-at-once-max") >= 3);
    assert_int_equal(mock_calls("sessions-open"), 3);
    assert_int_equal(stats_of(token).sessions, 3);
    assert_int_equal(stats_of(token).errors, 0);
    assert_int_equal(stats_of(token).evictions, 0);
    kr_token_close(token);

    /* Without a single one of its own it is an error, until there is room. */
    token = open_pool(2);
    mock_rules("limit-sessions 1\n");
    other = (struct kr_token *)&err;
    assert_int_equal(
        kr_token_open(
            &(struct kr_token_options){.module = P11K_MOCK, .uri = f.uri, .timeout_ms = 50}, &other,
            &err),
        KR_TOKEN_UNAVAILABLE);
    assert_error(&err, KR_TOKEN_UNAVAILABLE, "CKR_SESSION_COUNT", "close other programs");
    assert_ptr_equal(other, &err);
    assert_ok(round_trip(token, 0, &err));
    kr_token_close(token);
}

/* What the token itself says of its sessions. */
static void believes_the_token(void **state)
{
    struct kr_token *token;

    (void)state;
    mock_rules("max-sessions 2\ndelay C_Encrypt 5\n");
    token = open_pool(8);
    work_until(token, 8, 2);
    assert_int_equal(stats_of(token).sessions, 2);
    assert_int_equal(mock_calls("C_OpenSession"), 2);
    kr_token_close(token);
}

/* --- losses -------------------------------------------------------------------------------------
 */

static struct kr_token *open_busy_pool(unsigned sessions)
{
    struct kr_token *token = open_pool(sessions);

    mock_rules("delay C_Encrypt 5\n");
    work_until(token, sessions, sessions);
    mock_rules("%s", "");
    assert_int_equal(stats_of(token).sessions, sessions);
    return token;
}

static void evicts_one_session(void **state)
{
    struct kr_token *token = open_busy_pool(4);

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        mock_rules("lose-session C_EncryptInit 1 1\n");
        work_together(token, 4, 4);
        assert_int_equal(stats_of(token).evictions, i);
    }
    assert_int_equal(stats_of(token).reconnects, 0);
    assert_int_equal(stats_of(token).logins, 1);
    assert_int_equal(stats_of(token).searches, 1);
    assert_int_equal(stats_of(token).errors, 0);
    kr_token_close(token);
}

/* One call of many meets a token that was pulled and put back. */
static void rebuilds_once_for_all(void **state)
{
    struct kr_token *token = open_busy_pool(8);

    (void)state;
    mock_rules("fail C_EncryptInit 0x%lx 3 1\ndelay C_Encrypt 2\n", CKR_DEVICE_REMOVED);
    work_together(token, THREADS, 4);
    assert_int_equal(stats_of(token).reconnects, 1);
    assert_int_equal(stats_of(token).logins, 2);
    assert_int_equal(stats_of(token).searches, 2);
    assert_int_equal(stats_of(token).errors, 0);
    assert_true(mock_calls("sessions-open") <= 8);
    assert_int_equal(mock_calls("sessions-open"), stats_of(token).sessions);
    kr_token_close(token);
}

static void *bring_back(void *unused)
{
    (void)unused;
    usleep(300000);
    mock_rules("%s", "");
    return NULL;
}

static void waits_for_a_token_together(void **state)
{
    struct kr_token *token = open_busy_pool(8);
    struct thread threads[THREADS];
    pthread_t friend;

    (void)state;
    mock_rules("token-gone\n");
    assert_int_equal(pthread_create(&friend, NULL, bring_back, NULL), 0);
    start(threads, THREADS, token, 4);
    join(threads, THREADS);
    pthread_join(friend, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(threads[i].failures, 0);
    assert_int_equal(mock_calls("sessions-open"), stats_of(token).sessions);
    kr_token_close(token);
}

/* A reason that says nothing of the token, and one by which some say "too many requests". */
static void a_failure_is_no_lost_token(void **state)
{
    static const CK_RV failures[] = {CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_DEVICE_ERROR};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_pool(4);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        mock_rules("fail C_EncryptInit 0x%lx 1 2\n", failures[i]);
        assert_ok(round_trip(token, 0, &err));
        assert_int_equal(stats_of(token).reconnects, 0);
    }
    kr_token_close(token);
}

/* Nor does one answer to a good wrap damn it, nor many: the token must show that it works. */
static void a_failure_is_no_damage(void **state)
{
    uint8_t key[KR_SEALING_KEY_BYTES] = {1}, wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_options options = check_options(&f, P11K_MOCK, 500);
    struct kr_token *token = NULL;
    size_t len = 0;

    (void)state;
    assert_ok(kr_token_open(&options, &token, &err));
    assert_ok(kr_master_wrap(token, &master_id, KR_WRAP_AES_GCM, key, wrapped, &len, &err));
    mock_rules("fail C_Decrypt 0x%lx 1 1\n", CKR_GENERAL_ERROR);
    assert_ok(kr_master_unwrap(token, &master_id, KR_WRAP_AES_GCM, wrapped, len, key, &err));
    mock_rules("fail C_Decrypt 0x%lx 1 1\n", CKR_ENCRYPTED_DATA_INVALID);
    assert_ok(kr_master_unwrap(token, &master_id, KR_WRAP_AES_GCM, wrapped, len, key, &err));
    mock_rules("fail C_Decrypt 0x%lx\n", CKR_GENERAL_ERROR);
    assert_int_equal(kr_master_unwrap(token, &master_id, KR_WRAP_AES_GCM, wrapped, len, key, &err),
                     KR_TOKEN_UNAVAILABLE);
    mock_rules("%s", "");
    wrapped[len - 1] ^= 1;
    assert_int_equal(kr_master_unwrap(token, &master_id, KR_WRAP_AES_GCM, wrapped, len, key, &err),
                     KR_INTEGRITY);
    assert_ok(round_trip(token, 0, &err));
    kr_token_close(token);
}

/* New handles are asked for once, whoever meets an old one. */
static void searches_again_for_all(void **state)
{
    struct kr_token *token = open_busy_pool(8);

    (void)state;
    mock_rules("fail C_EncryptInit 0x%lx 1 1\n", CKR_KEY_HANDLE_INVALID);
    work_together(token, 8, 4);
    assert_int_equal(stats_of(token).searches, 2);
    assert_int_equal(stats_of(token).evictions, 0);
    assert_int_equal(stats_of(token).reconnects, 0);
    kr_token_close(token);
}

/* A call that hangs costs its caller the time, and nobody else. */
static void one_hung_call_holds_up_nobody(void **state)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 1000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;
    struct thread hung;

    (void)state;
    options.sessions = 3;
    assert_ok(kr_token_open(&options, &token, &err));
    assert_ok(round_trip(token, 0, &err));
    mock_rules("hang C_Encrypt 1 1\n");
    start(&hung, 1, token, 1);
    while (mock_calls("C_Encrypt") < 2)
        usleep(1000);
    for (int i = 0; i < 20; i++)
        assert_ok(round_trip(token, 1, &err));
    assert_int_equal(stats_of(token).timeouts, 0);
    join(&hung, 1);
    assert_int_equal(hung.failures, 1);
    assert_error(&hung.err, KR_TOKEN_UNAVAILABLE, "C_Encrypt of", "timeout");
    assert_int_equal(stats_of(token).timeouts, 1);
    assert_int_equal(mock_calls("sessions-open"), stats_of(token).sessions + 1);
    mock_rules("%s", "");
    for (int i = 0; i < 500 && mock_calls("sessions-open") > stats_of(token).sessions; i++)
        usleep(10000);
    assert_int_equal(mock_calls("sessions-open"), stats_of(token).sessions);
    assert_ok(round_trip(token, 0, &err));
    kr_token_close(token);
    check_wait_for_workers();
}

/* Another library restarts the module: all sessions are void, and new ones get their numbers. */
static void survives_a_restart_by_others(void **state)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    void *handle = dlopen(P11K_MOCK, RTLD_NOW);
    CK_C_GetFunctionList get_list;
    CK_FUNCTION_LIST *p11 = NULL;
    struct kr_token *token = open_busy_pool(8);

    (void)state;
    *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    assert_int_equal(get_list(&p11), CKR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
        if (i > 0)
            assert_int_equal(p11->C_Initialize(&args), CKR_OK);
        work_together(token, THREADS, 2);
        assert_int_equal(stats_of(token).errors, 0);
    }
    kr_token_close(token);
    p11->C_Finalize(NULL);
    dlclose(handle);
}

/* A server that forks (--daemonize) after it used the token: the child has workers and sessions
 * of its own (SoftHSM2 lets it inherit the login), and the parent keeps its own. */
static int use_after_fork(void *argument)
{
    struct kr_token *token = argument;

    MUST(stats_of(token).sessions == 0);
    work_together(token, 8, 2);
    MUST(stats_of(token).sessions >= 1 && stats_of(token).sessions <= 4);
    kr_token_close(token);
    return 0;
}

__attribute__((unused)) static void works_on_both_sides_of_a_fork(void **state)
{
    struct kr_token *token = open_busy_pool(4);
    int codes[2];

    (void)state;
    check_together(2, use_after_fork, token, codes);
    assert_int_equal(codes[0], 0);
    assert_int_equal(codes[1], 0);
    work_together(token, 8, 2);
    assert_int_equal(stats_of(token).logins, 1);
    assert_int_equal(stats_of(token).errors, 0);
    kr_token_close(token);
}

/* --- PINs ---------------------------------------------------------------------------------------
 */

static void a_wrong_pin_is_tried_once(void **state)
{
    struct kr_token *tokens[2] = {open_pool(8), open_pool(8)};
    struct kr_error err = KR_ERROR_INIT;
    struct thread threads[THREADS];

    (void)state;
    mock_rules("delay C_Login 20\n");
    check_write_pin(&f, "not the PIN");
    start(threads, THREADS / 2, tokens[0], 3);
    start(threads + THREADS / 2, THREADS / 2, tokens[1], 3);
    join(threads, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(threads[i].failures, 3);
        assert_int_equal(threads[i].worst, KR_AUTH);
    }
    assert_int_equal(mock_calls("wrong-pins"), 1);
    assert_int_equal(mock_calls("C_Login"), 1);
    assert_false(kr_token_worth_trying(tokens[0]));
    check_write_pin(&f, f.pin);
    assert_ok(round_trip(tokens[0], 0, &err));
    assert_true(kr_token_worth_trying(tokens[0]));
    work_together(tokens[0], 8, 2);
    work_together(tokens[1], 8, 2);
    assert_int_equal(mock_calls("C_Login"), 2);
    kr_token_close(tokens[0]);
    kr_token_close(tokens[1]);
}

/* --- several tokens -----------------------------------------------------------------------------
 */

static void one_of_several_does_not_wait(void **state)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, TIMEOUT_MS);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;
    unsigned failed = 0;

    (void)state;
    options.one_of_several = true;
    options.name = "first";
    mock_rules("token-gone\n");
    assert_ok(kr_token_new(&options, &token, &err));
    assert_string_equal(kr_token_name(token), "first");
    assert_true(kr_token_worth_trying(token));
    assert_int_equal(round_trip(token, 0, &err), KR_TOKEN_UNAVAILABLE);
    assert_false(kr_token_worth_trying(token));
    mock_rules("%s", "");
    for (int i = 0; i < 500 && !kr_token_worth_trying(token); i++)
        usleep(10000);
    assert_ok(round_trip(token, 0, &err));
    assert_true(kr_token_is_up(token) && kr_token_worth_trying(token));

    /* Gone again, for much less than the timeout of one call. */
    mock_rules("token-gone\n");
    while (round_trip(token, 0, &err) != KR_OK && failed < 20)
        failed++;
    assert_int_equal(failed, 20);
    assert_false(kr_token_worth_trying(token));
    mock_rules("%s", "");
    assert_ok(round_trip(token, 0, &err));
    kr_token_close(token);
}

/* --- everything at once -------------------------------------------------------------------------
 */

static const char *const faults[] = {
    "0x30,0x32,0xe0",         /* DEVICE_ERROR, DEVICE_REMOVED, TOKEN_NOT_PRESENT */
    "lose-session,0xb0,0xb3", /* SESSION_CLOSED, SESSION_HANDLE_INVALID */
    "0x90,0x82,0x101,0x60",   /* OPERATION_ACTIVE, OBJECT_HANDLE, NOT_LOGGED_IN, KEY_HANDLE */
    "delay=3,0x30,lose-session",
};

static void survives_random_faults(void **state)
{
    const bool soak = getenv("P11K_SOAK");
    struct kr_token *token = open_busy_pool(8);
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    for (unsigned i = 0; i < (soak ? 40 : 4); i++) {
        mock_rules("chaos %u 30 C_EncryptInit,C_Encrypt,C_DecryptInit,C_FindObjects,C_OpenSession,"
                   "C_GetSessionInfo,C_GenerateRandom %s\n",
                   i + 1, faults[i % 4]);
        work_together(token, THREADS, soak ? 50 : 8);
    }
    mock_rules("%s", "");
    assert_true(mock_calls("injected") > 10);
    assert_ok(round_trip(token, 0, &err));
    assert_true(mock_calls("sessions-open") <= 8);
    assert_int_equal(mock_calls("sessions-open"), stats_of(token).sessions);
    kr_token_close(token);
    assert_int_equal(mock_calls("sessions-open"), 0);
}

/* Errors without end leave nothing behind: no session, no memory. */
static void stays_flat(void **state)
{
    static const CK_RV losses[] = {CKR_SESSION_HANDLE_INVALID, CKR_OPERATION_ACTIVE,
                                   CKR_DEVICE_REMOVED, CKR_KEY_HANDLE_INVALID};
    const unsigned rounds = getenv("P11K_SOAK") ? 2500 : 60;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_busy_pool(3);
    size_t before = 0;

    (void)state;
    for (unsigned i = 0; i < rounds; i++) {
        for (size_t k = 0; k < 4; k++) {
            mock_rules("fail C_EncryptInit 0x%lx 1 1\n", losses[k]);
            assert_ok(round_trip(token, 0, &err));
        }
        if (i == rounds / 10)
            before = mallinfo2().uordblks;
    }
    print_message("%lu evictions, %lu reconnects, %ld bytes more\n", stats_of(token).evictions,
                  stats_of(token).reconnects, (long)(mallinfo2().uordblks - before));
    assert_true(stats_of(token).evictions + stats_of(token).reconnects >= 3UL * rounds);
    assert_true(mock_calls("sessions-open") <= 3);
    assert_int_equal(mock_calls("sessions-open"), stats_of(token).sessions);
    assert_true(mallinfo2().uordblks < before + 64 * 1024);
    kr_token_close(token);
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(works_in_parallel),
        TEST(keeps_to_what_the_token_has),
        TEST(believes_the_token),
        TEST(evicts_one_session),
        TEST(rebuilds_once_for_all),
        TEST(waits_for_a_token_together),
        TEST(a_failure_is_no_lost_token),
        TEST(a_failure_is_no_damage),
        TEST(searches_again_for_all),
        TEST(one_hung_call_holds_up_nobody),
        TEST(survives_a_restart_by_others),
#ifndef __SANITIZE_THREAD__ /* it cannot follow threads that start after a fork */
        TEST(works_on_both_sides_of_a_fork),
#endif
        TEST(a_wrong_pin_is_tried_once),
        TEST(one_of_several_does_not_wait),
        TEST(survives_random_faults),
        TEST(stays_flat),
    };
    return cmocka_run_group_tests(tests, up, down);
}
