/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* How the programs of the matrix get at their token, and what they do when they cannot. */
#ifndef P11K_TESTS_ACCESS_H
#define P11K_TESTS_ACCESS_H

#include "pkcs11/token.h"

/* From the arguments MODULE URI PIN-SOURCE GUARD INIT-ARGS ("": none). Ends the program on failure;
 * the pin source is the caller's. */
void take_arguments(int argc, char **argv, struct kr_token_options *ret);

/* Ends the program unless the call returned KR_OK. */
void require(enum kr_status status, const struct kr_error *err);

#endif
