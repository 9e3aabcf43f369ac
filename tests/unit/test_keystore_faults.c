/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keystore when I/O fails or the process is killed: at every single step of making one, adding
 * a key and rotating a key, and at random moments. What was acknowledged is there, nothing is there
 * by half, and no version number is given twice.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fault_vfs.h"
#include "keystore_fixture.h"
#include "kill_window.h"

/* The steps of making a keystore that do not go through SQLite; the linker sends them here. */
int __real_link(const char *from, const char *to);
int __real_fsync(int fd);
int __real_unlink(const char *path);
int __wrap_link(const char *from, const char *to);
int __wrap_fsync(int fd);
int __wrap_unlink(const char *path);

static int step_or_fail(void)
{
    errno = EIO;
    return fault_step() ? -1 : 0;
}

int __wrap_link(const char *from, const char *to)
{
    return step_or_fail() < 0 ? -1 : __real_link(from, to);
}

int __wrap_fsync(int fd)
{
    return step_or_fail() < 0 ? -1 : __real_fsync(fd);
}

int __wrap_unlink(const char *path)
{
    return step_or_fail() < 0 ? -1 : __real_unlink(path);
}

/* What a child tells its parent, in shared memory, so that a kill loses nothing. */
enum { ACKS_MAX = 20000 };
struct acks {
    atomic_uint count;
    uint32_t versions[ACKS_MAX];
    atomic_uint steps;
    atomic_int status;
};

static struct acks *acks;

static void acknowledge(uint32_t version)
{
    unsigned count = atomic_load(&acks->count);
    if (count >= ACKS_MAX)
        _exit(9);
    acks->versions[count] = version;
    atomic_store(&acks->count, count + 1);
}

static int group_setup(void **state)
{
    (void)state;
    acks = mmap(NULL, sizeof(*acks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fault_vfs_install();
    return acks == MAP_FAILED;
}

static int setup(void **state)
{
    (void)state;
    fault_vfs_arm(FAULT_NONE, 0);
    atomic_store(&acks->count, 0);
    store_up(&store);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_vfs_arm(FAULT_NONE, 0);
    store_down(&store);
    return 0;
}

/* --- what must hold after anything ----------------------------------------------------------- */

struct found {
    const char *id;
    unsigned count;
    uint32_t last;
    uint32_t versions[ACKS_MAX];
};

static enum kr_status collect(const struct kr_version_row *row, void *context, struct kr_error *err)
{
    struct found *found = context;
    (void)err;
    if (strcmp(row->id, found->id) != 0)
        return KR_OK;
    assert_true(found->count < ACKS_MAX);
    assert_true(row->version > found->last); /* rising: so none is there twice */
    found->last = row->version;
    found->versions[found->count++] = row->version;
    return KR_OK;
}

static bool holds(const struct found *found, uint32_t version)
{
    for (unsigned i = 0; i < found->count; i++) {
        if (found->versions[i] == version)
            return true;
    }
    return false;
}

/* Opened by a reader, so that a hot journal is rolled back without a writer. */
static void check_acknowledged(const char *id)
{
    static struct found found;
    struct kr_error err = KR_ERROR_INIT;
    found = (struct found){.id = id};
    struct kr_keystore *keystore = store_open(&store, false);
    MUST(kr_keystore_verify(keystore, &err), &err);
    MUST(kr_keystore_each_version(keystore, NULL, collect, &found, &err), &err);
    kr_keystore_close(keystore);
    for (unsigned i = 0; i < atomic_load(&acks->count); i++) {
        if (!holds(&found, acks->versions[i]))
            fail_msg("version %u was acknowledged and is gone", acks->versions[i]);
        for (unsigned j = 0; j < i; j++)
            assert_int_not_equal(acks->versions[i], acks->versions[j]);
    }
}

/* --- each step ------------------------------------------------------------------------------- */

typedef enum kr_status (*operation)(const char *id, struct kr_error *err);

/* Opens, changes, and after a failure tries again with the same handle and no faults. */
static enum kr_status rotate(const char *id, struct kr_error *err)
{
    struct kr_keystore *keystore = NULL;
    uint32_t version = 0;
    KR_TRY(store_try_open(&store, true, &keystore, err));
    enum kr_status status = store_rotate(keystore, id, 2, &version, err);
    if (status == KR_OK)
        acknowledge(version);
    unsigned steps = fault_vfs_steps();
    fault_vfs_arm(FAULT_NONE, 0);
    if (status != KR_OK) {
        struct kr_error again = KR_ERROR_INIT;
        MUST(store_rotate(keystore, id, 2, &version, &again), &again);
        acknowledge(version);
    }
    kr_keystore_close(keystore);
    atomic_store(&acks->steps, steps);
    return status;
}

static enum kr_status create(const char *id, struct kr_error *err)
{
    struct kr_keystore *keystore = NULL;
    uint32_t version = 0;
    KR_TRY(store_create(&store, &keystore, err));
    enum kr_status status = store_add_version(keystore, id, 1, &version, err);
    if (status == KR_OK)
        status = kr_keystore_commit_new(keystore, err);
    if (status == KR_OK)
        acknowledge(version);
    atomic_store(&acks->steps, fault_vfs_steps());
    kr_keystore_close(keystore);
    return status;
}

/* In a child; true when it was killed. *ret is what the operation answered. */
static bool run_child(operation run, const char *id, enum fault fault, unsigned step,
                      enum kr_status *ret)
{
    int state = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct kr_error err = KR_ERROR_INIT;
        fault_vfs_arm(fault, step);
        atomic_store(&acks->status, run(id, &err));
        if (err.status != KR_OK && err.status != KR_IO)
            fprintf(stderr, "step %u: %s: %s\n", step, kr_status_name(err.status), err.text);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &state, 0), pid);
    *ret = (enum kr_status)atomic_load(&acks->status);
    if (WIFSIGNALED(state))
        assert_int_equal(WTERMSIG(state), SIGKILL);
    else
        assert_int_equal(WEXITSTATUS(state), 0);
    return WIFSIGNALED(state);
}

/* Number of steps of an undisturbed run. */
static unsigned count_steps(operation run, const char *id)
{
    enum kr_status status = KR_OK;
    assert_false(run_child(run, id, FAULT_NONE, 0, &status));
    assert_int_equal(status, KR_OK);
    return atomic_load(&acks->steps);
}

static void report_steps(const char *name, unsigned steps)
{
    printf("%s: %u steps, each failed once, failed for good, killed, killed half-written\n", name,
           steps);
}

static const enum fault FAULTS[] = {FAULT_FAIL_ONCE, FAULT_FULL_FROM, FAULT_KILL, FAULT_KILL_TORN};

static void rotate_at_each_step(const char *name, const char *(*id_of)(unsigned run))
{
    unsigned runs = 0, steps = count_steps(rotate, id_of(runs));
    check_acknowledged(id_of(runs));
    for (size_t kind = 0; kind < sizeof(FAULTS) / sizeof(FAULTS[0]); kind++) {
        for (unsigned step = 1; step <= steps; step++) {
            enum kr_status status = KR_OK;
            const char *id = id_of(++runs);
            bool killed = run_child(rotate, id, FAULTS[kind], step, &status);
            if (FAULTS[kind] >= FAULT_KILL)
                assert_true(killed);
            else if (status != KR_OK)
                assert_int_equal(status, KR_IO);
            check_acknowledged(id);
        }
    }
    report_steps(name, steps);
}

static const char *same_id(unsigned run)
{
    (void)run;
    return "1";
}

/* A new key each time; what was acknowledged for the one before is no longer asked for. */
static const char *fresh_id(unsigned run)
{
    static char id[16];
    static unsigned last = ~0u;
    if (run != last)
        atomic_store(&acks->count, 0);
    last = run;
    snprintf(id, sizeof(id), "%u", 100 + run);
    return id;
}

static void test_rotate_at_each_step(void **state)
{
    (void)state;
    store_make(&store, 2, 3);
    rotate_at_each_step("rotate key", same_id);
}

static void test_add_key_at_each_step(void **state)
{
    (void)state;
    store_make(&store, 2, 3);
    rotate_at_each_step("create key", fresh_id);
}

/* Either there is no keystore and the next attempt makes one, or there is a whole one. */
static void check_created(bool acknowledged)
{
    if (access(store.path, F_OK) < 0) {
        enum kr_status status = KR_OK;
        assert_false(acknowledged);
        assert_false(run_child(create, "1", FAULT_NONE, 0, &status));
        assert_int_equal(status, KR_OK);
    }
    check_acknowledged("1");
}

static void create_at(enum fault fault, unsigned step)
{
    enum kr_status status = KR_OK;
    store_down(&store);
    store_up(&store);
    atomic_store(&acks->count, 0);
    bool killed = run_child(create, "1", fault, step, &status);
    if (fault >= FAULT_KILL)
        assert_true(killed);
    else if (status != KR_OK)
        assert_int_equal(status, KR_IO);
    check_created(atomic_load(&acks->count) > 0);
}

static void test_create_at_each_step(void **state)
{
    (void)state;
    unsigned steps = count_steps(create, "1");
    check_acknowledged("1");
    for (size_t kind = 0; kind < sizeof(FAULTS) / sizeof(FAULTS[0]); kind++) {
        for (unsigned step = 1; step <= steps; step++)
            create_at(FAULTS[kind], step);
    }
    report_steps("create keystore", steps);
}

/* --- random moments -------------------------------------------------------------------------- */

static pid_t start_rotating(void)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    if (store_try_open(&store, true, &keystore, &err) != KR_OK)
        _exit(1);
    for (;;) {
        uint32_t version = 0;
        if (store_rotate(keystore, "1", 1, &version, &err) != KR_OK)
            _exit(2);
        acknowledge(version);
    }
}

static void test_killed_at_random_moments(void **state)
{
    (void)state;
    struct kill_tally tally = {.name = "rotate key in a loop"};
    unsigned kills = kill_count(40);
    store_make(&store, 1, 1);
    for (unsigned i = 0; i < kills; i++) {
        unsigned before = atomic_load(&acks->count);
        pid_t pid = start_rotating();
        while (atomic_load(&acks->count) == before)
            usleep(200); /* it has opened and begun */
        if (i % 4 == 3)
            kill_sleep(20000);
        else
            kill_aim(kill_inside_journal, store.path, 100);
        kill_child(pid, kill_inside_journal, store.path, &tally);
        assert_int_equal(tally.late, 0);
        check_acknowledged("1");
    }
    assert_true(kill_report(&tally));
    assert_int_equal(tally.kills, kills);
}

/* Made by hand: a change that is on disk with its journal, and no commit. */
static void leave_hot_journal(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct kr_error err = KR_ERROR_INIT;
        uint32_t version = 0;
        struct kr_keystore *keystore = store_open(&store, true);
        /* The last step of a commit deletes the journal. */
        fault_vfs_arm(FAULT_NONE, 0);
        MUST(store_rotate(keystore, "1", 1, &version, &err), &err);
        unsigned steps = fault_vfs_steps();
        fault_vfs_arm(FAULT_KILL, steps);
        (void)!store_rotate(keystore, "1", 1, &version, &err);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_true(kill_inside_journal(store.path));
}

static void test_reader_rolls_a_hot_journal_back(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct found *found = calloc(1, sizeof(*found));
    assert_non_null(found);
    found->id = "1";
    store_make(&store, 1, 3);
    leave_hot_journal();
    struct kr_keystore *keystore = store_open(&store, false);
    assert_false(kill_inside_journal(store.path));
    MUST(kr_keystore_verify(keystore, &err), &err);
    MUST(kr_keystore_each_version(keystore, NULL, collect, found, &err), &err);
    assert_int_equal(found->count, 4); /* not the fifth */
    kr_keystore_close(keystore);
    free(found);
}

enum { NOBODY = 65534 };

/* Root's hot journal belongs to the keystore's owner, who can roll it back. */
static void test_owner_rolls_back_what_root_left(void **state)
{
    (void)state;
    struct stat st;
    char journal[128];
    assert_int_equal(geteuid(), 0);
    assert_int_equal(chown(store.dir, NOBODY, NOBODY), 0);
    store_make(&store, 1, 3);
    assert_int_equal(stat(store.path, &st), 0);
    assert_int_equal(st.st_uid, NOBODY);
    assert_int_equal(st.st_gid, NOBODY);
    assert_int_equal(st.st_mode & 07777, 0600);
    leave_hot_journal();
    snprintf(journal, sizeof(journal), "%s-journal", store.path);
    assert_int_equal(stat(journal, &st), 0);
    assert_int_equal(st.st_uid, NOBODY);
    assert_int_equal(st.st_mode & 07777, 0600);
    pid_t pid = fork();
    if (pid == 0) {
        struct kr_error err = KR_ERROR_INIT;
        struct kr_keystore *keystore = NULL;
        uint32_t version = 0;
        if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0 ||
            store_try_open(&store, true, &keystore, &err) != KR_OK ||
            store_rotate(keystore, "1", 1, &version, &err) != KR_OK)
            _exit(1);
        _exit(version == 5 ? 0 : 2);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create_at_each_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_add_key_at_each_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotate_at_each_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_at_random_moments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reader_rolls_a_hot_journal_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owner_rolls_back_what_root_left, setup, teardown),
    };
    return cmocka_run_group_tests_name("keystore faults", tests, group_setup, NULL);
}
