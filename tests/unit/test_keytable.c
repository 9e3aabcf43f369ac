/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The table of data keys: what was added is found, also while another thread adds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "provider/keytable.h"

static struct kr_data_key *make_key(uint32_t id, uint32_t version)
{
    struct kr_data_key *key = kr_secret_alloc(sizeof(*key));
    assert_non_null(key);
    *key =
        (struct kr_data_key){.id = id, .version = version, .cipher = KR_CIPHER_AES_CBC, .len = 32};
    memcpy(key->bytes, &version, sizeof(version));
    return key;
}

static void test_empty(void **state)
{
    (void)state;
    struct kr_keytable *table = kr_keytable_new();
    assert_non_null(table);
    assert_int_equal(kr_keytable_latest(table, 1), 0);
    assert_null(kr_keytable_find(table, 1, 1));
    kr_keytable_free(table);
}

static void test_latest_is_highest_added(void **state)
{
    (void)state;
    struct kr_keytable *table = kr_keytable_new();
    assert_true(kr_keytable_add(table, make_key(7, 5)));
    assert_true(kr_keytable_add(table, make_key(7, 3)));
    assert_int_equal(kr_keytable_latest(table, 7), 5);
    assert_int_equal(kr_keytable_latest(table, 8), 0);
    assert_non_null(kr_keytable_find(table, 7, 3));
    assert_null(kr_keytable_find(table, 7, 4));
    assert_int_equal(kr_keytable_keys(table), 1);
    assert_int_equal(kr_keytable_versions(table), 2);
    kr_keytable_free(table);
}

static void test_extreme_numbers(void **state)
{
    (void)state;
    struct kr_keytable *table = kr_keytable_new();
    assert_true(kr_keytable_add(table, make_key(UINT32_MAX, KR_KEY_VERSION_MAX)));
    assert_int_equal(kr_keytable_latest(table, UINT32_MAX), KR_KEY_VERSION_MAX);
    assert_null(kr_keytable_find(table, UINT32_MAX, 1));
    kr_keytable_free(table);
}

enum { VERSIONS = 20000, READERS = 3 };

struct race {
    struct kr_keytable *table;
    atomic_bool done;
    atomic_ulong reads, wrong;
};

/* Whatever the table calls the latest version must be there, whole, and never go back. */
static void *read_all_along(void *arg)
{
    struct race *race = arg;
    uint32_t before = 0;
    while (!race->done) {
        uint32_t latest = kr_keytable_latest(race->table, 9);
        if (latest == 0)
            continue;
        const struct kr_data_key *key = kr_keytable_find(race->table, 9, latest);
        if (!key || latest < before || memcmp(key->bytes, &latest, sizeof(latest)) != 0)
            race->wrong++;
        before = latest;
        race->reads++;
    }
    return NULL;
}

static void test_readers_while_adding(void **state)
{
    (void)state;
    struct race race = {.table = kr_keytable_new()};
    pthread_t readers[READERS];
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_all_along, &race), 0);
    for (uint32_t version = 1; version <= VERSIONS; version++)
        assert_true(kr_keytable_add(race.table, make_key(9, version)));
    while (race.reads < 1000)
        ;
    race.done = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(race.wrong, 0);
    for (uint32_t version = 1; version <= VERSIONS; version++)
        assert_non_null(kr_keytable_find(race.table, 9, version));
    kr_keytable_free(race.table);
    struct kr_secret_stats stats;
    kr_secret_get_stats(&stats);
    assert_int_equal(stats.used_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_latest_is_highest_added),
        cmocka_unit_test(test_extreme_numbers),
        cmocka_unit_test(test_readers_while_adding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
