/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A run of rekey: what is gone on with after a kill, and what is not. */
#include "files/rekey_run.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hex.h"
#include "scratch.h"

#define KEYSTORE "test.keystore"

static char *two[] = {"/tmp", "/usr"}, *turned[] = {"/usr", "/./tmp"}, *one[] = {"/tmp"};

static struct kr_rekey_run *open_run(char *const *paths, size_t count, bool anew)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_rekey_run *run = NULL;
    enum kr_status status =
        kr_rekey_run_open(scratch_path(KEYSTORE), paths, count, anew, &run, &err);
    assert_int_equal(status, KR_OK);
    return run;
}

/* The key that a run makes; the run is killed when it has written its record. */
static void killed_run(uint8_t key[KR_MYSQL_SEALED_BYTES])
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_rekey_run *run = open_run(two, 2, false);
    memset(key, 0x5a, KR_MYSQL_SEALED_BYTES);
    assert_false(kr_rekey_run_made(run, key));
    assert_true(kr_rekey_run_mark(run, key));
    assert_int_equal(kr_rekey_run_begin(run, &err), KR_OK);
    assert_int_equal(kr_rekey_run_begin(run, &err), KR_OK);
    kr_rekey_run_free(run);
}

/* Its path; NULL when there is none. */
static const char *record(void)
{
    static char path[512];
    glob_t found = {0};
    bool there = glob(scratch_path(KEYSTORE ".rekey-*"), 0, NULL, &found) == 0;
    if (there)
        snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
    globfree(&found);
    return there ? path : NULL;
}

static void end(struct kr_rekey_run *run)
{
    struct kr_error err = KR_ERROR_INIT;
    assert_int_equal(kr_rekey_run_end(run, &err), KR_OK);
    assert_null(record());
    kr_rekey_run_free(run);
}

static void a_killed_run_is_gone_on_with(void **state)
{
    (void)state;
    uint8_t key[KR_MYSQL_SEALED_BYTES];
    killed_run(key);
    struct kr_rekey_run *run = open_run(turned, 2, false);
    assert_true(kr_rekey_run_resumed(run) > 0);
    assert_true(kr_rekey_run_made(run, key));
    key[3] ^= 1;
    assert_false(kr_rekey_run_made(run, key));
    key[3] ^= 1;
    end(run);
    run = open_run(two, 2, false);
    assert_int_equal(kr_rekey_run_resumed(run), 0);
    assert_false(kr_rekey_run_made(run, key));
    kr_rekey_run_free(run);
    assert_null(record()); /* nothing was begun */
}

static void other_paths_are_another_run(void **state)
{
    (void)state;
    uint8_t key[KR_MYSQL_SEALED_BYTES];
    killed_run(key);
    struct kr_rekey_run *other = open_run(one, 1, false);
    assert_int_equal(kr_rekey_run_resumed(other), 0);
    assert_false(kr_rekey_run_made(other, key));
    kr_rekey_run_free(other);
    end(open_run(two, 2, false));
}

static void anew_nothing_is_done_yet(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint8_t key[KR_MYSQL_SEALED_BYTES];
    killed_run(key);
    struct kr_rekey_run *run = open_run(two, 2, true);
    assert_false(kr_rekey_run_made(run, key));
    assert_int_equal(kr_rekey_run_begin(run, &err), KR_OK);
    kr_rekey_run_free(run);
    run = open_run(two, 2, false);
    assert_true(kr_rekey_run_resumed(run) > 0);
    assert_false(kr_rekey_run_made(run, key));
    end(run);
}

static void change(const char *path, long at)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
    assert_int_equal(fclose(file), 0);
}

/* Another id, another time, a damaged or shortened record: every file is rekeyed again. */
static void a_forged_record_leaves_nothing_out(void **state)
{
    (void)state;
    static const long places[] = {0, 18, 19, 50, 82, 83, 100, 102};
    uint8_t key[KR_MYSQL_SEALED_BYTES];
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        killed_run(key);
        change(record(), places[i]);
        struct kr_rekey_run *run = open_run(two, 2, false);
        bool made = kr_rekey_run_made(run, key);
        assert_int_equal(unlink(record()), 0);
        kr_rekey_run_free(run);
        killed_run(key); /* the same without the change, to show that it would have counted */
        run = open_run(two, 2, false);
        assert_true(kr_rekey_run_made(run, key));
        end(run);
        assert_false(made);
    }
    killed_run(key);
    assert_int_equal(truncate(record(), 102), 0);
    struct kr_rekey_run *run = open_run(two, 2, false);
    assert_int_equal(kr_rekey_run_resumed(run), 0);
    assert_int_equal(unlink(record()), 0);
    kr_rekey_run_free(run);
}

/* Nobody else reads it, and it has nothing of the key. */
static void the_record_holds_no_key(void **state)
{
    (void)state;
    uint8_t key[KR_MYSQL_SEALED_BYTES];
    char text[1024] = "", part[17];
    struct stat st;
    killed_run(key);
    assert_int_equal(stat(record(), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    FILE *file = fopen(record(), "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof(text) - 1, file) > 100);
    fclose(file);
    assert_says(text, "\n/tmp\n/usr\n");
    for (size_t at = 0; at < sizeof(key); at += 8) {
        kr_hex_encode(key + at, 8, part);
        assert_null(strstr(text, part));
    }
    end(open_run(two, 2, false));
}

static void a_folder_that_cannot_be_written_is_said(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_rekey_run *run = NULL;
    assert_int_equal(kr_rekey_run_open(scratch_path("none/x"), two, 2, false, &run, &err), KR_OK);
    assert_int_equal(kr_rekey_run_begin(run, &err), KR_IO);
    kr_rekey_run_free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_run_is_gone_on_with),
        cmocka_unit_test(other_paths_are_another_run),
        cmocka_unit_test(anew_nothing_is_done_yet),
        cmocka_unit_test(a_forged_record_leaves_nothing_out),
        cmocka_unit_test(the_record_holds_no_key),
        cmocka_unit_test(a_folder_that_cannot_be_written_is_said),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
