/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Encrypted binary logs of MariaDB. */
#include "formats/mariadb_binlog.h"

#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "formats/binlog_events.h"

enum {
    HEAD = KR_BINLOG_EVENT_HEAD,
    TYPE_AT = 4,
    LENGTH_AT = 9,
    FLAGS_AT = 17,
    CRC_BYTES = 4,
    FORMAT_MIN = HEAD + 62,
    SCHEME_AT = HEAD,
    VERSION_AT = HEAD + 1,
    NONCE_AT = HEAD + 5,
    MARKER_BYTES = NONCE_AT + KR_MARIADB_BINLOG_NONCE
};

enum { TYPE_FORMAT = 15, TYPE_MARKER = 164, FLAG_IGNORABLE = 0x80 };

uint32_t kr_mariadb_binlog_length(const uint8_t *head)
{
    return (uint32_t)kr_get_little(head + LENGTH_AT, 4);
}

static void read_marker(const uint8_t *event, struct kr_mariadb_binlog *log)
{
    log->marker_len = kr_mariadb_binlog_length(event);
    log->damaged = log->marker_len != MARKER_BYTES + (log->checksums ? CRC_BYTES : 0) ||
                   event[SCHEME_AT] != 1 ||
                   (log->checksums && kr_get_little(event + MARKER_BYTES, CRC_BYTES) !=
                                          crc32_z(0, event, MARKER_BYTES));
    log->key_version = (uint32_t)kr_get_little(event + VERSION_AT, 4);
    memcpy(log->nonce, event + NONCE_AT, KR_MARIADB_BINLOG_NONCE);
}

bool kr_mariadb_binlog_parse(const uint8_t *head, size_t len, struct kr_mariadb_binlog *ret)
{
    struct kr_mariadb_binlog log = {0};
    const uint8_t *event = head + KR_BINLOG_MAGIC;
    if (len < KR_BINLOG_MAGIC + FORMAT_MIN || event[TYPE_AT] != TYPE_FORMAT)
        return false;
    size_t length = kr_mariadb_binlog_length(event);
    if (length < FORMAT_MIN || length > len - KR_BINLOG_MAGIC)
        return false;
    log.checksums = event[length - CRC_BYTES - 1] == 1;
    log.marker_at = (uint32_t)(KR_BINLOG_MAGIC + length);
    log.encrypted = len >= log.marker_at + MARKER_BYTES + CRC_BYTES &&
                    head[log.marker_at + TYPE_AT] == TYPE_MARKER &&
                    !(head[log.marker_at + FLAGS_AT] & FLAG_IGNORABLE);
    if (log.encrypted)
        read_marker(head + log.marker_at, &log);
    *ret = log;
    return true;
}

void kr_mariadb_binlog_iv(const struct kr_mariadb_binlog *log, uint32_t offset,
                          uint8_t ret[KR_MARIADB_BINLOG_IV])
{
    memcpy(ret, log->nonce, KR_MARIADB_BINLOG_NONCE);
    kr_put_little(ret + KR_MARIADB_BINLOG_NONCE, offset, 4);
}

void kr_mariadb_binlog_prepare(uint8_t *event)
{
    memcpy(event + LENGTH_AT, event, 4);
}

void kr_mariadb_binlog_finish(uint8_t *event, uint32_t length)
{
    memcpy(event, event + LENGTH_AT, 4);
    kr_put_little(event + LENGTH_AT, length, 4);
}

void kr_mariadb_binlog_drop_marker(const struct kr_mariadb_binlog *log, uint8_t *event)
{
    event[FLAGS_AT] |= FLAG_IGNORABLE;
    if (log->checksums)
        kr_put_little(event + MARKER_BYTES, crc32_z(0, event, MARKER_BYTES), CRC_BYTES);
}
