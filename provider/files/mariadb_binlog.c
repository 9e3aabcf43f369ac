/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MariaDB's binary and relay logs, in the clear or not: read once, from the beginning to the end.
 */
#include "formats/mariadb_binlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "files/kinds.h"
#include "files/mariadb_keys.h"
#include "files/stream.h"
#include "formats/binlog_events.h"

enum {
    KEY_ID = 1,
    BUFFER = 1 << 18,
    SLACK = 64 /* what a cipher holds back comes with a later piece */
};

/* --- reading ---------------------------------------------------------------------------------- */

struct reader {
    struct kr_file *file;
    uint64_t at; /* offset in the file of the first byte that is not taken yet */
    uint8_t *bytes;
    size_t from, to; /* of those in the buffer */
};

/* At least `wanted` bytes (at most BUFFER) from reader->from on, fewer at the end of the file. */
static enum kr_status fill(struct reader *reader, size_t wanted, struct kr_error *err)
{
    size_t have = reader->to - reader->from;
    uint64_t left = reader->file->size - reader->at - have;
    if (have >= wanted || left == 0)
        return KR_OK;
    memmove(reader->bytes, reader->bytes + reader->from, have);
    reader->from = 0;
    reader->to = have;
    size_t more = left < BUFFER - have ? (size_t)left : BUFFER - have;
    KR_TRY(kr_file_read(reader->file, reader->at + have, reader->bytes + have, more, err));
    reader->to += more;
    kr_file_done(reader->file, more);
    return KR_OK;
}

static size_t here(const struct reader *reader)
{
    return reader->to - reader->from;
}

static void take(struct reader *reader, size_t len)
{
    reader->from += len;
    reader->at += len;
}

static enum kr_status reader_new(struct kr_file *file, struct reader *ret, struct kr_error *err)
{
    *ret = (struct reader){.file = file, .bytes = malloc(BUFFER)};
    return ret->bytes ? KR_OK : kr_fail_memory(err);
}

static void reader_cleanup(struct reader *reader)
{
    free(reader->bytes);
}

/* --- inspect ---------------------------------------------------------------------------------- */

/* By the lengths of the events alone; false where they lead nowhere. */
static enum kr_status count_events(struct kr_file *file, uint64_t *ret_count, bool *ret_whole,
                                   struct kr_error *err)
{
    __attribute__((cleanup(reader_cleanup))) struct reader reader = {0};
    KR_TRY(reader_new(file, &reader, err));
    KR_TRY(fill(&reader, KR_BINLOG_MAGIC, err));
    take(&reader, KR_BINLOG_MAGIC);
    *ret_count = 0;
    *ret_whole = true;
    while (reader.at < file->size && *ret_whole && !kr_file_stopped(file)) {
        KR_TRY(fill(&reader, KR_BINLOG_EVENT_HEAD, err));
        uint64_t left = file->size - reader.at, length = 0;
        if (here(&reader) >= KR_BINLOG_EVENT_HEAD)
            length = kr_mariadb_binlog_length(reader.bytes + reader.from);
        *ret_whole = length >= KR_BINLOG_EVENT_HEAD && length <= left;
        for (uint64_t rest = *ret_whole ? length : 0; rest > 0;) {
            size_t piece = rest < BUFFER ? (size_t)rest : BUFFER;
            KR_TRY(fill(&reader, piece, err));
            take(&reader, piece);
            rest -= piece;
        }
        (*ret_count)++;
    }
    return KR_OK;
}

static enum kr_status describe(const struct kr_mariadb_binlog *log, bool whole,
                               struct kr_file_report *report, struct kr_error *err)
{
    uint64_t clear = log->encrypted ? 2 : report->units.total;
    report->units.plain = clear < report->units.total ? clear : report->units.total;
    report->units.encrypted = report->units.total - report->units.plain;
    report->encrypted = log->encrypted ? KR_ENCRYPTED_YES : KR_ENCRYPTED_NO;
    report->damaged = log->damaged || !whole;
    snprintf(report->format, sizeof(report->format), "%s",
             log->checksums ? "checksums" : "no checksums");
    if (log->encrypted && !log->damaged)
        KR_TRY(kr_file_report_need(report, "", KEY_ID, log->key_version, report->units.encrypted,
                                   err));
    if (log->damaged)
        KR_TRY(kr_file_report_note(report, err, "the event that names the key is damaged"));
    if (!whole)
        KR_TRY(kr_file_report_note(report, err, "event %llu is cut off, or its length is wrong",
                                   (unsigned long long)report->units.total));
    return KR_OK;
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    struct kr_mariadb_binlog log;
    bool whole;
    if (!kr_mariadb_binlog_parse(file->head, file->head_len, &log)) {
        report->damaged = true;
        return kr_file_report_note(report, err, "it does not begin as a binary log does");
    }
    KR_TRY(count_events(file, &report->units.total, &whole, err));
    return describe(&log, whole, report, err);
}

/* --- decrypting ------------------------------------------------------------------------------- */

typedef enum kr_status (*sink)(const uint8_t *bytes, size_t len, void *context,
                               struct kr_error *err);

struct decoder {
    struct reader reader;
    const struct kr_mariadb_binlog *log;
    const struct kr_mariadb_keys *keys;
    uint8_t *out; /* BUFFER + SLACK, secret */
    sink sink;
    void *context;
};

/* The next `len` bytes as they are; fewer at the end of the file. */
static enum kr_status pass_on(struct decoder *decoder, uint64_t len, struct kr_error *err)
{
    struct reader *reader = &decoder->reader;
    while (len > 0) {
        KR_TRY(fill(reader, len < BUFFER ? (size_t)len : BUFFER, err));
        size_t piece = here(reader) < len ? here(reader) : (size_t)len;
        if (piece == 0)
            return KR_OK;
        KR_TRY(decoder->sink(reader->bytes + reader->from, piece, decoder->context, err));
        take(reader, piece);
        len -= piece;
    }
    return KR_OK;
}

/* A piece of an event; *ret_len of decoder->out are filled. The first piece holds its head. */
static enum kr_status decode_piece(struct decoder *decoder, struct kr_page_op *op, bool first,
                                   size_t len, size_t *ret_len)
{
    uint8_t *in = decoder->reader.bytes + decoder->reader.from, *out = decoder->out;
    size_t skip = first ? KR_MARIADB_BINLOG_CLEAR : 0, got = 0;
    if (first) {
        kr_mariadb_binlog_prepare(in);
        memcpy(out, in, skip);
    }
    enum kr_status status = kr_page_update(op, in + skip, len - skip, out + skip, &got);
    *ret_len = skip + got;
    return status;
}

/* An event that lies wholly within the file. */
static enum kr_status decode_pieces(struct decoder *decoder, struct kr_page_op **op,
                                    uint32_t length, struct kr_error *err)
{
    struct reader *reader = &decoder->reader;
    bool first = true;
    for (uint32_t left = length; left > 0; first = false) {
        size_t piece = left < BUFFER ? left : BUFFER, got = 0, end = 0;
        KR_TRY(fill(reader, piece, err));
        enum kr_status status = decode_piece(decoder, *op, first, piece, &got);
        left -= (uint32_t)piece;
        if (left == 0 && status == KR_OK) {
            struct kr_page_op *last = *op;
            *op = NULL;
            status = kr_page_finish(last, decoder->out + got, &end);
        }
        if (status != KR_OK)
            return kr_fail(err, status, "an event of %s cannot be decrypted", reader->file->path);
        if (first)
            kr_mariadb_binlog_finish(decoder->out, length);
        take(reader, piece);
        KR_TRY(decoder->sink(decoder->out, got + end, decoder->context, err));
    }
    return KR_OK;
}

static enum kr_status decode_event(struct decoder *decoder, uint32_t length, struct kr_error *err)
{
    uint8_t iv[KR_MARIADB_BINLOG_IV];
    struct kr_page_op *op = NULL;
    size_t end;
    kr_mariadb_binlog_iv(decoder->log, (uint32_t)decoder->reader.at, iv);
    if (kr_mariadb_keys_begin(decoder->keys, decoder->log->key_version, KR_PAGE_DECRYPT, iv, &op) !=
        KR_OK)
        return kr_fail(err, KR_INTERNAL, "cannot begin to decrypt an event of %s",
                       decoder->reader.file->path);
    enum kr_status status = decode_pieces(decoder, &op, length, err);
    if (op && kr_page_finish(op, decoder->out, &end) != KR_OK && status == KR_OK)
        status = kr_fail(err, KR_INTERNAL, "cannot decrypt %s", decoder->reader.file->path);
    return status;
}

/* What is cut off, or has an impossible length, is passed on as it is: who reads it says so. */
static enum kr_status decode_events(struct decoder *decoder, struct kr_error *err)
{
    struct reader *reader = &decoder->reader;
    const struct kr_file *file = reader->file;
    while (reader->at < file->size && !kr_file_stopped(file)) {
        KR_TRY(fill(reader, KR_BINLOG_EVENT_HEAD, err));
        uint64_t left = file->size - reader->at;
        uint32_t length = left < KR_BINLOG_EVENT_HEAD
                              ? 0
                              : kr_mariadb_binlog_length(reader->bytes + reader->from);
        if (length < KR_BINLOG_EVENT_HEAD || length > left)
            return pass_on(decoder, left, err);
        KR_TRY(decode_event(decoder, length, err));
    }
    return KR_OK;
}

static enum kr_status decode_marker(struct decoder *decoder, struct kr_error *err)
{
    const struct kr_mariadb_binlog *log = decoder->log;
    struct reader *reader = &decoder->reader;
    KR_TRY(fill(reader, log->marker_len, err));
    uint8_t *marker = reader->bytes + reader->from;
    kr_mariadb_binlog_drop_marker(log, marker);
    KR_TRY(decoder->sink(marker, log->marker_len, decoder->context, err));
    take(reader, log->marker_len);
    return KR_OK;
}

static enum kr_status decode(struct decoder *decoder, struct kr_error *err)
{
    if (!decoder->log->encrypted)
        return pass_on(decoder, decoder->reader.file->size, err);
    KR_TRY(pass_on(decoder, decoder->log->marker_at, err));
    KR_TRY(decode_marker(decoder, err));
    return decode_events(decoder, err);
}

static enum kr_status run(struct kr_file *file, const struct kr_file_report *report,
                          const struct kr_mariadb_binlog *log, sink to, void *context,
                          struct kr_error *err)
{
    KR_MARIADB_KEYS *keys = NULL;
    KR_SECRET uint8_t *out = NULL;
    __attribute__((cleanup(reader_cleanup))) struct reader reader = {0};
    if (log->encrypted)
        KR_TRY(kr_mariadb_keys_new(file, report, NULL, &keys, err));
    out = kr_secret_alloc(BUFFER + SLACK);
    if (!out)
        return kr_fail_secret(err);
    KR_TRY(reader_new(file, &reader, err));
    struct decoder decoder = {
        .reader = reader, .log = log, .keys = keys, .out = out, .sink = to, .context = context};
    return decode(&decoder, err);
}

/* --- verify ----------------------------------------------------------------------------------- */

struct verifying {
    struct kr_binlog_check events;
    struct kr_file_check *check;
    uint64_t unsound; /* whole events that are damaged */
};

static void on_damage(const struct kr_binlog_event *event, enum kr_binlog_fault fault,
                      void *context)
{
    struct verifying *verifying = context;
    verifying->unsound += fault == KR_BINLOG_BAD_CHECKSUM;
    kr_file_check_damage(verifying->check, event->number, "%s", kr_binlog_fault_text(fault));
}

static enum kr_status check_bytes(const uint8_t *bytes, size_t len, void *context,
                                  struct kr_error *err)
{
    struct verifying *verifying = context;
    (void)err;
    kr_binlog_check_feed(&verifying->events, bytes, len);
    return KR_OK;
}

/* A server that closes a log writes a last event, and takes back the flag that says it is in use.
 */
static bool is_ended(const struct kr_binlog_check *events)
{
    enum { TYPE_STOP = 3, TYPE_ROTATE = 4 };
    return events->in_use || events->damaged > 0 || events->event.type == TYPE_STOP ||
           events->event.type == TYPE_ROTATE;
}

/* Without the event that names the key nothing after it can be read. */
static enum kr_status verify_clear(struct kr_file *file, const struct kr_mariadb_binlog *log,
                                   struct kr_file_check *check, struct verifying *verifying,
                                   struct kr_error *err)
{
    struct kr_mariadb_binlog clear = *log;
    uint64_t size = file->size;
    if (log->encrypted) {
        kr_file_check_damage(check, 2, "it does not name the key as it should");
        file->size = log->marker_at;
    }
    clear.encrypted = false;
    enum kr_status status = run(file, NULL, &clear, check_bytes, verifying, err);
    file->size = size;
    return status;
}

static enum kr_status verify(struct kr_file *file, const struct kr_file_report *report,
                             struct kr_file_check *check, struct kr_error *err)
{
    struct kr_mariadb_binlog log = {0};
    struct verifying verifying = {.check = check};
    kr_binlog_check_begin(&verifying.events, on_damage, &verifying);
    if (!kr_mariadb_binlog_parse(file->head, file->head_len, &log) || !log.encrypted || log.damaged)
        KR_TRY(verify_clear(file, &log, check, &verifying, err));
    else
        KR_TRY(run(file, report, &log, check_bytes, &verifying, err));
    if (kr_file_stopped(file))
        return KR_OK;
    kr_binlog_check_end(&verifying.events);
    if (!is_ended(&verifying.events))
        kr_file_check_damage(check, verifying.events.event.number + 1,
                             "missing: a log that was closed ends with a last event");
    uint64_t unchecked = verifying.events.unchecked;
    kr_file_check_count(check, verifying.events.events - unchecked - verifying.unsound, unchecked,
                        0);
    return KR_OK;
}

/* --- decrypt ---------------------------------------------------------------------------------- */

struct writing {
    struct verifying verifying; /* what is written is checked on its way */
    int out;
};

static enum kr_status write_bytes(const uint8_t *bytes, size_t len, void *context,
                                  struct kr_error *err)
{
    struct writing *writing = context;
    KR_TRY(check_bytes(bytes, len, &writing->verifying, err));
    if (writing->verifying.events.damaged > 0)
        return kr_fail(err, KR_INTEGRITY, "event %llu is damaged",
                       (unsigned long long)writing->verifying.events.event.number);
    return kr_stream_write(writing->out, bytes, len, err);
}

static enum kr_status decrypt(struct kr_file *file, const struct kr_file_report *report, int out,
                              struct kr_error *err)
{
    struct kr_mariadb_binlog log;
    struct kr_file_check check;
    struct writing writing = {.verifying = {.check = &check}, .out = out};
    if (!kr_mariadb_binlog_parse(file->head, file->head_len, &log) || log.damaged)
        return kr_fail(err, KR_INTEGRITY, "the first events of %s are damaged", file->path);
    kr_file_check_init(&check);
    kr_binlog_check_begin(&writing.verifying.events, on_damage, &writing.verifying);
    enum kr_status status = run(file, report, &log, write_bytes, &writing, err);
    if (status == KR_OK && !kr_file_stopped(file)) {
        kr_binlog_check_end(&writing.verifying.events);
        if (writing.verifying.events.damaged > 0)
            status = kr_fail(err, KR_INTEGRITY, "it ends within event %llu",
                             (unsigned long long)writing.verifying.events.event.number);
    }
    if (status == KR_INTEGRITY)
        kr_error_context(err, "%s", file->path);
    kr_file_check_free(&check);
    return status;
}

const struct kr_file_kind_ops kr_mariadb_binlog_ops = {
    .kind = KR_FILE_MARIADB_BINLOG,
    .unit = "event",
    .inspect = inspect,
    .verify = verify,
    .decrypt = decrypt,
    .streams = true,
};
