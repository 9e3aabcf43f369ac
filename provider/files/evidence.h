/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Evidence of use: what was found out about the keys that files need, in a file that the keyring
 * vouches for, for the commands that destroy keys. It counts when it is of this keyring, fresh, and
 * about every configured folder, and when every file there could be asked.
 */
#ifndef P11K_FILES_EVIDENCE_H
#define P11K_FILES_EVIDENCE_H

#include "files/usage.h"

enum { KR_EVIDENCE_FRESH_S = 24 * 3600 };

/* What the walk went through: full paths of its arguments. */
struct kr_evidence_scope {
    char *const *paths;
    size_t count;
    bool ignore_unknown; /* files of no known kind need none of our keys: somebody says so */
};

/* Writes a new file. KR_REFUSED when it exists. */
KR_MUST_USE enum kr_status kr_evidence_write(const struct kr_usage *usage,
                                             const struct kr_evidence_scope *scope,
                                             const struct kr_config *config,
                                             struct kr_keyring *keyring, const char *path,
                                             struct kr_error *err);

/* KR_OK when the file is evidence that nothing needs this key (as in struct kr_usage_key: name,
 * master, id, version). `ret_text` says in a few words what it was, for the audit log. KR_REFUSED
 * (the key is needed, or the evidence does not count), KR_INTEGRITY (nobody vouches for it). */
enum { KR_EVIDENCE_TEXT = 160 };
KR_MUST_USE enum kr_status kr_evidence_check(const char *path, const struct kr_config *config,
                                             struct kr_keyring *keyring,
                                             const struct kr_usage_key *key,
                                             char ret_text[KR_EVIDENCE_TEXT], struct kr_error *err);

#endif
