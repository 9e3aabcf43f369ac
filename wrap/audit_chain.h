/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Reading the audit log back: each line is checked by itself and against the one before it, over as
 * many files as logrotate made of it, oldest first.
 */
#ifndef P11K_WRAP_AUDIT_CHAIN_H
#define P11K_WRAP_AUDIT_CHAIN_H

#include "wrap/audit_record.h"

/* Zeroed before the first file; carried from file to file. */
struct kr_audit_chain {
    /* In: where the chain is known to have stood (the keystore's anchor); number 0: nothing known.
     */
    struct kr_audit_head anchor;
    /* Out. */
    struct kr_audit_head first, last; /* number 0: no record was read */
    uint64_t records, damaged, torn;
    bool anchor_found;   /* the record of that number was read ... */
    bool anchor_differs; /* ... and is another one */
};

enum kr_audit_finding {
    KR_AUDIT_RECORD_OK,
    KR_AUDIT_TORN,   /* the line of a writer that was killed: never a record */
    KR_AUDIT_DAMAGED /* `problem` says why */
};

struct kr_audit_line {
    const char *path;
    unsigned long number; /* in its file, from 1 */
    enum kr_audit_finding finding;
    const char *problem;
    const json_t *fields; /* NULL when the line cannot be read */
};
typedef enum kr_status (*kr_audit_visitor)(const struct kr_audit_line *line, void *context,
                                           struct kr_error *err);

/* Reads one file. What is wrong with its lines is counted and told to `visit`; KR_IO and KR_CONFIG
 * when the file cannot be read, and what `visit` returned when it failed. */
KR_MUST_USE enum kr_status kr_audit_chain_read(struct kr_audit_chain *chain, const char *path,
                                               kr_audit_visitor visit, void *context,
                                               struct kr_error *err);

#endif
