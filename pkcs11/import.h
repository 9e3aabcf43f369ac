/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* How a key from outside gets into the token. Everything runs on a worker. */
#ifndef P11K_PKCS11_IMPORT_H
#define P11K_PKCS11_IMPORT_H

#include "pkcs11/rsa_public.h"
#include "pkcs11/session.h"

/* For all keys of one run of a job, zeroed; to be ended by kr_transport_end(). */
struct kr_transport {
    CK_OBJECT_HANDLE public, private; /* of a session's key pair */
    bool has_pair;
    struct kr_rsa_public half;
    bool sha1;     /* OAEP with SHA-256 was refused */
    bool refused;  /* unwrapping was */
    char why[256]; /* and why */
};

void kr_transport_end(struct kr_session *session, struct kr_transport *transport);

/* Puts the value of the order into the token, as the key that the order says, and sees by an
 * operation that it is the one. KR_REFUSED when the token takes none. */
KR_MUST_USE enum kr_status kr_key_import(struct kr_session *session,
                                         const struct kr_key_order *order, CK_OBJECT_HANDLE *ret,
                                         struct kr_error *err);

/* KR_OK when the key of the order is there already, as it should be. */
KR_MUST_USE enum kr_status kr_key_imported(struct kr_session *session,
                                           const struct kr_key_order *order, struct kr_error *err);

#endif
