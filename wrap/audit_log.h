/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Writing the audit log: a file that several processes append to, or syslog.
 *
 * The file is opened for each record, under an exclusive lock, so that logrotate may move it away
 * at any time: a new file goes on with the chain of the old one. Where the chain stands is also in
 * PATH.head, a file beside it, which is locked; what is not as it was left (records missing, the
 * line of a writer that was killed) gets a record that says so, and the chain goes on after it.
 * A record is on the disk when its call returns.
 *
 * With syslog each process has a chain of its own, and nobody can tell whether a record arrived.
 */
#ifndef P11K_WRAP_AUDIT_LOG_H
#define P11K_WRAP_AUDIT_LOG_H

#include "wrap/audit_record.h"

#define KR_AUDIT_HEAD_SUFFIX ".head"

struct kr_audit_log_options {
    const char *path;     /* NULL: syslog */
    const char *owner_of; /* whose owner gets new files when root makes them; may be NULL */
    unsigned lock_timeout_ms;
};

struct kr_audit_log;

/* Nothing is opened yet. */
KR_MUST_USE enum kr_status kr_audit_log_new(const struct kr_audit_log_options *options,
                                            struct kr_audit_log **ret, struct kr_error *err);
/* NULL is accepted. */
void kr_audit_log_free(struct kr_audit_log *log);

/* Where the chain stands at least, from elsewhere: a log that ends before it lost records. */
void kr_audit_log_expect(struct kr_audit_log *log, const struct kr_audit_head *head);

/* Appends a record of `fields`, which get the members that every record has. From any thread.
 * KR_CONFIG (permissions), KR_IO (full, locked for too long), KR_INTEGRITY (no audit log). */
KR_MUST_USE enum kr_status kr_audit_log_append(struct kr_audit_log *log, json_t *fields,
                                               struct kr_audit_head *ret_head,
                                               struct kr_error *err);

/* Whether a record could be appended, as far as can be told without doing it; *ret_head is where
 * the chain stands. */
KR_MUST_USE enum kr_status kr_audit_log_check(struct kr_audit_log *log,
                                              struct kr_audit_head *ret_head, struct kr_error *err);

#endif
