/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Anchors: what is written comes back, survives a killed writer, needs the PIN, and costs few
 * calls. */
#include "one_token.h"

#include "pkcs11/anchor.h"

#include <p11-kit/pkcs11.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL "p11keyring:test:anchor"

/* Each test begins without an anchor and without rules. */
static int fresh(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    enum kr_status status;

    (void)state;
    mock_rules("%s", "");
    status = kr_anchor_remove(token, LABEL, &err);
    return status == KR_OK || status == KR_NOT_FOUND ? 0 : -1;
}

/* The first byte is the age. */
static bool newer(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    assert_true(a_len > 0 && b_len > 0);
    return a[0] > b[0];
}

static bool older(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    return newer(b, b_len, a, a_len);
}

static void write_anchor(uint8_t age, size_t len)
{
    uint8_t value[KR_ANCHOR_MAX] = {age};
    struct kr_error err = KR_ERROR_INIT;

    memset(value + 1, 0x5a, sizeof(value) - 1);
    assert_ok(kr_anchor_raise(token, LABEL, newer, value, len, &err));
}

static void assert_anchor(kr_anchor_order order, uint8_t age, size_t len)
{
    uint8_t value[KR_ANCHOR_MAX] = {0};
    struct kr_error err = KR_ERROR_INIT;
    size_t got = 0;

    assert_ok(kr_anchor_read(token, LABEL, order, value, &got, &err));
    assert_int_equal(got, len);
    assert_int_equal(value[0], age);
    assert_int_equal(value[len - 1], len > 1 ? 0x5a : age);
}

/* What pkcs11-tool prints of the token's data objects; `login` is "" or "--login ...". */
static size_t count_listed(const char *login)
{
    char command[1024], line[256];
    size_t found = 0;
    FILE *pipe;

    setenv("P11K_TEST_PIN", f.pin, 1);
    snprintf(command, sizeof(command),
             "pkcs11-tool --module %s --token-label %s %s --list-objects --type data 2>&1",
             f.module, f.label, login);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof(line), pipe))
        found += strstr(line, LABEL) != NULL;
    pclose(pipe);
    unsetenv("P11K_TEST_PIN");
    return found;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void reads_what_was_written(void **state)
{
    uint8_t value[KR_ANCHOR_MAX];
    struct kr_error err = KR_ERROR_INIT;
    size_t len = 99;

    (void)state;
    assert_int_equal(kr_anchor_read(token, LABEL, newer, value, &len, &err), KR_NOT_FOUND);
    assert_error(&err, KR_NOT_FOUND, "no data object '" LABEL "'", "");
    assert_int_equal(len, 99);
    write_anchor(1, KR_ANCHOR_MAX);
    assert_anchor(newer, 1, KR_ANCHOR_MAX);
    write_anchor(2, 1);
    assert_anchor(newer, 2, 1);
    assert_anchor(older, 2, 1); /* the first is gone, not only behind */
    assert_int_equal(kr_anchor_read(token, LABEL "2", newer, value, &len, &err), KR_NOT_FOUND);
    assert_ok(kr_anchor_remove(token, LABEL, &err));
    assert_int_equal(kr_anchor_remove(token, LABEL, &err), KR_NOT_FOUND);
}

static void refuses_what_is_too_long(void **state)
{
    uint8_t value[KR_ANCHOR_MAX + 1] = {1};
    struct kr_error err = KR_ERROR_INIT;
    char label[200];

    (void)state;
    assert_int_equal(kr_anchor_raise(token, LABEL, newer, value, sizeof(value), &err), KR_USAGE);
    assert_int_equal(kr_anchor_raise(token, LABEL, newer, value, 0, &err), KR_USAGE);
    memset(label, 'x', sizeof(label));
    label[sizeof(label) - 1] = '\0';
    assert_int_equal(kr_anchor_raise(token, label, newer, value, 1, &err), KR_USAGE);
}

static void write_another(struct kr_token *mine)
{
    static const uint8_t value[2] = {9, 0x5a};
    struct kr_error err = KR_ERROR_INIT;

    (void)!kr_anchor_raise(mine, LABEL, newer, value, sizeof(value), &err);
}

/* Killed after the new object was made and before the old one is destroyed. */
static void a_killed_writer_leaves_the_old_value_and_the_new(void **state)
{
    (void)state;
    write_anchor(5, 2);
    kill_in("C_DestroyObject", write_another);
    assert_int_equal(count_listed("--login --pin env:P11K_TEST_PIN"), 2);
    assert_anchor(newer, 9, 2);
    assert_anchor(older, 5, 2);
    write_anchor(10, 2); /* the next writer tidies up */
    assert_int_equal(count_listed("--login --pin env:P11K_TEST_PIN"), 1);
    assert_anchor(older, 10, 2);
}

static void says_that_a_token_keeps_no_data_objects(void **state)
{
    static const CK_RV refusals[] = {CKR_TEMPLATE_INCONSISTENT, CKR_FUNCTION_NOT_SUPPORTED,
                                     CKR_ATTRIBUTE_VALUE_INVALID, CKR_TOKEN_WRITE_PROTECTED};
    struct kr_error err = KR_ERROR_INIT;
    uint8_t value[2] = {7, 7};

    (void)state;
    write_anchor(6, 2);
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        mock_rules("fail C_CreateObject 0x%lx\n", refusals[i]);
        assert_int_equal(kr_anchor_raise(token, LABEL, newer, value, sizeof(value), &err),
                         KR_REFUSED);
        assert_int_equal(err.ckr, refusals[i]);
        assert_error(&err, KR_REFUSED, "keeps no private data object", "");
    }
    assert_anchor(newer, 6, 2); /* the old one is still there */
}

static void goes_on_after_a_lost_session(void **state)
{
    (void)state;
    write_anchor(1, 2);
    mock_rules("fail C_DestroyObject 0x%lx 1 1\n", CKR_SESSION_HANDLE_INVALID);
    write_anchor(2, 2);
    mock_rules("%s", "");
    assert_anchor(older, 2, 2);
    mock_rules("fail C_GetAttributeValue 0x%lx 1 1\n", CKR_ATTRIBUTE_VALUE_INVALID);
    assert_anchor(newer, 2, 2);
    mock_rules("fail C_GetAttributeValue 0x%lx 1 1\n", CKR_DEVICE_REMOVED);
    assert_anchor(newer, 2, 2);
}

static void needs_the_pin(void **state)
{
    (void)state;
    write_anchor(3, 8);
    assert_int_equal(count_listed("--login --pin env:P11K_TEST_PIN"), 1);
    assert_int_equal(count_listed(""), 0);
}

/* Anyone can make a public object, also one that looks newer. */
static void takes_no_public_object_for_an_anchor(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    uint8_t value[KR_ANCHOR_MAX];
    char file[320], command[512];
    size_t len = 0;
    FILE *out;

    (void)state;
    write_anchor(3, 4);
    snprintf(file, sizeof(file), "%s/planted", f.dir);
    out = fopen(file, "w");
    assert_non_null(out);
    fputs("\xff planted", out);
    fclose(out);
    snprintf(command, sizeof(command),
             "--write-object %s --type data --label " LABEL " --application-label p11keyring",
             file);
    assert_int_equal(check_pkcs11_tool(&f, command), 0);
    assert_int_equal(count_listed(""), 1);
    assert_anchor(newer, 3, 4);
    snprintf(command, sizeof(command),
             "--write-object %s --type data --label " LABEL
             " --application-label p11keyring --private",
             file);
    assert_int_equal(check_pkcs11_tool(&f, command), 0);
    assert_ok(kr_anchor_read(token, LABEL, newer, value, &len, &err));
    assert_int_equal(value[0], 0xff); /* made with the PIN, it counts */
    assert_int_equal(count_listed("--login --pin env:P11K_TEST_PIN"), 3);
}

static void add_calls(const char *name, uint64_t calls, void *sum)
{
    (void)name;
    *(uint64_t *)sum += calls;
}

static uint64_t calls_so_far(void)
{
    uint64_t sum = 0;

    mock_each_function(add_calls, &sum);
    return sum;
}

/* docs/ARCHITECTURE.md says so. */
static void costs_few_calls(void **state)
{
    uint64_t before;

    (void)state;
    write_anchor(1, 9);
    before = calls_so_far();
    assert_anchor(newer, 1, 9);
    assert_int_equal(calls_so_far() - before, 5);
    before = calls_so_far();
    write_anchor(2, 9);
    assert_int_equal(calls_so_far() - before, 7);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_what_was_written),
        TEST(refuses_what_is_too_long),
        TEST(a_killed_writer_leaves_the_old_value_and_the_new),
        TEST(says_that_a_token_keeps_no_data_objects),
        TEST(goes_on_after_a_lost_session),
        TEST(needs_the_pin),
        TEST(takes_no_public_object_for_an_anchor),
        TEST(costs_few_calls),
    };

    return cmocka_run_group_tests(tests, token_up, token_down);
}
