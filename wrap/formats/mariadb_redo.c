/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MariaDB's redo log. */
#include "formats/mariadb_redo.h"

#include <string.h>

#include "base/bytes.h"
#include "hwaccel/crc32c.h"

enum {
    FIRST_LSN_AT = 8,
    CREATOR_AT = 16,
    KEY_ID_AT = 48,
    KEY_VERSION_AT = 52,
    HEADER_CRC_AT = 508,
    CHECKPOINT_1 = 4096,
    CHECKPOINT_2 = 8192,
    CHECKPOINT_CRC_AT = 60,
    CHECKPOINT_BYTES = 64,
    NONCE_BYTES = 8,
    CRC_BYTES = 4
};

/* "PHYS" of 10.5, whose top bit says: encrypted; before it small numbers, with the same bit. "Phys"
 * of 10.8, whose encrypted form has got a number of its own in later releases. */
#define FORMAT_10_5 0x50485953U
#define FORMAT_10_8 0x50687973U
#define FORMAT_10_8_ENCRYPTED 0xf09f979dU
#define FORMAT_ENCRYPTED 0x80000000U

static const uint64_t first_lsn_min = 12288;

static uint32_t get4(const uint8_t *at)
{
    return (uint32_t)kr_get_number(at, 4);
}

static void read_checkpoint(const uint8_t *at, struct kr_mariadb_redo *redo)
{
    uint64_t lsn = kr_get_number(at, 8), end = kr_get_number(at + 8, 8);
    if (kr_is_zero(at, CHECKPOINT_BYTES))
        return;
    if (get4(at + CHECKPOINT_CRC_AT) != kr_crc32c(0, at, CHECKPOINT_CRC_AT) ||
        lsn < redo->first_lsn || end < lsn) {
        redo->bad_checkpoint = true;
        return;
    }
    redo->checkpoints++;
    if (lsn >= redo->checkpoint) {
        redo->checkpoint = lsn;
        redo->end = end;
    }
}

static void read_10_8(const uint8_t *head, size_t len, struct kr_mariadb_redo *redo)
{
    redo->known = true;
    redo->first_lsn = kr_get_number(head + FIRST_LSN_AT, 8);
    redo->key_id = get4(head + KEY_ID_AT);
    redo->key_version = get4(head + KEY_VERSION_AT);
    redo->encrypted = redo->key_id != 0;
    redo->sound = get4(head + HEADER_CRC_AT) == kr_crc32c(0, head, HEADER_CRC_AT) &&
                  redo->first_lsn >= first_lsn_min && get4(head + 4) == 0;
    if (len < KR_MARIADB_REDO_START || !redo->sound)
        return;
    read_checkpoint(head + CHECKPOINT_1, redo);
    read_checkpoint(head + CHECKPOINT_2, redo);
}

bool kr_mariadb_redo_parse(const uint8_t *head, size_t len, struct kr_mariadb_redo *ret)
{
    struct kr_mariadb_redo redo = {0};
    if (len < 512)
        return false;
    redo.format = get4(head);
    memcpy(redo.creator, head + CREATOR_AT, sizeof(redo.creator) - 1);
    uint32_t older = redo.format & ~FORMAT_ENCRYPTED;
    if (redo.format == FORMAT_10_8 || redo.format == FORMAT_10_8_ENCRYPTED)
        read_10_8(head, len, &redo);
    else if (older == FORMAT_10_5 || (older >= 1 && older < 128 &&
                                      (strncmp(redo.creator, "MariaDB", 7) == 0 ||
                                       strncmp(redo.creator, "Backup ", 7) == 0)))
        redo.encrypted = redo.format & FORMAT_ENCRYPTED;
    else
        return false;
    *ret = redo;
    return true;
}

uint64_t kr_mariadb_redo_offset(const struct kr_mariadb_redo *redo, uint64_t size, uint64_t lsn)
{
    return KR_MARIADB_REDO_START + (lsn - redo->first_lsn) % (size - KR_MARIADB_REDO_START);
}

static uint8_t lap_byte(const struct kr_mariadb_redo *redo, uint64_t size, uint64_t lsn)
{
    return !((lsn - redo->first_lsn) / (size - KR_MARIADB_REDO_START) & 1);
}

/* --- mini-transactions ------------------------------------------------------------------------ */

/* A number of 1 to 5 bytes, whose first says how many; 0: there are not as many, or no number. */
static size_t read_number(const uint8_t *at, size_t len, uint32_t *ret)
{
    static const struct {
        uint8_t below, mask;
        uint32_t base;
    } forms[] = {{0x80, 0x7f, 0},
                 {0xc0, 0x3f, 0x80},
                 {0xe0, 0x1f, 0x4080},
                 {0xf0, 0x0f, 0x204080},
                 {0xf1, 0, 0x10204080}};
    for (size_t i = 0; len > 0 && i < sizeof(forms) / sizeof(*forms); i++) {
        if (at[0] >= forms[i].below)
            continue;
        if (len < i + 1)
            return 0;
        uint32_t value = at[0] & forms[i].mask;
        for (size_t j = 1; j <= i; j++)
            value = value << 8 | at[j];
        *ret = value + forms[i].base;
        return i + 1;
    }
    return 0;
}

/* The whole length of the record at `at`; 0: more bytes are needed, or it is none. */
static size_t record_length(const uint8_t *at, size_t len)
{
    uint32_t more = 0;
    if (at[0] & 15)
        return 1 + (size_t)(at[0] & 15);
    size_t bytes = read_number(at + 1, len - 1, &more);
    return bytes == 0 ? 0 : 1 + 15 + (size_t)more;
}

enum kr_mariadb_mtr_state kr_mariadb_redo_mtr(const struct kr_mariadb_redo *redo, uint64_t size,
                                              uint64_t lsn, const uint8_t *bytes, size_t len,
                                              size_t *ret_len)
{
    size_t at = 0, tail = 1 + (redo->encrypted ? NONCE_BYTES : 0) + CRC_BYTES;
    if (len == 0)
        return KR_MARIADB_MTR_SHORT;
    if (bytes[0] <= 1)
        return KR_MARIADB_MTR_END;
    while (at < len && bytes[at] > 1) {
        size_t record = record_length(bytes + at, len - at);
        if (record == 0 && len - at >= 6)
            return KR_MARIADB_MTR_END;
        if (record == 0)
            return KR_MARIADB_MTR_SHORT;
        at += record;
        if (at > KR_MARIADB_REDO_MTR_MAX - tail)
            return KR_MARIADB_MTR_END;
    }
    if (at + tail > len)
        return KR_MARIADB_MTR_SHORT;
    if (bytes[at] != lap_byte(redo, size, lsn + at))
        return KR_MARIADB_MTR_END;
    uint32_t crc = kr_crc32c(kr_crc32c(0, bytes, at), bytes + at + 1, tail - 1 - CRC_BYTES);
    *ret_len = at + tail;
    return crc == get4(bytes + at + tail - CRC_BYTES) ? KR_MARIADB_MTR_SOUND
                                                      : KR_MARIADB_MTR_DAMAGED;
}

bool kr_mariadb_redo_is_checkpoint(const struct kr_mariadb_redo *redo, uint64_t lsn, size_t len)
{
    /* type and length, tablespace, page, LSN; the end's byte, nonce, CRC */
    size_t record = 1 + 1 + 1 + 8, tail = 1 + (redo->encrypted ? NONCE_BYTES : 0) + CRC_BYTES;
    return lsn == redo->checkpoint && redo->end == redo->checkpoint && len == record + tail;
}
