/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The head of an encrypted binary log of MySQL. */
#include "formats/mysql_binlog.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/secret.h"
#include "formats/mysql_info.h"

enum { MAGIC_BYTES = 4, VERSION = 1, FIELDS_AT = 5 };
enum { END, MASTER, PASSWORD, IV };

static const uint8_t magic[MAGIC_BYTES] = {0xfd, 'b', 'i', 'n'};

/* The server makes no other. */
bool kr_mysql_binlog_is_key(const uint8_t *name, size_t len)
{
    static const char start[] = "MySQLReplicationKey_";
    const size_t uuid_at = sizeof(start) - 1, number_at = uuid_at + KR_MYSQL_UUID_CHARS + 1;
    if (len <= number_at || memcmp(name, start, uuid_at) != 0 ||
        !kr_mysql_is_uuid((const char *)name + uuid_at) || name[number_at - 1] != '_')
        return false;
    for (size_t i = number_at; i < len; i++) {
        if (!isdigit(name[i]))
            return false;
    }
    return true;
}

/* Takes one field at *at; false when it does not fit, is not known or came before. */
static bool take_field(const uint8_t *bytes, size_t *at, struct kr_mysql_binlog_head *head,
                       unsigned *seen)
{
    unsigned type = bytes[(*at)++];
    if (type > IV || *seen & 1U << type)
        return false;
    *seen |= 1U << type;
    size_t len = type == PASSWORD ? KR_MYSQL_PASSWORD_BYTES : KR_MYSQL_BINLOG_IV_BYTES;
    if (type == MASTER) {
        if (*at >= KR_MYSQL_BINLOG_HEAD)
            return false;
        len = bytes[(*at)++];
    }
    if (len > KR_MYSQL_BINLOG_HEAD - *at)
        return false;
    const uint8_t *value = bytes + *at;
    if (type == MASTER && !kr_mysql_binlog_is_key(value, len))
        return false;
    memcpy(type == MASTER     ? (uint8_t *)head->master
           : type == PASSWORD ? head->sealed
                              : head->iv,
           value, len);
    *at += len;
    return true;
}

const char *kr_mysql_binlog_parse(const uint8_t bytes[KR_MYSQL_BINLOG_HEAD],
                                  struct kr_mysql_binlog_head *ret)
{
    struct kr_mysql_binlog_head head = {0};
    unsigned seen = 0;
    size_t at = FIELDS_AT;
    if (memcmp(bytes, magic, MAGIC_BYTES) != 0)
        return "it does not begin as an encrypted binary log";
    if (bytes[MAGIC_BYTES] != VERSION)
        return "it is of an unknown version of encrypted binary logs";
    while (at < KR_MYSQL_BINLOG_HEAD && bytes[at] != END) {
        if (!take_field(bytes, &at, &head, &seen))
            return "its encryption header is damaged";
    }
    for (size_t i = at; i < KR_MYSQL_BINLOG_HEAD; i++) {
        if (bytes[i])
            return "its encryption header is damaged";
    }
    if (seen != (1U << MASTER | 1U << PASSWORD | 1U << IV))
        return "its encryption header is incomplete";
    *ret = head;
    return NULL;
}

static uint8_t *put_field(uint8_t *at, uint8_t type, const void *value, size_t len)
{
    *at++ = type;
    memcpy(at, value, len);
    return at + len;
}

void kr_mysql_binlog_write(const struct kr_mysql_binlog_head *head,
                           uint8_t ret[KR_MYSQL_BINLOG_HEAD])
{
    uint8_t name[KR_MYSQL_BINLOG_NAME_MAX];
    size_t len = strlen(head->master);
    name[0] = (uint8_t)len;
    memcpy(name + 1, head->master, len);
    memset(ret, 0, KR_MYSQL_BINLOG_HEAD);
    memcpy(ret, magic, MAGIC_BYTES);
    ret[MAGIC_BYTES] = VERSION;
    uint8_t *at = put_field(ret + FIELDS_AT, MASTER, name, len + 1);
    at = put_field(at, PASSWORD, head->sealed, sizeof(head->sealed));
    put_field(at, IV, head->iv, sizeof(head->iv));
}

bool kr_mysql_binlog_derive(const uint8_t password[KR_MYSQL_PASSWORD_BYTES],
                            struct kr_mysql_binlog_key *ret)
{
    uint8_t hash[64];
    if (!EVP_Digest(password, KR_MYSQL_PASSWORD_BYTES, hash, NULL, EVP_sha512(), NULL))
        return false;
    memset(ret->iv, 0, sizeof(ret->iv));
    memcpy(ret->key, hash, sizeof(ret->key));
    memcpy(ret->iv, hash + sizeof(ret->key), 8);
    kr_wipe(hash, sizeof(hash));
    return true;
}

bool kr_mysql_binlog_start(const struct kr_mysql_binlog_key *key, const uint8_t in[4],
                           uint8_t ret[4])
{
    int done = 0;
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    bool opened = evp && EVP_DecryptInit_ex(evp, EVP_aes_256_ctr(), NULL, key->key, key->iv) &&
                  EVP_DecryptUpdate(evp, ret, &done, in, 4) && done == 4;
    EVP_CIPHER_CTX_free(evp);
    return opened;
}
