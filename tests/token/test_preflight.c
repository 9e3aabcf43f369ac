/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The preflight: it says what is missing, and leaves nothing behind that hinders. */
#include "one_token.h"

#include "pkcs11/anchor.h"

#include <p11-kit/pkcs11.h>

#include <stdlib.h>

static size_t count_keys(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info *list = NULL;
    size_t count;

    assert_ok(kr_master_list(token, &list, &count, &err));
    for (size_t i = 0; i < count; i++)
        assert_string_equal(list[i].label, KR_PREFLIGHT_LABEL);
    free(list);
    return count;
}

static bool first(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    (void)a;
    (void)b;
    return a_len > b_len;
}

static void leaves_nothing_behind(void **state)
{
    struct kr_preflight preflight = {.mechanism = KR_WRAP_AUTO};
    struct kr_error err = KR_ERROR_INIT;
    uint8_t value[KR_ANCHOR_MAX];
    size_t len;

    (void)state;
    assert_ok(kr_master_preflight(token, KR_WRAP_AUTO, &preflight, &err));
    assert_int_equal(preflight.mechanism, KR_WRAP_AES_GCM);
    assert_true(preflight.anchor);
    assert_ok(kr_master_preflight(token, KR_WRAP_RSA, &preflight, &err));
    assert_int_equal(preflight.mechanism, KR_WRAP_RSA_SHA1);
    assert_int_equal(count_keys(), 0);
    assert_int_equal(kr_anchor_read(token, KR_PREFLIGHT_LABEL, first, value, &len, &err),
                     KR_NOT_FOUND);
}

static void says_what_is_missing(void **state)
{
    static const struct {
        const char *rules;
        const char *text, *hint;
    } cases[] = {
        {"write-protected\n", "'onetoken' is write-protected", "lift"},
        {"fail C_GenerateKey 0x70\nfail C_GenerateKeyPair 0x70\n",
         "no master key can be made: the token cannot wrap keys", "doctor"},
    };
    struct kr_error err = KR_ERROR_INIT;
    struct kr_preflight preflight;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mock_rules("%s", cases[i].rules);
        assert_int_equal(kr_master_preflight(token, KR_WRAP_AUTO, &preflight, &err), KR_REFUSED);
        assert_error(&err, KR_REFUSED, cases[i].text, cases[i].hint);
        mock_rules("%s", "");
        assert_int_equal(count_keys(), 0);
    }
}

static void does_without_anchors(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_preflight preflight = {.anchor = true};

    (void)state;
    mock_rules("fail C_CreateObject 0x%lx\n", CKR_TEMPLATE_INCONSISTENT);
    assert_ok(kr_master_preflight(token, KR_WRAP_AUTO, &preflight, &err));
    assert_false(preflight.anchor);
    assert_says(preflight.no_anchor, "keeps no private data object");
    assert_says(preflight.no_anchor, "CKR_TEMPLATE_INCONSISTENT");
}

static void says_that_keys_cannot_be_destroyed(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_preflight preflight;

    (void)state;
    mock_rules("fail C_DestroyObject 0x%lx\n", CKR_ACTION_PROHIBITED);
    assert_int_equal(kr_master_preflight(token, KR_WRAP_AUTO, &preflight, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "cannot be destroyed: C_DestroyObject failed",
                 "--delete-object");
    mock_rules("%s", "");
    assert_int_equal(count_keys(), 1);
}

static void preflight_once(struct kr_token *mine)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_preflight preflight;

    (void)!kr_master_preflight(mine, KR_WRAP_AUTO, &preflight, &err);
}

/* What the last test and a kill have left behind. */
static void is_not_hindered_by_leftovers(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_preflight preflight;
    size_t keys = count_keys();

    (void)state;
    kill_in("C_DestroyObject", preflight_once);
    assert_int_equal(count_keys(), keys + 1);
    assert_ok(kr_master_preflight(token, KR_WRAP_AUTO, &preflight, &err));
    assert_int_equal(count_keys(), keys + 1);
}

#define TEST(name) cmocka_unit_test_teardown(name, no_rules)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(leaves_nothing_behind),        TEST(says_what_is_missing),
        TEST(does_without_anchors),         TEST(says_that_keys_cannot_be_destroyed),
        TEST(is_not_hindered_by_leftovers),
    };

    return cmocka_run_group_tests(tests, token_up, token_down);
}
