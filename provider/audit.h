/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The events that the audit log gets, and the policy for a log that cannot be written.
 *
 * A change of the keystore is recorded inside its transaction, before the commit, with the
 * generation that the commit makes, and the commit keeps the record's number and hash under the
 * manifest: no change without its record, and no record removed unseen. What a token is asked to do
 * first gets a record that it was begun. Everything else is recorded when it is over.
 *
 * `[keyring] audit-policy = require`: what is about to change something or to open the keyring is
 * refused when its record cannot be written. `warn`: it goes on, the trouble is logged once, and
 * the number of lost records is the first that the log gets when it can be written again.
 *
 * All functions accept a NULL audit: no log is configured. They may be called from any thread.
 */
#ifndef P11K_PROVIDER_AUDIT_H
#define P11K_PROVIDER_AUDIT_H

#include "base/config.h"
#include "wrap/keystore.h"

struct kr_audit;

/* Names of events are nouns and verbs as of the admin tool's commands; NULL and 0 are left out. */
struct kr_audit_event {
    const char *name;
    const char *token; /* NAME of its section */
    const char *ns, *id, *owner;
    const char *master; /* label of a master key */
    const char *detail; /* what else there is to say, in a few words */
    uint32_t version;
    uint64_t keys, envelopes; /* how many it was about */
};

/* *ret is NULL when no log is configured. Nothing is written yet. KR_CONFIG. */
KR_MUST_USE enum kr_status kr_audit_open(const struct kr_config *config, struct kr_audit **ret,
                                         struct kr_error *err);
/* Writes what is still to be said. */
void kr_audit_close(struct kr_audit *audit);
void kr_audit_cleanup(struct kr_audit **audit);
#define KR_AUDIT_OWNED __attribute__((cleanup(kr_audit_cleanup)))

/* Whom the records name as the one who runs this process; before it gives up rights. */
void kr_audit_remember_user(void);

/* Says that something begins. KR_REFUSED, where the policy wants that. */
KR_MUST_USE enum kr_status kr_audit_begin(struct kr_audit *audit,
                                          const struct kr_audit_event *event, struct kr_error *err);

/* Inside a write transaction, right before its commit: records the change and keeps the record's
 * place in the keystore. An event without a name is not recorded; the place of the newest record
 * is kept all the same. KR_REFUSED, where the policy wants that. */
KR_MUST_USE enum kr_status kr_audit_commit(struct kr_audit *audit, struct kr_keystore *keystore,
                                           const struct kr_audit_event *event,
                                           struct kr_error *err);

/* Records how something ended: well with `failure` NULL. The same failure again and again is
 * counted and recorded now and then. */
void kr_audit_end(struct kr_audit *audit, const struct kr_audit_event *event,
                  const struct kr_error *failure);

/* kr_audit_end() for a token's login: kr_token_options.on_login. */
void kr_audit_login(void *audit, const char *token, const struct kr_error *failure);

struct kr_audit_state {
    const char *target; /* path, or "syslog"; NULL: no log is configured. Borrowed */
    bool required;
    uint64_t written, lost; /* by this process; lost: could not be written */
};
void kr_audit_get_state(struct kr_audit *audit, struct kr_audit_state *ret);

/* Whether a record could be written now; *ret is the newest one that is there. */
KR_MUST_USE enum kr_status kr_audit_check(struct kr_audit *audit, struct kr_audit_head *ret,
                                          struct kr_error *err);

#endif
