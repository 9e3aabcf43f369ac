/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Walking folders, working on many files, outputs that are whole or nothing, verdicts. */
#include "files/check.h"
#include "files/inspect.h"
#include "files/output.h"
#include "files/run.h"
#include "files/sparse.h"
#include "files/verify.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

static void remove_tree(const char *path)
{
    char command[1024];
    snprintf(command, sizeof(command), "rm -r -- '%s'", path);
    assert_int_equal(system(command), 0);
}

static void walk_ok(const char *path, struct kr_walk *ret)
{
    struct kr_error err = KR_ERROR_INIT;
    char *paths[] = {(char *)path};
    assert_int_equal(kr_walk(paths, 1, ret, &err), KR_OK);
}

/* --- walk ------------------------------------------------------------------------------------- */

/* Sorted, nothing twice, and what was not looked at is told. */
static void a_walk_finds_everything_or_tells(void **state)
{
    (void)state;
    KR_WALK walk = {0};
    char root[512];
    snprintf(root, sizeof(root), "%s", scratch_path("tree"));
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(mkdir(scratch_path("tree/b"), 0700), 0);
    scratch_text("tree/c", "three", 0600);
    scratch_text("tree/b/z", "zz", 0600);
    scratch_text("tree/a", "", 0600);
    assert_int_equal(symlink("/etc", scratch_path("tree/link")), 0);
    assert_int_equal(mkfifo(scratch_path("tree/pipe"), 0600), 0);
    walk_ok(root, &walk);
    assert_int_equal(walk.count, 3);
    assert_string_equal(walk.files[0].path, scratch_path("tree/a"));
    assert_string_equal(walk.files[1].path, scratch_path("tree/b/z"));
    assert_string_equal(walk.files[2].path, scratch_path("tree/c"));
    assert_int_equal(walk.bytes, 7);
    assert_int_equal(walk.skip_count, 2);
    assert_says(walk.skips[0].why, "symbolic link");
    assert_false(walk.skips[0].harmless);
    assert_true(walk.skips[1].harmless);
    remove_tree(root);
}

static void a_link_that_is_named_is_followed_and_none_below(void **state)
{
    (void)state;
    KR_WALK walk = {0};
    scratch_text("target", "12345", 0600);
    assert_int_equal(symlink(scratch_path("target"), scratch_path("alias")), 0);
    walk_ok(scratch_path("alias"), &walk);
    assert_int_equal(walk.count, 1);
    assert_string_equal(walk.files[0].path, scratch_path("target"));
    assert_int_equal(walk.files[0].size, 5);
}

static void what_is_not_there_is_said(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_walk walk;
    char *paths[] = {(char *)scratch_path("missing")};
    assert_int_equal(kr_walk(paths, 1, &walk, &err), KR_NOT_FOUND);
    assert_error(&err, KR_NOT_FOUND, "missing", "");
}

/* A loop by a link, and folders deeper than any server makes them. */
static void a_walk_ends(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof(path), "%s", scratch_path("deep"));
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(symlink(".", scratch_path("deep/loop")), 0);
    for (int i = 0; i < 80; i++) {
        strcat(path, "/d");
        assert_int_equal(mkdir(path, 0700), 0);
    }
    KR_WALK walk = {0};
    walk_ok(scratch_path("deep"), &walk);
    assert_int_equal(walk.count, 0);
    assert_int_equal(walk.skip_count, 2);
    assert_says(walk.skips[0].why, "nested too deeply");
    remove_tree(scratch_path("deep"));
}

/* --- holes ------------------------------------------------------------------------------------ */

static blkcnt_t blocks_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_blocks;
}

/* Zeros go, contents stay: also at the ends, and where a block is not whole. */
static void holes_are_dug(void **state)
{
    (void)state;
    enum { BYTES = 3 * 1024 * 1024 + 1000 };
    uint8_t *bytes = calloc(1, BYTES), *seen = malloc(BYTES);
    assert_true(bytes && seen);
    for (size_t at = 300000; at < BYTES; at += 500000)
        bytes[at] = 1;
    memset(bytes + 1000000, 7, 100000);
    bytes[BYTES - 1] = 9;
    const char *path = scratch_write("holes", bytes, BYTES, 0600);
    blkcnt_t before = blocks_of(path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    kr_file_dig_holes(fd);
    assert_int_equal(pread(fd, seen, BYTES, 0), BYTES);
    assert_memory_equal(seen, bytes, BYTES);
    assert_true(blocks_of(path) <= before);
    int hole = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
    assert_true(hole != 0 || blocks_of(path) < 1024);
    close(fd);
    free(bytes);
    free(seen);
}

/* --- run -------------------------------------------------------------------------------------- */

enum { MANY = 3000 };

struct visits {
    atomic_uint seen[MANY];
    size_t fail_at; /* MANY: nowhere */
};

static enum kr_status visit(const char *path, size_t index, const struct kr_file_run *run,
                            void *context, struct kr_error *err)
{
    struct visits *visits = context;
    assert_true(run->threads >= 1);
    atomic_fetch_add(&visits->seen[index], 1);
    if (index == visits->fail_at)
        return kr_fail(err, KR_INTERNAL, "%s was enough", path);
    return KR_OK;
}

/* Files of no contents that only the list knows; one is large. */
static void make_list(struct kr_walk *ret)
{
    *ret = (struct kr_walk){.files = calloc(MANY, sizeof(*ret->files)), .count = MANY};
    for (size_t i = 0; i < MANY; i++)
        ret->files[i] = (struct kr_walk_file){.path = strdup("file"), .size = 1};
    ret->files[10].size = 1ULL << 40;
    ret->bytes = MANY - 1 + (1ULL << 40);
}

static void each_file_is_worked_on_once(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct visits *visits = calloc(1, sizeof(*visits));
    KR_WALK walk;
    bool interrupted = true;
    make_list(&walk);
    visits->fail_at = MANY;
    const struct kr_files_options options = {.work = visit, .context = visits};
    assert_int_equal(kr_files_run(&walk, &options, &interrupted, &err), KR_OK);
    assert_false(interrupted);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(visits->seen[i], 1);
    free(visits);
}

static void a_failure_ends_the_run(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct visits *visits = calloc(1, sizeof(*visits));
    KR_WALK walk;
    bool interrupted;
    make_list(&walk);
    visits->fail_at = 5;
    const struct kr_files_options options = {.work = visit, .context = visits, .threads = 1};
    assert_int_equal(kr_files_run(&walk, &options, &interrupted, &err), KR_INTERNAL);
    assert_says(err.text, "was enough");
    assert_int_equal(visits->seen[6], 0);
    free(visits);
}

static bool refuse_progress(uint64_t done, uint64_t total, void *context)
{
    (void)done;
    (void)total;
    (void)context;
    return false;
}

static enum kr_status wait_for_stop(const char *path, size_t index, const struct kr_file_run *run,
                                    void *context, struct kr_error *err)
{
    (void)path;
    (void)index;
    (void)err;
    atomic_fetch_add((atomic_uint *)context, 1);
    while (!atomic_load(run->stop))
        usleep(1000);
    return KR_OK;
}

static void an_interruption_reaches_the_files_in_work(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    atomic_uint begun = 0;
    KR_WALK walk;
    bool interrupted = false;
    make_list(&walk);
    const struct kr_files_options options = {
        .work = wait_for_stop, .context = &begun, .threads = 3, .progress = refuse_progress};
    assert_int_equal(kr_files_run(&walk, &options, &interrupted, &err), KR_OK);
    assert_true(interrupted);
    assert_in_range(begun, 1, 3);
}

/* --- output ----------------------------------------------------------------------------------- */

static bool is_there(const char *name)
{
    struct stat st;
    return lstat(scratch_path(name), &st) == 0;
}

static void an_output_is_whole_or_nothing(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_output output;
    char folder[512];
    snprintf(folder, sizeof(folder), "%s", scratch_path("out"));
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(kr_output_open(scratch_path("out/file"), &output, &err), KR_OK);
    assert_int_equal(write(output.fd, "abc", 3), 3);
    assert_false(is_there("out/file"));
    kr_output_close(&output);
    assert_int_equal(rmdir(folder), 0); /* nothing was left */
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(kr_output_open(scratch_path("out/file"), &output, &err), KR_OK);
    assert_int_equal(kr_output_commit(&output, &err), KR_OK);
    kr_output_close(&output);
    assert_true(is_there("out/file"));
    assert_int_equal(unlink(scratch_path("out/file")), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void an_output_takes_no_others_place(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_output output;
    scratch_text("taken", "old", 0600);
    assert_int_equal(kr_output_open(scratch_path("taken"), &output, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "exists already", "another output");
    assert_int_equal(symlink("nowhere", scratch_path("dangling")), 0);
    assert_int_equal(kr_output_open(scratch_path("dangling"), &output, &err), KR_REFUSED);
    /* Taken only while we write. */
    assert_int_equal(kr_output_open(scratch_path("late"), &output, &err), KR_OK);
    scratch_text("late", "theirs", 0600);
    assert_int_equal(kr_output_commit(&output, &err), KR_REFUSED);
    kr_output_close(&output);
    KR_WALK walk = {0};
    walk_ok(scratch_path("late"), &walk);
    assert_int_equal(walk.bytes, 6);
}

/* --- files and verdicts ----------------------------------------------------------------------- */

struct fixture {
    struct kr_file_keys *keys;
    atomic_bool stop;
    atomic_ullong done;
    struct kr_file_run run;
};

static void fixture_up(struct fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    *f = (struct fixture){0};
    assert_int_equal(kr_file_keys_new(NULL, &f->keys, &err), KR_OK);
    f->run = (struct kr_file_run){
        .keys = f->keys, .threads = 1, .stop = &f->stop, .done_bytes = &f->done};
}

static enum kr_file_verdict verdict_of(const char *path, char why[512])
{
    struct fixture f;
    struct kr_file_verified verified;
    fixture_up(&f);
    kr_file_verify(path, &f.run, &verified);
    enum kr_file_verdict verdict = verified.verdict;
    snprintf(why, 512, "%s", verified.why);
    kr_file_verified_free(&verified);
    kr_file_keys_free(f.keys);
    return verdict;
}

static void nothing_is_called_right_that_was_not_checked(void **state)
{
    (void)state;
    char why[512];
    assert_int_equal(verdict_of(scratch_text("some", "text", 0600), why), KR_VERDICT_NO_KIND);
    assert_int_equal(verdict_of(scratch_text("none", "", 0600), why), KR_VERDICT_NO_KIND);
    assert_says(why, "empty");
    assert_int_equal(
        verdict_of(scratch_text("keys", "1;00112233445566778899aabbccddeeff", 0600), why),
        KR_VERDICT_SKIPPED);
    assert_int_equal(verdict_of(scratch_path("gone"), why), KR_VERDICT_SKIPPED);
    assert_says(why, "cannot open");
    assert_int_equal(symlink("some", scratch_path("to_some")), 0);
    assert_int_equal(verdict_of(scratch_path("to_some"), why), KR_VERDICT_SKIPPED);
    assert_says(why, "symbolic link");
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    assert_int_equal(verdict_of(scratch_path("fifo"), why), KR_VERDICT_SKIPPED);
    assert_says(why, "no regular file");
}

static void a_file_that_grows_is_noted(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct fixture f;
    struct kr_file file;
    struct kr_file_report report;
    const char *path = scratch_text("grows", "text", 0600);
    fixture_up(&f);
    assert_int_equal(kr_file_open(path, &f.run, &file, &err), KR_OK);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "more", 4), 4);
    close(fd);
    assert_int_equal(kr_file_inspect(&file, &report, &err), KR_OK);
    assert_true(report.incomplete);
    assert_says(report.notes[0], "somebody writes");
    kr_file_report_free(&report);
    char byte[8];
    assert_int_equal(kr_file_read(&file, 4, byte, 8, &err), KR_INTEGRITY);
    kr_file_close(&file);
    kr_file_keys_free(f.keys);
}

static void needs_add_up_by_key(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    KR_FILE_REPORT report = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kr_file_report_need(&report, NULL, 1, 3, 5, &err), KR_OK);
        assert_int_equal(kr_file_report_need(&report, "INNODBKey-x-1", 0, 0, 1, &err), KR_OK);
    }
    assert_int_equal(kr_file_report_need(&report, NULL, 1, 4, 1, &err), KR_OK);
    assert_int_equal(report.need_count, 3);
    assert_int_equal(report.needs[0].count, 15);
    assert_int_equal(report.needs[1].count, 3);
    report.units = (struct kr_file_units){.total = 3, .encrypted = 1, .plain = 1, .empty = 1};
    kr_file_report_judge(&report);
    assert_int_equal(report.encrypted, KR_ENCRYPTED_PARTLY);
}

static void damages_are_kept_by_number_and_all_counted(void **state)
{
    (void)state;
    struct kr_file_check check;
    kr_file_check_init(&check);
    for (unsigned i = 0; i < KR_FILE_DAMAGES_MAX + 10; i++)
        kr_file_check_damage(&check, KR_FILE_DAMAGES_MAX + 10 - i, "checksum");
    kr_file_check_end(&check);
    assert_int_equal(check.damaged, KR_FILE_DAMAGES_MAX + 10);
    assert_int_equal(check.damage_count, KR_FILE_DAMAGES_MAX);
    for (size_t i = 1; i < check.damage_count; i++)
        assert_true(check.damages[i - 1].unit < check.damages[i].unit);
    kr_file_check_free(&check);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_finds_everything_or_tells),
        cmocka_unit_test(a_link_that_is_named_is_followed_and_none_below),
        cmocka_unit_test(what_is_not_there_is_said),
        cmocka_unit_test(a_walk_ends),
        cmocka_unit_test(holes_are_dug),
        cmocka_unit_test(each_file_is_worked_on_once),
        cmocka_unit_test(a_failure_ends_the_run),
        cmocka_unit_test(an_interruption_reaches_the_files_in_work),
        cmocka_unit_test(an_output_is_whole_or_nothing),
        cmocka_unit_test(an_output_takes_no_others_place),
        cmocka_unit_test(nothing_is_called_right_that_was_not_checked),
        cmocka_unit_test(a_file_that_grows_is_noted),
        cmocka_unit_test(needs_add_up_by_key),
        cmocka_unit_test(damages_are_kept_by_number_and_all_counted),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
