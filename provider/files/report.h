/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What is found out about one file, for a face to draw. A kind's functions (kinds.h) fill it.
 */
#ifndef P11K_FILES_REPORT_H
#define P11K_FILES_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "formats/file_kind.h"

/* Whether the keyring has a key; unknown without a keyring. */
enum kr_key_here { KR_KEY_UNKNOWN, KR_KEY_HERE, KR_KEY_MISSING };

/* One key that a file needs: of MySQL by its name in the keyring (`INNODBKey-UUID-N`), of MariaDB
 * by id and version; of a copy of our keystore a master key by its id in the token. */
struct kr_file_need {
    char name[96]; /* empty: MariaDB's */
    bool master;   /* the name is a master key's id, in hexadecimal digits */
    uint32_t id, version;
    uint64_t count; /* of the kind's units that need it, or 1 for the file as a whole */
    enum kr_key_here here;
};

/* Units are what the kind's `unit` says: pages, blocks, events. */
struct kr_file_units {
    uint64_t total, encrypted, plain, empty; /* the last three add up to the first when counted */
    uint64_t compressed;                     /* of those with something in them */
};

enum kr_file_encrypted {
    KR_ENCRYPTED_UNKNOWN, /* not told: an unknown kind, or too damaged */
    KR_ENCRYPTED_NO,
    KR_ENCRYPTED_PARTLY,
    KR_ENCRYPTED_YES
};

struct kr_file_report {
    enum kr_file_kind kind;
    uint64_t size;
    uint32_t page_size; /* 0: the kind has no pages */
    char format[96];    /* "full_crc32", "ROW_FORMAT=COMPRESSED 8K"; may be empty */
    enum kr_file_encrypted encrypted;
    struct kr_file_units units;
    char progress[96]; /* encryption or rotation under way; empty: none */
    struct kr_file_need *needs;
    size_t need_count;
    char **notes; /* what else a reader should know, one line each */
    size_t note_count;
    bool damaged;    /* not what its kind should be: a note says why */
    bool incomplete; /* not everything was looked at: a note says why */
};

void kr_file_report_free(struct kr_file_report *report);
#define KR_FILE_REPORT __attribute__((cleanup(kr_file_report_free))) struct kr_file_report

/* Counts `count` units that need a key; the same key is one entry. */
KR_MUST_USE enum kr_status kr_file_report_need(struct kr_file_report *report, const char *name,
                                               uint32_t id, uint32_t version, uint64_t count,
                                               struct kr_error *err);
/* The same for a master key. */
KR_MUST_USE enum kr_status kr_file_report_need_master(struct kr_file_report *report, const char *id,
                                                      uint64_t count, struct kr_error *err);
KR_MUST_USE enum kr_status kr_file_report_note(struct kr_file_report *report, struct kr_error *err,
                                               const char *fmt, ...) KR_PRINTF(3, 4);

/* Sets `encrypted` by the units that were counted. */
void kr_file_report_judge(struct kr_file_report *report);

#endif
