/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the unit tests of the base layer share: a private folder, files, PINs, error texts. */
#ifndef P11K_TESTS_SCRATCH_H
#define P11K_TESTS_SCRATCH_H

#include <sys/types.h>

#include "base/status.h"

/* cmocka setup and teardown of a group: makes a folder that others may enter but not list, and
 * removes it with all files in it. */
int scratch_up(void **state);
int scratch_down(void **state);

/* Path of a file in the folder; static storage, four paths at a time. */
const char *scratch_path(const char *name);

/* Writes a file in the folder and returns its path (as scratch_path). */
const char *scratch_write(const char *name, const void *bytes, size_t len, mode_t mode);
const char *scratch_text(const char *name, const char *text, mode_t mode);

/* A new random PIN of 16 digits a-f, 0-9. */
#define SCRATCH_PIN_BYTES 17
void scratch_pin(char ret[SCRATCH_PIN_BYTES]);

/* Runs `body` in a child process; returns its wait status. `body`'s result is its exit code. */
int scratch_in_child(int (*body)(void *), void *argument);

/* Fails the test, printing the whole text, unless `text` contains `part`. */
void assert_says(const char *text, const char *part);

/* Fails the test unless the record has this class, text and hint; empties the record. */
void assert_error(struct kr_error *err, enum kr_status status, const char *text, const char *hint);

#endif
