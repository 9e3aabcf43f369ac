/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MariaDB's tablespaces: of tables, the system's, undo and temporary ones. */
#include "formats/mariadb_tablespace.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "base/secret.h"
#include "files/kinds.h"
#include "files/mariadb_pages.h"
#include "files/pages.h"
#include "files/version_counts.h"

static bool read_space(const struct kr_file *file, struct kr_mariadb_space *ret)
{
    return kr_mariadb_space_parse(file->head, file->head_len, ret);
}

/* Page 0 counts the pages of the tablespace, which the system's has in all its files. */
static bool is_cut_off(const struct kr_file *file, const struct kr_mariadb_space *space)
{
    uint64_t bytes = space->space_id == 0 ? kr_file_system_bytes(file) : file->size;
    return !space->temporary && bytes / space->page_size < space->pages;
}

/* --- inspect ---------------------------------------------------------------------------------- */

struct survey {
    struct kr_mariadb_space space;
    pthread_mutex_t lock; /* of what follows */
    struct kr_file_units units;
    struct kr_version_counts versions;
    uint64_t copies; /* pages of the doublewrite buffer */
    uint64_t never, spatial;
    uint64_t odd; /* pages whose length cannot be right, or that are cut off */
};

static void count_page(struct survey *survey, const struct kr_mariadb_page *page)
{
    struct kr_file_units *units = &survey->units;
    units->empty += page->state == KR_MARIADB_PAGE_EMPTY;
    bool copy = page->state == KR_MARIADB_PAGE_COPY;
    units->plain += page->state == KR_MARIADB_PAGE_PLAIN || (copy && !page->copy_encrypted);
    units->encrypted += page->state == KR_MARIADB_PAGE_ENCRYPTED || (copy && page->copy_encrypted);
    survey->copies += copy;
    survey->never += page->never;
    survey->spatial += page->spatial;
    units->compressed += page->compressed;
    if (page->version != 0)
        kr_version_counts_add(&survey->versions, page->version);
}

static enum kr_status survey_chunk(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct survey *survey = context;
    struct kr_mariadb_page page;
    (void)err;
    pthread_mutex_lock(&survey->lock);
    survey->units.total += chunk->count;
    for (unsigned i = 0; i < chunk->count; i++) {
        if (kr_chunk_page_len(chunk, i) == chunk->page_size &&
            kr_mariadb_page_read(&survey->space, chunk->first + i, chunk->src[i], &page))
            count_page(survey, &page);
        else
            survey->odd++;
    }
    pthread_mutex_unlock(&survey->lock);
    return KR_OK;
}

static void describe(const struct kr_mariadb_space *space, struct kr_file_report *report)
{
    size_t used;
    report->page_size = (uint32_t)space->page_size;
    used = (size_t)snprintf(report->format, sizeof(report->format), "%s",
                            space->full_crc32 ? "full_crc32" : "older checksums");
    if (space->zip)
        snprintf(report->format + used, sizeof(report->format) - used,
                 ", ROW_FORMAT=COMPRESSED in pages of %zu", space->logical_size);
    if (space->compression)
        snprintf(report->format + used, sizeof(report->format) - used, ", PAGE_COMPRESSED%s%s",
                 space->full_crc32 ? " " : "",
                 space->full_crc32 ? kr_mariadb_compression_name(space->compression) : "");
}

/* What the server would still be doing with the file. */
static void describe_progress(const struct survey *survey, struct kr_file_report *report)
{
    const struct kr_mariadb_space *space = &survey->space;
    const struct kr_version_counts *versions = &survey->versions;
    unsigned long long encrypted = survey->units.encrypted, plain = survey->units.plain;
    if (space->encrypting && space->min_version == 0)
        snprintf(report->progress, sizeof(report->progress),
                 "being encrypted: %llu pages are, %llu are not", encrypted, plain);
    else if (!space->encrypting && encrypted > 0 && !space->temporary)
        snprintf(report->progress, sizeof(report->progress),
                 "being decrypted: %llu pages are still encrypted", encrypted);
    else if (versions->count > 1)
        snprintf(report->progress, sizeof(report->progress), "pages of %zu key versions, %u to %u",
                 versions->count, versions->of[0].version,
                 versions->of[versions->count - 1].version);
}

static enum kr_status note_oddities(const struct kr_file *file, const struct survey *survey,
                                    struct kr_file_report *report, struct kr_error *err)
{
    const struct kr_mariadb_space *space = &survey->space;
    report->damaged = survey->odd > 0 || is_cut_off(file, space);
    if (is_cut_off(file, space))
        KR_TRY(kr_file_report_note(report, err, "it is cut off: page 0 says that it has %u pages",
                                   space->pages));
    if (survey->odd > 0)
        KR_TRY(kr_file_report_note(report, err, "%llu pages are cut off or of impossible length",
                                   (unsigned long long)survey->odd));
    if (space->temporary)
        KR_TRY(kr_file_report_note(report, err,
                                   "temporary: what is encrypted in it only the server that wrote "
                                   "it could read, while it ran"));
    else if (survey->versions.count > 0 && !space->has_crypt)
        KR_TRY(kr_file_report_note(report, err, "pages are encrypted, but page 0 names no key"));
    if (survey->copies > 0)
        KR_TRY(
            kr_file_report_note(report, err,
                                "%llu pages are the doublewrite buffer's: copies of others, whose "
                                "keys are not listed",
                                (unsigned long long)survey->copies));
    if (survey->spatial > 0 && space->encrypting && !space->full_crc32)
        KR_TRY(
            kr_file_report_note(report, err,
                                "%llu pages of spatial indexes are in the clear: servers encrypt "
                                "them in full_crc32 alone",
                                (unsigned long long)survey->spatial));
    report->incomplete = survey->versions.more;
    if (survey->versions.more)
        KR_TRY(kr_file_report_note(report, err, "more key versions than the %d that are listed",
                                   KR_VERSION_COUNTS_MAX));
    if (space->wish == KR_MARIADB_ENCRYPTED_NO && space->has_crypt)
        KR_TRY(kr_file_report_note(report, err, "ENCRYPTED=NO: the server leaves it in the clear"));
    return KR_OK;
}

static enum kr_status take_survey(struct kr_file *file, struct survey *survey,
                                  struct kr_file_report *report, struct kr_error *err)
{
    const struct kr_file_pages pages = {.page_size = survey->space.page_size,
                                        .work = survey_chunk,
                                        .context = survey,
                                        .out = -1,
                                        .map = true};
    KR_TRY(kr_file_pages_run(file, &pages, err));
    report->units = survey->units;
    kr_file_report_judge(report);
    if (report->encrypted == KR_ENCRYPTED_PARTLY && survey->units.plain == survey->never)
        report->encrypted = KR_ENCRYPTED_YES;
    KR_TRY(kr_version_counts_report(&survey->versions, survey->space.key_id, report, err));
    describe_progress(survey, report);
    return note_oddities(file, survey, report, err);
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    struct survey survey = {.odd = 0};
    if (!read_space(file, &survey.space)) {
        report->damaged = true;
        return kr_file_report_note(report, err, "page 0 is none that a server writes");
    }
    describe(&survey.space, report);
    pthread_mutex_init(&survey.lock, NULL);
    enum kr_status status = take_survey(file, &survey, report, err);
    pthread_mutex_destroy(&survey.lock);
    return status;
}

/* --- verify and decrypt ----------------------------------------------------------------------- */

struct pass {
    struct kr_mariadb_space space;
    struct kr_mariadb_keys *keys; /* NULL: nothing is encrypted that could be decrypted */
    uint8_t *room;                /* logical_size bytes for each thread, secret */
    struct kr_file_check *check;  /* NULL: pages are to be written, in the clear or anew */
    struct kr_pages *target[KR_BULK_THREADS_MAX]; /* anew: the key, for each thread, */
    struct kr_mariadb_space next;                 /* and what page 0 is to say */
    uint32_t version;
    const char *path;
};

enum { BATCH = 16 /* pages that are encrypted at once */ };

/* Pages that were decrypted and are to be encrypted anew. */
struct batch {
    struct sealing {
        struct kr_mariadb_page what;
        uint8_t *page;
        uint8_t iv[KR_MARIADB_IV_BYTES];
    } pages[BATCH];
    size_t count;
    struct kr_pages *target; /* NULL: they are to be in the clear */
};

/* Decrypts one page. KR_NOT_FOUND: its key is not here. */
static enum kr_status open_page(const struct kr_mariadb_space *space,
                                const struct kr_mariadb_keys *keys,
                                const struct kr_mariadb_page *what,
                                const struct kr_mariadb_page_way *page)
{
    uint8_t iv[KR_MARIADB_IV_BYTES];
    size_t end = what->crypt_at + what->crypt_len;
    if (!keys || what->version == 0)
        return KR_NOT_FOUND;
    kr_mariadb_page_iv(space, page->src, iv);
    if (page->dst != page->src) {
        memcpy(page->dst, page->src, what->crypt_at);
        memcpy(page->dst + end, page->src + end, space->page_size - end);
    }
    return kr_mariadb_keys_decrypt(keys, what->version, iv, page->src + what->crypt_at,
                                   page->dst + what->crypt_at, what->crypt_len);
}

enum kr_status kr_mariadb_page_examine(const struct kr_mariadb_space *space,
                                       const struct kr_mariadb_keys *keys,
                                       const struct kr_mariadb_page_way *page,
                                       struct kr_mariadb_page *ret_what,
                                       enum kr_mariadb_page_fault *ret)
{
    if (!kr_mariadb_page_read(space, page->number, page->src, ret_what)) {
        *ret = KR_MARIADB_PAGE_BAD_LENGTH;
        return KR_OK;
    }
    *ret = kr_mariadb_page_check(space, page->number, page->src, ret_what);
    if (*ret > KR_MARIADB_PAGE_UNCHECKED)
        return KR_OK;
    if (ret_what->state == KR_MARIADB_PAGE_ENCRYPTED)
        KR_TRY(open_page(space, keys, ret_what, page));
    else if (page->dst != page->src)
        memcpy(page->dst, page->src, space->page_size);
    if (ret_what->state == KR_MARIADB_PAGE_ENCRYPTED ||
        (ret_what->compressed && ret_what->state != KR_MARIADB_PAGE_COPY))
        *ret = kr_mariadb_page_check_plain(space, page->dst, ret_what, page->room);
    return KR_OK;
}

static enum kr_status verify_page(const struct pass *pass, const struct kr_mariadb_page_way *page,
                                  struct kr_error *err)
{
    struct kr_mariadb_page what = {0};
    enum kr_mariadb_page_fault fault;
    enum kr_status status = kr_mariadb_page_examine(&pass->space, pass->keys, page, &what, &fault);
    if (status == KR_NOT_FOUND && pass->space.temporary) {
        kr_file_check_count(pass->check, 0, 1, 0);
        return KR_OK;
    }
    if (status == KR_NOT_FOUND)
        return KR_OK; /* not counted: the key is not here */
    if (status != KR_OK)
        return kr_fail(err, status, "page %llu of %s cannot be decrypted",
                       (unsigned long long)page->number, pass->path);
    bool empty = what.state == KR_MARIADB_PAGE_EMPTY,
         unchecked = fault == KR_MARIADB_PAGE_UNCHECKED;
    if (fault > KR_MARIADB_PAGE_UNCHECKED)
        kr_file_check_damage(pass->check, page->number, "%s", kr_mariadb_page_fault_text(fault));
    else
        kr_file_check_count(pass->check, !empty && !unchecked, unchecked, empty);
    return KR_OK;
}

static enum kr_status seal_batch(const struct pass *pass, struct batch *batch)
{
    struct kr_page_job jobs[BATCH];
    for (size_t i = 0; i < batch->count; i++) {
        struct sealing *it = &batch->pages[i];
        uint8_t *from = it->page + it->what.crypt_at;
        kr_mariadb_page_iv(&pass->space, it->page, it->iv);
        jobs[i] = (struct kr_page_job){from, from, it->what.crypt_len, it->iv};
    }
    KR_TRY(kr_pages_encrypt(batch->target, jobs, batch->count));
    for (size_t i = 0; i < batch->count; i++)
        kr_mariadb_page_seal(&pass->space, &batch->pages[i].what, pass->version,
                             batch->pages[i].page);
    batch->count = 0;
    return KR_OK;
}

static enum kr_status seal_page(const struct pass *pass, const struct kr_mariadb_page *what,
                                uint8_t *page, struct batch *batch)
{
    batch->pages[batch->count++] = (struct sealing){.what = *what, .page = page};
    return batch->count == BATCH ? seal_batch(pass, batch) : KR_OK;
}

/* A page that was found right, in the clear or under the target's key. */
static enum kr_status finish_page(const struct pass *pass, uint64_t number,
                                  const struct kr_mariadb_page *what, uint8_t *page,
                                  struct batch *batch)
{
    if (number == 0 && batch->target)
        kr_mariadb_space_rekey(&pass->next, page);
    else if (number == 0)
        kr_mariadb_space_clear(&pass->space, page);
    else if (what->state == KR_MARIADB_PAGE_COPY)
        memset(page, 0, pass->space.page_size); /* its key may be another's; no server misses it */
    else if (what->state == KR_MARIADB_PAGE_ENCRYPTED && batch->target)
        return seal_page(pass, what, page, batch);
    else if (what->state == KR_MARIADB_PAGE_ENCRYPTED)
        kr_mariadb_page_clear(&pass->space, what, page);
    return KR_OK;
}

static enum kr_status fail_to_encrypt(const struct pass *pass, struct kr_error *err)
{
    return kr_fail(err, KR_INTERNAL, "OpenSSL failed to encrypt pages of %s", pass->path);
}

static enum kr_status rewrite_page(const struct pass *pass, const struct kr_mariadb_page_way *page,
                                   struct batch *batch, struct kr_error *err)
{
    struct kr_mariadb_page what = {0};
    enum kr_mariadb_page_fault fault = KR_MARIADB_PAGE_SOUND;
    unsigned long long n = page->number;
    enum kr_status status = kr_mariadb_page_examine(&pass->space, pass->keys, page, &what, &fault);
    if (status == KR_NOT_FOUND)
        return kr_fail(err, status, "page %llu of %s needs version %u of key %u, which is not here",
                       n, pass->path, what.version, pass->space.key_id);
    if (status != KR_OK)
        return kr_fail(err, status, "page %llu of %s cannot be decrypted", n, pass->path);
    if (fault > KR_MARIADB_PAGE_UNCHECKED)
        return kr_fail(err, KR_INTEGRITY, "page %llu of %s is damaged: %s", n, pass->path,
                       kr_mariadb_page_fault_text(fault));
    if (finish_page(pass, page->number, &what, page->dst, batch) != KR_OK)
        return fail_to_encrypt(pass, err);
    return KR_OK;
}

static enum kr_status pass_chunk(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct pass *pass = context;
    uint8_t *room = pass->room + chunk->worker * pass->space.logical_size;
    struct batch batch;
    batch.target = pass->target[chunk->worker];
    batch.count = 0;
    for (unsigned i = 0; i < chunk->count; i++) {
        /* What is only checked goes to the same place again and again, which stays in the cache. */
        const struct kr_mariadb_page_way page = {.number = chunk->first + i,
                                                 .src = chunk->src[i],
                                                 .dst = chunk->pages[pass->check ? 0 : i],
                                                 .room = room};
        if (kr_chunk_page_len(chunk, i) < chunk->page_size && pass->check)
            kr_file_check_damage(pass->check, page.number, "the file ends within it");
        else if (kr_chunk_page_len(chunk, i) < chunk->page_size)
            return kr_fail(err, KR_INTEGRITY, "%s ends within page %llu", pass->path,
                           (unsigned long long)page.number);
        else if (pass->check)
            KR_TRY(verify_page(pass, &page, err));
        else
            KR_TRY(rewrite_page(pass, &page, &batch, err));
    }
    if (batch.count > 0 && seal_batch(pass, &batch) != KR_OK)
        return fail_to_encrypt(pass, err);
    return KR_OK;
}

/* `pass` says what is to be done with the pages. */
static enum kr_status run_pass(struct kr_file *file, const struct kr_file_report *report,
                               struct pass pass, int out, struct kr_error *err)
{
    KR_MARIADB_KEYS *keys = NULL;
    pass.path = file->path;
    bool known = read_space(file, &pass.space);
    if (!known && pass.check) {
        kr_file_check_damage(pass.check, 0, "none that a server writes: nothing else can be read");
        return KR_OK;
    }
    if (!known)
        return kr_fail(err, KR_INTEGRITY, "page 0 of %s is none that a server writes", file->path);
    if (report->need_count > 0)
        KR_TRY(kr_mariadb_keys_new(file, report, pass.space.iv, &keys, err));
    pass.keys = keys;
    KR_SECRET uint8_t *room =
        kr_secret_alloc(kr_file_pages_threads(file) * pass.space.logical_size);
    if (!room)
        return kr_fail_secret(err);
    pass.room = room;
    if (is_cut_off(file, &pass.space) && !pass.check)
        return kr_fail(err, KR_INTEGRITY, "%s is cut off: page 0 says that it has %u pages",
                       file->path, pass.space.pages);
    if (is_cut_off(file, &pass.space) && file->size % pass.space.page_size == 0)
        kr_file_check_damage(pass.check, file->size / pass.space.page_size,
                             "the file ends before it, page 0 says that it has %u",
                             pass.space.pages);
    const struct kr_file_pages pages = {.page_size = pass.space.page_size,
                                        .work = pass_chunk,
                                        .context = &pass,
                                        .out = out,
                                        .map = true};
    return kr_file_pages_run(file, &pages, err);
}

static enum kr_status verify(struct kr_file *file, const struct kr_file_report *report,
                             struct kr_file_check *check, struct kr_error *err)
{
    return run_pass(file, report, (struct pass){.check = check}, -1, err);
}

static enum kr_status decrypt(struct kr_file *file, const struct kr_file_report *report, int out,
                              struct kr_error *err)
{
    return run_pass(file, report, (struct pass){0}, out, err);
}

/* --- rekey ------------------------------------------------------------------------------------ */

static bool is_current(const struct kr_mariadb_space *space, const struct kr_file_report *report,
                       uint32_t version)
{
    for (size_t i = 0; i < report->need_count; i++)
        if (report->needs[i].version != version)
            return false;
    return report->need_count == 0 || space->min_version == version || space->min_version == 0;
}

/* The tablespace gets new random bytes as well, so that its page key is another one even where data
 * keys of two keyrings are the same. */
static enum kr_status rekey(struct kr_file *file, const struct kr_file_report *report,
                            struct kr_rekey_run *run, int out, bool *ret_current,
                            struct kr_error *err)
{
    (void)run;
    const struct kr_data_key *data;
    struct pass pass = {0};
    if (!read_space(file, &pass.next) || !pass.next.has_crypt)
        return kr_fail(err, KR_INTEGRITY, "page 0 of %s names no key", file->path);
    KR_TRY(kr_file_keys_mariadb_latest(file->run->keys, pass.next.key_id, &data, err));
    *ret_current = is_current(&pass.next, report, data->version);
    if (*ret_current || out < 0)
        return KR_OK;
    if (RAND_bytes(pass.next.iv, sizeof(pass.next.iv)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL has no random bytes");
    if (pass.next.min_version != 0)
        pass.next.min_version = data->version;
    pass.version = data->version;
    enum kr_status status = KR_OK;
    for (unsigned i = 0; i < kr_file_pages_threads(file) && status == KR_OK; i++)
        status = kr_mariadb_pages_new(data, pass.next.iv, &pass.target[i], err);
    if (status == KR_OK)
        status = run_pass(file, report, pass, out, err);
    for (unsigned i = 0; i < KR_BULK_THREADS_MAX; i++)
        kr_pages_free(pass.target[i]);
    return status;
}

const struct kr_file_kind_ops kr_mariadb_tablespace_ops = {
    .kind = KR_FILE_MARIADB_TABLESPACE,
    .unit = "page",
    .inspect = inspect,
    .verify = verify,
    .decrypt = decrypt,
    .rekey = rekey,
};
