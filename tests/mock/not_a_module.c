/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A shared library that loads and is no PKCS#11 module. */

__attribute__((visibility("default"))) int not_a_module(void);

int not_a_module(void)
{
    return 1;
}
