/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Master keys that stay in the token, in a program that passes for mysqld: it has the name, exports
 * the version, offers the service and runs under OPENSSL_CONF. The argument says what of OpenSSL it
 * runs with: "ours" (default), "no-guard" (a provider that refuses nothing) or "none".
 */
#include "mysql_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "provider/openssl/handle.h"

#define UUID "01234567-89ab-cdef-0123-456789abcdef"
#define INNODB_KEY "INNODBKey-" UUID "-1"
#define BINLOG_KEY "MySQLReplicationKey_" UUID "_1"

/* mysqld's own. */
__attribute__((visibility("default"))) char server_version[60] = "9.7.4-2";

static void set_version(const char *text)
{
    snprintf(server_version, sizeof(server_version), "%s", text);
}

static int loaded(void **state)
{
    (void)state;
    host.is_server = true;
    set_version("9.7.4-2");
    mysql_host_load("token", "");
    return 0;
}

static int emptied(void **state)
{
    (void)state;
    host.writer->remove(INNODB_KEY, NULL);
    host.writer->remove(BINLOG_KEY, NULL);
    return 0;
}

static int resident_keys(void)
{
    return atoi(mysql_host_row("Token_resident_keys"));
}

static int operations(void)
{
    return atoi(mysql_host_row("Token_operations"));
}

static void generate(const char *id)
{
    host.log[0] = '\0';
    if (host.generator->generate(id, NULL, "AES", 32) != 0)
        fail_msg("%s", host.log);
}

static void refuses_to_generate(const char *id, const char *why)
{
    host.log[0] = '\0';
    assert_int_equal(host.generator->generate(id, NULL, "AES", 32), 1);
    mysql_host_logged(why);
    assert_int_equal(resident_keys(), 0);
}

static void get(const char *id, unsigned char ret[64])
{
    size_t len;
    host.log[0] = '\0';
    if (mysql_host_read(id, NULL, ret, &len) != 1)
        fail_msg("%s", host.log);
    assert_int_equal(len, 32);
}

/* As the server calls OpenSSL. */
static bool evp_crypt(const char *cipher_name, bool encrypt, const unsigned char *key,
                      const unsigned char *iv, const unsigned char *in, int in_len,
                      unsigned char *out)
{
    int len = 0, last = 0;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, cipher_name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool ok = EVP_CipherInit_ex2(ctx, cipher, key, iv, encrypt, NULL) &&
              EVP_CIPHER_CTX_set_padding(ctx, 0) && EVP_CipherUpdate(ctx, out, &len, in, in_len) &&
              EVP_CipherFinal_ex(ctx, out + len, &last) && len + last == in_len;
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

/* --- with our OpenSSL provider ---------------------------------------------------------------- */

static void test_the_server_s_operations_run_in_the_token(void **state)
{
    (void)state;
    unsigned char ecb[64], cbc[64], iv[16] = {5}, in[64] = {1, 2, 3}, out[80], back[80];
    generate(INNODB_KEY);
    generate(BINLOG_KEY);
    assert_int_equal(resident_keys(), 2);
    get(INNODB_KEY, ecb);
    get(BINLOG_KEY, cbc);
    assert_memory_equal(ecb, KR_HANDLE_MAGIC, KR_HANDLE_MAGIC_BYTES);
    int before = operations();
    assert_true(evp_crypt("AES-256-ECB", true, ecb, NULL, in, 64, out));
    assert_true(evp_crypt("AES-256-ECB", false, ecb, NULL, out, 64, back));
    assert_memory_equal(in, back, 64);
    assert_true(evp_crypt("AES-256-CBC", true, cbc, iv, in, 32, out));
    assert_true(evp_crypt("AES-256-CBC", false, cbc, iv, out, 32, back));
    assert_memory_equal(in, back, 32);
    assert_int_equal(operations() - before, 4);
    assert_false(evp_crypt("AES-256-CTR", true, cbc, iv, in, 32, out));
    assert_false(evp_crypt("AES-256-CBC", true, ecb, iv, in, 32, out));
    assert_false(evp_crypt("AES-256-ECB", true, cbc, NULL, in, 64, out));
    assert_int_equal(operations() - before, 4);
    /* Every other key is OpenSSL's affair. */
    ecb[0] ^= 1;
    assert_true(evp_crypt("AES-256-ECB", true, ecb, NULL, in, 64, out));
    assert_int_equal(operations() - before, 4);
}

static void test_the_handle_is_no_key_elsewhere(void **state)
{
    (void)state;
    unsigned char iv[16] = {0}, in[32] = {0}, out[64];
    size_t len;
    generate(INNODB_KEY);
    assert_int_equal(
        host.aes->encrypt(INNODB_KEY, NULL, "cbc", 256, iv, true, in, 32, out, 64, &len), 1);
    mysql_host_logged("stays in the token and does no such operation");
}

static void test_reload_keeps_handles(void **state)
{
    (void)state;
    unsigned char handle[64], again[64], in[64] = {1}, out[80];
    generate(INNODB_KEY);
    get(INNODB_KEY, handle);
    for (int i = 0; i < 3; i++) {
        mysql_host_load(i == 1 ? "wrapped" : "token", "");
        get(INNODB_KEY, again);
        assert_memory_equal(handle, again, 32);
        assert_true(evp_crypt("AES-256-ECB", true, handle, NULL, in, 64, out));
    }
}

enum { THREADS = 3, RELOADS = 5 };

struct worker {
    const unsigned char *handle;
    atomic_bool stop;
    atomic_uint done, failed;
};

static void *use_handle(void *arg)
{
    struct worker *worker = arg;
    unsigned char in[64] = {1}, out[80];
    while (!worker->stop) {
        if (!evp_crypt("AES-256-ECB", true, worker->handle, NULL, in, 64, out))
            worker->failed++;
        worker->done++;
    }
    return NULL;
}

/* The server's own lock covers RELOAD and reads, but not what it does with what it has read. */
static void test_reload_while_handles_are_used(void **state)
{
    (void)state;
    unsigned char handle[64];
    pthread_t threads[THREADS];
    struct worker worker = {.handle = handle};
    generate(INNODB_KEY);
    get(INNODB_KEY, handle);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_handle, &worker), 0);
    for (int i = 0; i < RELOADS; i++) {
        unsigned seen = worker.done;
        mysql_host_load("token", "");
        while (worker.done < seen + THREADS)
            usleep(1000);
    }
    worker.stop = true;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(worker.failed, 0);
}

static void refuses_to_read(const char *why)
{
    unsigned char bytes[64];
    size_t len;
    host.log[0] = '\0';
    assert_int_equal(mysql_host_read(INNODB_KEY, NULL, bytes, &len), -1);
    mysql_host_logged(INNODB_KEY);
    mysql_host_logged(why);
}

static void test_only_a_verified_mysqld(void **state)
{
    (void)state;
    static const char *const others[] = {"9.8.0", "8.4.3", "10.11.2-MariaDB", ""};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        set_version(others[i]);
        refuses_to_generate(INNODB_KEY, others[i][0] ? others[i] : "of unknown version");
        mysql_host_logged("server-versions");
    }
    set_version("9.7.0");
    generate(INNODB_KEY);
    set_version("9.8.0");
    refuses_to_read("mysqld 9.8.0 has not been verified");
    mysql_host_load("token", ", \"server-versions\": \"9.7, 9.8\"");
    unsigned char handle[64];
    get(INNODB_KEY, handle);
    host.is_server = false;
    refuses_to_read("only mysqld itself");
}

static void test_an_unverified_server_may_be_given_wrapped_keys(void **state)
{
    (void)state;
    unsigned char key[64], in[64] = {0}, out[80];
    generate(BINLOG_KEY);
    set_version("9.8.0");
    mysql_host_load("token", ", \"unverified-server\": \"wrapped\"");
    assert_non_null(strstr(mysql_host_row("Mode"), "wrapped (this server version"));
    generate(INNODB_KEY);
    mysql_host_logged("is wrapped and not in the token");
    get(INNODB_KEY, key);
    assert_memory_not_equal(key, KR_HANDLE_MAGIC, KR_HANDLE_MAGIC_BYTES);
    int before = operations();
    assert_true(evp_crypt("AES-256-ECB", true, key, NULL, in, 64, out));
    assert_int_equal(operations(), before);
    /* What is in the token is not served all the same. */
    size_t len;
    assert_int_equal(mysql_host_read(BINLOG_KEY, NULL, key, &len), -1);
    set_version("9.7.4");
    assert_string_equal(mysql_host_row("Mode"), "token");
}

/* The child of a process that has given out `old`. 0 when all is well. */
static int work_in_child(const unsigned char *old)
{
    unsigned char handle[64], in[64] = {1}, out[80];
    size_t len;
    if (evp_crypt("AES-256-ECB", true, old, NULL, in, 64, out))
        return 1;
    if (mysql_host_read(INNODB_KEY, NULL, handle, &len) != 1 || memcmp(handle, old, 32) == 0)
        return 2;
    if (evp_crypt("AES-256-ECB", true, old, NULL, in, 64, out))
        return 3;
    if (!evp_crypt("AES-256-ECB", true, handle, NULL, in, 64, out))
        return 4;
    return host.component->deinit() != 0 ||
           evp_crypt("AES-256-ECB", true, handle, NULL, in, 64, out);
}

__attribute__((unused)) static void test_a_child_has_handles_of_its_own(void **state)
{
    (void)state;
    unsigned char handle[64], in[64] = {1}, out[80];
    int status;
    generate(INNODB_KEY);
    get(INNODB_KEY, handle);
    pid_t child = fork();
    if (child == 0)
        _exit(work_in_child(handle));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(evp_crypt("AES-256-ECB", true, handle, NULL, in, 64, out));
}

static void move_tokens(const char *from, const char *to)
{
    char a[400], b[400];
    snprintf(a, sizeof(a), "%s/%s", host.keyring.token.dir, from);
    snprintf(b, sizeof(b), "%s/%s", host.keyring.token.dir, to);
    assert_int_equal(rename(a, b), 0);
}

static void test_a_lost_token_is_named_and_found_again(void **state)
{
    (void)state;
    unsigned char handle[64], in[64] = {1}, out[80];
    generate(INNODB_KEY);
    get(INNODB_KEY, handle);
    assert_true(evp_crypt("AES-256-ECB", true, handle, NULL, in, 64, out));
    move_tokens("tokens", "tokens.away");
    host.log[0] = '\0';
    assert_false(evp_crypt("AES-256-ECB", true, handle, NULL, in, 64, out));
    mysql_host_logged("a master key could not be used");
    move_tokens("tokens.away", "tokens");
    assert_true(evp_crypt("AES-256-ECB", true, handle, NULL, in, 64, out));
    get(INNODB_KEY, out);
    assert_memory_equal(handle, out, 32);
}

/* --- without ---------------------------------------------------------------------------------- */

static void test_without_the_provider_nothing_is_made(void **state)
{
    (void)state;
    mysql_host_logged("master keys cannot be made or used in the token");
    mysql_host_logged("OPENSSL_CONF");
    refuses_to_generate(INNODB_KEY, "is not done by the p11keyring provider");
    mysql_host_logged("OPENSSL_CONF");
    assert_string_equal(mysql_host_row("Keys"), "0");
}

static void test_a_provider_without_its_guard_is_found_out(void **state)
{
    (void)state;
    refuses_to_generate(INNODB_KEY, "a handle worked with padding on");
    refuses_to_generate(BINLOG_KEY, "the self-test of the way to the token failed");
    assert_string_equal(mysql_host_row("Keys"), "0");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, loaded, emptied)

static int run(const char *route)
{
    const struct CMUnitTest ours[] = {
        TEST(test_the_server_s_operations_run_in_the_token),
        TEST(test_the_handle_is_no_key_elsewhere),
        TEST(test_reload_keeps_handles),
        TEST(test_reload_while_handles_are_used),
        TEST(test_only_a_verified_mysqld),
        TEST(test_an_unverified_server_may_be_given_wrapped_keys),
#ifndef __SANITIZE_THREAD__ /* it ends a child that starts threads where its parent had some */
        TEST(test_a_child_has_handles_of_its_own),
#endif
        TEST(test_a_lost_token_is_named_and_found_again),
    };
    const struct CMUnitTest no_guard[] = {TEST(test_a_provider_without_its_guard_is_found_out)};
    const struct CMUnitTest none[] = {TEST(test_without_the_provider_nothing_is_made)};
    if (strcmp(route, "no-guard") == 0)
        return cmocka_run_group_tests(no_guard, mysql_host_up, mysql_host_down);
    if (strcmp(route, "none") == 0)
        return cmocka_run_group_tests(none, mysql_host_up, mysql_host_down);
    return cmocka_run_group_tests(ours, mysql_host_up, mysql_host_down);
}

/* OpenSSL reads its configuration before main(): the program starts itself again. */
int main(int argc, char **argv)
{
    const char *route = argc > 1 ? argv[1] : "ours";
    if (getenv("P11K_TEST_ROUTE"))
        return run(route);
    setenv("P11K_TEST_ROUTE", route, 1);
    unsetenv("OPENSSL_CONF");
    if (strcmp(route, "none") != 0) {
        setenv("OPENSSL_CONF", P11K_TEST_OPENSSL_CNF, 1);
        setenv("OPENSSL_MODULES",
               strcmp(route, "ours") == 0 ? P11K_TEST_MODULES : P11K_TEST_MODULES_NO_GUARD, 1);
    }
    execv("/proc/self/exe", argv);
    perror("execv");
    return 1;
}
