/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the files of MySQL's secrets share. Private to the keyring core. */
#ifndef P11K_PROVIDER_SECRETS_INTERNAL_H
#define P11K_PROVIDER_SECRETS_INTERNAL_H

#include <pthread.h>

#include "provider/change.h"
#include "provider/secret_table.h"

struct kr_secrets {
    struct kr_keyring *keyring;
    pthread_rwlock_t lock; /* of the table; the keyring's lock is taken first */
    struct kr_secret_table table;
    uint64_t seen_change;
    bool loaded;
    kr_handle_gate gate; /* NULL: closed */
    void *gate_context;
};

/* Takes over what others have changed; the caller holds the keyring's lock. */
KR_MUST_USE enum kr_status kr_secrets_refresh_locked(struct kr_secrets *secrets,
                                                     struct kr_error *err);

/* The token that has a token-resident key. */
KR_MUST_USE enum kr_status kr_secret_find_token(const struct kr_secrets *secrets,
                                                const struct kr_secret_entry *entry,
                                                struct kr_token **ret, struct kr_error *err);

/* Takes back what an import that did not end has left in the token; what hinders that is logged.
 * The caller holds the keyring's lock. */
void kr_imports_tidy_locked(struct kr_secrets *secrets);

enum kr_status kr_secret_check_name(const char *id, struct kr_error *err);

enum kr_status kr_secret_fail_replaced(const char *id, struct kr_error *err);

/* Whether this process may use a key of this form that stays in the token. */
KR_MUST_USE enum kr_status kr_secrets_pass_gate(struct kr_secrets *secrets, const char *id,
                                                enum kr_secret_form form, const uint8_t *handle,
                                                struct kr_error *err);

#endif
