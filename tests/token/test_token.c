/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Connections: finding the token, logging in, losing the token and finding it again, forks. */
#include "check.h"

#include "base/clock.h"

#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fixture f;
static struct kr_object_id master_id; /* made once */

static struct kr_token *open_token(const char *module, unsigned timeout_ms)
{
    struct kr_token_options options = check_options(&f, module, timeout_ms);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;

    assert_ok(kr_token_open(&options, &token, &err));
    return token;
}

static enum kr_status open_with(const char *module, const char *uri, struct kr_error *err)
{
    struct kr_token_options options = check_options(&f, module, 5000);
    struct kr_token *token = (struct kr_token *)&options; /* must stay untouched */
    enum kr_status status;

    options.uri = uri;
    status = kr_token_open(&options, &token, err);
    if (status == KR_OK)
        kr_token_close(token);
    else
        assert_ptr_equal(token, &options);
    return status;
}

static enum kr_status round_trip(struct kr_token *token, struct kr_error *err)
{
    return check_round_trip(token, &master_id, 1, err);
}

static int up(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    struct kr_token *token;

    (void)state;
    fixture_up(&f, "tokentest");
    mock_setup(f.dir);
    token = open_token(NULL, 5000);
    assert_ok(kr_master_generate(token, "test", KR_WRAP_AUTO, &info, &err));
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

/* --- finding ---------------------------------------------------------------------------------- */

static void finds_the_token(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(NULL, 5000);
    struct kr_token_info info;

    (void)state;
    assert_ok(kr_token_get_info(token, &info, &err));
    assert_string_equal(info.label, "tokentest");
    assert_string_equal(info.manufacturer, "SoftHSM project");
    assert_true(info.initialized && info.user_pin_set && info.login_required);
    assert_false(info.pin_locked || info.pin_final_try || info.pin_count_low);
    assert_true(kr_token_is_up(token));
    kr_token_close(token);
}

static void refuses_uris(void **state)
{
    static const struct {
        const char *uri, *text, *hint;
    } cases[] = {
        {"pkcs11:token=tokentest;colour=red", "attribute", "serial"},
        {"pkcs11:token=a-name-that-is-longer-than-32-bytes", "no token can have", "32 bytes"},
        {"pkcs11:token=tokentest;id=%01", "attribute", "serial"},
        {"pkcs11:token=other;token=tokentest", "token twice", "leave one"},
        {"pkcs11:token=%00other", "that no token can have", "at most 32 bytes"},
        {"pkcs11:token=a&id=%00", "that no token can have", "at most 32 bytes"},
        {"pkcs11:token=% 00other", "has a blank in it", "%20"},
        {"pkcs11:token=tokentest?pin-source=file:/x", "PIN source", "option"},
        {"pkcs11:token=tokentest?module-path=/x.so", "names a module", "option"},
        {"token=tokentest", "no PKCS#11 URI", "token list"},
        {"pkcs11:token=%zz", "no PKCS#11 URI", "token list"},
    };
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(open_with(NULL, cases[i].uri, &err), KR_CONFIG);
        assert_error(&err, KR_CONFIG, cases[i].text, cases[i].hint);
    }
}

/* A PIN in a URI is refused, and not repeated. */
static void refuses_a_pin_in_the_uri(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    char uri[256];

    (void)state;
    snprintf(uri, sizeof(uri), "%s?pin-value=%s", f.uri, f.pin);
    assert_int_equal(open_with(NULL, uri, &err), KR_CONFIG);
    assert_null(strstr(err.text, f.pin));
    assert_null(strstr(err.hint, f.pin));
    assert_error(&err, KR_CONFIG, "pin-value", "pin-source");
}

static void says_which_token_is_missing(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    assert_int_equal(open_with(NULL, "pkcs11:token=nobody", &err), KR_TOKEN_UNAVAILABLE);
    assert_error(&err, KR_TOKEN_UNAVAILABLE, "pkcs11:token=nobody", "token list");
}

static void refuses_two_matches(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    fixture_add_token(&f, "second");
    assert_int_equal(open_with(NULL, "pkcs11:manufacturer=SoftHSM%20project", &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "2 tokens match", "serial");
    assert_ok(open_with(NULL, "pkcs11:token=second", &err));
}

static void refuses_modules(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    assert_int_equal(open_with("/nonexistent/module.so", f.uri, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "/nonexistent/module.so: No such file", "option module");
    assert_int_equal(open_with(P11K_NOT_A_MODULE, f.uri, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "no function C_GetFunctionList", "option module");
    assert_int_equal(open_with(f.pin_file, f.uri, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "is no PKCS#11 module", "option module");
}

/* --- login ------------------------------------------------------------------------------------ */

static void logs_in_once(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    uint64_t before = mock_calls("C_Login");
    struct kr_token *token = open_token(P11K_MOCK, 5000);
    struct kr_token_stats stats;

    (void)state;
    assert_ok(kr_token_login(token, &err));
    assert_ok(kr_token_login(token, &err));
    assert_ok(round_trip(token, &err));
    kr_token_get_stats(token, &stats);
    assert_int_equal(stats.logins, 1);
    assert_int_equal(stats.wraps, 1);
    assert_int_equal(stats.unwraps, 1);
    assert_int_equal(stats.searches, 1);
    assert_int_equal(mock_calls("C_Login") - before, 1);
    kr_token_close(token);
}

static void needs_a_pin_source(void **state)
{
    struct kr_token_options options = check_options(&f, NULL, 5000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;

    (void)state;
    options.pin = NULL;
    assert_ok(kr_token_open(&options, &token, &err));
    assert_int_equal(kr_token_login(token, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "needs a PIN", "pin-source");
    kr_token_close(token);
}

/* With one try left, or none, C_Login is not called at all. */
static void respects_pin_flags(void **state)
{
    static const struct {
        CK_FLAGS flag;
        const char *text, *hint;
    } cases[] = {
        {CKF_USER_PIN_FINAL_TRY, "one more wrong PIN locks", "pkcs11-tool --login"},
        {CKF_USER_PIN_LOCKED, "is locked", "pkcs11-tool --init-pin"},
    };
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t before = mock_calls("C_Login");
        struct kr_token *token = open_token(P11K_MOCK, 5000);

        mock_rules("flags C_GetTokenInfo 0x%lx\n", cases[i].flag);
        assert_int_equal(kr_token_login(token, &err), KR_AUTH);
        assert_error(&err, KR_AUTH, cases[i].text, cases[i].hint);
        assert_int_equal(mock_calls("C_Login"), before);
        mock_rules("%s", "");
        assert_ok(kr_token_login(token, &err));
        kr_token_close(token);
    }
}

/* As SoftHSM2 while another process writes the token's files. */
static void asks_again_who_the_token_is(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(P11K_MOCK, 5000);
    struct kr_token_info info;

    (void)state;
    mock_rules("fail C_GetTokenInfo 0x%lx 1 3\n", CKR_GENERAL_ERROR);
    assert_ok(kr_token_get_info(token, &info, &err));
    mock_rules("%s", "");
    kr_token_close(token);
}

/* --- losing the token ------------------------------------------------------------------------- */

static void move_tokens(const char *from, const char *to)
{
    char source[300], target[300];

    snprintf(source, sizeof(source), "%s/%s", f.dir, from);
    snprintf(target, sizeof(target), "%s/%s", f.dir, to);
    assert_int_equal(rename(source, target), 0);
}

static void survives_the_token_going_away(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(NULL, 700);
    struct kr_master_info info, *list = NULL;
    struct kr_token_info token_info;
    size_t count = 0;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_ok(round_trip(token, &err));
        move_tokens("tokens", "away");
        assert_int_equal(round_trip(token, &err), KR_TOKEN_UNAVAILABLE);
        assert_false(kr_token_is_up(token));
        assert_int_equal(kr_master_find(token, &master_id, &info, &err), KR_TOKEN_UNAVAILABLE);
        assert_int_equal(kr_master_list(token, &list, &count, &err), KR_TOKEN_UNAVAILABLE);
        assert_int_equal(kr_token_get_info(token, &token_info, &err), KR_TOKEN_UNAVAILABLE);
        move_tokens("away", "tokens");
        assert_ok(round_trip(token, &err));
        assert_true(kr_token_is_up(token));
    }
    kr_token_close(token);
}

/* Two keyrings, or two tokens behind one module, that are lost together: the module must be
 * restarted for SoftHSM2 to see them again, and neither is kept from that by the other. */
static void two_connections_find_their_token_again(void **state)
{
    struct kr_token *tokens[2] = {open_token(NULL, 700), open_token(NULL, 700)};
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_ok(round_trip(tokens[i], &err));
    move_tokens("tokens", "away");
    for (int i = 0; i < 2; i++)
        assert_int_equal(round_trip(tokens[i], &err), KR_TOKEN_UNAVAILABLE);
    move_tokens("away", "tokens");
    for (int i = 0; i < 4; i++)
        assert_ok(round_trip(tokens[i % 2], &err));
    kr_token_close(tokens[0]);
    assert_ok(round_trip(tokens[1], &err));
    kr_token_close(tokens[1]);
}

/* Each question alone must notice that the token is gone, first of all a list, which would else
 * look empty. */
static void a_missing_token_is_not_an_empty_one(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info, *list = NULL;
    size_t count = 0;

    (void)state;
    for (int question = 0; question < 3; question++) {
        struct kr_token *token = open_token(NULL, 700);
        enum kr_status status;

        assert_ok(kr_token_login(token, &err));
        move_tokens("tokens", "away");
        status = question == 0   ? kr_master_list(token, &list, &count, &err)
                 : question == 1 ? kr_master_find(token, &master_id, &info, &err)
                                 : kr_master_generate(token, "lost", KR_WRAP_AUTO, &info, &err);
        move_tokens("away", "tokens");
        assert_int_equal(status, KR_TOKEN_UNAVAILABLE);
        kr_token_close(token);
    }
}

static CK_FUNCTION_LIST *functions(const char *module)
{
    void *handle = dlopen(module, RTLD_NOW);
    CK_FUNCTION_LIST *p11 = NULL;
    CK_C_GetFunctionList get_list;

    assert_non_null(handle);
    *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    assert_int_equal(get_list(&p11), CKR_OK);
    return p11;
}

static CK_SLOT_ID slot_of(struct kr_token *token)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info info;

    assert_ok(kr_token_get_info(token, &info, &err));
    return info.slot;
}

/* Another library in the process uses the same module, and without manners. */
static void survives_other_users_of_the_module(void **state)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_FUNCTION_LIST *p11 = functions(f.module);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(NULL, 700);
    CK_SESSION_HANDLE session;
    CK_ULONG count;

    (void)state;
    assert_ok(round_trip(token, &err));
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    assert_ok(round_trip(token, &err));
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    assert_int_equal(p11->C_Initialize(&args), CKR_OK);
    assert_ok(round_trip(token, &err));
    assert_int_equal(p11->C_CloseAllSessions(slot_of(token)), CKR_OK);
    assert_ok(round_trip(token, &err));
    assert_int_equal(p11->C_OpenSession(slot_of(token), CKF_SERIAL_SESSION, NULL, NULL, &session),
                     CKR_OK);
    assert_int_equal(p11->C_Logout(session), CKR_OK);
    assert_ok(round_trip(token, &err));
    /* What the other library initialised is not finalised by our leaving. */
    kr_token_close(token);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &count), CKR_OK);
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
}

/* Nobody else there: the module is finalised when the last connection leaves, not before. */
static void *bring_back(void *unused)
{
    (void)unused;
    usleep(500000);
    move_tokens("away", "tokens");
    return NULL;
}

/* An operation that is under way when the token comes back in time only took longer. */
static void waits_for_a_token_that_comes_back(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(NULL, 5000);
    uint64_t start = kr_now_ms();
    pthread_t friend;

    (void)state;
    assert_ok(round_trip(token, &err));
    move_tokens("tokens", "away");
    assert_int_equal(pthread_create(&friend, NULL, bring_back, NULL), 0);
    assert_ok(round_trip(token, &err));
    assert_in_range(kr_now_ms() - start, 500, 4000);
    pthread_join(friend, NULL);
    kr_token_close(token);
}

static void finalises_what_it_initialised(void **state)
{
    CK_FUNCTION_LIST *p11 = functions(f.module);
    struct kr_token *one = open_token(NULL, 5000), *two = open_token(NULL, 5000);
    CK_ULONG count;

    (void)state;
    kr_token_close(one);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &count), CKR_OK);
    kr_token_close(two);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &count), CKR_CRYPTOKI_NOT_INITIALIZED);
}

static void recovers_from_each_loss(void **state)
{
    static const CK_RV losses[] = {
        CKR_SESSION_HANDLE_INVALID,   CKR_SESSION_CLOSED,
        CKR_DEVICE_REMOVED,           CKR_DEVICE_ERROR,
        CKR_TOKEN_NOT_PRESENT,        CKR_USER_NOT_LOGGED_IN,
        CKR_CRYPTOKI_NOT_INITIALIZED, CKR_OBJECT_HANDLE_INVALID,
        CKR_KEY_HANDLE_INVALID,       CKR_OPERATION_ACTIVE,
    };
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(P11K_MOCK, 5000);

    (void)state;
    assert_ok(round_trip(token, &err));
    for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
        mock_rules("fail C_EncryptInit 0x%lx 1 1\n", losses[i]);
        assert_ok(round_trip(token, &err));
    }
    mock_rules("%s", "");
    kr_token_close(token);
}

/* A loss that does not pass is told when the time of one call is up. */
static void gives_up_in_time(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(P11K_MOCK, 700);
    uint64_t start;

    (void)state;
    assert_ok(round_trip(token, &err));
    mock_rules("fail C_EncryptInit 0x%lx\n", CKR_DEVICE_ERROR);
    start = kr_now_ms();
    assert_int_equal(round_trip(token, &err), KR_TOKEN_UNAVAILABLE);
    assert_in_range(kr_now_ms() - start, 700, 2000);
    assert_int_equal(err.ckr, CKR_DEVICE_ERROR);
    assert_error(&err, KR_TOKEN_UNAVAILABLE, "C_EncryptInit (AES-GCM) failed: CKR_DEVICE_ERROR",
                 "connected");
    mock_rules("%s", "");
    assert_ok(round_trip(token, &err));
    kr_token_close(token);
}

/* --- forks and threads ------------------------------------------------------------------------ */

static int use_after_fork(void *argument)
{
    struct kr_token *token = argument;
    struct kr_error err = KR_ERROR_INIT;

    for (int i = 0; i < 3; i++)
        MUST(round_trip(token, &err) == KR_OK);
    kr_token_close(token);
    return 0;
}

__attribute__((unused)) static void works_on_both_sides_of_a_fork(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(NULL, 5000);
    int codes[3];

    (void)state;
    assert_ok(round_trip(token, &err));
    check_together(3, use_after_fork, token, codes);
    for (int i = 0; i < 3; i++)
        assert_int_equal(codes[i], 0);
    assert_ok(round_trip(token, &err));
    kr_token_close(token);
}

/* A signal to a server must be handled by the server's threads. */
static void takes_no_signals(void **state)
{
    struct kr_token *token = open_token(NULL, 5000);
    FILE *found;
    char line[64] = "";

    (void)state;
    found = popen("grep -l p11k-token /proc/$PPID/task/*/comm | sed 's/comm$/status/' |"
                  " xargs grep -h SigBlk",
                  "r");
    assert_non_null(fgets(line, sizeof(line), found));
    pclose(found);
    /* All but SIGKILL and SIGSTOP, and two that the C library keeps for itself. */
    assert_string_equal(line, "SigBlk:\tfffffffe7ffbfeff\n");
    kr_token_close(token);
}

static void *use_in_thread(void *argument)
{
    struct kr_error err = KR_ERROR_INIT;

    for (int i = 0; i < 10; i++)
        if (round_trip(argument, &err) != KR_OK)
            return strdup(err.text);
    return NULL;
}

static void serves_many_threads(void **state)
{
    struct kr_token *tokens[2] = {open_token(NULL, 5000), open_token(NULL, 5000)};
    pthread_t threads[8];
    void *problem;

    (void)state;
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_in_thread, tokens[i % 2]), 0);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], &problem), 0);
        if (problem)
            fail_msg("%s", (char *)problem);
    }
    kr_token_close(tokens[0]);
    kr_token_close(tokens[1]);
}

/* --- random and mechanisms -------------------------------------------------------------------- */

static void gives_random_bytes(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(P11K_MOCK, 5000);
    uint8_t a[1024], b[1024] = {0};

    (void)state;
    assert_ok(kr_token_random(token, a, sizeof(a), &err));
    assert_ok(kr_token_random(token, b, sizeof(b), &err));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(kr_token_random(token, a, sizeof(a) + 1, &err), KR_USAGE);
    mock_rules("fail C_GenerateRandom 0x%lx\n", CKR_RANDOM_NO_RNG);
    assert_ok(kr_token_random(token, a, sizeof(a), &err));
    assert_memory_not_equal(a, b, sizeof(a));
    mock_rules("fail C_GenerateRandom 0x%lx\n", CKR_DEVICE_ERROR);
    assert_int_equal(kr_token_random(token, a, sizeof(a), &err), KR_TOKEN_UNAVAILABLE);
    mock_rules("%s", "");
    kr_token_close(token);
}

static void lists_mechanisms(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(NULL, 5000);
    unsigned long *list = NULL;
    bool gcm = false;
    size_t count = 0;

    (void)state;
    assert_ok(kr_token_mechanisms(token, &list, &count, &err));
    for (size_t i = 0; i < count; i++)
        gcm = gcm || list[i] == CKM_AES_GCM;
    assert_true(gcm);
    free(list);
    kr_token_close(token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_token),
        cmocka_unit_test(refuses_uris),
        cmocka_unit_test(refuses_a_pin_in_the_uri),
        cmocka_unit_test(says_which_token_is_missing),
        cmocka_unit_test(refuses_two_matches),
        cmocka_unit_test(refuses_modules),
        cmocka_unit_test(logs_in_once),
        cmocka_unit_test(needs_a_pin_source),
        cmocka_unit_test(respects_pin_flags),
        cmocka_unit_test(survives_the_token_going_away),
        cmocka_unit_test(two_connections_find_their_token_again),
        cmocka_unit_test(a_missing_token_is_not_an_empty_one),
        cmocka_unit_test(waits_for_a_token_that_comes_back),
        cmocka_unit_test(finalises_what_it_initialised),
        cmocka_unit_test(survives_other_users_of_the_module),
        cmocka_unit_test(recovers_from_each_loss),
        cmocka_unit_test(gives_up_in_time),
#ifndef __SANITIZE_THREAD__ /* it cannot follow threads that start after a fork */
        cmocka_unit_test(works_on_both_sides_of_a_fork),
#endif
        cmocka_unit_test(asks_again_who_the_token_is),
        cmocka_unit_test(takes_no_signals),
        cmocka_unit_test(serves_many_threads),
        cmocka_unit_test(gives_random_bytes),
        cmocka_unit_test(lists_mechanisms),
    };

    return cmocka_run_group_tests(tests, up, down);
}
