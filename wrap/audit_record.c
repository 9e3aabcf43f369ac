/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* One record of the audit log. */
#include "wrap/audit_record.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hex.h"
#include "wrap/json_text.h"

enum { HEX_BYTES = 2 * KR_AUDIT_HASH_BYTES };

bool kr_audit_head_equal(const struct kr_audit_head *a, const struct kr_audit_head *b)
{
    return a->seq == b->seq && memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}

void kr_audit_record_cleanup(struct kr_audit_record *record)
{
    json_decref(record->fields);
    record->fields = NULL;
}

static bool sha256(const void *bytes, size_t len, uint8_t ret[KR_AUDIT_HASH_BYTES])
{
    size_t made = 0;
    return EVP_Q_digest(NULL, "SHA256", NULL, bytes, len, ret, &made) == 1;
}

enum kr_status kr_audit_digest(const void *bytes, size_t len, uint8_t ret[KR_AUDIT_HASH_BYTES],
                               struct kr_error *err)
{
    if (sha256(bytes, len, ret))
        return KR_OK;
    return kr_fail(err, KR_INTERNAL, "SHA-256 failed in OpenSSL");
}

/* The one form of an object; malloc'ed. */
static char *canonical(const json_t *object)
{
    return json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
}

/* --- making ----------------------------------------------------------------------------------- */

static int set_hash(json_t *fields, const char *name, const uint8_t hash[KR_AUDIT_HASH_BYTES])
{
    char text[HEX_BYTES + 1];
    kr_hex_encode(hash, KR_AUDIT_HASH_BYTES, text);
    return json_object_set_new(fields, name, json_string(text));
}

static enum kr_status hash_fields(json_t *fields, uint8_t ret[KR_AUDIT_HASH_BYTES],
                                  struct kr_error *err)
{
    char *text = canonical(fields);
    if (!text)
        return kr_fail_memory(err);
    enum kr_status status = kr_audit_digest(text, strlen(text), ret, err);
    free(text);
    return status;
}

static enum kr_status number_and_date(json_t *fields, const struct kr_audit_head *before,
                                      struct kr_error *err)
{
    char now[KR_TIME_TEXT_MS];
    kr_time_text_now_ms(now);
    if (json_object_set_new(fields, "format", json_integer(KR_AUDIT_FORMAT)) != 0 ||
        json_object_set_new(fields, "seq", json_integer((json_int_t)before->seq + 1)) != 0 ||
        json_object_set_new(fields, "time", json_string(now)) != 0 ||
        set_hash(fields, "prev", before->hash) != 0)
        return kr_fail_memory(err);
    return KR_OK;
}

enum kr_status kr_audit_record_seal(json_t *fields, const struct kr_audit_head *before,
                                    char **ret_line, size_t *ret_len,
                                    struct kr_audit_head *ret_head, struct kr_error *err)
{
    struct kr_audit_head head = {.seq = before->seq + 1};
    json_object_del(fields, "hash");
    KR_TRY(number_and_date(fields, before, err));
    KR_TRY(hash_fields(fields, head.hash, err));
    char *line = set_hash(fields, "hash", head.hash) == 0 ? canonical(fields) : NULL;
    size_t len = line ? strlen(line) : 0;
    if (!line)
        return kr_fail_memory(err);
    if (len >= KR_AUDIT_LINE_MAX) {
        free(line);
        return kr_fail(err, KR_INTERNAL, "a record of the audit log has %zu bytes", len);
    }
    line[len] = '\n'; /* in the place of the NUL: it is no text any more */
    *ret_line = line;
    *ret_len = len + 1;
    *ret_head = head;
    return KR_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool read_hash(const json_t *fields, const char *name, uint8_t ret[KR_AUDIT_HASH_BYTES])
{
    const char *text = json_string_value(json_object_get(fields, name));
    char again[HEX_BYTES + 1]; /* digits in lower case have one form */
    if (!text || strlen(text) != HEX_BYTES || !kr_hex_decode(text, HEX_BYTES, ret))
        return false;
    kr_hex_encode(ret, KR_AUDIT_HASH_BYTES, again);
    return strcmp(text, again) == 0;
}

/* Any change of the line changes its content or is no longer the one form of it. */
static bool is_canonical(const json_t *fields, const char *line, size_t len)
{
    char *text = canonical(fields);
    bool same = text && strlen(text) == len && memcmp(text, line, len) == 0;
    free(text);
    return same;
}

static bool hash_fits(json_t *fields, const uint8_t hash[KR_AUDIT_HASH_BYTES])
{
    uint8_t expected[KR_AUDIT_HASH_BYTES];
    KR_JSON hashed = json_copy(fields);
    json_object_del(hashed, "hash");
    char *text = canonical(hashed);
    bool fits = text && sha256(text, strlen(text), expected) &&
                memcmp(expected, hash, sizeof(expected)) == 0;
    free(text);
    return fits;
}

static bool has_texts(const json_t *fields)
{
    static const char *const names[] = {"event", "outcome", "time"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!json_is_string(json_object_get(fields, names[i])))
            return false;
    return true;
}

static const char *check(json_t *fields, const char *line, size_t len, struct kr_audit_record *ret)
{
    json_int_t seq = json_integer_value(json_object_get(fields, "seq"));
    if (!json_is_object(fields))
        return "it is no JSON object";
    if (json_integer_value(json_object_get(fields, "format")) != KR_AUDIT_FORMAT)
        return "its format is not known";
    if (seq < 1 || !has_texts(fields) || !read_hash(fields, "hash", ret->head.hash) ||
        !read_hash(fields, "prev", ret->prev))
        return "it lacks what every record has";
    if (!is_canonical(fields, line, len) || !hash_fits(fields, ret->head.hash))
        return "its content does not fit its hash";
    ret->head.seq = (uint64_t)seq;
    return NULL;
}

const char *kr_audit_record_read(const char *line, size_t len, struct kr_audit_record *ret)
{
    struct kr_audit_record record = {.fields = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL)};
    const char *problem = check(record.fields, line, len, &record);
    if (problem)
        kr_audit_record_cleanup(&record);
    else
        *ret = record;
    return problem;
}
