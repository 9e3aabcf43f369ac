/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MySQL's secrets: named by data id and owner, with a type, up to 16 KiB. A secret is either
 * *wrapped* (sealed in an envelope, in clear in our locked memory) or *token-resident*: a key that
 * was made in the token and stays there, for which only a handle is given out
 * (provider/openssl/handle.h). The row that maps a name to a token object is sealed like any
 * secret.
 *
 * Everything is in memory after open; reads ask neither token nor keystore. Functions may be called
 * from any thread. Like its keyring, this belongs to the process that opened it.
 */
#ifndef P11K_PROVIDER_SECRETS_H
#define P11K_PROVIDER_SECRETS_H

#include "pkcs11/resident.h"
#include "provider/keyring.h"
#include "provider/openssl/handle.h"

#define KR_NS_MYSQL "mysql"

struct kr_secrets;

/* The longest of MySQL's user keys is 16,384 bytes; form and type travel in the same payload. */
enum { KR_SECRET_BYTES_MAX = 16384, KR_SECRET_TYPE_MAX = 128, KR_SECRET_ID_MAX = 1024 };

enum kr_secret_form {
    KR_SECRET_WRAPPED = 1,
    KR_SECRET_TOKEN_ECB = 2, /* AES-256 in the token, for CKM_AES_ECB alone */
    KR_SECRET_TOKEN_CBC = 3  /* AES-256 in the token, for CKM_AES_CBC alone */
};

/* What a reader gets: the caller frees `bytes` with kr_secret_free(). */
struct kr_secret {
    enum kr_secret_form form;
    char type[KR_SECRET_TYPE_MAX + 1];
    uint8_t *bytes; /* the secret; a handle of KR_HANDLE_BYTES where the key is token-resident */
    size_t len;
};

struct kr_secret_name {
    char *id, *owner;
    enum kr_secret_form form;
    bool imported; /* of the token, but outside of one before (provider/secrets_import.h) */
};

/* Unwraps all secrets of an open keyring, which must outlive the result, and checks that the token
 * has every token-resident key, but for old ones of a numbered series whose newest is there. */
KR_MUST_USE enum kr_status kr_secrets_open(struct kr_keyring *keyring, struct kr_secrets **ret,
                                           struct kr_error *err);
/* Wipes everything and forgets all handles. NULL is accepted. */
void kr_secrets_close(struct kr_secrets *secrets);

/* Keeps the handles that this process has been given already: a key of `from` that is here too
 * keeps its handle. For a keyring that is opened again. */
void kr_secrets_keep_handles(struct kr_secrets *secrets, struct kr_secrets *from);

/* Says whether this process cannot mistake a handle for a key. Asked before each handle that is
 * given out; and before a token-resident key is made, with `handle` NULL, and after, when a failure
 * takes the key back. Called without a lock; it may use kr_secrets_crypt(). */
typedef enum kr_status (*kr_handle_gate)(void *context, struct kr_secrets *secrets,
                                         enum kr_secret_form form, const uint8_t *handle,
                                         struct kr_error *err);

/* Without a gate reading or making a token-resident key is KR_REFUSED. Set it before the first
 * use. */
void kr_secrets_set_gate(struct kr_secrets *secrets, kr_handle_gate gate, void *context);

struct kr_secret_counts {
    size_t wrapped, resident;
    size_t imported; /* of the resident ones */
};
/* What is in memory; asks nobody. */
void kr_secrets_count(struct kr_secrets *secrets, struct kr_secret_counts *ret);

/* The names of the imported keys, likewise, with commas in between: as many as there is room for.
 */
void kr_secrets_imported(struct kr_secrets *secrets, char *ret, size_t size);

/* How many token-resident keys the token of this name does not have, as far as it answers. */
size_t kr_secrets_elsewhere(struct kr_secrets *secrets, const char *token);

/* KR_NOT_FOUND without a hint when there is no such secret: callers ask this all the time. */
KR_MUST_USE enum kr_status kr_secrets_fetch(struct kr_secrets *secrets, const char *id,
                                            const char *owner, struct kr_secret *ret,
                                            struct kr_error *err);

/* KR_REFUSED when the name exists; durable when KR_OK. */
KR_MUST_USE enum kr_status kr_secrets_store(struct kr_secrets *secrets, const char *id,
                                            const char *owner, const char *type,
                                            const uint8_t *bytes, size_t len, struct kr_error *err);

/* Makes a secret of `len` random bytes, or with a token-resident form a key in the token (len is
 * 32). A key that the token made but the keystore could not take is destroyed again. */
KR_MUST_USE enum kr_status kr_secrets_generate(struct kr_secrets *secrets, const char *id,
                                               const char *owner, const char *type,
                                               enum kr_secret_form form, size_t len,
                                               struct kr_error *err);

/* The CKA_LABEL of a token-resident key: "p11keyring:KEYRING:mysql:ID", cut where it is too long;
 * an imported one has "mysql-imported". */
enum { KR_SECRET_LABEL_SIZE = 128 };
void kr_secret_label(const char *keyring, const char *id, bool imported,
                     char ret[KR_SECRET_LABEL_SIZE]);

/* KR_NOT_FOUND when there is none. The keystore's row goes first, then the token's key: what a kill
 * between the two leaves behind is an unused key in the token. */
KR_MUST_USE enum kr_status kr_secrets_remove(struct kr_secrets *secrets, const char *id,
                                             const char *owner, struct kr_error *err);

/* The same for a server's own master key (INNODBKey-UUID-N, MySQLReplicationKey_UUID_N) that a
 * later one has replaced; KR_REFUSED for the newest of its series and for any other secret. That
 * nothing needs it is the caller's to see; `reason` says so in the audit log. With `dry_run` it is
 * only checked. */
KR_MUST_USE enum kr_status kr_secrets_destroy_old(struct kr_secrets *secrets, const char *id,
                                                  bool dry_run, const char *reason,
                                                  struct kr_error *err);

/* All names, ordered: *ret is one malloc'ed array, freed with kr_secret_names_free(). */
KR_MUST_USE enum kr_status kr_secrets_names(struct kr_secrets *secrets, struct kr_secret_name **ret,
                                            size_t *ret_count, struct kr_error *err);
void kr_secret_names_free(struct kr_secret_name *names, size_t count);

/* One operation in the token under the key that `handle` names; `iv` (16 bytes) is NULL for ECB.
 * KR_USAGE for a handle of no key or of a key of the other mode; KR_REFUSED to encrypt with an
 * imported key when this process has used a later one of its series. */
KR_MUST_USE enum kr_status kr_secrets_crypt(struct kr_secrets *secrets,
                                            const uint8_t handle[KR_HANDLE_BYTES],
                                            enum kr_handle_op op, const uint8_t *iv,
                                            const uint8_t *in, size_t len, uint8_t *out,
                                            struct kr_error *err);

/* One operation under a master key by its name, wherever the key is: without padding, ECB with `iv`
 * NULL, else CBC. For the admin tool, which reads files without a server; it needs no gate, since
 * no handle is given out. A token-resident key serves in its own mode alone: KR_USAGE; an imported
 * one that has a later one does not encrypt: KR_REFUSED. */
KR_MUST_USE enum kr_status kr_secrets_use(struct kr_secrets *secrets, const char *id,
                                          const char *owner, bool encrypt, const uint8_t *iv,
                                          const uint8_t *in, size_t len, uint8_t *out,
                                          struct kr_error *err);

#endif
