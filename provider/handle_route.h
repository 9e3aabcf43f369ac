/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The way of a handle from a server's call of OpenSSL to the token: by the p11keyring OpenSSL
 * provider, which must be what AES-256-ECB and AES-256-CBC of the default library context resolve
 * to. Everything here is about this process as it is now; nothing is remembered across a fork.
 */
#ifndef P11K_PROVIDER_HANDLE_ROUTE_H
#define P11K_PROVIDER_HANDLE_ROUTE_H

#include "provider/secrets.h"

/* Fetches both ciphers as the server does and sees whose they are. KR_REFUSED, with the setting to
 * make in the hint. Changes nothing. */
KR_MUST_USE enum kr_status kr_handle_route_check(struct kr_error *err);

/* The same, and registers `function` with the provider unless that was done in this process. */
KR_MUST_USE enum kr_status kr_handle_route_open(kr_handle_function function, void *context,
                                                struct kr_error *err);

/* Takes the function back, waiting for operations under way. */
void kr_handle_route_close(void);

/* Sees that one operation with this handle by way of OpenSSL gives what the token gives for the
 * same input and is undone by the reverse, and that the same handle in any other form of call, and
 * an unknown one, are refused. KR_REFUSED, or the token's error. Three operations in the token. */
KR_MUST_USE enum kr_status kr_handle_route_prove(struct kr_secrets *secrets,
                                                 enum kr_secret_form form,
                                                 const uint8_t handle[KR_HANDLE_BYTES],
                                                 struct kr_error *err);

#endif
