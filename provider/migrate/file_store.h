/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Keyrings that are one file: read at once into secret memory, written anew beside the old one and
 * put in its place. Private to this library.
 */
#ifndef P11K_MIGRATE_FILE_STORE_H
#define P11K_MIGRATE_FILE_STORE_H

#include "migrate/store_internal.h"

/* What is in a file; secret memory. Without bytes: there is no file yet. */
struct kr_file_text {
    char *bytes;
    size_t len;
};

struct kr_file_format {
    size_t bytes_max; /* a larger file is no such keyring */
    bool has_backup;  /* its server writes PATH.backup before PATH */

    /* Adds the keys of a text; an empty one has none. */
    enum kr_status (*parse)(const struct kr_store *store, const struct kr_file_text *text,
                            struct kr_key_set *set, struct kr_error *err);
    /* Why a key cannot be held, NULL: it can. For destinations, like what follows. */
    const char *(*refuse)(const struct kr_key_set *set, const struct kr_set_key *key);
    /* The text with the absent keys of a set added to it: *ret->bytes is secret memory. */
    enum kr_status (*extend)(const struct kr_store *store, const struct kr_file_text *text,
                             const struct kr_key_set *set, struct kr_file_text *ret,
                             struct kr_error *err);
    /* What the file must have besides; may be NULL. `all` is what it is to hold. */
    enum kr_status (*check)(const struct kr_store *store, const struct kr_key_set *all,
                            struct kr_error *err);
};

/* kr_store_kind.open, with the format: checks that no write of a server is half done. */
KR_MUST_USE enum kr_status kr_file_store_open(struct kr_store *store,
                                              const struct kr_file_format *format,
                                              struct kr_error *err);

/* The rest of a kr_store_kind. */
enum kr_status kr_file_store_read(struct kr_store *store, struct kr_key_set *set,
                                  struct kr_error *err);
enum kr_status kr_file_store_survey(struct kr_store *store, struct kr_key_set *set,
                                    struct kr_error *err);
enum kr_status kr_file_store_add(struct kr_store *store, const struct kr_key_set *set,
                                 const struct kr_import_options *options, struct kr_error *err);

#endif
