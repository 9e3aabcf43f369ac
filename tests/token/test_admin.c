/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Token administration. */
#include "mock_fixture.h"

#include "base/clock.h"
#include "pkcs11/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 5000 };

static const struct kr_token_info *by_label(const struct kr_token_info *list, size_t count,
                                            const char *label)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].label, label) == 0)
            return &list[i];
    fail_msg("no token '%s' is listed", label);
    return NULL;
}

static void lists_tokens(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info *list = NULL;
    size_t count = 0;

    (void)state;
    assert_ok(kr_admin_list_tokens(f.module, NULL, TIMEOUT_MS, &list, &count, &err));
    assert_int_equal(count, 2);
    assert_true(by_label(list, count, "onetoken")->initialized);
    assert_true(by_label(list, count, "onetoken")->user_pin_set);
    assert_false(by_label(list, count, "")->initialized);
    free(list);
}

/* A connection that is open meanwhile goes on. */
static void leaves_connections_working(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin;
    struct kr_token *token = fixture_token(&f, NULL, &pin);
    struct kr_token_info *list = NULL;
    struct kr_master_info *keys = NULL;
    size_t count = 0;

    (void)state;
    assert_ok(kr_token_login(token, &err));
    assert_ok(kr_admin_list_tokens(f.module, NULL, TIMEOUT_MS, &list, &count, &err));
    free(list);
    assert_ok(kr_master_list(token, &keys, &count, &err));
    free(keys);
    kr_token_close(token);
    kr_pin_source_free(pin);
}

static void initialises_a_token(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_options options = check_options(&f, NULL, TIMEOUT_MS);
    struct kr_token_info info;
    struct kr_master_info key;
    struct kr_token *token = NULL;

    (void)state;
    assert_ok(kr_admin_init_token(f.module, NULL, TIMEOUT_MS, KR_ADMIN_ANY_SLOT, "fresh", f.so_pin,
                                  f.pin, &info, &err));
    assert_string_equal(info.label, "fresh");
    assert_true(info.initialized && info.user_pin_set);
    options.uri = "pkcs11:token=fresh";
    assert_ok(kr_token_open(&options, &token, &err));
    assert_ok(kr_master_generate(token, "first", KR_WRAP_AUTO, &key, &err));
    kr_token_close(token);
}

static void initialises_nothing_twice(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info *list = NULL, info;
    unsigned long taken;
    size_t count = 0;

    (void)state;
    assert_ok(kr_admin_list_tokens(f.module, NULL, TIMEOUT_MS, &list, &count, &err));
    taken = by_label(list, count, "onetoken")->slot;
    free(list);
    assert_int_equal(kr_admin_init_token(f.module, NULL, TIMEOUT_MS, taken, "other", f.so_pin,
                                         f.pin, &info, &err),
                     KR_REFUSED);
    assert_error(&err, KR_REFUSED, "initialised token 'onetoken'", "token list");
    assert_int_equal(kr_admin_init_token(f.module, NULL, TIMEOUT_MS, KR_ADMIN_ANY_SLOT, "onetoken",
                                         f.so_pin, f.pin, &info, &err),
                     KR_REFUSED);
    assert_error(&err, KR_REFUSED, "labelled 'onetoken' already", "another label");
    assert_int_equal(kr_admin_init_token(f.module, NULL, TIMEOUT_MS, 987654, "other", f.so_pin,
                                         f.pin, &info, &err),
                     KR_NOT_FOUND);
    assert_error(&err, KR_NOT_FOUND, "no free slot", "token list");
    assert_int_equal(kr_admin_init_token(f.module, NULL, TIMEOUT_MS, KR_ADMIN_ANY_SLOT,
                                         "a-label-that-is-longer-than-32-bytes", f.so_pin, f.pin,
                                         &info, &err),
                     KR_USAGE);
    assert_int_equal(kr_admin_init_token(f.module, NULL, TIMEOUT_MS, KR_ADMIN_ANY_SLOT, "other", "",
                                         f.pin, &info, &err),
                     KR_USAGE);
}

/* Nothing is changed for a PIN that the token would refuse half-way. */
static void checks_pins_first(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info info;

    (void)state;
    assert_int_equal(kr_admin_init_token(f.module, NULL, TIMEOUT_MS, KR_ADMIN_ANY_SLOT, "short",
                                         f.so_pin, "12", &info, &err),
                     KR_USAGE);
    assert_error(&err, KR_USAGE, "PINs of 4 to 255 bytes", "choose");
    assert_ok(kr_admin_init_token(f.module, NULL, TIMEOUT_MS, KR_ADMIN_ANY_SLOT, "short", f.so_pin,
                                  f.pin, &info, &err));
}

static void refuses_what_is_no_module(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info *list = NULL;
    size_t count = 0;

    (void)state;
    assert_int_equal(kr_admin_list_tokens("/nonexistent.so", NULL, TIMEOUT_MS, &list, &count, &err),
                     KR_CONFIG);
    assert_int_equal(kr_admin_list_tokens(P11K_NOT_A_MODULE, NULL, TIMEOUT_MS, &list, &count, &err),
                     KR_CONFIG);
    assert_error(&err, KR_CONFIG, "no PKCS#11 module", "option module");
}

static int init_on_a_hanging_module(void *argument)
{
    const char *name = argument;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info info;
    uint64_t started = kr_now_ms();

    mock_rules("hang %s\n", name);
    MUST(kr_admin_init_token(P11K_MOCK, NULL, 300, KR_ADMIN_ANY_SLOT, name, f.so_pin, f.pin, &info,
                             &err) == KR_TOKEN_UNAVAILABLE);
    MUST(strstr(err.text, name) && strstr(err.text, "did not return"));
    MUST(kr_now_ms() - started < 2000);
    mock_rules("%s", "");
    return 0;
}

/* In child processes: what a hung call holds is left to it, which a leak check would find. */
static void gives_up_on_a_module_that_hangs(void **state)
{
    static char names[][16] = {"C_Initialize", "C_GetTokenInfo", "C_InitToken", "C_Login",
                               "C_InitPIN"};
    int code;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        check_together(1, init_on_a_hanging_module, names[i], &code);
        assert_int_equal(code, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_tokens),
        cmocka_unit_test(leaves_connections_working),
        cmocka_unit_test(initialises_a_token),
        cmocka_unit_test(initialises_nothing_twice),
        cmocka_unit_test(checks_pins_first),
        cmocka_unit_test(refuses_what_is_no_module),
        cmocka_unit_test(gives_up_on_a_module_that_hangs),
    };

    return cmocka_run_group_tests(tests, mock_up, mock_down);
}
