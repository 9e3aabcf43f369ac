/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The pages of a MySQL tablespace. */
#include "files/mysql_pages.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "formats/mysql_page.h"
#include "hwaccel/bulk.h"
#include "hwaccel/mysql_page.h"

enum { BATCH = 16 /* pages that are encrypted at once */ };

static struct kr_bulk bulk_of(const struct kr_file *file, const struct kr_mysql_space *space)
{
    return (struct kr_bulk){.in = file->fd,
                            .in_name = file->path,
                            .out = -1,
                            .size = file->size,
                            .page_size = space->page_size,
                            .threads = file->run->threads,
                            .stop = file->run->stop};
}

static size_t page_len(const struct kr_bulk_chunk *chunk, unsigned i)
{
    return i + 1 == chunk->count ? chunk->last_len : chunk->page_size;
}

/* --- counting ------------------------------------------------------------------------------------
 */

struct counting {
    const struct kr_file *file;
    struct kr_file_units of[KR_BULK_THREADS_MAX]; /* each thread its own */
};

static enum kr_status count_chunk(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct counting *counting = context;
    struct kr_file_units *units = &counting->of[chunk->worker];
    (void)err;
    for (unsigned i = 0; i < chunk->count; i++) {
        size_t len = page_len(chunk, i);
        kr_file_done(counting->file, len);
        if (len < chunk->page_size)
            continue;
        enum kr_mysql_page_state state = kr_mysql_page_state(chunk->src[i], len);
        units->total++;
        units->empty += state == KR_MYSQL_PAGE_EMPTY;
        units->encrypted +=
            state == KR_MYSQL_PAGE_ENCRYPTED || state == KR_MYSQL_PAGE_COMPRESSED_ENCRYPTED;
        units->plain += state == KR_MYSQL_PAGE_PLAIN || state == KR_MYSQL_PAGE_COMPRESSED;
        units->compressed +=
            state == KR_MYSQL_PAGE_COMPRESSED || state == KR_MYSQL_PAGE_COMPRESSED_ENCRYPTED;
    }
    return KR_OK;
}

enum kr_status kr_mysql_pages_count(const struct kr_file *file, const struct kr_mysql_space *space,
                                    struct kr_file_units *ret, struct kr_error *err)
{
    struct counting counting = {.file = file};
    struct kr_bulk_result result;
    struct kr_bulk bulk = bulk_of(file, space);
    bulk.map = true;
    bulk.work = count_chunk;
    bulk.context = &counting;
    KR_TRY(kr_bulk_run(&bulk, &result, err));
    struct kr_file_units all = {0};
    for (unsigned i = 0; i < result.threads; i++) {
        all.total += counting.of[i].total;
        all.empty += counting.of[i].empty;
        all.encrypted += counting.of[i].encrypted;
        all.plain += counting.of[i].plain;
        all.compressed += counting.of[i].compressed;
    }
    *ret = all;
    return KR_OK;
}

/* --- decrypting and checking ---------------------------------------------------------------------
 */

struct worker {
    struct kr_mysql_pages *cipher; /* NULL: there is no key */
    struct kr_mysql_pages *fresh;  /* NULL: nothing is encrypted again */
    uint8_t *room;                 /* for a page to be decompressed into */
};

struct checking {
    const struct kr_file *file;
    const struct kr_mysql_pages_job *job;
    struct worker workers[KR_BULK_THREADS_MAX];
    unsigned count;
};

static enum kr_status new_cipher(const uint8_t *opened, struct kr_mysql_pages **ret,
                                 struct kr_error *err)
{
    return opened ? kr_mysql_pages_new(opened, opened + KR_MYSQL_KEY_BYTES, ret, err) : KR_OK;
}

static enum kr_status set_up(struct checking *checking, unsigned threads, struct kr_error *err)
{
    const struct kr_mysql_pages_job *job = checking->job;
    for (checking->count = 0; checking->count < threads; checking->count++) {
        struct worker *worker = &checking->workers[checking->count];
        worker->room = kr_secret_alloc(job->space->page_size);
        if (!worker->room)
            return kr_fail_secret(err);
        KR_TRY(new_cipher(job->opened, &worker->cipher, err));
        KR_TRY(new_cipher(job->fresh, &worker->fresh, err));
    }
    return KR_OK;
}

static void tear_down(struct checking *checking)
{
    for (unsigned i = 0; i < KR_BULK_THREADS_MAX; i++) {
        kr_mysql_pages_free(checking->workers[i].cipher);
        kr_mysql_pages_free(checking->workers[i].fresh);
        kr_secret_free(checking->workers[i].room);
    }
}

/* A damaged page: told, or the end of a decryption. */
static enum kr_status damaged(const struct checking *checking, uint64_t number, const char *why,
                              struct kr_error *err)
{
    if (checking->job->out >= 0)
        return kr_fail(err, KR_INTEGRITY, "page %llu of %s is damaged: %s",
                       (unsigned long long)number, checking->file->path, why);
    kr_file_check_damage(checking->job->check, number, "%s", why);
    return KR_OK;
}

/* Where a page is put: to its place in what is written, or, where nothing is, to the same place
 * again and again, so that it is in the nearest cache yet when it is checked. */
static uint8_t *place_of(const struct checking *checking, const struct kr_bulk_chunk *chunk,
                         unsigned i)
{
    return chunk->pages[checking->job->out >= 0 ? i : 0];
}

/* Why a page cannot be looked into; NULL: it can. */
static const char *obstacle(const struct checking *checking, const struct kr_bulk_chunk *chunk,
                            unsigned i)
{
    if (page_len(chunk, i) < chunk->page_size)
        return "the file ends within it";
    if (!kr_mysql_page_is_encrypted(chunk->src[i]))
        return NULL;
    if (chunk->first + i == 0)
        return "the first page is never encrypted";
    if (!checking->job->opened)
        return "it is encrypted, and the tablespace has no key";
    if (kr_mysql_page_length(chunk->src[i], chunk->page_size) == 0)
        return kr_mysql_page_fault_text(KR_MYSQL_PAGE_BAD_LENGTH);
    return NULL;
}

/* The page in the clear, wherever it is then. */
static enum kr_status open_page(const struct checking *checking, const struct kr_bulk_chunk *chunk,
                                unsigned i, const uint8_t **ret, struct kr_error *err)
{
    const struct kr_mysql_page job = {.src = chunk->src[i], .dst = place_of(checking, chunk, i)};
    bool encrypted = kr_mysql_page_is_encrypted(job.src);
    if (encrypted && kr_mysql_pages_decrypt(checking->workers[chunk->worker].cipher, &job, 1,
                                            chunk->page_size) != KR_OK)
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to decrypt pages of %s",
                       checking->file->path);
    if (!encrypted && checking->job->out >= 0 && job.src != job.dst)
        memcpy(job.dst, job.src, chunk->page_size);
    *ret = encrypted ? job.dst : job.src;
    return KR_OK;
}

struct sums {
    uint64_t checked, unchecked, empty;
};

static enum kr_status check_page(const struct checking *checking, const uint8_t *page,
                                 bool was_encrypted, const struct kr_mysql_page_place *place,
                                 struct sums *sums, struct kr_error *err)
{
    enum kr_mysql_page_fault fault = kr_mysql_page_check(page, was_encrypted, place);
    if (fault == KR_MYSQL_PAGE_UNCHECKED)
        sums->unchecked++;
    else if (fault != KR_MYSQL_PAGE_SOUND)
        return damaged(checking, place->number, kr_mysql_page_fault_text(fault), err);
    else if (kr_mysql_page_state(page, place->size) == KR_MYSQL_PAGE_EMPTY)
        sums->empty++;
    else
        sums->checked++;
    return KR_OK;
}

/* Pages that are to be encrypted again, in their places. */
struct again {
    struct kr_mysql_page jobs[BATCH];
    size_t count;
};

static enum kr_status encrypt_again(const struct checking *checking,
                                    const struct kr_bulk_chunk *chunk, struct again *again,
                                    struct kr_error *err)
{
    size_t count = again->count;
    again->count = 0;
    if (count == 0 || kr_mysql_pages_encrypt(checking->workers[chunk->worker].fresh, again->jobs,
                                             count, chunk->page_size) == KR_OK)
        return KR_OK;
    return kr_fail(err, KR_INTERNAL, "OpenSSL failed to encrypt pages of %s", checking->file->path);
}

static enum kr_status look_into(const struct checking *checking, struct kr_bulk_chunk *chunk,
                                unsigned i, struct sums *sums, struct again *again,
                                struct kr_error *err)
{
    const struct kr_mysql_page_place place = {.space_id = checking->job->space->space_id,
                                              .number = chunk->first + i,
                                              .size = chunk->page_size,
                                              .zip = checking->job->space->zip,
                                              .room = checking->workers[chunk->worker].room};
    const char *why = obstacle(checking, chunk, i);
    const uint8_t *page = chunk->src[i];
    if (why)
        return damaged(checking, place.number, why, err);
    bool encrypted = kr_mysql_page_is_encrypted(chunk->src[i]); /* it may be opened in place */
    KR_TRY(open_page(checking, chunk, i, &page, err));
    KR_TRY(check_page(checking, page, encrypted, &place, sums, err));
    if (checking->job->out >= 0)
        kr_mysql_page_clear_rest(chunk->pages[i], chunk->page_size);
    if (encrypted && checking->job->fresh)
        again->jobs[again->count++] =
            (struct kr_mysql_page){.src = page, .dst = place_of(checking, chunk, i)};
    return again->count == BATCH ? encrypt_again(checking, chunk, again, err) : KR_OK;
}

static enum kr_status check_chunk(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct checking *checking = context;
    const struct kr_mysql_space *space = checking->job->space;
    struct sums sums = {0};
    struct again again;
    again.count = 0;
    for (unsigned i = 0; i < chunk->count; i++)
        KR_TRY(look_into(checking, chunk, i, &sums, &again, err));
    KR_TRY(encrypt_again(checking, chunk, &again, err));
    if (chunk->first == 0 && checking->job->fresh)
        kr_mysql_space_reseal(space, checking->job->fresh_info, chunk->pages[0]);
    else if (chunk->first == 0 && checking->job->out >= 0)
        kr_mysql_space_clear(space, chunk->pages[0]);
    if (checking->job->check)
        kr_file_check_count(checking->job->check, sums.checked, sums.unchecked, sums.empty);
    kr_file_done(checking->file, (uint64_t)(chunk->count - 1) * chunk->page_size + chunk->last_len);
    return KR_OK;
}

enum kr_status kr_mysql_pages_run(const struct kr_file *file, const struct kr_mysql_pages_job *job,
                                  struct kr_error *err)
{
    struct checking checking = {.file = file, .job = job};
    struct kr_bulk_result result;
    struct kr_bulk bulk = bulk_of(file, job->space);
    bulk.out = job->out;
    bulk.map = true;
    bulk.out_name = "the output";
    bulk.work = check_chunk;
    bulk.context = &checking;
    enum kr_status status = set_up(&checking, bulk.threads, err);
    if (status == KR_OK)
        status = kr_bulk_run(&bulk, &result, err);
    tear_down(&checking);
    return status;
}
