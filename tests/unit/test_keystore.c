/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keystore in good order: what is made, numbered, listed and refused. */
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hex.h"
#include "keystore_fixture.h"
#include "vectors.h"

static void assert_says(const struct kr_error *err, const char *text)
{
    if (!strstr(err->text, text) && !strstr(err->hint, text))
        fail_msg("\"%s\" is neither in \"%s\" nor in \"%s\"", text, err->text, err->hint);
}

/* --- making ---------------------------------------------------------------------------------- */

static void test_made_and_found_again(void **state)
{
    (void)state;
    struct stat st;
    char *dump;
    store_make(&store, 2, 2);
    assert_int_equal(stat(store.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1);
    struct kr_keystore *keystore = store_open(&store, false);
    assert_memory_equal(kr_keystore_uuid(keystore), store.uuid, sizeof(store.uuid));
    assert_string_equal(kr_keystore_path(keystore), store.path);
    dump = store_must_dump(keystore);
    assert_non_null(strstr(dump, "master p11keyring:test:1 test 1 1 1700000000 0 a1b2\n"));
    assert_non_null(strstr(dump, "version mariadb/2/ 2 aes-cbc 0 1700000000 "));
    free(dump);
    kr_keystore_close(keystore);
}

/* The handle goes on after the commit, with the journal under the keystore's own name. */
static void test_new_handle_goes_on(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    uint32_t version = 0;
    MUST(store_create(&store, &keystore, &err), &err);
    MUST(kr_keystore_commit_new(keystore, &err), &err);
    MUST(store_rotate(keystore, "1", 1, &version, &err), &err);
    assert_int_equal(version, 1);
    kr_keystore_close(keystore);
}

static unsigned count_files(void)
{
    char command[128], text[16] = "";
    snprintf(command, sizeof(command), "ls -A %s | wc -l", store.dir);
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    assert_non_null(fgets(text, sizeof(text), pipe));
    pclose(pipe);
    return (unsigned)atoi(text);
}

static void test_uncommitted_leaves_nothing(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    MUST(store_create(&store, &keystore, &err), &err);
    assert_int_equal(count_files(), 1);
    assert_int_equal(access(store.path, F_OK), -1);
    kr_keystore_close(keystore);
    assert_int_equal(count_files(), 0);
}

static void check_refused(enum kr_status status, const struct kr_error *err)
{
    size_t len = 0;
    assert_int_equal(status, KR_REFUSED);
    assert_says(err, "exists already");
    uint8_t *bytes = store_read_file(store.path, &len);
    assert_int_equal(len, 5);
    assert_memory_equal(bytes, "other", 5);
    free(bytes);
    assert_int_equal(count_files(), 1);
}

static void test_existing_file_is_never_replaced(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    store_write_file(store.path, "other", 5);
    check_refused(store_create(&store, &keystore, &err), &err);
    unlink(store.path);
    /* It appears while ours is built. */
    MUST(store_create(&store, &keystore, &err), &err);
    store_write_file(store.path, "other", 5);
    enum kr_status status = kr_keystore_commit_new(keystore, &err);
    kr_keystore_close(keystore);
    check_refused(status, &err);
}

static void test_leftovers_do_not_block(void **state)
{
    (void)state;
    char leftover[128];
    snprintf(leftover, sizeof(leftover), "%s.new-abcdef", store.path);
    store_write_file(leftover, "half", 4);
    store_make(&store, 1, 1);
    kr_keystore_close(store_open(&store, true));
}

static void test_commit_needs_a_manifest(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore_options options = store_options(&store, true);
    struct kr_keystore *keystore = NULL;
    MUST(kr_keystore_create(&options, store.uuid, &keystore, &err), &err);
    assert_int_equal(kr_keystore_commit_new(keystore, &err), KR_INTERNAL);
    assert_says(&err, "manifest envelope");
    MUST(kr_keystore_set_manifest_envelope(keystore, (const uint8_t *)"x", 1, &err), &err);
    assert_int_equal(kr_keystore_commit_new(keystore, &err), KR_INTERNAL);
    assert_says(&err, "manifest key");
    kr_keystore_close(keystore);
    assert_int_equal(count_files(), 0);
}

static void test_write_needs_a_manifest_key(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore_options options = store_options(&store, true);
    struct kr_keystore *keystore = NULL;
    store_make(&store, 1, 1);
    MUST(kr_keystore_open(&options, &keystore, &err), &err);
    assert_int_equal(kr_keystore_begin_write(keystore, &err), KR_INTERNAL);
    assert_int_equal(kr_keystore_verify(keystore, &err), KR_INTERNAL);
    kr_keystore_close(keystore);
}

static void test_reader_cannot_write(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    store_make(&store, 1, 1);
    struct kr_keystore *keystore = store_open(&store, false);
    assert_int_equal(kr_keystore_begin_write(keystore, &err), KR_INTERNAL);
    assert_int_equal(kr_keystore_set_disabled(keystore, "mariadb", "1", "", true, &err),
                     KR_INTERNAL);
    kr_keystore_close(keystore);
}

/* --- numbers --------------------------------------------------------------------------------- */

static void test_numbers_rise_by_the_step(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    store_make(&store, 0, 0);
    struct kr_keystore *keystore = store_open(&store, true);
    MUST(store_rotate(keystore, "1", 5, &version, &err), &err);
    assert_int_equal(version, 1); /* the first is 1 whatever the step */
    MUST(store_rotate(keystore, "1", 5, &version, &err), &err);
    assert_int_equal(version, 6);
    MUST(store_rotate(keystore, "1", 1, &version, &err), &err);
    assert_int_equal(version, 7);
    MUST(store_rotate(keystore, "1", KR_KEY_VERSION_MAX - 7, &version, &err), &err);
    assert_int_equal(version, KR_KEY_VERSION_MAX);
    version = 99;
    assert_int_equal(store_rotate(keystore, "1", 1, &version, &err), KR_USAGE);
    assert_int_equal(store_rotate(keystore, "2", 0, &version, &err), KR_USAGE);
    assert_int_equal(version, 99);
    kr_keystore_close(keystore);
}

/* A number that was rolled back was never given to anybody; one that was committed is gone. */
static void test_numbers_after_destruction(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    char *dump;
    store_make(&store, 1, 4);
    struct kr_keystore *keystore = store_open(&store, true);
    MUST(kr_keystore_begin_write(keystore, &err), &err);
    MUST(kr_keystore_destroy_key(keystore, "mariadb", "1", "", &err), &err);
    MUST(kr_keystore_commit(keystore, &err), &err);
    dump = store_must_dump(keystore);
    assert_null(strstr(dump, "version "));
    assert_non_null(strstr(dump, "key mariadb/1/ 0 4 "));
    free(dump);
    kr_keystore_close(keystore);
    keystore = store_open(&store, true);
    MUST(store_rotate(keystore, "1", 1, &version, &err), &err);
    assert_int_equal(version, 5);
    kr_keystore_close(keystore);
}

static void test_used_numbers_are_refused(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_version_row row = {.ns = "mariadb",
                                 .id = "1",
                                 .owner = "",
                                 .cipher = "aes-cbc",
                                 .envelope = store.uuid,
                                 .envelope_len = sizeof(store.uuid)};
    store_make(&store, 1, 4);
    struct kr_keystore *keystore = store_open(&store, true);
    MUST(kr_keystore_begin_write(keystore, &err), &err);
    for (row.version = 0; row.version < 7; row.version++) {
        assert_int_equal(kr_keystore_add_version(keystore, &row, &err), KR_REFUSED);
        assert_says(&err, "used before, or was never given out");
    }
    MUST(kr_keystore_destroy_key(keystore, "mariadb", "1", "", &err), &err);
    row.version = 4;
    assert_int_equal(kr_keystore_add_version(keystore, &row, &err), KR_REFUSED);
    kr_keystore_close(keystore);
}

static void test_disabled_key_gets_no_number(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    char *dump;
    store_make(&store, 2, 1);
    struct kr_keystore *keystore = store_open(&store, true);
    MUST(kr_keystore_begin_write(keystore, &err), &err);
    MUST(kr_keystore_set_disabled(keystore, "mariadb", "2", "", true, &err), &err);
    assert_int_equal(kr_keystore_set_disabled(keystore, "mariadb", "3", "", true, &err),
                     KR_NOT_FOUND);
    assert_int_equal(kr_keystore_destroy_key(keystore, "mariadb", "3", "", &err), KR_NOT_FOUND);
    MUST(kr_keystore_commit(keystore, &err), &err);
    assert_int_equal(store_rotate(keystore, "2", 1, &version, &err), KR_REFUSED);
    MUST(store_rotate(keystore, "1", 1, &version, &err), &err);
    dump = store_must_dump(keystore);
    assert_non_null(strstr(dump, "version mariadb/2/ 1 aes-cbc 1 ")); /* still there, marked */
    free(dump);
    MUST(kr_keystore_begin_write(keystore, &err), &err);
    MUST(kr_keystore_set_disabled(keystore, "mariadb", "2", "", false, &err), &err);
    MUST(kr_keystore_commit(keystore, &err), &err);
    MUST(store_rotate(keystore, "2", 1, &version, &err), &err);
    assert_int_equal(version, 2);
    kr_keystore_close(keystore);
}

static void test_names_out_of_range(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    char longest[514];
    store_make(&store, 0, 0);
    struct kr_keystore *keystore = store_open(&store, true);
    memset(longest, 'k', sizeof(longest));
    longest[513] = '\0';
    assert_int_equal(store_rotate(keystore, longest, 1, &version, &err), KR_USAGE);
    longest[512] = '\0';
    MUST(store_rotate(keystore, longest, 1, &version, &err), &err);
    assert_int_equal(store_rotate(keystore, "", 1, &version, &err), KR_USAGE);
    kr_keystore_close(keystore);
}

/* --- lists ----------------------------------------------------------------------------------- */

static enum kr_status append_id(const struct kr_key_row *row, void *context, struct kr_error *err)
{
    (void)err;
    strcat(strcat(context, row->id), " ");
    return KR_OK;
}

static void test_ids_in_numeric_order(void **state)
{
    (void)state;
    static const char *const ids[] = {"b", "100", "2", "4294967295", "aa", "10", "1", "2x"};
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    char seen[128] = "";
    store_make(&store, 0, 0);
    struct kr_keystore *keystore = store_open(&store, true);
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        MUST(store_rotate(keystore, ids[i], 1, &version, &err), &err);
    MUST(kr_keystore_each_key(keystore, "mariadb", append_id, seen, &err), &err);
    assert_string_equal(seen, "1 2 10 100 4294967295 2x aa b ");
    MUST(kr_keystore_each_key(keystore, "mysql", append_id, seen, &err), &err);
    assert_string_equal(seen, "1 2 10 100 4294967295 2x aa b ");
    kr_keystore_close(keystore);
}

static enum kr_status stop_at_second(const struct kr_version_row *row, void *context,
                                     struct kr_error *err)
{
    unsigned *calls = context;
    (void)row;
    return ++*calls == 2 ? kr_fail(err, KR_TOKEN_UNAVAILABLE, "enough") : KR_OK;
}

static void test_visitor_ends_the_walk(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    unsigned calls = 0;
    store_make(&store, 3, 3);
    struct kr_keystore *keystore = store_open(&store, false);
    assert_int_equal(kr_keystore_each_version(keystore, NULL, stop_at_second, &calls, &err),
                     KR_TOKEN_UNAVAILABLE);
    assert_int_equal(calls, 2);
    assert_string_equal(err.text, "enough");
    kr_keystore_close(keystore);
}

static enum kr_status count_version(const struct kr_version_row *row, void *context,
                                    struct kr_error *err)
{
    (void)err;
    *(unsigned *)context += row->envelope_len == 180;
    return KR_OK;
}

static void test_walk_of_10000_versions_streams(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    unsigned count = 0;
    store_make(&store, 100, 100);
    struct kr_keystore *keystore = store_open(&store, false);
    sqlite3_memory_highwater(1);
    MUST(kr_keystore_verify(keystore, &err), &err);
    MUST(kr_keystore_each_version(keystore, NULL, count_version, &count, &err), &err);
    assert_int_equal(count, 10000);
    assert_in_range(sqlite3_memory_highwater(0), 1, 2 * 1024 * 1024);
    kr_keystore_close(keystore);
}

/* --- master keys ----------------------------------------------------------------------------- */

/* Field by field: padding is nobody's. */
static void assert_same_master(const struct kr_master_row *a, const struct kr_master_row *b)
{
    assert_int_equal(a->id.len, b->id.len);
    assert_memory_equal(a->id.bytes, b->id.bytes, a->id.len);
    assert_string_equal(a->label, b->label);
    assert_string_equal(a->token, b->token);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->mechanism, b->mechanism);
    assert_int_equal(a->created, b->created);
    assert_int_equal(a->wraps, b->wraps);
}

static void add_master(const struct kr_master_row *row)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = store_open(&store, true);
    MUST(kr_keystore_begin_write(keystore, &err), &err);
    MUST(kr_keystore_add_master(keystore, row, &err), &err);
    MUST(kr_keystore_commit(keystore, &err), &err);
    kr_keystore_close(keystore);
}

static void test_new_master_makes_the_other_of_its_token_old(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row *rows = NULL;
    size_t count = 0;
    struct kr_master_row added = {.id = {.len = 3, .bytes = {1, 2, 3}},
                                  .label = "second",
                                  .token = "other",
                                  .state = KR_MASTER_CURRENT,
                                  .mechanism = KR_WRAP_AES_KWP,
                                  .created = 1800000000,
                                  .wraps = 7};
    store_make(&store, 0, 0);
    for (int i = 0; i < 2; i++) {
        add_master(&added);
        struct kr_keystore *keystore = store_open(&store, false);
        MUST(kr_keystore_list_masters(keystore, &rows, &count, &err), &err);
        kr_keystore_close(keystore);
        assert_int_equal(count, 2 + i);
        assert_string_equal(rows[0].label, "p11keyring:test:1");
        assert_int_equal(rows[0].state, i == 0 ? KR_MASTER_CURRENT : KR_MASTER_OLD);
        assert_same_master(&rows[1 + i], &added);
        free(rows);
        strcpy(added.token, "test");
        added.id.bytes[0]++;
        added.created++;
    }
}

static void test_removed_master_is_gone(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row *rows = NULL;
    const struct kr_object_id id = {.len = 2, .bytes = {0xa1, 0xb2}};
    size_t count = 1;
    store_make(&store, 0, 0);
    struct kr_keystore *keystore = store_open(&store, true);
    assert_int_equal(kr_keystore_remove_master(keystore, &id, &err), KR_INTERNAL);
    MUST(kr_keystore_begin_write(keystore, &err), &err);
    MUST(kr_keystore_remove_master(keystore, &id, &err), &err);
    assert_int_equal(kr_keystore_remove_master(keystore, &id, &err), KR_NOT_FOUND);
    MUST(kr_keystore_commit(keystore, &err), &err);
    MUST(kr_keystore_list_masters(keystore, &rows, &count, &err), &err);
    assert_int_equal(count, 0);
    free(rows);
    kr_keystore_close(keystore);
}

static void test_wraps_are_counted_to_the_limit(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row row = {.id = {.len = 1, .bytes = {9}},
                                .label = "worn",
                                .token = "test",
                                .state = KR_MASTER_CURRENT,
                                .mechanism = KR_WRAP_AES_GCM,
                                .wraps = (UINT64_C(1) << 32) - 1};
    const struct kr_object_id id = row.id;
    store_make(&store, 0, 0);
    struct kr_keystore *keystore = store_open(&store, true);
    MUST(kr_keystore_begin_write(keystore, &err), &err);
    MUST(kr_keystore_add_master(keystore, &row, &err), &err);
    MUST(kr_keystore_count_wrap(keystore, &id, &err), &err);
    assert_int_equal(kr_keystore_count_wrap(keystore, &id, &err), KR_REFUSED);
    assert_says(&err, "p11keyring master rotate");
    kr_keystore_close(keystore);
}

/* --- changes --------------------------------------------------------------------------------- */

static void test_change_counter(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint64_t before = 0, after = 0, own = 0;
    uint32_t version = 0;
    store_make(&store, 1, 1);
    struct kr_keystore *one = store_open(&store, true), *two = store_open(&store, false);
    MUST(kr_keystore_change_counter(one, &own, &err), &err);
    MUST(kr_keystore_change_counter(two, &before, &err), &err);
    MUST(kr_keystore_change_counter(two, &after, &err), &err);
    assert_int_equal(before, after);
    MUST(store_rotate(one, "1", 1, &version, &err), &err);
    MUST(kr_keystore_change_counter(two, &after, &err), &err);
    assert_int_not_equal(before, after);
    MUST(kr_keystore_change_counter(one, &after, &err), &err);
    assert_int_not_equal(own, after);
    kr_keystore_close(one);
    kr_keystore_close(two);
}

static void test_replaced_file_is_seen(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint64_t counter = 0;
    size_t len = 0;
    char other[128];
    store_make(&store, 1, 1);
    snprintf(other, sizeof(other), "%s.copy", store.path);
    uint8_t *bytes = store_read_file(store.path, &len);
    store_write_file(other, bytes, len);
    struct kr_keystore *keystore = store_open(&store, true);
    MUST(kr_keystore_change_counter(keystore, &counter, &err), &err);
    assert_int_equal(rename(other, store.path), 0);
    assert_int_equal(kr_keystore_change_counter(keystore, &counter, &err), KR_IO);
    assert_int_equal(kr_keystore_begin_read(keystore, &err), KR_IO);
    assert_int_equal(kr_keystore_begin_write(keystore, &err), KR_IO);
    assert_says(&err, "replaced or removed");
    kr_keystore_close(keystore);
    kr_keystore_close(store_open(&store, true));
    free(bytes);
}

/* The bytes are put back into the same file, so that only its content tells. */
static void test_older_content_is_seen(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    size_t len = 0;
    store_make(&store, 1, 1);
    uint8_t *bytes = store_read_file(store.path, &len);
    struct kr_keystore *keystore = store_open(&store, true);
    MUST(store_rotate(keystore, "1", 1, &version, &err), &err);
    MUST(kr_keystore_verify(keystore, &err), &err);
    store_write_file(store.path, bytes, len);
    assert_int_equal(kr_keystore_verify(keystore, &err), KR_INTEGRITY);
    assert_says(&err, "went back from generation 2 to 1");
    assert_int_equal(store_rotate(keystore, "1", 1, &version, &err), KR_INTEGRITY);
    kr_keystore_close(keystore);
    free(bytes);
}

/* --- the document ---------------------------------------------------------------------------- */

/* A keystore with the rows of docs/FORMAT.md gets the MAC that the document says. */
static void test_manifest_vector(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    const char *const key = VECTOR_MANIFEST_KEY;
    char sql[4096];
    assert_true(kr_hex_decode(key, strlen(key), store.manifest_key));
    store_make(&store, 0, 0);
    snprintf(
        sql, sizeof(sql),
        "DELETE FROM masters;"
        "UPDATE keyring SET uuid = x'%s', name = 'default', created = 1700000000;"
        "UPDATE manifest SET generation = 1, envelope = x'%s', audit_seq = 1, "
        "audit_hash = x'%s', mac = x'%s';"
        "INSERT INTO masters VALUES (x'%s', 'p11keyring:default:1', 'hsm-1', 1, 1, 1700000000, "
        "2);"
        "INSERT INTO keys VALUES ('mariadb', '1', '', 0, 1, 1, 1700000001);"
        "INSERT INTO versions VALUES ('mariadb', '1', '', 1, 'aes-cbc', 1700000001, 0, x'%s');",
        VECTOR_UUID, VECTOR_MANIFEST_ENVELOPE, VECTOR_AUDIT_HASH, VECTOR_MANIFEST_MAC, VECTOR_GCM_MASTER_ID,
        VECTOR_GCM_ENVELOPE);
    store_edit(&store, sql);
    struct kr_keystore_options options = store_options(&store, false);
    struct kr_keystore *keystore = NULL;
    options.keyring = "default";
    MUST(kr_keystore_open(&options, &keystore, &err), &err);
    MUST(kr_keystore_set_manifest_key(keystore, store.manifest_key, &err), &err);
    MUST(kr_keystore_verify(keystore, &err), &err);
    kr_keystore_close(keystore);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_made_and_found_again),
        STORE_TEST(test_new_handle_goes_on),
        STORE_TEST(test_uncommitted_leaves_nothing),
        STORE_TEST(test_existing_file_is_never_replaced),
        STORE_TEST(test_leftovers_do_not_block),
        STORE_TEST(test_commit_needs_a_manifest),
        STORE_TEST(test_write_needs_a_manifest_key),
        STORE_TEST(test_reader_cannot_write),
        STORE_TEST(test_numbers_rise_by_the_step),
        STORE_TEST(test_numbers_after_destruction),
        STORE_TEST(test_used_numbers_are_refused),
        STORE_TEST(test_disabled_key_gets_no_number),
        STORE_TEST(test_names_out_of_range),
        STORE_TEST(test_ids_in_numeric_order),
        STORE_TEST(test_visitor_ends_the_walk),
        STORE_TEST(test_walk_of_10000_versions_streams),
        STORE_TEST(test_new_master_makes_the_other_of_its_token_old),
        STORE_TEST(test_removed_master_is_gone),
        STORE_TEST(test_wraps_are_counted_to_the_limit),
        STORE_TEST(test_change_counter),
        STORE_TEST(test_replaced_file_is_seen),
        STORE_TEST(test_older_content_is_seen),
        STORE_TEST(test_manifest_vector),
    };
    return cmocka_run_group_tests_name("keystore", tests, NULL, NULL);
}
