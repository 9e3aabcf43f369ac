/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A gate that can be shut: what is inside is waited for, what comes later stays outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/gate.h"

static struct kr_gate gate;

static int up(void **state)
{
    (void)state;
    kr_gate_init(&gate);
    return 0;
}

static int down(void **state)
{
    (void)state;
    kr_gate_destroy(&gate);
    return 0;
}

static void test_shut_keeps_work_out(void **state)
{
    (void)state;
    assert_true(kr_gate_enter(&gate));
    kr_gate_leave(&gate);
    assert_true(kr_gate_shut(&gate, 1000));
    assert_true(kr_gate_is_shut(&gate));
    assert_false(kr_gate_enter(&gate));
    assert_true(kr_gate_shut(&gate, 0));
    kr_gate_open(&gate);
    assert_true(kr_gate_enter(&gate));
    kr_gate_leave(&gate);
}

static void test_open_again_when_work_stays(void **state)
{
    (void)state;
    assert_true(kr_gate_enter(&gate));
    assert_false(kr_gate_shut(&gate, 20));
    assert_false(kr_gate_is_shut(&gate));
    assert_true(kr_gate_enter(&gate));
    kr_gate_leave(&gate);
    kr_gate_leave(&gate);
}

static void *shut(void *unused)
{
    (void)unused;
    return kr_gate_shut(&gate, 60000) ? &gate : NULL;
}

static void test_shutting_waits_for_work(void **state)
{
    (void)state;
    pthread_t thread;
    void *result;
    assert_true(kr_gate_enter(&gate));
    assert_int_equal(pthread_create(&thread, NULL, shut, NULL), 0);
    while (!kr_gate_is_shut(&gate)) /* the thread is waiting as soon as it is */
        sched_yield();
    assert_false(kr_gate_enter(&gate));
    kr_gate_leave(&gate);
    pthread_join(thread, &result);
    assert_non_null(result);
    assert_true(kr_gate_is_shut(&gate));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shut_keeps_work_out, up, down),
        cmocka_unit_test_setup_teardown(test_open_again_when_work_stays, up, down),
        cmocka_unit_test_setup_teardown(test_shutting_waits_for_work, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
