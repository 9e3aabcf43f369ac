/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A change of a file that is killed before, in or after any of its system calls, or whose calls
 * fail: the file is what it was or what it was to become, and what was begun can be completed.
 */
#include "files/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

enum { FILE_BYTES = 20000, OFFSET = 1024, LEN = 8192, SECTOR = 512 };

/* Of a change: the journal is written, synced, named and its folder synced; the file is written and
 * synced; the journal is removed and its folder synced. */
enum { CALL_NAME = 3, CALL_WRITE = 5, CALLS = 8 };

/* --- calls that end the process or fail --------------------------------------------------------
 */

ssize_t __wrap_pwrite(int fd, const void *bytes, size_t len, off_t offset);
int __wrap_fsync(int fd);
int __wrap_unlink(const char *path);
int __wrap_linkat(int from, const char *path, int to, const char *name, int flags);
ssize_t __real_pwrite(int fd, const void *bytes, size_t len, off_t offset);
int __real_fsync(int fd);
int __real_unlink(const char *path);
int __real_linkat(int from, const char *path, int to, const char *name, int flags);

static enum { WORK, KILL_BEFORE, KILL_AFTER, TEAR, FAIL } how;
static int at_call, calls;

/* True: this call is to fail. */
static bool before_call(void)
{
    calls++;
    if (calls == at_call && how == KILL_BEFORE)
        _exit(9);
    errno = EIO;
    return calls == at_call && how == FAIL;
}

static void after_call(void)
{
    if (calls == at_call && how == KILL_AFTER)
        _exit(9);
}

ssize_t __wrap_pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    if (before_call())
        return -1;
    /* Sectors arrive in any order: here the second half of them. */
    if (calls == at_call && how == TEAR) {
        size_t half = len / 2 / SECTOR * SECTOR;
        (void)!__real_pwrite(fd, (const uint8_t *)bytes + half, len - half, offset + (off_t)half);
        _exit(9);
    }
    ssize_t put = __real_pwrite(fd, bytes, len, offset);
    after_call();
    return put;
}

int __wrap_fsync(int fd)
{
    if (before_call())
        return -1;
    int result = __real_fsync(fd);
    after_call();
    return result;
}

int __wrap_unlink(const char *path)
{
    if (before_call())
        return -1;
    int result = __real_unlink(path);
    after_call();
    return result;
}

int __wrap_linkat(int from, const char *path, int to, const char *name, int flags)
{
    if (before_call())
        return -1;
    int result = __real_linkat(from, path, to, name, flags);
    after_call();
    return result;
}

/* --- one file ----------------------------------------------------------------------------------
 */

struct subject {
    char path[512], journal[512];
    uint8_t before[FILE_BYTES], after[FILE_BYTES];
};

static void put_file(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static size_t get_file(const char *path, uint8_t *ret, size_t size)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t len = read(fd, ret, size);
    close(fd);
    assert_true(len >= 0);
    return (size_t)len;
}

static void begin(struct subject *s)
{
    how = WORK;
    snprintf(s->path, sizeof(s->path), "%s", scratch_path("file"));
    snprintf(s->journal, sizeof(s->journal), "%s", scratch_path("file.p11keyring-header"));
    for (size_t i = 0; i < FILE_BYTES; i++)
        s->before[i] = s->after[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t i = OFFSET; i < OFFSET + LEN; i++)
        s->after[i] ^= 0x55;
    put_file(s->path, s->before, FILE_BYTES);
}

static void end(struct subject *s)
{
    unlink(s->path);
    unlink(s->journal);
}

static enum kr_status apply(const struct subject *s)
{
    struct kr_error err = KR_ERROR_INIT;
    int fd = open(s->path, O_RDWR);
    assert_true(fd >= 0);
    calls = 0;
    enum kr_status status =
        kr_journal_write(s->path, fd, OFFSET, s->before + OFFSET, s->after + OFFSET, LEN, &err);
    close(fd);
    return status;
}

static enum kr_status resume(const struct subject *s)
{
    struct kr_error err = KR_ERROR_INIT;
    int fd = open(s->path, O_RDWR);
    assert_true(fd >= 0);
    calls = 0;
    enum kr_status status = kr_journal_recover(s->path, fd, &err);
    close(fd);
    return status;
}

static bool file_is(const struct subject *s, const uint8_t *bytes)
{
    uint8_t seen[FILE_BYTES + 1];
    return get_file(s->path, seen, sizeof(seen)) == FILE_BYTES &&
           memcmp(seen, bytes, FILE_BYTES) == 0;
}

/* In a child. False: it came to its end. */
static bool killed_in(const struct subject *s, bool resuming)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit((resuming ? resume(s) : apply(s)) == KR_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 9 || WEXITSTATUS(status) == 0));
    return WEXITSTATUS(status) == 9;
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void a_change_is_made_and_leaves_nothing(void **state)
{
    (void)state;
    struct subject s = {0};
    begin(&s);
    assert_int_equal(apply(&s), KR_OK);
    assert_true(file_is(&s, s.after));
    assert_false(kr_journal_is_pending(s.path));
    assert_int_equal(resume(&s), KR_OK);
    assert_int_equal(apply(&s), KR_REFUSED); /* it is not what it was */
    end(&s);
}

/* Without the journal a torn file stays torn: the tear is real. */
static void killed_at_any_call(int way, unsigned *ret_pending, unsigned *ret_torn)
{
    struct subject s = {0};
    for (int call = 1; call <= CALLS + 1; call++) {
        begin(&s);
        how = way;
        at_call = call;
        bool killed = killed_in(&s, false);
        assert_int_equal(killed, way == TEAR ? call == 1 || call == CALL_WRITE : call <= CALLS);
        how = WORK;
        bool pending = kr_journal_is_pending(s.path);
        *ret_pending += pending;
        *ret_torn += !file_is(&s, s.before) && !file_is(&s, s.after);
        assert_true(pending || file_is(&s, s.before) || file_is(&s, s.after));
        assert_int_equal(resume(&s), KR_OK);
        assert_true(file_is(&s, s.after) || (!pending && file_is(&s, s.before)));
        assert_false(kr_journal_is_pending(s.path));
        end(&s);
    }
}

static void a_kill_anywhere_is_made_good(void **state)
{
    (void)state;
    unsigned pending = 0, torn = 0;
    killed_at_any_call(KILL_BEFORE, &pending, &torn);
    killed_at_any_call(KILL_AFTER, &pending, &torn);
    killed_at_any_call(TEAR, &pending, &torn);
    assert_int_equal(pending, 4 + 4 + 1);
    assert_int_equal(torn, 1);
}

/* And a kill while that is made good. */
static void a_kill_while_resuming(void **state)
{
    (void)state;
    struct subject s = {0};
    unsigned kills = 0;
    for (int call = 1; call <= CALLS - CALL_WRITE + 2; call++) {
        for (int way = KILL_BEFORE; way <= TEAR; way++) {
            begin(&s);
            how = TEAR;
            at_call = CALL_WRITE;
            assert_true(killed_in(&s, false));
            assert_false(file_is(&s, s.before) || file_is(&s, s.after));
            how = way;
            at_call = call;
            kills += killed_in(&s, true);
            how = WORK;
            assert_int_equal(resume(&s), KR_OK);
            assert_true(file_is(&s, s.after));
            end(&s);
        }
    }
    assert_int_equal(kills, 4 + 4 + 1);
}

static void a_call_that_fails_is_told_and_made_good(void **state)
{
    (void)state;
    struct subject s = {0};
    for (int call = 1; call <= CALLS + 1; call++) {
        begin(&s);
        how = FAIL;
        at_call = call;
        enum kr_status status = apply(&s);
        how = WORK;
        assert_int_equal(status, call <= CALLS ? KR_IO : KR_OK);
        assert_int_equal(resume(&s), KR_OK);
        assert_true(file_is(&s, s.after) || file_is(&s, s.before));
        end(&s);
    }
}

/* Leaves a journal, and the file as it was. */
static void leave_journal(struct subject *s)
{
    begin(s);
    how = KILL_BEFORE;
    at_call = CALL_NAME + 1;
    assert_true(killed_in(s, false));
    how = WORK;
    assert_true(kr_journal_is_pending(s->path));
    assert_true(file_is(s, s->before));
}

static void what_somebody_wrote_meanwhile_is_left_alone(void **state)
{
    (void)state;
    struct subject s = {0};
    leave_journal(&s);
    s.before[OFFSET + 3000] ^= 1;
    put_file(s.path, s.before, FILE_BYTES);
    assert_int_equal(resume(&s), KR_REFUSED);
    assert_true(file_is(&s, s.before));
    assert_true(kr_journal_is_pending(s.path));
    end(&s);
}

static void a_damaged_journal_changes_nothing(void **state)
{
    (void)state;
    static uint8_t bytes[3 * LEN];
    struct subject s = {0};
    leave_journal(&s);
    size_t len = get_file(s.journal, bytes, sizeof(bytes));
    assert_true(len > 2 * (size_t)LEN && len < sizeof(bytes));
    for (size_t i = 0; i < len; i += i < 64 ? 1 : 97) {
        bytes[i] ^= 4;
        put_file(s.journal, bytes, len);
        assert_int_equal(resume(&s), KR_INTEGRITY);
        bytes[i] ^= 4;
    }
    for (size_t cut = 0; cut < len; cut += 1000) {
        put_file(s.journal, bytes, cut);
        assert_int_equal(resume(&s), KR_INTEGRITY);
    }
    assert_true(file_is(&s, s.before));
    put_file(s.journal, bytes, len);
    assert_int_equal(resume(&s), KR_OK);
    assert_true(file_is(&s, s.after));
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_is_made_and_leaves_nothing),
        cmocka_unit_test(a_kill_anywhere_is_made_good),
        cmocka_unit_test(a_kill_while_resuming),
        cmocka_unit_test(a_call_that_fails_is_told_and_made_good),
        cmocka_unit_test(what_somebody_wrote_meanwhile_is_left_alone),
        cmocka_unit_test(a_damaged_journal_changes_nothing),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
