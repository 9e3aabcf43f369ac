/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * One record of the audit log: a JSON object on a line of its own, in the one form that its content
 * has (keys sorted, no blanks), with a number, the hash of the record before it and its own
 * (docs/FORMAT.md).
 */
#ifndef P11K_WRAP_AUDIT_RECORD_H
#define P11K_WRAP_AUDIT_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/status.h"
#include "wrap/audit_head.h"

#define KR_AUDIT_FORMAT 1

/* The longest line, its newline included. */
enum { KR_AUDIT_LINE_MAX = 16384 };

struct kr_audit_record {
    json_t *fields; /* owned, with all that is in the line */
    struct kr_audit_head head;
    uint8_t prev[KR_AUDIT_HASH_BYTES];
};
void kr_audit_record_cleanup(struct kr_audit_record *record);
#define KR_AUDIT_RECORD __attribute__((cleanup(kr_audit_record_cleanup))) struct kr_audit_record

/* Adds format, number, time and hashes to `fields` and gives the line with its newline, malloc'ed.
 */
KR_MUST_USE enum kr_status kr_audit_record_seal(json_t *fields, const struct kr_audit_head *before,
                                                char **ret_line, size_t *ret_len,
                                                struct kr_audit_head *ret_head,
                                                struct kr_error *err);

/* Reads a line (without its newline); NULL, or what is wrong with it, in static words. */
const char *kr_audit_record_read(const char *line, size_t len, struct kr_audit_record *ret);

KR_MUST_USE enum kr_status kr_audit_digest(const void *bytes, size_t len,
                                           uint8_t ret[KR_AUDIT_HASH_BYTES], struct kr_error *err);

#endif
