/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading the audit log back. */
#include "wrap/audit_chain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"

struct reader {
    struct kr_audit_chain *chain;
    struct kr_audit_line line;
    kr_audit_visitor visit;
    void *context;
    /* A line that cannot be read: the one behind it tells whether it was torn. */
    const char *bad; /* what is wrong with it; NULL: there is none */
    unsigned long bad_number;
    uint8_t bad_hash[KR_AUDIT_HASH_BYTES];
    char problem[160];
};

static enum kr_status tell(struct reader *reader, unsigned long number,
                           enum kr_audit_finding finding, const char *problem, const json_t *fields,
                           struct kr_error *err)
{
    reader->chain->damaged += finding == KR_AUDIT_DAMAGED;
    reader->chain->torn += finding == KR_AUDIT_TORN;
    struct kr_audit_line line = reader->line;
    line.number = number;
    line.finding = finding;
    line.problem = problem;
    line.fields = fields;
    return reader->visit(&line, reader->context, err);
}

/* --- links ------------------------------------------------------------------------------------ */

/* NULL, or what is wrong with a record that stands behind the last one. */
static const char *check_link(struct reader *reader, const struct kr_audit_record *record)
{
    static const uint8_t none[KR_AUDIT_HASH_BYTES];
    const struct kr_audit_head *last = &reader->chain->last;
    uint64_t seq = record->head.seq;
    if (last->seq == 0 && (seq > 1 || memcmp(record->prev, none, sizeof(none)) == 0))
        return NULL;
    /* The line between them is told already. */
    if (reader->bad && seq == last->seq + 2)
        return NULL;
    if (seq > last->seq + 1) {
        snprintf(reader->problem, sizeof(reader->problem),
                 "records %" PRIu64 " to %" PRIu64 " are missing before it", last->seq + 1,
                 seq - 1);
        return reader->problem;
    }
    if (seq <= last->seq)
        return "its number was given before";
    if (memcmp(record->prev, last->hash, sizeof(last->hash)) != 0)
        return "it does not follow from the record before it: one of the two was changed";
    return NULL;
}

static void compare_anchor(struct kr_audit_chain *chain, const struct kr_audit_head *head)
{
    if (chain->anchor.seq == 0 || head->seq != chain->anchor.seq)
        return;
    chain->anchor_found = true;
    chain->anchor_differs = chain->anchor_differs || !kr_audit_head_equal(head, &chain->anchor);
}

/* --- lines ------------------------------------------------------------------------------------ */

/* True when `fields` is the remark about the line that could not be read. */
static bool explains(const struct reader *reader, const json_t *fields)
{
    char hash[2 * KR_AUDIT_HASH_BYTES + 1];
    const char *event = json_string_value(json_object_get(fields, "event"));
    const char *torn = json_string_value(json_object_get(fields, "torn_sha256"));
    kr_hex_encode(reader->bad_hash, sizeof(reader->bad_hash), hash);
    return event && torn && strcmp(event, "log-torn") == 0 && strcmp(torn, hash) == 0;
}

static enum kr_status settle_bad(struct reader *reader, bool torn, struct kr_error *err)
{
    const char *problem = reader->bad;
    reader->bad = NULL;
    if (!problem)
        return KR_OK;
    return tell(reader, reader->bad_number, torn ? KR_AUDIT_TORN : KR_AUDIT_DAMAGED,
                torn ? "its writer did not end it" : problem, NULL, err);
}

static enum kr_status take_record(struct reader *reader, const struct kr_audit_record *record,
                                  unsigned long number, struct kr_error *err)
{
    struct kr_audit_chain *chain = reader->chain;
    bool torn = reader->bad && explains(reader, record->fields);
    const char *problem;
    if (torn)
        KR_TRY(settle_bad(reader, true, err));
    problem = check_link(reader, record);
    KR_TRY(settle_bad(reader, false, err));
    if (chain->first.seq == 0)
        chain->first = record->head;
    chain->last = record->head;
    chain->records++;
    compare_anchor(chain, &record->head);
    return tell(reader, number, problem ? KR_AUDIT_DAMAGED : KR_AUDIT_RECORD_OK, problem,
                record->fields, err);
}

static enum kr_status take_line(struct reader *reader, const char *text, size_t len, bool ended,
                                unsigned long number, struct kr_error *err)
{
    KR_AUDIT_RECORD record = {0};
    const char *problem = kr_audit_record_read(text, len, &record);
    if (!problem)
        return take_record(reader, &record, number, err);
    KR_TRY(settle_bad(reader, false, err));
    reader->bad = problem;
    reader->bad_number = number;
    KR_TRY(kr_audit_digest(text, len, reader->bad_hash, err));
    return ended ? KR_OK : settle_bad(reader, true, err);
}

/* --- files ------------------------------------------------------------------------------------ */

static enum kr_status fail_read(const char *path, int code, struct kr_error *err)
{
    kr_fail(err, code == EACCES ? KR_CONFIG : KR_IO, "cannot read the audit log %s: %s", path,
            strerror(code));
    kr_hint(err, "name the log's files, oldest first, as a user that may read them");
    return err->status;
}

static enum kr_status read_lines(struct reader *reader, FILE *file, struct kr_error *err)
{
    char *text = NULL;
    size_t size = 0;
    ssize_t len;
    enum kr_status status = KR_OK;
    for (unsigned long number = 1; status == KR_OK && (len = getline(&text, &size, file)) > 0;
         number++) {
        bool ended = text[len - 1] == '\n';
        status = take_line(reader, text, (size_t)len - ended, ended, number, err);
    }
    free(text);
    if (status == KR_OK && ferror(file))
        status = fail_read(reader->line.path, errno, err);
    return status == KR_OK ? settle_bad(reader, false, err) : status;
}

enum kr_status kr_audit_chain_read(struct kr_audit_chain *chain, const char *path,
                                   kr_audit_visitor visit, void *context, struct kr_error *err)
{
    struct reader reader = {
        .chain = chain, .line = {.path = path}, .visit = visit, .context = context};
    FILE *file = fopen(path, "re");
    if (!file)
        return fail_read(path, errno, err);
    enum kr_status status = read_lines(&reader, file, err);
    fclose(file);
    return status;
}
