/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The table of unwrapped secrets and the payload that a secret has in its envelope
 * (docs/FORMAT.md). Not locked: its owner does that. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_SECRET_TABLE_H
#define P11K_PROVIDER_SECRET_TABLE_H

#include "provider/secrets.h"

struct kr_secret_entry {
    char *id, *owner;
    uint32_t version;
    enum kr_secret_form form;
    bool imported; /* a token-resident key that was outside of a token once */
    bool used;     /* atomic: this process has used it, or given it out to be used */
    char type[KR_SECRET_TYPE_MAX + 1];
    uint8_t *bytes; /* secret memory; NULL for a token-resident key */
    size_t len;
    struct kr_object_id object;      /* of a token-resident key */
    struct kr_token *token;          /* that has it; borrowed */
    uint8_t handle[KR_HANDLE_BYTES]; /* made new in each process */
    bool present;                    /* seen in the keystore by the last refresh */
};

struct kr_secret_table {
    struct kr_secret_entry **entries; /* ordered by id, then owner */
    size_t count;
};

struct kr_secret_entry *kr_secret_table_find(const struct kr_secret_table *table, const char *id,
                                             const char *owner);
struct kr_secret_entry *kr_secret_table_find_handle(const struct kr_secret_table *table,
                                                    const uint8_t handle[KR_HANDLE_BYTES]);
/* Takes over `entry` on success, in the place of one with the same name; false: out of memory. */
bool kr_secret_table_put(struct kr_secret_table *table, struct kr_secret_entry *entry);
void kr_secret_table_remove(struct kr_secret_table *table, const struct kr_secret_entry *entry);
void kr_secret_table_clear(struct kr_secret_table *table);

/* The series of keys to which `id` belongs: a server numbers its keys, and a rotation that ended
 * leaves all but the newest unused. Counted are the token-resident ones that are older. */
struct kr_secret_series {
    size_t count;
    unsigned long first, last; /* of those */
    unsigned long newest;      /* of all */
    size_t stem;               /* the length of the name without its number */
};
void kr_secret_table_series(const struct kr_secret_table *table, const char *id,
                            struct kr_secret_series *ret);

/* Whether a later key of its series was used by this process. */
bool kr_secret_table_is_replaced(const struct kr_secret_table *table,
                                 const struct kr_secret_entry *entry);

/* Secret memory; NULL is accepted. */
void kr_secret_entry_free(struct kr_secret_entry *entry);

/* What is stored of a secret; `imported` is for token-resident ones, whose bytes are the key's id.
 */
struct kr_secret_content {
    enum kr_secret_form form;
    bool imported;
    const char *type;
    const uint8_t *bytes;
    size_t len;
};

/* Its name in the keystore's cipher column, so that status needs no token to count. */
const char *kr_secret_cipher(const struct kr_secret_content *content);

/* form(1) | length of type(1) | type | bytes: *ret is secret memory. */
KR_MUST_USE enum kr_status kr_secret_encode(const struct kr_secret_content *content, uint8_t **ret,
                                            size_t *ret_len, struct kr_error *err);

/* *ret gets a handle of its own if it is token-resident. KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_secret_decode(const char *id, const char *owner, uint32_t version,
                                            const uint8_t *payload, size_t len,
                                            struct kr_secret_entry **ret, struct kr_error *err);

#endif
