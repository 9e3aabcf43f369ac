/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's binary and relay logs, encrypted or not. */
#include <stdio.h>

#include "base/secret.h"
#include "files/kinds.h"
#include "files/mysql_keys.h"
#include "files/stream.h"
#include "formats/binlog_events.h"
#include "hwaccel/page_cipher.h"

static bool is_encrypted(const struct kr_file *file)
{
    return file->kind == KR_FILE_MYSQL_BINLOG_ENCRYPTED;
}

/* NULL, or what is wrong with the head of an encrypted log. */
static const char *parse(const struct kr_file *file, struct kr_mysql_binlog_head *ret)
{
    if (file->head_len < KR_MYSQL_BINLOG_HEAD)
        return "it ends within its encryption header";
    return kr_mysql_binlog_parse(file->head, ret);
}

/* --- inspect -------------------------------------------------------------------------------------
 */

static void ignore(const struct kr_binlog_event *event, enum kr_binlog_fault fault, void *context)
{
    (void)event;
    (void)fault;
    (void)context;
}

/* The first event says who wrote it, and whether it was closed. */
static enum kr_status inspect_plain(struct kr_file *file, struct kr_file_report *report,
                                    struct kr_error *err)
{
    struct kr_binlog_check check;
    kr_binlog_check_begin(&check, ignore, NULL);
    kr_binlog_check_feed(&check, file->head, file->head_len);
    report->encrypted = KR_ENCRYPTED_NO;
    if (check.events == 0) {
        report->damaged = true;
        return kr_file_report_note(report, err, "its first event is damaged");
    }
    snprintf(report->format, sizeof(report->format), "MySQL %s%s", check.server,
             check.checksums ? "" : ", binlog_checksum=NONE");
    if (check.in_use)
        KR_TRY(
            kr_file_report_note(report, err, "it was not closed: its server runs, or was killed"));
    return KR_OK;
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    struct kr_mysql_binlog_head head;
    if (!is_encrypted(file))
        return inspect_plain(file, report, err);
    report->encrypted = KR_ENCRYPTED_YES;
    const char *problem = parse(file, &head);
    if (problem) {
        report->damaged = true;
        return kr_file_report_note(report, err, "%s", problem);
    }
    return kr_file_report_need(report, head.master, 0, 0, 1, err);
}

/* --- verify and decrypt --------------------------------------------------------------------------
 */

struct reading {
    const struct kr_file *file;
    struct kr_page_op *cipher; /* NULL: the log is in the clear */
    struct kr_binlog_check events;
    struct kr_file_check *check; /* NULL: a damaged event is a failure */
    struct kr_error *err;        /* that the failure goes to */
    bool failed;
};

static void on_damage(const struct kr_binlog_event *event, enum kr_binlog_fault fault,
                      void *context)
{
    struct reading *reading = context;
    uint64_t number = event->number ? event->number - 1 : 0;
    if (reading->check) {
        kr_file_check_damage(reading->check, number, "at byte %llu: %s",
                             (unsigned long long)event->offset, kr_binlog_fault_text(fault));
        return;
    }
    if (!reading->failed)
        kr_fail(reading->err, KR_INTEGRITY, "event %llu of %s, at byte %llu, is damaged: %s",
                (unsigned long long)number, reading->file->path, (unsigned long long)event->offset,
                kr_binlog_fault_text(fault));
    reading->failed = true;
}

static enum kr_status work(uint8_t *bytes, size_t len, uint64_t offset, void *context,
                           struct kr_error *err)
{
    struct reading *reading = context;
    size_t done = len;
    (void)offset;
    if (reading->cipher &&
        (kr_page_update(reading->cipher, bytes, len, bytes, &done) != KR_OK || done != len))
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to decrypt %s", reading->file->path);
    kr_binlog_check_feed(&reading->events, bytes, len);
    return reading->failed ? KR_INTEGRITY : KR_OK;
}

static enum kr_status read_events(struct reading *reading, int out, struct kr_error *err)
{
    const struct kr_stream stream = {.file = reading->file,
                                     .offset = reading->cipher ? KR_MYSQL_BINLOG_HEAD : 0,
                                     .unit = 1,
                                     .out = out,
                                     .work = work,
                                     .context = reading};
    kr_binlog_check_begin(&reading->events, on_damage, reading);
    reading->err = err;
    KR_TRY(kr_stream_run(&stream, err));
    if (!kr_file_stopped(reading->file))
        kr_binlog_check_end(&reading->events);
    return reading->failed ? KR_INTEGRITY : KR_OK;
}

static enum kr_status read_decrypted(struct reading *reading, int out, struct kr_error *err)
{
    struct kr_mysql_binlog_head head;
    uint8_t rest[16];
    size_t rest_len;
    const struct kr_file *file = reading->file;
    KR_SECRET struct kr_mysql_binlog_key *key = kr_secret_alloc(sizeof(*key));
    if (!key)
        return kr_fail_secret(err);
    const char *problem = parse(file, &head);
    if (problem)
        return kr_fail(err, KR_INTEGRITY, "%s: %s", file->path, problem);
    KR_TRY(kr_mysql_open_binlog(file->run->keys, file->path, &head, key, err));
    const struct kr_page_key page_key = {.bytes = key->key, .len = sizeof(key->key)};
    if (kr_page_begin(KR_CIPHER_AES_CTR, KR_PAGE_DECRYPT, &page_key, key->iv, sizeof(key->iv),
                      &reading->cipher) != KR_OK)
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to decrypt %s", file->path);
    enum kr_status status = read_events(reading, out, err);
    if (kr_page_finish(reading->cipher, rest, &rest_len) != KR_OK && status == KR_OK)
        status = kr_fail(err, KR_INTERNAL, "OpenSSL failed to decrypt %s", file->path);
    return status;
}

static enum kr_status read_log(struct reading *reading, int out, struct kr_error *err)
{
    return is_encrypted(reading->file) ? read_decrypted(reading, out, err)
                                       : read_events(reading, out, err);
}

/* A damaged head is the damage of what it opens: of every event, beginning with the first. */
static enum kr_status verify(struct kr_file *file, const struct kr_file_report *report,
                             struct kr_file_check *check, struct kr_error *err)
{
    struct reading reading = {.file = file, .check = check};
    struct kr_mysql_binlog_head head;
    const char *problem = is_encrypted(file) ? parse(file, &head) : NULL;
    (void)report;
    if (problem) {
        kr_file_check_damage(check, 0, "%s", problem);
        return KR_OK;
    }
    KR_TRY(read_log(&reading, -1, err));
    uint64_t whole = reading.events.events, wrong = reading.events.damaged;
    uint64_t unchecked = reading.events.unchecked;
    wrong -= reading.events.given_up; /* that one is not among the whole ones */
    kr_file_check_count(check, whole - wrong - unchecked, unchecked, 0);
    return KR_OK;
}

static enum kr_status decrypt(struct kr_file *file, const struct kr_file_report *report, int out,
                              struct kr_error *err)
{
    struct reading reading = {.file = file};
    (void)report;
    return read_log(&reading, out, err);
}

const struct kr_file_kind_ops kr_mysql_binlog_ops = {
    .kind = KR_FILE_MYSQL_BINLOG,
    .unit = "event",
    .inspect = inspect,
    .verify = verify,
};

const struct kr_file_kind_ops kr_mysql_binlog_encrypted_ops = {
    .kind = KR_FILE_MYSQL_BINLOG_ENCRYPTED,
    .unit = "event",
    .inspect = inspect,
    .verify = verify,
    .decrypt = decrypt,
    .streams = true,
};
