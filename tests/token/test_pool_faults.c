/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Many callers at one token that fails: what one of them loses is repaired for it alone, what all
 * lose once for all. With P11K_SOAK=1 in full counts.
 */
#include "pool_fixture.h"

#include <p11-kit/pkcs11.h>

#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

/* --- losses ----------------------------------------------------------------------------------- */

static void evicts_one_session(void **state)
{
    struct kr_token *token = open_busy_pool(4);

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        mock_rules("lose-session C_EncryptInit 1 1\n");
        work_together(token, 4, 4);
        assert_int_equal(check_stats(token).evictions, i);
    }
    assert_int_equal(check_stats(token).reconnects, 0);
    assert_int_equal(check_stats(token).logins, 1);
    assert_int_equal(check_stats(token).searches, 1);
    assert_int_equal(check_stats(token).errors, 0);
    kr_token_close(token);
}

/* One call of many meets a token that was pulled and put back. */
static void rebuilds_once_for_all(void **state)
{
    struct kr_token *token = open_busy_pool(8);

    (void)state;
    mock_rules("fail C_EncryptInit 0x%lx 3 1\ndelay C_Encrypt 2\n", CKR_DEVICE_REMOVED);
    work_together(token, THREADS, 4);
    assert_int_equal(check_stats(token).reconnects, 1);
    assert_int_equal(check_stats(token).logins, 2);
    assert_int_equal(check_stats(token).searches, 2);
    assert_int_equal(check_stats(token).errors, 0);
    assert_true(mock_calls("sessions-open") <= 8);
    assert_int_equal(mock_calls("sessions-open"), check_stats(token).sessions);
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
    assert_int_equal(mock_calls("sessions-open"), check_stats(token).sessions);
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
        assert_int_equal(check_stats(token).reconnects, 0);
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
    assert_int_equal(check_stats(token).searches, 2);
    assert_int_equal(check_stats(token).evictions, 0);
    assert_int_equal(check_stats(token).reconnects, 0);
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
    assert_int_equal(check_stats(token).timeouts, 0);
    join(&hung, 1);
    assert_int_equal(hung.failures, 1);
    assert_error(&hung.err, KR_TOKEN_UNAVAILABLE, "C_Encrypt of", "timeout");
    assert_int_equal(check_stats(token).timeouts, 1);
    assert_int_equal(mock_calls("sessions-open"), check_stats(token).sessions + 1);
    mock_rules("%s", "");
    for (int i = 0; i < 500 && mock_calls("sessions-open") > check_stats(token).sessions; i++)
        usleep(10000);
    assert_int_equal(mock_calls("sessions-open"), check_stats(token).sessions);
    assert_ok(round_trip(token, 0, &err));
    kr_token_close(token);
    check_wait_for_workers();
}

/* --- everything at once ----------------------------------------------------------------------- */

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
    assert_int_equal(mock_calls("sessions-open"), check_stats(token).sessions);
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
    print_message("%lu evictions, %lu reconnects, %ld bytes more\n", check_stats(token).evictions,
                  check_stats(token).reconnects, (long)(mallinfo2().uordblks - before));
    assert_true(check_stats(token).evictions + check_stats(token).reconnects >= 3UL * rounds);
    assert_true(mock_calls("sessions-open") <= 3);
    assert_int_equal(mock_calls("sessions-open"), check_stats(token).sessions);
    assert_true(mallinfo2().uordblks < before + 64 * 1024);
    kr_token_close(token);
}

#define TEST(name) cmocka_unit_test_setup(name, pool_fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(evicts_one_session),
        TEST(rebuilds_once_for_all),
        TEST(waits_for_a_token_together),
        TEST(a_failure_is_no_lost_token),
        TEST(a_failure_is_no_damage),
        TEST(searches_again_for_all),
        TEST(one_hung_call_holds_up_nobody),
        TEST(survives_random_faults),
        TEST(stays_flat),
    };
    return cmocka_run_group_tests(tests, pool_up, mock_down);
}
