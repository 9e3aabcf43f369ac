/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The table of unwrapped data keys: read without a lock by any thread, added to by one thread at a
 * time, never shrunk. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_KEYTABLE_H
#define P11K_PROVIDER_KEYTABLE_H

#include "provider/keyring.h"

struct kr_keytable;

struct kr_keytable *kr_keytable_new(void);
/* Wipes every key; no reader may be left. NULL is accepted. */
void kr_keytable_free(struct kr_keytable *table);

/* Takes over `key` (secret memory) on success. The key's latest version becomes the highest one
 * added. False when out of memory. */
bool kr_keytable_add(struct kr_keytable *table, struct kr_data_key *key);

uint32_t kr_keytable_latest(const struct kr_keytable *table, uint32_t id);
const struct kr_data_key *kr_keytable_find(const struct kr_keytable *table, uint32_t id,
                                           uint32_t version);

uint32_t kr_keytable_keys(const struct kr_keytable *table);
uint32_t kr_keytable_versions(const struct kr_keytable *table);

#endif
