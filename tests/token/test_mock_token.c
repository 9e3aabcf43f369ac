/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The mock module itself: its rules about PINs, mechanisms and templates do what
 * tests/mock/control.h says. */
#include "mock_session.h"

#include <string.h>

/* --- PINs ------------------------------------------------------------------------------------- */

static CK_FLAGS pin_flags(void)
{
    CK_TOKEN_INFO info;

    assert_rv(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    return info.flags & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED |
                         CKF_PROTECTED_AUTHENTICATION_PATH);
}

static void locks_the_pin(void **state)
{
    (void)state;
    mock_rules("pin-tries 3\n");
    assert_rv(p11->C_Logout(session), CKR_OK);
    assert_int_equal(pin_flags(), 0);
    assert_rv(log_in(CKU_USER, "wrong"), CKR_PIN_INCORRECT);
    assert_int_equal(pin_flags(), CKF_USER_PIN_COUNT_LOW);
    assert_rv(log_in(CKU_USER, f.pin), CKR_OK);
    assert_int_equal(pin_flags(), 0);
    assert_rv(p11->C_Logout(session), CKR_OK);
    assert_rv(log_in(CKU_USER, "wrong"), CKR_PIN_INCORRECT);
    assert_rv(log_in(CKU_USER, "wrong"), CKR_PIN_INCORRECT);
    assert_int_equal(pin_flags(), CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY);
    assert_rv(log_in(CKU_USER, "wrong"), CKR_PIN_INCORRECT);
    assert_int_equal(pin_flags(), CKF_USER_PIN_LOCKED);
    assert_rv(log_in(CKU_USER, f.pin), CKR_PIN_LOCKED);
    assert_int_equal(mock_calls("wrong-pins"), 4);
    assert_int_equal(mock_calls("logins"), 2);
    assert_rv(log_in(CKU_SO, f.so_pin), CKR_OK);
    assert_rv(p11->C_InitPIN(session, (CK_BYTE *)f.pin, strlen(f.pin)), CKR_OK);
    assert_rv(p11->C_Logout(session), CKR_OK);
    assert_rv(log_in(CKU_USER, f.pin), CKR_OK);
}

static void takes_the_pin_on_a_pad(void **state)
{
    (void)state;
    assert_rv(p11->C_Logout(session), CKR_OK);
    mock_rules("pin-pad %s\n", f.pin_file);
    assert_int_equal(pin_flags(), CKF_PROTECTED_AUTHENTICATION_PATH);
    assert_rv(log_in(CKU_USER, f.pin), CKR_ARGUMENTS_BAD);
    check_write_pin(&f, "wrong");
    assert_rv(log_in(CKU_USER, NULL), CKR_PIN_INCORRECT);
    check_write_pin(&f, f.pin);
    assert_rv(log_in(CKU_USER, NULL), CKR_OK);
}

static void wants_a_login_for_each_use(void **state)
{
    CK_BBOOL always = CK_FALSE;
    CK_ATTRIBUTE attribute = {CKA_ALWAYS_AUTHENTICATE, &always, sizeof(always)};
    CK_MECHANISM kwp = {CKM_AES_KEY_WRAP_PAD, NULL, 0};
    uint8_t out[64];
    CK_ULONG len = sizeof(out);
    struct gcm g;

    (void)state;
    assert_rv(p11->C_Logout(session), CKR_OK);
    mock_rules("always-authenticate\n");
    assert_rv(log_in(CKU_USER, f.pin), CKR_OK);
    assert_rv(make_key(CK_FALSE, 0, &key), CKR_OK);
    assert_rv(p11->C_GetAttributeValue(session, key, &attribute, 1), CKR_OK);
    assert_true(always);
    assert_rv(encrypt(&g), CKR_USER_NOT_LOGGED_IN);
    assert_rv(encrypt_with(&g, true), CKR_OK);
    assert_rv(encrypt(&g), CKR_USER_NOT_LOGGED_IN);
    assert_rv(p11->C_WrapKey(session, &kwp, key, key, out, &len), CKR_USER_NOT_LOGGED_IN);
    assert_rv(log_in(CKU_CONTEXT_SPECIFIC, "wrong"), CKR_PIN_INCORRECT);
    assert_rv(log_in(CKU_CONTEXT_SPECIFIC, f.pin), CKR_OK);
    assert_rv(p11->C_WrapKey(session, &kwp, key, key, out, &len), CKR_OK);
}

/* --- mechanisms and templates ----------------------------------------------------------------- */

static bool lists(CK_MECHANISM_TYPE wanted)
{
    CK_MECHANISM_TYPE list[256];
    CK_ULONG count = 256;

    assert_rv(p11->C_GetMechanismList(slot, list, &count), CKR_OK);
    for (CK_ULONG i = 0; i < count; i++)
        if (list[i] == wanted)
            return true;
    return false;
}

static void hides_and_breaks_mechanisms(void **state)
{
    CK_MECHANISM_INFO info;
    struct gcm g;

    (void)state;
    assert_true(lists(CKM_AES_GCM));
    assert_false(lists(CKM_AES_CCM));
    mock_rules("hidden 0x%lx\nhidden 0x%lx\nbroken 0x%lx\n", CKM_AES_CBC, CKM_AES_GCM, CKM_AES_CCM);
    assert_false(lists(CKM_AES_GCM));
    assert_false(lists(CKM_AES_CBC));
    assert_true(lists(CKM_AES_CCM));
    assert_rv(p11->C_GetMechanismInfo(slot, CKM_AES_GCM, &info), CKR_MECHANISM_INVALID);
    assert_rv(p11->C_GetMechanismInfo(slot, CKM_AES_CCM, &info), CKR_OK);
    assert_rv(encrypt(&g), CKR_MECHANISM_INVALID);
    mock_rules("broken 0x%lx 0x%lx\n", CKM_AES_GCM, CKR_FUNCTION_NOT_SUPPORTED);
    assert_true(lists(CKM_AES_GCM));
    assert_rv(encrypt(&g), CKR_FUNCTION_NOT_SUPPORTED);
}

static void knows_a_mechanism_by_a_vendors_number(void **state)
{
    const CK_MECHANISM_TYPE code = 0x80001087;
    CK_MECHANISM_INFO info;
    uint8_t out[64];
    CK_ULONG len;
    struct gcm g;

    (void)state;
    mock_rules("renamed 0x%lx 0x%lx\n", CKM_AES_GCM, code);
    assert_true(lists(code));
    assert_false(lists(CKM_AES_GCM));
    assert_rv(p11->C_GetMechanismInfo(slot, code, &info), CKR_OK);
    assert_rv(make_key(CK_FALSE, code, &key), CKR_OK);
    assert_rv(encrypt(&g), CKR_MECHANISM_INVALID);
    g.type = code;
    assert_rv(encrypt_with(&g, false), CKR_OK);
    assert_rv(decrypt(&g, out, &len), CKR_OK);
    assert_memory_equal(out, PLAIN_TEXT, PLAIN_BYTES);
}

static void makes_its_own_iv(void **state)
{
    static const uint8_t zeros[12];
    struct gcm first, second;
    uint8_t out[64];
    CK_ULONG len;

    (void)state;
    mock_rules("iv-by-token\n");
    assert_rv(encrypt(&first), CKR_OK);
    assert_rv(encrypt(&second), CKR_OK);
    assert_memory_not_equal(first.iv, zeros, 12);
    assert_memory_not_equal(first.iv, second.iv, 12);
    assert_rv(decrypt(&first, out, &len), CKR_OK);
    assert_memory_equal(out, PLAIN_TEXT, PLAIN_BYTES);
    memcpy(first.iv, zeros, 12);
    assert_rv(decrypt(&first, out, &len), CKR_GENERAL_ERROR);
}

static CK_RV unwrap(const uint8_t *wrapped, CK_ULONG len, bool with_length, bool with_sensitive)
{
    CK_MECHANISM kwp = {CKM_AES_KEY_WRAP_PAD, NULL, 0};
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL no = CK_FALSE;
    CK_ULONG value_len = 32;
    CK_ATTRIBUTE template[5] = {{CKA_CLASS, &class, sizeof(class)},
                                {CKA_KEY_TYPE, &type, sizeof(type)},
                                {CKA_TOKEN, &no, sizeof(no)}};
    CK_ULONG count = 3;
    CK_OBJECT_HANDLE object;

    if (with_length)
        template[count++] = (CK_ATTRIBUTE){CKA_VALUE_LEN, &value_len, sizeof(value_len)};
    if (with_sensitive)
        template[count++] = (CK_ATTRIBUTE){CKA_SENSITIVE, &no, sizeof(no)};
    return p11->C_UnwrapKey(session, &kwp, key, (CK_BYTE *)wrapped, len, template, count, &object);
}

static void is_particular_about_templates(void **state)
{
    CK_MECHANISM kwp = {CKM_AES_KEY_WRAP_PAD, NULL, 0};
    uint8_t wrapped[64];
    CK_ULONG len = sizeof(wrapped);

    (void)state;
    assert_rv(p11->C_WrapKey(session, &kwp, key, key, wrapped, &len), CKR_OK);
    assert_rv(unwrap(wrapped, len, false, true), CKR_OK);
    assert_rv(unwrap(wrapped, len, true, false), CKR_ATTRIBUTE_READ_ONLY);
    mock_rules("refuse C_UnwrapKey 0x%lx\nrequire C_UnwrapKey 0x%lx\n", CKA_SENSITIVE,
               CKA_VALUE_LEN);
    assert_rv(unwrap(wrapped, len, false, true), CKR_TEMPLATE_INCONSISTENT);
    assert_rv(unwrap(wrapped, len, false, false), CKR_TEMPLATE_INCOMPLETE);
    assert_rv(unwrap(wrapped, len, true, false), CKR_OK);
    mock_rules("refuse C_UnwrapKey 0x%lx 0x%lx\n", CKA_SENSITIVE, CKR_ATTRIBUTE_VALUE_INVALID);
    assert_rv(unwrap(wrapped, len, false, true), CKR_ATTRIBUTE_VALUE_INVALID);
}

static void wants_its_arguments(void **state)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};

    (void)state;
    mock_rules("init-args configdir='sql:/x' flags= y\n");
    assert_rv(p11->C_Finalize(NULL), CKR_OK);
    assert_rv(p11->C_Initialize(NULL), CKR_ARGUMENTS_BAD);
    assert_rv(p11->C_Initialize(&args), CKR_ARGUMENTS_BAD);
    args.pReserved = (void *)"configdir='sql:/x' flags= y";
    assert_rv(p11->C_Initialize(&args), CKR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mock_up, mock_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(locks_the_pin),
        TEST(takes_the_pin_on_a_pad),
        TEST(wants_a_login_for_each_use),
        TEST(hides_and_breaks_mechanisms),
        TEST(knows_a_mechanism_by_a_vendors_number),
        TEST(makes_its_own_iv),
        TEST(is_particular_about_templates),
        TEST(wants_its_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
