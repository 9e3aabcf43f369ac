/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The folders of mariadb-backup, as their xtrabackup_checkpoints tell: which are full and which
 * incremental, and whether they follow one another without a gap.
 */
#ifndef P11K_BACKUP_CHAIN_H
#define P11K_BACKUP_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct kr_chain_link {
    const char *path; /* borrowed */
    bool incremental;
    bool prepared; /* a full one whose log was applied */
    bool partial;  /* of some databases or tables alone */
    uint64_t from, to;
};

struct kr_chain {
    struct kr_chain_link *links; /* in the order of the paths */
    size_t count;
};

/* Of paths those that mariadb-backup made; others are left out. KR_INTEGRITY: it did not complete
 * one, or what it says of itself is damaged. */
KR_MUST_USE enum kr_status kr_chain_read(char *const *paths, size_t count, struct kr_chain *ret,
                                         struct kr_error *err);
void kr_chain_free(struct kr_chain *chain);
#define KR_CHAIN __attribute__((cleanup(kr_chain_free))) struct kr_chain

/* KR_INTEGRITY unless each incremental one follows the one before it, and the first of them a full
 * one: they can be prepared in this order. */
KR_MUST_USE enum kr_status kr_chain_check(const struct kr_chain *chain, struct kr_error *err);

/* Whether this is the name of a file that is never encrypted, as servers and mariadb-backup have it
 * beside the data: of no kind that is known, and no key is missed for it. */
bool kr_backup_is_plain(const char *path);

#endif
