/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Starting without a token: only where it is configured, for what the file was made for, in its
 * time, and never after a token has said no. */
#include "keyring_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { KEYS = 3 };

static struct keyring_fixture f;
static char cache[320], passphrase[320], tokens[320], away[320];

static void override(const char *option, const char *value)
{
    struct kr_error err = KR_ERROR_INIT;
    must(kr_config_override(f.config, "keyring", option, value, &err), &err);
}

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static int up(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    char source[340];
    uint32_t version;
    keyring_fixture_up(&f);
    snprintf(cache, sizeof(cache), "%s/start.cache", f.token.dir);
    snprintf(passphrase, sizeof(passphrase), "%s/passphrase", f.token.dir);
    snprintf(tokens, sizeof(tokens), "%s/tokens", f.token.dir);
    snprintf(away, sizeof(away), "%s/away", f.token.dir);
    write_text(passphrase, f.token.so_pin); /* random, and long enough */
    snprintf(source, sizeof(source), "file:%s", passphrase);
    override("start-cache", cache);
    override("start-cache-key", source);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    for (uint32_t id = 1; id <= KEYS; id++)
        must(kr_keyring_create_key(keyring, id, KR_CIPHER_AES_CBC, NULL, 0, &version, &err), &err);
    kr_keyring_close(keyring);
    return 0;
}

static int down(void **state)
{
    (void)state;
    keyring_fixture_down(&f);
    return 0;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void take_away(void)
{
    assert_int_equal(rename(tokens, away), 0);
}

static void bring_back(void)
{
    assert_int_equal(rename(away, tokens), 0);
}

static void moment(void)
{
    const struct timespec some = {.tv_nsec = 20 * 1000000L};
    nanosleep(&some, NULL);
}

/* A server that runs until the file is there. */
static void run_server(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    must(kr_keyring_open_server(f.config, &keyring, &err), &err);
    must(kr_keyring_watch(keyring, &err), &err);
    for (int i = 0; i < 1500 && !exists(cache); i++)
        moment();
    assert_true(exists(cache));
    kr_keyring_close(keyring);
}

static enum kr_status try_start(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    enum kr_status status = kr_keyring_open_server(f.config, &keyring, &err);
    kr_keyring_close(keyring);
    return status;
}

static enum kr_status start_without_token(void)
{
    take_away();
    enum kr_status status = try_start();
    bring_back();
    return status;
}

static bool from_cache(const struct kr_keyring *keyring)
{
    struct kr_keyring_stats stats;
    kr_keyring_get_stats(keyring, &stats);
    return stats.from_start_cache;
}

/* --- what it is for --------------------------------------------------------------------------- */

static void test_without_the_option_there_is_no_start(void **state)
{
    (void)state;
    free(f.config->keyring.start_cache);
    f.config->keyring.start_cache = NULL;
    assert_int_equal(start_without_token(), KR_TOKEN_UNAVAILABLE);
    assert_false(exists(cache));
}

static void test_same_keys_without_the_token(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_data_key keys[KEYS];
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    assert_false(from_cache(keyring));
    for (uint32_t id = 1; id <= KEYS; id++)
        keys[id - 1] = *kr_keyring_find(keyring, id, 1);
    kr_keyring_close(keyring);
    run_server();
    take_away();
    assert_int_equal(kr_keyring_open(f.config, &keyring, &err), KR_TOKEN_UNAVAILABLE);
    err = (struct kr_error)KR_ERROR_INIT;
    must(kr_keyring_open_server(f.config, &keyring, &err), &err);
    assert_true(from_cache(keyring));
    for (uint32_t id = 1; id <= KEYS; id++)
        assert_memory_equal(kr_keyring_find(keyring, id, 1), &keys[id - 1], sizeof(keys[0]));
    must(kr_keyring_watch(keyring, &err), &err);
    bring_back();
    for (int i = 0; i < 1500 && from_cache(keyring); i++)
        moment();
    assert_false(from_cache(keyring));
    kr_keyring_close(keyring);
}

/* --- what it is not for ----------------------------------------------------------------------- */

static void test_changed_keystore_is_not_served(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    run_server();
    assert_int_equal(start_without_token(), KR_OK);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    must(kr_keyring_set_disabled(keyring, 1, true, &err), &err);
    kr_keyring_close(keyring);
    assert_int_equal(start_without_token(), KR_REFUSED);
}

static void test_expired_file_is_not_served(void **state)
{
    (void)state;
    const struct timespec lifetime = {.tv_sec = 2};
    override("start-cache-lifetime", "2s");
    run_server();
    nanosleep(&lifetime, NULL);
    assert_int_equal(start_without_token(), KR_TOKEN_UNAVAILABLE);
}

static void test_another_passphrase_opens_nothing(void **state)
{
    (void)state;
    run_server();
    write_text(passphrase, "another passphrase, long enough");
    assert_int_equal(start_without_token(), KR_TOKEN_UNAVAILABLE);
    write_text(passphrase, "short");
    assert_int_equal(start_without_token(), KR_TOKEN_UNAVAILABLE);
    write_text(passphrase, f.token.so_pin);
    assert_int_equal(start_without_token(), KR_OK);
}

static void test_file_that_others_read_is_not_served(void **state)
{
    (void)state;
    run_server();
    assert_int_equal(chmod(cache, 0640), 0);
    assert_int_equal(start_without_token(), KR_TOKEN_UNAVAILABLE);
}

/* A refused PIN means that somebody may have taken the right to use the token away. */
static void test_refused_pin_removes_the_file(void **state)
{
    (void)state;
    run_server();
    write_text(f.token.pin_file, "wrong-pin");
    assert_int_equal(try_start(), KR_AUTH);
    assert_false(exists(cache));
    assert_int_equal(start_without_token(), KR_TOKEN_UNAVAILABLE);
}

static void edit_keystore(void)
{
    int fd = open(f.token.keystore, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    off_t end = lseek(fd, 0, SEEK_END);
    char *all = calloc(1, (size_t)end), *at;
    assert_int_equal(pread(fd, all, (size_t)end, 0), end);
    assert_non_null(at = memmem(all, (size_t)end, "aes-cbc", 7));
    assert_int_equal(pwrite(fd, "aes-ctr", 7, at - all), 7);
    free(all);
    close(fd);
}

static void test_edited_keystore_removes_the_file(void **state)
{
    (void)state;
    run_server();
    edit_keystore();
    assert_int_equal(start_without_token(), KR_INTEGRITY);
    assert_int_equal(try_start(), KR_INTEGRITY);
    assert_false(exists(cache));
}

/* --- the file --------------------------------------------------------------------------------- */

static uint8_t *read_cache(size_t *ret_len)
{
    int fd = open(cache, O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_len = (size_t)st.st_size;
    return bytes;
}

static void write_cache(const uint8_t *bytes, size_t len)
{
    int fd = open(cache, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void test_every_edit_is_seen(void **state)
{
    (void)state;
    size_t len;
    run_server();
    uint8_t *bytes = read_cache(&len);
    take_away();
    for (size_t at = 0; at < len; at += 97) {
        bytes[at] ^= 1;
        write_cache(bytes, len);
        bytes[at] ^= 1;
        if (try_start() != KR_TOKEN_UNAVAILABLE)
            fail_msg("byte %zu", at);
    }
    for (size_t cut = 0; cut < len; cut += len / 3 + 1) {
        write_cache(bytes, cut);
        assert_int_equal(try_start(), KR_TOKEN_UNAVAILABLE);
    }
    write_cache(bytes, len);
    assert_int_equal(try_start(), KR_OK);
    bring_back();
    free(bytes);
}

static void test_file_holds_no_secret_in_the_clear(void **state)
{
    (void)state;
    size_t len;
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    struct kr_data_key key = *kr_keyring_find(keyring, 1, 1);
    kr_keyring_close(keyring);
    run_server();
    uint8_t *bytes = read_cache(&len);
    assert_true(len > 200);
    assert_null(memmem(bytes, len, key.bytes, 16));
    assert_null(memmem(bytes, len, f.token.so_pin, 16));
    memcpy(bytes + len / 2, key.bytes, 16); /* the search finds what is there */
    assert_non_null(memmem(bytes, len, key.bytes, 16));
    free(bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_without_the_option_there_is_no_start),
        TEST(test_same_keys_without_the_token),
        TEST(test_changed_keystore_is_not_served),
        TEST(test_expired_file_is_not_served),
        TEST(test_another_passphrase_opens_nothing),
        TEST(test_file_that_others_read_is_not_served),
        TEST(test_refused_pin_removes_the_file),
        TEST(test_edited_keystore_removes_the_file),
        TEST(test_every_edit_is_seen),
        TEST(test_file_holds_no_secret_in_the_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
