/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Encrypted binary and relay logs of MariaDB (server source: sql/log_event.cc,
 * log_event_server.cc). The log begins in the clear, with the event that describes the format
 * (binlog_events.h). After it an event of type 164 says that all others are encrypted: behind its
 * head 01 | key version, 4 | nonce, 12. Numbers little-endian.
 *
 * An event is encrypted by itself, with data key 1 and iv = nonce | its offset in the file, 4. Its
 * length stands in the clear where it always does, at 9; its time, which is encrypted in the place
 * of the length, stands in the first four bytes, and encryption begins after those.
 */
#ifndef P11K_FORMATS_MARIADB_BINLOG_H
#define P11K_FORMATS_MARIADB_BINLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KR_MARIADB_BINLOG_IV = 16,
    KR_MARIADB_BINLOG_NONCE = 12,
    KR_MARIADB_BINLOG_CLEAR = 4 /* of an event: what is encrypted comes after */
};

/* What an event says of its length, encrypted or not. */
uint32_t kr_mariadb_binlog_length(const uint8_t *head);

struct kr_mariadb_binlog {
    bool encrypted;
    bool checksums;       /* the first event says so */
    bool damaged;         /* an event of type 164 is there, and not as a server writes it */
    uint32_t key_version; /* of key 1 */
    uint8_t nonce[KR_MARIADB_BINLOG_NONCE];
    uint32_t marker_at, marker_len; /* the event of type 164 */
};

/* The first bytes of a log: enough for its first two events. False when it does not begin with the
 * event that describes the format. */
bool kr_mariadb_binlog_parse(const uint8_t *head, size_t len, struct kr_mariadb_binlog *ret);

void kr_mariadb_binlog_iv(const struct kr_mariadb_binlog *log, uint32_t offset,
                          uint8_t ret[KR_MARIADB_BINLOG_IV]);

/* An encrypted event is prepared, decrypted in place from KR_MARIADB_BINLOG_CLEAR to its end, and
 * finished. */
void kr_mariadb_binlog_prepare(uint8_t *event);
void kr_mariadb_binlog_finish(uint8_t *event, uint32_t length);

/* Marks the event of type 164 as one that readers skip, as a server does that sends the log:
 * nothing is encrypted after it any more. */
void kr_mariadb_binlog_drop_marker(const struct kr_mariadb_binlog *log, uint8_t *event);

#endif
