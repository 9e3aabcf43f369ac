/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What it costs to have the OpenSSL provider in front of the default provider, side by side in one
 * process: AES-256-CBC over pages of 16 KiB and over 64 bytes, and a whole small operation with its
 * init. CPU time, interleaved rounds, medians of their ratios.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rand.h>

#include "bar.h"

enum { ROUNDS = 101, PAGE = 16384, THEIRS = 0, OURS = 1 };

struct subject {
    const char *name;
    bool encrypts, with_init;
    int len;
    unsigned repeats;
    double bar; /* our speed over theirs */
};

static const struct subject subjects[] = {
    {"aes-256-cbc 16384 decrypt", false, false, PAGE, 500, 0.98},
    {"aes-256-cbc 16384 encrypt", true, false, PAGE, 100, 0.98},
    {"aes-256-cbc 64 decrypt", false, false, 64, 50000, 0.85},
    {"aes-256-cbc 64 encrypt", true, false, 64, 50000, 0.85},
    {"aes-256-cbc 64 init and decrypt", false, true, 64, 10000, 0.85},
    {"aes-256-cbc 16384 init and decrypt", false, true, PAGE, 500, 0.95},
};

static uint8_t key[32], iv[16], bytes[PAGE + 16];

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_ossl: error: %s failed\n", what);
        exit(1);
    }
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void init(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const struct subject *s)
{
    require(EVP_CipherInit_ex2(ctx, cipher, key, iv, s->encrypts, NULL) &&
                EVP_CIPHER_CTX_set_padding(ctx, 0),
            "init");
}

static double seconds(const struct subject *s, EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher)
{
    int len;
    double start = cpu_seconds();
    for (unsigned i = 0; i < s->repeats; i++) {
        if (s->with_init)
            init(ctx, cipher, s);
        require(EVP_CipherUpdate(ctx, bytes, &len, bytes, s->len), "update");
    }
    return cpu_seconds() - start;
}

/* The two runs of a round follow each other at once, so that they meet the same clock rate and the
 * same neighbours; their order changes, so that neither always comes after the other. */
static void bench(const struct subject *s, EVP_CIPHER *const ciphers[2])
{
    EVP_CIPHER_CTX *ctx[2] = {EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_new()};
    double ratios[ROUNDS];
    char name[64];
    init(ctx[THEIRS], ciphers[THEIRS], s);
    init(ctx[OURS], ciphers[OURS], s);
    for (unsigned round = 0; round < ROUNDS; round++) {
        double took[2];
        for (unsigned turn = 0; turn < 2; turn++) {
            unsigned side = (round + turn) % 2;
            took[side] = seconds(s, ctx[side], ciphers[side]);
        }
        ratios[round] = took[THEIRS] / took[OURS];
    }
    snprintf(name, sizeof(name), "%s / default provider", s->name);
    bar_at_least(0, name, bar_median(ratios, ROUNDS), s->bar);
    EVP_CIPHER_CTX_free(ctx[THEIRS]);
    EVP_CIPHER_CTX_free(ctx[OURS]);
}

int main(void)
{
    require(OSSL_PROVIDER_set_default_search_path(NULL, P11K_OSSL_MODULES) &&
                OSSL_PROVIDER_load(NULL, "default") && OSSL_PROVIDER_load(NULL, "p11keyring") &&
                RAND_bytes(key, sizeof(key)) && RAND_bytes(iv, sizeof(iv)),
            "setting up");
    EVP_CIPHER *ciphers[2] = {EVP_CIPHER_fetch(NULL, "AES-256-CBC", "provider=default"),
                              EVP_CIPHER_fetch(NULL, "AES-256-CBC", "provider=p11keyring")};
    require(ciphers[THEIRS] && ciphers[OURS], "fetching");
    for (unsigned i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++)
        bench(&subjects[i], ciphers);
    EVP_CIPHER_free(ciphers[THEIRS]);
    EVP_CIPHER_free(ciphers[OURS]);
    return bar_exit_code();
}
