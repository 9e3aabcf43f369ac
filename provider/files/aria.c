/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Aria's tables, two files each, its log and its control file. */
#include "formats/aria.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files/kinds.h"
#include "files/mariadb_keys.h"
#include "files/pages.h"
#include "files/version_counts.h"

enum { KEY_SYSTEM = 1, KEY_TEMPORARY = 2 };

/* --- what table a file is of ------------------------------------------------------------------ */

/* "x.MAD" -> "x.MAI"; malloc'ed, NULL without memory. */
static char *index_path(const char *path)
{
    char *index = strdup(path);
    if (index)
        index[strlen(index) - 1] = index[strlen(index) - 1] == 'd' ? 'i' : 'I';
    return index;
}

/* The index file beside a data file says what its pages are. */
static enum kr_status read_table_beside(const struct kr_file *file, struct kr_aria_table *ret,
                                        bool *ret_known, struct kr_error *err)
{
    char *path = index_path(file->path);
    struct kr_error why = KR_ERROR_INIT;
    KR_FILE index = {.fd = -1};
    if (!path)
        return kr_fail_memory(err);
    enum kr_status status = kr_file_open(path, file->run, &index, &why);
    *ret_known = status == KR_OK && kr_aria_table_parse(index.head, index.head_len, ret);
    kr_file_close(&index);
    free(path);
    return KR_OK;
}

static enum kr_status read_table(const struct kr_file *file, struct kr_aria_table *ret,
                                 bool *ret_known, struct kr_error *err)
{
    if (file->kind == KR_FILE_ARIA_DATA)
        return read_table_beside(file, ret, ret_known, err);
    *ret_known = kr_aria_table_parse(file->head, file->head_len, ret);
    return KR_OK;
}

static enum kr_aria_file part_of(const struct kr_file *file)
{
    return file->kind == KR_FILE_ARIA_DATA ? KR_ARIA_DATA : KR_ARIA_INDEX;
}

/* --- inspect ---------------------------------------------------------------------------------- */

struct survey {
    struct kr_aria_table table;
    enum kr_aria_file part;
    pthread_mutex_t lock; /* of what follows */
    struct kr_file_units units;
    uint64_t never, odd;
    struct kr_version_counts versions;
};

/* Those of the index file's header, which no checksum covers. */
static uint64_t header_pages(const struct kr_aria_table *table, enum kr_aria_file part)
{
    return part == KR_ARIA_INDEX ? table->header_size / table->block_size : 0;
}

static void count_page(struct survey *survey, uint64_t number, const struct kr_aria_page *page)
{
    survey->units.empty += page->empty;
    survey->units.encrypted += page->version != 0;
    survey->units.plain += !page->empty && page->version == 0;
    survey->never +=
        survey->part == KR_ARIA_DATA && !page->empty && number % survey->table.bitmap_every == 0;
    if (page->version != 0)
        kr_version_counts_add(&survey->versions, page->version);
}

static enum kr_status survey_chunk(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    struct survey *survey = context;
    uint64_t header = header_pages(&survey->table, survey->part);
    (void)err;
    pthread_mutex_lock(&survey->lock);
    for (unsigned i = 0; i < chunk->count; i++) {
        struct kr_aria_page page;
        uint64_t number = chunk->first + i;
        survey->units.total++;
        survey->units.plain += number < header;
        survey->never += number < header;
        if (number < header)
            continue;
        if (kr_chunk_page_len(chunk, i) == chunk->page_size &&
            kr_aria_page_read(&survey->table, survey->part, number, chunk->pages[i], &page))
            count_page(survey, number, &page);
        else
            survey->odd++;
    }
    pthread_mutex_unlock(&survey->lock);
    return KR_OK;
}

/* What the table's header says, once a server has closed it. */
static bool is_cut_off(const struct kr_file *file, const struct kr_aria_table *table)
{
    uint64_t length = part_of(file) == KR_ARIA_DATA ? table->data_length : table->index_length;
    return table->closed && file->size < length;
}

static enum kr_status note_length(const struct kr_file *file, const struct kr_aria_table *table,
                                  struct kr_file_report *report, struct kr_error *err)
{
    if (!is_cut_off(file, table))
        return KR_OK;
    report->damaged = true;
    return kr_file_report_note(report, err, "it is shorter than its table's header says");
}

static enum kr_status take_survey(struct kr_file *file, struct survey *survey,
                                  struct kr_file_report *report, struct kr_error *err)
{
    const struct kr_aria_table *table = &survey->table;
    const struct kr_file_pages pages = {
        .page_size = table->block_size, .work = survey_chunk, .context = survey, .out = -1};
    KR_TRY(kr_file_pages_run(file, &pages, err));
    report->units = survey->units;
    kr_file_report_judge(report);
    if (report->encrypted == KR_ENCRYPTED_PARTLY && survey->units.plain == survey->never)
        report->encrypted = KR_ENCRYPTED_YES; /* bitmaps and headers never are: they hold no rows */
    if (survey->units.encrypted == 0 && table->encrypted)
        report->encrypted = KR_ENCRYPTED_YES;
    KR_TRY(kr_version_counts_report(&survey->versions,
                                    table->temporary ? KEY_TEMPORARY : KEY_SYSTEM, report, err));
    report->damaged = survey->odd > 0;
    report->incomplete = survey->versions.more;
    KR_TRY(note_length(file, table, report, err));
    return survey->odd == 0
               ? KR_OK
               : kr_file_report_note(report, err, "%llu pages are cut off or of impossible length",
                                     (unsigned long long)survey->odd);
}

static enum kr_status inspect_pages(struct kr_file *file, const struct kr_aria_table *table,
                                    struct kr_file_report *report, struct kr_error *err)
{
    struct survey survey = {.table = *table, .part = part_of(file)};
    pthread_mutex_init(&survey.lock, NULL);
    enum kr_status status = take_survey(file, &survey, report, err);
    pthread_mutex_destroy(&survey.lock);
    return status;
}

static enum kr_status inspect_table(struct kr_file *file, struct kr_file_report *report,
                                    struct kr_error *err)
{
    struct kr_aria_table table;
    bool known;
    KR_TRY(read_table(file, &table, &known, err));
    if (!known && part_of(file) == KR_ARIA_DATA) {
        report->incomplete = true;
        return kr_file_report_note(report, err,
                                   "without its index file (.MAI) nothing of it can be told");
    }
    report->damaged = !known;
    if (!known)
        return kr_file_report_note(report, err, "its header is none that a server writes");
    report->page_size = (uint32_t)table.block_size;
    snprintf(report->format, sizeof(report->format), "%s%s%s", table.paged ? "PAGE" : "rows",
             table.transactional ? ", transactional" : "", table.checksums ? "" : ", no checksums");
    if (table.paged || part_of(file) == KR_ARIA_INDEX)
        return inspect_pages(file, &table, report, err);
    report->encrypted = KR_ENCRYPTED_NO;
    return kr_file_report_note(report, err, "its rows do not lie in pages: never encrypted");
}

/* --- verify ----------------------------------------------------------------------------------- */

struct pass {
    struct kr_aria_table table;
    enum kr_aria_file part;
    struct kr_mariadb_keys *keys;
    struct kr_file_check *check;
    const char *path;
};

static enum kr_status verify_page(const struct pass *pass, uint64_t number, uint8_t *page,
                                  struct kr_error *err)
{
    struct kr_aria_page what;
    uint8_t iv[KR_ARIA_IV_BYTES];
    if (!kr_aria_page_read(&pass->table, pass->part, number, page, &what)) {
        kr_file_check_damage(pass->check, number, "impossible length");
        return KR_OK;
    }
    if (what.version != 0) {
        kr_aria_page_iv(&pass->table, number, page, iv);
        uint8_t *from = page + what.crypt_at;
        enum kr_status status = pass->keys ? kr_mariadb_keys_decrypt(pass->keys, what.version, iv,
                                                                     from, from, what.crypt_len)
                                           : KR_NOT_FOUND;
        if (status == KR_NOT_FOUND)
            return KR_OK; /* not counted: the key is not here */
        if (status != KR_OK)
            return kr_fail(err, status, "page %llu of %s cannot be decrypted",
                           (unsigned long long)number, pass->path);
        memset(page + what.version_at, 0, 4);
    }
    enum kr_aria_page_fault fault =
        what.empty ? KR_ARIA_SOUND : kr_aria_page_check(&pass->table, number, page, &what);
    if (fault == KR_ARIA_BAD_CHECKSUM)
        kr_file_check_damage(pass->check, number, "checksum mismatch");
    else
        kr_file_check_count(pass->check, !what.empty && fault == KR_ARIA_SOUND,
                            fault == KR_ARIA_UNCHECKED, what.empty);
    return KR_OK;
}

static enum kr_status verify_chunk(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    const struct pass *pass = context;
    for (unsigned i = 0; i < chunk->count; i++) {
        uint64_t number = chunk->first + i;
        if (number < header_pages(&pass->table, pass->part))
            kr_file_check_count(pass->check, 0, 1, 0);
        else if (kr_chunk_page_len(chunk, i) < chunk->page_size)
            kr_file_check_damage(pass->check, number, "the file ends within it");
        else
            KR_TRY(verify_page(pass, number, chunk->pages[i], err));
    }
    return KR_OK;
}

static enum kr_status verify_table(struct kr_file *file, const struct kr_file_report *report,
                                   struct kr_file_check *check, struct kr_error *err)
{
    KR_MARIADB_KEYS *keys = NULL;
    struct pass pass = {.part = part_of(file), .check = check, .path = file->path};
    bool known;
    KR_TRY(read_table(file, &pass.table, &known, err));
    if (!known || (!pass.table.paged && pass.part == KR_ARIA_DATA))
        return KR_OK; /* nothing was read, and nothing is counted */
    if (report->need_count > 0)
        KR_TRY(kr_mariadb_keys_new(file, report, pass.table.iv, &keys, err));
    pass.keys = keys;
    if (is_cut_off(file, &pass.table))
        kr_file_check_damage(check, file->size / pass.table.block_size,
                             "the file ends before or within it");
    const struct kr_file_pages pages = {
        .page_size = pass.table.block_size, .work = verify_chunk, .context = &pass, .out = -1};
    return kr_file_pages_run(file, &pages, err);
}

const struct kr_file_kind_ops kr_aria_data_ops = {
    .kind = KR_FILE_ARIA_DATA, .unit = "page", .inspect = inspect_table, .verify = verify_table};
const struct kr_file_kind_ops kr_aria_index_ops = {
    .kind = KR_FILE_ARIA_INDEX, .unit = "page", .inspect = inspect_table, .verify = verify_table};

/* --- log -------------------------------------------------------------------------------------- */

static enum kr_status inspect_log(struct kr_file *file, struct kr_file_report *report,
                                  struct kr_error *err)
{
    report->page_size = KR_ARIA_LOG_PAGE;
    report->encrypted = KR_ENCRYPTED_NO;
    report->units.total = (file->size + KR_ARIA_LOG_PAGE - 1) / KR_ARIA_LOG_PAGE;
    report->units.plain = report->units.total;
    report->damaged = file->head_len < KR_ARIA_LOG_PAGE || kr_aria_log_file(file->head) == 0;
    if (report->damaged)
        return kr_file_report_note(report, err, "its header is none that a server writes");
    return kr_file_report_note(report, err,
                               "Aria's log is never encrypted: it holds rows of Aria's tables");
}

struct log_pass {
    uint32_t file;
    struct kr_file_check *check;
};

static enum kr_status verify_log_chunk(struct kr_bulk_chunk *chunk, void *context,
                                       struct kr_error *err)
{
    const struct log_pass *pass = context;
    (void)err;
    for (unsigned i = 0; i < chunk->count; i++) {
        uint64_t number = chunk->first + i;
        bool checked = false;
        if (kr_chunk_page_len(chunk, i) < chunk->page_size)
            kr_file_check_damage(pass->check, number, "the file ends within it");
        else if (number > 0 &&
                 !kr_aria_log_page_sound(chunk->pages[i], number, pass->file, &checked))
            kr_file_check_damage(pass->check, number, "checksum or number mismatch");
        else
            kr_file_check_count(pass->check, checked, !checked, 0);
    }
    return KR_OK;
}

static enum kr_status verify_log(struct kr_file *file, const struct kr_file_report *report,
                                 struct kr_file_check *check, struct kr_error *err)
{
    struct log_pass pass = {.check = check};
    if (report->damaged)
        return KR_OK;
    pass.file = kr_aria_log_file(file->head);
    const struct kr_file_pages pages = {
        .page_size = KR_ARIA_LOG_PAGE, .work = verify_log_chunk, .context = &pass, .out = -1};
    return kr_file_pages_run(file, &pages, err);
}

const struct kr_file_kind_ops kr_aria_log_ops = {
    .kind = KR_FILE_ARIA_LOG, .unit = "page", .inspect = inspect_log, .verify = verify_log};

/* --- control file ----------------------------------------------------------------------------- */

static enum kr_status inspect_control(struct kr_file *file, struct kr_file_report *report,
                                      struct kr_error *err)
{
    report->encrypted = KR_ENCRYPTED_NO;
    report->units.total = report->units.plain = 1;
    report->damaged = !kr_aria_control_sound(file->head, file->head_len);
    return report->damaged ? kr_file_report_note(report, err, "checksum mismatch") : KR_OK;
}

static enum kr_status verify_control(struct kr_file *file, const struct kr_file_report *report,
                                     struct kr_file_check *check, struct kr_error *err)
{
    (void)file;
    (void)err;
    if (report->damaged)
        kr_file_check_damage(check, 0, "checksum mismatch");
    else
        kr_file_check_count(check, 1, 0, 0);
    return KR_OK;
}

const struct kr_file_kind_ops kr_aria_control_ops = {.kind = KR_FILE_ARIA_CONTROL,
                                                     .unit = "page",
                                                     .inspect = inspect_control,
                                                     .verify = verify_control};
