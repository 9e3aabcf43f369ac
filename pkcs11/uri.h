/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * RFC 7512 URIs, parsed by p11-kit, with what it lets pass refused: unknown attributes, names that
 * no token can have (it would then match any token), attributes said twice, and a PIN.
 */
#ifndef P11K_PKCS11_URI_H
#define P11K_PKCS11_URI_H

#include <p11-kit/uri.h>

#include "base/status.h"

void kr_uri_cleanup(P11KitUri **uri);
#define KR_URI __attribute__((cleanup(kr_uri_cleanup)))

/* A URI of a token (token, manufacturer, serial, model), or with P11_KIT_URI_FOR_OBJECT_ON_TOKEN of
 * an object on it (also id, object, type). KR_CONFIG. */
KR_MUST_USE enum kr_status kr_uri_parse(const char *text, P11KitUriType type, P11KitUri **ret,
                                        struct kr_error *err);

#endif
