/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Keystores that are not what they should be: missing, cut, flipped, foreign, newer, edited by
 * other hands. Each is refused with a text that names the fix, or reads exactly as before.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "keystore_fixture.h"

static void assert_opens_not(enum kr_status expected, const char *text, const char *hint)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    assert_int_equal(store_try_open(&store, false, &keystore, &err), expected);
    assert_null(keystore);
    if (!strstr(err.text, text) || !strstr(err.hint, hint))
        fail_msg("not \"%s\" / \"%s\" but \"%s\" / \"%s\"", text, hint, err.text, err.hint);
}

/* Opens and reads all there is. */
static enum kr_status try_dump(char **ret, struct kr_error *err)
{
    struct kr_keystore *keystore = NULL;
    KR_TRY(store_try_open(&store, false, &keystore, err));
    enum kr_status status = store_dump(keystore, ret, err);
    kr_keystore_close(keystore);
    return status;
}

static char *must_dump(void)
{
    struct kr_error err = KR_ERROR_INIT;
    char *dump = NULL;
    MUST(try_dump(&dump, &err), &err);
    return dump;
}

/* --- files ----------------------------------------------------------------------------------- */

static void test_missing(void **state)
{
    (void)state;
    assert_opens_not(KR_NOT_FOUND, store.path, "p11keyring master create");
    assert_opens_not(KR_NOT_FOUND, store.path, "restore it from a backup");
    assert_int_equal(access(store.path, F_OK), -1); /* none was made */
}

static void test_not_a_keystore(void **state)
{
    (void)state;
    store_write_file(store.path, "", 0);
    assert_opens_not(KR_INTEGRITY, "application id", "backup");
    char text[500];
    memset(text, 'x', sizeof(text));
    store_write_file(store.path, text, sizeof(text));
    for (off_t len = sizeof(text); len > 0; len--) {
        assert_int_equal(truncate(store.path, len), 0);
        assert_opens_not(KR_INTEGRITY, store.path, "backup");
    }
}

static void test_somebody_elses_database(void **state)
{
    (void)state;
    store_edit(&store, "CREATE TABLE keyring (uuid BLOB, name TEXT)");
    assert_opens_not(KR_INTEGRITY, "application id", "backup");
}

static void test_another_keyring(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore_options options = store_options(&store, true);
    struct kr_keystore *keystore = NULL;
    store_make(&store, 1, 1);
    options.keyring = "production";
    assert_int_equal(kr_keystore_open(&options, &keystore, &err), KR_INTEGRITY);
    assert_non_null(strstr(err.text, "\"test\""));
    assert_non_null(strstr(err.text, "\"production\""));
}

static void test_newer_format(void **state)
{
    (void)state;
    store_make(&store, 1, 1);
    store_edit(&store, "CREATE TABLE more (x); PRAGMA user_version = 7");
    assert_opens_not(KR_INTEGRITY, "has format 7, this program knows format 1", "or a newer one");
}

static void test_not_a_file(void **state)
{
    (void)state;
    assert_int_equal(mkdir(store.path, 0700), 0);
    assert_opens_not(KR_CONFIG, "not a regular file", "keystore in [keyring]");
}

static void test_writable_by_others(void **state)
{
    (void)state;
    store_make(&store, 1, 1);
    chmod(store.path, 0620);
    assert_opens_not(KR_CONFIG, "mode 0620", "chmod go-w");
    chmod(store.path, 0602);
    assert_opens_not(KR_CONFIG, "mode 0602", "chmod go-w");
    chmod(store.path, 0640);
    free(must_dump());
}

/* --- other hands ----------------------------------------------------------------------------- */

static void test_foreign_schema(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "CREATE TABLE more (x)",
        "CREATE VIEW zoo AS SELECT * FROM keys",
        "CREATE TRIGGER t AFTER INSERT ON keys BEGIN DELETE FROM versions; END",
        "CREATE INDEX zoo ON keys (created)",
        "ALTER TABLE keys RENAME COLUMN created TO made",
        "ALTER TABLE versions ADD COLUMN note TEXT",
        "DROP TABLE versions",
        "ANALYZE",
    };
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        unlink(store.path);
        store_make(&store, 1, 1);
        store_edit(&store, edits[i]);
        assert_opens_not(KR_INTEGRITY, "tables", "backup");
    }
}

static void test_write_ahead_log(void **state)
{
    (void)state;
    store_make(&store, 1, 1);
    store_edit(&store, "PRAGMA journal_mode = WAL");
    assert_opens_not(KR_INTEGRITY, "journal mode wal", "PRAGMA journal_mode=DELETE");
    store_edit(&store, "PRAGMA journal_mode = DELETE");
    free(must_dump());
}

/* Rows that are well-formed and not ours: only the manifest can tell, and no commit may bless
 * them. */
static void assert_edit_is_seen(const char *sql)
{
    struct kr_error err = KR_ERROR_INIT;
    size_t len = 0, after_len = 0;
    uint32_t version = 0;
    store_edit(&store, sql);
    uint8_t *before = store_read_file(store.path, &len);
    struct kr_keystore *keystore = store_open(&store, true);
    if (kr_keystore_verify(keystore, &err) != KR_INTEGRITY)
        fail_msg("not seen: %s", sql);
    assert_non_null(strstr(err.text, "manifest"));
    assert_int_equal(store_rotate(keystore, "1", 1, &version, &err), KR_INTEGRITY);
    kr_keystore_close(keystore);
    uint8_t *after = store_read_file(store.path, &after_len);
    assert_int_equal(len, after_len);
    assert_memory_equal(before, after, len);
    free(before);
    free(after);
}

#define SWAP_ENVELOPES                                                                             \
    "UPDATE versions AS a SET envelope = b.envelope FROM versions AS b WHERE "                     \
    "a.id = '1' AND b.id = '1' AND a.version IN (1, 2) AND a.version + b.version = 3"

static void test_edited_rows(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "UPDATE keys SET high_water = 3, last_stored = 3 WHERE id = '1'",
        "UPDATE keys SET last_stored = 2 WHERE id = '1'",
        "UPDATE keys SET disabled = 1 WHERE id = '2'",
        "UPDATE keys SET created = created + 1 WHERE id = '2'",
        "DELETE FROM versions WHERE id = '2' AND version = 4",
        "DELETE FROM versions WHERE id = '1'",
        "DELETE FROM versions WHERE id = '1'; DELETE FROM keys WHERE id = '1'",
        "UPDATE versions SET cipher = 'aes-ctr' WHERE version = 2",
        "UPDATE versions SET version = 9 WHERE version = 2 AND id = '1'",
        "UPDATE versions SET owner = 'x'; UPDATE keys SET owner = 'x'",
        SWAP_ENVELOPES,
        "UPDATE masters SET wraps = 0, state = 2",
        "UPDATE masters SET mechanism = 2",
        "UPDATE masters SET token = 'other'",
        "INSERT INTO masters VALUES (x'aa', 'mine', 'hsm-1', 2, 1, 0, 0)",
        "INSERT INTO keys VALUES ('mysql', 'k', '', 0, 1, 0, 0)",
        "UPDATE manifest SET generation = generation + 1",
        "UPDATE manifest SET envelope = x'00'",
        "UPDATE manifest SET audit_seq = audit_seq + 1",
        "UPDATE manifest SET audit_hash = randomblob(32)",
        "UPDATE manifest SET mac = zeroblob(32)",
        "DELETE FROM manifest",
        "UPDATE keyring SET uuid = zeroblob(16)",
    };
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        unlink(store.path);
        store_make(&store, 3, 4);
        free(must_dump());
        assert_edit_is_seen(edits[i]);
    }
}

/* A row that is put back as it was verifies again: it is the rows that count, not the bytes. */
static void test_edit_undone(void **state)
{
    (void)state;
    store_make(&store, 2, 2);
    char *before = must_dump();
    store_edit(&store, "UPDATE keys SET disabled = 1; UPDATE keys SET disabled = 0; VACUUM");
    char *after = must_dump();
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void test_wrong_manifest_key(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    char *dump = NULL;
    store_make(&store, 1, 1);
    store.manifest_key[0] ^= 1;
    assert_int_equal(try_dump(&dump, &err), KR_INTEGRITY);
}

/* --- damaged bytes --------------------------------------------------------------------------- */

/* *ret_refused counts the refusals; anything else must read as `good` did. */
static void check_damaged(const char *good, const char *what, size_t at, unsigned *ret_refused)
{
    struct kr_error err = KR_ERROR_INIT;
    char *dump = NULL;
    enum kr_status status = try_dump(&dump, &err);
    if (status == KR_OK) {
        if (strcmp(dump, good) != 0)
            fail_msg("%s %zu: other rows without an error", what, at);
        free(dump);
    } else {
        if (status != KR_INTEGRITY && status != KR_IO)
            fail_msg("%s %zu: %s: %s", what, at, kr_status_name(status), err.text);
        assert_true(err.hint[0] != '\0');
        ++*ret_refused;
    }
}

/* From the end to the start; the file is cut in place. */
static void test_every_cut_is_seen(void **state)
{
    (void)state;
    struct stat st;
    unsigned cuts = 0, refused = 0;
    store_make(&store, 3, 4);
    char *good = must_dump();
    assert_int_equal(stat(store.path, &st), 0);
    for (off_t cut = st.st_size - 1; cut >= 0; cut -= cut < 600 ? 1 : 97) {
        assert_int_equal(truncate(store.path, cut), 0);
        check_damaged(good, "cut at", (size_t)cut, &refused);
        cuts++;
    }
    assert_int_equal(refused, cuts);
    free(good);
}

/* The header and every 37th byte; all of them when $P11K_SOAK is set. */
static size_t next_byte(size_t at)
{
    return at + (at < 100 || getenv("P11K_SOAK") ? 1 : 37);
}

static void test_flipped_bytes_are_seen_or_harmless(void **state)
{
    (void)state;
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    size_t len = 0;
    unsigned flips = 0, refused = 0;
    store_make(&store, 3, 4);
    char *good = must_dump();
    uint8_t *bytes = store_read_file(store.path, &len);
    int fd = open(store.path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t at = 0; at < len; at = next_byte(at)) {
        for (size_t mask = 0; mask < sizeof(masks); mask++) {
            const uint8_t flipped = bytes[at] ^ masks[mask];
            assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
            check_damaged(good, "flip at", at, &refused);
            flips++;
        }
        assert_int_equal(pwrite(fd, &bytes[at], 1, (off_t)at), 1);
    }
    close(fd);
    printf("%u damaged bytes in a file of %zu: %u refused, the others read as before\n", flips, len,
           refused);
    assert_true(refused > 0);
    free(good);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_missing),
        STORE_TEST(test_not_a_keystore),
        STORE_TEST(test_somebody_elses_database),
        STORE_TEST(test_another_keyring),
        STORE_TEST(test_newer_format),
        STORE_TEST(test_not_a_file),
        STORE_TEST(test_writable_by_others),
        STORE_TEST(test_foreign_schema),
        STORE_TEST(test_write_ahead_log),
        STORE_TEST(test_edited_rows),
        STORE_TEST(test_edit_undone),
        STORE_TEST(test_wrong_manifest_key),
        STORE_TEST(test_every_cut_is_seen),
        STORE_TEST(test_flipped_bytes_are_seen_or_harmless),
    };
    return cmocka_run_group_tests_name("keystore damage", tests, NULL, NULL);
}
