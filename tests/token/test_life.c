/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The life of master keys: whatever is done with them, every data key stays, and servers go on. */
#include "life_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static struct keyring_fixture f;

static int up(void **state)
{
    (void)state;
    life_up(&f);
    return 0;
}

static int down(void **state)
{
    (void)state;
    life_down(&f);
    return 0;
}

typedef enum kr_status (*operation)(struct kr_keyring *, const struct kr_life_options *,
                                    struct kr_life_result *, struct kr_error *);

/* As the admin tool does it: a keyring of its own. */
static enum kr_status act(operation run, const char *token, struct kr_life_result *ret,
                          struct kr_error *err)
{
    const struct kr_life_options options = {.token = token};
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    enum kr_status status = run(keyring, &options, ret, err);
    kr_keyring_close(keyring);
    return status;
}

static struct kr_life_result must_act(operation run, const char *token)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_life_result result;
    life_must(act(run, token, &result, &err), &err);
    return result;
}

static enum kr_status retire(const char *label, const char *token, struct kr_retirement *ret,
                             struct kr_error *err)
{
    const struct kr_life_options options = {0};
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    struct kr_master_row master;
    enum kr_status status = kr_keyring_find_master(keyring, label, token, &master, err);
    if (status == KR_OK)
        status = kr_keyring_retire_master(keyring, &master.id, &options, ret, err);
    kr_keyring_close(keyring);
    return status;
}

/* "TOKEN:NUMBER+" for a current master key, "TOKEN:NUMBER" for an old one, by token and number. */
static const char *masters(void)
{
    static char text[256];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore_options options = {
        .path = f.token.keystore, .keyring = "test", .lock_timeout_ms = 3000};
    struct kr_keystore *keystore;
    struct kr_master_row *rows;
    size_t count;
    static const char *const tokens[] = {"one", "two", "three"};
    life_must(kr_keystore_open(&options, &keystore, &err), &err);
    life_must(kr_keystore_list_masters(keystore, &rows, &count, &err), &err);
    text[0] = '\0';
    for (size_t t = 0; t < 3; t++) {
        for (char number = '1'; number <= '9'; number++) {
            for (size_t i = 0; i < count; i++) {
                size_t used = strlen(text);
                if (strcmp(rows[i].token, tokens[t]) == 0 &&
                    rows[i].label[strlen(rows[i].label) - 1] == number)
                    snprintf(text + used, sizeof(text) - used, "%s%s:%c%s", used ? " " : "",
                             tokens[t], number, rows[i].state == KR_MASTER_CURRENT ? "+" : "");
            }
        }
    }
    free(rows);
    kr_keystore_close(keystore);
    return text;
}

static size_t keys_in(const char *token)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *opened;
    struct kr_pin_source *pin;
    struct kr_master_info *found;
    size_t count;
    life_must(kr_keyring_open_token(f.config, token, NULL, &opened, &pin, &err), &err);
    life_must(kr_master_list(opened, &found, &count, &err), &err);
    free(found);
    kr_token_close(opened);
    kr_pin_source_free(pin);
    return count;
}

/* --- rotation --------------------------------------------------------------------------------- */

static void test_rotation_wraps_everything_anew(void **state)
{
    (void)state;
    keyring_fixture_add_versions(&f, 1, 50);
    uint64_t before = life_digest(&f, 1);
    struct kr_life_result result = must_act(kr_keyring_rotate_masters, NULL);
    assert_int_equal(result.made_count, 1);
    assert_int_equal(result.envelopes, 51);
    assert_int_equal(result.rewrapped, 51);
    assert_false(result.resumed);
    assert_string_equal(masters(), "one:1 one:2+");
    assert_int_equal(life_outdated(&f), 0);
    assert_true(life_digest(&f, 1) == before);

    struct kr_error err = KR_ERROR_INIT;
    struct kr_retirement retirement;
    assert_int_equal(retire("p11keyring:test:2", NULL, &retirement, &err), KR_REFUSED);
    life_must(retire("p11keyring:test:1", NULL, &retirement, &err), &err);
    assert_true(retirement.destroyed);
    assert_string_equal(masters(), "one:2+");
    assert_int_equal(keys_in("one"), 1);
    assert_true(life_digest(&f, 1) == before);
}

static bool stop_soon(uint64_t done, uint64_t total, void *context)
{
    (void)total;
    *(uint64_t *)context = done;
    return done == 0;
}

static void test_interrupted_rotation_is_completed_first(void **state)
{
    (void)state;
    keyring_fixture_add_versions(&f, 1, 100);
    uint64_t before = life_digest(&f, 1), seen = 0;
    life_configure(&f, "one", 1);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    const struct kr_life_options options = {.progress = stop_soon, .context = &seen};
    struct kr_life_result result;
    struct kr_error err = KR_ERROR_INIT;
    mock_rules("delay C_Decrypt 5");
    life_must(kr_keyring_rotate_masters(keyring, &options, &result, &err), &err);
    mock_rules("%s", "");
    kr_keyring_close(keyring);
    assert_true(result.interrupted);
    assert_in_range(result.rewrapped, 1, 99);
    assert_true(life_digest(&f, 1) == before);

    struct kr_retirement retirement;
    assert_int_equal(retire("p11keyring:test:1", NULL, &retirement, &err), KR_REFUSED);
    uint64_t left = 101 - result.rewrapped;
    result = must_act(kr_keyring_rotate_masters, NULL);
    assert_true(result.resumed);
    assert_int_equal(result.made_count, 0);
    assert_int_equal(result.rewrapped, left);
    assert_string_equal(masters(), "one:1 one:2+");
    result = must_act(kr_keyring_rotate_masters, NULL);
    assert_false(result.resumed);
    assert_string_equal(masters(), "one:1 one:2 one:3+");
    assert_true(life_digest(&f, 1) == before);
}

/* A write of an anchor that fails makes the token look as if it were away: for a moment only. */
static void test_a_failed_anchor_leaves_nothing_waiting(void **state)
{
    static const struct {
        const char *rules, *tokens;
    } cases[] = {
        /* The second is that of the new master keys, the first belongs to what is tried before. */
        {"fail C_CreateObject 0x31 2 1", "one"},
        {"fail C_CreateObject 0x30 2 5", "one"},
        {"token two\nfail C_CreateObject 0x31 2 1", "one two"},
    };
    (void)state;
    keyring_fixture_add_versions(&f, 1, 20);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        life_configure(&f, cases[i].tokens, 4);
        if (strchr(cases[i].tokens, ' '))
            must_act(kr_keyring_add_token, "two");
        assert_int_equal(life_outdated(&f), 0); /* and the anchors are as they should be */
        mock_rules("%s", cases[i].rules);
        struct kr_life_result result = must_act(kr_keyring_rotate_masters, NULL);
        assert_true(mock_calls("C_CreateObject") >= 2);
        mock_rules("%s", "");
        assert_int_equal(result.waiting, 0);
        assert_int_equal(life_outdated(&f), 0);
    }
}

static void test_failed_rotation_leaves_nothing(void **state)
{
    (void)state;
    /* The first key of a kind is the one that is tried and destroyed before. */
    static const char *const rules[] = {
        "fail C_GenerateKey 0x31\nfail C_GenerateKeyPair 0x31",
        "fail C_GenerateKey 0x30 2\nfail C_GenerateKeyPair 0x30",
        "fail C_Encrypt 0x70\nfail C_WrapKey 0x70\nfail C_GenerateKeyPair 0x70",
        "write-protected",
        "token two\nfail C_GenerateKey 0x31 2\nfail C_GenerateKeyPair 0x31",
        "token two\ntoken-gone",
    };
    life_configure(&f, "one two", 4);
    must_act(kr_keyring_add_token, "two");
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        struct kr_error err = KR_ERROR_INIT;
        struct kr_life_result result;
        struct kr_keyring *keyring = keyring_fixture_open(&f);
        const struct kr_life_options options = {0};
        mock_rules("%s", rules[i]);
        enum kr_status status = kr_keyring_rotate_masters(keyring, &options, &result, &err);
        mock_rules("%s", "");
        kr_keyring_close(keyring);
        if (status == KR_OK)
            fail_msg("'%s' was no failure", rules[i]);
        assert_true(strlen(err.hint) > 0);
        assert_string_equal(masters(), "one:1+ two:2+");
        assert_int_equal(keys_in("one"), 1);
        assert_int_equal(keys_in("two"), 1);
    }
    must_act(kr_keyring_rotate_masters, NULL);
    assert_string_equal(masters(), "one:1 one:3+ two:2 two:3+");
}

/* --- with servers ----------------------------------------------------------------------------- */

struct server {
    struct kr_keyring *keyring;
    uint32_t first_id, made;
    atomic_bool stop;
};

static void *make_keys(void *arg)
{
    struct server *server = arg;
    while (!server->stop) {
        struct kr_error err = KR_ERROR_INIT;
        uint32_t id = server->first_id + server->made, version;
        if (kr_keyring_create_key(server->keyring, id, KR_CIPHER_AES_CBC, NULL, 0, &version,
                                  &err) != KR_OK) {
            fprintf(stderr, "creating a key: %s\n", err.text);
            return server;
        }
        server->made++;
    }
    return NULL;
}

static void *rotate(void *arg)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_life_result result;
    const struct kr_life_options options = {0};
    enum kr_status status = kr_keyring_sync(arg, &options, &result, &err);
    if (status != KR_OK)
        fprintf(stderr, "sync: %s\n", err.text);
    return status == KR_OK ? NULL : arg;
}

/* Two servers that make keys, one of them with a watcher, and two runs at once. */
static void test_servers_go_on_during_a_rotation(void **state)
{
    (void)state;
    keyring_fixture_add_versions(&f, 1, 200);
    struct kr_error err = KR_ERROR_INIT;
    struct server servers[2];
    pthread_t threads[2], second;
    void *failed;
    for (int i = 0; i < 2; i++) {
        servers[i] = (struct server){.keyring = keyring_fixture_open(&f),
                                     .first_id = 1000 * ((uint32_t)i + 1)};
        assert_int_equal(pthread_create(&threads[i], NULL, make_keys, &servers[i]), 0);
    }
    life_must(kr_keyring_watch(servers[0].keyring, &err), &err);
    struct kr_keyring *other = keyring_fixture_open(&f);
    must_act(kr_keyring_rotate_masters, NULL);
    assert_int_equal(pthread_create(&second, NULL, rotate, other), 0);
    must_act(kr_keyring_rotate_masters, NULL);
    assert_int_equal(pthread_join(second, &failed), 0);
    assert_null(failed);
    kr_keyring_close(other);
    for (int i = 0; i < 2; i++) {
        servers[i].stop = true;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    must_act(kr_keyring_sync, NULL);
    assert_int_equal(life_outdated(&f), 0);
    struct kr_retirement retirement;
    life_must(retire("p11keyring:test:1", NULL, &retirement, &err), &err);
    life_must(retire("p11keyring:test:2", NULL, &retirement, &err), &err);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    assert_int_equal(kr_keyring_latest(keyring, 1), 200);
    for (int i = 0; i < 2; i++) {
        assert_true(servers[i].made > 0);
        for (uint32_t made = 0; made < servers[i].made; made++) {
            const struct kr_data_key *then, *now;
            then = kr_keyring_find(servers[i].keyring, servers[i].first_id + made, 1);
            now = kr_keyring_find(keyring, servers[i].first_id + made, 1);
            assert_non_null(now);
            assert_memory_equal(then->bytes, now->bytes, 32);
        }
        life_create_key(servers[i].keyring, 5000 + (uint32_t)i);
        kr_keyring_close(servers[i].keyring);
    }
    kr_keyring_close(keyring);
}

/* --- several tokens --------------------------------------------------------------------------- */

static void test_a_token_is_added(void **state)
{
    (void)state;
    keyring_fixture_add_versions(&f, 1, 20);
    uint64_t before = life_digest(&f, 1);
    life_configure(&f, "one two", 4);
    struct kr_life_result result = must_act(kr_keyring_add_token, "two");
    assert_int_equal(result.rewrapped, 21);
    assert_string_equal(masters(), "one:1+ two:2+");
    mock_rules("token one\ntoken-gone");
    assert_true(life_digest(&f, 1) == before);
    mock_rules("token two\ntoken-gone");
    assert_true(life_digest(&f, 1) == before);
    mock_rules("%s", "");
    struct kr_error err = KR_ERROR_INIT;
    assert_int_equal(act(kr_keyring_add_token, "two", &result, &err), KR_REFUSED);
    assert_int_equal(act(kr_keyring_add_token, "three", &result, &err), KR_USAGE);
}

/* What was made while a token was away is wrapped for it when it is back, without anybody's doing.
 */
static void test_a_server_brings_a_token_up_to_date(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    life_configure(&f, "one two", 4);
    must_act(kr_keyring_add_token, "two");
    struct kr_keyring *server = keyring_fixture_open(&f);
    mock_rules("token two\ntoken-gone");
    for (uint32_t id = 1; id <= 5; id++)
        life_create_key(server, id);
    assert_int_equal(life_outdated(&f), 5);
    life_must(kr_keyring_watch(server, &err), &err);
    mock_rules("%s", "");
    uint64_t deadline = kr_now_ms() + 60000;
    while (life_outdated(&f) > 0 && kr_now_ms() < deadline)
        usleep(50000);
    assert_int_equal(life_outdated(&f), 0);
    kr_keyring_close(server);
    uint64_t before = life_digest(&f, 5);
    mock_rules("token one\ntoken-gone");
    assert_true(life_digest(&f, 5) == before);
    mock_rules("%s", "");
}

static void test_rotation_wants_every_token_or_one_by_name(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_life_result result;
    life_configure(&f, "one two", 4);
    must_act(kr_keyring_add_token, "two");
    mock_rules("token two\ntoken-gone");
    assert_int_equal(act(kr_keyring_rotate_masters, NULL, &result, &err), KR_TOKEN_UNAVAILABLE);
    assert_non_null(strstr(err.hint, "--token NAME"));
    assert_string_equal(masters(), "one:1+ two:2+");
    result = must_act(kr_keyring_rotate_masters, "one");
    assert_int_equal(result.waiting, 0);
    assert_string_equal(masters(), "one:1 one:3+ two:2+");
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    life_create_key(keyring, 7);
    kr_keyring_close(keyring);
    result = must_act(kr_keyring_rotate_masters, "one");
    assert_int_equal(result.waiting, 1);
    mock_rules("%s", "");
    /* It still names the old one: the run is completed first. */
    result = must_act(kr_keyring_rotate_masters, NULL);
    assert_true(result.resumed);
    assert_int_equal(life_outdated(&f), 0);
}

static void test_a_keyring_moves(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_retirement retirement;
    keyring_fixture_add_versions(&f, 1, 20);
    uint64_t before = life_digest(&f, 1);
    life_configure(&f, "one two three", 4);
    must_act(kr_keyring_add_token, "two");
    struct kr_life_result result = must_act(kr_keyring_move, "three");
    assert_int_equal(result.rewrapped, 21);
    assert_string_equal(masters(), "one:1 two:2 three:3+");
    result = must_act(kr_keyring_move, "three");
    assert_true(result.resumed);
    assert_int_equal(result.rewrapped, 0);
    life_must(retire("p11keyring:test:2", NULL, &retirement, &err), &err);
    life_configure(&f, "three", 4);
    assert_true(life_digest(&f, 1) == before);
    life_must(retire("p11keyring:test:1", NULL, &retirement, &err), &err);
    assert_false(retirement.destroyed);
    assert_string_equal(masters(), "three:3+");
    /* Back to one that is current beside another: no new key. */
    life_configure(&f, "three two", 4);
    must_act(kr_keyring_add_token, "two");
    result = must_act(kr_keyring_move, "two");
    assert_int_equal(result.made_count, 0);
    assert_string_equal(masters(), "two:4+ three:3");
    assert_true(life_digest(&f, 1) == before);
}

static void test_a_dead_token_is_given_up(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_retirement retirement;
    keyring_fixture_add_versions(&f, 1, 20);
    uint64_t before = life_digest(&f, 1);
    life_configure(&f, "one two", 4);
    must_act(kr_keyring_add_token, "two");
    assert_int_equal(retire("p11keyring:test:2", NULL, &retirement, &err), KR_REFUSED);
    mock_rules("token two\ntoken-gone");
    life_configure(&f, "one", 4);
    assert_true(life_digest(&f, 1) == before);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    life_create_key(keyring, 7);
    kr_keyring_close(keyring);
    assert_int_equal(life_outdated(&f), 1);
    life_must(retire("p11keyring:test:2", NULL, &retirement, &err), &err);
    assert_false(retirement.destroyed);
    assert_int_equal(retirement.rewrapped, 21); /* one never had it */
    assert_string_equal(masters(), "one:1+");
    assert_int_equal(life_outdated(&f), 0);
    assert_true(life_digest(&f, 1) == before);
    assert_int_equal(retire("p11keyring:test:1", NULL, &retirement, &err), KR_REFUSED);
    mock_rules("%s", "");
}

/* A kill between the token's part and the keystore's leaves an old row without a key. */
static void test_retirement_is_completed(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_retirement retirement;
    keyring_fixture_add_versions(&f, 1, 3);
    must_act(kr_keyring_rotate_masters, NULL);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    struct kr_master_row row;
    life_must(kr_keyring_find_master(keyring, "p11keyring:test:1", NULL, &row, &err), &err);
    kr_keyring_close(keyring);
    struct kr_pin_source *pin;
    struct kr_token *token = fixture_token(&f.token, NULL, &pin);
    life_must(kr_master_destroy(token, &row.id, &err), &err);
    kr_token_close(token);
    kr_pin_source_free(pin);
    keyring = keyring_fixture_open(&f);
    life_create_key(keyring, 7);
    kr_keyring_close(keyring);
    life_must(retire("p11keyring:test:1", NULL, &retirement, &err), &err);
    assert_string_equal(masters(), "one:2+");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rotation_wraps_everything_anew, up, down),
        cmocka_unit_test_setup_teardown(test_interrupted_rotation_is_completed_first, up, down),
        cmocka_unit_test_setup_teardown(test_a_failed_anchor_leaves_nothing_waiting, up, down),
        cmocka_unit_test_setup_teardown(test_failed_rotation_leaves_nothing, up, down),
        cmocka_unit_test_setup_teardown(test_servers_go_on_during_a_rotation, up, down),
        cmocka_unit_test_setup_teardown(test_a_token_is_added, up, down),
        cmocka_unit_test_setup_teardown(test_a_server_brings_a_token_up_to_date, up, down),
        cmocka_unit_test_setup_teardown(test_rotation_wants_every_token_or_one_by_name, up, down),
        cmocka_unit_test_setup_teardown(test_a_keyring_moves, up, down),
        cmocka_unit_test_setup_teardown(test_a_dead_token_is_given_up, up, down),
        cmocka_unit_test_setup_teardown(test_retirement_is_completed, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
