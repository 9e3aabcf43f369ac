/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A module that hangs, at each function that is called: every call of ours returns in time and says
 * which function it was, and everything works again when the hang is over.
 */
#include "check.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* So short that the whole takes seconds, so long that a busy machine seldom makes a call that late:
 * when it does, there is another try. */
enum { TIMEOUT_MS = 250, MARGIN_MS = 400, AT_ONCE = 5, TRIES = 10, LATE = 2 };
/* Of calls of which only those should be late that hang. */
enum { LONG_TIMEOUT_MS = 600 };

/* Every function that the life of a connection calls, in the order in which it gets there. */
static const char *const names[] = {
    "dlopen",
    "C_GetFunctionList",
    "C_Initialize",
    "C_GetSlotList",
    "C_GetTokenInfo",
    "C_OpenSession",
    "C_GetSessionInfo",
    "C_Login",
    "C_GenerateKey",
    "C_GetMechanismList",
    "C_GetAttributeValue",
    "C_GenerateRandom",
    "C_EncryptInit",
    "C_Encrypt",
    "C_DecryptInit",
    "C_Decrypt",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_CreateObject",
    "C_WrapKey",
    "C_UnwrapKey",
    "C_DestroyObject",
    "C_CloseSession",
    "C_Finalize",
};

struct life {
    const struct fixture *f;
    unsigned timeout_ms;
    struct kr_token *token;
    struct kr_master_info gcm, kwp;
    struct kr_error err;
    uint64_t longest_ms; /* of the public calls */
};

static enum kr_status step_open(struct life *l)
{
    struct kr_token_options options = check_options(l->f, P11K_MOCK, l->timeout_ms);

    return l->token ? KR_OK : kr_token_open(&options, &l->token, &l->err);
}

static enum kr_status step_login(struct life *l)
{
    return kr_token_login(l->token, &l->err);
}

static enum kr_status step_mechanisms(struct life *l)
{
    unsigned long *list = NULL;
    size_t count;

    KR_TRY(kr_token_mechanisms(l->token, &list, &count, &l->err));
    free(list);
    return KR_OK;
}

static enum kr_status step_generate(struct life *l)
{
    return kr_master_generate(l->token, "gcm", KR_WRAP_AES_GCM, &l->gcm, &l->err);
}

static enum kr_status step_generate_kwp(struct life *l)
{
    return kr_master_generate(l->token, "kwp", KR_WRAP_AES_KWP, &l->kwp, &l->err);
}

static enum kr_status step_find(struct life *l)
{
    return kr_master_find(l->token, &l->gcm.id, &l->gcm, &l->err);
}

static enum kr_status step_round_trip(struct life *l)
{
    uint8_t key[KR_SEALING_KEY_BYTES] = {1}, wrapped[KR_WRAPPED_MAX];
    size_t len = 0;

    KR_TRY(kr_master_wrap(l->token, &l->gcm.id, KR_WRAP_AES_GCM, key, wrapped, &len, &l->err));
    return kr_master_unwrap(l->token, &l->gcm.id, KR_WRAP_AES_GCM, wrapped, len, key, &l->err);
}

static enum kr_status step_close(struct life *l)
{
    kr_token_close(l->token);
    l->token = NULL;
    return KR_OK;
}

typedef enum kr_status (*step)(struct life *);
static const step steps[] = {step_open,         step_login, step_mechanisms, step_generate,
                             step_generate_kwp, step_find,  step_round_trip, step_close};

/* Runs the steps until one fails. */
static enum kr_status live(struct life *l)
{
    enum kr_status status = KR_OK;

    l->longest_ms = 0;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && status == KR_OK; i++) {
        uint64_t started = kr_now_ms(), took;

        status = steps[i](l);
        took = kr_now_ms() - started;
        if (took > l->longest_ms)
            l->longest_ms = took;
    }
    return status;
}

/* Leaving a token whose module hangs cannot fail, it can only last. */
static bool is_last(const char *name)
{
    return strcmp(name, "C_CloseSession") == 0 || strcmp(name, "C_Finalize") == 0;
}

static bool in_time(const struct life *life)
{
    return life->longest_ms <= TIMEOUT_MS + MARGIN_MS;
}

/* The first failing call names the function and keeps to the time. False when a busy machine made
 * it late, or another call before it. */
static bool hang_once(struct life *life, const char *name)
{
    MUST(live(life) == KR_TOKEN_UNAVAILABLE);
    MUST(strstr(life->err.text, "did not return") && life->err.hint[0]);
    MUST(!life->token || !kr_token_is_up(life->token));
    return strstr(life->err.text, name) && in_time(life);
}

static bool hang_while_leaving(struct life *life)
{
    if (live(life) != KR_OK)
        return false;
    MUST(!life->token);
    MUST(life->longest_ms >= TIMEOUT_MS);
    return in_time(life);
}

/* The same connection works again, and so does a new one. */
static void come_back(struct life *life)
{
    struct life again = {.f = life->f, .timeout_ms = 10000};

    for (int i = 0; i < 400 && life->token && step_login(life) != KR_OK; i++)
        usleep(25000);
    MUST(!life->token || kr_token_is_up(life->token));
    step_close(life);
    if (live(&again) != KR_OK)
        child_fail(again.err.text, __FILE__, __LINE__);
}

static int hang_at(const char *name)
{
    struct fixture f;
    struct life life = {.f = &f, .timeout_ms = TIMEOUT_MS};
    bool good;

    fixture_up(&f, "hangtest");
    mock_setup(f.dir);
    mock_rules("hang %s\n", name);
    good = is_last(name) ? hang_while_leaving(&life) : hang_once(&life, name);
    mock_rules("%s", "");
    come_back(&life);
    fixture_down(&f);
    return good ? 0 : LATE;
}

static pid_t start_hanging_at(const char *name)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        _exit(hang_at(name));
    return child;
}

static int wait_for(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void hangs_nowhere(void **state)
{
    const size_t count = sizeof(names) / sizeof(names[0]);

    (void)state;
    for (size_t first = 0; first < count; first += AT_ONCE) {
        pid_t children[AT_ONCE] = {0};

        for (size_t i = 0; i < AT_ONCE && first + i < count; i++)
            children[i] = start_hanging_at(names[first + i]);
        for (size_t i = 0; i < AT_ONCE && first + i < count; i++) {
            int code = wait_for(children[i]);

            for (int tries = 1; code == LATE && tries < TRIES; tries++)
                code = wait_for(start_hanging_at(names[first + i]));
            if (code != 0)
                fail_msg("hanging at %s%s", names[first + i], code == LATE ? ": late" : "");
        }
    }
}

static struct kr_token *open_mock(struct fixture *f)
{
    struct kr_token_options options = check_options(f, P11K_MOCK, LONG_TIMEOUT_MS);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;

    for (int i = 0; i < TRIES && !token; i++)
        (void)!kr_token_open(&options, &token, &err);
    assert_non_null(token);
    return token;
}

/* The fifth call does not even try; when the calls come back there is room again. */
static void bounds_the_calls_that_hang(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_stats stats;
    struct kr_token *token;
    uint8_t bytes[16];
    uint64_t started;
    struct fixture f;

    (void)state;
    fixture_up(&f, "boundtest");
    mock_setup(f.dir);
    token = open_mock(&f);
    mock_rules("hang C_GenerateRandom\n");
    for (int i = 0; i < 4; i++)
        assert_int_equal(kr_token_random(token, bytes, sizeof(bytes), &err), KR_TOKEN_UNAVAILABLE);
    started = kr_now_ms();
    assert_int_equal(kr_token_random(token, bytes, sizeof(bytes), &err), KR_TOKEN_UNAVAILABLE);
    assert_true(kr_now_ms() - started < LONG_TIMEOUT_MS);
    assert_error(&err, KR_TOKEN_UNAVAILABLE,
                 "p11k_mock.so have not returned: C_GenerateRandom, C_GenerateRandom", "restart");
    kr_token_get_stats(token, &stats);
    assert_int_equal(stats.timeouts, 4);
    assert_int_equal(mock_calls("C_GenerateRandom"), 4);
    mock_rules("%s", "");
    for (int i = 0; i < 400 && kr_token_random(token, bytes, sizeof(bytes), &err) != KR_OK; i++)
        usleep(25000);
    assert_ok(kr_token_random(token, bytes, sizeof(bytes), &err));
    kr_token_close(token);
    check_wait_for_workers();
    fixture_down(&f);
}

/* Many calls in one request may together take longer than the timeout: it is for each call. */
static void counts_time_for_each_call(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    struct kr_token *token;
    enum kr_status status = KR_TOKEN_UNAVAILABLE;
    uint64_t started = 0;
    struct fixture f;

    (void)state;
    fixture_up(&f, "slowtest");
    mock_setup(f.dir);
    token = open_mock(&f);
    mock_rules("delay C_GenerateRandom 250\ndelay C_Encrypt 250\ndelay C_Decrypt 250\n");
    for (int i = 0; i < TRIES && status != KR_OK; i++) {
        started = kr_now_ms();
        status = kr_master_generate(token, "slow", KR_WRAP_AES_GCM, &info, &err);
    }
    assert_ok(status);
    assert_true(kr_now_ms() - started > LONG_TIMEOUT_MS);
    mock_rules("%s", "");
    kr_token_close(token);
    fixture_down(&f);
}

/* A process that ends without closing anything, one call still in the module, whose destructors run
 * then: in an address space of its own. */
static int end_abruptly(void)
{
    struct kr_token_options options = {.module = getenv("P11K_TEST_MODULE"),
                                       .uri = getenv("P11K_TEST_URI"),
                                       .guard_path = getenv("P11K_TEST_GUARD"),
                                       .timeout_ms = 300,
                                       .lock_timeout_ms = 5000,
                                       .sessions = 4};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;
    uint8_t bytes[16];

    options.pin = check_pin_source(getenv("P11K_TEST_PIN_SOURCE"));
    MUST(kr_token_open(&options, &token, &err) == KR_OK);
    MUST(kr_token_login(token, &err) == KR_OK);
    mock_rules("hang C_GenerateRandom\n");
    MUST(kr_token_random(token, bytes, sizeof(bytes), &err) == KR_TOKEN_UNAVAILABLE);
    MUST(kr_token_login(token, &err) == KR_OK);
    return 0;
}

static void ends_well_when_nothing_is_closed(void **state)
{
    char source[400];
    struct fixture f;
    pid_t child;
    int status;

    (void)state;
    fixture_up(&f, "endtest");
    mock_setup(f.dir);
    snprintf(source, sizeof(source), "file:%s", f.pin_file);
    setenv("P11K_TEST_PIN_SOURCE", source, 1);
    setenv("P11K_TEST_MODULE", P11K_MOCK, 1);
    setenv("P11K_TEST_URI", f.uri, 1);
    setenv("P11K_TEST_GUARD", f.guard, 1);
    child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "test_hang", "end", NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    fixture_down(&f);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return end_abruptly();

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hangs_nowhere),
        cmocka_unit_test(counts_time_for_each_call),
        cmocka_unit_test(bounds_the_calls_that_hang),
        cmocka_unit_test(ends_well_when_nothing_is_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
