/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The events of a binary log in the clear, of either server (format 4, in use since MySQL 5.0),
 * fed piece by piece: whether each is whole by its own length and CRC-32.
 *
 *   FE 'bin' | events
 *   event: time 4 | type 1 | server id 4 | length 4 | position 4 | flags 2 | data | CRC-32, 4
 *
 * Numbers little-endian. The first event describes the format, and says in its last byte before the
 * CRC whether the others have one: binlog_checksum=NONE leaves it out. In a relay log another one
 * may follow that describes the events of the source.
 */
#ifndef P11K_FORMATS_BINLOG_EVENTS_H
#define P11K_FORMATS_BINLOG_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kr_binlog_fault {
    KR_BINLOG_BAD_MAGIC,
    KR_BINLOG_NO_FORMAT,  /* the first event does not describe the format */
    KR_BINLOG_BAD_LENGTH, /* impossible: what follows cannot be read */
    KR_BINLOG_BAD_CHECKSUM,
    KR_BINLOG_TRUNCATED /* the file ends within it */
};

struct kr_binlog_event {
    uint64_t number; /* from 1; 0 for the file's magic */
    uint64_t offset; /* in the log in the clear */
    uint32_t len;
    uint8_t type;
};

/* Called for each damaged event. */
typedef void (*kr_binlog_damage)(const struct kr_binlog_event *event, enum kr_binlog_fault fault,
                                 void *context);

enum { KR_BINLOG_MAGIC = 4, KR_BINLOG_EVENT_HEAD = 19 };

struct kr_binlog_check {
    kr_binlog_damage on_damage;
    void *context;

    uint64_t events;    /* whole ones, sound or not */
    uint64_t unchecked; /* of them without a CRC */
    uint64_t damaged;   /* faults that were told */
    bool in_use;        /* it was not closed: its server runs, or was killed */
    char server[51];    /* version of the server that wrote it, printable */
    bool given_up;      /* what follows a damaged event cannot be read */

    /* Of the event that is being read. */
    struct kr_binlog_event event;
    uint64_t at; /* bytes fed so far */
    uint32_t got, crc;
    bool checksums, is_format;
    uint8_t head[KR_BINLOG_EVENT_HEAD], tail[4], algorithm;
};

void kr_binlog_check_begin(struct kr_binlog_check *check, kr_binlog_damage on_damage,
                           void *context);
void kr_binlog_check_feed(struct kr_binlog_check *check, const uint8_t *bytes, size_t len);
/* At the end of the file. */
void kr_binlog_check_end(struct kr_binlog_check *check);

/* "checksum mismatch"; static. */
const char *kr_binlog_fault_text(enum kr_binlog_fault fault);

#endif
