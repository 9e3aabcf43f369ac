/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading a data key for import. */
#ifndef P11K_CLI_KEY_FILE_H
#define P11K_CLI_KEY_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Reads the key with `id` from `path` ("-": stdin): hexadecimal digits alone, or the line
 * `id;digits` of a file_key_management key file. A file that others can read is refused.
 * *ret_key is secret memory of *ret_len (16, 24, 32) bytes. KR_USAGE, KR_CONFIG, KR_IO. */
KR_MUST_USE enum kr_status cli_read_key_file(const char *path, uint32_t id, uint8_t **ret_key,
                                             size_t *ret_len, struct kr_error *err);

#endif
