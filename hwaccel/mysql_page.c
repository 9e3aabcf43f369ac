/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Encrypted InnoDB pages of MySQL. */
#include "hwaccel/mysql_page.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/secret.h"
#include "hwaccel/pages.h"

/* The servers' names: FIL_PAGE_TYPE and so on. */
enum { TYPE_AT = 24, ORIGINAL_TYPE_AT = 28, COMPRESSED_SIZE_AT = 32, HEADER = 38 };
enum { COMPRESSED = 14, ENCRYPTED = 15, ENCRYPTED_COMPRESSED = 16, ENCRYPTED_RTREE = 17 };
enum { RTREE = 17854 };

enum { BLOCK = 16, TAIL = 2 * BLOCK, LENGTH_MIN = HEADER + TAIL, BATCH = 16 };

/* The last two whole blocks of a page and what follows them, in which the second encryption is
 * undone, and the block before. */
struct page_end {
    uint8_t before[BLOCK];
    uint8_t bytes[TAIL + BLOCK];
};

struct kr_mysql_pages {
    struct kr_pages *cbc;
    uint8_t iv[KR_MYSQL_IV_BYTES];
    struct page_end ends[BATCH];
};

enum kr_status kr_mysql_pages_new(const uint8_t key[KR_MYSQL_KEY_BYTES],
                                  const uint8_t iv[KR_MYSQL_IV_BYTES], struct kr_mysql_pages **ret,
                                  struct kr_error *err)
{
    struct kr_pages *cbc;
    KR_TRY(kr_pages_new(KR_CIPHER_AES_CBC, key, KR_MYSQL_KEY_BYTES, &cbc, err));
    struct kr_mysql_pages *p = calloc(1, sizeof(*p));
    if (!p) {
        kr_pages_free(cbc);
        return kr_fail_memory(err);
    }
    p->cbc = cbc;
    memcpy(p->iv, iv, sizeof(p->iv));
    *ret = p;
    return KR_OK;
}

void kr_mysql_pages_free(struct kr_mysql_pages *pages)
{
    if (!pages)
        return;
    kr_pages_free(pages->cbc);
    kr_wipe(pages, sizeof(*pages));
    free(pages);
}

void kr_mysql_pages_cleanup(struct kr_mysql_pages **pages)
{
    kr_mysql_pages_free(*pages);
}

/* --- the header ------------------------------------------------------------------------------- */

static unsigned get_16(const uint8_t *at)
{
    return (unsigned)kr_get_number(at, 2);
}

bool kr_mysql_page_is_encrypted(const uint8_t *page)
{
    unsigned type = get_16(page + TYPE_AT);
    return type >= ENCRYPTED && type <= ENCRYPTED_RTREE;
}

size_t kr_mysql_page_length(const uint8_t *page, size_t page_size)
{
    unsigned type = get_16(page + TYPE_AT);
    if (type != COMPRESSED && type != ENCRYPTED_COMPRESSED)
        return page_size;
    size_t len = get_16(page + COMPRESSED_SIZE_AT) + (size_t)HEADER;
    if (len > page_size)
        return 0;
    return len < LENGTH_MIN ? LENGTH_MIN : len;
}

static void mark_encrypted(uint8_t *page)
{
    unsigned type = get_16(page + TYPE_AT);
    if (type == COMPRESSED) {
        kr_put_number(page + TYPE_AT, ENCRYPTED_COMPRESSED, 2);
    } else if (type == RTREE) {
        kr_put_number(page + TYPE_AT, ENCRYPTED_RTREE, 2);
    } else {
        kr_put_number(page + TYPE_AT, ENCRYPTED, 2);
        kr_put_number(page + ORIGINAL_TYPE_AT, type, 2);
    }
}

static void mark_decrypted(uint8_t *page)
{
    unsigned type = get_16(page + TYPE_AT);
    if (type == ENCRYPTED_COMPRESSED) {
        kr_put_number(page + TYPE_AT, COMPRESSED, 2);
    } else if (type == ENCRYPTED_RTREE) {
        kr_put_number(page + TYPE_AT, RTREE, 2);
    } else {
        kr_put_number(page + TYPE_AT, get_16(page + ORIGINAL_TYPE_AT), 2);
        kr_put_number(page + ORIGINAL_TYPE_AT, 0, 2);
    }
}

/* --- a batch ---------------------------------------------------------------------------------- */

/* What is not changed: the header, what is after `from`: the bytes of a last partial block, and
 * what follows a compressed page. */
static void copy_clear(const struct kr_mysql_page *job, size_t from, size_t page_size)
{
    if (job->dst == job->src)
        return;
    memcpy(job->dst, job->src, HEADER);
    memcpy(job->dst + from, job->src + from, page_size - from);
}

static size_t partial(size_t len)
{
    return (len - HEADER) % BLOCK;
}

static enum kr_status encrypt_batch(struct kr_mysql_pages *p, const struct kr_mysql_page *jobs,
                                    size_t count, size_t page_size)
{
    struct kr_page_job mains[BATCH], tails[BATCH];
    size_t tail_count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = kr_mysql_page_length(jobs[i].src, page_size);
        size_t main_end = len - partial(len);
        if (len == 0)
            return KR_INTEGRITY;
        if (kr_mysql_page_is_encrypted(jobs[i].src))
            return KR_USAGE;
        copy_clear(&jobs[i], main_end, page_size);
        mains[i] = (struct kr_page_job){jobs[i].src + HEADER, jobs[i].dst + HEADER,
                                        main_end - HEADER, p->iv};
        if (main_end < len)
            tails[tail_count++] = (struct kr_page_job){jobs[i].dst + len - TAIL,
                                                       jobs[i].dst + len - TAIL, TAIL, p->iv};
    }
    KR_TRY(kr_pages_encrypt(p->cbc, mains, count));
    KR_TRY(kr_pages_encrypt(p->cbc, tails, tail_count));
    for (size_t i = 0; i < count; i++)
        mark_encrypted(jobs[i].dst);
    return KR_OK;
}

/* Some jobs for kr_pages. */
struct work {
    struct kr_page_job jobs[2 * BATCH];
    size_t count;
};

static void add(struct work *work, const uint8_t *src, uint8_t *dst, size_t len, const uint8_t *iv)
{
    if (len > 0)
        work->jobs[work->count++] = (struct kr_page_job){src, dst, len, iv};
}

/* Before anything is decrypted, which may be in place. */
static void save_end(struct kr_mysql_pages *p, struct page_end *end, const uint8_t *src, size_t len)
{
    size_t at = len - partial(len) - TAIL;
    memcpy(end->before, at == HEADER ? p->iv : src + at - BLOCK, BLOCK);
    memcpy(end->bytes, src + at, len - at);
}

static void plan_decryption(struct kr_mysql_pages *p, const struct kr_mysql_page *job,
                            struct page_end *end, size_t len, struct work *tails,
                            struct work *mains)
{
    size_t rest = partial(len), main_end = len - rest;
    if (rest == 0) {
        add(mains, job->src + HEADER, job->dst + HEADER, len - HEADER, p->iv);
        return;
    }
    save_end(p, end, job->src, len);
    add(tails, end->bytes + rest, end->bytes + rest, TAIL, p->iv);
    add(mains, job->src + HEADER, job->dst + HEADER, main_end - TAIL - HEADER, p->iv);
    add(mains, end->bytes, job->dst + main_end - TAIL, TAIL, end->before);
}

/* `len` is 0 for a page that was not encrypted. */
static void finish_decryption(const struct kr_mysql_page *job, const struct page_end *end,
                              size_t len, size_t page_size)
{
    if (len == 0) {
        copy_clear(job, HEADER, page_size);
        return;
    }
    size_t rest = partial(len);
    copy_clear(job, len - rest, page_size);
    memcpy(job->dst + len - rest, end->bytes + TAIL, rest);
    mark_decrypted(job->dst);
}

/* How much of it is encrypted; 0: nothing. False when that cannot be right. */
static bool encrypted_length(const uint8_t *page, size_t page_size, size_t *ret)
{
    *ret = kr_mysql_page_length(page, page_size);
    bool possible = *ret > 0;
    if (!kr_mysql_page_is_encrypted(page))
        *ret = 0;
    return possible;
}

static enum kr_status decrypt_batch(struct kr_mysql_pages *p, const struct kr_mysql_page *jobs,
                                    size_t count, size_t page_size)
{
    struct work tails, mains;
    size_t lens[BATCH]; /* a page in a mapped file may be another one the next time it is asked */
    tails.count = mains.count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!encrypted_length(jobs[i].src, page_size, &lens[i]))
            return KR_INTEGRITY;
        if (lens[i] > 0)
            plan_decryption(p, &jobs[i], &p->ends[i], lens[i], &tails, &mains);
    }
    KR_TRY(kr_pages_decrypt(p->cbc, tails.jobs, tails.count));
    KR_TRY(kr_pages_decrypt(p->cbc, mains.jobs, mains.count));
    for (size_t i = 0; i < count; i++)
        finish_decryption(&jobs[i], &p->ends[i], lens[i], page_size);
    return KR_OK;
}

/* --- any number of pages ---------------------------------------------------------------------- */

typedef enum kr_status (*batch_function)(struct kr_mysql_pages *, const struct kr_mysql_page *,
                                         size_t, size_t);

static enum kr_status in_batches(batch_function run, struct kr_mysql_pages *p,
                                 const struct kr_mysql_page *jobs, size_t count, size_t page_size)
{
    if (page_size < LENGTH_MIN || page_size > KR_MYSQL_PAGE_MAX)
        return KR_USAGE;
    for (size_t at = 0; at < count; at += BATCH)
        KR_TRY(run(p, jobs + at, count - at < BATCH ? count - at : BATCH, page_size));
    return KR_OK;
}

enum kr_status kr_mysql_pages_encrypt(struct kr_mysql_pages *pages,
                                      const struct kr_mysql_page *jobs, size_t count,
                                      size_t page_size)
{
    return in_batches(encrypt_batch, pages, jobs, count, page_size);
}

enum kr_status kr_mysql_pages_decrypt(struct kr_mysql_pages *pages,
                                      const struct kr_mysql_page *jobs, size_t count,
                                      size_t page_size)
{
    return in_batches(decrypt_batch, pages, jobs, count, page_size);
}
