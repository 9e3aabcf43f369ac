/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A set of keys on its way from one keyring to another: MariaDB's data keys and MySQL's secrets,
 * their bytes in secret memory. Used by one thread at a time.
 */
#ifndef P11K_PROVIDER_KEY_SET_H
#define P11K_PROVIDER_KEY_SET_H

#include "provider/keyring.h"

enum kr_set_kind { KR_KEY_DATA, KR_KEY_SECRET };

/* What a keyring has already of a key that is to come to it. */
enum kr_presence {
    KR_ABSENT,  /* nothing of that name */
    KR_ADDABLE, /* only lower versions of a data key */
    KR_EQUAL,   /* this very key */
    KR_CONFLICT /* another key of that name (and version) */
};

struct kr_set_key {
    enum kr_set_kind kind;
    /* a data key's */
    uint32_t id, version;
    enum kr_cipher cipher;
    bool disabled;
    int64_t created; /* unix seconds; 0: not known */
    /* a secret's; owner and type may be "" */
    char *name, *owner, *type;

    uint8_t *bytes; /* NULL: it cannot be read */
    size_t len;

    const char *stuck; /* why it cannot be copied; static, NULL: it can. Set by whom it concerns */
    enum kr_presence presence; /* set by the keyring that it is to come to */
};

struct kr_key_set {
    struct kr_set_key *keys;
    size_t count, room;
    struct kr_key_slab *slabs;
};

/* Zeroed is empty. */
void kr_key_set_free(struct kr_key_set *set);
#define KR_KEY_SET __attribute__((cleanup(kr_key_set_free))) struct kr_key_set

/* Copies everything that `key` points to but `stuck`. KR_USAGE for what is no key: a data key of a
 * length that its cipher does not take, a secret without a name or of a wrong length. */
KR_MUST_USE enum kr_status kr_key_set_add(struct kr_key_set *set, const struct kr_set_key *key,
                                          struct kr_error *err);

/* Orders it: data keys by id and version, then secrets by name and owner. KR_INTEGRITY when there
 * are two keys of a name. */
KR_MUST_USE enum kr_status kr_key_set_sort(struct kr_key_set *set, struct kr_error *err);

/* The key of that name (and version) in an ordered set; NULL: there is none. */
struct kr_set_key *kr_key_set_find(const struct kr_key_set *set, const struct kr_set_key *name);

/* Whether two keys are the same: name, type or cipher, and bytes; in constant time for the bytes.
 */
bool kr_set_key_equal(const struct kr_set_key *a, const struct kr_set_key *b);

/* "key 3 version 1", "secret 'INNODBKey-...'", with what cannot be printed as '?'. */
enum { KR_SET_KEY_TEXT = 320 };
void kr_set_key_text(const struct kr_set_key *key, char ret[KR_SET_KEY_TEXT]);

#endif
