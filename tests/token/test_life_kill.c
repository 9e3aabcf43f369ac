/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Rotations and moves that are killed at random moments of their run, with P11K_KILLS (default 5)
 * kills that fall inside: each is completed by the next call, and every data key stays.
 */
#include "life_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { VERSIONS = 60 };

static struct keyring_fixture f;

/* Rotations, and moves from one token to the other and back. */
static void operate(unsigned round, int begun)
{
    static const char *const targets[] = {"two", "one"};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_life_result result;
    struct kr_life_options options = {0};
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    if (begun >= 0 && write(begun, "b", 1) != 1)
        abort();
    if (round % 2) {
        options.token = targets[round / 2 % 2];
        life_must(kr_keyring_move(keyring, &options, &result, &err), &err);
    } else {
        life_must(kr_keyring_rotate_masters(keyring, &options, &result, &err), &err);
    }
    kr_keyring_close(keyring);
}

/* In a process of its own; true when it was killed before its end. */
static bool operate_and_kill(unsigned round, unsigned long max_us)
{
    int ends[2], status;
    unsigned long random;
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        operate(round, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    assert_int_equal(getrandom(&random, sizeof(random), 0), sizeof(random));
    usleep((useconds_t)(random % max_us));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

static void retire_old(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore_options keystore_options = {
        .path = f.token.keystore, .keyring = "test", .lock_timeout_ms = 30000};
    const struct kr_life_options options = {0};
    struct kr_retirement done;
    struct kr_keystore *keystore;
    struct kr_master_row *rows;
    size_t count;
    life_must(kr_keystore_open(&keystore_options, &keystore, &err), &err);
    life_must(kr_keystore_list_masters(keystore, &rows, &count, &err), &err);
    kr_keystore_close(keystore);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    for (size_t i = 0; i < count; i++)
        if (rows[i].state == KR_MASTER_OLD)
            life_must(kr_keyring_retire_master(keyring, &rows[i].id, &options, &done, &err), &err);
    kr_keyring_close(keyring);
    free(rows);
}

static void test_kills(void **state)
{
    (void)state;
    const char *wanted = getenv("P11K_KILLS");
    unsigned kills = wanted ? (unsigned)atoi(wanted) : 5, inside = 0, halfway = 0, rounds = 0;
    life_up(&f);
    life_configure(&f, "one two", 4);
    keyring_fixture_add_versions(&f, 1, VERSIONS);
    uint64_t before = life_digest(&f, 1), start = kr_now_ms();
    mock_rules("delay C_Decrypt 2");
    operate(0, -1);
    unsigned long span_us = 1000 * (unsigned long)(kr_now_ms() - start);
    while (inside < kills) {
        bool killed = operate_and_kill(rounds, span_us);
        inside += killed;
        span_us = killed ? span_us * 11 / 10 : span_us * 8 / 10 + 1000;
        assert_true(life_digest(&f, 1) == before);
        halfway += killed && life_outdated(&f) > 0;
        operate(rounds, -1);
        assert_int_equal(life_outdated(&f), 0);
        assert_true(life_digest(&f, 1) == before);
        retire_old();
        rounds++;
    }
    print_message("%u runs, %u kills inside, %u of them with envelopes left to do\n", rounds,
                  inside, halfway);
    assert_true(life_digest(&f, 1) == before);
    life_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kills)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
