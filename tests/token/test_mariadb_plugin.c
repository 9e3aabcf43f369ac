/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The MariaDB plugin as the server sees it: loaded by dlopen, asked through its declaration. */
#include "keyring_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mysql/plugin_encryption.h>

enum { BAD_DATA = -100, BAD_KEYSIZE = -102 }; /* the server's my_crypt.h */

static struct keyring_fixture fixture;
static struct st_maria_plugin *declaration;
static struct st_mariadb_encryption *encryption;

/* --- the server's side ------------------------------------------------------------------------ */

static char log_text[4096];
static unsigned log_errors, log_warnings;

KR_PRINTF(2, 4)
static void log_line(unsigned error, const char *format, unsigned long flags, ...)
{
    char line[512]; /* as much as the server keeps */
    va_list args;
    (void)error;
    va_start(args, flags);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    log_warnings += (flags & ME_WARNING) != 0;
    log_errors += (flags & (ME_WARNING | ME_NOTE)) == 0;
    assert_int_equal(strncmp(line, "pkcs11_key_management: ", 23), 0);
    size_t used = strlen(log_text);
    snprintf(log_text + used, sizeof(log_text) - used, "%s\n", line);
}

static struct my_print_error_service_st service = {.my_printf_error_func = log_line};

static void clear_log(void)
{
    log_text[0] = 0;
    log_errors = log_warnings = 0;
}

struct string_variable {
    MYSQL_PLUGIN_VAR_HEADER;
    char **value;
};

static void set_variable(const char *name, const char *value)
{
    static char values[4][320];
    static unsigned used;
    for (struct st_mysql_sys_var **var = declaration->system_vars; *var; var++) {
        struct string_variable *string = (void *)*var;
        if (strcmp(string->name, name) != 0)
            continue;
        snprintf(values[used % 4], sizeof(values[0]), "%s", value);
        *string->value = values[used++ % 4];
        return;
    }
    fail_msg("no variable %s", name);
}

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (!found)
        fail_msg("%s is not exported", name);
    return found;
}

static int load(void **state)
{
    (void)state;
    keyring_fixture_up(&fixture);
    unsetenv("P11KEYRING_CONF");
    void *library = dlopen(P11K_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail_msg("%s", dlerror());
    declaration = symbol(library, "_maria_plugin_declarations_");
    encryption = declaration->info;
    *(void **)symbol(library, "my_print_error_service") = &service;
    assert_int_equal(*(int *)symbol(library, "_maria_plugin_interface_version_"),
                     MARIA_PLUGIN_INTERFACE_VERSION);
    assert_null(dlsym(library, "kr_keyring_open"));
    assert_null(dlsym(library, "plugin_get_key"));
    return 0;
}

static int unload(void **state)
{
    (void)state;
    keyring_fixture_down(&fixture);
    return 0;
}

static int start(void **state)
{
    (void)state;
    clear_log();
    set_variable("config", fixture.config_path);
    set_variable("pin_source", "");
    int failed = declaration->init(NULL);
    if (failed)
        fail_msg("init: %s", log_text);
    return failed;
}

static int end(void **state)
{
    (void)state;
    return declaration->deinit(NULL);
}

/* --- start and end ---------------------------------------------------------------------------- */

static void test_declaration(void **state)
{
    (void)state;
    assert_int_equal(declaration->type, MariaDB_ENCRYPTION_PLUGIN);
    assert_string_equal(declaration->name, "pkcs11_key_management");
    assert_int_equal(declaration->license, PLUGIN_LICENSE_GPL);
    assert_int_equal(declaration->maturity, MariaDB_PLUGIN_MATURITY_STABLE);
    assert_int_equal(encryption->interface_version, MariaDB_ENCRYPTION_INTERFACE_VERSION);
    assert_int_equal(declaration[1].type, 0);
}

static void test_end_without_start(void **state)
{
    (void)state;
    assert_int_equal(declaration->deinit(NULL), 0);
    assert_int_equal(encryption->get_latest_key_version(1), ENCRYPTION_KEY_VERSION_INVALID);
    unsigned length = 32;
    assert_int_equal(encryption->get_key(1, 1, NULL, &length), ENCRYPTION_KEY_VERSION_INVALID);
}

static void test_refuses_with_one_line(void **state)
{
    (void)state;
    clear_log();
    set_variable("config", "/nowhere/p11keyring.conf");
    assert_int_not_equal(declaration->init(NULL), 0);
    assert_int_equal(log_errors, 1);
    assert_non_null(strstr(log_text, "/nowhere/p11keyring.conf"));
    assert_non_null(strstr(log_text, "hint: "));
    assert_int_equal(declaration->deinit(NULL), 0);
    assert_int_equal(encryption->get_latest_key_version(1), ENCRYPTION_KEY_VERSION_INVALID);
}

static void test_bare_pin_is_refused_and_not_printed(void **state)
{
    (void)state;
    clear_log();
    set_variable("config", fixture.config_path);
    set_variable("pin_source", "k7Zq93xw");
    assert_int_not_equal(declaration->init(NULL), 0);
    assert_int_equal(log_errors, 1);
    assert_non_null(strstr(log_text, "pkcs11_key_management_pin_source"));
    assert_null(strstr(log_text, "k7Zq93xw"));
}

/* --- keys ------------------------------------------------------------------------------------- */

static void test_backup_makes_no_key(void **state)
{
    char *name = program_invocation_short_name;
    program_invocation_short_name = "mariadb-backup";
    start(state);
    program_invocation_short_name = name;
    assert_int_equal(encryption->get_latest_key_version(1), ENCRYPTION_KEY_VERSION_INVALID);
    end(state);
    start(state); /* so that the next call tells the keystore, not a cache */
    assert_int_equal(encryption->get_key(1, 1, NULL, &(unsigned){0}),
                     ENCRYPTION_KEY_VERSION_INVALID);
    end(state);
}

static void test_one_and_two_are_made_others_not(void **state)
{
    (void)state;
    assert_int_equal(encryption->get_latest_key_version(1), 1);
    assert_int_equal(encryption->get_latest_key_version(2), 1);
    assert_int_equal(encryption->get_latest_key_version(3), ENCRYPTION_KEY_VERSION_INVALID);
    assert_int_equal(log_errors + log_warnings, 0);
}

static void test_get_key(void **state)
{
    (void)state;
    uint8_t key[33] = {0}, again[32];
    unsigned length = 0;
    encryption->get_latest_key_version(1);
    assert_int_equal(encryption->get_key(1, 1, NULL, &length), 0); /* in: uninitialised */
    assert_int_equal(length, 32);
    length = 31;
    assert_int_equal(encryption->get_key(1, 1, key, &length), ENCRYPTION_KEY_BUFFER_TOO_SMALL);
    assert_int_equal(length, 32);
    assert_int_equal(encryption->get_key(1, 1, key, &length), 0);
    assert_int_equal(key[32], 0);
    assert_int_equal(encryption->get_key(1, 1, again, &length), 0);
    assert_memory_equal(key, again, 32);
    memset(again, 0, sizeof(again));
    assert_memory_not_equal(key, again, 32);
    assert_int_equal(encryption->get_key(1, 2, key, &length), ENCRYPTION_KEY_VERSION_INVALID);
    assert_int_equal(encryption->get_key(1, 0, key, &length), ENCRYPTION_KEY_VERSION_INVALID);
    assert_int_equal(encryption->get_key(9, 1, key, &length), ENCRYPTION_KEY_VERSION_INVALID);
}

/* Made by another process; the poll of the plugin, or the question itself, finds it. */
static uint32_t rotate_elsewhere(uint32_t id, enum kr_cipher cipher)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *other = keyring_fixture_open(&fixture);
    uint32_t version = 0;
    if (kr_keyring_rotate_key(other, id, cipher, &version, &err) != KR_OK)
        fail_msg("%s", err.text);
    kr_keyring_close(other);
    return version;
}

static void test_unknown_version_is_looked_for(void **state)
{
    (void)state;
    encryption->get_latest_key_version(2);
    uint32_t version = rotate_elsewhere(2, KR_CIPHER_AES_CTR);
    unsigned length = 32;
    uint8_t key[32];
    assert_int_equal(encryption->get_key(2, version, key, &length), 0);
    assert_int_equal(encryption->get_latest_key_version(2), version);
}

/* --- encryption ------------------------------------------------------------------------------- */

static int crypt(const uint8_t *src, unsigned len, uint8_t *dst, unsigned *ret, int flags,
                 unsigned id, unsigned version)
{
    static const uint8_t key[16] = "0123456789abcde", iv[16] = "fedcba987654321";
    _Alignas(16) uint8_t ctx[16];
    unsigned first = 77, last = 77;
    assert_true(encryption->crypt_ctx_size(id, version) <= sizeof(ctx));
    int status = encryption->crypt_ctx_init(ctx, key, 16, iv, 16, flags, id, version);
    if (status == 0) {
        int updated = encryption->crypt_ctx_update(ctx, src, len, dst, &first);
        status = encryption->crypt_ctx_finish(ctx, dst + first, &last);
        status = updated ? updated : status;
        *ret = first + last;
    }
    return status;
}

static void check_cipher(unsigned version, unsigned padded_length)
{
    uint8_t plain[1000], there[1100], back[1100];
    unsigned len, back_len;
    memset(plain, 'p', sizeof(plain));
    for (int pad = 0; pad <= ENCRYPTION_FLAG_NOPAD; pad += ENCRYPTION_FLAG_NOPAD) {
        assert_int_equal(crypt(plain, 1000, there, &len, ENCRYPTION_FLAG_ENCRYPT | pad, 2, version),
                         0);
        assert_int_equal(len, pad ? 1000 : padded_length);
        assert_true(len <= encryption->encrypted_length(1000, 2, version));
        assert_memory_not_equal(there, plain, 1000);
        assert_int_equal(
            crypt(there, len, back, &back_len, ENCRYPTION_FLAG_DECRYPT | pad, 2, version), 0);
        assert_int_equal(back_len, 1000);
        assert_memory_equal(back, plain, 1000);
    }
    assert_int_equal(crypt(there, 15, back, &back_len, ENCRYPTION_FLAG_DECRYPT, 2, version),
                     BAD_DATA);
    assert_int_equal(back_len, 0);
}

/* The version decides: padded CBC grows to a whole block, GCM by its tag. */
static void test_cipher_of_the_version(void **state)
{
    (void)state;
    uint32_t latest = encryption->get_latest_key_version(2);
    assert_int_equal(latest, 3); /* by the test before */
    check_cipher(1, 1008);
    check_cipher(latest, 1016);
    check_cipher(77, 1008); /* not there: the configured cipher */
}

static void test_bad_key_size(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0};
    void *ctx;
    assert_int_equal(encryption->crypt_ctx_init(&ctx, bytes, 15, bytes, 16, 0, 1, 1), BAD_KEYSIZE);
    assert_int_equal(encryption->crypt_ctx_init(&ctx, bytes, 16, bytes, 12, 0, 1, 1), BAD_KEYSIZE);
}

/* --- status ----------------------------------------------------------------------------------- */

static const struct st_mysql_show_var *status_row(const char *name)
{
    static _Alignas(16) char buffer[SHOW_VAR_FUNC_BUFF_SIZE];
    struct st_mysql_show_var all;
    mysql_show_var_func show = (mysql_show_var_func)declaration->status_vars[0].value;
    assert_int_equal(show(NULL, &all, buffer, NULL, SHOW_OPT_GLOBAL), 0);
    assert_int_equal(all.type, SHOW_ARRAY);
    for (const struct st_mysql_show_var *row = all.value; row->name; row++) {
        if (strcmp(row->name, name) == 0)
            return row;
    }
    fail_msg("no status variable %s", name);
    return NULL;
}

static void test_status(void **state)
{
    (void)state;
    assert_string_equal(declaration->status_vars[0].name, "Pkcs11_key_management");
    assert_int_equal(*(unsigned *)status_row("keys")->value, 2);
    assert_int_equal(*(unsigned *)status_row("versions")->value, 3);
    assert_true(*(uint64_t *)status_row("unwraps")->value >= 3);
    assert_int_equal(*(uint64_t *)status_row("token_errors")->value, 0);
    assert_int_equal(*(uint64_t *)status_row("token_timeouts")->value, 0);
    assert_true(*(uint64_t *)status_row("token_sessions")->value >= 1);
    assert_int_equal(*(uint64_t *)status_row("token_evictions")->value, 0);
    assert_int_equal(*(uint64_t *)status_row("audit_lost")->value, 0);
    assert_int_equal(*(uint64_t *)status_row("refresh_errors")->value, 0);
    assert_string_equal(status_row("token_state")->value, "up");
    uint64_t hits = *(uint64_t *)status_row("cache_hits")->value;
    check_cipher(1, 1008);
    assert_true(*(uint64_t *)status_row("cache_hits")->value > hits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_declaration),
        cmocka_unit_test(test_end_without_start),
        cmocka_unit_test(test_refuses_with_one_line),
        cmocka_unit_test(test_bare_pin_is_refused_and_not_printed),
        cmocka_unit_test(test_backup_makes_no_key),
        cmocka_unit_test_setup_teardown(test_one_and_two_are_made_others_not, start, end),
        cmocka_unit_test_setup_teardown(test_get_key, start, end),
        cmocka_unit_test_setup_teardown(test_unknown_version_is_looked_for, start, end),
        cmocka_unit_test_setup_teardown(test_cipher_of_the_version, start, end),
        cmocka_unit_test_setup_teardown(test_bad_key_size, start, end),
        cmocka_unit_test_setup_teardown(test_status, start, end),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
