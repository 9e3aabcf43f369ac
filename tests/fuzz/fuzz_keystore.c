/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Any file as a keystore: it is refused, or its rows are within their bounds; and rows that the
 * manifest does not cover are never written to.
 */
#include "keystore_checks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    keystore_write(data, size);
    keystore_check();
    return 0;
}
