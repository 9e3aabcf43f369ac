/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Many callers at one token: sessions work in parallel, up to the limit, beside other users of the
 * module and other processes, and none of them repeats a wrong PIN.
 */
#include "pool_fixture.h"

#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <unistd.h>

/* --- sessions --------------------------------------------------------------------------------- */

static void works_in_parallel(void **state)
{
    struct kr_token *token = open_pool(1);

    (void)state;
    mock_rules("delay C_Encrypt 5\n");
    work_together(token, 8, 4);
    assert_int_equal(mock_calls("calls-at-once-max"), 1);
    assert_int_equal(check_stats(token).sessions, 1);
    kr_token_close(token);

    token = open_pool(8);
    assert_int_equal(check_stats(token).sessions, 1);
    work_until(token, 12, 8);
    assert_int_equal(mock_calls("calls-at-once-max"), 8);
    assert_int_equal(check_stats(token).sessions, 8);
    assert_int_equal(mock_calls("sessions-open"), 8);
    assert_int_equal(check_stats(token).logins, 1);
    assert_int_equal(check_stats(token).searches, 1);
    assert_int_equal(check_stats(token).errors, 0);
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
    assert_int_equal(check_stats(token).sessions, 3);
    assert_int_equal(check_stats(token).errors, 0);
    assert_int_equal(check_stats(token).evictions, 0);
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
    assert_int_equal(check_stats(token).sessions, 2);
    assert_int_equal(mock_calls("C_OpenSession"), 2);
    kr_token_close(token);
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
        assert_int_equal(check_stats(token).errors, 0);
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

    MUST(check_stats(token).sessions == 0);
    work_together(token, 8, 2);
    MUST(check_stats(token).sessions >= 1 && check_stats(token).sessions <= 4);
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
    assert_int_equal(check_stats(token).logins, 1);
    assert_int_equal(check_stats(token).errors, 0);
    kr_token_close(token);
}

/* --- PINs ------------------------------------------------------------------------------------- */

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

/* --- several tokens --------------------------------------------------------------------------- */

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

#define TEST(name) cmocka_unit_test_setup(name, pool_fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(works_in_parallel),
        TEST(keeps_to_what_the_token_has),
        TEST(believes_the_token),
        TEST(survives_a_restart_by_others),
#ifndef __SANITIZE_THREAD__ /* it cannot follow threads that start after a fork */
        TEST(works_on_both_sides_of_a_fork),
#endif
        TEST(a_wrong_pin_is_tried_once),
        TEST(one_of_several_does_not_wait),
    };
    return cmocka_run_group_tests(tests, pool_up, mock_down);
}
