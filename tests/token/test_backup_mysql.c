/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Keys of MySQL's files in a bundle, and out of it into another keyring: with a real binary log,
 * whose master key is in a token.
 */
#include "keyring_fixture.h"

#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/file_keys.h"
#include "backup/mysql_restore.h"
#include "base/bytes.h"
#include "files/verify.h"
#include "hwaccel/crc32c.h"
#include "mysql_vectors.h"
#include "provider/secrets_import.h"

#define SERVER "ddf1f4a2-e620-11f1-82d6-02fc00000001"
#define OTHER "11111111-2222-3333-4444-555555555555"

static struct keyring_fixture f;
static char dir[512];

/* --- a data directory --------------------------------------------------------------------------
 */

static const char *path_of(const char *name)
{
    static char path[600];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const void *bytes, size_t len)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

/* What says that the server was shut down: the newest checkpoint is where the log ends. */
static void put_clean_end(void)
{
    enum { BLOCK = 512, BLOCKS = 6, USED = 12 };
    const uint64_t start = 30820352, end = start + USED;
    uint8_t log[BLOCKS * BLOCK] = {0}, system[64] = {0};
    kr_put_number(log, 6, 4);
    kr_put_number(log + 8, start, 8);
    memcpy(log + 16, "MySQL 9.7.4", 11);
    kr_put_number(log + BLOCK + 8, end, 8);
    kr_put_number(log + 4 * BLOCK, start / BLOCK + 1, 4);
    kr_put_number(log + 4 * BLOCK + 4, USED, 2);
    for (int i = 0; i < 5; i += i == 1 ? 3 : 1)
        kr_put_number(log + i * BLOCK + 508, kr_crc32c(0, log + i * BLOCK, 508), 4);
    kr_put_number(system + 26, end, 8);
    put("ibdata1", system, sizeof(system));
    assert_int_equal(mkdir(path_of("#innodb_redo"), 0700), 0);
    put("#innodb_redo/#ib_redo0", log, sizeof(log));
}

static int group_up(void **state)
{
    (void)state;
    keyring_fixture_up(&f);
    return 0;
}

static int group_down(void **state)
{
    (void)state;
    keyring_fixture_down(&f);
    return 0;
}

/* Another keyring without keys, and a folder of its own. */
static int up(void **state)
{
    static int number;
    (void)state;
    if (number > 0)
        keyring_fixture_renew(&f);
    snprintf(dir, sizeof(dir), "%s/data%d", f.token.dir, number++);
    assert_int_equal(mkdir(dir, 0700), 0);
    put("binlog.000001", vector_binlog, sizeof(vector_binlog));
    put_text("other", "of no kind");
    return 0;
}

/* --- keyrings and bundles -----------------------------------------------------------------------
 */

static struct kr_file_keys *open_keys(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_file_keys *keys = NULL;
    must(kr_file_keys_new(f.config, &keys, &err), &err);
    return keys;
}

static struct kr_secrets *secrets_of(struct kr_file_keys *keys)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secrets *secrets = NULL;
    must(kr_file_keys_secrets(keys, &secrets, &err), &err);
    return secrets;
}

/* The keyring of the server that wrote the log. */
static struct kr_file_keys *first_keyring(bool resident)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_file_keys *keys = open_keys();
    const struct kr_secret_item item = {.id = VECTOR_BINLOG_MASTER_NAME,
                                        .owner = "",
                                        .type = "AES",
                                        .bytes = vector_binlog_master,
                                        .len = sizeof(vector_binlog_master)};
    must(kr_secrets_import(secrets_of(keys), &item, 1, resident, &err), &err);
    return keys;
}

static void walk_dir(struct kr_walk *ret)
{
    struct kr_error err = KR_ERROR_INIT;
    char *paths[] = {dir};
    must(kr_walk(paths, 1, ret, &err), &err);
}

static struct kr_bundle *empty_bundle(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bundle *bundle = NULL;
    const struct kr_bundle_info info = {.keyring = "test", .scope = KR_BUNDLE_FILES};
    must(kr_bundle_new(&info, &bundle, &err), &err);
    return bundle;
}

/* What became of binlog.000001, which comes before the other files. */
static enum kr_backup_file_result add_keys(struct kr_file_keys *keys, struct kr_bundle *bundle,
                                           struct kr_error *ret_why)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_backup_file files[8] = {0};
    bool interrupted = false;
    KR_WALK walk = {0};
    walk_dir(&walk);
    assert_in_range(walk.count, 2, 8);
    const struct kr_files_options options = {.keys = keys};
    must(kr_backup_add_file_keys(&walk, &options, bundle, files, &interrupted, &err), &err);
    must(kr_bundle_settle(bundle, &err), &err);
    assert_false(interrupted);
    for (size_t i = 0; i < walk.count; i++) {
        if (strcmp(walk.files[i].path, path_of("binlog.000001")) == 0) {
            *ret_why = files[i].why;
            return files[i].result;
        }
        assert_int_equal(files[i].result, KR_BACKUP_FILE_NONE);
    }
    fail_msg("the walk has no binary log");
    return KR_BACKUP_FILE_FAILED;
}

/* A bundle with the log's password, and another keyring without any key. */
static struct kr_bundle *bundle_of_another_keyring(void)
{
    struct kr_error why = KR_ERROR_INIT;
    struct kr_bundle *bundle = empty_bundle();
    struct kr_file_keys *keys = first_keyring(true);
    assert_int_equal(add_keys(keys, bundle, &why), KR_BACKUP_FILE_ADDED);
    kr_file_keys_free(keys);
    keyring_fixture_renew(&f);
    return bundle;
}

static enum kr_file_verdict verify(struct kr_file_keys *keys, enum kr_status *ret_status)
{
    KR_FILE_VERIFIED verified;
    const atomic_bool stop = false;
    atomic_ullong done = 0;
    const struct kr_file_run run = {.keys = keys, .threads = 1, .stop = &stop, .done_bytes = &done};
    kr_file_verify(path_of("binlog.000001"), &run, &verified);
    *ret_status = verified.status;
    return verified.verdict;
}

static enum kr_file_verdict verify_by_bundle(const struct kr_bundle *bundle,
                                             enum kr_status *ret_status)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_file_keys *keys = NULL;
    must(kr_file_keys_of_bundle(bundle, &keys, &err), &err);
    enum kr_file_verdict verdict = verify(keys, ret_status);
    kr_file_keys_free(keys);
    return verdict;
}

/* --- into the bundle ----------------------------------------------------------------------------
 */

static void what_the_token_opens_is_in_the_bundle(void **state)
{
    (void)state;
    struct kr_error why = KR_ERROR_INIT;
    KR_BUNDLE *bundle = empty_bundle();
    struct kr_file_keys *keys = first_keyring(true);
    assert_int_equal(add_keys(keys, bundle, &why), KR_BACKUP_FILE_ADDED);
    assert_int_equal(kr_bundle_count(bundle), 1);
    const struct kr_bundle_record record = kr_bundle_get(bundle, 0);
    assert_int_equal(record.kind, KR_BUNDLE_FILE_KEY);
    assert_int_equal(record.file, KR_BUNDLE_BINLOG);
    assert_string_equal(record.name, VECTOR_BINLOG_MASTER_NAME);
    assert_int_equal(record.len, 32);
    kr_file_keys_free(keys);
}

/* That master key can be in the bundle itself. */
static void a_wrapped_master_key_needs_no_record_of_the_file(void **state)
{
    (void)state;
    struct kr_error why = KR_ERROR_INIT, err = KR_ERROR_INIT;
    enum kr_status status;
    KR_BUNDLE *bundle = empty_bundle();
    struct kr_file_keys *keys = first_keyring(false);
    assert_int_equal(add_keys(keys, bundle, &why), KR_BACKUP_FILE_WRAPPED);
    assert_int_equal(kr_bundle_count(bundle), 0);
    const struct kr_bundle_record record = {.kind = KR_BUNDLE_SECRET,
                                            .name = VECTOR_BINLOG_MASTER_NAME,
                                            .owner = "",
                                            .type = "AES",
                                            .bytes = vector_binlog_master,
                                            .len = sizeof(vector_binlog_master)};
    must(kr_bundle_add(bundle, &record, &err), &err);
    must(kr_bundle_settle(bundle, &err), &err);
    assert_int_equal(verify_by_bundle(bundle, &status), KR_VERDICT_OK);
    kr_file_keys_free(keys);
}

static void a_file_whose_key_is_gone_is_named(void **state)
{
    (void)state;
    struct kr_error why = KR_ERROR_INIT;
    KR_BUNDLE *bundle = empty_bundle();
    struct kr_file_keys *keys = open_keys();
    assert_int_equal(add_keys(keys, bundle, &why), KR_BACKUP_FILE_FAILED);
    assert_int_equal(why.status, KR_NOT_FOUND);
    assert_non_null(strstr(why.text, VECTOR_BINLOG_MASTER_NAME));
    kr_file_keys_free(keys);
}

static void the_bundle_alone_opens_the_file(void **state)
{
    (void)state;
    enum kr_status status;
    KR_BUNDLE *bundle = bundle_of_another_keyring(), *none = empty_bundle();
    uint8_t edited[sizeof(vector_binlog)];
    struct kr_file_keys *other = open_keys();
    assert_int_equal(verify(other, &status), KR_VERDICT_SKIPPED);
    assert_int_equal(verify_by_bundle(none, &status), KR_VERDICT_SKIPPED);
    assert_int_equal(status, KR_NOT_FOUND);
    assert_int_equal(verify_by_bundle(bundle, &status), KR_VERDICT_OK);
    memcpy(edited, vector_binlog, sizeof(edited));
    for (size_t at = 66; at < 66 + 32; at++) { /* what is sealed */
        edited[at] ^= 1;
        put("binlog.000001", edited, sizeof(edited));
        assert_int_not_equal(verify_by_bundle(bundle, &status), KR_VERDICT_OK);
        edited[at] ^= 1;
    }
    kr_file_keys_free(other);
}

/* --- out of it ----------------------------------------------------------------------------------
 */

static struct kr_mysql_restored restore(const struct kr_bundle *bundle, struct kr_file_keys *to,
                                        bool dry_run)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_mysql_restored restored;
    KR_WALK walk = {0};
    walk_dir(&walk);
    const struct kr_mysql_restore how = {
        .walk = &walk, .bundle = bundle, .to = to, .resident = true, .dry_run = dry_run};
    must(kr_mysql_restore(&how, &restored, &err), &err);
    return restored;
}

/* The server's record of its current key. */
static void assert_current(struct kr_file_keys *keys, const char *name, uint8_t number)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secret secret = {0};
    uint8_t want[16] = {number};
    must(kr_secrets_fetch(secrets_of(keys), name, "", &secret, &err), &err);
    assert_int_equal(secret.len, sizeof(want));
    assert_memory_equal(secret.bytes, want, sizeof(want));
    assert_string_equal(secret.type, "AES");
    kr_secret_free(secret.bytes);
}

static void assert_body_unchanged(void)
{
    uint8_t bytes[sizeof(vector_binlog) + 1];
    FILE *file = fopen(path_of("binlog.000001"), "r");
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, sizeof(bytes), file), sizeof(vector_binlog));
    assert_int_equal(fclose(file), 0);
    assert_memory_equal(bytes + 512, vector_binlog + 512, sizeof(vector_binlog) - 512);
    assert_memory_not_equal(bytes, vector_binlog, 512);
}

static void it_is_sealed_by_a_new_key_of_its_server(void **state)
{
    (void)state;
    enum kr_status status;
    KR_BUNDLE *bundle = bundle_of_another_keyring();
    put_clean_end();
    put_text("auto.cnf", "[auto]\nserver-uuid=" SERVER "\n");
    put_text("binlog.index", "./binlog.000001\n");
    struct kr_file_keys *to = open_keys();
    struct kr_mysql_restored restored = restore(bundle, to, true);
    assert_int_equal(restored.failed, 0);
    assert_null(restored.foreign_index);
    assert_int_equal(verify(to, &status), KR_VERDICT_SKIPPED);
    kr_mysql_restored_free(&restored);
    restored = restore(bundle, to, false);
    assert_int_equal(restored.done, 1);
    assert_string_equal(restored.masters.binlog, "MySQLReplicationKey_" SERVER "_2");
    assert_string_equal(restored.masters.innodb, "");
    kr_mysql_restored_free(&restored);
    assert_int_equal(verify(to, &status), KR_VERDICT_OK);
    assert_body_unchanged();
    assert_current(to, "MySQLReplicationKey_" SERVER, 2);
    assert_current(to, "MySQLReplicationKey_" SERVER "_last_purged", 1);
    restored = restore(bundle, to, false);
    assert_int_equal(restored.done, 0);
    assert_int_equal(restored.current, 1);
    kr_mysql_restored_free(&restored);
    put("binlog.000001", vector_binlog, sizeof(vector_binlog)); /* restored once more */
    restored = restore(bundle, to, false);
    assert_int_equal(restored.done, 1);
    assert_string_equal(restored.masters.binlog, "MySQLReplicationKey_" SERVER "_2");
    kr_mysql_restored_free(&restored);
    kr_file_keys_free(to);
}

static void a_directory_without_a_server_gets_one(void **state)
{
    (void)state;
    char text[128] = "";
    KR_BUNDLE *bundle = bundle_of_another_keyring();
    put_clean_end();
    put_text("binlog.index", "/var/lib/mysql/binlog.000001\n");
    struct kr_file_keys *to = open_keys();
    struct kr_mysql_restored restored = restore(bundle, to, false);
    assert_int_equal(restored.done, 1);
    assert_true(restored.masters.new_uuid);
    assert_string_equal(restored.foreign_index, path_of("binlog.index"));
    FILE *file = fopen(path_of("auto.cnf"), "r");
    assert_non_null(file);
    assert_in_range(fread(text, 1, sizeof(text) - 1, file), 40, sizeof(text) - 1);
    assert_int_equal(fclose(file), 0);
    assert_non_null(strstr(text, restored.masters.uuid));
    assert_non_null(strstr(restored.masters.binlog, restored.masters.uuid));
    kr_mysql_restored_free(&restored);
    kr_file_keys_free(to);
}

/* Without the bundle's key nothing is written, and no key made. */
static void a_foreign_bundle_changes_nothing(void **state)
{
    (void)state;
    struct kr_secret_name *names = NULL;
    size_t count;
    struct kr_error err = KR_ERROR_INIT;
    KR_BUNDLE *bundle = empty_bundle();
    put_clean_end();
    struct kr_file_keys *to = open_keys();
    struct kr_mysql_restored restored = restore(bundle, to, false);
    assert_int_equal(restored.failed, 1);
    assert_int_equal(restored.done, 0);
    must(kr_secrets_names(secrets_of(to), &names, &count, &err), &err);
    assert_int_equal(count, 0);
    kr_secret_names_free(names, count);
    assert_int_not_equal(access(path_of("auto.cnf"), F_OK), 0);
    kr_mysql_restored_free(&restored);
    kr_file_keys_free(to);
}

/* --- names --------------------------------------------------------------------------------------
 */

static struct kr_mysql_sealed sealed_by(const char *master)
{
    struct kr_mysql_sealed sealed = {.kind = KR_FILE_MYSQL_TABLESPACE};
    snprintf(sealed.master, sizeof(sealed.master), "%s", master);
    return sealed;
}

/* Above the numbers of files and keyring, and of this server alone. */
static void numbers_are_never_used_twice(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_mysql_masters masters;
    struct kr_file_keys *keys = open_keys();
    const struct kr_mysql_sealed own = sealed_by("INNODBKey-" SERVER "-4"),
                                 other = sealed_by("INNODBKey-" OTHER "-9");
    put_text("auto.cnf", "[auto]\nserver-uuid=" SERVER "\n");
    must(kr_mysql_masters_server(dir, &masters, &err), &err);
    kr_mysql_masters_see(&masters, &own);
    kr_mysql_masters_see(&masters, &other);
    must(kr_mysql_masters_choose(&masters, keys, true, true, &err), &err);
    assert_string_equal(masters.innodb, "INNODBKey-" SERVER "-5");
    assert_string_equal(masters.binlog, "MySQLReplicationKey_" SERVER "_1");
    must(kr_mysql_masters_make(&masters, keys, false, &err), &err);
    must(kr_mysql_masters_server(dir, &masters, &err), &err);
    kr_mysql_masters_see(&masters, &own);
    must(kr_mysql_masters_choose(&masters, keys, true, true, &err), &err);
    assert_string_equal(masters.innodb, "INNODBKey-" SERVER "-6");
    assert_string_equal(masters.binlog, "MySQLReplicationKey_" SERVER "_1");
    assert_false(masters.make_binlog);
    kr_file_keys_free(keys);
}

/* A file that only the keyring opens was sealed by the run that did not end: its key goes on. */
static void an_interrupted_restore_goes_on_with_its_key(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_mysql_masters masters;
    struct kr_file_keys *keys = open_keys();
    const struct kr_mysql_sealed old = sealed_by("INNODBKey-" SERVER "-4"),
                                 done = sealed_by("INNODBKey-" SERVER "-5");
    put_text("auto.cnf", "[auto]\nserver-uuid=" SERVER "\n");
    must(kr_mysql_masters_server(dir, &masters, &err), &err);
    kr_mysql_masters_see(&masters, &old);
    must(kr_mysql_masters_choose(&masters, keys, true, false, &err), &err);
    must(kr_mysql_masters_make(&masters, keys, false, &err), &err);
    must(kr_mysql_masters_server(dir, &masters, &err), &err);
    kr_mysql_masters_see(&masters, &old);
    kr_mysql_masters_see_sealed(&masters, &done);
    must(kr_mysql_masters_choose(&masters, keys, true, false, &err), &err);
    assert_string_equal(masters.innodb, "INNODBKey-" SERVER "-5");
    assert_false(masters.make_innodb);
    assert_string_equal(masters.binlog, "");
    kr_file_keys_free(keys);
}

static void an_auto_cnf_without_uuid_is_no_server(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "[auto]\n", "[auto]\nserver-uuid=\n",
                                        "[auto]\nserver-uuid=11111111-2222-3333-4444-55555555555"};
    struct kr_mysql_masters masters;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct kr_error err = KR_ERROR_INIT;
        put_text("auto.cnf", texts[i]);
        assert_int_equal(kr_mysql_masters_server(dir, &masters, &err), KR_INTEGRITY);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_token_opens_is_in_the_bundle),
        TEST(a_wrapped_master_key_needs_no_record_of_the_file),
        TEST(a_file_whose_key_is_gone_is_named),
        TEST(the_bundle_alone_opens_the_file),
        TEST(it_is_sealed_by_a_new_key_of_its_server),
        TEST(a_directory_without_a_server_gets_one),
        TEST(a_foreign_bundle_changes_nothing),
        TEST(numbers_are_never_used_twice),
        TEST(an_interrupted_restore_goes_on_with_its_key),
        TEST(an_auto_cnf_without_uuid_is_no_server),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
