/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What must hold of any file that is taken for a keystore, and keystores to begin with. */
#ifndef P11K_TESTS_KEYSTORE_CHECKS_H
#define P11K_TESTS_KEYSTORE_CHECKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ends the process unless it is so. */
void insist(bool sound);

/* Where the keystore of this run is to be: nothing is there yet. */
const char *keystore_path(void);
/* Puts it there; returns the path. */
const char *keystore_write(const uint8_t *data, size_t size);

/* It is refused, or its rows are within their bounds; and rows that the manifest does not cover are
 * never written to. */
void keystore_check(void);

/* A sound keystore with so many keys, under a manifest key of zeros. */
void keystore_make(const char *path, unsigned keys);
bool keystore_is_sound(const char *path);

#endif
