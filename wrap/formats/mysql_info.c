/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The encryption header of MySQL's tablespaces and redo logs. */
#include "formats/mysql_info.h"

#include <ctype.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "hwaccel/crc32c.h"

enum { ID_AT = 3, UUID_AT = 7, SEALED_AT = 43, CRC_AT = 107 };

bool kr_mysql_is_uuid(const char *text)
{
    for (size_t i = 0; i < KR_MYSQL_UUID_CHARS; i++) {
        bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
        if (hyphen ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return true;
}

/* Versions A and B may have had four zero bytes more before the uuid: those are not known from
 * files that anybody has, and the header has no room for them. */
void kr_mysql_info_parse(const uint8_t bytes[KR_MYSQL_INFO_BYTES], struct kr_mysql_info *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (bytes[0] != 'l' || bytes[1] != 'C' || bytes[2] < 'A' || bytes[2] > 'C') {
        bool none = kr_is_zero(bytes, KR_MYSQL_INFO_BYTES);
        ret->state = none ? KR_MYSQL_INFO_NONE : KR_MYSQL_INFO_DAMAGED;
        return;
    }
    ret->version = (char)bytes[2];
    if (ret->version == 'A') {
        ret->state = KR_MYSQL_INFO_TOO_OLD;
        return;
    }
    ret->master_id = (uint32_t)kr_get_number(bytes + ID_AT, 4);
    /* While a server is initialised it has no uuid yet. */
    bool nameless = ret->master_id == 0 && kr_is_zero(bytes + UUID_AT, KR_MYSQL_UUID_CHARS);
    if (!nameless && !kr_mysql_is_uuid((const char *)bytes + UUID_AT)) {
        ret->state = KR_MYSQL_INFO_DAMAGED;
        return;
    }
    memcpy(ret->server_uuid, bytes + UUID_AT, KR_MYSQL_UUID_CHARS);
    memcpy(ret->sealed, bytes + SEALED_AT, KR_MYSQL_SEALED_BYTES);
    ret->crc = (uint32_t)kr_get_number(bytes + CRC_AT, 4);
    ret->state = KR_MYSQL_INFO_SEALED;
}

void kr_mysql_info_write(const struct kr_mysql_info *info, uint8_t ret[KR_MYSQL_INFO_BYTES])
{
    memcpy(ret, "lCC", 3);
    kr_put_number(ret + ID_AT, info->master_id, 4);
    memcpy(ret + UUID_AT, info->server_uuid, KR_MYSQL_UUID_CHARS);
    memcpy(ret + SEALED_AT, info->sealed, KR_MYSQL_SEALED_BYTES);
    kr_put_number(ret + CRC_AT, info->crc, 4);
}

void kr_mysql_info_master(const struct kr_mysql_info *info, char ret[KR_MYSQL_KEY_NAME_MAX])
{
    ret[0] = '\0';
    if (info->master_id)
        snprintf(ret, KR_MYSQL_KEY_NAME_MAX, "INNODBKey-%s-%" PRIu32, info->server_uuid,
                 info->master_id);
}

void kr_mysql_default_master(uint8_t ret[KR_MYSQL_KEY_BYTES])
{
    static const char name[] = "DefaultMasterKey";
    memset(ret, 0, KR_MYSQL_KEY_BYTES);
    memcpy(ret, name, sizeof(name) - 1);
}

bool kr_mysql_unseal_by(const uint8_t key[KR_MYSQL_KEY_BYTES],
                        const uint8_t sealed[KR_MYSQL_SEALED_BYTES],
                        uint8_t ret[KR_MYSQL_SEALED_BYTES])
{
    int done = 0;
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    bool opened = evp && EVP_DecryptInit_ex(evp, EVP_aes_256_ecb(), NULL, key, NULL) &&
                  EVP_CIPHER_CTX_set_padding(evp, 0) &&
                  EVP_DecryptUpdate(evp, ret, &done, sealed, KR_MYSQL_SEALED_BYTES) &&
                  done == KR_MYSQL_SEALED_BYTES;
    EVP_CIPHER_CTX_free(evp);
    return opened;
}

bool kr_mysql_info_opened(const struct kr_mysql_info *info,
                          const uint8_t opened[KR_MYSQL_SEALED_BYTES])
{
    return kr_crc32c(0, opened, KR_MYSQL_SEALED_BYTES) == info->crc;
}
