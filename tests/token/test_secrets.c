/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's secrets: sealed ones, and keys that stay in the token. */
#include "keyring_fixture.h"

#include "check.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider/secrets.h"

#define INNODB_KEY "INNODBKey-00000000-0000-0000-0000-000000000000-1"

struct opened {
    struct kr_keyring *keyring;
    struct kr_secrets *secrets;
};

/* --- a gate that does what the test says ------------------------------------------------------ */

struct gate {
    enum kr_status before, after; /* for handle NULL / a handle */
    unsigned asked;
};

static enum kr_status answer(void *context, struct kr_secrets *secrets, enum kr_secret_form form,
                             const uint8_t *handle, struct kr_error *err)
{
    struct gate *gate = context;
    (void)secrets;
    assert_int_not_equal(form, KR_SECRET_WRAPPED);
    gate->asked++;
    enum kr_status status = handle ? gate->after : gate->before;
    return status == KR_OK ? KR_OK : kr_fail(err, status, "the gate is closed");
}

static struct gate open_gate;

static int up(void **state)
{
    static struct keyring_fixture f;
    f = (struct keyring_fixture){0};
    keyring_fixture_up(&f);
    open_gate = (struct gate){0};
    *state = &f;
    return 0;
}

static int down(void **state)
{
    keyring_fixture_down(*state);
    return 0;
}

static struct opened open_secrets(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct opened opened = {.keyring = keyring_fixture_open(f)};
    must(kr_secrets_open(opened.keyring, &opened.secrets, &err), &err);
    kr_secrets_set_gate(opened.secrets, answer, &open_gate);
    return opened;
}

static void close_secrets(struct opened *opened)
{
    kr_secrets_close(opened->secrets);
    kr_keyring_close(opened->keyring);
}

static void store(struct opened *opened, const char *id, const char *owner, const void *bytes,
                  size_t len)
{
    struct kr_error err = KR_ERROR_INIT;
    must(kr_secrets_store(opened->secrets, id, owner, "SECRET", bytes, len, &err), &err);
}

static void generate(struct opened *opened, const char *id, enum kr_secret_form form)
{
    struct kr_error err = KR_ERROR_INIT;
    must(kr_secrets_generate(opened->secrets, id, "", "AES", form, 32, &err), &err);
}

static enum kr_status fetch(struct opened *opened, const char *id, const char *owner,
                            struct kr_secret *ret)
{
    struct kr_error err = KR_ERROR_INIT;
    return kr_secrets_fetch(opened->secrets, id, owner, ret, &err);
}

static void assert_secret(struct opened *opened, const char *id, const char *owner,
                          const void *bytes, size_t len)
{
    struct kr_secret secret;
    assert_int_equal(fetch(opened, id, owner, &secret), KR_OK);
    assert_int_equal(secret.form, KR_SECRET_WRAPPED);
    assert_int_equal(secret.len, len);
    assert_memory_equal(secret.bytes, bytes, len);
    kr_secret_free(secret.bytes);
}

static void get_handle(struct opened *opened, const char *id, uint8_t ret[KR_HANDLE_BYTES])
{
    struct kr_secret secret;
    assert_int_equal(fetch(opened, id, "", &secret), KR_OK);
    assert_int_equal(secret.len, KR_HANDLE_BYTES);
    memcpy(ret, secret.bytes, KR_HANDLE_BYTES);
    kr_secret_free(secret.bytes);
}

/* --- sealed secrets --------------------------------------------------------------------------- */

static void test_secrets_survive_reopening(void **state)
{
    struct opened opened = open_secrets(*state);
    static uint8_t large[KR_SECRET_BYTES_MAX];
    for (size_t i = 0; i < sizeof(large); i++)
        large[i] = (uint8_t)(i * 31);
    store(&opened, "number", "", "\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    store(&opened, "large", "a@b", large, sizeof(large));
    generate(&opened, "random", KR_SECRET_WRAPPED);
    struct kr_secret first;
    assert_int_equal(fetch(&opened, "random", "", &first), KR_OK);
    assert_int_equal(first.len, 32);
    assert_string_equal(first.type, "AES");
    for (int i = 0; i < 2; i++) {
        assert_secret(&opened, "number", "", "\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
        assert_secret(&opened, "large", "a@b", large, sizeof(large));
        assert_secret(&opened, "random", "", first.bytes, 32);
        close_secrets(&opened);
        opened = open_secrets(*state);
    }
    kr_secret_free(first.bytes);
    struct kr_secret none;
    assert_int_equal(fetch(&opened, "number", "a@b", &none), KR_NOT_FOUND);
    assert_int_equal(open_gate.asked, 0);
    close_secrets(&opened);
}

static void test_names_are_taken_once(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    store(&opened, "x", "", "first", 5);
    assert_int_equal(
        kr_secrets_store(opened.secrets, "x", "", "SECRET", (uint8_t *)"other", 5, &err),
        KR_REFUSED);
    assert_int_equal(
        kr_secrets_generate(opened.secrets, "x", "", "AES", KR_SECRET_WRAPPED, 32, &err),
        KR_REFUSED);
    store(&opened, "x", "u@h", "second", 6);
    assert_secret(&opened, "x", "", "first", 5);
    assert_secret(&opened, "x", "u@h", "second", 6);
    must(kr_secrets_remove(opened.secrets, "x", "", &err), &err);
    assert_int_equal(kr_secrets_remove(opened.secrets, "x", "", &err), KR_NOT_FOUND);
    struct kr_secret none;
    assert_int_equal(fetch(&opened, "x", "", &none), KR_NOT_FOUND);
    assert_secret(&opened, "x", "u@h", "second", 6);
    store(&opened, "x", "", "third", 5);
    close_secrets(&opened);
    opened = open_secrets(*state);
    assert_secret(&opened, "x", "", "third", 5);
    close_secrets(&opened);
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    static const uint8_t bytes[KR_SECRET_BYTES_MAX + 1] = {1};
    static char type[KR_SECRET_TYPE_MAX + 2], name[KR_SECRET_ID_MAX + 2];
    memset(type, 'T', sizeof(type) - 1);
    memset(name, 'n', sizeof(name) - 1);
    struct kr_secrets *s = opened.secrets;
    assert_int_equal(kr_secrets_store(s, "", "", "AES", bytes, 32, &err), KR_USAGE);
    assert_int_equal(kr_secrets_store(s, name, "", "AES", bytes, 32, &err), KR_USAGE);
    assert_int_equal(kr_secrets_store(s, "x", "", type, bytes, 32, &err), KR_USAGE);
    assert_int_equal(kr_secrets_store(s, "x", "", "AES", bytes, 0, &err), KR_USAGE);
    assert_int_equal(kr_secrets_store(s, "x", "", "AES", bytes, sizeof(bytes), &err), KR_USAGE);
    assert_int_equal(kr_secrets_generate(s, "x", "", "AES", KR_SECRET_WRAPPED, 0, &err), KR_USAGE);
    assert_int_equal(kr_secrets_generate(s, "x", "", "AES", KR_SECRET_TOKEN_ECB, 16, &err),
                     KR_USAGE);
    struct kr_secret_counts counts;
    kr_secrets_count(s, &counts);
    assert_int_equal(counts.wrapped + counts.resident, 0);
    close_secrets(&opened);
}

static void test_another_process_is_followed(void **state)
{
    struct opened one = open_secrets(*state), other = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    store(&one, "new", "", "bytes", 5);
    assert_secret(&other, "new", "", "bytes", 5);
    assert_int_equal(kr_secrets_store(other.secrets, "new", "", "AES", (uint8_t *)"b", 1, &err),
                     KR_REFUSED);
    must(kr_secrets_remove(other.secrets, "new", "", &err), &err);
    struct kr_secret_name *names;
    size_t count;
    store(&one, "b", "", "1", 1);
    store(&one, "a", "u", "1", 1);
    must(kr_secrets_names(other.secrets, &names, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_string_equal(names[0].id, "a");
    assert_string_equal(names[0].owner, "u");
    assert_string_equal(names[1].id, "b");
    kr_secret_names_free(names, count);
    close_secrets(&one);
    close_secrets(&other);
}

/* --- keys in the token ------------------------------------------------------------------------ */

static uint64_t operations(struct opened *opened)
{
    struct kr_keyring_stats stats;
    kr_keyring_get_stats(opened->keyring, &stats);
    return stats.token.resident_operations;
}

static void test_keys_work_in_the_token_only(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    uint8_t ecb[KR_HANDLE_BYTES], cbc[KR_HANDLE_BYTES], iv[16] = {7}, in[64] = {1, 2, 3}, out[64],
                                                        back[64];
    generate(&opened, INNODB_KEY, KR_SECRET_TOKEN_ECB);
    generate(&opened, "cbc", KR_SECRET_TOKEN_CBC);
    get_handle(&opened, INNODB_KEY, ecb);
    get_handle(&opened, "cbc", cbc);
    assert_memory_equal(ecb, KR_HANDLE_MAGIC, KR_HANDLE_MAGIC_BYTES);
    assert_memory_not_equal(ecb, cbc, KR_HANDLE_BYTES);
    struct kr_secrets *s = opened.secrets;
    uint64_t before = operations(&opened);
    must(kr_secrets_crypt(s, ecb, KR_HANDLE_ECB_ENCRYPT, NULL, in, 64, out, &err), &err);
    must(kr_secrets_crypt(s, ecb, KR_HANDLE_ECB_DECRYPT, NULL, out, 64, back, &err), &err);
    assert_memory_equal(in, back, 64);
    assert_memory_not_equal(in, out, 64);
    must(kr_secrets_crypt(s, cbc, KR_HANDLE_CBC_ENCRYPT, iv, in, 32, out, &err), &err);
    must(kr_secrets_crypt(s, cbc, KR_HANDLE_CBC_DECRYPT, iv, out, 32, back, &err), &err);
    assert_memory_equal(in, back, 32);
    assert_int_equal(operations(&opened) - before, 4);
    assert_int_equal(kr_secrets_crypt(s, cbc, KR_HANDLE_ECB_ENCRYPT, NULL, in, 64, out, &err),
                     KR_USAGE);
    assert_int_equal(kr_secrets_crypt(s, ecb, KR_HANDLE_CBC_DECRYPT, iv, in, 32, out, &err),
                     KR_USAGE);
    ecb[31] ^= 1;
    assert_int_equal(kr_secrets_crypt(s, ecb, KR_HANDLE_ECB_DECRYPT, NULL, in, 64, out, &err),
                     KR_USAGE);
    assert_int_equal(operations(&opened) - before, 4);
    close_secrets(&opened);
}

/* InnoDB's next page of a table may be on disk while the first one waits for an encryption. */
static void test_a_header_does_not_wait_for_the_token(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    uint8_t handle[KR_HANDLE_BYTES], block[64] = {1};
    must(kr_config_override(f->config, "token", "module", P11K_MOCK, &err), &err);
    struct opened opened = open_secrets(f);
    generate(&opened, INNODB_KEY, KR_SECRET_TOKEN_ECB);
    get_handle(&opened, INNODB_KEY, handle);
    mock_rules("token-gone\n");
    uint64_t start = kr_now_ms();
    assert_int_equal(kr_secrets_crypt(opened.secrets, handle, KR_HANDLE_ECB_ENCRYPT, NULL, block,
                                      64, block, &err),
                     KR_TOKEN_UNAVAILABLE);
    uint64_t header_ms = kr_now_ms() - start;
    assert_int_equal(kr_secrets_crypt(opened.secrets, handle, KR_HANDLE_ECB_DECRYPT, NULL, block,
                                      64, block, &err),
                     KR_TOKEN_UNAVAILABLE);
    assert_true(kr_now_ms() - start >= 3000 + header_ms / 2);
    assert_true(header_ms < 2000); /* of a timeout of 3 s */
    mock_rules("%s", "");
    close_secrets(&opened);
}

static void test_handles_are_new_in_each_opening_unless_kept(void **state)
{
    struct opened opened = open_secrets(*state), again;
    uint8_t first[KR_HANDLE_BYTES], second[KR_HANDLE_BYTES];
    generate(&opened, INNODB_KEY, KR_SECRET_TOKEN_ECB);
    get_handle(&opened, INNODB_KEY, first);
    again = open_secrets(*state);
    get_handle(&again, INNODB_KEY, second);
    assert_memory_not_equal(first, second, KR_HANDLE_BYTES);
    kr_secrets_keep_handles(again.secrets, opened.secrets);
    get_handle(&again, INNODB_KEY, second);
    assert_memory_equal(first, second, KR_HANDLE_BYTES);
    close_secrets(&opened);
    /* The token is used on after the older connection has left it. */
    struct kr_error err = KR_ERROR_INIT;
    uint8_t block[64] = {0};
    must(
        kr_secrets_crypt(again.secrets, first, KR_HANDLE_ECB_ENCRYPT, NULL, block, 64, block, &err),
        &err);
    close_secrets(&again);
}

static void test_the_gate_decides(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secret none = {.len = 99};
    generate(&opened, INNODB_KEY, KR_SECRET_TOKEN_ECB);
    assert_int_equal(open_gate.asked, 2);
    open_gate.after = KR_REFUSED;
    assert_int_equal(kr_secrets_fetch(opened.secrets, INNODB_KEY, "", &none, &err), KR_REFUSED);
    assert_non_null(strstr(err.text, INNODB_KEY));
    kr_secrets_set_gate(opened.secrets, NULL, NULL);
    assert_int_equal(kr_secrets_fetch(opened.secrets, INNODB_KEY, "", &none, &err), KR_REFUSED);
    assert_int_equal(
        kr_secrets_generate(opened.secrets, "x", "", "AES", KR_SECRET_TOKEN_ECB, 32, &err),
        KR_REFUSED);
    assert_int_equal(none.len, 99);
    close_secrets(&opened);
}

/* Keys in the token whose label holds `text`. */
static unsigned keys_in_token(struct keyring_fixture *f, const char *text)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin;
    struct kr_token *token = fixture_token(&f->token, NULL, &pin);
    struct kr_master_info *found;
    size_t count;
    unsigned named = 0;
    must(kr_master_list(token, &found, &count, &err), &err);
    for (size_t i = 0; i < count; i++)
        if (strstr(found[i].label, text)) {
            named++;
            assert_null(found[i].problem);
            assert_true(found[i].sensitive && !found[i].extractable && found[i].is_private);
        }
    free(found);
    kr_token_close(token);
    kr_pin_source_free(pin);
    return named;
}

static void test_a_key_that_cannot_serve_is_taken_back(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    open_gate.before = KR_REFUSED;
    assert_int_equal(
        kr_secrets_generate(opened.secrets, "k", "", "AES", KR_SECRET_TOKEN_CBC, 32, &err),
        KR_REFUSED);
    assert_int_equal(keys_in_token(*state, ":mysql:"), 0);
    open_gate = (struct gate){.after = KR_REFUSED};
    assert_int_equal(
        kr_secrets_generate(opened.secrets, "k", "", "AES", KR_SECRET_TOKEN_CBC, 32, &err),
        KR_REFUSED);
    assert_int_equal(keys_in_token(*state, ":mysql:"), 0);
    open_gate = (struct gate){0};
    struct kr_secret none;
    assert_int_equal(fetch(&opened, "k", "", &none), KR_NOT_FOUND);
    generate(&opened, "k", KR_SECRET_TOKEN_CBC);
    assert_int_equal(keys_in_token(*state, "p11keyring:test:mysql:k"), 1);
    assert_int_equal(
        kr_secrets_generate(opened.secrets, "k", "", "AES", KR_SECRET_TOKEN_CBC, 32, &err),
        KR_REFUSED);
    assert_int_equal(keys_in_token(*state, ":mysql:"), 1);
    close_secrets(&opened);
}

static void test_removal_destroys_the_key_and_its_handle(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    uint8_t handle[KR_HANDLE_BYTES], block[64] = {0};
    generate(&opened, INNODB_KEY, KR_SECRET_TOKEN_ECB);
    get_handle(&opened, INNODB_KEY, handle);
    assert_int_equal(keys_in_token(*state, INNODB_KEY), 1);
    must(kr_secrets_remove(opened.secrets, INNODB_KEY, "", &err), &err);
    assert_int_equal(keys_in_token(*state, INNODB_KEY), 0);
    assert_int_equal(kr_secrets_crypt(opened.secrets, handle, KR_HANDLE_ECB_ENCRYPT, NULL, block,
                                      64, block, &err),
                     KR_USAGE);
    close_secrets(&opened);
}

/* Of a server's numbered keys all but the newest, and nothing else. */
static void test_old_master_keys_alone_are_destroyed(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    static const char *const kept[] = {"INNODBKey-x-2", "INNODBKey-y-1", "user", "INNODBKey-"};
    generate(&opened, "INNODBKey-x-1", KR_SECRET_TOKEN_ECB);
    generate(&opened, "INNODBKey-x-2", KR_SECRET_TOKEN_ECB);
    generate(&opened, "INNODBKey-y-1", KR_SECRET_WRAPPED);
    generate(&opened, "INNODBKey-", KR_SECRET_WRAPPED);
    generate(&opened, "user", KR_SECRET_WRAPPED);
    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        assert_int_equal(kr_secrets_destroy_old(opened.secrets, kept[i], false, "none", &err),
                         KR_REFUSED);
    must(kr_secrets_destroy_old(opened.secrets, "INNODBKey-x-1", true, "none", &err), &err);
    struct kr_secret_counts before, after;
    kr_secrets_count(opened.secrets, &before);
    must(kr_secrets_destroy_old(opened.secrets, "INNODBKey-x-1", false, "none", &err), &err);
    kr_secrets_count(opened.secrets, &after);
    assert_int_equal(before.resident, after.resident + 1);
    assert_int_equal(before.wrapped, after.wrapped);
    assert_int_equal(kr_secrets_destroy_old(opened.secrets, "INNODBKey-x-1", false, "none", &err),
                     KR_NOT_FOUND);
    close_secrets(&opened);
}

static void lose_key(struct keyring_fixture *f, const char *id)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin;
    struct kr_token *token = fixture_token(&f->token, NULL, &pin);
    struct kr_master_info *found;
    size_t count;
    must(kr_master_list(token, &found, &count, &err), &err);
    for (size_t i = 0; i < count; i++)
        if (strstr(found[i].label, id))
            must(kr_master_destroy(token, &found[i].id, &err), &err);
    free(found);
    kr_token_close(token);
    kr_pin_source_free(pin);
}

static void test_a_key_lost_by_the_token_is_named(void **state)
{
    struct keyring_fixture *f = *state;
    struct opened opened = open_secrets(f);
    struct kr_error err = KR_ERROR_INIT;
    generate(&opened, INNODB_KEY, KR_SECRET_TOKEN_ECB);
    close_secrets(&opened);
    lose_key(f, INNODB_KEY);
    opened.keyring = keyring_fixture_open(f);
    assert_int_equal(kr_secrets_open(opened.keyring, &opened.secrets, &err), KR_NOT_FOUND);
    assert_non_null(strstr(err.text, INNODB_KEY));
    kr_keyring_close(opened.keyring);
}

/* As after a move to another HSM, once the server has made a new key there. */
static void test_an_old_key_may_be_missing(void **state)
{
    struct keyring_fixture *f = *state;
    static const char newest[] = "INNODBKey-00000000-0000-0000-0000-000000000000-2";
    struct opened opened = open_secrets(f);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secret secret = {0};
    uint8_t block[16] = {0};
    generate(&opened, INNODB_KEY, KR_SECRET_TOKEN_ECB);
    generate(&opened, newest, KR_SECRET_TOKEN_ECB);
    close_secrets(&opened);
    lose_key(f, INNODB_KEY);
    opened = open_secrets(f);
    must(fetch(&opened, newest, "", &secret), &err);
    must(kr_secrets_crypt(opened.secrets, secret.bytes, KR_HANDLE_ECB_ENCRYPT, NULL, block, 16,
                          block, &err),
         &err);
    kr_secret_free(secret.bytes);
    must(fetch(&opened, INNODB_KEY, "", &secret), &err);
    assert_int_equal(kr_secrets_crypt(opened.secrets, secret.bytes, KR_HANDLE_ECB_ENCRYPT, NULL,
                                      block, 16, block, &err),
                     KR_NOT_FOUND);
    kr_secret_free(secret.bytes);
    must(kr_secrets_remove(opened.secrets, INNODB_KEY, "", &err), &err);
    close_secrets(&opened);
    lose_key(f, newest);
    opened.keyring = keyring_fixture_open(f);
    assert_int_equal(kr_secrets_open(opened.keyring, &opened.secrets, &err), KR_NOT_FOUND);
    kr_keyring_close(opened.keyring);
}

static void test_the_token_keeps_the_modes_apart(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin;
    struct kr_token *token = fixture_token(&f->token, NULL, &pin);
    struct kr_object_id ecb, cbc;
    uint8_t block[32] = {0}, iv[16] = {0};
    const struct kr_resident_op with_ecb = {.mode = KR_RESIDENT_ECB, .encrypt = true},
                                with_cbc = {.mode = KR_RESIDENT_CBC, .encrypt = true, .iv = iv},
                                with_both = {.mode = KR_RESIDENT_ECB, .encrypt = true, .iv = iv};
    must(kr_resident_generate(token, "e", KR_RESIDENT_ECB, &ecb, &err), &err);
    must(kr_resident_generate(token, "c", KR_RESIDENT_CBC, &cbc, &err), &err);
    must(kr_resident_crypt(token, &ecb, &with_ecb, block, 32, block, &err), &err);
    must(kr_resident_crypt(token, &cbc, &with_cbc, block, 32, block, &err), &err);
    assert_int_not_equal(kr_resident_crypt(token, &ecb, &with_cbc, block, 32, block, &err), KR_OK);
    assert_string_equal(err.ckr_name, "CKR_MECHANISM_INVALID");
    assert_int_not_equal(kr_resident_crypt(token, &cbc, &with_ecb, block, 32, block, &err), KR_OK);
    assert_string_equal(err.ckr_name, "CKR_MECHANISM_INVALID");
    assert_int_equal(kr_resident_crypt(token, &ecb, &with_ecb, block, 31, block, &err), KR_USAGE);
    assert_int_equal(kr_resident_crypt(token, &ecb, &with_both, block, 32, block, &err), KR_USAGE);
    kr_token_close(token);
    kr_pin_source_free(pin);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_secrets_survive_reopening),
        TEST(test_names_are_taken_once),
        TEST(test_what_makes_no_sense_is_refused),
        TEST(test_another_process_is_followed),
        TEST(test_keys_work_in_the_token_only),
        TEST(test_a_header_does_not_wait_for_the_token),
        TEST(test_handles_are_new_in_each_opening_unless_kept),
        TEST(test_the_gate_decides),
        TEST(test_a_key_that_cannot_serve_is_taken_back),
        TEST(test_removal_destroys_the_key_and_its_handle),
        TEST(test_old_master_keys_alone_are_destroyed),
        TEST(test_a_key_lost_by_the_token_is_named),
        TEST(test_an_old_key_may_be_missing),
        TEST(test_the_token_keeps_the_modes_apart),
    };
    return cmocka_run_group_tests(tests, mock_apart, scratch_down);
}
