/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What `openssl speed` says, against which the baselines of benchmarks are checked. */
#ifndef P11K_TESTS_SPEED_H
#define P11K_TESTS_SPEED_H

/* Bytes per second in messages of 16 KiB, of "-evp aes-128-cbc" or the like. Ends the program when
 * it cannot be had. */
double openssl_speed(const char *arguments);

#endif
