/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The files in which MySQL's own keyrings keep keys in the clear.
 *
 * component_keyring_file (server source: components/keyrings/common/json_data):
 *   {"version":"1.0","elements":[{"user":..,"data_id":..,"data_type":..,"data":hex,"extension":[]}]}
 *
 * The plugin keyring_file (plugin/keyring/): "Keyring file version:2.0", keys, "EOF", SHA-256 of
 * all before it (in 1.0 there is none). A key is five native 64-bit lengths (all with padding, id,
 * type, user, data), then id, type, user and obfuscated data, padded to 8 bytes.
 */
#ifndef P11K_FORMATS_MYSQL_KEYRING_H
#define P11K_FORMATS_MYSQL_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KR_MYSQL_KEYRING_ID_MAX = 256 };

/* A part of the file: borrowed, and not terminated. */
struct kr_mysql_keyring_part {
    const char *at;
    size_t len;
};

struct kr_mysql_keyring_key {
    char id[KR_MYSQL_KEYRING_ID_MAX]; /* printable; longer ones are cut */
    bool owned;                       /* it belongs to a user, not to the server */
    size_t bits;
    struct kr_mysql_keyring_part name, user, type; /* as they are in the file */
    struct kr_mysql_keyring_part data; /* the key, as kr_mysql_keyring_open() reads it */
    bool obfuscated;                   /* otherwise the data are hexadecimal digits */
};

typedef void (*kr_mysql_keyring_visitor)(const struct kr_mysql_keyring_key *key, void *context);

/* Both: NULL, or what is wrong with the file (static); `visit` is called for the keys before that.
 */
const char *kr_mysql_keyring_json(const char *text, size_t len, kr_mysql_keyring_visitor visit,
                                  void *context);
/* *ret_digest: the file has a digest, and it agrees. */
const char *kr_mysql_keyring_plugin(const uint8_t *bytes, size_t len,
                                    kr_mysql_keyring_visitor visit, void *context,
                                    bool *ret_digest);

/* The key itself, bits / 8 bytes of it; false when its digits are wrong. */
bool kr_mysql_keyring_open(const struct kr_mysql_keyring_key *key, uint8_t *ret);

#endif
