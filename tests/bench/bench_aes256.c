/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Pages under aes256-cbc and aes256-ctr against aes-cbc and aes-ctr, which have AES-128 there: as
 * ratios of CPU time, pages in turn within a round, medians of the rounds. What AES-256 costs at
 * least stands beside it: the same ratio of plain EVP over the whole buffer. Pages are compared
 * with plain EVP under the derived key first. Then what a page costs whose key is not in the
 * thread's pool.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "bar.h"
#include "hwaccel/page_cipher.h"

enum { MAX_ROUNDS = 201, QUICK_ROUNDS = 61, REPEATS = 4, BLOCK = 16 };
enum { PAGES = 8, FRAME = 16384, HEADER = 26, BUFFER = PAGES * FRAME };

struct subject {
    const char *name;
    enum kr_cipher ours, theirs;
    int flags;
    size_t header, len; /* of a page: what lies before the encrypted part, and its length */
    const char *evp;    /* its mode */
    double bar;         /* 0: reported */
};

#define CBC KR_CIPHER_AES256_CBC, KR_CIPHER_AES_CBC
#define CTR KR_CIPHER_AES256_CTR, KR_CIPHER_AES_CTR
#define ENC KR_PAGE_ENCRYPT
#define DEC KR_PAGE_DECRYPT

static const struct subject subjects[] = {
    {"aes256-cbc page 16384 decrypt", CBC, DEC, 0, 16384, "CBC", 0.70},
    {"aes256-cbc page 16354 decrypt", CBC, DEC, HEADER, 16354, "CBC", 0.70},
    {"aes256-cbc page 16384 encrypt", CBC, ENC, 0, 16384, "CBC", 0.70},
    {"aes256-cbc page 16354 encrypt", CBC, ENC, HEADER, 16354, "CBC", 0.70},
    {"aes256-ctr page 16384 decrypt", CTR, DEC, 0, 16384, "CTR", 0.70},
    {"aes256-ctr page 16354 decrypt", CTR, DEC, HEADER, 16354, "CTR", 0.70},
    {"aes256-ctr page 16354 encrypt", CTR, ENC, HEADER, 16354, "CTR", 0.70},
    {"aes256-cbc page 3042 decrypt", CBC, DEC, HEADER, 3042, "CBC", 0},
    {"aes256-ctr page 3042 decrypt", CTR, DEC, HEADER, 3042, "CTR", 0},
    {"aes256-ctr redo 256 encrypt", CTR, ENC, 0, 256, "CTR", 0},
};
enum { SUBJECTS = sizeof(subjects) / sizeof(subjects[0]) };

static uint8_t data_key[KR_PAGE_KEY_BYTES], given[BLOCK], iv[BLOCK];
static uint8_t src[BUFFER], dst[BUFFER], expected[BUFFER];
static unsigned rounds = MAX_ROUNDS;

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_aes256: error: %s failed\n", what);
        exit(1);
    }
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static struct kr_page_key page_key(void)
{
    return (struct kr_page_key){given, sizeof(given), data_key, 1, 1};
}

static void one_page(const struct subject *s, enum kr_cipher cipher, const struct kr_page_key *key,
                     size_t at)
{
    struct kr_page_op *op;
    size_t out = 0, last;
    require(kr_page_begin(cipher, s->flags, key, iv, BLOCK, &op) == KR_OK &&
                kr_page_update(op, src + at, s->len, dst + at, &out) == KR_OK &&
                kr_page_finish(op, dst + at + out, &last) == KR_OK,
            s->name);
}

static double time_pages(const struct subject *s, enum kr_cipher cipher)
{
    const struct kr_page_key key = page_key();
    double start = cpu_seconds();
    for (unsigned i = 0; i < REPEATS * PAGES; i++)
        one_page(s, cipher, &key, i % PAGES * FRAME + s->header);
    return cpu_seconds() - start;
}

/* --- plain EVP -------------------------------------------------------------------------------- */

static EVP_CIPHER_CTX *open_evp(const char *mode, unsigned bits, const uint8_t *key, int flags)
{
    char name[16];
    snprintf(name, sizeof(name), "AES-%u-%s", bits, mode);
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    require(EVP_CipherInit_ex(ctx, cipher, NULL, key, iv, flags & ENC) &&
                EVP_CIPHER_CTX_set_padding(ctx, 0),
            name);
    EVP_CIPHER_free(cipher);
    return ctx;
}

static double time_evp(EVP_CIPHER_CTX *ctx)
{
    double start = cpu_seconds();
    int out;
    for (unsigned i = 0; i < REPEATS; i++)
        require(EVP_CipherUpdate(ctx, dst, &out, src, BUFFER), "EVP");
    return cpu_seconds() - start;
}

static bool same_as_evp(const struct subject *s, const uint8_t *derived)
{
    const struct kr_page_key key = page_key();
    EVP_CIPHER_CTX *ctx = open_evp(s->evp, 256, derived, s->flags);
    size_t whole = s->len / BLOCK * BLOCK;
    int out;
    require(EVP_CipherUpdate(ctx, expected, &out, src + s->header, (int)whole), "EVP");
    EVP_CIPHER_CTX_free(ctx);
    memset(dst, 0, sizeof(dst));
    one_page(s, s->ours, &key, s->header);
    return memcmp(dst + s->header, expected, whole) == 0;
}

/* --- the bars --------------------------------------------------------------------------------- */

static void bench(const struct subject *s, const uint8_t *derived)
{
    double pages[MAX_ROUNDS], evp[MAX_ROUNDS];
    EVP_CIPHER_CTX *long_key = open_evp(s->evp, 256, derived, s->flags);
    EVP_CIPHER_CTX *short_key = open_evp(s->evp, 128, given, s->flags);
    require(same_as_evp(s, derived), "the comparison with EVP");
    for (unsigned i = 0; i < rounds; i++) {
        double ours = time_pages(s, s->ours), theirs = time_pages(s, s->theirs);
        double limit = time_evp(long_key);
        pages[i] = theirs / ours;
        evp[i] = time_evp(short_key) / limit;
    }
    EVP_CIPHER_CTX_free(long_key);
    EVP_CIPHER_CTX_free(short_key);
    double measured = bar_median(pages, rounds);
    if (s->bar > 0)
        bar_at_least(9, s->name, measured, s->bar);
    else
        bar_reported(9, s->name, measured, "-");
    bar_info(9, "%s: EVP's own AES-256 against AES-128 %.3f", s->name, bar_median(evp, rounds));
}

/* More keys than a thread's pool has contexts, so that each page sets up a key. */
static double seconds_per_page(enum kr_cipher cipher, bool forget)
{
    enum { KEYS = 64 };
    static uint8_t names[KEYS][BLOCK];
    const struct subject *s = &subjects[5];
    double start = cpu_seconds();
    for (unsigned i = 0; i < KEYS; i++) {
        names[i][0] = (uint8_t)i;
        const struct kr_page_key key = {names[i], BLOCK, data_key, 1, 1};
        one_page(s, cipher, &key, HEADER);
    }
    double seconds = (cpu_seconds() - start) / KEYS;
    if (forget)
        kr_page_keys_forget();
    return seconds;
}

static void bench_new_keys(void)
{
    double plain[MAX_ROUNDS], kept[MAX_ROUNDS], derived[MAX_ROUNDS];
    seconds_per_page(KR_CIPHER_AES256_CTR, true);
    for (unsigned i = 0; i < rounds; i++) {
        plain[i] = seconds_per_page(KR_CIPHER_AES_CTR, false);
        derived[i] = seconds_per_page(KR_CIPHER_AES256_CTR, false);
        kept[i] = seconds_per_page(KR_CIPHER_AES256_CTR, true);
    }
    bar_info(9,
             "page 16354 whose key is new to the thread: aes-ctr %.0f ns, aes256-ctr %.0f ns, "
             "with a key derived for it %.0f ns",
             bar_median(plain, rounds) * 1e9, bar_median(kept, rounds) * 1e9,
             bar_median(derived, rounds) * 1e9);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"quick", no_argument, NULL, 'q'}, {0}};
    uint8_t derived[KR_PAGE_KEY_BYTES];
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option != 'q')
            return 2;
        rounds = QUICK_ROUNDS;
    }
    require(RAND_bytes(src, sizeof(src)) && RAND_bytes(data_key, sizeof(data_key)) &&
                RAND_bytes(given, sizeof(given)) && RAND_bytes(iv, sizeof(iv)),
            "setting up");
    const struct kr_page_key key = page_key();
    require(kr_page_key_derive(&key, derived) == KR_OK, "HKDF");
    for (unsigned i = 0; i < SUBJECTS; i++)
        bench(&subjects[i], derived);
    bench_new_keys();
    return bar_exit_code();
}
