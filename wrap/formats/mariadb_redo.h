/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MariaDB's redo log since 10.8, one file of mini-transactions (server source: log/log0log.cc,
 * log/log0recv.cc, include/mtr0log.h, log/log0crypt.cc). Older formats are only told apart.
 *
 *   0 format, 4 | 4 | 8 first LSN, 8 | 16 creator, 32 | 48 key id, 4 | key version, 4 | 24 random
 *   508 CRC-32C of what is before
 *   4096 and 8192: checkpoint LSN, 8 | end LSN, 8 | zeros | at 60 CRC-32C of what is before
 *   12288 log, as a ring: byte of LSN n at 12288 + (n - first LSN) mod (size - 12288)
 *
 * A mini-transaction is a number of records, each with its length in front, then a byte 1 in the
 * ring's first lap, 0 in the second, and so on; when encrypted 8 bytes of nonce; CRC-32C of all of
 * that but the byte. Lengths are never encrypted. The log ends where no mini-transaction begins.
 */
#ifndef P11K_FORMATS_MARIADB_REDO_H
#define P11K_FORMATS_MARIADB_REDO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KR_MARIADB_REDO_START = 12288,      /* of the ring; what is before is the header */
    KR_MARIADB_REDO_MTR_MAX = 1U << 21, /* no mini-transaction is longer */
    KR_MARIADB_REDO_CREATOR = 33
};

struct kr_mariadb_redo {
    bool known;      /* the format since 10.8: all below; else only the next two */
    uint32_t format; /* as it stands in the file */
    char creator[KR_MARIADB_REDO_CREATOR];
    bool encrypted;
    bool sound; /* the header's checksum */
    uint32_t key_id, key_version;
    uint64_t first_lsn;
    int checkpoints;     /* that are sound: 0 to 2 */
    bool bad_checkpoint; /* one is neither sound nor unused yet */
    uint64_t checkpoint; /* the latest: what is before it is in the tablespaces */
    uint64_t end;        /* the log went on at least to here when it was made */
};

/* `head` is the file's first bytes, of which KR_MARIADB_REDO_START are looked at where there are as
 * many. False for what is no redo log of MariaDB. */
bool kr_mariadb_redo_parse(const uint8_t *head, size_t len, struct kr_mariadb_redo *ret);

/* Where the byte of an LSN (at least first_lsn) lies in a log of `size` bytes. */
uint64_t kr_mariadb_redo_offset(const struct kr_mariadb_redo *redo, uint64_t size, uint64_t lsn);

enum kr_mariadb_mtr_state {
    KR_MARIADB_MTR_SOUND,
    KR_MARIADB_MTR_END,    /* nothing begins here: zeros, or what an earlier lap left */
    KR_MARIADB_MTR_SHORT,  /* more bytes are needed to say */
    KR_MARIADB_MTR_DAMAGED /* it has the form of one of this lap and not its checksum */
};

/* The mini-transaction at `lsn`, whose bytes begin at `bytes`; *ret_len is set for a sound and for
 * a damaged one. */
enum kr_mariadb_mtr_state kr_mariadb_redo_mtr(const struct kr_mariadb_redo *redo, uint64_t size,
                                              uint64_t lsn, const uint8_t *bytes, size_t len,
                                              size_t *ret_len);

/* Whether a server that was shut down left the log so: after its last checkpoint there is nothing
 * but the checkpoint's own record, of `len` bytes, which begins at its end LSN. */
bool kr_mariadb_redo_is_checkpoint(const struct kr_mariadb_redo *redo, uint64_t lsn, size_t len);

#endif
