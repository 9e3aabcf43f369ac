/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What the server's most frequent question costs: the latest version of a key, asked for every page
 * written. Side by side with a function that does one atomic load and nothing else, in a table of
 * one key and in one of 10,000 versions.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bar.h"
#include "base/secret.h"
#include "provider/keytable.h"

enum { CALLS = 200000, ROUNDS = 51, VERSIONS = 10000, VERSIONS_OF_A_KEY = 20 };
enum { MOST_NS = 3 };

static _Atomic uint32_t plain_version = 1;

__attribute__((noinline)) static uint32_t plain_load(const struct kr_keytable *table, uint32_t id)
{
    (void)table;
    (void)id;
    return atomic_load_explicit(&plain_version, memory_order_acquire);
}

static void require(bool ok)
{
    if (!ok) {
        fputs("bench_latest: error: out of memory\n", stderr);
        exit(1);
    }
}

static struct kr_keytable *fill(unsigned versions)
{
    struct kr_keytable *table = kr_keytable_new();
    require(table != NULL);
    for (unsigned i = 0; i < versions; i++) {
        struct kr_data_key *key = kr_secret_alloc(sizeof(*key));
        require(key != NULL);
        *key = (struct kr_data_key){.id = 1 + i / VERSIONS_OF_A_KEY,
                                    .version = 1 + i % VERSIONS_OF_A_KEY,
                                    .cipher = KR_CIPHER_AES_CBC,
                                    .len = 32};
        require(kr_keytable_add(table, key));
    }
    return table;
}

static double ns_per_call(uint32_t (*latest)(const struct kr_keytable *, uint32_t),
                          const struct kr_keytable *table, unsigned ids)
{
    struct timespec start, end;
    uint32_t sum = 0;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    for (unsigned i = 0; i < CALLS; i++)
        sum += latest(table, 1 + (i & (ids - 1)));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    require(sum > 0);
    return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
           CALLS;
}

/* Best of the rounds, which are interleaved. */
static void bench(const char *name, unsigned versions, unsigned ids)
{
    double plain = 1e9, ours = 1e9;
    struct kr_keytable *table = fill(versions);
    for (unsigned round = 0; round < ROUNDS; round++) {
        double ns = ns_per_call(plain_load, table, ids);
        plain = ns < plain ? ns : plain;
        ns = ns_per_call(kr_keytable_latest, table, ids);
        ours = ns < ours ? ns : ours;
    }
    kr_keytable_free(table);
    bar_info(0, "%s: atomic load %.2f ns, lookup %.2f ns", name, plain, ours);
    bar_at_most(0, name, ours - plain, MOST_NS);
}

int main(void)
{
    bench("latest version, one key, ns more than a load", 1, 1);
    bench("latest version, 10000 versions, ns more than a load", VERSIONS, 256);
    return bar_exit_code();
}
