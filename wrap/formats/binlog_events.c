/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The events of a binary log in the clear. */
#include "formats/binlog_events.h"

#include <ctype.h>
#include <string.h>
#include <zlib.h>

enum { HEAD = KR_BINLOG_EVENT_HEAD, TYPE_AT = 4, LENGTH_AT = 9, FLAGS_AT = 17 };
enum { TYPE_FORMAT = 15, FLAG_IN_USE = 1 };
/* Version 2, server 50, time 4, length of heads 1, algorithm 1, CRC 4. */
enum { SERVER_AT = HEAD + 2, SERVER_BYTES = 50, FORMAT_MIN = HEAD + 62, CRC_BYTES = 4 };
enum { ALGORITHM_CRC32 = 1, ALGORITHM_UNDEFINED = 255 };

static uint32_t get4(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

void kr_binlog_check_begin(struct kr_binlog_check *check, kr_binlog_damage on_damage, void *context)
{
    memset(check, 0, sizeof(*check));
    check->on_damage = on_damage;
    check->context = context;
}

static void damaged(struct kr_binlog_check *check, enum kr_binlog_fault fault)
{
    check->damaged++;
    if (fault != KR_BINLOG_BAD_CHECKSUM)
        check->given_up = true;
    check->on_damage(&check->event, fault, check->context);
}

static bool has_crc(const struct kr_binlog_check *check)
{
    return check->is_format || check->checksums;
}

/* The head of an event is there. While its file is open the first event says so by a flag, which
 * the CRC does not know. */
static void event_begins(struct kr_binlog_check *check)
{
    struct kr_binlog_event *event = &check->event;
    uint8_t head[HEAD];
    event->type = check->head[TYPE_AT];
    event->len = get4(check->head + LENGTH_AT);
    check->is_format = event->type == TYPE_FORMAT;
    if (event->number == 1 && !check->is_format) {
        damaged(check, KR_BINLOG_NO_FORMAT);
        return;
    }
    if (event->len < (check->is_format ? FORMAT_MIN : HEAD + (check->checksums ? CRC_BYTES : 0))) {
        damaged(check, KR_BINLOG_BAD_LENGTH);
        return;
    }
    memcpy(head, check->head, HEAD);
    if (check->is_format) {
        if (event->number == 1)
            check->in_use = head[FLAGS_AT] & FLAG_IN_USE;
        head[FLAGS_AT] &= (uint8_t)~FLAG_IN_USE;
    }
    check->crc = (uint32_t)crc32(0, head, HEAD);
}

/* A server older than 5.6.1 writes a byte of something else there, and no CRC. */
static void format_ends(struct kr_binlog_check *check)
{
    check->checksums = check->algorithm == ALGORITHM_CRC32;
    for (char *at = check->server; *at; at++) {
        if (!isprint((unsigned char)*at))
            *at = '?';
    }
}

static void event_ends(struct kr_binlog_check *check)
{
    bool crc = has_crc(check);
    if (crc && get4(check->tail) != check->crc)
        damaged(check, KR_BINLOG_BAD_CHECKSUM);
    else if (check->is_format)
        format_ends(check);
    check->events++;
    check->unchecked += !crc;
    check->got = 0;
}

/* Bytes of an event behind its head. Returns how many were taken. */
static size_t take_data(struct kr_binlog_check *check, const uint8_t *bytes, size_t len)
{
    uint32_t event_len = check->event.len, data_end = event_len - (has_crc(check) ? CRC_BYTES : 0);
    if (check->got >= data_end) {
        check->tail[check->got++ - data_end] = bytes[0];
        return 1;
    }
    if (len > data_end - check->got)
        len = data_end - check->got;
    if (check->is_format && check->event.number == 1) {
        for (size_t i = 0; i < len; i++) {
            size_t at = check->got + i;
            if (at >= SERVER_AT && at < SERVER_AT + SERVER_BYTES)
                check->server[at - SERVER_AT] = (char)bytes[i];
        }
    }
    check->algorithm = bytes[len - 1];
    check->crc = (uint32_t)crc32_z(check->crc, bytes, len);
    check->got += (uint32_t)len;
    return len;
}

static size_t take_magic(struct kr_binlog_check *check, const uint8_t *bytes, size_t len)
{
    static const uint8_t magic[KR_BINLOG_MAGIC] = {0xfe, 'b', 'i', 'n'};
    size_t taken = 0;
    for (; taken < len && check->at + taken < KR_BINLOG_MAGIC; taken++) {
        if (bytes[taken] != magic[check->at + taken]) {
            damaged(check, KR_BINLOG_BAD_MAGIC);
            break;
        }
    }
    return taken;
}

static size_t take_head(struct kr_binlog_check *check, const uint8_t *bytes, size_t len)
{
    if (check->got == 0) {
        check->event =
            (struct kr_binlog_event){.number = check->event.number + 1, .offset = check->at};
    }
    if (len > HEAD - check->got)
        len = HEAD - check->got;
    memcpy(check->head + check->got, bytes, len);
    check->got += (uint32_t)len;
    if (check->got == HEAD)
        event_begins(check);
    return len;
}

void kr_binlog_check_feed(struct kr_binlog_check *check, const uint8_t *bytes, size_t len)
{
    while (len > 0 && !check->given_up) {
        size_t taken;
        if (check->at < KR_BINLOG_MAGIC)
            taken = take_magic(check, bytes, len);
        else if (check->got < HEAD)
            taken = take_head(check, bytes, len);
        else
            taken = take_data(check, bytes, len);
        check->at += taken;
        bytes += taken;
        len -= taken;
        if (check->got >= HEAD && check->got == check->event.len && !check->given_up)
            event_ends(check);
    }
}

void kr_binlog_check_end(struct kr_binlog_check *check)
{
    if (check->given_up)
        return;
    if (check->at < KR_BINLOG_MAGIC || check->got > 0)
        damaged(check, KR_BINLOG_TRUNCATED);
    else if (check->events == 0)
        damaged(check, KR_BINLOG_NO_FORMAT);
}

const char *kr_binlog_fault_text(enum kr_binlog_fault fault)
{
    static const char *const texts[] = {
        [KR_BINLOG_BAD_MAGIC] = "the file does not begin as a binary log",
        [KR_BINLOG_NO_FORMAT] = "the event that describes the format is missing",
        [KR_BINLOG_BAD_LENGTH] = "impossible length; what follows was not read",
        [KR_BINLOG_BAD_CHECKSUM] = "checksum mismatch",
        [KR_BINLOG_TRUNCATED] = "the file ends within it"};
    return texts[fault];
}
