/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the keyring core records in the audit log, and what it does when it cannot. */
#include "keyring_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hex.h"
#include "provider/secrets.h"
#include "wrap/audit_chain.h"

static struct keyring_fixture fixture;
static char log_path[320];

#define MUST(call) must(call, &err)

static void set_option(const char *option, const char *value)
{
    struct kr_error err = KR_ERROR_INIT;
    MUST(kr_config_override(fixture.config, "keyring", option, value, &err));
}

static int up(void **state)
{
    (void)state;
    keyring_fixture_up(&fixture);
    snprintf(log_path, sizeof(log_path), "%s/audit.log", fixture.token.dir);
    set_option("audit-log", log_path);
    return 0;
}

static int down(void **state)
{
    (void)state;
    rmdir(log_path);
    keyring_fixture_down(&fixture);
    return 0;
}

/* --- reading the log -------------------------------------------------------------------------- */

static json_t *records;

static enum kr_status keep(const struct kr_audit_line *line, void *context, struct kr_error *err)
{
    (void)context;
    (void)err;
    if (line->finding != KR_AUDIT_RECORD_OK)
        fail_msg("%s:%lu: %s", line->path, line->number, line->problem);
    json_array_append(records, (json_t *)line->fields);
    return KR_OK;
}

static const char *field(const json_t *record, const char *name)
{
    const char *text = json_string_value(json_object_get(record, name));
    return text ? text : "";
}

/* "event outcome[ id[ version]], ..." of the records after the first `skip`. */
static const char *story(size_t skip)
{
    static char text[8192];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_chain chain = {0};
    const json_t *record;
    size_t i;
    json_decref(records);
    records = json_array();
    MUST(kr_audit_chain_read(&chain, log_path, keep, NULL, &err));
    text[0] = '\0';
    json_array_foreach(records, i, record)
    {
        size_t used = strlen(text);
        const char *id = field(record, "id");
        long long version = json_integer_value(json_object_get(record, "version"));
        if (i < skip)
            continue;
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s %s", used ? ", " : "",
                                 field(record, "event"), field(record, "outcome"));
        if (*id)
            used += (size_t)snprintf(text + used, sizeof(text) - used, " %s", id);
        if (version > 0)
            snprintf(text + used, sizeof(text) - used, " %lld", version);
    }
    return text;
}

static size_t count_records(void)
{
    story(0);
    return json_array_size(records);
}

static const json_t *last_of(const char *event)
{
    const json_t *found = NULL, *record;
    size_t i;
    story(0);
    json_array_foreach(records, i, record)
    {
        if (strcmp(field(record, "event"), event) == 0)
            found = record;
    }
    assert_non_null(found);
    return found;
}

static struct kr_audit_head anchor(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore_options options = {
        .path = fixture.token.keystore, .keyring = "test", .lock_timeout_ms = 3000};
    struct kr_keystore *keystore = NULL;
    struct kr_audit_head head;
    MUST(kr_keystore_open(&options, &keystore, &err));
    MUST(kr_keystore_get_audit_head(keystore, &head, &err));
    kr_keystore_close(keystore);
    return head;
}

/* --- events ----------------------------------------------------------------------------------- */

static void changes_are_recorded_and_anchored(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint8_t import[16] = {1};
    uint32_t version;
    struct kr_keyring *keyring = keyring_fixture_open(&fixture);
    assert_string_equal(story(0),
                        "log-start ok, keyring-open begun, token-login ok, keyring-open ok");
    assert_string_equal(field(last_of("token-login"), "token"), "test");
    assert_string_equal(field(last_of("keyring-open"), "detail"), "unwrapped by test");
    MUST(kr_keyring_create_key(keyring, 7, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
    MUST(kr_keyring_rotate_key(keyring, 7, KR_CIPHER_AES_CBC, &version, &err));
    MUST(kr_keyring_create_key(keyring, 8, KR_CIPHER_AES_CBC, import, 16, &version, &err));
    MUST(kr_keyring_set_disabled(keyring, 7, true, &err));
    assert_int_equal(kr_keyring_rotate_key(keyring, 7, KR_CIPHER_AES_CBC, &version, &err),
                     KR_REFUSED);
    MUST(kr_keyring_set_disabled(keyring, 7, false, &err));
    assert_string_equal(story(4), "key-create ok 7 1, key-rotate ok 7 3, key-import ok 8 1, "
                                  "key-disable ok 7, key-rotate failed 7, key-enable ok 7");
    const json_t *last = last_of("key-enable");
    struct kr_audit_head head = anchor();
    assert_int_equal(head.seq, json_integer_value(json_object_get(last, "seq")));
    assert_int_equal(json_integer_value(json_object_get(last, "generation")), 6);
    kr_keyring_close(keyring);
    keyring = keyring_fixture_open(&fixture);
    assert_int_equal(json_integer_value(json_object_get(last_of("keyring-open"), "keys")), 3);
    kr_keyring_close(keyring);
}

static enum kr_status create_keyring(struct kr_master_row ret[KR_TOKENS_MAX], unsigned *ret_others,
                                     struct kr_error *err)
{
    size_t count;
    return kr_keyring_create(fixture.config, NULL, true, ret, &count, ret_others, err);
}

static void a_keyring_begins_with_its_log(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row masters[KR_TOKENS_MAX];
    unsigned others;
    unlink(fixture.token.keystore);
    MUST(create_keyring(masters, &others, &err));
    assert_string_equal(story(0),
                        "log-start ok, master-create begun, token-login ok, master-create ok");
    assert_string_equal(field(last_of("master-create"), "master"), masters[0].label);
    assert_int_equal(anchor().seq, 4);
    assert_int_equal(create_keyring(masters, &others, &err), KR_REFUSED);
}

static void secrets_are_recorded_by_name(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secrets *secrets = NULL;
    struct kr_keyring *keyring = keyring_fixture_open(&fixture);
    MUST(kr_secrets_open(keyring, &secrets, &err));
    MUST(kr_secrets_store(secrets, "one", "app@%", "AES", (const uint8_t *)"12345", 5, &err));
    MUST(kr_secrets_generate(secrets, "two", "", "AES", KR_SECRET_WRAPPED, 32, &err));
    assert_int_equal(kr_secrets_store(secrets, "two", "", "AES", (const uint8_t *)"x", 1, &err),
                     KR_REFUSED);
    MUST(kr_secrets_remove(secrets, "one", "app@%", &err));
    assert_string_equal(story(4), "secrets-open ok, secret-store ok one 1, secret-generate ok two "
                                  "1, secret-store failed two, secret-remove ok one");
    assert_string_equal(field(last_of("secret-remove"), "owner"), "app@%");
    kr_secrets_close(secrets);
    kr_keyring_close(keyring);
}

static void write_pin(const char *pin)
{
    FILE *file = fopen(fixture.token.pin_file, "w");
    assert_non_null(file);
    fputs(pin, file);
    fclose(file);
}

static void a_refused_pin_is_recorded(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    write_pin("0000000000");
    for (int i = 0; i < 2; i++)
        assert_int_equal(kr_keyring_open(fixture.config, &keyring, &err), KR_AUTH);
    assert_string_equal(story(0),
                        "log-start ok, keyring-open begun, token-login failed, keyring-open "
                        "failed, keyring-open begun, token-login failed, keyring-open failed");
    assert_string_equal(field(json_object_get(last_of("token-login"), "error"), "class"), "auth");
    write_pin(fixture.token.pin);
}

static void a_flood_of_failures_is_counted(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    struct kr_keyring *keyring = keyring_fixture_open(&fixture);
    for (int i = 0; i < 100; i++) {
        uint32_t missing = 70 + (uint32_t)(i % 2); /* in turns */
        assert_int_equal(kr_keyring_rotate_key(keyring, missing, KR_CIPHER_AES_CBC, &version, &err),
                         KR_NOT_FOUND);
    }
    assert_string_equal(story(4), "key-rotate failed 70, key-rotate failed 71");
    kr_keyring_close(keyring);
    assert_string_equal(story(6), "key-rotate failed 70, key-rotate failed 71");
    assert_int_equal(json_integer_value(json_object_get(last_of("key-rotate"), "repeated")), 49);
}

/* --- a log that cannot be written ------------------------------------------------------------- */

/* Root may write to anything but a directory. */
static void break_log(void)
{
    unlink(log_path);
    assert_int_equal(mkdir(log_path, 0700), 0);
}

static uint64_t keystore_digest(void)
{
    uint64_t digest = 14695981039346656037u;
    FILE *file = fopen(fixture.token.keystore, "r");
    assert_non_null(file);
    for (int byte; (byte = getc(file)) != EOF;)
        digest = (digest ^ (uint64_t)byte) * 1099511628211u;
    fclose(file);
    return digest;
}

static unsigned count_masters(struct kr_keyring *keyring)
{
    struct kr_keyring_stats stats;
    kr_keyring_get_stats(keyring, &stats);
    return stats.versions;
}

static void require_refuses_and_changes_nothing(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *second = NULL;
    uint32_t version;
    set_option("audit-policy", "require");
    struct kr_keyring *keyring = keyring_fixture_open(&fixture);
    MUST(kr_keyring_create_key(keyring, 1, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
    break_log();
    uint64_t before = keystore_digest();
    assert_int_equal(kr_keyring_rotate_key(keyring, 1, KR_CIPHER_AES_CBC, &version, &err),
                     KR_REFUSED);
    assert_non_null(strstr(err.text, "audit-policy = require"));
    assert_int_equal(kr_keyring_create_key(keyring, 2, KR_CIPHER_AES_CBC, NULL, 0, &version, &err),
                     KR_REFUSED);
    assert_int_equal(kr_keyring_set_disabled(keyring, 1, true, &err), KR_REFUSED);
    assert_int_equal(kr_keyring_open(fixture.config, &second, &err), KR_REFUSED);
    assert_true(keystore_digest() == before);
    assert_int_equal(kr_keyring_latest(keyring, 1), 1); /* what was there is served */
    assert_int_equal(count_masters(keyring), 1);
    rmdir(log_path);
    MUST(kr_keyring_rotate_key(keyring, 1, KR_CIPHER_AES_CBC, &version, &err));
    kr_keyring_close(keyring);
}

/* No master key is made in the token for nothing. */
static void require_refuses_a_new_keyring(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row masters[KR_TOKENS_MAX];
    unsigned others;
    unlink(fixture.token.keystore);
    set_option("audit-policy", "require");
    break_log();
    assert_int_equal(create_keyring(masters, &others, &err), KR_REFUSED);
    rmdir(log_path);
    MUST(create_keyring(masters, &others, &err));
    assert_int_equal(others, 1); /* the one of the fixture's first keystore */
}

static void require_wants_a_file(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    set_option("audit-policy", "require");
    set_option("audit-log", "syslog");
    assert_int_equal(kr_keyring_open(fixture.config, &keyring, &err), KR_CONFIG);
    assert_non_null(strstr(err.text, "syslog does not tell"));
}

static void warn_goes_on_and_says_so(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring_stats stats;
    uint32_t version;
    struct kr_keyring *keyring = keyring_fixture_open(&fixture);
    size_t before = count_records();
    break_log();
    MUST(kr_keyring_create_key(keyring, 1, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
    MUST(kr_keyring_rotate_key(keyring, 1, KR_CIPHER_AES_CBC, &version, &err));
    kr_keyring_get_stats(keyring, &stats);
    assert_int_equal(stats.audit.lost, 2);
    rmdir(log_path);
    MUST(kr_keyring_rotate_key(keyring, 1, KR_CIPHER_AES_CBC, &version, &err));
    assert_string_equal(story(0), "log-continue ok, events-lost ok, key-rotate ok 1 5");
    assert_int_equal(json_integer_value(json_object_get(last_of("events-lost"), "count")), 2);
    assert_int_equal(json_integer_value(json_object_get(last_of("log-continue"), "seq")),
                     before + 1);
    kr_keyring_close(keyring);
}

/* Who removes the log with all that belongs to it leaves a chain that does not begin at 1. */
static void a_removed_log_is_not_begun_anew(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    char head_path[340];
    uint32_t version;
    struct kr_keyring *keyring = keyring_fixture_open(&fixture);
    MUST(kr_keyring_create_key(keyring, 1, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
    kr_keyring_close(keyring);
    struct kr_audit_head head = anchor();
    snprintf(head_path, sizeof(head_path), "%s.head", log_path);
    unlink(log_path);
    unlink(head_path);
    kr_keyring_close(keyring_fixture_open(&fixture));
    assert_int_equal(json_integer_value(json_object_get(last_of("log-continue"), "seq")),
                     head.seq + 1);
}

/* --- secrets ---------------------------------------------------------------------------------- */

static bool log_has(const void *bytes, size_t len)
{
    static char text[65536];
    FILE *file = fopen(log_path, "r");
    assert_non_null(file);
    size_t size = fread(text, 1, sizeof(text), file);
    assert_true(size < sizeof(text));
    fclose(file);
    return memmem(text, size, bytes, len);
}

static bool log_has_key(const struct kr_data_key *key)
{
    char hex[2 * sizeof(key->bytes) + 1];
    kr_hex_encode(key->bytes, key->len, hex);
    return log_has(key->bytes, key->len) || log_has(hex, 2u * key->len);
}

static void no_secret_is_recorded(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secrets *secrets = NULL;
    uint32_t version;
    struct kr_keyring *keyring = keyring_fixture_open(&fixture);
    MUST(kr_secrets_open(keyring, &secrets, &err));
    MUST(kr_keyring_create_key(keyring, 1, KR_CIPHER_AES_CBC, NULL, 0, &version, &err));
    MUST(kr_secrets_store(secrets, "s", "", "AES", (const uint8_t *)"Th3S3cr3t", 9, &err));
    const struct kr_data_key *key = kr_keyring_find(keyring, 1, 1);
    assert_false(log_has_key(key));
    assert_false(log_has("Th3S3cr3t", 9));
    assert_false(log_has(fixture.token.pin, strlen(fixture.token.pin)));
    assert_false(log_has(fixture.token.so_pin, strlen(fixture.token.so_pin)));
    FILE *file = fopen(log_path, "a"); /* the search finds what is there */
    fwrite(key->bytes, 1, key->len, file);
    fputs(fixture.token.pin, file);
    fclose(file);
    assert_true(log_has_key(key));
    assert_true(log_has(fixture.token.pin, strlen(fixture.token.pin)));
    kr_secrets_close(secrets);
    kr_keyring_close(keyring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(changes_are_recorded_and_anchored, up, down),
        cmocka_unit_test_setup_teardown(a_keyring_begins_with_its_log, up, down),
        cmocka_unit_test_setup_teardown(secrets_are_recorded_by_name, up, down),
        cmocka_unit_test_setup_teardown(a_refused_pin_is_recorded, up, down),
        cmocka_unit_test_setup_teardown(a_flood_of_failures_is_counted, up, down),
        cmocka_unit_test_setup_teardown(require_refuses_and_changes_nothing, up, down),
        cmocka_unit_test_setup_teardown(require_refuses_a_new_keyring, up, down),
        cmocka_unit_test_setup_teardown(require_wants_a_file, up, down),
        cmocka_unit_test_setup_teardown(warn_goes_on_and_says_so, up, down),
        cmocka_unit_test_setup_teardown(a_removed_log_is_not_begun_anew, up, down),
        cmocka_unit_test_setup_teardown(no_secret_is_recorded, up, down),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(records);
    return failed;
}
