/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A token that lets its keys out is told, by each way that they take. */
#include "one_token.h"

#include "pkcs11/custody.h"

#include <p11-kit/pkcs11.h>

/* Fails unless it is known; leaves no key behind. */
static const char *leak(void)
{
    struct kr_custody custody = {.known = false};
    struct kr_error err = KR_ERROR_INIT;
    uint64_t made = mock_calls("C_GenerateKey") + mock_calls("C_CopyObject");
    uint64_t destroyed = mock_calls("C_DestroyObject");

    assert_ok(kr_custody_check(token, &custody, &err));
    assert_true(custody.known);
    made = mock_calls("C_GenerateKey") + mock_calls("C_CopyObject") - made;
    assert_in_range(mock_calls("C_DestroyObject") - destroyed, 1, made);
    assert_int_equal(check_count_keys(token), 0);
    return custody.leak;
}

static void keys_stay_in_the_token(void **state)
{
    (void)state;
    assert_null(leak());
    assert_true(mock_calls("C_CopyObject") > 0 && mock_calls("C_WrapKey") > 0 &&
                mock_calls("C_SetAttributeValue") > 0);
}

static void each_way_out_is_told(void **state)
{
    (void)state;
    mock_rules("leaky\n");
    assert_string_equal(leak(), "copied as an extractable one");
    mock_rules("leaky\nfail C_CopyObject 0x%lx\n", CKR_FUNCTION_NOT_SUPPORTED);
    assert_string_equal(leak(), "wrapped out");
    mock_rules("leaky\nfail C_CopyObject 0x%lx\nfail C_WrapKey 0x%lx\n", CKR_FUNCTION_NOT_SUPPORTED,
               CKR_KEY_UNEXTRACTABLE);
    assert_string_equal(leak(), "made extractable");
}

static void what_was_not_tried_is_not_known(void **state)
{
    struct kr_custody custody = {.known = true};
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    mock_rules("fail C_GenerateKey 0x%lx\n", CKR_MECHANISM_INVALID);
    assert_ok(kr_custody_check(token, &custody, &err));
    assert_false(custody.known || custody.leak);
    mock_rules("fail C_GenerateKey 0x%lx\n", CKR_DEVICE_MEMORY);
    assert_int_equal(kr_custody_check(token, &custody, &err), KR_TOKEN_UNAVAILABLE);
}

#define TEST(name) cmocka_unit_test_setup(name, no_rules)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_stay_in_the_token),
        TEST(each_way_out_is_told),
        TEST(what_was_not_tried_is_not_known),
    };

    return cmocka_run_group_tests(tests, token_up, token_down);
}
