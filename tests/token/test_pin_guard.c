/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The PIN guard: its file, and logins of several processes through it. */
#include "mock_fixture.h"

#include "base/clock.h"
#include "pkcs11/pin_guard.h"

#include <p11-kit/pkcs11.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char token_id[] = "model/serial/label";

/* Between tests: no guard file, no rules, the right PIN. */
static int fresh(void **state)
{
    (void)state;
    unlink(f.guard);
    mock_rules("%s", "");
    check_write_pin(&f, f.pin);
    return 0;
}

static enum kr_status attempt(const char *token, const char *identity, bool count_low,
                              enum kr_guard_outcome outcome, struct kr_error *err)
{
    struct kr_pin_guard *guard = NULL;

    KR_TRY(kr_pin_guard_begin(f.guard, token, identity, count_low, 1000, &guard, err));
    kr_pin_guard_end(guard, outcome);
    return KR_OK;
}

static off_t guard_size(void)
{
    struct stat st;

    return stat(f.guard, &st) == 0 ? st.st_size : -1;
}

static bool guarded(const char *token, const char *identity)
{
    struct kr_error err = KR_ERROR_INIT;
    bool ret = false;
    int64_t since;

    assert_ok(kr_pin_guard_query(f.guard, token, identity, &ret, &since, &err));
    return ret;
}

/* --- the file --------------------------------------------------------------------------------- */

static void a_good_login_leaves_nothing(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    assert_false(guarded(token_id, "a"));
    for (int i = 0; i < 3; i++) {
        assert_ok(attempt(token_id, "a", false, KR_GUARD_ACCEPTED, &err));
        assert_int_equal(guard_size(), 0);
    }
    assert_ok(attempt(token_id, "a", false, KR_GUARD_NOT_TRIED, &err));
    assert_int_equal(guard_size(), 0);
}

static void a_refusal_blocks_until_the_source_changes(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    assert_ok(attempt(token_id, "a", false, KR_GUARD_REFUSED, &err));
    assert_true(guarded(token_id, "a"));
    assert_false(guarded(token_id, "b"));
    assert_int_equal(attempt(token_id, "a", false, KR_GUARD_ACCEPTED, &err), KR_AUTH);
    assert_error(&err, KR_AUTH, "was refused at 20", "token unguard");
    assert_ok(attempt(token_id, "b", false, KR_GUARD_ACCEPTED, &err));
    assert_false(guarded(token_id, "a"));
    assert_int_equal(guard_size(), 0);
}

static void clearing_lifts_it(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    bool cleared = true;

    (void)state;
    assert_ok(kr_pin_guard_clear(f.guard, token_id, 1000, &cleared, &err));
    assert_false(cleared);
    assert_ok(attempt(token_id, "a", false, KR_GUARD_REFUSED, &err));
    assert_ok(attempt("another", "a", false, KR_GUARD_REFUSED, &err));
    assert_ok(kr_pin_guard_clear(f.guard, token_id, 1000, &cleared, &err));
    assert_true(cleared);
    assert_false(guarded(token_id, "a"));
    assert_true(guarded("another", "a"));
    assert_ok(attempt(token_id, "a", false, KR_GUARD_ACCEPTED, &err));
    assert_true(guarded("another", "a"));
}

/* An attempt without an outcome counts only when the token itself reports a wrong PIN. */
static void an_open_attempt_blocks_with_a_low_count(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    assert_ok(attempt(token_id, "a", false, KR_GUARD_UNKNOWN, &err));
    assert_int_equal(attempt(token_id, "a", true, KR_GUARD_ACCEPTED, &err), KR_AUTH);
    assert_error(&err, KR_AUTH, "never ended", "token unguard");
    assert_ok(attempt(token_id, "b", true, KR_GUARD_UNKNOWN, &err));
    assert_ok(attempt(token_id, "b", false, KR_GUARD_ACCEPTED, &err));
    assert_ok(attempt(token_id, "b", true, KR_GUARD_ACCEPTED, &err));
}

static void does_not_grow(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    off_t size;

    (void)state;
    assert_ok(attempt("another", "a", false, KR_GUARD_REFUSED, &err));
    size = guard_size();
    for (int i = 0; i < 5; i++)
        assert_ok(attempt(token_id, "a", false, KR_GUARD_ACCEPTED, &err));
    assert_int_equal(guard_size(), size);
}

/* A line that a crash cut off was never written; other rubbish is passed over. */
static void survives_a_damaged_file(void **state)
{
    static const char rubbish[] =
        "\x01\x02 no line of ours\n\n17 refused x\n123456 refused model/ser";
    struct kr_error err = KR_ERROR_INIT;
    int fd = open(f.guard, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    assert_int_equal(write(fd, rubbish, strlen(rubbish)), strlen(rubbish));
    close(fd);
    assert_false(guarded(token_id, "a"));
    assert_ok(attempt(token_id, "a", true, KR_GUARD_REFUSED, &err));
    assert_true(guarded(token_id, "a"));
}

static void keeps_texts_on_their_line(void **state)
{
    static const char nasty[] = "m/s/la\n1 settled model/serial/label\ta";
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    assert_ok(attempt(token_id, "a", false, KR_GUARD_REFUSED, &err));
    assert_ok(attempt(nasty, "x\ty\nz", false, KR_GUARD_REFUSED, &err));
    assert_true(guarded(token_id, "a"));
    assert_true(guarded(nasty, "x\ty\nz"));
}

/* What cannot be recorded is not tried. */
static void refuses_what_it_cannot_record(void **state)
{
    struct rlimit before, none = {0};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_guard *guard = NULL;
    enum kr_status status;

    (void)state;
    assert_int_equal(
        kr_pin_guard_begin("/nonexistent/guard", token_id, "a", false, 100, &guard, &err), KR_IO);
    assert_error(&err, KR_IO, "/nonexistent/guard", "recorded");
    assert_int_equal(kr_pin_guard_begin("/dev/null", token_id, "a", false, 100, &guard, &err),
                     KR_IO);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    none.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_FSIZE, &none);
    status = kr_pin_guard_begin(f.guard, token_id, "a", false, 100, &guard, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(status, KR_IO);
    assert_null(guard);
}

static void waits_for_others_only_so_long(void **state)
{
    struct kr_pin_guard *held = NULL, *second = NULL;
    struct kr_error err = KR_ERROR_INIT;
    uint64_t started = kr_now_ms();

    (void)state;
    assert_ok(kr_pin_guard_begin(f.guard, token_id, "a", false, 100, &held, &err));
    assert_int_equal(kr_pin_guard_begin(f.guard, token_id, "a", false, 100, &second, &err), KR_IO);
    assert_error(&err, KR_IO, "another process was logging in", "lock-timeout");
    assert_in_range(kr_now_ms() - started, 100, 1000);
    kr_pin_guard_end(held, KR_GUARD_ACCEPTED);
}

/* Made by root for a server, it must not lock the server out. */
static void belongs_to_the_keystores_owner(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct stat st;
    int fd = open(f.keystore, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    close(fd);
    assert_int_equal(geteuid(), 0);
    assert_int_equal(chown(f.keystore, 65534, 65534), 0);
    assert_ok(attempt(token_id, "a", false, KR_GUARD_ACCEPTED, &err));
    unlink(f.keystore);
    assert_int_equal(stat(f.guard, &st), 0);
    assert_int_equal(st.st_uid, 65534);
    assert_int_equal(st.st_gid, 65534);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* --- logins ----------------------------------------------------------------------------------- */

static enum kr_status log_in(unsigned timeout_ms, struct kr_error *err)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, timeout_ms);
    struct kr_token *token = NULL;
    enum kr_status status;

    options.lock_timeout_ms = 20000;
    KR_TRY(kr_token_open(&options, &token, err));
    status = kr_token_login(token, err);
    kr_token_close(token);
    return status;
}

static int log_in_child(void *argument)
{
    struct kr_error err = KR_ERROR_INIT;
    enum kr_status status = log_in(*(unsigned *)argument, &err);

    if (status != KR_OK && status != KR_AUTH)
        fprintf(stderr, "%s (%s)\n", err.text, err.hint);
    return (int)status;
}

/* How three processes that start together fare; returns how often C_Login was called. */
static uint64_t three_together(int codes[3])
{
    uint64_t before = mock_calls("C_Login");
    unsigned timeout_ms = 10000;

    check_together(3, log_in_child, &timeout_ms, codes);
    return mock_calls("C_Login") - before;
}

static void a_wrong_pin_is_tried_once(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    int codes[3];

    (void)state;
    check_write_pin(&f, "not the PIN");
    assert_int_equal(three_together(codes), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(codes[i], KR_AUTH);
    assert_int_equal(three_together(codes), 0);
    check_write_pin(&f, "wrong again");
    assert_int_equal(three_together(codes), 1);
    check_write_pin(&f, f.pin);
    assert_int_equal(three_together(codes), 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(codes[i], KR_OK);
    assert_ok(log_in(5000, &err));
}

static void says_what_was_wrong(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    check_write_pin(&f, "not the PIN");
    assert_int_equal(log_in(5000, &err), KR_AUTH);
    assert_int_equal(err.ckr, CKR_PIN_INCORRECT);
    assert_null(strstr(err.text, "not the PIN"));
    assert_error(&err, KR_AUTH, "'onetoken' refused the PIN from file:", "token unguard");
    assert_int_equal(log_in(5000, &err), KR_AUTH);
    assert_error(&err, KR_AUTH, "is not tried again", "token unguard");
}

/* Where the source cannot be seen to change, only an admin can lift the guard. */
static void an_environment_pin_waits_for_an_admin(void **state)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 5000);
    struct kr_error err = KR_ERROR_INIT;
    uint64_t before = mock_calls("C_Login");
    char id[KR_GUARD_ID_MAX];
    struct kr_token *token = NULL;
    struct kr_token_info info;
    bool cleared = false;

    (void)state;
    for (int i = 0; i < 2; i++) {
        setenv("P11K_TEST_PIN", "not the PIN", 1);
        options.pin = check_pin_source("env:P11K_TEST_PIN");
        assert_ok(kr_token_open(&options, &token, &err));
        assert_int_equal(kr_token_login(token, &err), KR_AUTH);
        assert_ok(kr_token_get_info(token, &info, &err));
        kr_token_close(token);
        kr_pin_source_free(options.pin);
    }
    assert_int_equal(mock_calls("C_Login") - before, 1);
    kr_token_guard_id(&info, id);
    assert_ok(kr_pin_guard_clear(f.guard, id, 1000, &cleared, &err));
    assert_true(cleared);
    assert_ok(log_in(5000, &err));
}

static enum kr_status log_in_at_pad(struct kr_error *err)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 300);
    struct kr_token *token = NULL;
    enum kr_status status;

    options.pin = NULL;
    KR_TRY(kr_token_open(&options, &token, err));
    status = kr_token_login(token, err);
    kr_token_close(token);
    return status;
}

static void token_info(struct kr_token_info *ret)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 5000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;

    assert_ok(kr_token_open(&options, &token, &err));
    assert_ok(kr_token_get_info(token, ret, &err));
    kr_token_close(token);
}

/* No PIN source is needed, there is time to type, and nobody is asked again after a refusal. */
static void a_pin_pad_asks_once(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    uint64_t before = mock_calls("C_Login");
    char id[KR_GUARD_ID_MAX];
    struct kr_token_info info;
    bool cleared = false;

    (void)state;
    assert_int_equal(log_in_at_pad(&err), KR_CONFIG);
    mock_rules("pin-pad %s\ndelay C_Login 700\n", f.pin_file);
    assert_ok(log_in_at_pad(&err));
    assert_int_equal(mock_calls("C_Login") - before, 1);

    check_write_pin(&f, "mistyped");
    assert_int_equal(log_in_at_pad(&err), KR_AUTH);
    assert_error(&err, KR_AUTH, "at its PIN pad (C_Login: CKR_PIN_INCORRECT)", "token unguard");
    check_write_pin(&f, f.pin);
    assert_int_equal(log_in_at_pad(&err), KR_AUTH);
    assert_error(&err, KR_AUTH, "is not tried again", "token unguard");
    assert_int_equal(mock_calls("C_Login") - before, 2);

    mock_rules("pin-pad /nonexistent\n"); /* nobody types, the pad gives up */
    token_info(&info);
    kr_token_guard_id(&info, id);
    assert_ok(kr_pin_guard_clear(f.guard, id, 1000, &cleared, &err));
    assert_true(cleared);
    assert_int_equal(log_in_at_pad(&err), KR_AUTH);
    assert_error(&err, KR_AUTH, "CKR_FUNCTION_CANCELED", "token unguard");
    assert_int_equal(log_in_at_pad(&err), KR_AUTH);
    assert_int_equal(mock_calls("C_Login") - before, 3);
}

/* Killed between the record and its outcome. */
static void a_killed_login_locks_nobody_out(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    uint64_t before = mock_calls("C_Login");
    unsigned timeout_ms = 20000;
    pid_t child;
    int status;

    (void)state;
    mock_rules("hang C_Login\n");
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(log_in_child(&timeout_ms));
    for (int i = 0; i < 400 && mock_calls("C_Login") == before; i++)
        usleep(10000);
    assert_int_equal(mock_calls("C_Login") - before, 1);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    mock_rules("flags C_GetTokenInfo 0x%lx\n", CKF_USER_PIN_COUNT_LOW);
    assert_int_equal(log_in(5000, &err), KR_AUTH);
    assert_error(&err, KR_AUTH, "never ended", "token unguard");
    mock_rules("%s", "");
    assert_ok(log_in(5000, &err));
}

/* A token that says its PIN is set, and at C_Login that it is not, is asked again for a while. */
static void a_contradiction_is_no_attempt(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    mock_rules("fail C_Login 0x%lx 1 5\n", CKR_USER_PIN_NOT_INITIALIZED);
    assert_ok(log_in(5000, &err));
    mock_rules("fail C_Login 0x%lx\n", CKR_USER_PIN_NOT_INITIALIZED);
    assert_int_equal(log_in(5000, &err), KR_TOKEN_UNAVAILABLE);
    assert_error(&err, KR_TOKEN_UNAVAILABLE, "CKR_USER_PIN_NOT_INITIALIZED", "");
    mock_rules("flags C_GetTokenInfo 0x%lx\n", CKF_USER_PIN_COUNT_LOW);
    assert_ok(log_in(5000, &err)); /* no open attempt was left to block it */
    mock_rules("%s", "");
}

/* A login that hangs holds up no other process. */
static void a_hung_login_frees_the_lock(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    mock_rules("hang C_Login\n");
    assert_int_equal(log_in(200, &err), KR_TOKEN_UNAVAILABLE);
    assert_error(&err, KR_TOKEN_UNAVAILABLE, "C_Login", "timeout");
    mock_rules("%s", "");
    assert_ok(log_in(5000, &err));
    check_wait_for_workers();
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_login_leaves_nothing),
        TEST(a_refusal_blocks_until_the_source_changes),
        TEST(clearing_lifts_it),
        TEST(an_open_attempt_blocks_with_a_low_count),
        TEST(does_not_grow),
        TEST(survives_a_damaged_file),
        TEST(keeps_texts_on_their_line),
        TEST(refuses_what_it_cannot_record),
        TEST(waits_for_others_only_so_long),
        TEST(belongs_to_the_keystores_owner),
        TEST(a_wrong_pin_is_tried_once),
        TEST(a_killed_login_locks_nobody_out),
        TEST(says_what_was_wrong),
        TEST(an_environment_pin_waits_for_an_admin),
        TEST(a_pin_pad_asks_once),
        TEST(a_contradiction_is_no_attempt),
        TEST(a_hung_login_frees_the_lock),
    };

    return cmocka_run_group_tests(tests, mock_up, mock_down);
}
