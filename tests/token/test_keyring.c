/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keyring core on a real token: what is made is found again, by every process that shares it.
 */
#include "keyring_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "hwaccel/page_key.h"

static int up(void **state)
{
    static struct keyring_fixture f;
    memset(&f, 0, sizeof(f));
    keyring_fixture_up(&f);
    *state = &f;
    return 0;
}

static int down(void **state)
{
    keyring_fixture_down(*state);
    return 0;
}

static uint32_t create(struct kr_keyring *keyring, uint32_t id)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    must(kr_keyring_create_key(keyring, id, KR_CIPHER_AES_CBC, NULL, 0, &version, &err), &err);
    return version;
}

static uint32_t rotate(struct kr_keyring *keyring, uint32_t id, enum kr_cipher cipher)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    must(kr_keyring_rotate_key(keyring, id, cipher, &version, &err), &err);
    return version;
}

static void test_versions_survive_reopening(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    assert_int_equal(create(keyring, 1), 1);
    assert_int_equal(rotate(keyring, 1, KR_CIPHER_AES_CTR), 3);
    struct kr_data_key first = *kr_keyring_find(keyring, 1, 1);
    struct kr_data_key second = *kr_keyring_find(keyring, 1, 3);
    kr_keyring_close(keyring);

    keyring = keyring_fixture_open(f);
    assert_int_equal(kr_keyring_latest(keyring, 1), 3);
    assert_memory_equal(kr_keyring_find(keyring, 1, 1), &first, sizeof(first));
    assert_memory_equal(kr_keyring_find(keyring, 1, 3), &second, sizeof(second));
    assert_int_equal(first.cipher, KR_CIPHER_AES_CBC);
    assert_int_equal(second.cipher, KR_CIPHER_AES_CTR);
    assert_memory_not_equal(first.bytes, second.bytes, 32);
    assert_null(kr_keyring_find(keyring, 1, 2));
    kr_keyring_close(keyring);
}

static void test_what_exists_is_not_made_again(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    create(keyring, 5);
    uint32_t version = 0;
    assert_int_equal(kr_keyring_create_key(keyring, 5, KR_CIPHER_AES_CBC, NULL, 0, &version, &err),
                     KR_REFUSED);
    assert_non_null(strstr(err.hint, "key rotate 5"));
    must(kr_keyring_ensure_key(keyring, 5, KR_CIPHER_AES_CTR, &version, &err), &err);
    assert_int_equal(version, 1);
    assert_int_equal(kr_keyring_rotate_key(keyring, 6, KR_CIPHER_AES_CBC, &version, &err),
                     KR_NOT_FOUND);
    assert_int_equal(kr_keyring_create_key(keyring, 0, KR_CIPHER_AES_CBC, NULL, 0, &version, &err),
                     KR_USAGE);
    kr_keyring_close(keyring);
    struct kr_master_row masters[KR_TOKENS_MAX];
    size_t count;
    unsigned others;
    assert_int_equal(kr_keyring_create(f->config, NULL, false, masters, &count, &others, &err),
                     KR_REFUSED);
}

static void test_import_keeps_the_bytes(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    uint8_t bytes[32];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    uint32_t version;
    for (uint32_t len = 16; len <= 32; len += 8)
        must(kr_keyring_create_key(keyring, len, KR_CIPHER_AES_CBC, bytes, len, &version, &err),
             &err);
    assert_int_equal(
        kr_keyring_create_key(keyring, 40, KR_CIPHER_AES_CBC, bytes, 20, &version, &err), KR_USAGE);
    kr_keyring_close(keyring);
    keyring = keyring_fixture_open(f);
    for (uint32_t len = 16; len <= 32; len += 8) {
        const struct kr_data_key *key = kr_keyring_find(keyring, len, 1);
        assert_non_null(key);
        assert_int_equal(key->len, len);
        assert_memory_equal(key->bytes, bytes, len);
    }
    kr_keyring_close(keyring);
}

/* As an older p11keyring meets a keystore with a cipher that it does not know: it opens nothing,
 * and one that is open goes on with what it has. */
static void test_unknown_cipher_is_refused(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f), *other = NULL;
    create(keyring, 1);
    struct kr_data_key known = *kr_keyring_find(keyring, 1, 1);
    keyring_fixture_add_version_of(f, 1, "aes512-cbc", 32);
    assert_int_equal(kr_keyring_refresh(keyring, &err), KR_INTEGRITY);
    assert_non_null(strstr(err.text, "cipher 'aes512-cbc'"));
    assert_non_null(strstr(err.hint, "newer p11keyring"));
    assert_int_equal(kr_keyring_latest(keyring, 1), 1);
    assert_memory_equal(kr_keyring_find(keyring, 1, 1), &known, sizeof(known));
    assert_int_equal(kr_keyring_open(f->config, &other, &err), KR_INTEGRITY);
    assert_non_null(strstr(err.text, "cipher 'aes512-cbc'"));
    kr_keyring_close(keyring);
}

static void test_aes256_wants_32_bytes(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f), *other = NULL;
    static const uint8_t bytes[32] = {1};
    uint32_t version;
    assert_int_equal(
        kr_keyring_create_key(keyring, 1, KR_CIPHER_AES256_CBC, bytes, 24, &version, &err),
        KR_USAGE);
    assert_non_null(strstr(err.text, "a key for aes256-cbc has 32 bytes, not 24"));
    assert_non_null(strstr(err.hint, "key rotate"));
    must(kr_keyring_create_key(keyring, 1, KR_CIPHER_AES256_CBC, bytes, 32, &version, &err), &err);
    must(kr_keyring_create_key(keyring, 2, KR_CIPHER_AES_CBC, bytes, 16, &version, &err), &err);
    assert_int_equal(rotate(keyring, 2, KR_CIPHER_AES256_CTR), 3);
    assert_int_equal(kr_keyring_find(keyring, 2, 3)->len, 32);
    kr_keyring_close(keyring);
    keyring_fixture_add_version_of(f, 3, "aes256-ctr", 16); /* nothing of ours writes it */
    assert_int_equal(kr_keyring_open(f->config, &other, &err), KR_INTEGRITY);
    assert_non_null(strstr(err.text, "has 16 bytes for cipher aes256-ctr"));
}

static void test_closing_wipes_page_keys(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    uint8_t given[16] = {1}, derived[KR_PAGE_KEY_BYTES];
    uint32_t version;
    must(kr_keyring_create_key(keyring, 1, KR_CIPHER_AES256_CBC, NULL, 0, &version, &err), &err);
    const struct kr_page_key key = {given, sizeof(given), kr_keyring_find(keyring, 1, 1)->bytes, 1,
                                    1};
    struct kr_page_key_stats stats;
    assert_int_equal(kr_page_key_derive(&key, derived), KR_OK);
    kr_page_keys_get_stats(&stats);
    assert_int_equal(stats.kept, 1);
    kr_keyring_close(keyring);
    kr_page_keys_get_stats(&stats);
    assert_int_equal(stats.kept, 0);
}

static void test_disabled_key_gets_no_new_version(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    create(keyring, 1);
    must(kr_keyring_set_disabled(keyring, 1, true, &err), &err);
    uint32_t version = 77;
    assert_int_equal(kr_keyring_rotate_key(keyring, 1, KR_CIPHER_AES_CBC, &version, &err),
                     KR_REFUSED);
    assert_int_equal(version, 77);
    /* Neither this process nor a later one sees a change. */
    assert_int_equal(kr_keyring_latest(keyring, 1), 1);
    kr_keyring_close(keyring);
    keyring = keyring_fixture_open(f);
    assert_int_equal(kr_keyring_latest(keyring, 1), 1);
    must(kr_keyring_set_disabled(keyring, 1, false, &err), &err);
    assert_int_equal(rotate(keyring, 1, KR_CIPHER_AES_CBC), 3);
    kr_keyring_close(keyring);
}

static void test_watcher_follows_another_keyring(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *server = keyring_fixture_open(f), *admin = keyring_fixture_open(f);
    must(kr_keyring_watch(server, &err), &err);
    assert_int_equal(kr_keyring_latest(server, 1), 0);
    create(admin, 1);
    rotate(admin, 1, KR_CIPHER_AES_CTR);
    uint64_t deadline = kr_now_ms() + 2000;
    while (kr_keyring_latest(server, 1) != 3 && kr_now_ms() < deadline)
        usleep(10000);
    assert_int_equal(kr_keyring_latest(server, 1), 3);
    assert_memory_equal(kr_keyring_find(server, 1, 3)->bytes, kr_keyring_find(admin, 1, 3)->bytes,
                        32);
    kr_keyring_close(admin);
    kr_keyring_close(server);
}

static void move_tokens(struct keyring_fixture *f, bool away)
{
    char here[320], there[320];
    snprintf(here, sizeof(here), "%s/tokens", f->token.dir);
    snprintf(there, sizeof(there), "%s/tokens.away", f->token.dir);
    assert_int_equal(away ? rename(here, there) : rename(there, here), 0);
}

static void test_served_keys_outlive_the_token(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    create(keyring, 1);
    move_tokens(f, true);
    uint32_t version;
    assert_int_equal(kr_keyring_rotate_key(keyring, 1, KR_CIPHER_AES_CBC, &version, &err),
                     KR_TOKEN_UNAVAILABLE);
    assert_int_equal(kr_keyring_latest(keyring, 1), 1);
    assert_non_null(kr_keyring_find(keyring, 1, 1));
    struct kr_keyring *other = NULL;
    assert_int_not_equal(kr_keyring_open(f->config, &other, &err), KR_OK);
    assert_null(other);
    move_tokens(f, false);
    assert_int_equal(rotate(keyring, 1, KR_CIPHER_AES_CBC), 3);
    kr_keyring_close(keyring);
}

static void test_served_keys_outlive_the_keystore(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    create(keyring, 1);
    assert_int_equal(truncate(f->token.keystore, 2000), 0);
    assert_int_not_equal(kr_keyring_refresh(keyring, &err), KR_OK);
    assert_int_equal(kr_keyring_latest(keyring, 1), 1);
    uint32_t version;
    assert_int_equal(kr_keyring_rotate_key(keyring, 1, KR_CIPHER_AES_CBC, &version, &err),
                     KR_INTEGRITY);
    kr_keyring_close(keyring);
    assert_int_equal(kr_keyring_open(f->config, &keyring, &err), KR_INTEGRITY);
    assert_int_equal(unlink(f->token.keystore), 0);
    assert_int_equal(kr_keyring_open(f->config, &keyring, &err), KR_NOT_FOUND);
    assert_int_not_equal(access(f->token.keystore, F_OK), 0);
}

enum { CHILDREN = 6, ROTATIONS = 5 };

/* In a child: ensure key 2, then rotate key 3 a few times. */
static int change_keys(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    uint32_t version;
    if (keyring_fixture_try_open(f, &keyring, &err) != KR_OK ||
        kr_keyring_ensure_key(keyring, 2, KR_CIPHER_AES_CBC, &version, &err) != KR_OK)
        goto failed;
    for (int i = 0; i < ROTATIONS; i++)
        if (kr_keyring_rotate_key(keyring, 3, KR_CIPHER_AES_CBC, &version, &err) != KR_OK)
            goto failed;
    kr_keyring_close(keyring);
    return 0;
failed:
    fprintf(stderr, "child: %s\n", err.text);
    return 1;
}

static void test_no_update_is_lost(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    create(keyring, 3);
    kr_keyring_close(keyring);
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(change_keys(f));
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    keyring = keyring_fixture_open(f);
    assert_int_equal(kr_keyring_latest(keyring, 2), 1);
    assert_int_equal(kr_keyring_latest(keyring, 3), 1 + 2 * CHILDREN * ROTATIONS);
    struct kr_keyring_stats stats;
    kr_keyring_get_stats(keyring, &stats);
    assert_int_equal(stats.versions, 1 + 1 + CHILDREN * ROTATIONS);
    kr_keyring_close(keyring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions_survive_reopening, up, down),
        cmocka_unit_test_setup_teardown(test_what_exists_is_not_made_again, up, down),
        cmocka_unit_test_setup_teardown(test_import_keeps_the_bytes, up, down),
        cmocka_unit_test_setup_teardown(test_unknown_cipher_is_refused, up, down),
        cmocka_unit_test_setup_teardown(test_aes256_wants_32_bytes, up, down),
        cmocka_unit_test_setup_teardown(test_closing_wipes_page_keys, up, down),
        cmocka_unit_test_setup_teardown(test_disabled_key_gets_no_new_version, up, down),
        cmocka_unit_test_setup_teardown(test_watcher_follows_another_keyring, up, down),
        cmocka_unit_test_setup_teardown(test_served_keys_outlive_the_token, up, down),
        cmocka_unit_test_setup_teardown(test_served_keys_outlive_the_keystore, up, down),
        cmocka_unit_test_setup_teardown(test_no_update_is_lost, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
