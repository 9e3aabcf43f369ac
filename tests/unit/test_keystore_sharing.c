/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Several processes, users and a full disk around one keystore. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "keystore_fixture.h"

enum { NOBODY = 65534 };

/* Runs `run` in a child, as another user if that is not 0; it returns 0 when all is well. */
static pid_t start(int (*run)(void), uid_t user)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (user != 0 && (setgid(user) < 0 || setuid(user) < 0))
            _exit(99);
        _exit(run());
    }
    return pid;
}

static void assert_ends_well(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- two writers ----------------------------------------------------------------------------- */

enum { ROTATIONS = 100 };

static int rotate_many(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    uint32_t version = 0;
    if (store_try_open(&store, true, &keystore, &err) != KR_OK)
        return 1;
    for (int i = 0; i < ROTATIONS; i++) {
        if (store_rotate(keystore, "1", 1, &version, &err) != KR_OK) {
            fprintf(stderr, "%s\n", err.text);
            return 2;
        }
    }
    kr_keystore_close(keystore);
    return 0;
}

static void test_no_update_is_lost(void **state)
{
    (void)state;
    char last[64];
    store_make(&store, 1, 1);
    pid_t children[3];
    for (int i = 0; i < 3; i++)
        children[i] = start(rotate_many, 0);
    for (int i = 0; i < 3; i++)
        assert_ends_well(children[i]);
    struct kr_keystore *keystore = store_open(&store, false);
    char *dump = store_must_dump(keystore);
    unsigned count = 0;
    for (const char *at = dump; (at = strstr(at, "version mariadb/1/ ")); at++)
        count++;
    assert_int_equal(count, 1 + 3 * ROTATIONS);
    snprintf(last, sizeof(last), "key mariadb/1/ 0 %d ", 1 + 3 * ROTATIONS);
    assert_non_null(strstr(dump, last));
    free(dump);
    kr_keystore_close(keystore);
}

/* The wait for a lock, in milliseconds. */
static uint64_t timed_rotate(struct kr_keystore *keystore, enum kr_status expected)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    uint64_t before = kr_now_ms();
    assert_int_equal(store_rotate(keystore, "1", 1, &version, &err), expected);
    if (expected != KR_OK)
        assert_non_null(strstr(err.text, "another process holds the keystore"));
    return kr_now_ms() - before;
}

static struct kr_keystore *open_impatient(unsigned timeout_ms)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore_options options = store_options(&store, true);
    struct kr_keystore *keystore = NULL;
    options.lock_timeout_ms = timeout_ms;
    MUST(kr_keystore_open(&options, &keystore, &err), &err);
    MUST(kr_keystore_set_manifest_key(keystore, store.manifest_key, &err), &err);
    return keystore;
}

static void test_wait_for_a_writer_ends(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    store_make(&store, 1, 1);
    struct kr_keystore *holder = store_open(&store, true), *waiter = open_impatient(300);
    MUST(kr_keystore_begin_write(holder, &err), &err);
    uint64_t waited = timed_rotate(waiter, KR_IO);
    printf("lock timeout 300 ms: waited %llu ms\n", (unsigned long long)waited);
    assert_in_range(waited, 250, 900);
    kr_keystore_rollback(holder);
    assert_in_range(timed_rotate(waiter, KR_OK), 0, 250);
    kr_keystore_close(holder);
    kr_keystore_close(waiter);
}

/* --- readers and a writer -------------------------------------------------------------------- */

static void test_reader_beside_a_writer(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    store_make(&store, 1, 3);
    struct kr_keystore *writer = open_impatient(200), *reader = store_open(&store, false);
    char *before = store_must_dump(reader);
    MUST(kr_keystore_begin_write(writer, &err), &err);
    MUST(store_add_version(writer, "1", 1, &version, &err), &err);
    char *during = store_must_dump(reader); /* neither waits nor sees what is not committed */
    assert_string_equal(before, during);
    free(during);
    MUST(kr_keystore_commit(writer, &err), &err);
    during = store_must_dump(reader);
    assert_string_not_equal(before, during);
    free(during);
    free(before);
    kr_keystore_close(writer);
    kr_keystore_close(reader);
}

/* A view that is kept open holds a commit up; the commit gives up and changes nothing. */
static void test_commit_beside_a_view(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    store_make(&store, 1, 3);
    struct kr_keystore *writer = open_impatient(200), *reader = store_open(&store, false);
    char *before = store_must_dump(reader);
    MUST(kr_keystore_begin_read(reader, &err), &err);
    assert_in_range(timed_rotate(writer, KR_IO), 150, 900);
    MUST(kr_keystore_commit(reader, &err), &err);
    char *after = store_must_dump(reader);
    assert_string_equal(before, after);
    assert_in_range(timed_rotate(writer, KR_OK), 0, 250);
    free(before);
    free(after);
    kr_keystore_close(writer);
    kr_keystore_close(reader);
}

/* --- users ----------------------------------------------------------------------------------- */

static int expect_no_write(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    uint32_t version = 0;
    char *dump = NULL;
    if (store_try_open(&store, true, &keystore, &err) == KR_OK &&
        store_rotate(keystore, "1", 1, &version, &err) == KR_OK)
        return 1;
    if (err.status != KR_CONFIG || !strstr(err.text, store.path) || err.hint[0] == '\0') {
        fprintf(stderr, "%s: %s\n", kr_status_name(err.status), err.text);
        return 2;
    }
    kr_keystore_close(keystore);
    if (store_try_open(&store, false, &keystore, &err) != KR_OK ||
        store_dump(keystore, &dump, &err) != KR_OK)
        return 3; /* reading needs no more */
    free(dump);
    kr_keystore_close(keystore);
    return 0;
}

static int expect_no_create(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    return store_create(&store, &keystore, &err) == KR_CONFIG && strstr(err.text, store.path) &&
                   err.hint[0] != '\0'
               ? 0
               : 1;
}

static void test_read_only_directory(void **state)
{
    (void)state;
    assert_int_equal(chown(store.dir, NOBODY, NOBODY), 0);
    assert_int_equal(chmod(store.dir, 0500), 0);
    assert_ends_well(start(expect_no_create, NOBODY));
    store_make(&store, 1, 2); /* root may; the file is nobody's */
    struct kr_keystore *keystore = store_open(&store, false);
    char *before = store_must_dump(keystore);
    assert_ends_well(start(expect_no_write, NOBODY));
    char *after = store_must_dump(keystore);
    assert_string_equal(before, after);
    kr_keystore_close(keystore);
    free(before);
    free(after);
}

static void test_read_only_file(void **state)
{
    (void)state;
    store_make(&store, 1, 2); /* root's, in root's directory */
    assert_int_equal(chmod(store.dir, 0755), 0);
    assert_int_equal(chmod(store.path, 0644), 0);
    assert_ends_well(start(expect_no_write, NOBODY));
}

static int expect_unreadable(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    return store_try_open(&store, false, &keystore, &err) == KR_CONFIG &&
                   strstr(err.text, store.path)
               ? 0
               : 1;
}

static void test_unreadable(void **state)
{
    (void)state;
    store_make(&store, 1, 2);
    assert_ends_well(start(expect_unreadable, NOBODY)); /* the directory */
    assert_int_equal(chmod(store.dir, 0755), 0);
    assert_ends_well(start(expect_unreadable, NOBODY)); /* the file */
}

static int rotate_once(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    uint32_t version = 0;
    return store_try_open(&store, true, &keystore, &err) == KR_OK &&
                   store_rotate(keystore, "1", 1, &version, &err) == KR_OK
               ? 0
               : 1;
}

/* Root and the server's user take turns; neither locks the other out. */
static void test_root_and_the_owner_take_turns(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(chown(store.dir, NOBODY, NOBODY), 0);
    store_make(&store, 1, 1);
    for (int i = 0; i < 3; i++) {
        assert_ends_well(start(rotate_once, 0));
        assert_ends_well(start(rotate_once, NOBODY));
    }
    assert_int_equal(stat(store.path, &st), 0);
    assert_int_equal(st.st_uid, NOBODY);
}

/* --- full disk ------------------------------------------------------------------------------- */

static void limit_file_size(rlim_t bytes)
{
    const struct rlimit limit = {bytes, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void assert_says_full(const struct kr_error *err)
{
    if (!strstr(err->text, "disk full"))
        fail_msg("%s", err->text);
}

static void test_disk_full_on_write(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct stat st;
    uint32_t version = 0, last = 0;
    store_make(&store, 2, 8);
    assert_int_equal(stat(store.path, &st), 0);
    struct kr_keystore *keystore = store_open(&store, true);
    char *before = store_must_dump(keystore), *after = NULL;
    limit_file_size((rlim_t)st.st_size);
    enum kr_status status = KR_OK;
    while (status == KR_OK) {
        free(before);
        before = store_must_dump(keystore);
        last = version;
        status = store_rotate(keystore, "2", 1, &version, &err);
    }
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(status, KR_IO);
    assert_says_full(&err);
    assert_int_equal(version, last);
    after = store_must_dump(keystore);
    assert_string_equal(before, after);
    MUST(store_rotate(keystore, "2", 1, &version, &err), &err); /* there is room again */
    kr_keystore_close(keystore);
    free(before);
    free(after);
}

static void test_disk_full_on_create(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    limit_file_size(8192);
    enum kr_status status = store_create(&store, &keystore, &err);
    if (status == KR_OK)
        status = kr_keystore_commit_new(keystore, &err);
    kr_keystore_close(keystore);
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(status, KR_IO);
    assert_says_full(&err);
    assert_int_equal(rmdir(store.dir), 0); /* nothing was left in it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_no_update_is_lost),
        STORE_TEST(test_wait_for_a_writer_ends),
        STORE_TEST(test_reader_beside_a_writer),
        STORE_TEST(test_commit_beside_a_view),
        STORE_TEST(test_read_only_directory),
        STORE_TEST(test_read_only_file),
        STORE_TEST(test_unreadable),
        STORE_TEST(test_root_and_the_owner_take_turns),
        STORE_TEST(test_disk_full_on_write),
        STORE_TEST(test_disk_full_on_create),
    };
    return cmocka_run_group_tests_name("keystore sharing", tests, NULL, NULL);
}
