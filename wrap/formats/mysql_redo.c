/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's redo log files. */
#include "formats/mysql_redo.h"

#include <ctype.h>
#include <string.h>

#include "base/bytes.h"
#include "hwaccel/crc32c.h"

enum {
    BLOCK = KR_MYSQL_REDO_BLOCK,
    START_LSN_AT = 8,
    CHECKPOINT_LSN_AT = 8, /* in blocks 1 and 3 */
    CREATOR_AT = 16,
    CREATOR_BYTES = 32,
    FLAGS_AT = 48,
    INFO_BLOCK = 2,
    INFO_AT = INFO_BLOCK * BLOCK + 48,
    CRC_AT = 508
};
enum { NUMBER_AT = 0, LENGTH_AT = 4 };
enum { FLAGS_OFF = 7, FLAG_FULL = 1 << 3, FORMAT_NUMBERED = 6, FORMAT_MAX = 63 };
#define BLOCK_ENCRYPTED 0x80
#define NUMBERS 0x40000000U /* a block's number begins anew behind so many */
#define FLUSH_BIT 0x80000000U

static bool crc_agrees(const uint8_t *block)
{
    return kr_crc32c(0, block, CRC_AT) == kr_get_number(block + CRC_AT, 4);
}

/* The block of the encryption header has no CRC: what else is in it must be zero. */
static bool info_block_is_sound(const uint8_t *head, const struct kr_mysql_info *info)
{
    const uint8_t *block = head + (size_t)INFO_BLOCK * BLOCK,
                  *end = head + INFO_AT + KR_MYSQL_INFO_BYTES;
    return info->state != KR_MYSQL_INFO_DAMAGED &&
           kr_is_zero(block, INFO_AT - INFO_BLOCK * BLOCK) &&
           kr_is_zero(end, (size_t)(block + BLOCK - end));
}

/* A file that has had no checkpoint has zeros for its two. */
static void check_head(const uint8_t *head, struct kr_mysql_redo *redo)
{
    for (int i = 0; i < 4; i++) {
        const uint8_t *block = head + (size_t)i * BLOCK;
        if (i == INFO_BLOCK)
            redo->bad[i] = !info_block_is_sound(head, &redo->info);
        else
            redo->bad[i] = !crc_agrees(block) && (i == 0 || !kr_is_zero(block, BLOCK));
    }
}

static uint64_t newest_checkpoint(const uint8_t *head, const struct kr_mysql_redo *redo)
{
    uint64_t newest = 0;
    for (int i = 1; i < 4; i += 2) {
        uint64_t lsn = kr_get_number(head + (size_t)i * BLOCK + CHECKPOINT_LSN_AT, 8);
        if (!redo->bad[i] && lsn > newest)
            newest = lsn;
    }
    return newest;
}

bool kr_mysql_redo_parse(const uint8_t head[KR_MYSQL_REDO_HEAD], struct kr_mysql_redo *ret)
{
    struct kr_mysql_redo redo = {.format = (uint32_t)kr_get_number(head, 4)};
    if (redo.format < 1 || redo.format > FORMAT_MAX)
        return false;
    memcpy(redo.creator, head + CREATOR_AT, CREATOR_BYTES);
    for (char *at = redo.creator; *at; at++) {
        if (!isprint((unsigned char)*at))
            *at = '?';
    }
    redo.start_lsn = kr_get_number(head + START_LSN_AT, 8);
    redo.numbered = redo.format >= FORMAT_NUMBERED;
    uint64_t flags = redo.numbered ? kr_get_number(head + FLAGS_AT, 4) : 0;
    redo.full = flags & FLAG_FULL;
    redo.off = flags & FLAGS_OFF;
    kr_mysql_info_parse(head + INFO_AT, &redo.info);
    check_head(head, &redo);
    redo.checkpoint = newest_checkpoint(head, &redo);
    *ret = redo;
    return true;
}

bool kr_mysql_redo_is_encrypted(const uint8_t block[KR_MYSQL_REDO_BLOCK])
{
    return block[LENGTH_AT] & BLOCK_ENCRYPTED;
}

size_t kr_mysql_redo_used(const uint8_t block[KR_MYSQL_REDO_BLOCK])
{
    return (size_t)kr_get_number(block + LENGTH_AT, 2) & 0x7fff;
}

void kr_mysql_redo_set_clear(uint8_t block[KR_MYSQL_REDO_BLOCK])
{
    block[LENGTH_AT] &= (uint8_t)~BLOCK_ENCRYPTED;
}

bool kr_mysql_redo_in_place(const struct kr_mysql_redo *redo, uint64_t index,
                            const uint8_t block[KR_MYSQL_REDO_BLOCK])
{
    uint64_t lsn_blocks = redo->start_lsn / BLOCK + (index - KR_MYSQL_REDO_HEAD / BLOCK);
    uint32_t number = (uint32_t)kr_get_number(block + NUMBER_AT, 4);
    return !redo->numbered || (number & ~FLUSH_BIT) == lsn_blocks % NUMBERS + 1;
}

enum kr_mysql_redo_state kr_mysql_redo_check(const struct kr_mysql_redo *redo, uint64_t index,
                                             const uint8_t block[KR_MYSQL_REDO_BLOCK])
{
    if (kr_is_zero(block, BLOCK))
        return redo->full ? KR_MYSQL_REDO_DAMAGED : KR_MYSQL_REDO_UNUSED;
    if (!crc_agrees(block))
        return KR_MYSQL_REDO_DAMAGED;
    if (kr_mysql_redo_in_place(redo, index, block))
        return KR_MYSQL_REDO_SOUND;
    return redo->full ? KR_MYSQL_REDO_DAMAGED : KR_MYSQL_REDO_UNUSED;
}

void kr_mysql_redo_clear_head(uint8_t head[KR_MYSQL_REDO_HEAD])
{
    memset(head + INFO_AT, 0, KR_MYSQL_INFO_BYTES);
}

void kr_mysql_redo_reseal(const struct kr_mysql_info *info, uint8_t head[KR_MYSQL_REDO_HEAD])
{
    kr_mysql_info_write(info, head + INFO_AT);
}
