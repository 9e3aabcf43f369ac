/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The MySQL component as the server sees it: its services, its configuration, and a fork. */
#include "mysql_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define UUID "01234567-89ab-cdef-0123-456789abcdef"
#define INNODB_KEY "INNODBKey-" UUID "-1"
#define SEQUENCE "MySQLReplicationKey_" UUID

static int loaded(void **state)
{
    (void)state;
    host.is_server = false;
    mysql_host_load("wrapped", "");
    return 0;
}

/* Leaves no secret for the next test. */
static int emptied(void **state)
{
    (void)state;
    mysql_handle it;
    char id[1100], owner[300];
    assert_int_equal(host.keys->init(&it), 0);
    for (; host.keys->is_valid(it); host.keys->next(it)) {
        assert_int_equal(host.keys->get(it, id, sizeof(id), owner, sizeof(owner)), 0);
        assert_int_equal(host.writer->remove(id, owner), 0);
    }
    return host.keys->deinit(it);
}

/* --- before load() ---------------------------------------------------------------------------- */

static void test_nothing_works_before_load(void **state)
{
    (void)state;
    unsigned char bytes[64];
    size_t len;
    mysql_handle it;
    assert_int_equal(host.status->is_initialized(), 0);
    assert_int_equal(mysql_host_read("x", NULL, bytes, &len), -1);
    mysql_host_logged("ALTER INSTANCE RELOAD KEYRING");
    assert_int_equal(host.writer->store("x", NULL, bytes, 8, "AES"), 1);
    assert_int_equal(host.generator->generate("x", NULL, "AES", 32), 1);
    assert_int_equal(host.keys->init(&it), 1);
    assert_string_equal(mysql_host_row("Component_status"), "Disabled");
    assert_non_null(strstr(mysql_host_row("Last_error"), "not loaded"));
}

/* --- configuration ---------------------------------------------------------------------------- */

static void refuses_cnf(const char *json, const char *why)
{
    host.log[0] = '\0';
    mysql_host_cnf(host.plugins, "%s", json);
    if (host.load->load(host.plugins, host.data) != 1)
        fail_msg("taken: %s", json);
    mysql_host_logged(why);
    mysql_host_logged("component_keyring_pkcs11.cnf");
}

static void test_bad_configurations_are_named(void **state)
{
    (void)state;
    refuses_cnf("{\"config\"", "component_keyring_pkcs11.cnf:1");
    refuses_cnf("[]", "not a JSON object");
    refuses_cnf("{\"confg\": \"/x\"}", "unknown name \"confg\"");
    refuses_cnf("{\"mariadb\": {\"cipher\": \"aes-ctr\"}}", "unknown name \"mariadb\"");
    refuses_cnf("{\"mysql\": {\"master-key\": \"token\"}}", "unknown option \"master-key\"");
    refuses_cnf("{\"mysql\": {\"master-keys\": \"both\"}}", "master-keys has a value");
    refuses_cnf("{\"mysql\": {\"master-keys\": true}}", "neither a string nor a number");
    refuses_cnf("{\"mysql\": {\"server-versions\": \"new\"}}", "not a list of versions");
    refuses_cnf("{\"mysql\": 1}", "not an object");
    refuses_cnf("{\"config\": 1}", "\"config\" is not a string");
    refuses_cnf("{\"config\": \"/nowhere\"}", "/nowhere");
    refuses_cnf("{\"read_local_config\": true, \"config\": \"/x\"}", "other names are given");
    refuses_cnf("{\"read_local_config\": 1}", "neither true nor false");
    refuses_cnf("{\"mysql\": {}, \"mysql\": {}}", "duplicate");
    char path[512];
    snprintf(path, sizeof(path), "%s/component_keyring_pkcs11.cnf", host.plugins);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(host.load->load(host.plugins, host.data), 1);
    mysql_host_logged("can be changed by others");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(host.status->is_initialized(), 0);
}

static void test_objects_stand_for_the_file(void **state)
{
    (void)state;
    const struct fixture *f = &host.keyring.token;
    mysql_host_cnf(host.plugins,
                   "{\"token\": {\"module\": \"%s\", \"uri\": \"%s\", \"pin-source\": \"file:%s\"},"
                   " \"keyring\": {\"name\": \"test\", \"keystore\": \"%s\"},"
                   " \"pkcs11\": {\"timeout\": 3000}, \"mysql\": {\"master-keys\": \"wrapped\"}}",
                   f->module, f->uri, f->pin_file, f->keystore);
    if (host.load->load(host.plugins, host.data) != 0)
        fail_msg("load: %s", host.log);
    assert_int_equal(host.status->is_initialized(), 1);
    assert_string_equal(mysql_host_row("Component_status"), "Active");
    assert_string_equal(mysql_host_row("Last_error"), "none");
    assert_string_equal(mysql_host_row("Keystore"), f->keystore);
}

static void test_the_local_file_is_read(void **state)
{
    (void)state;
    mysql_host_cnf(host.plugins, "{\"read_local_config\": true}");
    assert_int_equal(host.load->load(host.plugins, host.data), 1);
    mysql_host_logged("in the data directory");
    mysql_host_cnf(host.data, "{\"config\": \"%s\", \"mysql\": {\"master-keys\": \"wrapped\"}}",
                   host.keyring.config_path);
    assert_int_equal(host.load->load(host.plugins, host.data), 0);
    mysql_host_cnf(host.data, "{\"read_local_config\": false}");
    assert_int_equal(host.load->load(host.plugins, host.data), 1);
    mysql_host_logged("unknown name \"read_local_config\"");
    assert_int_equal(host.status->is_initialized(), 1); /* a failing reload takes nothing away */
}

/* --- reading and writing ---------------------------------------------------------------------- */

static void test_reader_and_writer(void **state)
{
    (void)state;
    unsigned char bytes[64];
    size_t len;
    assert_int_equal(mysql_host_read(SEQUENCE, NULL, bytes, &len), 0);
    assert_int_equal(host.writer->store(SEQUENCE, NULL,
                                        (const unsigned char *)"\1\0\0\0\0\0\0\0"
                                                               "\0\0\0\0\0\0\0\0",
                                        16, "AES"),
                     0);
    assert_int_equal(mysql_host_read(SEQUENCE, "", bytes, &len), 1);
    assert_int_equal(len, 16);
    assert_memory_equal(bytes, "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_int_equal(mysql_host_read(SEQUENCE, "u@h", bytes, &len), 0);
    assert_int_equal(host.writer->store(SEQUENCE, "", bytes, 16, "AES"), 1);
    assert_int_equal(host.writer->store("empty", NULL, bytes, 0, "AES"), 1);
    assert_int_equal(host.writer->store(INNODB_KEY, NULL, bytes, 16, "AES"), 1);
    assert_int_equal(host.generator->generate(INNODB_KEY, NULL, "AES", 16), 1);
    assert_int_equal(host.writer->remove(SEQUENCE, NULL), 0);
    assert_int_equal(host.writer->remove(SEQUENCE, NULL), 1);
    assert_int_equal(mysql_host_read(SEQUENCE, NULL, bytes, &len), 0);
}

static void test_reader_respects_the_buffers(void **state)
{
    (void)state;
    unsigned char bytes[40];
    char type[8] = "#######";
    size_t len, type_len;
    mysql_handle object;
    assert_int_equal(host.generator->generate("k", "u@h", "SECRET", 40), 0);
    assert_int_equal(host.reader->init("k", "u@h", &object), 0);
    assert_non_null(object);
    assert_int_equal(host.reader->fetch(object, bytes, 39, &len, type, 8, &type_len), 1);
    assert_int_equal(host.reader->fetch(object, bytes, 40, &len, type, 5, &type_len), 1);
    assert_string_equal(type, "#######");
    assert_int_equal(host.reader->fetch(object, bytes, 40, &len, type, 8, &type_len), 0);
    assert_string_equal(type, "SECRET");
    assert_int_equal(len, 40);
    assert_int_equal(type_len, 6);
    host.reader->deinit(object);
}

static void test_largest_value(void **state)
{
    (void)state;
    static unsigned char in[16384], out[16384];
    char type[16];
    size_t len, type_len;
    mysql_handle object;
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (unsigned char)(i ^ i >> 8);
    assert_int_equal(host.writer->store("large", "u@h", in, sizeof(in), "SECRET"), 0);
    assert_int_equal(host.reader->init("large", "u@h", &object), 0);
    assert_int_equal(host.reader->fetch(object, out, sizeof(out), &len, type, 6, &type_len), 0);
    assert_int_equal(len, sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
    host.reader->deinit(object);
}

static void test_keys_iterator(void **state)
{
    (void)state;
    static const char *const wanted[][2] = {{INNODB_KEY, ""}, {"mine", "u@h"}};
    mysql_handle it;
    char id[80], owner[16];
    size_t id_len, owner_len;
    assert_int_equal(host.keys->init(&it), 0);
    assert_int_equal(host.keys->is_valid(it), 0);
    assert_int_equal(host.keys->next(it), 1);
    assert_int_equal(host.keys->get_length(it, &id_len, &owner_len), 1);
    host.keys->deinit(it);
    assert_int_equal(host.generator->generate("mine", "u@h", "AES", 16), 0);
    assert_int_equal(host.generator->generate(INNODB_KEY, NULL, "AES", 32), 0);
    assert_int_equal(host.keys->init(&it), 0);
    for (int i = 0; i < 2; i++, host.keys->next(it)) {
        assert_int_equal(host.keys->is_valid(it), 1);
        assert_int_equal(host.keys->get_length(it, &id_len, &owner_len), 0);
        assert_int_equal(id_len, strlen(wanted[i][0]));
        assert_int_equal(owner_len, strlen(wanted[i][1]));
        assert_int_equal(host.keys->get(it, id, id_len, owner, owner_len + 1), 1);
        assert_int_equal(host.keys->get(it, id, id_len + 1, owner, owner_len + 1), 0);
        assert_string_equal(id, wanted[i][0]);
        assert_string_equal(owner, wanted[i][1]);
    }
    assert_int_equal(host.keys->is_valid(it), 0);
    host.keys->deinit(it);
}

/* --- keyring_aes ------------------------------------------------------------------------------ */

static size_t reference(const EVP_CIPHER *cipher, const unsigned char *secret, size_t secret_len,
                        const unsigned char *iv, const unsigned char *in, int in_len,
                        unsigned char *out)
{
    unsigned char key[32];
    int len = 0, last = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_true(EVP_Digest(secret, secret_len, key, NULL, EVP_sha256(), NULL));
    assert_true(EVP_EncryptInit(ctx, cipher, key, iv) &&
                EVP_EncryptUpdate(ctx, out, &len, in, in_len) &&
                EVP_EncryptFinal(ctx, out + len, &last));
    EVP_CIPHER_CTX_free(ctx);
    return (size_t)(len + last);
}

static void test_aes(void **state)
{
    (void)state;
    const struct {
        const char *mode;
        const EVP_CIPHER *cipher;
        size_t room; /* for 30 bytes */
    } modes[] = {{"cbc", EVP_aes_256_cbc(), 32},
                 {"cfb1", EVP_aes_256_cfb1(), 30},
                 {"cfb8", EVP_aes_256_cfb8(), 30},
                 {"cfb128", EVP_aes_256_cfb128(), 30},
                 {"ofb", EVP_aes_256_ofb(), 30}};
    unsigned char in[30] = {1, 2, 3}, iv[16] = {9}, out[64], back[64], wanted[64];
    size_t len, room;
    assert_int_equal(host.writer->store("k", "u", (const unsigned char *)"a secret", 8, "AES"), 0);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        const char *mode = modes[i].mode;
        size_t n =
            reference(modes[i].cipher, (const unsigned char *)"a secret", 8, iv, in, 30, wanted);
        assert_int_equal(host.aes->get_size(30, mode, 256, &room), 0);
        assert_int_equal(room, modes[i].room);
        assert_int_equal(
            host.aes->encrypt("k", "u", mode, 256, iv, true, in, 30, out, room - 1, &len), 1);
        assert_int_equal(host.aes->encrypt("k", "u", mode, 256, iv, true, in, 30, out, room, &len),
                         0);
        assert_int_equal(len, n);
        assert_memory_equal(out, wanted, n);
        assert_int_equal(host.aes->decrypt("k", "u", mode, 256, iv, true, out, n, back, n, &len),
                         0);
        assert_int_equal(len, 30);
        assert_memory_equal(in, back, 30);
    }
}

static void test_aes_refusals(void **state)
{
    (void)state;
    unsigned char in[32] = {0}, iv[16] = {0}, out[64];
    size_t len;
    assert_int_equal(host.generator->generate("k", "u", "AES", 32), 0);
    assert_int_equal(host.generator->generate("s", "u", "SECRET", 32), 0);
    assert_int_equal(host.aes->get_size(30, "ecb", 256, &len), 1);
    assert_int_equal(host.aes->get_size(30, "cbc", 128, &len), 1);
    assert_int_equal(host.aes->get_size(16, "cbc", 256, &len), 0);
    assert_int_equal(len, 32);
    assert_int_equal(host.aes->encrypt("k", "u", "ecb", 256, iv, true, in, 32, out, 64, &len), 1);
    assert_int_equal(host.aes->encrypt("k", "u", "cbc", 256, NULL, true, in, 32, out, 64, &len), 1);
    assert_int_equal(host.aes->encrypt("k", "u", "cbc", 256, iv, false, in, 31, out, 64, &len), 1);
    assert_int_equal(host.aes->encrypt("k", NULL, "cbc", 256, iv, true, in, 32, out, 64, &len), 1);
    assert_int_equal(host.aes->encrypt("s", "u", "cbc", 256, iv, true, in, 32, out, 64, &len), 1);
    assert_int_equal(host.aes->decrypt("k", "u", "cbc", 256, iv, true, in, 31, out, 64, &len), 1);
    assert_int_equal(host.aes->encrypt("k", "u", "cbc", 256, iv, false, in, 32, out, 64, &len), 0);
    assert_int_equal(len, 32);
}

/* --- processes -------------------------------------------------------------------------------- */

/* In the child of a loaded parent, as mysqld --daemonize has it. 0 when all is well. */
static int work_in_child(void)
{
    unsigned char bytes[64];
    size_t len;
    if (!host.status->is_initialized() || mysql_host_read("parent", NULL, bytes, &len) != 1)
        return 1;
    if (host.generator->generate("child", NULL, "AES", 32) != 0)
        return 2;
    if (mysql_host_read("child", NULL, bytes, &len) != 1)
        return 3;
    return host.component->deinit() == 0 ? 0 : 4;
}

__attribute__((unused)) static void test_a_child_opens_its_own(void **state)
{
    (void)state;
    unsigned char bytes[64];
    size_t len;
    int status;
    assert_int_equal(host.generator->generate("parent", NULL, "AES", 32), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(work_in_child());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(mysql_host_read("child", NULL, bytes, &len), 1);
    /* A child that ends without having used the keyring leaves the parent's alone. */
    child = fork();
    if (child == 0)
        _exit(host.component->deinit());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(host.generator->generate("more", NULL, "AES", 32), 0);
}

static void test_token_mode_is_for_mysqld(void **state)
{
    (void)state;
    unsigned char bytes[64];
    size_t len;
    mysql_host_load("token", "");
    assert_int_equal(host.generator->generate(INNODB_KEY, NULL, "AES", 32), 1);
    mysql_host_logged("only mysqld itself");
    assert_int_equal(mysql_host_read(INNODB_KEY, NULL, bytes, &len), 0);
    /* What is not a master key of the server is wrapped in any mode. */
    assert_int_equal(host.generator->generate("INNODBKey-short-1", NULL, "AES", 32), 0);
    assert_int_equal(host.generator->generate(INNODB_KEY, "u@h", "AES", 32), 0);
    assert_int_equal(host.generator->generate(INNODB_KEY "x", NULL, "AES", 32), 0);
    assert_int_equal(host.generator->generate(SEQUENCE, NULL, "AES", 16), 0);
    assert_int_equal(host.generator->generate(SEQUENCE "_new", NULL, "AES", 32), 0);
    assert_string_equal(mysql_host_row("Keys"), "5");
    assert_true(atoi(mysql_host_row("Token_sessions")) >= 1); /* the watcher may have one, too */
    assert_string_equal(mysql_host_row("Token_evictions"), "0");
    assert_string_equal(mysql_host_row("Audit_lost"), "0");
    assert_string_equal(mysql_host_row("Token_resident_keys"), "0");
    assert_non_null(strstr(mysql_host_row("OpenSSL_provider"), "not done by the p11keyring"));
}

static void test_messages_without_an_error_log(void **state)
{
    (void)state;
    host.has_error_log = false;
    host.log[0] = '\0';
    assert_int_equal(host.load->load("/nowhere", NULL), 1); /* the default INI file is not there */
    host.has_error_log = true;
    assert_string_equal(host.log, "");
    assert_non_null(strstr(mysql_host_row("Last_error"), "no PKCS#11 module is configured"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, loaded, emptied)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_works_before_load),
        cmocka_unit_test(test_bad_configurations_are_named),
        cmocka_unit_test(test_objects_stand_for_the_file),
        cmocka_unit_test(test_the_local_file_is_read),
        TEST(test_reader_and_writer),
        TEST(test_reader_respects_the_buffers),
        TEST(test_largest_value),
        TEST(test_keys_iterator),
        TEST(test_aes),
        TEST(test_aes_refusals),
#ifndef __SANITIZE_THREAD__ /* it ends a child that starts threads where its parent had some */
        TEST(test_a_child_opens_its_own),
#endif
        TEST(test_token_mode_is_for_mysqld),
        TEST(test_messages_without_an_error_log),
    };
    return cmocka_run_group_tests(tests, mysql_host_up, mysql_host_down);
}
