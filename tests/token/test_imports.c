/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's master keys that come from elsewhere and are put into the token. */
#include "keyring_fixture.h"

#include "check.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "hwaccel/aes256.h"
#include "pkcs11/ckr.h"
#include "pkcs11/resident.h"
#include "provider/change.h"
#include "provider/import.h"
#include "provider/secrets_import.h"

#define UUID "00000000-0000-0000-0000-000000000000"
#define INNODB "INNODBKey-" UUID "-"
#define BINLOG "MySQLReplicationKey_" UUID "_"

static const uint8_t innodb_key[32] = {1, 2, 3}, binlog_key[32] = {4, 5, 6}, seqno[16] = {1};

static const struct kr_secret_item all[] = {
    {INNODB "1", "", "AES", innodb_key, 32},
    {BINLOG "1", "", "AES", binlog_key, 32},
    {"MySQLReplicationKey_" UUID, "", "AES", seqno, 16},
    {INNODB "1", "user@host", "AES", innodb_key, 32},
};
enum { ALL = sizeof(all) / sizeof(all[0]) };

/* RSA-OAEP: a key pair takes half a second. */
#define NO_UNWRAPPING "hidden 0x9\n"

struct opened {
    struct kr_keyring *keyring;
    struct kr_secrets *secrets;
};

static enum kr_status always_open(void *context, struct kr_secrets *secrets,
                                  enum kr_secret_form form, const uint8_t *handle,
                                  struct kr_error *err)
{
    (void)context;
    (void)secrets;
    (void)form;
    (void)handle;
    (void)err;
    return KR_OK;
}

static int up(void **state)
{
    static struct keyring_fixture f;
    struct kr_error err = KR_ERROR_INIT;
    f = (struct keyring_fixture){0};
    keyring_fixture_up(&f);
    must(kr_config_override(f.config, "token", "module", P11K_MOCK, &err), &err);
    mock_rules(NO_UNWRAPPING);
    *state = &f;
    return 0;
}

static int down(void **state)
{
    mock_rules("%s", "");
    keyring_fixture_down(*state);
    return 0;
}

static struct opened open_secrets(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct opened opened = {.keyring = keyring_fixture_open(f)};
    must(kr_secrets_open(opened.keyring, &opened.secrets, &err), &err);
    kr_secrets_set_gate(opened.secrets, always_open, NULL);
    return opened;
}

static void close_secrets(struct opened *opened)
{
    kr_secrets_close(opened->secrets);
    kr_keyring_close(opened->keyring);
}

static void import_all(struct opened *opened)
{
    struct kr_error err = KR_ERROR_INIT;
    must(kr_secrets_import(opened->secrets, all, ALL, true, &err), &err);
}

static void get_handle(struct opened *opened, const char *id, uint8_t ret[KR_HANDLE_BYTES])
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secret secret;
    must(kr_secrets_fetch(opened->secrets, id, "", &secret, &err), &err);
    assert_int_not_equal(secret.form, KR_SECRET_WRAPPED);
    memcpy(ret, secret.bytes, KR_HANDLE_BYTES);
    kr_secret_free(secret.bytes);
}

static enum kr_status crypt_ecb(struct opened *opened, const uint8_t *handle, bool encrypt,
                                uint8_t block[64], struct kr_error *err)
{
    return kr_secrets_crypt(opened->secrets, handle,
                            encrypt ? KR_HANDLE_ECB_ENCRYPT : KR_HANDLE_ECB_DECRYPT, NULL, block,
                            64, block, err);
}

/* The keys of the token whose label has `text`; the last of them. */
static size_t keys_in_token(struct keyring_fixture *f, const char *text, struct kr_master_info *ret)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin;
    struct kr_token *token = fixture_token(&f->token, NULL, &pin);
    struct kr_master_info *found;
    size_t count, named = 0;
    must(kr_master_list(token, &found, &count, &err), &err);
    for (size_t i = 0; i < count; i++)
        if (strstr(found[i].label, text)) {
            *ret = found[i];
            named++;
        }
    free(found);
    kr_token_close(token);
    kr_pin_source_free(pin);
    return named;
}

static size_t imported_in_token(struct keyring_fixture *f)
{
    struct kr_master_info info;
    return keys_in_token(f, ":mysql-imported:", &info);
}

static struct kr_secret_counts counts(struct opened *opened)
{
    struct kr_secret_counts ret;
    kr_secrets_count(opened->secrets, &ret);
    return ret;
}

/* --- what an import makes --------------------------------------------------------------------- */

static void check_closed(struct keyring_fixture *f, const char *id)
{
    struct kr_master_info info;
    assert_int_equal(keys_in_token(f, id, &info), 1);
    assert_non_null(strstr(info.label, "p11keyring:test:mysql-imported:"));
    assert_true(info.on_token && info.is_private && info.sensitive && !info.extractable);
    assert_true(info.can_encrypt && info.can_decrypt && !info.can_wrap && !info.can_unwrap);
    assert_false(info.local || info.never_extractable || info.always_sensitive);
    assert_non_null(strstr(info.problem, "was extractable once")); /* as a master key of ours */
}

static void check_works(struct opened *opened)
{
    struct kr_error err = KR_ERROR_INIT;
    uint8_t handle[KR_HANDLE_BYTES], iv[16] = {7}, in[64] = {9}, here[64], there[64];
    memcpy(there, in, sizeof(in));
    get_handle(opened, INNODB "1", handle);
    must(crypt_ecb(opened, handle, true, there, &err), &err);
    must(kr_aes256_blocks(innodb_key, NULL, true, in, 64, here, &err), &err);
    assert_memory_equal(here, there, 64);
    must(crypt_ecb(opened, handle, false, there, &err), &err);
    assert_memory_equal(in, there, 64);
    get_handle(opened, BINLOG "1", handle);
    must(kr_secrets_crypt(opened->secrets, handle, KR_HANDLE_CBC_ENCRYPT, iv, in, 32, there, &err),
         &err);
    must(kr_aes256_blocks(binlog_key, iv, true, in, 32, here, &err), &err);
    assert_memory_equal(here, there, 32);
}

static void test_master_keys_come_into_the_token(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secret secret;
    import_all(&opened);
    check_closed(*state, INNODB "1");
    check_closed(*state, BINLOG "1");
    assert_int_equal(imported_in_token(*state), 2);
    for (int i = 0; i < 2; i++) {
        check_works(&opened);
        assert_int_equal(counts(&opened).wrapped, 2);
        assert_int_equal(counts(&opened).resident, 2);
        assert_int_equal(counts(&opened).imported, 2);
        must(kr_secrets_fetch(opened.secrets, all[2].id, "", &secret, &err), &err);
        assert_memory_equal(secret.bytes, seqno, sizeof(seqno));
        kr_secret_free(secret.bytes);
        close_secrets(&opened);
        opened = open_secrets(*state);
    }
    must(kr_secrets_remove(opened.secrets, INNODB "1", "", &err), &err);
    assert_int_equal(imported_in_token(*state), 1);
    close_secrets(&opened);
}

static void test_out_of_token_mode_they_are_wrapped(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    must(kr_secrets_import(opened.secrets, all, ALL, false, &err), &err);
    assert_int_equal(counts(&opened).wrapped, ALL);
    assert_int_equal(imported_in_token(*state), 0);
    close_secrets(&opened);
}

static void test_all_or_none(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    const struct kr_secret_item twice[] = {all[0], all[1], all[0]};
    must(kr_secrets_store(opened.secrets, all[2].id, "", "AES", seqno, 16, &err), &err);
    assert_int_equal(kr_secrets_import(opened.secrets, all, ALL, true, &err), KR_REFUSED);
    assert_non_null(strstr(err.text, all[2].id));
    assert_int_equal(kr_secrets_import(opened.secrets, twice, 3, true, &err), KR_USAGE);
    assert_int_equal(counts(&opened).wrapped + counts(&opened).resident, 1);
    assert_int_equal(imported_in_token(*state), 0);
    close_secrets(&opened);
}

/* As migrate and restore see it, which ask before they write. */
static void test_an_equal_key_of_the_token_is_no_other_one(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    KR_KEY_SET set = {0};
    const enum kr_presence wanted[] = {KR_EQUAL, KR_CONFLICT, KR_ABSENT};
    const char *const names[] = {INNODB "1", BINLOG "1", INNODB "2"};
    import_all(&opened);
    for (size_t i = 0; i < 3; i++) {
        const struct kr_set_key key = {.kind = KR_KEY_SECRET,
                                       .name = (char *)names[i],
                                       .owner = "",
                                       .type = "AES",
                                       .bytes = (uint8_t *)innodb_key,
                                       .len = 32};
        must(kr_key_set_add(&set, &key, &err), &err);
    }
    must(kr_key_set_sort(&set, &err), &err);
    must(kr_import_survey(opened.keyring, &set, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        const struct kr_set_key name = {
            .kind = KR_KEY_SECRET, .name = (char *)names[i], .owner = ""};
        assert_int_equal(kr_key_set_find(&set, &name)->presence, wanted[i]);
    }
    close_secrets(&opened);
}

/* --- sealing ---------------------------------------------------------------------------------- */

static void test_nothing_new_is_sealed_after_a_rotation(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    uint8_t first[KR_HANDLE_BYTES], second[KR_HANDLE_BYTES], block[64] = {1};
    import_all(&opened);
    get_handle(&opened, INNODB "1", first);
    must(crypt_ecb(&opened, first, true, block, &err), &err);
    must(kr_secrets_generate(opened.secrets, INNODB "2", "", "AES", KR_SECRET_TOKEN_ECB, 32, &err),
         &err);
    must(crypt_ecb(&opened, first, true, block, &err), &err); /* the server may still be at it */
    get_handle(&opened, INNODB "2", second);
    must(crypt_ecb(&opened, second, true, block, &err), &err);
    assert_int_equal(crypt_ecb(&opened, first, true, block, &err), KR_REFUSED);
    assert_non_null(strstr(err.text, "seals nothing any more"));
    assert_non_null(strstr(err.hint, "ALTER INSTANCE ROTATE"));
    must(crypt_ecb(&opened, first, false, block, &err), &err);
    assert_int_equal(
        kr_secrets_use(opened.secrets, INNODB "1", "", true, NULL, block, 64, block, &err),
        KR_REFUSED);
    must(kr_secrets_use(opened.secrets, INNODB "1", "", false, NULL, block, 64, block, &err), &err);
    get_handle(&opened, BINLOG "1", first); /* of another series */
    must(kr_secrets_crypt(opened.secrets, first, KR_HANDLE_CBC_ENCRYPT, block, block, 32, block,
                          &err),
         &err);
    close_secrets(&opened);
}

static void test_a_wrapped_key_takes_the_place_as_well(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secret next;
    uint8_t handle[KR_HANDLE_BYTES], block[64] = {1};
    import_all(&opened);
    get_handle(&opened, INNODB "1", handle);
    must(kr_secrets_store(opened.secrets, INNODB "9", "user", "AES", innodb_key, 32, &err), &err);
    must(kr_secrets_fetch(opened.secrets, INNODB "9", "user", &next, &err), &err);
    kr_secret_free(next.bytes);
    must(crypt_ecb(&opened, handle, true, block, &err), &err); /* a user's key is none of these */
    must(kr_secrets_generate(opened.secrets, INNODB "2", "", "AES", KR_SECRET_WRAPPED, 32, &err),
         &err);
    must(kr_secrets_fetch(opened.secrets, INNODB "2", "", &next, &err), &err);
    kr_secret_free(next.bytes);
    assert_int_equal(crypt_ecb(&opened, handle, true, block, &err), KR_REFUSED);
    must(kr_secrets_destroy_old(opened.secrets, INNODB "1", false, "none", &err), &err);
    assert_int_equal(imported_in_token(*state), 1);
    close_secrets(&opened);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static void test_a_token_that_unwraps_none_takes_them_by_another_way(void **state)
{
    struct opened opened = open_secrets(*state);
    mock_rules("fail C_UnwrapKey 0x54\n");
    import_all(&opened);
    check_closed(*state, INNODB "1");
    check_works(&opened);
    close_secrets(&opened);
}

static void test_a_token_that_unwraps_does_not_see_the_key(void **state)
{
    struct opened opened = open_secrets(*state);
    uint64_t unwrapped = mock_calls("C_UnwrapKey"), pairs = mock_calls("C_GenerateKeyPair");
    mock_rules("refuse C_CreateObject 0x104\n"); /* CKA_ENCRYPT: keys, not data */
    import_all(&opened);
    assert_true(mock_calls("C_UnwrapKey") - unwrapped >= 2);
    assert_int_equal(mock_calls("C_GenerateKeyPair") - pairs, 1);
    check_works(&opened);
    close_secrets(&opened);
}

static void test_a_token_that_takes_none_says_so(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    mock_rules(NO_UNWRAPPING "refuse C_CreateObject 0x104\n");
    assert_int_equal(kr_secrets_import(opened.secrets, all, ALL, true, &err), KR_REFUSED);
    assert_non_null(strstr(err.text, "takes no key from outside"));
    assert_non_null(strstr(err.text, "CKR_TEMPLATE_INCONSISTENT"));
    assert_non_null(strstr(err.hint, "master-keys = wrapped"));
    assert_int_equal(counts(&opened).wrapped + counts(&opened).resident, 0);
    mock_rules(NO_UNWRAPPING);
    import_all(&opened);
    close_secrets(&opened);
}

static void check_apart(struct kr_token *token, enum kr_resident_mode mode, bool wanted_way)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_resident_import import = {.label = "imported", .mode = mode, .key = innodb_key};
    uint8_t block[16] = {0}, iv[16] = {0};
    bool unwrapped, ecb = mode == KR_RESIDENT_ECB;
    const struct kr_resident_op other = {.mode = ecb ? KR_RESIDENT_CBC : KR_RESIDENT_ECB,
                                         .encrypt = true,
                                         .imported = true,
                                         .iv = ecb ? iv : NULL};
    must(kr_object_id_make(&import.id, &err), &err);
    must(kr_resident_import(token, &import, 1, &unwrapped, &err), &err);
    assert_true(unwrapped == wanted_way);
    assert_int_not_equal(kr_resident_crypt(token, &import.id, &other, block, 16, block, &err),
                         KR_OK);
    assert_string_equal(err.ckr_name, "CKR_MECHANISM_INVALID");
}

static void test_the_token_keeps_the_modes_apart(void **state)
{
    struct keyring_fixture *f = *state;
    struct kr_pin_source *pin;
    struct kr_token *token = fixture_token(&f->token, P11K_MOCK, &pin);
    check_apart(token, KR_RESIDENT_ECB, false);
    check_apart(token, KR_RESIDENT_CBC, false);
    mock_rules("%s", "");
    check_apart(token, KR_RESIDENT_ECB, true);
    check_apart(token, KR_RESIDENT_CBC, true);
    kr_token_close(token);
    kr_pin_source_free(pin);
}

/* It says that the key is what was asked for, and would let it out. */
static void test_a_key_that_came_out_open_is_not_kept(void **state)
{
    struct opened opened = open_secrets(*state);
    struct kr_error err = KR_ERROR_INIT;
    mock_rules(NO_UNWRAPPING "leaky\n");
    assert_int_equal(kr_secrets_import(opened.secrets, all, ALL, true, &err), KR_REFUSED);
    mock_rules(NO_UNWRAPPING);
    assert_int_equal(imported_in_token(*state), 0);
    close_secrets(&opened);
}

enum { BY_UNWRAPPING = 40, BY_CREATING = 41 };

/* A token that is full, or wants another PIN, has another way just as little: then the value is
 * named, and a second try succeeds. */
static int import_with_fault(struct keyring_fixture *f, const char *call, unsigned long ckr)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin;
    struct kr_resident_import import = {
        .label = "imported", .mode = KR_RESIDENT_ECB, .key = innodb_key};
    const struct kr_resident_op op = {.mode = KR_RESIDENT_ECB, .imported = true};
    struct kr_token *token = fixture_token(&f->token, P11K_MOCK, &pin);
    uint8_t block[16] = {0};
    bool unwrapped;
    MUST(kr_object_id_make(&import.id, &err) == KR_OK);
    mock_rules("fail %s 0x%lx 1 1\n", call, ckr);
    if (kr_resident_import(token, &import, 1, &unwrapped, &err) != KR_OK) {
        MUST(err.ckr_name && strcmp(err.ckr_name, kr_ckr_name(ckr)) == 0);
        MUST(kr_resident_import(token, &import, 1, &unwrapped, &err) == KR_OK);
    }
    MUST(kr_resident_crypt(token, &import.id, &op, block, 16, block, &err) == KR_OK);
    MUST(kr_master_destroy(token, &import.id, &err) == KR_OK);
    kr_token_close(token);
    kr_pin_source_free(pin);
    return unwrapped ? BY_UNWRAPPING : BY_CREATING;
}

/* In a process of its own: a module that contradicts itself changes what a process does with it. */
static bool import_in_child(struct keyring_fixture *f, const char *call, unsigned long ckr)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(import_with_fault(f, call, ckr));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) ||
        (WEXITSTATUS(status) != BY_UNWRAPPING && WEXITSTATUS(status) != BY_CREATING))
        fail_msg("%s at %s: wait status 0x%x", kr_ckr_name(ckr), call, (unsigned)status);
    return WEXITSTATUS(status) == BY_UNWRAPPING;
}

/* Each value that has a name, at the two calls: by the other way, or by a second run of the job. */
static void test_each_failure_of_unwrapping_is_got_over(void **state)
{
    static const char *const calls[] = {"C_GenerateKeyPair", "C_UnwrapKey"};
    const char *sample = getenv("P11K_CKR_SAMPLE");
    unsigned every = sample ? (unsigned)atoi(sample) : 31, tried = 0, unwrapped = 0, cases = 0;
    mock_rules("%s", "");
    for (unsigned long ckr = 1; ckr < 0x1000; ckr++) {
        for (int i = 0; i < 2 && strcmp(kr_ckr_name(ckr), "CKR_(unknown)") != 0; i++) {
            if (cases++ % every != 0)
                continue;
            unwrapped += import_in_child(*state, calls[i], ckr);
            tried++;
        }
    }
    print_message("%u cases, %u of them by unwrapping in the end\n", tried, unwrapped);
    assert_true(tried > 0 && unwrapped < tried);
}

/* --- kills ------------------------------------------------------------------------------------ */

static void die_with_keys_made(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secret_import *import = NULL;
    struct kr_keystore *keystore = NULL;
    struct opened opened = open_secrets(f);
    MUST(kr_secret_import_new(opened.secrets, all, ALL, true, &import, &err) == KR_OK);
    MUST(kr_keyring_lock(opened.keyring, &err) == KR_OK);
    MUST(kr_secret_import_announce(import, &err) == KR_OK);
    MUST(kr_change_begin(opened.keyring, &keystore, &err) == KR_OK);
    MUST(kr_secret_import_make(import, keystore, &err) == KR_OK);
    kill(getpid(), SIGKILL);
}

static void test_keys_without_rows_are_removed(void **state)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        die_with_keys_made(*state);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(imported_in_token(*state), 2);
    struct opened opened = open_secrets(*state);
    assert_int_equal(imported_in_token(*state), 0);
    import_all(&opened);
    check_works(&opened);
    close_secrets(&opened);
    opened = open_secrets(*state); /* nothing is announced any more */
    assert_int_equal(imported_in_token(*state), 2);
    close_secrets(&opened);
}

/* The token of that moment is away when the keyring is opened again. */
static void test_what_cannot_be_removed_yet_is_removed_later(void **state)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        die_with_keys_made(*state);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    mock_rules("fail C_DestroyObject 0x6\n");
    struct opened opened = open_secrets(*state);
    assert_int_equal(imported_in_token(*state), 2);
    close_secrets(&opened);
    mock_rules(NO_UNWRAPPING);
    opened = open_secrets(*state);
    assert_int_equal(imported_in_token(*state), 0);
    close_secrets(&opened);
}

/* True when the import was killed before its end. */
static bool import_and_kill(struct keyring_fixture *f, unsigned long max_us)
{
    int ends[2], status;
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct kr_error err = KR_ERROR_INIT;
        struct opened opened = open_secrets(f);
        MUST(write(ends[1], "b", 1) == 1);
        MUST(kr_secrets_import(opened.secrets, all, ALL, true, &err) == KR_OK);
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    usleep((useconds_t)((unsigned long)random() % max_us));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

/* Either all of it is there, or nothing. */
static bool take_back(struct keyring_fixture *f, size_t *left)
{
    struct kr_error err = KR_ERROR_INIT;
    *left = imported_in_token(f);
    struct opened opened = open_secrets(f);
    size_t count = counts(&opened).resident;
    assert_true(count == 0 || count == 2);
    assert_int_equal(counts(&opened).wrapped, count);
    assert_int_equal(imported_in_token(f), count);
    if (count > 0) {
        check_works(&opened);
        for (size_t i = 0; i < ALL; i++)
            must(kr_secrets_remove(opened.secrets, all[i].id, all[i].owner, &err), &err);
    }
    close_secrets(&opened);
    return count > 0;
}

static void test_kills_at_random(void **state)
{
    const char *wanted = getenv("P11K_KILLS");
    unsigned kills = wanted ? (unsigned)atoi(wanted) : 4, inside = 0, halfway = 0, runs = 0;
    struct opened opened = open_secrets(*state);
    size_t left;
    mock_rules(NO_UNWRAPPING "delay C_CreateObject 5\ndelay C_EncryptInit 5\n");
    uint64_t start = kr_now_ms();
    import_all(&opened);
    unsigned long span_us = 1000 * (unsigned long)(kr_now_ms() - start);
    close_secrets(&opened);
    assert_true(take_back(*state, &left));
    srandom((unsigned)start);
    for (; inside < kills; runs++) {
        bool killed = import_and_kill(*state, span_us);
        span_us = killed ? span_us * 11 / 10 : span_us * 8 / 10 + 1000;
        inside += killed;
        halfway += !take_back(*state, &left) && left > 0;
    }
    print_message("%u runs, %u kills inside, %u of them left keys behind\n", runs, inside, halfway);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_master_keys_come_into_the_token),
        TEST(test_out_of_token_mode_they_are_wrapped),
        TEST(test_all_or_none),
        TEST(test_an_equal_key_of_the_token_is_no_other_one),
        TEST(test_nothing_new_is_sealed_after_a_rotation),
        TEST(test_a_wrapped_key_takes_the_place_as_well),
        TEST(test_a_token_that_unwraps_none_takes_them_by_another_way),
        TEST(test_a_token_that_unwraps_does_not_see_the_key),
        TEST(test_a_token_that_takes_none_says_so),
        TEST(test_the_token_keeps_the_modes_apart),
        TEST(test_a_key_that_came_out_open_is_not_kept),
        TEST(test_keys_without_rows_are_removed),
        TEST(test_what_cannot_be_removed_yet_is_removed_later),
        TEST(test_kills_at_random),
        TEST(test_each_failure_of_unwrapping_is_got_over),
    };
    return cmocka_run_group_tests(tests, mock_apart, scratch_down);
}
