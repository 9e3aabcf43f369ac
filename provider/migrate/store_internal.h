/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the kinds of store share. Private to this library. */
#ifndef P11K_MIGRATE_STORE_INTERNAL_H
#define P11K_MIGRATE_STORE_INTERNAL_H

#include "migrate/store.h"

struct kr_file_format;

struct kr_store {
    const struct kr_store_kind *kind;
    struct kr_store_options options;
    char *path;     /* of the file that holds it, links followed where it exists */
    bool exists;    /* the file, when it was opened */
    struct stat st; /* of it */

    struct kr_keyring *keyring;          /* of a p11keyring */
    const struct kr_file_format *format; /* of any other kind */
};

extern const struct kr_store_kind kr_store_p11keyring, kr_store_file_key_management,
    kr_store_component_keyring_file, kr_store_keyring_file;

#endif
