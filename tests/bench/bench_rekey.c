/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What `p11keyring rekey` does to the pages of tablespaces of 1 GiB in the page cache: decrypt,
 * compare the checksum, encrypt under another key, write. Against plain EVP, one page after the
 * other with kept contexts, in the same pipeline; and two threads against one. CPU time of the
 * whole process, the best of the rounds, in each of which all tablespaces have a turn. A keyring in
 * SoftHSM2 has the keys; the time before and after, in which the file is looked at and what was
 * written is read back, is told apart.
 *
 *   bench_rekey [MIB [ROUNDS]]
 */
#include "keyring_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "bar.h"
#include "base/bytes.h"
#include "evp_page.h"
#include "files/inspect.h"
#include "files/kinds.h"
#include "files/mariadb_keys.h"
#include "files/mysql_keys.h"
#include "files/rekey_run.h"
#include "files/verify.h"
#include "formats/mariadb_page.h"
#include "formats/mysql_tablespace.h"
#include "hwaccel/bulk.h"
#include "hwaccel/crc32c.h"
#include "hwaccel/mysql_page.h"
#include "innodb_page.h"

enum { PAGE = 16384, THREADS = 2, FLAGS_AT = 54, VERSION_AT = 8, CHECKSUM = 4, CRYPT_AT = 26 };
enum { CRYPT_LEN = PAGE - CRYPT_AT - CHECKSUM };

static const char uuid[] = "01234567-89ab-cdef-0123-456789abcdef";
static uint64_t size = 1024ULL << 20;
static unsigned rounds = 12;

/* CPU seconds, the best of the rounds; 0: not measured yet. */
struct best {
    double evp, one, two, look;
};

/* One file, and how EVP does the same to a page of it. */
struct subject {
    const char *name;
    bool mysql, gates; /* whether the ratio to EVP is a bar */
    uint32_t key_id;   /* MariaDB */
    const char *evp;
    struct kr_file_keys *keys;
    uint8_t key[32], iv[16];
    struct kr_mysql_pages *mysql_pages;
    struct kr_pages *mariadb_pages;
    struct kr_mariadb_space space;
    EVP_CIPHER_CTX *decrypt[THREADS], *encrypt[THREADS];
    char path[64];
    int in;
    struct best best;
};

static struct subject subjects[] = {
    {.name = "MySQL", .mysql = true, .gates = true, .evp = "AES-256-CBC"},
    {.name = "MariaDB aes256-cbc", .gates = true, .key_id = 1, .evp = "AES-256-CBC"},
    {.name = "MariaDB aes-cbc", .key_id = 2, .evp = "AES-128-CBC"},
    {.name = "MariaDB aes-ctr", .key_id = 3, .evp = "AES-128-CTR"}};
enum { SUBJECTS = sizeof(subjects) / sizeof(*subjects) };

static char out_path[64];

static void remove_files(void)
{
    unlink(out_path);
    for (struct subject *s = subjects; s < subjects + SUBJECTS; s++)
        unlink(s->path);
}

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_rekey: error: %s\n", what);
        exit(1);
    }
}

static double cpu(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Goes with the program. */
static int make(char path[64], const char *name)
{
    snprintf(path, 64, "/var/tmp/bench_rekey.%s.%ld.ibd", name, (long)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    require(fd >= 0, path);
    return fd;
}

static double bulk(int in, int out, unsigned threads, kr_bulk_function work, void *context)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    const struct kr_bulk run = {.in = in,
                                .out = out,
                                .in_name = "the input",
                                .out_name = "the output",
                                .size = size,
                                .page_size = PAGE,
                                .threads = threads,
                                .sync = KR_BULK_SYNC_END, /* as rekey */
                                .work = work,
                                .context = context};
    double start = cpu();
    must(kr_bulk_run(&run, &result, &err), &err);
    return cpu() - start;
}

/* --- files -------------------------------------------------------------------------------------*/

static void make_mysql_head(struct subject *s, uint8_t *page)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_mysql_space space;
    struct kr_mysql_info info = {.state = KR_MYSQL_INFO_SEALED, .version = 'C', .master_id = 1};
    uint8_t opened[KR_MYSQL_SEALED_BYTES] = {0};
    memcpy(opened, s->key, sizeof(s->key));
    memcpy(opened + sizeof(s->key), s->iv, sizeof(s->iv));
    memcpy(info.server_uuid, uuid, sizeof(uuid));
    must(kr_mysql_seal(s->keys, s->name, opened, &info, &err), &err);
    kr_put_number(page + VERSION_AT, 90704, 4);
    kr_put_number(page + VERSION_AT + 4, 1, 4);
    kr_put_number(page + FLAGS_AT, 0x6021, 4);
    require(kr_mysql_space_parse(page, PAGE, &space), "page 0");
    kr_mysql_space_reseal(&space, &info, page);
}

static void make_mariadb_head(struct subject *s, uint8_t *page)
{
    static const uint8_t magic[] = {'s', 0x0e, 0x0c, 'R', 'E', 't', 1, 16};
    kr_put_number(page + FLAGS_AT, 0x15, 4);
    require(kr_mariadb_space_parse(page, PAGE, &s->space), "page 0");
    memcpy(page + s->space.crypt_at, magic, sizeof(magic));
    memcpy(s->space.iv, s->iv, sizeof(s->iv));
    s->space.min_version = 1;
    s->space.key_id = s->key_id;
    kr_mariadb_space_rekey(&s->space, page);
}

static enum kr_status make_mysql(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct subject *s = context;
    for (unsigned i = 0; i < chunk->count; i++) {
        const struct kr_mysql_page job = {chunk->pages[i], chunk->pages[i]};
        innodb_page_make(chunk->pages[i], PAGE, chunk->first + i);
        if (chunk->first + i == 0)
            make_mysql_head(s, chunk->pages[i]);
        else if (kr_mysql_pages_encrypt(s->mysql_pages, &job, 1, PAGE) != KR_OK)
            return kr_fail(err, KR_INTERNAL, "OpenSSL failed");
    }
    return KR_OK;
}

static enum kr_status make_mariadb(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct subject *s = context;
    for (unsigned i = 0; i < chunk->count; i++) {
        uint8_t *page = chunk->pages[i], iv[16];
        innodb_page_make(page, PAGE, chunk->first + i);
        memcpy(page + PAGE - 8, page + 20, 4); /* the LSN again */
        if (chunk->first + i == 0) {
            make_mariadb_head(s, page);
            continue;
        }
        const struct kr_mariadb_page what = {.length = PAGE};
        const struct kr_page_job job = {page + CRYPT_AT, page + CRYPT_AT, CRYPT_LEN, iv};
        kr_mariadb_page_iv(&s->space, page, iv);
        if (kr_pages_encrypt(s->mariadb_pages, &job, 1) != KR_OK)
            return kr_fail(err, KR_INTERNAL, "OpenSSL failed");
        kr_mariadb_page_seal(&s->space, &what, 1, page);
    }
    return KR_OK;
}

static void make_keys(struct subject *s)
{
    struct kr_error err = KR_ERROR_INIT;
    const struct kr_data_key *data;
    require(RAND_bytes(s->key, sizeof(s->key)) && RAND_bytes(s->iv, sizeof(s->iv)), "RAND_bytes");
    if (s->mysql) {
        must(kr_mysql_pages_new(s->key, s->iv, &s->mysql_pages, &err), &err);
    } else {
        must(kr_file_keys_mariadb(s->keys, s->key_id, 1, &data, &err), &err);
        must(kr_mariadb_pages_new(data, s->iv, &s->mariadb_pages, &err), &err);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        s->decrypt[i] = evp_page_open(s->evp, s->key, false);
        s->encrypt[i] = evp_page_open(s->evp, s->key, true);
    }
}

static void free_keys(struct subject *s)
{
    kr_mysql_pages_free(s->mysql_pages);
    kr_pages_free(s->mariadb_pages);
    for (unsigned i = 0; i < THREADS; i++) {
        EVP_CIPHER_CTX_free(s->decrypt[i]);
        EVP_CIPHER_CTX_free(s->encrypt[i]);
    }
}

/* --- by EVP ------------------------------------------------------------------------------------*/

static enum kr_status mysql_by_evp(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct subject *s = context;
    for (unsigned i = chunk->first == 0; i < chunk->count; i++) {
        uint8_t *page = chunk->pages[i];
        if (!evp_page_mysql_decrypt(s->decrypt[chunk->worker], s->iv, page, PAGE) ||
            !innodb_page_ok(page, PAGE, chunk->first + i) ||
            !evp_page_mysql_encrypt(s->encrypt[chunk->worker], s->iv, page, PAGE))
            return kr_fail(err, KR_INTERNAL, "EVP failed");
    }
    return KR_OK;
}

/* With another key than the file's, which takes as long. */
static enum kr_status mariadb_by_evp(struct kr_bulk_chunk *chunk, void *context,
                                     struct kr_error *err)
{
    const struct subject *s = context;
    for (unsigned i = chunk->first == 0; i < chunk->count; i++) {
        uint8_t *page = chunk->pages[i], *bytes = page + CRYPT_AT, iv[16];
        const size_t whole = CRYPT_LEN / 16 * 16;
        kr_mariadb_page_iv(&s->space, page, iv);
        if (kr_crc32c(0, page, PAGE - CHECKSUM) != kr_get_number(page + PAGE - CHECKSUM, 4) ||
            !evp_page_run(s->decrypt[chunk->worker], iv, bytes, whole) ||
            !evp_page_run(s->encrypt[chunk->worker], iv, bytes, whole))
            return kr_fail(err, KR_INTERNAL, "EVP failed");
        kr_put_number(page + PAGE - CHECKSUM, kr_crc32c(0, page, PAGE - CHECKSUM), 4);
    }
    return KR_OK;
}

/* --- by rekey ----------------------------------------------------------------------------------*/

struct times {
    double look, pages;
};

static struct times rekey(const struct subject *s, char *path, int out, unsigned threads)
{
    struct kr_error err = KR_ERROR_INIT;
    struct times times;
    atomic_bool stop = false, *stopping = &stop;
    atomic_ullong done = 0;
    bool current = true;
    const struct kr_file_run run = {
        .keys = s->keys, .threads = threads, .stop = stopping, .done_bytes = &done};
    KR_FILE file = {.fd = -1};
    KR_FILE_REPORT report = {0};
    struct kr_rekey_run *marks;
    must(kr_rekey_run_open(NULL, &path, 1, true, &marks, &err), &err);
    double start = cpu();
    must(kr_file_open(path, &run, &file, &err), &err);
    must(kr_file_inspect(&file, &report, &err), &err);
    times.look = cpu() - start;
    must(kr_file_ops(file.kind)->rekey(&file, &report, marks, out, &current, &err), &err);
    times.pages = cpu() - start - times.look;
    kr_rekey_run_free(marks);
    require(!current, "another key");
    return times;
}

/* Reads back what was written, as rekey does before it takes the place of what was there. */
static double read_back(const struct subject *s)
{
    atomic_bool stop = false;
    atomic_ullong done = 0;
    const struct kr_file_run run = {
        .keys = s->keys, .threads = THREADS, .stop = &stop, .done_bytes = &done};
    KR_FILE_VERIFIED verified;
    double start = cpu();
    kr_file_verify(out_path, &run, &verified);
    double took = cpu() - start;
    require(verified.verdict == KR_VERDICT_OK, verified.why);
    return took;
}

static void keep_best(double *best, double value)
{
    if (*best == 0 || value < *best)
        *best = value;
}

static void make_file(struct subject *s)
{
    make_keys(s);
    s->in = make(s->path, s->name);
    require(ftruncate(s->in, (off_t)size) == 0, s->path);
    bulk(s->in, s->in, 1, s->mysql ? make_mysql : make_mariadb, s);
}

static void measure(struct subject *s, int out)
{
    keep_best(&s->best.evp, bulk(s->in, out, THREADS, s->mysql ? mysql_by_evp : mariadb_by_evp, s));
    struct times times = rekey(s, s->path, out, THREADS);
    keep_best(&s->best.two, times.pages);
    keep_best(&s->best.look, times.look);
    keep_best(&s->best.one, rekey(s, s->path, out, 1).pages);
}

static void judge(const struct subject *s, double back)
{
    char name[80];
    snprintf(name, sizeof(name), "rekey, %s / one page after the other", s->name);
    if (s->gates)
        bar_at_least(12, name, s->best.evp / s->best.two, 2.2);
    else
        bar_info(12, "%s: %.2f", name, s->best.evp / s->best.two);
    snprintf(name, sizeof(name), "rekey, %s, CPU time, two threads / one", s->name);
    bar_at_most(12, name, s->best.two / s->best.one, 1.05);
    bar_info(12,
             "%s: %.2f GB per CPU second; looking before %.2f s, pages %.2f s, reading back "
             "%.2f s",
             s->name, (double)size / s->best.two / 1e9, s->best.look, s->best.two, back);
}

static void add_master_key(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_secrets *secrets;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    char id[80];
    uint8_t key[32];
    require(RAND_bytes(key, sizeof(key)), "RAND_bytes");
    snprintf(id, sizeof(id), "INNODBKey-%s-1", uuid);
    must(kr_secrets_open(keyring, &secrets, &err), &err);
    must(kr_secrets_store(secrets, id, "", "AES", key, sizeof(key), &err), &err);
    kr_secrets_close(secrets);
    kr_keyring_close(keyring);
}

static void measure_all(int out)
{
    for (struct subject *s = subjects; s < subjects + SUBJECTS; s++)
        make_file(s);
    bulk(subjects[0].in, out, THREADS, NULL, NULL); /* the memory of the output is there then */
    for (unsigned round = 0; round < rounds; round++)
        for (struct subject *s = subjects; s < subjects + SUBJECTS; s++)
            measure(s, out);
    for (struct subject *s = subjects; s < subjects + SUBJECTS; s++) {
        rekey(s, s->path, out, THREADS);
        judge(s, read_back(s));
        close(s->in);
        free_keys(s);
    }
}

static struct kr_file_keys *open_keys(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_file_keys *keys;
    keyring_fixture_up(f);
    add_master_key(f);
    for (unsigned i = 0; i < 2; i++) {
        keyring_fixture_add_version_of(f, 1, "aes256-cbc", 32);
        keyring_fixture_add_version_of(f, 2, "aes-cbc", 32);
        keyring_fixture_add_version_of(f, 3, "aes-ctr", 32);
    }
    must(kr_file_keys_new(f->config, &keys, &err), &err);
    return keys;
}

int main(int argc, char **argv)
{
    static struct keyring_fixture f;
    if (argc > 1)
        size = strtoull(argv[1], NULL, 10) << 20;
    if (argc > 2)
        rounds = (unsigned)strtoul(argv[2], NULL, 10);
    atexit(remove_files);
    int out = make(out_path, "out");
    struct kr_file_keys *keys = open_keys(&f);
    for (struct subject *s = subjects; s < subjects + SUBJECTS; s++)
        s->keys = keys;
    measure_all(out);
    close(out);
    kr_file_keys_free(keys);
    keyring_fixture_down(&f);
    return bar_exit_code();
}
