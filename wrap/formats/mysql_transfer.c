/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's .cfp. */
#include "formats/mysql_transfer.h"

#include "base/bytes.h"

enum { KEY_AT = 4, SEALED_AT = KEY_AT + KR_MYSQL_KEY_BYTES };

const char *kr_mysql_transfer_check(const uint8_t *bytes, size_t len)
{
    if (len != KR_MYSQL_TRANSFER_BYTES)
        return "it is not 100 bytes long";
    if (kr_get_number(bytes, KEY_AT) != KR_MYSQL_KEY_BYTES)
        return "it does not begin with the length of a key";
    return NULL;
}

bool kr_mysql_transfer_open(const uint8_t bytes[KR_MYSQL_TRANSFER_BYTES],
                            uint8_t ret[KR_MYSQL_SEALED_BYTES])
{
    return kr_mysql_unseal_by(bytes + KEY_AT, bytes + SEALED_AT, ret);
}
