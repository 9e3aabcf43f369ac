/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Whole files: what the file tools do with pages, on a file that is made for it and has no name. */
#include "provider/benchmark.h"

#include "base/bytes.h"
#include "base/io.h"
#include "hwaccel/bulk.h"
#include "hwaccel/crc32c.h"
#include "hwaccel/page_cipher.h"
#include "hwaccel/pages.h"

#include <openssl/rand.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 16384, TAIL = 16, BODY = PAGE - TAIL, BLOCK = 16, BATCH = 16, ROUNDS = 3 };

/* A page: BODY bytes encrypted, then in the clear the CRC-32C of what they were, and zeros. */
struct bench {
    const struct kr_benchmark_file *subject;
    struct kr_benchmark *benchmark;
    int in, out;
    unsigned threads; /* at most */
    uint8_t key[16];
    struct kr_pages *engines[KR_BULK_THREADS_MAX]; /* by worker */
    uint64_t done, total;                          /* measurements */
};

/* --- what is done with a chunk ---------------------------------------------------------------- */

struct batch {
    struct kr_page_job jobs[BATCH];
    uint8_t ivs[BATCH][BLOCK];
    unsigned count;
};

static void fill_batch(const struct kr_bulk_chunk *chunk, unsigned from, struct batch *ret)
{
    memset(ret, 0, sizeof(*ret));
    while (ret->count < BATCH && from + ret->count < chunk->count) {
        unsigned i = ret->count++;
        uint8_t *page = chunk->pages[from + i];
        kr_put_number(ret->ivs[i], chunk->first + from + i, 8);
        ret->jobs[i] = (struct kr_page_job){page, page, BODY, ret->ivs[i]};
    }
}

static enum kr_status check_sums(const struct batch *batch, struct kr_error *err)
{
    for (unsigned i = 0; i < batch->count; i++) {
        const uint8_t *page = batch->jobs[i].src;
        if (kr_crc32c(0, page, BODY) != (uint32_t)kr_get_number(page + BODY, 4)) {
            kr_fail(err, KR_INTEGRITY, "a page of the temporary file is not what was written");
            kr_hint(err, "see what the kernel says of disk and memory: dmesg");
            return err->status;
        }
    }
    return KR_OK;
}

static enum kr_status one_page(const struct bench *b, const struct kr_page_job *job, int flags)
{
    const struct kr_page_key key = {.bytes = b->key, .len = sizeof(b->key)};
    struct kr_page_op *op;
    size_t len = 0, last;
    KR_TRY(kr_page_begin(KR_CIPHER_AES_CBC, flags, &key, job->iv, BLOCK, &op));
    enum kr_status status = kr_page_update(op, job->src, job->len, job->dst, &len);
    enum kr_status finished = kr_page_finish(op, job->dst + len, &last);
    return status == KR_OK ? finished : status;
}

static enum kr_status each_page(const struct bench *b, const struct batch *batch, int flags)
{
    for (unsigned i = 0; i < batch->count; i++)
        KR_TRY(one_page(b, &batch->jobs[i], flags));
    return KR_OK;
}

static enum kr_status fail_cipher(struct kr_error *err)
{
    return kr_fail(err, KR_INTERNAL, "a page cipher failed");
}

static enum kr_status work(struct kr_bulk_chunk *chunk, struct bench *b, bool writes, bool many,
                           struct kr_error *err)
{
    struct kr_pages *engine = b->engines[chunk->worker];
    struct batch batch;
    for (unsigned from = 0; from < chunk->count; from += BATCH) {
        fill_batch(chunk, from, &batch);
        if ((many ? kr_pages_decrypt(engine, batch.jobs, batch.count)
                  : each_page(b, &batch, KR_PAGE_DECRYPT)) != KR_OK)
            return fail_cipher(err);
        KR_TRY(check_sums(&batch, err));
        if (writes && (many ? kr_pages_encrypt(engine, batch.jobs, batch.count)
                            : each_page(b, &batch, KR_PAGE_ENCRYPT)) != KR_OK)
            return fail_cipher(err);
    }
    return KR_OK;
}

static enum kr_status verify(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    return work(chunk, context, false, true, err);
}

static enum kr_status reencrypt(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    return work(chunk, context, true, true, err);
}

static enum kr_status reencrypt_one_page(struct kr_bulk_chunk *chunk, void *context,
                                         struct kr_error *err)
{
    return work(chunk, context, true, false, err);
}

static const kr_bulk_function works[KR_FILE_WORKS] = {
    [KR_FILE_COPY] = NULL,
    [KR_FILE_VERIFY] = verify,
    [KR_FILE_REENCRYPT] = reencrypt,
    [KR_FILE_ONE_PAGE] = reencrypt_one_page,
};

/* The pages of the file as it is made. */
static enum kr_status make_pages(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct bench *b = context;
    struct batch batch;
    for (unsigned from = 0; from < chunk->count; from += BATCH) {
        fill_batch(chunk, from, &batch);
        for (unsigned i = 0; i < batch.count; i++) {
            uint8_t *page = batch.jobs[i].dst;
            memset(page, (int)(from + i), PAGE);
            kr_put_number(page + BODY, kr_crc32c(0, page, BODY), 4);
        }
        if (kr_pages_encrypt(b->engines[chunk->worker], batch.jobs, batch.count) != KR_OK)
            return fail_cipher(err);
    }
    return KR_OK;
}

/* --- files ------------------------------------------------------------------------------------ */

/* A file that nobody else can open, and that is gone with this process. */
static enum kr_status open_temporary(const char *directory, int *ret, struct kr_error *err)
{
    char path[4096];
    int len = snprintf(path, sizeof(path), "%s/p11keyring-benchmark.XXXXXX", directory);
    int fd = len < (int)sizeof(path) ? mkostemp(path, O_CLOEXEC) : -1;
    if (fd < 0) {
        kr_fail(err, KR_IO, "cannot make a temporary file in %s: %s", directory, strerror(errno));
        kr_hint(err, "name a directory that can be written with --directory");
        return err->status;
    }
    unlink(path);
    *ret = fd;
    return KR_OK;
}

static bool progress(uint64_t done, uint64_t total, void *context)
{
    struct bench *b = context;
    struct kr_benchmark *benchmark = b->benchmark;
    (void)done;
    (void)total;
    return benchmark->progress(b->done, b->total, benchmark->context);
}

static struct kr_bulk pipeline(struct bench *b, kr_bulk_function function, unsigned threads)
{
    return (struct kr_bulk){.in = b->in,
                            .out = b->out,
                            .in_name = "the temporary file",
                            .out_name = "the temporary file",
                            .size = b->subject->size,
                            .page_size = PAGE,
                            .threads = threads,
                            .sync = KR_BULK_SYNC_NONE,
                            .work = function,
                            .progress = progress,
                            .context = b};
}

static enum kr_status run(struct bench *b, const struct kr_bulk *bulk, struct kr_bulk_result *ret,
                          struct kr_error *err)
{
    KR_TRY(kr_bulk_run(bulk, ret, err));
    b->benchmark->interrupted = ret->interrupted;
    return KR_OK;
}

/* Both files have all their blocks, and nothing of them waits to be written. */
static enum kr_status make_files(struct bench *b, struct kr_error *err)
{
    struct kr_bulk_result result;
    KR_TRY(open_temporary(b->subject->directory, &b->in, err));
    KR_TRY(open_temporary(b->subject->directory, &b->out, err));
    struct kr_bulk fill = pipeline(b, make_pages, b->threads);
    fill.out = b->in;
    if (ftruncate(b->in, (off_t)b->subject->size) != 0)
        return kr_fail(err, KR_IO, "cannot make a file of %llu bytes: %s",
                       (unsigned long long)b->subject->size, strerror(errno));
    KR_TRY(run(b, &fill, &result, err));
    if (b->benchmark->interrupted)
        return KR_OK;
    struct kr_bulk copy = pipeline(b, NULL, b->threads);
    KR_TRY(run(b, &copy, &result, err));
    fsync(b->in);
    fsync(b->out);
    return KR_OK;
}

/* --- measuring -------------------------------------------------------------------------------- */

static double seconds_of(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void keep_best(double *best, double bytes, double seconds)
{
    double rate = seconds > 0 ? bytes / seconds / 1e9 : 0;
    if (rate > *best)
        *best = rate;
}

static enum kr_status measure(struct bench *b, struct kr_file_rate *rate, struct kr_error *err)
{
    struct kr_bulk bulk = pipeline(b, works[rate->work], rate->threads);
    struct kr_bulk_result result;
    bulk.direct = rate->direct;
    if (rate->work == KR_FILE_VERIFY)
        bulk.out = -1;
    if (rate->direct)
        bulk.sync = KR_BULK_SYNC_END;
    double start = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    KR_TRY(run(b, &bulk, &result, err));
    if (result.interrupted)
        return KR_OK;
    double bytes = (double)b->subject->size;
    keep_best(&rate->gb_per_second, bytes, seconds_of(CLOCK_MONOTONIC) - start);
    keep_best(&rate->gb_per_cpu_second, bytes, seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    rate->buffered_because = result.buffered_because;
    b->done++;
    return KR_OK;
}

static size_t plan(const struct bench *b, struct kr_file_rate ret[KR_FILE_RATES_MAX])
{
    const unsigned threads[] = {1, b->threads};
    size_t count = 0;
    for (unsigned i = b->threads == 1; i < 2; i++)
        for (enum kr_file_work work = 0; work < KR_FILE_WORKS; work++)
            ret[count++] = (struct kr_file_rate){.work = work, .threads = threads[i]};
    for (enum kr_file_work work = 0; work <= KR_FILE_REENCRYPT; work++)
        ret[count++] = (struct kr_file_rate){.work = work, .threads = b->threads, .direct = true};
    return count;
}

static enum kr_status measure_all(struct bench *b, struct kr_file_rate ret[KR_FILE_RATES_MAX],
                                  size_t *ret_count, struct kr_error *err)
{
    size_t count = plan(b, ret);
    b->total = ROUNDS * count;
    KR_TRY(make_files(b, err));
    while (b->done < b->total && !b->benchmark->interrupted)
        KR_TRY(measure(b, &ret[b->done % count], err));
    *ret_count = b->done < count ? b->done : count;
    return KR_OK;
}

static enum kr_status new_engines(struct bench *b, struct kr_error *err)
{
    if (RAND_bytes(b->key, sizeof(b->key)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL has no random bytes");
    for (unsigned i = 0; i < b->threads; i++)
        KR_TRY(kr_pages_new(KR_CIPHER_AES_CBC, b->key, sizeof(b->key), &b->engines[i], err));
    return KR_OK;
}

enum kr_status kr_benchmark_file(struct kr_benchmark *benchmark,
                                 const struct kr_benchmark_file *subject,
                                 struct kr_file_rate ret[KR_FILE_RATES_MAX], size_t *ret_count,
                                 struct kr_error *err)
{
    unsigned threads = subject->threads ? subject->threads : kr_bulk_default_threads();
    struct bench b = {
        .subject = subject, .benchmark = benchmark, .in = -1, .out = -1, .threads = threads};
    if (threads > KR_BULK_THREADS_MAX)
        return kr_fail(err, KR_USAGE, "at most %d threads can be measured", KR_BULK_THREADS_MAX);
    enum kr_status status = new_engines(&b, err);
    if (status == KR_OK)
        status = measure_all(&b, ret, ret_count, err);
    for (unsigned i = 0; i < threads; i++)
        kr_pages_free(b.engines[i]);
    kr_fd_cleanup(&b.in);
    kr_fd_cleanup(&b.out);
    return status;
}
