/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Page crypto against its limits, side by side in one process: kr_page_* ("kept"), one EVP context
 * over the whole buffer ("streaming"), and a new context with an implicit fetch for each message
 * ("naive", as MariaDB's own plugins do). CPU time, interleaved rounds, medians of their ratios;
 * that the streaming baseline is no straw man is checked against `openssl speed`.
 *
 * With --pages N --length L --cipher NAME it only decrypts N pages of L bytes under one key, for
 * page_instructions.sh.
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
#include "speed.h"

enum { MAX_ROUNDS = 201, QUICK_ROUNDS = 61, RETRIES = 4 };
enum { BUFFER = 128 * 1024, ROOM = BUFFER + BUFFER / 4, BLOCK = 16 };
enum way { KEPT, STREAMING, NAIVE, WAYS };

struct subject {
    const char *name;
    enum kr_cipher cipher;
    int flags;
    unsigned key_len;
    size_t len;              /* of one message */
    double streaming, naive; /* bars as ratios of speed; 0: informational */
    const char *speed;       /* what to ask `openssl speed`, NULL: nothing */
};

#define CBC KR_CIPHER_AES_CBC
#define CTR KR_CIPHER_AES_CTR
#define ENC KR_PAGE_ENCRYPT
#define DEC KR_PAGE_DECRYPT
#define PAD KR_PAGE_PADDED

/* CBC encryption is bound by latency, which hides what a context costs: no bar against naive. */
static const struct subject subjects[] = {
    {"aes-cbc page 16384 decrypt", CBC, DEC, 16, 16384, 0.93, 1.18, "-decrypt -evp aes-128-cbc"},
    {"aes-ctr page 16384 decrypt", CTR, DEC, 16, 16384, 0.93, 1.18, "-evp aes-128-ctr"},
    {"aes-cbc page 4096 decrypt", CBC, DEC, 16, 4096, 0.80, 1.5, NULL},
    {"aes-ctr page 4096 decrypt", CTR, DEC, 16, 4096, 0.80, 1.5, NULL},
    {"aes-cbc page 16354 decrypt", CBC, DEC, 16, 16354, 0.93, 1.18, NULL},
    {"aes-ctr page 16354 decrypt", CTR, DEC, 16, 16354, 0.93, 1.18, NULL},
    {"aes-ctr page 16354 encrypt", CTR, ENC, 16, 16354, 0.93, 1.18, NULL},
    {"aes-ctr redo 256 encrypt", CTR, ENC, 16, 256, 0, 2.5, NULL},
    {"AES-256 CBC page 16384 decrypt", CBC, DEC, 32, 16384, 0.93, 0, NULL},
    {"aes-cbc page 16384 encrypt", CBC, ENC, 16, 16384, 0.93, 0, "-evp aes-128-cbc"},
    {"aes-cbc page 16354 encrypt", CBC, ENC, 16, 16354, 0.93, 0, NULL},
    {"aes-cbc redo 256 encrypt", CBC, ENC, 16, 256, 0, 0, NULL},
    {"aes-cbc binlog 8159 encrypt", CBC, ENC, 32, 8159, 0, 0, NULL},
    {"aes-ctr binlog 8159 encrypt", CTR, ENC, 32, 8159, 0, 0, NULL},
    {"aes-cbc temporary 32768 encrypt", CBC, ENC | PAD, 16, 32768, 0.93, 0, NULL},
    {"aes-ctr temporary 32768 encrypt", CTR, ENC | PAD, 16, 32768, 0.93, 0, NULL},
};
enum { SUBJECTS = sizeof(subjects) / sizeof(subjects[0]) };

static uint8_t key[32], iv[BLOCK];
static uint8_t *src, *dst, *reference;
static unsigned rounds = MAX_ROUNDS;
#define ROUND_SECONDS 0.001

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_page: error: %s failed\n", what);
        exit(1);
    }
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool is_gcm(const struct subject *s)
{
    return s->cipher == CTR && (s->flags & PAD);
}

/* --- the three ways, each over all messages of the buffer ------------------------------------- */

/* Messages lie as in a server's memory: page contents 16 KiB apart behind a header of 26 bytes. The
 * streaming run starts at the same address, since misaligned data costs AES-NI some time, too. */
static size_t frame(const struct subject *s)
{
    return (s->len + 255) / 256 * 256;
}

static size_t messages(const struct subject *s)
{
    return BUFFER / frame(s);
}

static size_t header(const struct subject *s)
{
    return s->len == 16354 ? 26 : 0;
}

static const uint8_t *from(const struct subject *s, size_t i)
{
    return src + i * frame(s) + header(s);
}

static uint8_t *to(const struct subject *s, size_t i)
{
    return dst + i * (frame(s) + (s->flags & PAD ? BLOCK : 0)) + header(s);
}

static void run_kept(const struct subject *s)
{
    const struct kr_page_key page_key = {.bytes = key, .len = s->key_len};
    for (size_t i = 0; i < messages(s); i++) {
        struct kr_page_op *op;
        size_t out = 0, last;
        require(kr_page_begin(s->cipher, s->flags, &page_key, iv, BLOCK, &op) == KR_OK &&
                    kr_page_update(op, from(s, i), s->len, to(s, i), &out) == KR_OK &&
                    kr_page_finish(op, to(s, i) + out, &last) == KR_OK,
                s->name);
    }
}

/* By function, as a program from before OpenSSL 3 does it: the fetch is hidden in the init. */
static const EVP_CIPHER *implicit(const struct subject *s)
{
    if (s->key_len == 32)
        return s->cipher == CBC ? EVP_aes_256_cbc() : EVP_aes_256_ctr();
    if (is_gcm(s))
        return EVP_aes_128_gcm();
    return s->cipher == CBC ? EVP_aes_128_cbc() : EVP_aes_128_ctr();
}

static void naive_mask(const struct subject *s, uint8_t *mask)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int out;
    require(EVP_EncryptInit_ex(ctx, s->key_len == 32 ? EVP_aes_256_ecb() : EVP_aes_128_ecb(), NULL,
                               key, NULL) &&
                EVP_CIPHER_CTX_set_padding(ctx, 0) && EVP_EncryptUpdate(ctx, mask, &out, iv, BLOCK),
            "AES-ECB");
    EVP_CIPHER_CTX_free(ctx);
}

static void naive_message(const struct subject *s, const uint8_t *plain, uint8_t *result)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int out = 0, last = 0;
    bool partial = s->cipher == CBC && !(s->flags & PAD);
    size_t tail = partial ? s->len % BLOCK : 0, whole = s->len - tail;
    bool ok = EVP_CipherInit_ex(ctx, implicit(s), NULL, key, iv, s->flags & ENC);
    if (partial)
        ok = ok && EVP_CIPHER_CTX_set_padding(ctx, 0);
    if (is_gcm(s))
        ok = ok && EVP_CipherUpdate(ctx, NULL, &out, iv + 12, 4);
    ok = ok && EVP_CipherUpdate(ctx, result, &out, plain, (int)whole) &&
         EVP_CipherFinal_ex(ctx, result + out, &last);
    if (is_gcm(s))
        ok = ok && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, BLOCK, result + out);
    require(ok, s->name);
    if (tail > 0) {
        uint8_t mask[BLOCK];
        naive_mask(s, mask);
        for (size_t i = 0; i < tail; i++)
            result[whole + i] = plain[whole + i] ^ mask[i];
    }
    EVP_CIPHER_CTX_free(ctx);
}

static void run_naive(const struct subject *s)
{
    for (size_t i = 0; i < messages(s); i++)
        naive_message(s, from(s, i), to(s, i));
}

static EVP_CIPHER_CTX *stream;

static void open_stream(const struct subject *s)
{
    stream = EVP_CIPHER_CTX_new();
    require(EVP_CipherInit_ex(stream, implicit(s), NULL, key, iv, s->flags & ENC) &&
                EVP_CIPHER_CTX_set_padding(stream, 0),
            "streaming EVP");
}

static void run_streaming(const struct subject *s)
{
    int out, len = (int)(messages(s) * s->len / BLOCK * BLOCK);
    require(EVP_CipherUpdate(stream, to(s, 0), &out, from(s, 0), len), "streaming EVP");
}

/* --- measuring -------------------------------------------------------------------------------- */

static void (*const runs[WAYS])(const struct subject *) = {run_kept, run_streaming, run_naive};

static double seconds_per_run(const struct subject *s, enum way way, unsigned repeats)
{
    double start = cpu_seconds();
    for (unsigned i = 0; i < repeats; i++)
        runs[way](s);
    return (cpu_seconds() - start) / repeats;
}

struct result {
    double streaming, naive; /* speed of the kept way over theirs: medians of the rounds */
    double stream_seconds;   /* best run */
};

/* The runs of a round follow each other at once, so that they meet the same clock rate and the same
 * neighbours: ratios are taken within a round. */
static struct result measure(const struct subject *s)
{
    double streaming[MAX_ROUNDS] = {0}, naive[MAX_ROUNDS] = {0}, best = 0;
    double once = seconds_per_run(s, NAIVE, 3);
    unsigned repeats = once < ROUND_SECONDS ? (unsigned)(ROUND_SECONDS / once) : 1;
    for (unsigned round = 0; round < rounds; round++) {
        double seconds[WAYS];
        for (unsigned way = 0; way < WAYS; way++)
            seconds[way] = seconds_per_run(s, way, repeats);
        streaming[round] = seconds[STREAMING] / seconds[KEPT];
        naive[round] = seconds[NAIVE] / seconds[KEPT];
        if (round == 0 || seconds[STREAMING] < best)
            best = seconds[STREAMING];
    }
    return (struct result){bar_median(streaming, rounds), bar_median(naive, rounds), best};
}

static void report(unsigned number, const char *subject, const char *against, double measured,
                   double bar)
{
    char name[64];
    snprintf(name, sizeof(name), "%s, against %s", subject, against);
    if (bar > 0)
        bar_at_least(number, name, measured, bar);
    else
        bar_reported(0, name, measured, "-");
}

/* A neighbour that empties the caches costs a page a percent or two: it gets time to pass. */
static bool bars_met(const struct subject *s, const struct result *result)
{
    return result->streaming >= s->streaming && result->naive >= s->naive;
}

static void bench(const struct subject *s)
{
    memset(dst, 0, ROOM);
    run_naive(s);
    memcpy(reference, dst, ROOM);
    memset(dst, 0, ROOM);
    run_kept(s);
    if (memcmp(reference, dst, ROOM) != 0) {
        report(0, s->name, "plain EVP: same bytes", 0, 1);
        return;
    }
    open_stream(s);
    struct result result = measure(s);
    for (unsigned again = 0; again < RETRIES && !bars_met(s, &result); again++)
        result = measure(s);
    report(1, s->name, "streaming", result.streaming, s->streaming);
    report(2, s->name, "naive", result.naive, s->naive);
    if (s->speed) {
        double ours = (double)messages(s) * (double)s->len / result.stream_seconds;
        report(1, "streaming EVP", s->speed, ours / openssl_speed(s->speed), 0.85);
    }
    EVP_CIPHER_CTX_free(stream);
}

static void decrypt_pages(enum kr_cipher cipher, unsigned long pages, size_t len)
{
    const struct kr_page_key page_key = {.bytes = key, .len = 16, .data_key = key};
    for (unsigned long i = 0; i < pages; i++) {
        struct kr_page_op *op;
        size_t out = 0, last;
        require(kr_page_begin(cipher, DEC, &page_key, iv, BLOCK, &op) == KR_OK &&
                    kr_page_update(op, src, len, dst, &out) == KR_OK &&
                    kr_page_finish(op, dst + out, &last) == KR_OK,
                "decryption");
    }
}

static unsigned long number(const char *text, unsigned long max)
{
    unsigned long value = strtoul(text, NULL, 10);
    return value < max ? value : max;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"quick", no_argument, NULL, 'q'},
                                            {"pages", required_argument, NULL, 'p'},
                                            {"length", required_argument, NULL, 'l'},
                                            {"cipher", required_argument, NULL, 'c'},
                                            {0}};
    unsigned long pages = 0, len = 16384;
    enum kr_cipher cipher = CBC;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'q')
            rounds = QUICK_ROUNDS;
        else if (option == 'p')
            pages = number(optarg, 1000000);
        else if (option == 'l')
            len = number(optarg, BUFFER);
        else if (option == 'c')
            require(kr_cipher_parse(optarg, &cipher), optarg);
        else
            return 2;
    }
    src = malloc(ROOM);
    dst = malloc(ROOM);
    reference = malloc(ROOM);
    require(src && dst && reference && RAND_bytes(src, ROOM) && RAND_bytes(key, sizeof(key)) &&
                RAND_bytes(iv, sizeof(iv)),
            "setting up");
    decrypt_pages(cipher, pages, len);
    for (unsigned i = 0; i < SUBJECTS && pages == 0; i++)
        bench(&subjects[i]);
    free(src);
    free(dst);
    free(reference);
    return bar_exit_code();
}
