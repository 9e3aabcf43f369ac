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

enum { VERSIONS_MAX = 64 /* of one file that are told apart */ };

struct version_count {
    uint32_t version;
    uint64_t pages;
};

struct survey {
    struct kr_mariadb_space space;
    pthread_mutex_t lock; /* of what follows */
    struct kr_file_units units;
    struct version_count versions[VERSIONS_MAX];
    size_t version_count;
    uint64_t copies; /* pages of the doublewrite buffer */
    uint64_t never, spatial;
    uint64_t odd; /* pages whose length cannot be right, or that are cut off */
    bool more;    /* versions than fit */
};

static void count_version(struct survey *survey, uint32_t version)
{
    size_t i = 0;
    while (i < survey->version_count && survey->versions[i].version != version)
        i++;
    if (i == VERSIONS_MAX) {
        survey->more = true;
        return;
    }
    if (i == survey->version_count)
        survey->versions[survey->version_count++] = (struct version_count){.version = version};
    survey->versions[i].pages++;
}

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
        count_version(survey, page->version);
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
            kr_mariadb_page_read(&survey->space, chunk->first + i, chunk->pages[i], &page))
            count_page(survey, &page);
        else
            survey->odd++;
    }
    pthread_mutex_unlock(&survey->lock);
    return KR_OK;
}

static int by_version(const void *a, const void *b)
{
    const struct version_count *one = a, *other = b;
    return (one->version > other->version) - (one->version < other->version);
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
    unsigned long long encrypted = survey->units.encrypted, plain = survey->units.plain;
    if (space->encrypting && space->min_version == 0)
        snprintf(report->progress, sizeof(report->progress),
                 "being encrypted: %llu pages are, %llu are not", encrypted, plain);
    else if (!space->encrypting && encrypted > 0 && !space->temporary)
        snprintf(report->progress, sizeof(report->progress),
                 "being decrypted: %llu pages are still encrypted", encrypted);
    else if (survey->version_count > 1)
        snprintf(report->progress, sizeof(report->progress), "pages of %zu key versions, %u to %u",
                 survey->version_count, survey->versions[0].version,
                 survey->versions[survey->version_count - 1].version);
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
    else if (survey->version_count > 0 && !space->has_crypt)
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
    report->incomplete = survey->more;
    if (survey->more)
        KR_TRY(kr_file_report_note(report, err, "more key versions than the %d that are listed",
                                   VERSIONS_MAX));
    if (space->wish == KR_MARIADB_ENCRYPTED_NO && space->has_crypt)
        KR_TRY(kr_file_report_note(report, err, "ENCRYPTED=NO: the server leaves it in the clear"));
    return KR_OK;
}

static enum kr_status take_survey(struct kr_file *file, struct survey *survey,
                                  struct kr_file_report *report, struct kr_error *err)
{
    const struct kr_file_pages pages = {
        .page_size = survey->space.page_size, .work = survey_chunk, .context = survey, .out = -1};
    KR_TRY(kr_file_pages_run(file, &pages, err));
    qsort(survey->versions, survey->version_count, sizeof(*survey->versions), by_version);
    report->units = survey->units;
    kr_file_report_judge(report);
    if (report->encrypted == KR_ENCRYPTED_PARTLY && survey->units.plain == survey->never)
        report->encrypted = KR_ENCRYPTED_YES;
    for (size_t i = 0; i < survey->version_count; i++)
        KR_TRY(kr_file_report_need(report, "", survey->space.key_id, survey->versions[i].version,
                                   survey->versions[i].pages, err));
    describe_progress(survey, report);
    return note_oddities(file, survey, report, err);
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    struct survey survey = {.version_count = 0};
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
    struct kr_mariadb_keys *keys;         /* NULL: nothing is encrypted that could be decrypted */
    uint8_t *room;                        /* logical_size bytes for each thread, secret */
    struct kr_file_check *check;          /* NULL: pages are to be written, in the clear or anew */
    const struct kr_mariadb_keys *target; /* anew: the key, */
    struct kr_mariadb_space next;         /* and what page 0 is to say */
    uint32_t version;
    const char *path;
};

/* Decrypts one page in place. KR_NOT_FOUND: its key is not here. */
static enum kr_status open_page(const struct kr_mariadb_space *space,
                                const struct kr_mariadb_keys *keys,
                                const struct kr_mariadb_page *what, uint8_t *page)
{
    uint8_t iv[KR_MARIADB_IV_BYTES];
    if (!keys || what->version == 0)
        return KR_NOT_FOUND;
    kr_mariadb_page_iv(space, page, iv);
    return kr_mariadb_keys_decrypt(keys, what->version, iv, page + what->crypt_at, what->crypt_len);
}

enum kr_status kr_mariadb_page_examine(const struct kr_mariadb_space *space,
                                       const struct kr_mariadb_keys *keys, uint64_t number,
                                       uint8_t *page, uint8_t *room,
                                       struct kr_mariadb_page *ret_what,
                                       enum kr_mariadb_page_fault *ret)
{
    if (!kr_mariadb_page_read(space, number, page, ret_what)) {
        *ret = KR_MARIADB_PAGE_BAD_LENGTH;
        return KR_OK;
    }
    *ret = kr_mariadb_page_check(space, number, page, ret_what);
    if (*ret > KR_MARIADB_PAGE_UNCHECKED)
        return KR_OK;
    if (ret_what->state == KR_MARIADB_PAGE_ENCRYPTED)
        KR_TRY(open_page(space, keys, ret_what, page));
    else if (!ret_what->compressed || ret_what->state == KR_MARIADB_PAGE_COPY)
        return KR_OK;
    *ret = kr_mariadb_page_check_plain(space, page, ret_what, room);
    return KR_OK;
}

static enum kr_status verify_page(const struct pass *pass, uint64_t number, uint8_t *page,
                                  uint8_t *room, struct kr_error *err)
{
    struct kr_mariadb_page what = {0};
    enum kr_mariadb_page_fault fault;
    enum kr_status status =
        kr_mariadb_page_examine(&pass->space, pass->keys, number, page, room, &what, &fault);
    if (status == KR_NOT_FOUND && pass->space.temporary) {
        kr_file_check_count(pass->check, 0, 1, 0);
        return KR_OK;
    }
    if (status == KR_NOT_FOUND)
        return KR_OK; /* not counted: the key is not here */
    if (status != KR_OK)
        return kr_fail(err, status, "page %llu of %s cannot be decrypted",
                       (unsigned long long)number, pass->path);
    bool empty = what.state == KR_MARIADB_PAGE_EMPTY,
         unchecked = fault == KR_MARIADB_PAGE_UNCHECKED;
    if (fault > KR_MARIADB_PAGE_UNCHECKED)
        kr_file_check_damage(pass->check, number, "%s", kr_mariadb_page_fault_text(fault));
    else
        kr_file_check_count(pass->check, !empty && !unchecked, unchecked, empty);
    return KR_OK;
}

/* A page that was decrypted. */
static enum kr_status seal_page(const struct pass *pass, const struct kr_mariadb_page *what,
                                uint8_t *page)
{
    uint8_t iv[KR_MARIADB_IV_BYTES];
    kr_mariadb_page_iv(&pass->space, page, iv);
    KR_TRY(kr_mariadb_keys_encrypt(pass->target, pass->version, iv, page + what->crypt_at,
                                   what->crypt_len));
    kr_mariadb_page_seal(&pass->space, what, pass->version, page);
    return KR_OK;
}

/* A page that was found right, in the clear or under the target's key. */
static enum kr_status finish_page(const struct pass *pass, uint64_t number,
                                  const struct kr_mariadb_page *what, uint8_t *page)
{
    if (number == 0 && pass->target)
        kr_mariadb_space_rekey(&pass->next, page);
    else if (number == 0)
        kr_mariadb_space_clear(&pass->space, page);
    else if (what->state == KR_MARIADB_PAGE_COPY)
        memset(page, 0, pass->space.page_size); /* its key may be another's; no server misses it */
    else if (what->state == KR_MARIADB_PAGE_ENCRYPTED && pass->target)
        return seal_page(pass, what, page);
    else if (what->state == KR_MARIADB_PAGE_ENCRYPTED)
        kr_mariadb_page_clear(&pass->space, what, page);
    return KR_OK;
}

static enum kr_status rewrite_page(const struct pass *pass, uint64_t number, uint8_t *page,
                                   uint8_t *room, struct kr_error *err)
{
    struct kr_mariadb_page what = {0};
    enum kr_mariadb_page_fault fault = KR_MARIADB_PAGE_SOUND;
    unsigned long long n = number;
    enum kr_status status =
        kr_mariadb_page_examine(&pass->space, pass->keys, number, page, room, &what, &fault);
    if (status == KR_NOT_FOUND)
        return kr_fail(err, status, "page %llu of %s needs version %u of key %u, which is not here",
                       n, pass->path, what.version, pass->space.key_id);
    if (status != KR_OK)
        return kr_fail(err, status, "page %llu of %s cannot be decrypted", n, pass->path);
    if (fault > KR_MARIADB_PAGE_UNCHECKED)
        return kr_fail(err, KR_INTEGRITY, "page %llu of %s is damaged: %s", n, pass->path,
                       kr_mariadb_page_fault_text(fault));
    status = finish_page(pass, number, &what, page);
    return status == KR_OK
               ? KR_OK
               : kr_fail(err, status, "page %llu of %s cannot be encrypted", n, pass->path);
}

static enum kr_status pass_chunk(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct pass *pass = context;
    uint8_t *room = pass->room + chunk->worker * pass->space.logical_size;
    for (unsigned i = 0; i < chunk->count; i++) {
        uint64_t number = chunk->first + i;
        if (kr_chunk_page_len(chunk, i) < chunk->page_size && pass->check)
            kr_file_check_damage(pass->check, number, "the file ends within it");
        else if (kr_chunk_page_len(chunk, i) < chunk->page_size)
            return kr_fail(err, KR_INTEGRITY, "%s ends within page %llu", pass->path,
                           (unsigned long long)number);
        else if (pass->check)
            KR_TRY(verify_page(pass, number, chunk->pages[i], room, err));
        else
            KR_TRY(rewrite_page(pass, number, chunk->pages[i], room, err));
    }
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
    const struct kr_file_pages pages = {
        .page_size = pass.space.page_size, .work = pass_chunk, .context = &pass, .out = out};
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
    KR_MARIADB_KEYS *target = NULL;
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
    KR_TRY(kr_mariadb_keys_of(data, pass.next.iv, &target, err));
    pass.target = target;
    return run_pass(file, report, pass, out, err);
}

const struct kr_file_kind_ops kr_mariadb_tablespace_ops = {
    .kind = KR_FILE_MARIADB_TABLESPACE,
    .unit = "page",
    .inspect = inspect,
    .verify = verify,
    .decrypt = decrypt,
    .rekey = rekey,
};
