/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Each quirk on a token that needs it: what fails without it works with it. */
#include "mock_fixture.h"

#include "base/hex.h"

#include <p11-kit/pkcs11.h>

#include <stdio.h>
#include <string.h>

/* Numbers as vendors have them. */
#define CODE_GCM 0x80001087UL
#define CODE_KWP 0x80000171UL

static struct kr_token *connect_with(struct kr_quirks quirks)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 5000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;

    options.quirks = quirks;
    assert_ok(kr_token_open(&options, &token, &err));
    return token;
}

/* A master key by this mechanism, and a sealing key there and back. */
static enum kr_status use(struct kr_token *token, enum kr_wrap_mechanism mechanism,
                          uint8_t wrapped[KR_WRAPPED_MAX], struct kr_error *err)
{
    uint8_t key[KR_SEALING_KEY_BYTES], back[KR_SEALING_KEY_BYTES];
    struct kr_master_info master;
    size_t len = 0;

    memset(key, 0x17, sizeof(key));
    KR_TRY(kr_master_generate(token, "p11keyring:test:1", mechanism, &master, err));
    KR_TRY(kr_master_wrap(token, &master.id, mechanism, key, wrapped, &len, err));
    KR_TRY(kr_master_unwrap(token, &master.id, mechanism, wrapped, len, back, err));
    assert_memory_equal(key, back, sizeof(key));
    return KR_OK;
}

static void passes_init_args(void **state)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 5000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;

    (void)state;
    mock_rules("init-args configdir='sql:/x' flags=\n");
    assert_int_equal(kr_token_open(&options, &token, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "C_Initialize failed: CKR_ARGUMENTS_BAD", "may want init-args");
    options.quirks.init_args = "configdir='sql:/x' flags=";
    assert_ok(kr_token_open(&options, &token, &err));
    kr_token_close(token);
    options.quirks.init_args = "another"; /* the first one decided for this process */
    assert_ok(kr_token_open(&options, &token, &err));
    kr_token_close(token);
    mock_rules("init-args other\n");
    assert_int_equal(kr_token_open(&options, &token, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "CKR_ARGUMENTS_BAD", "does not take these init-args");
}

static void opens_no_reading_sessions(void **state)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 5000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = NULL;
    uint64_t before;

    (void)state;
    mock_rules("write-protected\n");
    before = mock_calls("C_OpenSession");
    assert_ok(kr_token_open(&options, &token, &err)); /* serves for reading */
    assert_true(mock_calls("C_OpenSession") - before >= 2);
    kr_token_close(token);
    mock_rules("write-protected\nread-write-only\n");
    options.quirks.read_write_only = true;
    assert_int_equal(kr_token_open(&options, &token, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "CKR_TOKEN_WRITE_PROTECTED", "lift its write protection");
}

static void takes_the_iv_of_the_token(void **state)
{
    uint8_t wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = connect_with((struct kr_quirks){.iv_by_token = true});

    (void)state;
    /* One that leaves the zeros where they are would use them again and again. */
    assert_int_equal(use(token, KR_WRAP_AES_GCM, wrapped, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "the token made no IV for AES-GCM", "");
    mock_rules("iv-by-token\n");
    assert_ok(use(token, KR_WRAP_AES_GCM, wrapped, &err));
    kr_token_close(token);
    token = connect_with((struct kr_quirks){0}); /* taken back without it, too */
    assert_ok(use(token, KR_WRAP_AES_GCM, wrapped, &err));
    kr_token_close(token);
}

static void does_without_the_tokens_random(void **state)
{
    uint8_t one[32], two[32], none[32] = {0};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = connect_with((struct kr_quirks){.no_random = true});
    uint64_t before = mock_calls("C_GenerateRandom");

    (void)state;
    assert_ok(kr_token_random(token, one, sizeof(one), &err));
    assert_ok(kr_token_random(token, two, sizeof(two), &err));
    assert_int_equal(mock_calls("C_GenerateRandom"), before);
    assert_memory_not_equal(one, two, sizeof(one));
    assert_memory_not_equal(one, none, sizeof(one));
    kr_token_close(token);
    token = connect_with((struct kr_quirks){0});
    mock_rules("fail C_GenerateRandom 0x%lx\n", CKR_FUNCTION_FAILED);
    assert_int_not_equal(kr_token_random(token, one, sizeof(one), &err), KR_OK);
    mock_rules("no-random\n"); /* one that says so needs no option */
    assert_ok(kr_token_random(token, one, sizeof(one), &err));
    kr_token_close(token);
}

static void knows_vendors_numbers(void **state)
{
    uint8_t wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = connect_with((struct kr_quirks){0});

    (void)state;
    mock_rules("renamed 0x%lx 0x%lx\nrenamed 0x%lx 0x%lx\n", CKM_AES_GCM, CODE_GCM,
               CKM_AES_KEY_WRAP_PAD, CODE_KWP);
    assert_int_equal(use(token, KR_WRAP_AES_GCM, wrapped, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "does not list AES-GCM (0x1087)", "");
    assert_int_equal(use(token, KR_WRAP_AES_KWP, wrapped, &err), KR_REFUSED);
    kr_token_close(token);
    token = connect_with((struct kr_quirks){.aes_gcm_code = CODE_GCM, .aes_kwp_code = CODE_KWP});
    assert_ok(use(token, KR_WRAP_AES_GCM, wrapped, &err));
    assert_ok(use(token, KR_WRAP_AES_KWP, wrapped, &err));
    kr_token_close(token);
}

#define TEST(name) cmocka_unit_test_teardown(name, no_rules)

static int sign_by_rsa_pkcs(bool allowed, const char *label)
{
    struct kr_token *token = connect_with((struct kr_quirks){.rsa_pkcs = allowed});
    char id[2 * KR_OBJECT_ID_MAX + 1], command[1000];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;

    assert_ok(kr_master_generate(token, label, KR_WRAP_RSA, &info, &err));
    kr_token_close(token);
    kr_hex_encode(info.id.bytes, info.id.len, id);
    snprintf(command, sizeof(command),
             "--sign --mechanism RSA-PKCS --id %s --input-file %s --output-file %s/signature", id,
             f.pin_file, f.dir);
    return check_pkcs11_tool(&f, command);
}

static void allows_rsa_pkcs_where_it_is_wanted(void **state)
{
    (void)state;
    assert_int_not_equal(sign_by_rsa_pkcs(false, "strict"), 0);
    assert_int_equal(sign_by_rsa_pkcs(true, "allowing"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_no_reading_sessions),
        TEST(takes_the_iv_of_the_token),
        TEST(does_without_the_tokens_random),
        TEST(knows_vendors_numbers),
        TEST(allows_rsa_pkcs_where_it_is_wanted),
        TEST(passes_init_args), /* the last: they are kept for as long as the process lives */
    };

    return cmocka_run_group_tests(tests, mock_up, mock_down);
}
