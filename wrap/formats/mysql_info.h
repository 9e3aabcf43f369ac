/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The encryption header of MySQL's tablespaces and redo logs: which master key seals the key and iv
 * of the file, and those two, sealed by AES-256-ECB (server source: storage/innobase/os/os0enc.cc).
 *
 *   magic "lCC" | master key id, 4 | server uuid, 36 | sealed key and iv, 64 | their CRC-32C, 4
 *
 * What is sealed is 32 bytes of key, then 32 of which the first 16 are the iv. Numbers big-endian.
 * "lCB" is the same of older servers, "lCA" that of 5.7.11 alone, whose master keys went by other
 * names: it is recognised, and cannot be opened.
 */
#ifndef P11K_FORMATS_MYSQL_INFO_H
#define P11K_FORMATS_MYSQL_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hwaccel/mysql_page.h"

enum {
    KR_MYSQL_INFO_BYTES = 111,
    KR_MYSQL_SEALED_BYTES = 64,
    KR_MYSQL_UUID_CHARS = 36,
    KR_MYSQL_KEY_NAME_MAX = 80
};

enum kr_mysql_info_state {
    KR_MYSQL_INFO_NONE, /* all bytes are zero */
    KR_MYSQL_INFO_SEALED,
    KR_MYSQL_INFO_TOO_OLD, /* "lCA" */
    KR_MYSQL_INFO_DAMAGED
};

struct kr_mysql_info {
    enum kr_mysql_info_state state;
    char version;       /* the magic's last letter; the rest as well only where it is SEALED */
    uint32_t master_id; /* 0: the built-in key of a server that is being initialised */
    char server_uuid[KR_MYSQL_UUID_CHARS + 1];
    uint8_t sealed[KR_MYSQL_SEALED_BYTES];
    uint32_t crc; /* of the 64 bytes when they are opened */
};

void kr_mysql_info_parse(const uint8_t bytes[KR_MYSQL_INFO_BYTES], struct kr_mysql_info *ret);

/* The bytes of a header that is SEALED, always as "lCC". */
void kr_mysql_info_write(const struct kr_mysql_info *info, uint8_t ret[KR_MYSQL_INFO_BYTES]);

/* "INNODBKey-<uuid>-<id>", as the keyring knows the master key; empty for id 0. */
void kr_mysql_info_master(const struct kr_mysql_info *info, char ret[KR_MYSQL_KEY_NAME_MAX]);

/* The master key of id 0, which is no secret. */
void kr_mysql_default_master(uint8_t ret[KR_MYSQL_KEY_BYTES]);

/* Opens what is sealed by a key that is at hand; false when OpenSSL failed. */
bool kr_mysql_unseal_by(const uint8_t key[KR_MYSQL_KEY_BYTES],
                        const uint8_t sealed[KR_MYSQL_SEALED_BYTES],
                        uint8_t ret[KR_MYSQL_SEALED_BYTES]);

/* Whether these are the key and iv that were sealed. */
bool kr_mysql_info_opened(const struct kr_mysql_info *info,
                          const uint8_t opened[KR_MYSQL_SEALED_BYTES]);

/* Whether 36 characters are a UUID in its usual form. */
bool kr_mysql_is_uuid(const char *text);

#endif
