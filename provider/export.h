/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keys of a keyring in the clear, for a copy elsewhere. */
#ifndef P11K_PROVIDER_EXPORT_H
#define P11K_PROVIDER_EXPORT_H

#include "provider/key_set.h"

/* Adds every version of every data key and every secret, as they are in the keystore now; `event`
 * is recorded in the audit log. A secret that the token does not give out is added without bytes,
 * `stuck`. The set is not ordered yet. KR_REFUSED where the configuration forbids that keys leave.
 */
KR_MUST_USE enum kr_status kr_export(struct kr_keyring *keyring, const char *event,
                                     struct kr_key_set *set, struct kr_error *err);

#endif
