/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The mock module itself: its rules about calls, answers, sessions and slots do what
 * tests/mock/control.h says. */
#include "mock_session.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- calls ------------------------------------------------------------------------------------ */

static void fails_the_calls_it_is_told_to(void **state)
{
    static const CK_RV expected[] = {CKR_OK, CKR_DEVICE_ERROR, CKR_DEVICE_ERROR, CKR_HOST_MEMORY,
                                     CKR_OK};
    uint8_t byte;

    (void)state;
    mock_rules("fail C_GenerateRandom 0x%lx 2 2\nfail C_GenerateRandom %lu 4 1\n", CKR_DEVICE_ERROR,
               CKR_HOST_MEMORY);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_rv(p11->C_GenerateRandom(session, &byte, 1), expected[i]);
    assert_int_equal(mock_calls("C_GenerateRandom"), 5);
    assert_int_equal(mock_calls("injected"), 3);
    mock_rules("fail * 0x%lx\n", CKR_FUNCTION_FAILED);
    assert_rv(p11->C_GetSlotInfo(slot, NULL), CKR_FUNCTION_FAILED);
    assert_rv(p11->C_Logout(session), CKR_FUNCTION_FAILED);
}

static void *hanging_thread(void *ret)
{
    uint8_t byte;

    *(CK_RV *)ret = p11->C_GenerateRandom(session, &byte, 1);
    return NULL;
}

static void hangs_until_the_rule_is_gone(void **state)
{
    CK_RV rvs[2] = {1, 1};
    pthread_t threads[2];
    CK_SESSION_INFO info;

    (void)state;
    mock_rules("hang C_GenerateRandom\n");
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hanging_thread, &rvs[i]), 0);
    while (mock_calls("calls-at-once-max") < 2)
        usleep(1000);
    assert_rv(p11->C_GetSessionInfo(session, &info), CKR_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_tryjoin_np(threads[i], NULL), EBUSY);
    mock_rules("%s", "");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(rvs[i], CKR_OK);
    }
}

static void takes_its_time(void **state)
{
    CK_SESSION_INFO info;
    uint64_t start;

    (void)state;
    mock_rules("delay * 1\ndelay C_GetSessionInfo 60 3 1\n");
    start = kr_now_ms();
    for (int i = 0; i < 20; i++)
        assert_rv(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_in_range(kr_now_ms() - start, 20, 100000);
    mock_rules("delay C_GetSessionInfo 60 3 1\n");
    start = kr_now_ms();
    for (int i = 0; i < 3; i++)
        assert_rv(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_in_range(kr_now_ms() - start, 60, 100000);
}

static unsigned chaos(unsigned seed, unsigned permille, char *ret_pattern, size_t size)
{
    unsigned hits = 0;
    uint8_t byte;

    mock_rules("chaos %u %u C_GenerateRandom,C_Login 0x%lx,0x%lx,delay=1\n", seed, permille,
               CKR_DEVICE_ERROR, CKR_GENERAL_ERROR);
    for (size_t i = 0; i < size; i++) {
        CK_RV rv = p11->C_GenerateRandom(session, &byte, 1);

        assert_true(rv == CKR_OK || rv == CKR_DEVICE_ERROR || rv == CKR_GENERAL_ERROR);
        ret_pattern[i] = rv == CKR_OK ? '.' : rv == CKR_DEVICE_ERROR ? 'd' : 'g';
        hits += rv != CKR_OK;
    }
    return hits;
}

static void spreads_faults_at_random(void **state)
{
    enum { CALLS = 1000 };
    char first[CALLS + 1] = "", again[CALLS + 1] = "", other[CALLS + 1] = "";
    CK_SESSION_INFO info;
    unsigned hits = chaos(1, 150, first, CALLS);

    (void)state;
    assert_in_range(hits, 70, 130); /* two of three faults are failures */
    assert_in_range(mock_calls("injected"), hits + 1, 200);
    assert_non_null(strchr(first, 'd'));
    assert_non_null(strchr(first, 'g'));
    chaos(1, 150, again, CALLS);
    chaos(2, 150, other, CALLS);
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
    mock_rules("chaos 1 1000 C_GenerateRandom 5\n");
    assert_rv(p11->C_GetSessionInfo(session, &info), CKR_OK);
    mock_rules("chaos 1 1000 * lose-session\n");
    assert_rv(p11->C_GetSessionInfo(session, &info), CKR_SESSION_HANDLE_INVALID);
}

static int of_a_misspelt_rule(void *unused)
{
    uint8_t byte;

    (void)unused;
    (void)!freopen("/dev/null", "w", stderr);
    p11->C_GenerateRandom(session, &byte, 1);
    return 0;
}

static void insists_on_rules_that_it_knows(void **state)
{
    static const char *const bad[] = {
        "fial C_Login 5\n", "fail C_Login\n", "fail C_Login 5 1 2 3\n",
        "slot-gone now\n",  "pin-pad\n",      "delay C_Login 5ms\n"};
    int code;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        mock_rules("%s", bad[i]);
        check_together(1, of_a_misspelt_rule, NULL, &code);
        assert_int_equal(code, -1);
    }
    mock_rules("  \ntoken mocktest\n\nfail C_Login 5\ntoken *\n");
    check_together(1, of_a_misspelt_rule, NULL, &code);
    assert_int_equal(code, 0);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void spoils_outputs(void **state)
{
    static const CK_ULONG lengths[] = {11, 116, 13};
    struct gcm g;
    uint8_t out[64];
    CK_ULONG len;

    (void)state;
    assert_rv(encrypt(&g), CKR_OK);
    assert_int_equal(g.len, 32);
    assert_rv(decrypt(&g, out, &len), CKR_OK);
    assert_memory_equal(out, PLAIN_TEXT, PLAIN_BYTES);
    mock_rules("flip C_Decrypt 2 1\ntruncate C_Decrypt 5 3 1\nlength C_Decrypt 100 4 1\n"
               "length C_Decrypt -3 5 1\n");
    assert_rv(decrypt(&g, out, &len), CKR_OK);
    assert_memory_equal(out, PLAIN_TEXT, PLAIN_BYTES);
    assert_rv(decrypt(&g, out, &len), CKR_OK);
    assert_memory_not_equal(out, PLAIN_TEXT, PLAIN_BYTES);
    assert_int_equal(len, 16);
    for (size_t i = 0; i < 3; i++) {
        assert_rv(decrypt(&g, out, &len), CKR_OK);
        assert_int_equal(len, lengths[i]);
    }
    mock_rules("flip C_Encrypt\n");
    assert_rv(encrypt(&g), CKR_OK);
    assert_rv(decrypt(&g, out, &len), CKR_GENERAL_ERROR);
}

static CK_ULONG count_keys(void)
{
    CK_OBJECT_HANDLE found[8];
    CK_ULONG count;

    assert_rv(p11->C_FindObjectsInit(session, NULL, 0), CKR_OK);
    assert_rv(p11->C_FindObjects(session, found, 8, &count), CKR_OK);
    assert_rv(p11->C_FindObjectsFinal(session), CKR_OK);
    return count;
}

static void spoils_lists_and_attributes(void **state)
{
    CK_ULONG length = 0, count = 0;
    CK_ATTRIBUTE value_len = {CKA_VALUE_LEN, &length, sizeof(length)};

    (void)state;
    assert_int_equal(count_keys(), 1);
    mock_rules("truncate C_FindObjects 1\nflip C_GetAttributeValue 1 1\n"
               "truncate C_GetAttributeValue 2 2 1\ntruncate C_GetSlotList 1\n");
    assert_int_equal(count_keys(), 0);
    assert_rv(p11->C_GetAttributeValue(session, key, &value_len, 1), CKR_OK);
    assert_int_equal(length, 32 ^ (1UL << 32));
    assert_rv(p11->C_GetAttributeValue(session, key, &value_len, 1), CKR_OK);
    assert_int_equal(length, 32);
    assert_int_equal(value_len.ulValueLen, 6);
    assert_rv(p11->C_GetSlotList(CK_TRUE, NULL, &count), CKR_OK);
    assert_int_equal(count, 2);
    assert_rv(p11->C_GetSlotList(CK_TRUE, (CK_SLOT_ID[2]){0}, &count), CKR_OK);
    assert_int_equal(count, 1);
}

/* --- sessions and tokens ---------------------------------------------------------------------- */

static void loses_a_session_for_real(void **state)
{
    CK_SESSION_HANDLE other;
    CK_SESSION_INFO info;
    uint8_t byte;

    (void)state;
    assert_rv(open_session(slot, &other), CKR_OK);
    assert_int_equal(mock_calls("sessions-open"), 2);
    mock_rules("lose-session C_GenerateRandom 2\n");
    assert_rv(p11->C_GenerateRandom(session, &byte, 1), CKR_OK);
    assert_rv(p11->C_GenerateRandom(session, &byte, 1), CKR_SESSION_HANDLE_INVALID);
    mock_rules("%s", "");
    assert_rv(p11->C_GenerateRandom(session, &byte, 1), CKR_SESSION_HANDLE_INVALID);
    assert_rv(p11->C_CloseSession(session), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(mock_calls("sessions-open"), 1);
    assert_rv(p11->C_GetSessionInfo(other, &info), CKR_OK);
    assert_int_equal(info.state, CKS_RW_USER_FUNCTIONS);
}

static void takes_a_token_away_and_brings_it_back(void **state)
{
    CK_ULONG with_token, slots;
    CK_SLOT_INFO slot_info;
    CK_TOKEN_INFO token_info;
    CK_SESSION_INFO info;

    (void)state;
    mock_rules("token-gone\n");
    assert_rv(p11->C_GetSlotList(CK_TRUE, NULL, &with_token), CKR_OK);
    assert_int_equal(with_token, 0);
    assert_rv(p11->C_GetSlotList(CK_FALSE, NULL, &slots), CKR_OK);
    assert_int_equal(slots, 2);
    assert_rv(p11->C_GetSlotInfo(slot, &slot_info), CKR_OK);
    assert_false(slot_info.flags & CKF_TOKEN_PRESENT);
    assert_rv(p11->C_GetTokenInfo(slot, &token_info), CKR_TOKEN_NOT_PRESENT);
    assert_rv(p11->C_GetSessionInfo(session, &info), CKR_DEVICE_REMOVED);
    assert_int_equal(mock_calls("sessions-open"), 0);
    mock_rules("%s", "");
    assert_int_equal(slot_with("mocktest"), slot);
    assert_rv(p11->C_GetSessionInfo(session, &info), CKR_SESSION_HANDLE_INVALID);
    assert_rv(open_session(slot, &session), CKR_OK);
    assert_rv(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_int_equal(info.state, CKS_RW_PUBLIC_SESSION);
}

static void takes_one_slot_of_two_away(void **state)
{
    CK_SESSION_HANDLE other_session;
    CK_SLOT_ID other;
    CK_ULONG slots;
    CK_TOKEN_INFO token_info;
    CK_SESSION_INFO info;

    (void)state;
    fixture_add_token(&f, "other");
    assert_rv(p11->C_Finalize(NULL), CKR_OK);
    assert_rv(p11->C_Initialize(NULL), CKR_OK);
    other = slot_with("other");
    assert_rv(open_session(slot, &session), CKR_OK);
    assert_rv(open_session(other, &other_session), CKR_OK);
    mock_rules("token other\nslot-gone\nfail C_GenerateKey 5\n");
    assert_rv(p11->C_GetSlotList(CK_FALSE, NULL, &slots), CKR_OK);
    assert_int_equal(slots, 2); /* ours, and the one without a token */
    assert_rv(p11->C_GetTokenInfo(other, &token_info), CKR_SLOT_ID_INVALID);
    assert_rv(open_session(other, &other_session), CKR_SLOT_ID_INVALID);
    assert_rv(p11->C_GetSessionInfo(other_session, &info), CKR_DEVICE_REMOVED);
    assert_int_equal(p11->C_GenerateKey(other_session, NULL, NULL, 0, NULL), 5);
    assert_int_not_equal(p11->C_GenerateKey(session, NULL, NULL, 0, NULL), 5);
    assert_rv(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_int_equal(slot_with("mocktest"), slot);
}

static int opens_one_more(void *unused)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};

    (void)unused;
    MUST(p11->C_Finalize(NULL) == CKR_OK);
    MUST(p11->C_Initialize(&args) == CKR_OK);
    MUST(open_session(slot, &session) == CKR_SESSION_COUNT);
    mock_rules("limit-sessions 4\n");
    MUST(open_session(slot, &session) == CKR_OK);
    MUST(mock_calls("sessions-open") == 4);
    return 0; /* without closing it */
}

static void limits_sessions_of_all_processes(void **state)
{
    CK_SESSION_HANDLE handles[3];
    int code;

    (void)state;
    mock_rules("limit-sessions 3\n");
    for (int i = 0; i < 2; i++)
        assert_rv(open_session(slot, &handles[i]), CKR_OK);
    assert_rv(open_session(slot, &handles[2]), CKR_SESSION_COUNT);
    check_together(1, opens_one_more, NULL, &code);
    assert_int_equal(code, 0);
    assert_rv(open_session(slot, &handles[2]), CKR_OK);
    assert_int_equal(mock_calls("sessions-open"), 4);
    assert_rv(p11->C_CloseAllSessions(slot), CKR_OK);
    assert_int_equal(mock_calls("sessions-open"), 0);
}

static void limits_objects(void **state)
{
    CK_OBJECT_HANDLE first, second, none;

    (void)state;
    mock_rules("limit-objects 2\n");
    assert_rv(make_key(CK_TRUE, 0, &first), CKR_OK);
    assert_rv(make_key(CK_TRUE, 0, &second), CKR_OK);
    assert_rv(make_key(CK_TRUE, 0, &none), CKR_DEVICE_MEMORY);
    assert_rv(make_key(CK_FALSE, 0, &none), CKR_OK);
    assert_rv(p11->C_DestroyObject(session, first), CKR_OK);
    assert_rv(make_key(CK_TRUE, 0, &first), CKR_OK);
}

static void protects_from_writing(void **state)
{
    CK_SESSION_HANDLE handle;
    CK_OBJECT_HANDLE object, none;
    CK_TOKEN_INFO info;

    (void)state;
    assert_rv(make_key(CK_TRUE, 0, &object), CKR_OK);
    mock_rules("write-protected\nread-write-only\n");
    assert_rv(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_true(info.flags & CKF_WRITE_PROTECTED);
    assert_rv(open_session(slot, &handle), CKR_TOKEN_WRITE_PROTECTED);
    assert_rv(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &handle), CKR_ARGUMENTS_BAD);
    assert_rv(make_key(CK_TRUE, 0, &none), CKR_TOKEN_WRITE_PROTECTED);
    assert_rv(make_key(CK_FALSE, 0, &none), CKR_OK);
    assert_rv(p11->C_DestroyObject(session, object), CKR_TOKEN_WRITE_PROTECTED);
    assert_rv(p11->C_DestroyObject(session, key), CKR_OK);
}

static void has_no_generator(void **state)
{
    CK_TOKEN_INFO info;
    uint8_t byte;

    (void)state;
    assert_rv(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_true(info.flags & CKF_RNG);
    mock_rules("no-random\n");
    assert_rv(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_false(info.flags & CKF_RNG);
    assert_rv(p11->C_GenerateRandom(session, &byte, 1), CKR_RANDOM_NO_RNG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mock_up, mock_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fails_the_calls_it_is_told_to),
        TEST(hangs_until_the_rule_is_gone),
        TEST(takes_its_time),
        TEST(spreads_faults_at_random),
        TEST(insists_on_rules_that_it_knows),
        TEST(spoils_outputs),
        TEST(spoils_lists_and_attributes),
        TEST(loses_a_session_for_real),
        TEST(takes_a_token_away_and_brings_it_back),
        TEST(takes_one_slot_of_two_away),
        TEST(limits_sessions_of_all_processes),
        TEST(limits_objects),
        TEST(protects_from_writing),
        TEST(has_no_generator),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
