/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * One run of rekey over MySQL's tablespaces, whose keys have no versions to tell the new from the
 * old: each new key carries a mark of the run, sealed with it in bytes of the iv that no cipher
 * uses. Which run that is stands in a record beside the keystore until all of it is done, so that
 * the same run, repeated after a kill, goes on with what is left. The record holds no key; a forged
 * one names a run that no key has the mark of, and leaves nothing out.
 */
#ifndef P11K_FILES_REKEY_RUN_H
#define P11K_FILES_REKEY_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "formats/mysql_info.h"

struct kr_rekey_run;

/* A run over the same paths that did not come to its end is gone on with, unless `anew`. Without a
 * keystore (NULL) there is no record. */
KR_MUST_USE enum kr_status kr_rekey_run_open(const char *keystore, char *const *paths, size_t count,
                                             bool anew, struct kr_rekey_run **ret,
                                             struct kr_error *err);
/* NULL is accepted. */
void kr_rekey_run_free(struct kr_rekey_run *run);

/* When the run began that is gone on with; 0: this one is new. */
int64_t kr_rekey_run_resumed(const struct kr_rekey_run *run);

/* Writes the record before the first new key is used; from any thread. KR_IO. */
KR_MUST_USE enum kr_status kr_rekey_run_begin(struct kr_rekey_run *run, struct kr_error *err);
/* Everything is done: removes the record. KR_IO. */
KR_MUST_USE enum kr_status kr_rekey_run_end(struct kr_rekey_run *run, struct kr_error *err);

/* Puts the mark into a new key and iv, whose other bytes are set. False when OpenSSL failed. */
bool kr_rekey_run_mark(const struct kr_rekey_run *run, uint8_t opened[KR_MYSQL_SEALED_BYTES]);
/* Whether this run has made the key. */
bool kr_rekey_run_made(const struct kr_rekey_run *run, const uint8_t opened[KR_MYSQL_SEALED_BYTES]);

#endif
