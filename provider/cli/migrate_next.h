/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What is left to do when keys were copied: who must be configured anew or restarted. */
#ifndef P11K_CLI_MIGRATE_NEXT_H
#define P11K_CLI_MIGRATE_NEXT_H

#include <jansson.h>

#include "migrate/store.h"

/* Appends sentences to an array. */
void migrate_next(const struct kr_store_kind *from, const struct kr_store_kind *to, json_t *steps);

#endif
