/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MySQL's secrets that come from elsewhere: from another keyring, from a backup. A server's own
 * master key among them is to become a key of the token where those are (`resident`): it is put
 * there, sensitive and never to leave it, and stays marked as *imported*, since it was outside of a
 * token once. It opens what it sealed; once the server uses a later key of its series it seals
 * nothing any more.
 *
 * A key of the token and its row are made together or not at all. Before the first key is made the
 * keystore has a row that announces its id (namespace KR_NS_IMPORTS), and the transaction that adds
 * the secrets takes that row away. What a kill leaves behind is removed by the next
 * kr_secrets_open() of the keystore's owner, or the next import.
 */
#ifndef P11K_PROVIDER_SECRETS_IMPORT_H
#define P11K_PROVIDER_SECRETS_IMPORT_H

#include "provider/secrets.h"
#include "wrap/keystore.h"

#define KR_NS_IMPORTS "mysql-import"

/* Everything is borrowed until the import has ended; `bytes` is secret memory. */
struct kr_secret_item {
    const char *id, *owner, *type; /* owner "" for none */
    const uint8_t *bytes;
    size_t len;
};

/* The form that a secret of this name and kind has where master keys are in the token: the server's
 * own master keys alone, since it uses them in the one way that a handle allows. */
enum kr_secret_form kr_secret_resident_form(const char *id, const char *owner, const char *type,
                                            size_t len);

/* Adds all of them in one transaction, or none: KR_REFUSED when a name is taken, or when the token
 * takes no key from outside. `resident`: master keys are to be in the token. Durable when KR_OK. */
KR_MUST_USE enum kr_status kr_secrets_import(struct kr_secrets *secrets,
                                             const struct kr_secret_item *items, size_t count,
                                             bool resident, struct kr_error *err);

/*
 * The same for a caller with a transaction of its own (provider/change.h), who holds the keyring's
 * lock from kr_secret_import_announce() to kr_secret_import_end():
 *
 *   kr_secret_import_new()       checks names and lengths, and gives keys for the token their ids
 *   kr_secret_import_row()       what to seal as the next version, of namespace KR_NS_MYSQL
 *   kr_secret_import_announce()  right before the transaction: commits what says which ids will be
 * made kr_secret_import_make()      in the transaction: makes those keys in the token and tries
 * them out kr_secret_import_end()       always; `committed`: the transaction was. Otherwise the
 * keys are destroyed again
 *
 * That no name is taken is the caller's to see, in the transaction. Without keys for the token
 * announce, make and end do nothing.
 */
struct kr_secret_import;

KR_MUST_USE enum kr_status kr_secret_import_new(struct kr_secrets *secrets,
                                                const struct kr_secret_item *items, size_t count,
                                                bool resident, struct kr_secret_import **ret,
                                                struct kr_error *err);

struct kr_secret_row {
    const char *cipher; /* of the row; static text */
    uint8_t *payload;   /* secret memory, the caller's */
    size_t len;
};
KR_MUST_USE enum kr_status kr_secret_import_row(const struct kr_secret_import *import, size_t index,
                                                struct kr_secret_row *ret, struct kr_error *err);

KR_MUST_USE enum kr_status kr_secret_import_announce(struct kr_secret_import *import,
                                                     struct kr_error *err);

/* KR_IO, with a hint to try again, when another process took the announcement for one of an import
 * that was killed. */
KR_MUST_USE enum kr_status kr_secret_import_make(struct kr_secret_import *import,
                                                 struct kr_keystore *keystore,
                                                 struct kr_error *err);

/* NULL is accepted. */
void kr_secret_import_end(struct kr_secret_import *import, bool committed);

#endif
