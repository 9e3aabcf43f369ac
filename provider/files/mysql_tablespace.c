/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's tablespaces: of one table, general, system, undo and temporary ones. */
#include <openssl/rand.h>
#include <stdio.h>

#include "base/secret.h"
#include "files/kinds.h"
#include "files/mysql_keys.h"
#include "files/mysql_pages.h"
#include "files/mysql_reseal.h"
#include "files/rekey_run.h"
#include "formats/mysql_page.h"

static const char *sort_of(const struct kr_mysql_space *space)
{
    if (space->space_id == 0)
        return "system";
    if (space->undo)
        return "undo";
    if (space->temporary)
        return "temporary";
    return space->general ? "general" : "file-per-table";
}

static void describe(const struct kr_mysql_space *space, struct kr_file_report *report)
{
    char zip[48] = "", by[48] = "";
    if (space->zip)
        snprintf(zip, sizeof(zip), ", ROW_FORMAT=COMPRESSED %uK",
                 (unsigned)(space->page_size / 1024) % 1000);
    if (space->server_version)
        snprintf(by, sizeof(by), ", MySQL %u.%u.%u", space->server_version / 10000,
                 space->server_version / 100 % 100, space->server_version % 100);
    snprintf(report->format, sizeof(report->format), "%s%s%s", sort_of(space), zip, by);
}

static void describe_progress(const struct kr_mysql_space *space, struct kr_file_report *report)
{
    if (space->progress != KR_MYSQL_SETTLED)
        snprintf(report->progress, sizeof(report->progress),
                 "the server was %s it, and had come to page %u",
                 space->progress == KR_MYSQL_ENCRYPTING ? "encrypting" : "decrypting",
                 space->progress_page);
}

/* The pages that the tablespace lacks by its own account, which for the system's is of all its
 * files. */
static uint64_t missing_pages(const struct kr_file *file, const struct kr_mysql_space *space)
{
    uint64_t bytes = space->space_id == 0 ? kr_file_system_bytes(file) : file->size;
    uint64_t there = bytes / space->page_size;
    if (space->temporary)
        return 0;
    return space->pages > there ? space->pages - there : 0;
}

static enum kr_status note_size(const struct kr_file *file, const struct kr_mysql_space *space,
                                struct kr_file_report *report, struct kr_error *err)
{
    uint64_t missing = missing_pages(file, space);
    if (missing == 0 && file->size % space->page_size == 0)
        return KR_OK;
    report->damaged = true;
    if (missing == 0)
        return kr_file_report_note(report, err, "it ends within a page");
    return kr_file_report_note(report, err, "it is cut off: %llu of its %u pages are missing",
                               (unsigned long long)missing, space->pages);
}

static const char unfinished_text[] =
    "the server was making it: a start of the server completes or removes it";

/* The state of page 0 is as good as its checksum, which is verify's to look at. */
static enum kr_status parse(const struct kr_file *file, struct kr_mysql_space *ret,
                            struct kr_error *err)
{
    if (!kr_mysql_space_parse(file->head, file->head_len, ret))
        return kr_fail(err, KR_INTEGRITY, "page 0 of %s is damaged or not there as a whole",
                       file->path);
    return KR_OK;
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    struct kr_mysql_space space;
    struct kr_error why = KR_ERROR_INIT;
    if (parse(file, &space, &why) != KR_OK) {
        report->damaged = true;
        return kr_file_report_note(report, err, "%s", why.text);
    }
    report->page_size = (uint32_t)space.page_size;
    describe(&space, report);
    if (space.unfinished) {
        report->incomplete = true;
        return kr_file_report_note(report, err, "%s", unfinished_text);
    }
    describe_progress(&space, report);
    KR_TRY(note_size(file, &space, report, err));
    if (file->run->brief)
        report->units.total = (file->size + space.page_size - 1) / space.page_size;
    else
        KR_TRY(kr_mysql_pages_count(file, &space, &report->units, err));
    kr_file_report_judge(report);
    /* Page 0 is never encrypted, and a new tablespace has nothing else. */
    if (space.encrypted && report->units.plain <= 1)
        report->encrypted = KR_ENCRYPTED_YES;
    uint64_t units = report->units.encrypted ? report->units.encrypted : 1;
    if (space.encrypted && space.info.state == KR_MYSQL_INFO_NONE) {
        report->damaged = true;
        return kr_file_report_note(report, err, "it is encrypted, and has no encryption header");
    }
    return kr_mysql_info_report(&space.info, units, report, err);
}

/* Opens the tablespace's key, if it has one: after the server has decrypted a tablespace there is
 * none. */
static enum kr_status open_key(const struct kr_file *file, const struct kr_mysql_space *space,
                               uint8_t *opened, const uint8_t **ret, struct kr_error *err)
{
    *ret = NULL;
    if (!space->encrypted && space->info.state == KR_MYSQL_INFO_NONE)
        return KR_OK;
    KR_TRY(kr_mysql_unseal(file->run->keys, file->path, &space->info, opened, err));
    *ret = opened;
    return KR_OK;
}

static bool first_page_is_sound(const struct kr_file *file, const struct kr_mysql_space *space)
{
    const struct kr_mysql_page_place place = {
        .space_id = space->space_id, .size = space->page_size, .zip = space->zip};
    return kr_mysql_page_state(file->head, space->page_size) == KR_MYSQL_PAGE_PLAIN &&
           kr_mysql_page_check(file->head, false, &place) <= KR_MYSQL_PAGE_UNCHECKED;
}

static enum kr_status run(struct kr_file *file, const struct kr_mysql_space *space,
                          const uint8_t *opened, struct kr_file_check *check, int out,
                          struct kr_error *err)
{
    const struct kr_mysql_pages_job job = {
        .space = space, .opened = opened, .check = check, .out = out};
    return kr_mysql_pages_run(file, &job, err);
}

/* A damaged first page may have lost the key to all the others, which then are not checked. */
static enum kr_status verify(struct kr_file *file, const struct kr_file_report *report,
                             struct kr_file_check *check, struct kr_error *err)
{
    struct kr_mysql_space space;
    struct kr_error why = KR_ERROR_INIT;
    const uint8_t *key = NULL;
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    (void)report;
    if (!opened)
        return kr_fail_secret(err);
    if (parse(file, &space, &why) != KR_OK) {
        kr_file_check_damage(check, 0, "it does not begin a tablespace; the others were not read");
        return KR_OK;
    }
    if (space.unfinished)
        return kr_fail(err, KR_REFUSED, "%s", unfinished_text);
    enum kr_status status = open_key(file, &space, opened, &key, err);
    if (status == KR_INTEGRITY || (status != KR_OK && !first_page_is_sound(file, &space))) {
        kr_file_check_damage(check, 0, "its encryption header is; the others were not read");
        return KR_OK;
    }
    KR_TRY(status);
    KR_TRY(run(file, &space, key, check, -1, err));
    uint64_t missing = missing_pages(file, &space);
    if (missing > 0)
        kr_file_check_damage(check, file->size / space.page_size,
                             "the file ends before it, and before %llu more",
                             (unsigned long long)missing - 1);
    return KR_OK;
}

static enum kr_status decrypt(struct kr_file *file, const struct kr_file_report *report, int out,
                              struct kr_error *err)
{
    struct kr_mysql_space space;
    const uint8_t *key = NULL;
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    (void)report;
    if (!opened)
        return kr_fail_secret(err);
    KR_TRY(parse(file, &space, err));
    if (space.unfinished)
        return kr_fail(err, KR_REFUSED, "%s: %s", file->path, unfinished_text);
    KR_TRY(open_key(file, &space, opened, &key, err));
    uint64_t missing = missing_pages(file, &space);
    if (missing > 0)
        return kr_fail(err, KR_INTEGRITY, "%s is cut off: %llu of its pages are missing",
                       file->path, (unsigned long long)missing);
    return run(file, &space, key, NULL, out, err);
}

/* A tablespace has no versions of its key: each run gives it another one. */
static enum kr_status rekey(struct kr_file *file, const struct kr_file_report *report,
                            struct kr_rekey_run *run, int out, bool *ret_current,
                            struct kr_error *err)
{
    struct kr_mysql_space space;
    const uint8_t *key = NULL;
    KR_SECRET uint8_t *secrets = kr_secret_alloc((size_t)2 * KR_MYSQL_SEALED_BYTES);
    (void)report;
    if (!secrets)
        return kr_fail_secret(err);
    uint8_t *fresh = secrets + KR_MYSQL_SEALED_BYTES;
    KR_TRY(parse(file, &space, err));
    if (space.unfinished || space.progress != KR_MYSQL_SETTLED)
        return kr_mysql_refuse_unsettled(file, err);
    if (missing_pages(file, &space) > 0)
        return kr_fail(err, KR_INTEGRITY, "%s is cut off", file->path);
    KR_TRY(open_key(file, &space, secrets, &key, err));
    *ret_current = key && kr_rekey_run_made(run, key);
    if (*ret_current || out < 0)
        return KR_OK;
    struct kr_mysql_info info = space.info;
    if (RAND_priv_bytes(fresh, KR_MYSQL_SEALED_BYTES) != 1 || !kr_rekey_run_mark(run, fresh))
        return kr_fail(err, KR_INTERNAL, "OpenSSL has no random numbers");
    KR_TRY(kr_mysql_seal(file->run->keys, file->path, fresh, &info, err));
    KR_TRY(kr_rekey_run_begin(run, err));
    const struct kr_mysql_pages_job job = {
        .space = &space, .opened = key, .out = out, .fresh = fresh, .fresh_info = &info};
    return kr_mysql_pages_run(file, &job, err);
}

const struct kr_file_kind_ops kr_mysql_tablespace_ops = {
    .kind = KR_FILE_MYSQL_TABLESPACE,
    .unit = "page",
    .inspect = inspect,
    .verify = verify,
    .decrypt = decrypt,
    .rekey = rekey,
};
