/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Key files of MariaDB's file_key_management: lines of `id;hexkey`, blank lines and comments. */
#ifndef P11K_FORMATS_KEY_LIST_H
#define P11K_FORMATS_KEY_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Called for each key: bits / 4 hexadecimal digits, borrowed; `bits` is 128, 192 or 256. */
typedef void (*kr_key_list_visitor)(uint32_t id, const char *digits, unsigned bits, void *context);

/* Whether all whole lines of these bytes are of a key file, at least one of them a key's; with
 * `whole` the bytes are the whole file. `visit` (may be NULL) is called for each key before a
 * wrong line. */
bool kr_key_list_parse(const char *text, size_t len, bool whole, kr_key_list_visitor visit,
                       void *context);

/* The number of the first line that no key file has; 0: there is none. */
unsigned kr_key_list_wrong_line(const char *text, size_t len);

#endif
