/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Keys that come from elsewhere: all of a set are added to the keystore by one commit, or none.
 * They are sealed on many sessions before the keystore is locked, so that servers which use it
 * hardly wait; killed at any moment, it has all of them or none.
 */
#ifndef P11K_PROVIDER_IMPORT_H
#define P11K_PROVIDER_IMPORT_H

#include "provider/key_set.h"
#include "provider/life.h"

struct kr_import_options {
    const char *event;  /* in the audit log */
    bool resident;      /* MySQL's master keys become keys of the token (secrets_import.h) */
    const char *detail; /* there: where they come from; may be NULL */
    kr_progress_function progress; /* may be NULL; counts keys */
    void *context;
    /* Asked right before the keys count; a failure ends it, and none was added. May be NULL. */
    enum kr_status (*may_commit)(void *context, struct kr_error *err);
    void *commit_context;
};

/* Says of each key of an ordered set what the keyring has already (kr_set_key.presence). Asks for
 * what is in the keystore now, and opens MySQL's secrets only when the set has some. */
KR_MUST_USE enum kr_status kr_import_survey(struct kr_keyring *keyring, struct kr_key_set *set,
                                            struct kr_error *err);

/* Adds the keys whose presence is KR_ABSENT or KR_ADDABLE. Data keys keep their version numbers.
 * Each envelope is opened again by the token and compared before the keystore is touched, and each
 * row is read back before and after the commit; of a master key that the token gets an operation is
 * compared. KR_REFUSED when a key is there by now, or when the
 * progress function ended it; on every failure but that of the last reading nothing was added. */
KR_MUST_USE enum kr_status kr_import(struct kr_keyring *keyring, const struct kr_key_set *set,
                                     const struct kr_import_options *options, struct kr_error *err);

#endif
