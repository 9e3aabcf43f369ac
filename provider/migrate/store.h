/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Where keys are copied from and to: one table of the kinds of keyring, one way to use them. A
 * source is only read. A destination gets all keys of a set or none: what it has is looked up
 * first, what it cannot hold is named first, and what was written is read back and compared before
 * it counts. Killed at any moment, it is as it was or has them all.
 */
#ifndef P11K_MIGRATE_STORE_H
#define P11K_MIGRATE_STORE_H

#include <sys/stat.h>

#include "provider/import.h"

struct kr_store;

struct kr_store_kind {
    const char *name;              /* of the text form, "file-key-management" */
    bool is_destination, is_clear; /* it can be written; it holds keys in the clear */
    bool is_file; /* the text form has a path; otherwise a configuration, or nothing */

    /* Opens it and checks what can be checked without reading keys. */
    enum kr_status (*open)(struct kr_store *store, struct kr_error *err);
    /* Adds all keys. */
    enum kr_status (*read)(struct kr_store *store, struct kr_key_set *set, struct kr_error *err);
    /* Says of each key whether it is there, and why it cannot be held. NULL: a source alone. */
    enum kr_status (*survey)(struct kr_store *store, struct kr_key_set *set, struct kr_error *err);
    enum kr_status (*add)(struct kr_store *store, const struct kr_key_set *set,
                          const struct kr_import_options *options, struct kr_error *err);
    void (*close)(struct kr_store *store);
};

/* "KIND:PATH", "p11keyring" or "p11keyring:CONFIG", taken apart. */
struct kr_store_spec {
    const struct kr_store_kind *kind;
    const char *path; /* in the text; NULL: none */
};

/* KR_USAGE, which lists the kinds; paths must be full ones. */
KR_MUST_USE enum kr_status kr_store_parse(const char *text, struct kr_store_spec *ret,
                                          struct kr_error *err);

struct kr_store_options {
    bool writable;                  /* a destination */
    const struct kr_config *config; /* of a p11keyring */
    const char
        *password; /* of an encrypted key file; NULL: it is not encrypted. In secret memory */
    enum kr_cipher cipher; /* with which the keys of a key file that is read are used */
};

/* Everything in the options is borrowed until kr_store_close(). KR_NOT_FOUND when a source, or a
 * destination that is no file, is not there. */
KR_MUST_USE enum kr_status kr_store_open(const struct kr_store_spec *spec,
                                         const struct kr_store_options *options,
                                         struct kr_store **ret, struct kr_error *err);
/* NULL is accepted. */
void kr_store_close(struct kr_store *store);
void kr_store_cleanup(struct kr_store **store);
#define KR_STORE __attribute__((cleanup(kr_store_cleanup))) struct kr_store

/* KR_REFUSED when both files, keystores among them, are the same one, by whatever path. */
KR_MUST_USE enum kr_status kr_store_check_distinct(const char *from, const char *to,
                                                   struct kr_error *err);

/* All keys, ordered; KR_NOT_FOUND when there is none. */
KR_MUST_USE enum kr_status kr_store_read(struct kr_store *store, struct kr_key_set *set,
                                         struct kr_error *err);

/* Fills `presence` and, where it is not said yet, `stuck` of each key. Nothing is written. */
KR_MUST_USE enum kr_status kr_store_survey(struct kr_store *store, struct kr_key_set *set,
                                           struct kr_error *err);

/* Adds the keys of a surveyed set that are absent or addable: all or none, read back and compared.
 * None may be stuck. */
KR_MUST_USE enum kr_status kr_store_add(struct kr_store *store, const struct kr_key_set *set,
                                        const struct kr_import_options *options,
                                        struct kr_error *err);

/* --- what there is to say about it ------------------------------------------------------------ */

/* The file that holds it; borrowed. */
const char *kr_store_path(const struct kr_store *store);
/* Whether others than its owner can read a file that holds keys in the clear. */
bool kr_store_is_open_to_others(const struct kr_store *store);
/* The data directory of a server that it is in, malloc'ed; NULL: in none. */
char *kr_store_data_directory(const struct kr_store *store);

#endif
