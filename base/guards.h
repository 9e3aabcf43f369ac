/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * False in builds for the tests that first show an attack on MySQL's token mode at work: they leave
 * the guards against it out. Such a build cannot be installed.
 */
#ifndef P11K_BASE_GUARDS_H
#define P11K_BASE_GUARDS_H

#ifdef P11K_TEST_NO_GUARD
#define KR_GUARDED 0
#else
#define KR_GUARDED 1
#endif

#endif
