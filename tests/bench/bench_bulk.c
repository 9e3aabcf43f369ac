/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The bulk pipeline over a file of encrypted MySQL pages, 2 GiB in the page cache: decrypt, compare
 * the checksum, encrypt under another key, write. Many pages at once against one EVP operation
 * after the other with kept contexts, in the same pipeline; what it costs beside a plain copy; two
 * threads against one; and past the page cache. CPU time of the whole process, the best of the
 * rounds, unless it says wall time. What both ways write is compared byte by byte first.
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "bar.h"
#include "evp_page.h"
#include "hwaccel/bulk.h"
#include "hwaccel/mysql_page.h"
#include "innodb_page.h"
#include "speed.h"

enum { PAGE = 16384, BLOCK = 16, THREADS = 2, ROUNDS_MAX = 101, COMPARED_MIB = 64 };

enum way { COPY, VERIFY, BY_EVP, AT_ONCE, AT_ONCE_READ, WAYS };

/* AT_ONCE maps its input; EVP works in place, on pages that were read, as AT_ONCE_READ. */

/* What each thread keeps: the old key and the new one. */
struct keys {
    struct kr_mysql_pages *old, *new;
    EVP_CIPHER_CTX *decrypt, *encrypt;
};

static struct keys keys[THREADS];
static uint8_t old_key[32], new_key[32], old_iv[BLOCK], new_iv[BLOCK];
static uint64_t mib = 2048;
static unsigned rounds = 7, disk_rounds = 5;
static const char *cached = "/var/tmp", *disk = "/var/tmp";

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_bulk: error: %s failed\n", what);
        exit(1);
    }
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* --- the ways ----------------------------------------------------------------------------------*/

static void make_keys(void)
{
    struct kr_error err = KR_ERROR_INIT;
    require(RAND_bytes(old_key, 32) && RAND_bytes(new_key, 32) && RAND_bytes(old_iv, BLOCK) &&
                RAND_bytes(new_iv, BLOCK),
            "RAND_bytes");
    for (unsigned i = 0; i < THREADS; i++) {
        require(kr_mysql_pages_new(old_key, old_iv, &keys[i].old, &err) == KR_OK &&
                    kr_mysql_pages_new(new_key, new_iv, &keys[i].new, &err) == KR_OK,
                "kr_mysql_pages_new");
        keys[i].decrypt = evp_page_open("AES-256-CBC", old_key, false);
        keys[i].encrypt = evp_page_open("AES-256-CBC", new_key, true);
    }
}

static void free_keys(void)
{
    for (unsigned i = 0; i < THREADS; i++) {
        kr_mysql_pages_free(keys[i].old);
        kr_mysql_pages_free(keys[i].new);
        EVP_CIPHER_CTX_free(keys[i].decrypt);
        EVP_CIPHER_CTX_free(keys[i].encrypt);
    }
}

/* Page 0 of a tablespace is in the clear. */
static unsigned list(const struct kr_bulk_chunk *chunk, struct kr_mysql_page *ret_jobs)
{
    unsigned count = 0;
    for (unsigned i = chunk->first == 0; i < chunk->count; i++)
        ret_jobs[count++] = (struct kr_mysql_page){chunk->pages[i], chunk->pages[i]};
    return count;
}

static enum kr_status check(const uint8_t *page, uint64_t number, struct kr_error *err)
{
    if (innodb_page_ok(page, PAGE, number))
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY, "page %llu is damaged", (unsigned long long)number);
}

static enum kr_status make(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct kr_mysql_page jobs[chunk->count];
    (void)context;
    (void)err;
    for (unsigned i = 0; i < chunk->count; i++)
        innodb_page_make(chunk->pages[i], PAGE, chunk->first + i);
    return kr_mysql_pages_encrypt(keys[chunk->worker].old, jobs, list(chunk, jobs), PAGE);
}

/* Page by page, so that a page is in the first cache yet when its checksum is made. From the page
 * cache to the chunk's memory at once, where the input is mapped. */
static enum kr_status verify(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)context;
    for (unsigned i = 0; i < chunk->count; i++) {
        struct kr_mysql_page job = {chunk->src[i], chunk->pages[i]};
        KR_TRY(kr_mysql_pages_decrypt(keys[chunk->worker].old, &job, 1, PAGE));
        KR_TRY(check(chunk->pages[i], chunk->first + i, err));
    }
    return KR_OK;
}

static enum kr_status at_once(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct kr_mysql_page jobs[chunk->count];
    KR_TRY(verify(chunk, context, err));
    return kr_mysql_pages_encrypt(keys[chunk->worker].new, jobs, list(chunk, jobs), PAGE);
}

static enum kr_status by_evp(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct keys *kept = &keys[chunk->worker];
    (void)context;
    for (unsigned i = 0; i < chunk->count; i++) {
        uint64_t number = chunk->first + i;
        uint8_t *page = chunk->pages[i];
        bool clear = number == 0,
             ok = clear || evp_page_mysql_decrypt(kept->decrypt, old_iv, page, PAGE);
        KR_TRY(check(page, number, err));
        if (!ok || (!clear && !evp_page_mysql_encrypt(kept->encrypt, new_iv, page, PAGE)))
            return kr_fail(err, KR_INTERNAL, "EVP failed");
    }
    return KR_OK;
}

static const kr_bulk_function works[WAYS] = {NULL, verify, by_evp, at_once, at_once};

/* --- files -------------------------------------------------------------------------------------*/

/* Without a name, gone with the program. */
static int open_file(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    require(fd >= 0, folder);
    return fd;
}

static struct kr_bulk run_of(int in, int out, uint64_t size)
{
    return (struct kr_bulk){.in = in,
                            .out = out,
                            .in_name = "the input",
                            .out_name = "the output",
                            .size = size,
                            .page_size = PAGE,
                            .threads = THREADS,
                            .sync = KR_BULK_SYNC_NONE};
}

static void must_run(const struct kr_bulk *bulk)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    if (kr_bulk_run(bulk, &result, &err) != KR_OK) {
        fprintf(stderr, "bench_bulk: error: %s\n", err.text);
        exit(1);
    }
    if (result.buffered_because)
        bar_info(0, "not past the page cache: %s", result.buffered_because);
}

static int make_file(const char *folder, uint64_t size)
{
    int fd = open_file(folder);
    struct kr_bulk bulk = run_of(fd, fd, size);
    require(ftruncate(fd, (off_t)size) == 0, "ftruncate");
    bulk.work = make;
    must_run(&bulk);
    return fd;
}

/* Seconds of the clock for one run. */
static double measure(const struct kr_bulk *bulk, enum way way, unsigned threads, clockid_t clock)
{
    struct kr_bulk run = *bulk;
    run.work = works[way];
    run.threads = threads;
    run.map = way == VERIFY || way == AT_ONCE;
    if (way == VERIFY)
        run.out = -1;
    double start = seconds(clock);
    must_run(&run);
    return seconds(clock) - start;
}

/* --- the bars ----------------------------------------------------------------------------------*/

static void compare_with_evp(int in)
{
    uint64_t size = COMPARED_MIB << 20;
    int out[2] = {open_file(cached), open_file(cached)};
    void *bytes[2];
    for (unsigned i = 0; i < 2; i++) {
        struct kr_bulk bulk = run_of(in, out[i], size);
        measure(&bulk, i == 0 ? BY_EVP : AT_ONCE, THREADS, CLOCK_MONOTONIC);
        bytes[i] = mmap(NULL, size, PROT_READ, MAP_SHARED, out[i], 0);
        require(bytes[i] != MAP_FAILED, "mmap");
    }
    require(memcmp(bytes[0], bytes[1], size) == 0, "the comparison with EVP");
    for (unsigned i = 0; i < 2; i++) {
        munmap(bytes[i], size);
        close(out[i]);
    }
}

/* The baseline's EVP operations, with one page in the cache, against what OpenSSL says of itself.
 */
static void check_baseline(void)
{
    static uint8_t page[PAGE];
    enum { REPEATS = 2000 };
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (unsigned i = 0; i < REPEATS; i++)
        require(evp_page_mysql_encrypt(keys[0].encrypt, new_iv, page, PAGE), "EVP");
    double rate = (double)PAGE * REPEATS / (seconds(CLOCK_THREAD_CPUTIME_ID) - start);
    bar_at_least(5, "baseline's encryption / openssl speed -evp aes-256-cbc",
                 rate / openssl_speed("-evp aes-256-cbc"), 0.85);
}

/* The ways in turn within a round, and one thread alone; the best round of each counts, as what the
 * kernel does beside with the pages of both files falls on any of them. */
static void bars_of_the_cache(const struct kr_bulk *bulk)
{
    enum { ALONE = WAYS, RUNS };
    double best[RUNS] = {0};
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < RUNS; i++) {
            enum way way = i == ALONE ? AT_ONCE : (enum way)i;
            double cpu = measure(bulk, way, i == ALONE ? 1 : THREADS, CLOCK_PROCESS_CPUTIME_ID);
            best[i] = round == 0 || cpu < best[i] ? cpu : best[i];
        }
    }
    bar_at_least(5, "decrypt + CRC + encrypt / one page after the other",
                 best[BY_EVP] / best[AT_ONCE], 2.2);
    bar_at_least(5, "verify / plain copy", best[COPY] / best[VERIFY], 0.7);
    bar_at_most(6, "CPU time per page, two threads / one", best[AT_ONCE] / best[ALONE], 1.05);
    static const char *const names[WAYS] = {"copy", "verify", "re-encryption by EVP",
                                            "re-encryption", "re-encryption, input not mapped"};
    for (unsigned way = 0; way < WAYS; way++)
        bar_info(5, "%s: %.2f GB per CPU second", names[way], (double)bulk->size / best[way] / 1e9);
}

static void bar_of_the_disk(uint64_t size)
{
    double ratio[ROUNDS_MAX], best[WAYS] = {0};
    int in = make_file(disk, size), out = open_file(disk);
    struct kr_bulk bulk = run_of(in, out, size);
    bulk.direct = true;
    bulk.sync = KR_BULK_SYNC_END;
    require(fsync(in) == 0, "fsync");
    measure(&bulk, COPY, THREADS, CLOCK_MONOTONIC); /* the blocks are there then */
    for (unsigned round = 0; round < disk_rounds; round++) {
        double copy = measure(&bulk, COPY, THREADS, CLOCK_MONOTONIC);
        double ours = measure(&bulk, AT_ONCE, THREADS, CLOCK_MONOTONIC);
        ratio[round] = copy / ours;
        best[COPY] = round == 0 || copy < best[COPY] ? copy : best[COPY];
        best[AT_ONCE] = round == 0 || ours < best[AT_ONCE] ? ours : best[AT_ONCE];
    }
    bar_reported(7, "O_DIRECT re-encryption / plain copy, wall time",
                 bar_median(ratio, disk_rounds), ">=0.75");
    bar_info(7, "%s: copy %.2f GB/s, re-encryption %.2f GB/s", disk,
             (double)size / best[COPY] / 1e9, (double)size / best[AT_ONCE] / 1e9);
    close(in);
    close(out);
}

static void options(int argc, char **argv)
{
    static const struct option known[] = {{"mib", required_argument, NULL, 'm'},
                                          {"rounds", required_argument, NULL, 'r'},
                                          {"cached", required_argument, NULL, 'c'},
                                          {"disk", required_argument, NULL, 'd'},
                                          {0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'm')
            mib = strtoull(optarg, NULL, 10);
        else if (option == 'r')
            rounds = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'c')
            cached = optarg;
        else if (option == 'd')
            disk = optarg;
        else
            exit(2);
    }
    require(mib >= COMPARED_MIB && rounds > 0 && rounds <= ROUNDS_MAX, "--mib or --rounds");
}

int main(int argc, char **argv)
{
    options(argc, argv);
    make_keys();
    uint64_t size = mib << 20;
    int in = make_file(cached, size), out = open_file(cached);
    struct kr_bulk bulk = run_of(in, out, size);
    compare_with_evp(in);
    check_baseline();
    measure(&bulk, COPY, THREADS, CLOCK_MONOTONIC); /* the memory of the output is there then */
    bars_of_the_cache(&bulk);
    close(in);
    close(out);
    bar_of_the_disk(size);
    free_keys();
    return bar_exit_code();
}
