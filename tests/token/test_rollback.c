/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Keystores that are not the newest: put back, edited, exchanged, copied. Built a second time
 * without the guards (P11K_TEST_NO_GUARD), where each attack works: so a refusal means something.
 */
#include "check.h"
#include "keyring_fixture.h"

#include "base/guards.h"
#include "base/hex.h"
#include "provider/keyring_internal.h"

#include <p11-kit/pkcs11.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct keyring_fixture f;

static int up(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    (void)state;
    memset(&f, 0, sizeof(f));
    keyring_fixture_up(&f);
    assert_ok(kr_config_override(f.config, "token", "module", P11K_MOCK, &err));
    return 0;
}

static int down(void **state)
{
    (void)state;
    mock_rules("%s", "");
    keyring_fixture_down(&f);
    return 0;
}

/* --- helpers ---------------------------------------------------------------------------------- */

static void run(const char *fmt, ...) KR_PRINTF(1, 2);
static void run(const char *fmt, ...)
{
    char command[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

/* A copy of the keystore by this name, and the way back. */
static void save(const char *name)
{
    run("cp -p %s %s.%s", f.token.keystore, f.token.keystore, name);
}

static void put_back(const char *name)
{
    run("cp -p %s.%s %s", f.token.keystore, name, f.token.keystore);
}

static void create(uint32_t id)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    uint32_t version;
    assert_ok(kr_keyring_create_key(keyring, id, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
    kr_keyring_close(keyring);
}

/* The latest version of a key, as a fresh process sees it. */
static uint32_t latest(uint32_t id)
{
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    uint32_t version = kr_keyring_latest(keyring, id);
    kr_keyring_close(keyring);
    return version;
}

/* With the guards; without them the keyring opens. */
static void refused(const char *text, const char *hint)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    enum kr_status status = kr_keyring_open(f.config, &keyring, &err);
    if (KR_GUARDED) {
        assert_int_equal(status, KR_INTEGRITY);
        assert_error(&err, KR_INTEGRITY, text, hint);
        return;
    }
    assert_int_equal(status, KR_OK);
    kr_keyring_close(keyring);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void an_older_file_is_refused_by_a_fresh_process(void **state)
{
    (void)state;
    create(1);
    save("old");
    create(2);
    save("new");
    put_back("old");
    refused("is older than token 'test' remembers", "keyring accept");
    if (!KR_GUARDED) {
        create(2); /* a second key of the same id and version */
        return;
    }
    put_back("new");
    assert_int_equal(latest(2), 1);
}

static void deleted_rows_are_seen(void **state)
{
    (void)state;
    create(1);
    create(2);
    run("sqlite3 %s \"DELETE FROM versions WHERE id = '2'; DELETE FROM keys WHERE id = '2'\"",
        f.token.keystore);
    refused("its rows were changed by something", "from a backup");
    if (!KR_GUARDED)
        create(2);
}

static void make_other(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row masters[KR_TOKENS_MAX];
    size_t count;
    unsigned others;
    assert_int_equal(unlink(f.token.keystore), 0);
    assert_int_equal(kr_keyring_create(f.config, NULL, false, masters, &count, &others, &err),
                     KR_REFUSED);
    assert_non_null(strstr(err.text, "remembers a keystore of keyring 'test'"));
    assert_ok(kr_keyring_create(f.config, NULL, true, masters, &count, &others, &err));
}

static void another_keystore_of_the_name_is_refused(void **state)
{
    (void)state;
    create(1);
    save("first");
    make_other();
    create(7);
    put_back("first");
    refused("is not the keystore that token 'test' knows", "keyring accept");
}

/* A running server refuses the change that would part the two; a fresh process does not open. */
static void a_clone_that_is_behind_is_refused(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    (void)state;
    create(1);
    save("clone");
    run("mv %s %s.here", f.token.keystore, f.token.keystore);
    put_back("clone");
    struct kr_keyring *clone = keyring_fixture_open(&f);
    run("mv %s %s.there", f.token.keystore, f.token.keystore);
    run("mv %s.here %s", f.token.keystore, f.token.keystore);
    create(2);
    run("mv %s %s.here", f.token.keystore, f.token.keystore);
    run("mv %s.there %s", f.token.keystore, f.token.keystore);
    enum kr_status status =
        kr_keyring_create_key(clone, 2, KR_CIPHER_AES_CBC, NULL, 0, &version, &err);
    assert_int_equal(status, KR_GUARDED ? KR_INTEGRITY : KR_OK);
    if (KR_GUARDED)
        assert_error(&err, KR_INTEGRITY, "is older than token", "keyring accept");
    kr_keyring_close(clone);
    refused("is older than token 'test' remembers", "keyring accept");
}

/* Both were changed once since they parted: only the manifests' MACs tell them apart. */
static void a_copy_of_the_same_generation_is_refused(void **state)
{
    (void)state;
    create(1);
    save("copy");
    keyring_fixture_add_versions(&f, 2, 1); /* without telling the token */
    save("parted");
    put_back("copy");
    create(2);
    put_back("parted");
    refused("is a copy that parted", "keyring accept");
}

/* As after a kill between the commit and the anchor. */
static void a_newer_file_raises_what_the_token_remembers(void **state)
{
    (void)state;
    create(1);
    save("old");
    keyring_fixture_add_versions(&f, 2, 3);
    assert_int_equal(latest(2), 3);
    put_back("old");
    refused("is older than token 'test' remembers", "keyring accept");
}

static void a_token_without_data_objects_still_serves(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token;
    struct kr_pin_source *pin;
    (void)state;
    assert_ok(kr_keyring_open_token(f.config, NULL, NULL, &token, &pin, &err));
    assert_ok(kr_anchor_remove(token, "p11keyring:test:generation", &err));
    kr_token_close(token);
    kr_pin_source_free(pin);
    mock_rules("fail C_CreateObject 0x%lx\n", CKR_TEMPLATE_INCONSISTENT);
    create(1);
    save("old");
    create(2);
    put_back("old");
    assert_int_equal(latest(2), 0); /* nobody remembers */
    mock_rules("%s", "");
    create(3);
    put_back("old");
    refused("is older than token 'test' remembers", "keyring accept");
}

/* SoftHSM2's token fails for a moment while another process writes its file at a login. */
static bool again(enum kr_status status, int *tries, const struct kr_error *err)
{
    if (status == KR_OK || (status == KR_REFUSED && *tries > 0)) /* made by the try before */
        return false;
    if ((status != KR_TOKEN_UNAVAILABLE && status != KR_AUTH) || ++*tries > 100)
        child_fail(err->text, __FILE__, __LINE__);
    usleep(50000);
    return true;
}

static int make_keys(void *argument)
{
    static const unsigned each = 4;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    uint32_t version, base = 100 * ((uint32_t)getpid() % 100000);
    int tries = 0;
    (void)argument;
    if (keyring_fixture_try_open(&f, &keyring, &err) != KR_OK)
        child_fail(err.text, __FILE__, __LINE__);
    for (uint32_t i = 1; i <= each; i++)
        while (again(
            kr_keyring_create_key(keyring, base + i, KR_CIPHER_AES_CBC, NULL, 0, &version, &err),
            &tries, &err))
            ;
    kr_keyring_close(keyring);
    return 0;
}

/* What the token remembers against what the file is. */
static void many_writers_leave_the_highest_generation(void **state)
{
    enum { WRITERS = 4 };
    int codes[WRITERS];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    (void)state;
    check_together(WRITERS, make_keys, NULL, codes);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(codes[i], 0);
    assert_ok(kr_keyring_connect(f.config, "test", &keyring, &err));
    assert_ok(kr_anchors_read(&keyring->anchors, &err));
    assert_ok(kr_keystore_verify(keyring->keystore, &err));
    if (KR_GUARDED)
        assert_int_equal(keyring->anchors.at[0].generation.number,
                         kr_keystore_generation(keyring->keystore).number);
    kr_keyring_close(keyring);
}

/* --- master keys that were exchanged ---------------------------------------------------------- */

static int two_up(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    keyring_fixture_up_two(&f, P11K_MOCK);
    return 0;
}

/* In the place of a token's master key another one, made by a user of the token. */
static void exchange_master(const char *name, const char *label, const char *id_in_hex)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    struct kr_pin_source *pin;
    struct kr_token *token;
    struct fixture where = f.token;
    struct kr_object_id id = {0};
    char arguments[512], hex[2 * KR_OBJECT_ID_MAX + 1];
    for (size_t i = 0; i < keyring->master_count; i++)
        if (strcmp(keyring->master_rows[i].token, name) == 0)
            id = keyring->master_rows[i].id;
    kr_keyring_close(keyring);
    kr_hex_encode(id.bytes, id.len, hex);
    assert_ok(kr_keyring_open_token(f.config, name, NULL, &token, &pin, &err));
    assert_ok(kr_master_destroy(token, &id, &err));
    kr_token_close(token);
    kr_pin_source_free(pin);
    if (strcmp(name, "test") != 0)
        snprintf(where.label, sizeof(where.label), "%s", name);
    snprintf(arguments, sizeof(arguments),
             "--keygen --key-type AES:32 --sensitive --private --usage-decrypt --label %s --id %s",
             label, id_in_hex ? id_in_hex : hex);
    assert_int_equal(check_pkcs11_tool(&where, arguments), 0);
}

/* The only one: nothing opens any more; what it says differs. */
static void an_exchanged_master_key_is_told(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    (void)state;
    create(1);
    exchange_master("test", "another", NULL);
    assert_int_equal(kr_keyring_open(f.config, &keyring, &err), KR_INTEGRITY);
}

static void another_key_of_the_master_keys_label_is_told(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    enum kr_status status;
    (void)state;
    create(1);
    exchange_master("test", "p11keyring:test:1", "0a0b0c");
    status = kr_keyring_open(f.config, &keyring, &err);
    if (!KR_GUARDED) {
        assert_int_equal(status, KR_NOT_FOUND);
        return;
    }
    assert_int_equal(status, KR_INTEGRITY);
    assert_error(&err, KR_INTEGRITY, "has another key of that label", "put the token's own");
}

/* The other token opens everything: unless somebody looks, the exchanged key wraps what is new. */
static void an_exchanged_master_key_of_one_token_wraps_nothing(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_stats stats;
    struct kr_keyring *keyring;
    uint32_t version;
    (void)state;
    create(1);
    exchange_master("second", "another", NULL);
    keyring = keyring_fixture_open(&f);
    assert_ok(kr_keyring_create_key(keyring, 2, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
    kr_token_get_stats(keyring->tokens.at[1], &stats);
    kr_keyring_close(keyring);
    assert_int_equal(stats.wraps, KR_GUARDED ? 0 : 1);
    mock_rules("token first\ntoken-gone\n");
    assert_int_not_equal(kr_keyring_open(f.config, &keyring, &err), KR_OK);
    mock_rules("%s", "");
}

/* While a server runs: found when it comes back. */
static void a_master_key_exchanged_at_run_time_wraps_nothing(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_stats before, after;
    struct kr_token_info info;
    struct kr_keyring *keyring;
    uint32_t version;
    (void)state;
    keyring = keyring_fixture_open(&f);
    mock_rules("token second\ntoken-gone\n");
    assert_int_not_equal(kr_token_get_info(keyring->tokens.at[1], &info, &err), KR_OK);
    mock_rules("%s", "");
    exchange_master("second", "another", NULL);
    kr_token_get_stats(keyring->tokens.at[1], &before);
    assert_ok(kr_token_get_info(keyring->tokens.at[1], &info, &err));
    assert_ok(kr_keyring_create_key(keyring, 2, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
    kr_token_get_stats(keyring->tokens.at[1], &after);
    kr_keyring_close(keyring);
    assert_int_equal(after.wraps - before.wraps, KR_GUARDED ? 0 : 1);
}

static enum kr_status consent(const struct kr_acceptance *found, void *context,
                              struct kr_error *err)
{
    *(unsigned *)context += 1;
    assert_true(found->needed && found->tokens[0].state == KR_ANCHOR_SET);
    assert_true(found->tokens[0].generation > found->generation);
    if (*(unsigned *)context == 1)
        return kr_fail(err, KR_REFUSED, "not yet");
    return KR_OK;
}

static void accepting_an_older_file_refuses_the_newer_one(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_acceptance found;
    unsigned asked = 0;
    (void)state;
    if (!KR_GUARDED)
        return;
    create(1);
    save("old");
    create(2);
    create(3);
    save("new");
    put_back("old");
    assert_int_equal(kr_keyring_accept(f.config, consent, &asked, &found, &err), KR_REFUSED);
    refused("is older than token", "keyring accept");
    assert_ok(kr_keyring_accept(f.config, consent, &asked, &found, &err));
    assert_true(found.needed);
    assert_int_equal(latest(1), 1);
    assert_int_equal(latest(3), 0);
    assert_ok(kr_keyring_accept(f.config, consent, &asked, &found, &err));
    assert_false(found.needed);
    assert_int_equal(asked, 2); /* nothing to ask the third time */
    put_back("new");
    refused("is older than token 'test' remembers", "keyring accept");
}

/* The price: token calls at an open and at a change. */
static void few_calls_are_added(void **state)
{
    static const char *const calls[] = {"C_FindObjectsInit", "C_CreateObject", "C_DestroyObject"};
    uint64_t before[3], opened[3];
    (void)state;
    create(1);
    for (int i = 0; i < 3; i++)
        before[i] = mock_calls(calls[i]);
    assert_int_equal(latest(1), 1);
    for (int i = 0; i < 3; i++)
        opened[i] = mock_calls(calls[i]) - before[i];
    create(2);
    print_message("anchor: at open %u searches; with a change %u, %u made, %u destroyed\n",
                  (unsigned)opened[0], (unsigned)(mock_calls(calls[0]) - before[0] - opened[0]),
                  (unsigned)(mock_calls(calls[1]) - before[1]),
                  (unsigned)(mock_calls(calls[2]) - before[2]));
    assert_int_equal(opened[1] + opened[2], 0);
    if (KR_GUARDED) {
        assert_int_equal(mock_calls(calls[1]) - before[1], 1);
        assert_int_equal(mock_calls(calls[2]) - before[2], 1);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)
#define TEST_TWO(name) cmocka_unit_test_setup_teardown(name, two_up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_older_file_is_refused_by_a_fresh_process),
        TEST(deleted_rows_are_seen),
        TEST(another_keystore_of_the_name_is_refused),
        TEST(a_clone_that_is_behind_is_refused),
        TEST(a_copy_of_the_same_generation_is_refused),
        TEST(a_newer_file_raises_what_the_token_remembers),
        TEST(a_token_without_data_objects_still_serves),
        TEST(many_writers_leave_the_highest_generation),
        TEST(an_exchanged_master_key_is_told),
        TEST(another_key_of_the_master_keys_label_is_told),
        TEST_TWO(an_exchanged_master_key_of_one_token_wraps_nothing),
        TEST_TWO(a_master_key_exchanged_at_run_time_wraps_nothing),
        TEST(accepting_an_older_file_refuses_the_newer_one),
        TEST(few_calls_are_added),
    };
    return cmocka_run_group_tests(tests, mock_apart, scratch_down);
}
