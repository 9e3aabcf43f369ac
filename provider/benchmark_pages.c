/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Page ciphers: the engines of hwaccel/ beside what plain EVP does, in CPU time. */
#include "provider/benchmark.h"

#include "hwaccel/page_cipher.h"
#include "hwaccel/pages.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BLOCK = 16, PAGES = 16, ROUNDS = 7, GAP = 512 };

/* As MariaDB uses them: it gives each a key of 16 bytes. */
static const struct algorithm {
    const char *name;
    enum kr_cipher cipher;
    const EVP_CIPHER *(*evp)(void);
    bool gcm;      /* the padded form of a CTR cipher */
    bool decrypts; /* otherwise encryption is the same */
} algorithms[] = {
    {"aes-cbc", KR_CIPHER_AES_CBC, EVP_aes_128_cbc, false, true},
    {"aes-ctr", KR_CIPHER_AES_CTR, EVP_aes_128_ctr, false, false},
    {"aes-ctr, GCM", KR_CIPHER_AES_CTR, EVP_aes_128_gcm, true, true},
    {"aes256-cbc", KR_CIPHER_AES256_CBC, EVP_aes_256_cbc, false, true},
    {"aes256-ctr", KR_CIPHER_AES256_CTR, EVP_aes_256_ctr, false, false},
    {"aes256-ctr, GCM", KR_CIPHER_AES256_CTR, EVP_aes_256_gcm, true, true},
};
enum { ALGORITHMS = sizeof(algorithms) / sizeof(algorithms[0]) };

static const size_t sizes[] = {256, 4096, 16384, 65536};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), LARGEST = 65536 };

/* Pages lie a little more than their size apart, so that they do not share cache sets. */
struct bench {
    const struct algorithm *algorithm;
    bool encrypt;
    size_t size;
    uint8_t *plain, *sealed, *out; /* PAGES each */
    EVP_CIPHER_CTX *stream;
    struct kr_pages *many; /* NULL for GCM */
    uint8_t page_key[16], data_key[KR_PAGE_KEY_BYTES], iv[BLOCK];
    uint8_t key[KR_PAGE_KEY_BYTES]; /* what AES gets */
};

static size_t sealed_len(const struct bench *b)
{
    return b->size + (b->algorithm->gcm ? BLOCK : 0);
}

static size_t at(const struct bench *b, unsigned page)
{
    return page * (b->size + GAP);
}

static const uint8_t *source(const struct bench *b, unsigned page)
{
    return (b->encrypt ? b->plain : b->sealed) + at(b, page);
}

static size_t source_len(const struct bench *b)
{
    return b->encrypt ? b->size : sealed_len(b);
}

static struct kr_page_key page_key(const struct bench *b)
{
    return (struct kr_page_key){b->page_key, sizeof(b->page_key), b->data_key, 1, 1};
}

/* --- the engines, each over all pages --------------------------------------------------------- */

static bool run_one_page(struct bench *b)
{
    int flags = (b->encrypt ? KR_PAGE_ENCRYPT : 0) | (b->algorithm->gcm ? KR_PAGE_PADDED : 0);
    const struct kr_page_key key = page_key(b);
    for (unsigned i = 0; i < PAGES; i++) {
        struct kr_page_op *op;
        size_t len = 0, last;
        if (kr_page_begin(b->algorithm->cipher, flags, &key, b->iv, BLOCK, &op) != KR_OK)
            return false;
        uint8_t *to = b->out + at(b, i);
        bool good = kr_page_update(op, source(b, i), source_len(b), to, &len) == KR_OK;
        if (kr_page_finish(op, to + len, &last) != KR_OK || !good)
            return false;
    }
    return true;
}

static bool run_many_pages(struct bench *b)
{
    struct kr_page_job jobs[PAGES];
    for (unsigned i = 0; i < PAGES; i++)
        jobs[i] = (struct kr_page_job){source(b, i), b->out + at(b, i), b->size, b->iv};
    return (b->encrypt ? kr_pages_encrypt(b->many, jobs, PAGES)
                       : kr_pages_decrypt(b->many, jobs, PAGES)) == KR_OK;
}

static bool run_streaming(struct bench *b)
{
    int len;
    for (unsigned i = 0; i < PAGES; i++)
        if (!EVP_CipherUpdate(b->stream, b->out + at(b, i), &len, source(b, i), (int)b->size))
            return false;
    return true;
}

/* GCM as kr_page_begin() has it: the end of the iv is associated data, the tag follows the page. */
static bool plain_evp(const struct bench *b, EVP_CIPHER_CTX *ctx, const uint8_t *from, uint8_t *to)
{
    bool gcm = b->algorithm->gcm;
    uint8_t tag[BLOCK];
    int len = 0, last = 0;
    if (!EVP_CipherInit_ex(ctx, b->algorithm->evp(), NULL, b->key, b->iv, b->encrypt) ||
        !EVP_CIPHER_CTX_set_padding(ctx, 0))
        return false;
    if (gcm && !EVP_CipherUpdate(ctx, NULL, &len, b->iv + 12, 4))
        return false;
    if (gcm && !b->encrypt) {
        memcpy(tag, from + b->size, BLOCK);
        if (!EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, BLOCK, tag))
            return false;
    }
    if (!EVP_CipherUpdate(ctx, to, &len, from, (int)b->size) ||
        !EVP_CipherFinal_ex(ctx, to + len, &last))
        return false;
    return !gcm || !b->encrypt ||
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, BLOCK, to + b->size);
}

static bool run_new_context(struct bench *b)
{
    for (unsigned i = 0; i < PAGES; i++) {
        EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
        bool good = ctx && plain_evp(b, ctx, source(b, i), b->out + at(b, i));
        EVP_CIPHER_CTX_free(ctx);
        if (!good)
            return false;
    }
    return true;
}

static bool (*const engines[KR_ENGINES])(struct bench *) = {
    [KR_ENGINE_ONE_PAGE] = run_one_page,
    [KR_ENGINE_MANY_PAGES] = run_many_pages,
    [KR_ENGINE_STREAMING] = run_streaming,
    [KR_ENGINE_NEW_CONTEXT] = run_new_context,
};

/* --- what they must give ---------------------------------------------------------------------- */

static bool gives_the_same(struct bench *b, enum kr_page_engine engine)
{
    memset(b->out, 0, at(b, PAGES));
    if (!engines[engine](b))
        return false;
    for (unsigned i = 0; i < PAGES; i++) {
        const uint8_t *expected = (b->encrypt ? b->sealed : b->plain) + at(b, i);
        if (memcmp(b->out + at(b, i), expected, b->encrypt ? sealed_len(b) : b->size) != 0)
            return false;
    }
    return true;
}

static enum kr_status check(struct bench *b, struct kr_error *err)
{
    if (gives_the_same(b, KR_ENGINE_ONE_PAGE) && gives_the_same(b, KR_ENGINE_NEW_CONTEXT) &&
        (!b->many || gives_the_same(b, KR_ENGINE_MANY_PAGES)))
        return KR_OK;
    kr_fail(err, KR_INTERNAL, "%s over pages of %zu bytes does not give what OpenSSL gives",
            b->algorithm->name, b->size);
    kr_hint(err, "do not use this build; tell its makers the output of `openssl version -a`");
    return err->status;
}

static bool begin_stream(struct bench *b)
{
    return EVP_CipherInit_ex(b->stream, b->algorithm->evp(), NULL, b->key, b->iv, b->encrypt) &&
           EVP_CIPHER_CTX_set_padding(b->stream, 0);
}

static enum kr_status take_key(struct bench *b, struct kr_error *err)
{
    const struct algorithm *algorithm = b->algorithm;
    const struct kr_page_key key = page_key(b);
    bool derives = kr_cipher_derives(algorithm->cipher);
    size_t len = derives ? sizeof(b->key) : sizeof(b->page_key);
    memcpy(b->key, b->page_key, sizeof(b->page_key));
    if (derives && kr_page_key_derive(&key, b->key) != KR_OK)
        return kr_fail(err, KR_INTERNAL, "cannot derive a key for %s", algorithm->name);
    kr_pages_free(b->many);
    b->many = NULL;
    return algorithm->gcm ? KR_OK : kr_pages_new(algorithm->cipher, b->key, len, &b->many, err);
}

/* By plain EVP. */
static bool seal(struct bench *b)
{
    uint8_t *out = b->out;
    b->encrypt = true;
    b->out = b->sealed;
    bool good = run_new_context(b);
    b->out = out;
    return good;
}

static enum kr_status prepare(struct bench *b, const struct algorithm *algorithm, size_t size,
                              bool encrypt, struct kr_error *err)
{
    b->algorithm = algorithm;
    b->size = size;
    KR_TRY(take_key(b, err));
    bool sealed = seal(b);
    b->encrypt = encrypt;
    if (!sealed || !begin_stream(b))
        return kr_fail(err, KR_INTERNAL, "OpenSSL cannot do %s", algorithm->name);
    return check(b, err);
}

/* --- measuring -------------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static double time_engine(struct bench *b, enum kr_page_engine engine, unsigned repeats)
{
    double start = cpu_seconds();
    for (unsigned i = 0; i < repeats; i++)
        if (!engines[engine](b))
            return 0;
    return (cpu_seconds() - start) / repeats;
}

static void measure(struct bench *b, double seconds, struct kr_page_rate *ret)
{
    double each = seconds / (KR_ENGINES * ROUNDS);
    unsigned repeats[KR_ENGINES] = {0};
    double bytes = (double)b->size * PAGES;
    *ret = (struct kr_page_rate){b->algorithm->name, b->encrypt, b->size, {0}};
    for (int engine = 0; engine < KR_ENGINES; engine++) {
        if (engine == KR_ENGINE_MANY_PAGES && !b->many)
            continue;
        double once = time_engine(b, engine, 1);
        repeats[engine] = once > 0 && once < each ? (unsigned)(each / once) : 1;
    }
    for (int round = 0; round < ROUNDS && begin_stream(b); round++) { /* GCM: 64 GiB at most */
        for (int engine = 0; engine < KR_ENGINES; engine++) {
            if (repeats[engine] == 0)
                continue;
            double took = time_engine(b, engine, repeats[engine]);
            double rate = took > 0 ? bytes / took / 1e9 : 0;
            if (rate > ret->gb_per_second[engine])
                ret->gb_per_second[engine] = rate;
        }
    }
}

static size_t count_rows(void)
{
    size_t count = 0;
    for (size_t i = 0; i < ALGORITHMS; i++)
        count += (size_t)SIZES * (algorithms[i].decrypts ? 2 : 1);
    return count;
}

static enum kr_status measure_all(struct kr_benchmark *benchmark, struct bench *b,
                                  struct kr_page_rate *ret, size_t *ret_count, struct kr_error *err)
{
    size_t total = count_rows(), done = 0;
    for (unsigned i = 0; i < 2 * SIZES * ALGORITHMS && !benchmark->interrupted; i++) {
        const struct algorithm *algorithm = &algorithms[i / SIZES / 2];
        bool encrypt = i / SIZES % 2 == 0;
        if (!encrypt && !algorithm->decrypts)
            continue;
        KR_TRY(prepare(b, algorithm, sizes[i % SIZES], encrypt, err));
        measure(b, benchmark->seconds / (double)total, &ret[done++]);
        benchmark->interrupted = !benchmark->progress(done, total, benchmark->context);
    }
    *ret_count = done;
    return KR_OK;
}

static enum kr_status set_random(struct bench *b, size_t len, struct kr_error *err)
{
    if (RAND_bytes(b->page_key, sizeof(b->page_key)) == 1 &&
        RAND_bytes(b->data_key, sizeof(b->data_key)) == 1 &&
        RAND_bytes(b->iv, sizeof(b->iv)) == 1 && RAND_bytes(b->plain, (int)len) == 1)
        return KR_OK;
    return kr_fail(err, KR_INTERNAL, "OpenSSL has no random bytes");
}

enum kr_status kr_benchmark_pages(struct kr_benchmark *benchmark,
                                  struct kr_page_rate ret[KR_PAGE_RATES_MAX], size_t *ret_count,
                                  struct kr_error *err)
{
    const size_t room = (size_t)PAGES * (LARGEST + GAP);
    struct bench b = {.stream = EVP_CIPHER_CTX_new()};
    uint8_t *memory = calloc(3, room);
    enum kr_status status = KR_INTERNAL;
    if (!memory || !b.stream) {
        kr_fail_memory(err);
    } else {
        b.plain = memory;
        b.sealed = memory + room;
        b.out = memory + 2 * room;
        status = set_random(&b, room, err);
    }
    if (status == KR_OK)
        status = measure_all(benchmark, &b, ret, ret_count, err);
    kr_pages_free(b.many);
    EVP_CIPHER_CTX_free(b.stream);
    free(memory);
    return status;
}
