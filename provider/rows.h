/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Envelopes read from the keystore in one verified view and copied, so that no keystore lock is
 * held while the token unwraps them. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_ROWS_H
#define P11K_PROVIDER_ROWS_H

#include "provider/keyring_internal.h"

struct kr_row {
    struct kr_row *next;
    uint32_t version;
    char *ns, *id, *owner, *cipher; /* in the row's own memory */
    uint8_t *envelope;
    size_t envelope_len;
};

/* NULL without memory. */
struct kr_row *kr_row_copy(const struct kr_version_row *row);

typedef enum kr_status (*kr_view)(struct kr_keystore *keystore, void *context,
                                  struct kr_error *err);

/* Runs `look` in a view of the keystore that is consistent and whose manifest verifies. */
KR_MUST_USE enum kr_status kr_rows_view(struct kr_keystore *keystore, kr_view look, void *context,
                                        struct kr_error *err);

/* Tells whether a row is wanted; asked inside the view. */
typedef bool (*kr_row_filter)(const struct kr_version_row *row, void *context);

/* Verifies the manifest and copies the wanted rows of a namespace, in the keystore's order, and
 * takes over the master keys of the same view. The caller holds the keyring's lock and frees the
 * list. */
KR_MUST_USE enum kr_status kr_rows_read(struct kr_keyring *keyring, const char *ns,
                                        kr_row_filter wanted, void *context, struct kr_row **ret,
                                        struct kr_error *err);
void kr_rows_free(struct kr_row *rows);

/* Opens a row's envelope: *ret is secret memory. */
KR_MUST_USE enum kr_status kr_row_open(struct kr_keyring *keyring, const struct kr_row *row,
                                       uint8_t **ret, size_t *ret_len, struct kr_error *err);

/* Opens the envelopes of a list, many on several sessions at a time, and gives each payload to
 * `take`, in the order of the list and on the caller's thread. The first failure ends it. */
typedef enum kr_status (*kr_row_taker)(const struct kr_row *row, const uint8_t *payload, size_t len,
                                       void *context, struct kr_error *err);
KR_MUST_USE enum kr_status kr_rows_open(struct kr_keyring *keyring, const struct kr_row *rows,
                                        kr_row_taker take, void *context, struct kr_error *err);

#endif
