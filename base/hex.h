/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Hexadecimal text. The digits may be secret: no branch or memory access depends on them. */
#ifndef P11K_BASE_HEX_H
#define P11K_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes 2 * len lower-case digits and a NUL. */
void kr_hex_encode(const uint8_t *bytes, size_t len, char *ret_text);

/* Reads exactly `text_len` digits of either case into text_len / 2 bytes; false, and nothing
 * written, on an odd number or anything else than hexadecimal digits. */
bool kr_hex_decode(const char *text, size_t text_len, uint8_t *ret_bytes);

#endif
