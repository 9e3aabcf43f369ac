/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Keys of bundles into a keyring: all or none, by one commit. A data key gets a new version with
 * it, so that the server that they come from and the one that is restored never encrypt new pages
 * under one key.
 */
#ifndef P11K_BACKUP_RESTORE_H
#define P11K_BACKUP_RESTORE_H

#include "provider/import.h"
#include "wrap/bundle.h"

struct kr_restore_options {
    unsigned rotation_step;        /* above the newest version of a data key; 0: no new version */
    bool without_masters;          /* MySQL's own master keys stay out: its files get new ones */
    bool resident;                 /* else they become keys of the token (secrets_import.h) */
    bool dry_run;                  /* everything is checked, nothing is changed */
    const char *detail;            /* for the audit log: which bundles; may be NULL */
    kr_progress_function progress; /* may be NULL; counts keys */
    void *context;
};

struct kr_restore_result {
    size_t added, equal; /* data key versions and secrets; `equal` were there already */
    size_t rotated;      /* data keys that got a new version */
    size_t conflicts; /* with others in the keyring; then KR_REFUSED, and the first one is named */
};

/* `bundle` is settled; several are one by kr_bundle_add_all(). */
KR_MUST_USE enum kr_status kr_restore(struct kr_keyring *keyring, const struct kr_bundle *bundle,
                                      const struct kr_restore_options *options,
                                      struct kr_restore_result *ret, struct kr_error *err);

#endif
