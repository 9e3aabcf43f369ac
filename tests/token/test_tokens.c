/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * One keyring in two tokens behind the mock: each of them is away at some time, and nothing is
 * lost, repeated or waited for.
 */
#include "check.h"
#include "keyring_fixture.h"

#include "base/clock.h"
#include "provider/keyring_internal.h"
#include "provider/life.h"

#include <p11-kit/pkcs11.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct keyring_fixture f;
static struct kr_keyring *server; /* stays open during a test */

static int group_up(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    keyring_fixture_up_two(&f, P11K_MOCK);
    mock_setup(f.token.dir);
    return 0;
}

static int group_down(void **state)
{
    (void)state;
    keyring_fixture_down(&f);
    return 0;
}

static int up(void **state)
{
    (void)state;
    keyring_fixture_renew(&f);
    return 0;
}

static void close_server(void)
{
    kr_keyring_close(server);
    server = NULL;
}

static int down(void **state)
{
    (void)state;
    mock_rules("%s", "");
    close_server();
    check_wait_for_workers();
    return 0;
}

/* --- helpers ---------------------------------------------------------------------------------- */

static void away(const char *token)
{
    mock_rules("token %s\ntoken-gone\n", token);
}

static void all_back(void)
{
    mock_rules("%s", "");
}

static void create_in(struct kr_keyring *keyring, uint32_t id)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    assert_ok(kr_keyring_create_key(keyring, id, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
}

/* A token that was away is tried again a little later. */
static void wait_until_created(uint32_t id)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    uint64_t until = kr_now_ms() + 60000;
    while (kr_keyring_create_key(server, id, KR_CIPHER_AES_CBC, NULL, 0, &version, &err) != KR_OK) {
        if (kr_now_ms() > until)
            fail_msg("key %u: %s", id, err.text);
        usleep(50000);
    }
}

static void create(uint32_t id)
{
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    create_in(keyring, id);
    kr_keyring_close(keyring);
}

/* How many keys a fresh process reads. */
static uint32_t readable(void)
{
    struct kr_keyring_stats stats;
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    kr_keyring_get_stats(keyring, &stats);
    kr_keyring_close(keyring);
    return stats.keys;
}

static void sync_now(uint64_t at_least)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_life_options options = {0};
    struct kr_life_result result;
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    assert_ok(kr_keyring_sync(keyring, &options, &result, &err));
    assert_true(result.rewrapped >= at_least);
    assert_int_equal(result.waiting, 0);
    kr_keyring_close(keyring);
}

static void open_fails(enum kr_status status, const char *text, const char *hint)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    assert_int_equal(kr_keyring_open(f.config, &keyring, &err), status);
    assert_error(&err, status, text, hint);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void either_one_opens_everything(void **state)
{
    (void)state;
    create(1);
    away("first");
    assert_int_equal(readable(), 1);
    away("second");
    assert_int_equal(readable(), 1);
}

static void what_one_missed_is_given_to_it_later(void **state)
{
    (void)state;
    create(1);
    away("first");
    create(2);
    create(3);
    away("second");
    open_fails(KR_TOKEN_UNAVAILABLE, "token 'second'", "");
    all_back();
    sync_now(2);
    away("second");
    assert_int_equal(readable(), 3);
}

/* A running server loses one, then the other. */
static void a_running_keyring_goes_from_one_to_the_other(void **state)
{
    (void)state;
    server = keyring_fixture_open(&f);
    create_in(server, 1);
    away("first");
    create_in(server, 2);
    away("second");
    create_in(server, 3);
    all_back();
    create_in(server, 4);
    close_server();
    sync_now(2);
    away("first");
    assert_int_equal(readable(), 4);
    away("second");
    assert_int_equal(readable(), 4);
}

static void with_both_away_the_first_one_is_named(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    (void)state;
    server = keyring_fixture_open(&f);
    mock_rules("token-gone\n");
    assert_int_equal(kr_keyring_create_key(server, 1, KR_CIPHER_AES_CBC, NULL, 0, &version, &err),
                     KR_TOKEN_UNAVAILABLE);
    assert_error(&err, KR_TOKEN_UNAVAILABLE, "token 'first'", "");
    close_server();
    open_fails(KR_TOKEN_UNAVAILABLE, "token 'first'", "");
}

static void a_keyring_is_made_in_all_tokens_or_not_at_all(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row masters[KR_TOKENS_MAX];
    size_t count;
    unsigned others;
    (void)state;
    assert_int_equal(unlink(f.token.keystore), 0);
    away("second");
    assert_int_equal(kr_keyring_create(f.config, NULL, true, masters, &count, &others, &err),
                     KR_TOKEN_UNAVAILABLE);
    assert_int_equal(access(f.token.keystore, F_OK), -1);
    all_back();
    assert_ok(kr_keyring_create(f.config, NULL, true, masters, &count, &others, &err));
    assert_int_equal(count, 2);
    create(1);
}

static uint64_t timeouts(const struct kr_token *token)
{
    struct kr_token_stats stats;
    kr_token_get_stats(token, &stats);
    return stats.timeouts;
}

/* Who meets it waits, and then nobody for three times as long. */
static void one_that_hangs_is_waited_for_seldom(void **state)
{
    enum { CHANGES = 6, TIMEOUT_MS = 1000 };
    struct kr_error err = KR_ERROR_INIT;
    const struct kr_token *first;
    uint64_t start, before;
    (void)state;
    assert_ok(kr_config_override(f.config, "pkcs11", "timeout", "1000", &err));
    server = keyring_fixture_open(&f);
    create_in(server, 1);
    mock_rules("token first\nhang *\n");
    create_in(server, 2);
    first = server->tokens.at[0];
    before = timeouts(first);
    assert_true(before > 0);
    start = kr_now_ms();
    for (uint32_t i = 0; i < CHANGES; i++)
        create_in(server, 3 + i);
    assert_true((timeouts(first) - before) * TIMEOUT_MS < (kr_now_ms() - start) / 3 + TIMEOUT_MS);
    all_back();
    close_server();
}

static void write_pin(const char *path, const char *pin)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(pin, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static void a_wrong_pin_of_one_is_tried_once(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    uint64_t before = mock_calls("wrong-pins");
    char path[400], spec[420];
    (void)state;
    create(1);
    snprintf(path, sizeof(path), "%s/wrong", f.token.dir);
    snprintf(spec, sizeof(spec), "file:%s", path);
    write_pin(path, "0000");
    assert_ok(kr_config_override(f.config, "token", "pin-source", spec, &err));
    create(2);
    create(3);
    assert_int_equal(readable(), 3);
    assert_int_equal(mock_calls("wrong-pins") - before, 1);
    snprintf(spec, sizeof(spec), "file:%s", f.token.pin_file);
    assert_ok(kr_config_override(f.config, "token", "pin-source", spec, &err));
    sync_now(2);
}

static struct kr_object_id master_of(const char *token)
{
    struct kr_object_id id = {0};
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    for (size_t i = 0; i < keyring->master_count; i++)
        if (strcmp(keyring->master_rows[i].token, token) == 0)
            id = keyring->master_rows[i].id;
    kr_keyring_close(keyring);
    assert_true(id.len > 0);
    return id;
}

static void a_master_key_that_is_gone_stops_nobody(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_object_id id;
    struct kr_pin_source *pin;
    struct kr_token *token;
    (void)state;
    create(1);
    id = master_of("first");
    assert_ok(kr_keyring_open_token(f.config, "first", NULL, &token, &pin, &err));
    assert_ok(kr_master_destroy(token, &id, &err));
    kr_token_close(token);
    kr_pin_source_free(pin);
    assert_int_equal(readable(), 1);
    create(2);
    away("first");
    assert_int_equal(readable(), 2);
    away("second");
    open_fails(KR_TOKEN_UNAVAILABLE, "token 'second'", "");
}

static void a_token_that_refuses_to_wrap_stops_nobody(void **state)
{
    (void)state;
    create(1);
    mock_rules("token first\nfail C_EncryptInit 0x%lx\nfail C_WrapKey 0x%lx\n",
               CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_KEY_FUNCTION_NOT_PERMITTED);
    create(2);
    assert_int_equal(readable(), 2);
    all_back();
    sync_now(1);
}

/* As after the vendor's cloning: a second section finds the keys of the first. */
static void a_token_with_copies_of_the_keys_serves(void **state)
{
    char *uri = f.config->tokens[1].uri;
    (void)state;
    create(1);
    f.config->tokens[1].uri = strdup("pkcs11:token=first");
    free(uri);
    server = keyring_fixture_open(&f);
    assert_int_equal(server->masters.keys[0].token_count, 2);
    create_in(server, 2);
}

/* What the first token missed, the second one remembers. */
static void one_token_that_remembers_is_enough(void **state)
{
    char command[1200];
    (void)state;
    create(1);
    snprintf(command, sizeof(command), "cp -p %s %s.old", f.token.keystore, f.token.keystore);
    assert_int_equal(system(command), 0);
    away("first");
    create(2);
    snprintf(command, sizeof(command), "cp -p %s.old %s", f.token.keystore, f.token.keystore);
    assert_int_equal(system(command), 0);
    open_fails(KR_INTEGRITY, "is older than token 'second' remembers", "keyring accept");
    all_back();
    open_fails(KR_INTEGRITY, "is older than token 'second' remembers", "keyring accept");
}

/* A token that fails to unwrap, and not at once again, is taken for one with another master key:
 * that must pass by itself. */
static void a_token_in_trouble_comes_round(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    server = keyring_fixture_open(&f);
    mock_rules("token-gone\n");
    assert_int_equal(kr_keyring_create_key(server, 1, KR_CIPHER_AES_CBC, NULL, 0, &version, &err),
                     KR_TOKEN_UNAVAILABLE);
    mock_rules("token first\nfail C_Decrypt 0x5 1 1\nfail C_Decrypt 0x5 3 1\n");
    wait_until_created(1); /* at the latest by the second */
    away("second");
    wait_until_created(2);
}

/* What fails after the commit is no reason to think that there is no key. */
static void a_key_that_was_made_is_told(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    server = keyring_fixture_open(&f);
    create_in(server, 1);
    uint64_t before = mock_calls("C_Decrypt");
    create_in(server, 2);
    mock_rules("fail C_Decrypt 0x30 %lu\n", (unsigned long)(mock_calls("C_Decrypt") - before));
    assert_int_equal(kr_keyring_create_key(server, 3, KR_CIPHER_AES_CBC, NULL, 0, &version, &err),
                     KR_TOKEN_UNAVAILABLE);
    assert_non_null(strstr(err.text, "CKR_DEVICE_ERROR"));
    assert_error(&err, KR_TOKEN_UNAVAILABLE, "key 3 was made", "do not repeat");
    assert_int_equal(kr_keyring_latest(server, 3), 0);
    all_back();
    assert_int_equal(kr_keyring_ensure_key(server, 3, KR_CIPHER_AES_CBC, &version, &err), KR_OK);
    assert_int_equal(version, 1);
    assert_int_equal(readable(), 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(either_one_opens_everything),
        TEST(what_one_missed_is_given_to_it_later),
        TEST(a_running_keyring_goes_from_one_to_the_other),
        TEST(with_both_away_the_first_one_is_named),
        TEST(a_keyring_is_made_in_all_tokens_or_not_at_all),
        TEST(one_that_hangs_is_waited_for_seldom),
        TEST(a_wrong_pin_of_one_is_tried_once),
        TEST(a_master_key_that_is_gone_stops_nobody),
        TEST(a_token_that_refuses_to_wrap_stops_nobody),
        TEST(a_token_with_copies_of_the_keys_serves),
        TEST(one_token_that_remembers_is_enough),
        TEST(a_token_in_trouble_comes_round),
        TEST(a_key_that_was_made_is_told),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
