/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The head of an encrypted binary or relay log of MySQL (server source: sql/rpl_log_encryption.h):
 * 512 bytes, of which a file password sealed by AES-256-CBC under a master key of the keyring.
 *
 *   FD 'bin' | version 1 | fields, each a type and a value | 0 | zeros
 *   type 1: length, 1, and name of the master key · 2: sealed password, 32 · 3: its iv, 16
 *
 * Behind it a plain binary log follows, all of it encrypted by AES-256-CTR. SHA-512 of the password
 * gives the key (32 bytes) and the first half of the counter (8 bytes), whose second half begins
 * with 0.
 */
#ifndef P11K_FORMATS_MYSQL_BINLOG_H
#define P11K_FORMATS_MYSQL_BINLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KR_MYSQL_BINLOG_HEAD = 512,
    KR_MYSQL_PASSWORD_BYTES = 32,
    KR_MYSQL_BINLOG_IV_BYTES = 16,
    KR_MYSQL_BINLOG_NAME_MAX = 256
};

struct kr_mysql_binlog_head {
    char master[KR_MYSQL_BINLOG_NAME_MAX]; /* "MySQLReplicationKey_<uuid>_<n>" */
    uint8_t sealed[KR_MYSQL_PASSWORD_BYTES];
    uint8_t iv[KR_MYSQL_BINLOG_IV_BYTES];
};

/* NULL, or what is wrong with it; static. */
const char *kr_mysql_binlog_parse(const uint8_t bytes[KR_MYSQL_BINLOG_HEAD],
                                  struct kr_mysql_binlog_head *ret);

void kr_mysql_binlog_write(const struct kr_mysql_binlog_head *head,
                           uint8_t ret[KR_MYSQL_BINLOG_HEAD]);

/* "MySQLReplicationKey_<uuid>_<n>". */
bool kr_mysql_binlog_is_key(const uint8_t *name, size_t len);

/* What the opened password gives; false when OpenSSL failed. */
struct kr_mysql_binlog_key {
    uint8_t key[32];
    uint8_t iv[16];
};
bool kr_mysql_binlog_derive(const uint8_t password[KR_MYSQL_PASSWORD_BYTES],
                            struct kr_mysql_binlog_key *ret);

/* Decrypts the first four bytes behind the head; false when OpenSSL failed. */
bool kr_mysql_binlog_start(const struct kr_mysql_binlog_key *key, const uint8_t in[4],
                           uint8_t ret[4]);

#endif
