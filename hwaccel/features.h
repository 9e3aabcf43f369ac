/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What this processor has for ciphers and checksums, found out once. Nothing is chosen by it but
 * the width of plain copies: OpenSSL and ISA-L choose for themselves. It is there to be reported.
 */
#ifndef P11K_HWACCEL_FEATURES_H
#define P11K_HWACCEL_FEATURES_H

#include <stdbool.h>

/* Static text: the names of what is there with a space between them, such as "aes pclmul sse4.2
 * avx2 avx512 vaes vpclmulqdq" or, on Arm, "aes pmull crc32"; "none" where there is nothing. */
const char *kr_features_text(void);

/* By a name of that text. */
bool kr_features_have(const char *name);

#endif
