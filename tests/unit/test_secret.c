/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Secret memory as the kernel sees it: locked, not dumped, wiped. */
#include "base/log.h"
#include "base/secret.h"
#include "scratch.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ARENA = 64 * 1024, LARGE = 100 * 1024 };

/* VmLck of /proc/self/status, in bytes. */
static size_t locked_by_kernel(void)
{
    char line[256];
    size_t kb = 0;
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof(line), status))
        sscanf(line, "VmLck: %zu kB", &kb);
    if (status)
        fclose(status);
    return kb * 1024;
}

/* Whether the mapping that holds `address` has the flag in its VmFlags. */
static bool mapping_has(const void *address, const char *flag)
{
    char line[512];
    bool inside = false, has = false;
    FILE *maps = fopen("/proc/self/smaps", "re");
    while (maps && fgets(line, sizeof(line), maps)) {
        uintptr_t low, high;
        if (sscanf(line, "%lx-%lx ", &low, &high) == 2)
            inside = (uintptr_t)address >= low && (uintptr_t)address < high;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            has = strstr(line, flag) != NULL;
    }
    if (maps)
        fclose(maps);
    return has;
}

/* Counts a byte in memory that may have been freed; through the kernel, as ASan forbids a look. */
static size_t count_bytes(const void *address, size_t len, uint8_t wanted)
{
    uint8_t copy[4096];
    assert_true(len <= sizeof(copy));
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, copy, len, (off_t)(uintptr_t)address), len);
    close(fd);
    size_t count = 0;
    for (size_t i = 0; i < len; i++)
        count += copy[i] == wanted;
    return count;
}

static void memory_is_zeroed_aligned_and_of_any_size(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 31, 32, 33, 255, 16384, 32768, 32769, LARGE, 16 * 1024 * 1024};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        KR_SECRET uint8_t *secret = kr_secret_alloc(sizes[i]);
        assert_non_null(secret);
        assert_int_equal((uintptr_t)secret % 32, 0);
        assert_int_equal(secret[0] | secret[sizes[i] / 2] | secret[sizes[i] - 1], 0);
        memset(secret, 0xa5, sizes[i]);
    }
    assert_null(kr_secret_alloc(0));
    assert_null(kr_secret_alloc(16 * 1024 * 1024 + 1));
    kr_secret_free(NULL);
}

static void arenas_are_locked(void **state)
{
    (void)state;
    size_t before = locked_by_kernel();
    KR_SECRET char *large = kr_secret_alloc(LARGE);
    assert_in_range(locked_by_kernel(), before + LARGE, before + LARGE + 4096);
    KR_SECRET char *small = kr_secret_alloc(16);
    assert_true(mapping_has(large, " lo"));
    assert_true(mapping_has(small, " lo"));
    struct kr_secret_stats stats;
    kr_secret_get_stats(&stats);
    assert_int_equal(stats.unlocked_bytes, 0);
    assert_int_equal(stats.locked_bytes, locked_by_kernel());
}

static void arenas_are_not_dumped(void **state)
{
    (void)state;
    KR_SECRET char *small = kr_secret_alloc(16), *large = kr_secret_alloc(LARGE);
    char *ordinary = malloc(16);
    assert_false(mapping_has(ordinary, " dd"));
    assert_true(mapping_has(small, " dd"));
    assert_true(mapping_has(large, " dd"));
    free(ordinary);
}

static void freed_memory_is_wiped(void **state)
{
    (void)state;
    KR_SECRET uint8_t *neighbour = kr_secret_alloc(100);
    uint8_t *secret = kr_secret_alloc(1000);
    memset(neighbour, 0x5a, 100);
    memset(secret, 0xa5, 1000);
    assert_int_equal(count_bytes(secret, 1000, 0xa5), 1000);
    kr_secret_free(secret);
    assert_int_equal(count_bytes(secret, 1000, 0xa5), 0);
    assert_int_equal(count_bytes(neighbour, 100, 0x5a), 100);
    uint8_t plain[16];
    memset(plain, 0xa5, sizeof(plain));
    kr_wipe(plain, sizeof(plain));
    assert_int_equal(count_bytes(plain, sizeof(plain), 0), sizeof(plain));
    kr_wipe(NULL, 0);
}

static void copy_is_terminated(void **state)
{
    (void)state;
    KR_SECRET char *copy = kr_secret_dup("abcdef", 3), *empty = kr_secret_dup(NULL, 0);
    assert_string_equal(copy, "abc");
    assert_string_equal(empty, "");
    assert_null(kr_secret_dup("x", SIZE_MAX));
}

/* What a keystore of 10,000 key versions needs. */
static void many_small_secrets_stay_compact(void **state)
{
    (void)state;
    enum { COUNT = 10000, BYTES = 48 };
    static uint8_t *keys[COUNT];
    struct kr_secret_stats before, full, after;
    kr_secret_get_stats(&before);
    for (int i = 0; i < COUNT; i++) {
        keys[i] = kr_secret_alloc(BYTES);
        assert_non_null(keys[i]);
        memset(keys[i], i & 0xff, BYTES);
    }
    kr_secret_get_stats(&full);
    assert_in_range(full.locked_bytes, COUNT * BYTES, 2 * COUNT * BYTES + 2 * ARENA);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(keys[i][0] | keys[i][BYTES - 1], i & 0xff);
        kr_secret_free(keys[i]);
    }
    kr_secret_get_stats(&after);
    assert_int_equal(after.used_bytes, before.used_bytes);
    assert_in_range(after.locked_bytes, 0, 2 * ARENA);
}

static void holes_are_used_again(void **state)
{
    (void)state;
    enum { COUNT = 400 };
    uint8_t *secrets[COUNT];
    struct kr_secret_stats before, after;
    for (int i = 0; i < COUNT; i++)
        secrets[i] = kr_secret_alloc(64);
    kr_secret_get_stats(&before);
    for (int round = 0; round < 100; round++) {
        for (int i = round % 2; i < COUNT; i += 2)
            kr_secret_free(secrets[i]);
        for (int i = round % 2; i < COUNT; i += 2)
            secrets[i] = kr_secret_alloc(33 + (size_t)round % 32);
    }
    kr_secret_get_stats(&after);
    assert_int_equal(after.locked_bytes, before.locked_bytes);
    for (int i = 0; i < COUNT; i++)
        kr_secret_free(secrets[i]);
}

static void *churn(void *seed)
{
    uint8_t *held[32] = {0};
    size_t sizes[32] = {0};
    unsigned random = (unsigned)(uintptr_t)seed;
    bool intact = true;
    for (int i = 0; i < 4000; i++) {
        size_t slot = (size_t)rand_r(&random) % 32;
        for (size_t at = 0; at < sizes[slot]; at++)
            intact = intact && held[slot][at] == (uint8_t)(uintptr_t)seed;
        kr_secret_free(held[slot]);
        sizes[slot] = (size_t)rand_r(&random) % (i % 50 ? 200 : 40000) + 1;
        held[slot] = kr_secret_alloc(sizes[slot]);
        memset(held[slot], (uint8_t)(uintptr_t)seed, sizes[slot]);
    }
    for (size_t slot = 0; slot < 32; slot++)
        kr_secret_free(held[slot]);
    return intact ? seed : NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct kr_secret_stats before, after;
    kr_secret_get_stats(&before);
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
    for (uintptr_t i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_ptr_equal(result, (void *)(i + 1));
    }
    kr_secret_get_stats(&after);
    assert_int_equal(after.used_bytes, before.used_bytes);
}

static int free_twice(void *argument)
{
    (void)argument;
    char *kept = kr_secret_alloc(100), *secret = kr_secret_alloc(100);
    kr_secret_free(secret);
    kr_secret_free(secret);
    kr_secret_free(kept);
    return 0;
}

static int free_the_middle(void *argument)
{
    (void)argument;
    char *secret = kr_secret_alloc(100);
    kr_secret_free(secret + 32);
    return 0;
}

static int free_foreign(void *argument)
{
    (void)argument;
    char local[8];
    kr_secret_free(local);
    return 0;
}

static void a_wrong_free_ends_the_process(void **state)
{
    (void)state;
    int (*const wrong[])(void *) = {free_twice, free_the_middle, free_foreign};
    for (size_t i = 0; i < 3; i++) {
        int status = scratch_in_child(wrong[i], NULL);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
    }
}

static int child_sees_locked_copy(void *secret)
{
    return memcmp(secret, "forked", 7) == 0 && locked_by_kernel() >= LARGE &&
                   mapping_has(secret, " lo") && mapping_has(secret, " dd")
               ? 0
               : 1;
}

static void a_child_has_its_own_locked_copy(void **state)
{
    (void)state;
    KR_SECRET char *secret = kr_secret_alloc(LARGE);
    memcpy(secret, "forked", 7);
    assert_int_equal(scratch_in_child(child_sees_locked_copy, secret), 0);
}

/* --- no right to lock; in children, as it cannot be had back ---------------------------------- */

static int warnings, errors;

static void count_messages(enum kr_log_level level, const char *message, void *context)
{
    (void)context;
    if (!strstr(message, "LimitMEMLOCK"))
        return;
    warnings += level == KR_LOG_WARNING;
    errors += level == KR_LOG_ERROR;
}

/* Root is not bound by the limit unless it loses its capability. */
static bool lose_the_right_to_lock(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];
    memset(none, 0, sizeof(none));
    const struct rlimit zero = {0, 0};
    kr_log_set_sink(count_messages, NULL);
    return setrlimit(RLIMIT_MEMLOCK, &zero) == 0 && syscall(SYS_capset, &header, none) == 0;
}

static int go_on_with_a_warning(void *argument)
{
    (void)argument;
    if (!lose_the_right_to_lock())
        return 1;
    char *first = kr_secret_alloc(LARGE), *second = kr_secret_alloc(LARGE);
    if (!first || !second || !mapping_has(first, " dd") || mapping_has(first, " lo"))
        return 2;
    memset(first, 1, LARGE);
    struct kr_secret_stats stats;
    kr_secret_get_stats(&stats);
    if (stats.unlocked_bytes < 2 * LARGE)
        return 3;
    kr_secret_free(first);
    kr_secret_free(second);
    return warnings == 1 && errors == 0 ? 0 : 4;
}

static int refuse(void *argument)
{
    (void)argument;
    if (!lose_the_right_to_lock())
        return 1;
    kr_secret_set_policy(KR_LOCK_REQUIRE);
    size_t before = locked_by_kernel();
    if (kr_secret_alloc(LARGE) || kr_secret_alloc(LARGE) || locked_by_kernel() != before)
        return 2;
    struct kr_error err = KR_ERROR_INIT;
    if (kr_fail_secret(&err) != KR_INTERNAL || !strstr(err.hint, "LimitMEMLOCK"))
        return 3;
    return warnings == 0 && errors == 1 ? 0 : 4;
}

static void a_low_limit_warns_once_and_goes_on(void **state)
{
    (void)state;
    assert_int_equal(scratch_in_child(go_on_with_a_warning, NULL), 0);
}

static void a_low_limit_refuses_where_locking_is_required(void **state)
{
    (void)state;
    assert_int_equal(scratch_in_child(refuse, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first: where the tests' own limit is low, the one warning must not be used up */
        cmocka_unit_test(a_low_limit_warns_once_and_goes_on),
        cmocka_unit_test(a_low_limit_refuses_where_locking_is_required),
        cmocka_unit_test(memory_is_zeroed_aligned_and_of_any_size),
        cmocka_unit_test(arenas_are_locked),
        cmocka_unit_test(arenas_are_not_dumped),
        cmocka_unit_test(freed_memory_is_wiped),
        cmocka_unit_test(copy_is_terminated),
        cmocka_unit_test(many_small_secrets_stay_compact),
        cmocka_unit_test(holes_are_used_again),
        cmocka_unit_test(threads_do_not_disturb_each_other),
        cmocka_unit_test(a_wrong_free_ends_the_process),
        cmocka_unit_test(a_child_has_its_own_locked_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
