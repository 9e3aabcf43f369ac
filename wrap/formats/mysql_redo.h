/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MySQL's redo log files (#ib_redoN; ib_logfileN before 8.0.30): four blocks of head, then the log,
 * in blocks of 512 bytes (server source: include/log0constants.h, log0types.h).
 *
 *   head   0 format, 4 | 8 start LSN, 8 | 16 creator, 32 | 48 flags, 4 ... and at 1024 + 48 the
 *          encryption header (mysql_info.h); each block but that one ends with its CRC-32C
 *   block  0 number, 4 | 4 length, 2, its first bit: encrypted | 6 | 8 | 12 data ... | 508 CRC-32C
 *
 * The server writes the encryption header into some of its files only: where a checkpoint was. The
 * log has one key at a time, so another file of the same folder has what this one needs.
 */
#ifndef P11K_FORMATS_MYSQL_REDO_H
#define P11K_FORMATS_MYSQL_REDO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/mysql_info.h"

enum {
    KR_MYSQL_REDO_BLOCK = 512,
    KR_MYSQL_REDO_HEAD = 4 * KR_MYSQL_REDO_BLOCK,
    KR_MYSQL_REDO_CLEAR = 12 /* bytes of a block that are never encrypted */
};

struct kr_mysql_redo {
    uint32_t format; /* 6 since 8.0.30 */
    uint64_t start_lsn;
    char creator[33];    /* printable */
    bool full;           /* the log goes on in the next file: every block of this one is in use */
    bool off;            /* redo logging was turned off, or not begun: a kill loses data */
    bool numbered;       /* the blocks' numbers follow from the start LSN (format 6 and later) */
    uint64_t checkpoint; /* LSN of the newest checkpoint that this file knows; 0: none */
    struct kr_mysql_info info;
    bool bad[4]; /* blocks of the head that are damaged */
};

/* The first KR_MYSQL_REDO_HEAD bytes. False for what is no redo log of MySQL. */
bool kr_mysql_redo_parse(const uint8_t head[KR_MYSQL_REDO_HEAD], struct kr_mysql_redo *ret);

/* Whether block `index` of the file has the number that its place asks for: the log came so far. */
bool kr_mysql_redo_in_place(const struct kr_mysql_redo *redo, uint64_t index,
                            const uint8_t block[KR_MYSQL_REDO_BLOCK]);
/* How many bytes of the block are in use, its head included. */
size_t kr_mysql_redo_used(const uint8_t block[KR_MYSQL_REDO_BLOCK]);

bool kr_mysql_redo_is_encrypted(const uint8_t block[KR_MYSQL_REDO_BLOCK]);
/* Of a block whose data was decrypted: it is not encrypted any more. */
void kr_mysql_redo_set_clear(uint8_t block[KR_MYSQL_REDO_BLOCK]);

enum kr_mysql_redo_state {
    KR_MYSQL_REDO_UNUSED, /* zero, or of an earlier use of the file */
    KR_MYSQL_REDO_SOUND,
    KR_MYSQL_REDO_DAMAGED
};

/* A block in the clear, whose number in the file is `index`: 4 is the first behind the head. */
enum kr_mysql_redo_state kr_mysql_redo_check(const struct kr_mysql_redo *redo, uint64_t index,
                                             const uint8_t block[KR_MYSQL_REDO_BLOCK]);

/* The head of the same log in the clear: without the encryption header. */
void kr_mysql_redo_clear_head(uint8_t head[KR_MYSQL_REDO_HEAD]);

/* Puts another encryption header into the head. */
void kr_mysql_redo_reseal(const struct kr_mysql_info *info, uint8_t head[KR_MYSQL_REDO_HEAD]);

#endif
