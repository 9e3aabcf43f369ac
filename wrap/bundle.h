/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The bundle: data keys that a backup needs, in one file that opens without keystore and token
 * (docs/FORMAT.md). AES-256-GCM under a random content key seals the records; each *slot* of the
 * header has the content key for somebody: for who knows a password (scrypt; PBKDF2 under FIPS),
 * for two custodians together, or for a recipient's RSA key in a token. The header is associated
 * data.
 *
 * Records are kept in secret memory, as they are in the file. A bundle is used by one thread at a
 * time, but what is settled may be read by many. Parsing trusts nothing.
 */
#ifndef P11K_WRAP_BUNDLE_H
#define P11K_WRAP_BUNDLE_H

#include "hwaccel/cipher.h"
#include "pkcs11/rsa_public.h"
#include "wrap/keystore.h"

/* --- records ------------------------------------------------------------------------------- */

enum kr_bundle_kind {
    KR_BUNDLE_MARIADB = 1,  /* one version of a data key */
    KR_BUNDLE_SECRET = 2,   /* MySQL's secret with its type; a master key in wrapped mode */
    KR_BUNDLE_FILE_KEY = 3, /* what the header of one of MySQL's files seals, in the clear: for
                               master keys that cannot leave their token */
};

enum kr_bundle_file { KR_BUNDLE_TABLESPACE = 1, KR_BUNDLE_REDO = 2, KR_BUNDLE_BINLOG = 3 };

enum { KR_BUNDLE_DIGEST_BYTES = 32, KR_BUNDLE_SECRET_MAX = 16384, KR_BUNDLE_NAME_MAX = 1024 };

/* Only the fields of its kind are set. Borrowed from the bundle: valid until it changes. */
struct kr_bundle_record {
    enum kr_bundle_kind kind;
    uint32_t id, version;     /* MariaDB */
    enum kr_cipher cipher;    /* MariaDB */
    bool disabled;            /* MariaDB: the key gets no new versions */
    const char *name;         /* a secret's id; of a file key the master key that seals it */
    const char *owner;        /* secret */
    const char *type;         /* secret */
    enum kr_bundle_file file; /* file key */
    const uint8_t *digest; /* file key: SHA-256 of the sealed bytes in the file, after their iv */
    int64_t created;       /* of key version or secret, unix seconds */
    const uint8_t *bytes;  /* the key, the secret, the key and iv, the password */
    size_t len;
};

enum kr_bundle_scope {
    KR_BUNDLE_ALL = 1,  /* every data key that the keyring had */
    KR_BUNDLE_FILES = 2 /* what the files of a backup need */
};

/* What anybody can read in the file, and nobody change. */
struct kr_bundle_info {
    uint8_t id[16]; /* random, new with each bundle */
    uint8_t keystore[KR_KEYSTORE_UUID_BYTES];
    char keyring[64];
    int64_t created;
    enum kr_bundle_scope scope;
};

struct kr_bundle;

/* An empty one. `info->id` is ignored: it is made. */
KR_MUST_USE enum kr_status kr_bundle_new(const struct kr_bundle_info *info, struct kr_bundle **ret,
                                         struct kr_error *err);
/* NULL is accepted. */
void kr_bundle_free(struct kr_bundle *bundle);
void kr_bundle_cleanup(struct kr_bundle **bundle);
#define KR_BUNDLE __attribute__((cleanup(kr_bundle_cleanup))) struct kr_bundle

const struct kr_bundle_info *kr_bundle_info(const struct kr_bundle *bundle);

/* Copies the record. KR_USAGE (lengths, names, cipher), KR_REFUSED (the bundle is full). */
KR_MUST_USE enum kr_status kr_bundle_add(struct kr_bundle *bundle,
                                         const struct kr_bundle_record *record,
                                         struct kr_error *err);
/* Copies all records of another one. */
KR_MUST_USE enum kr_status kr_bundle_add_all(struct kr_bundle *bundle,
                                             const struct kr_bundle *other, struct kr_error *err);

/* Puts the records in order and leaves one of equal ones. KR_REFUSED when two of one name differ.
 * Needed after changes, before records are asked for. */
KR_MUST_USE enum kr_status kr_bundle_settle(struct kr_bundle *bundle, struct kr_error *err);

/* By kind and name: MariaDB's by id and version, so that a key's newest comes last. */
size_t kr_bundle_count(const struct kr_bundle *bundle);
struct kr_bundle_record kr_bundle_get(const struct kr_bundle *bundle, size_t index);

/* The record of the same kind and name; false: there is none. */
bool kr_bundle_find(const struct kr_bundle *bundle, const struct kr_bundle_record *name,
                    struct kr_bundle_record *ret);

/* --- who can open it ----------------------------------------------------------------------- */

enum { KR_CUSTODIANS_MAX = 2, KR_BUNDLE_SLOTS_MAX = 8, KR_BUNDLE_PASSWORD_MIN = 12 };

/* One password, or two in the order in which they will be given. Borrowed. */
struct kr_bundle_passwords {
    const char *text[KR_CUSTODIANS_MAX];
    size_t len[KR_CUSTODIANS_MAX];
    unsigned count; /* 1 or 2 */
};

/* KR_USAGE: fewer than KR_BUNDLE_PASSWORD_MIN bytes, or the same one twice. */
KR_MUST_USE enum kr_status kr_bundle_check_passwords(const struct kr_bundle_passwords *passwords,
                                                     struct kr_error *err);

/* For whom a bundle is made; at least one of the two. */
struct kr_bundle_locks {
    const struct kr_bundle_passwords *passwords; /* NULL: opens with no password */
    const struct kr_rsa_public *recipient;       /* NULL: with no token */
};

/* The bundle must be settled. KR_USAGE (kr_bundle_check_passwords(), no lock). *ret is malloc'ed.
 */
KR_MUST_USE enum kr_status kr_bundle_seal(const struct kr_bundle *bundle,
                                          const struct kr_bundle_locks *locks, uint8_t **ret,
                                          size_t *ret_len, struct kr_error *err);

enum kr_bundle_kdf { KR_BUNDLE_SCRYPT = 1, KR_BUNDLE_PBKDF2 = 2 };
enum kr_bundle_slot_kind { KR_BUNDLE_SLOT_PASSWORDS = 1, KR_BUNDLE_SLOT_RECIPIENT = 2 };

/* Borrowed from the blob. */
struct kr_bundle_slot {
    enum kr_bundle_slot_kind kind;
    enum kr_bundle_kdf kdf;
    unsigned custodians;         /* passwords that are needed */
    uint32_t cost;               /* scrypt: log2 of N, with r = 8 and p = 1; PBKDF2: iterations */
    enum kr_wrap_mechanism hash; /* recipient: KR_WRAP_RSA_SHA256 or KR_WRAP_RSA_SHA1, in OAEP */
    struct kr_rsa_public recipient; /* its public key */
    const uint8_t *body;            /* all of the slot, body_len bytes */
    size_t body_len;
    const uint8_t
        *wrapped; /* the content key: by the recipient's key as many bytes as its modulus */
};

struct kr_bundle_header {
    struct kr_bundle_info info;
    struct kr_bundle_slot slots[KR_BUNDLE_SLOTS_MAX];
    size_t slot_count;
    size_t info_len; /* of what every slot is bound to */
    size_t len;      /* of the whole header: what follows is ciphertext and tag */
};

/* The largest file that can be a bundle. */
#define KR_BUNDLE_FILE_MAX (UINT64_C(17) << 20)

/* Magic, version, lengths and bounds. KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_bundle_parse(const uint8_t *blob, size_t len,
                                           struct kr_bundle_header *ret, struct kr_error *err);

/* How many passwords open it; 0: it has no slot for passwords. */
unsigned kr_bundle_custodians(const struct kr_bundle_header *header);

enum { KR_CONTENT_KEY_BYTES = KR_SEALING_KEY_BYTES };

/* The content key by passwords; `ret` should be secret memory. KR_AUTH: wrong passwords (or a
 * damaged slot, which cannot be told apart), KR_USAGE: another number of them is needed. */
KR_MUST_USE enum kr_status kr_bundle_unlock(const uint8_t *blob,
                                            const struct kr_bundle_header *header,
                                            const struct kr_bundle_passwords *passwords,
                                            uint8_t ret[KR_CONTENT_KEY_BYTES],
                                            struct kr_error *err);

/* The records, settled. KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_bundle_open(const uint8_t *blob, size_t len,
                                          const struct kr_bundle_header *header,
                                          const uint8_t content_key[KR_CONTENT_KEY_BYTES],
                                          struct kr_bundle **ret, struct kr_error *err);

#endif
