/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Page 0 of a MySQL tablespace: its sizes and flags, the encryption header, and how far an
 * encryption or decryption by the server has come (server source: include/fsp0fsp.h, fsp0types.h,
 * os0enc.h). Page 0 is never encrypted.
 */
#ifndef P11K_FORMATS_MYSQL_TABLESPACE_H
#define P11K_FORMATS_MYSQL_TABLESPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/mysql_info.h"

enum kr_mysql_progress { KR_MYSQL_SETTLED = 0, KR_MYSQL_ENCRYPTING = 1, KR_MYSQL_DECRYPTING = 2 };

struct kr_mysql_space {
    uint32_t space_id;
    uint32_t flags;
    uint32_t pages;          /* by its own account; the file may have more */
    uint32_t server_version; /* 90704: of the server that made it; 0 before 8.0 */
    size_t page_size;        /* of the pages in the file */
    size_t logical_size;     /* of the pages in memory: more with ROW_FORMAT=COMPRESSED */
    bool zip;                /* ROW_FORMAT=COMPRESSED */
    bool encrypted;          /* the flag */
    bool general, temporary; /* holds several tables; of a session or of the server's run */
    bool undo;
    bool unfinished; /* the server was making it: nothing but sizes and flags is there yet */
    size_t info_at;  /* offset of the encryption header in page 0 */
    struct kr_mysql_info info;
    enum kr_mysql_progress progress;
    uint32_t progress_page; /* the server has dealt with the pages below */
};

/* `len` of the first bytes of a file. False for what is no page 0 of a tablespace of MySQL; when
 * less than page 0 is there, too. */
bool kr_mysql_space_parse(const uint8_t *head, size_t len, struct kr_mysql_space *ret);

/* Turns page 0 into that of a tablespace that is not encrypted; its checksum is made anew. */
void kr_mysql_space_clear(const struct kr_mysql_space *space, uint8_t *page);

/* Puts another encryption header into page 0, and makes its checksum anew. */
void kr_mysql_space_reseal(const struct kr_mysql_space *space, const struct kr_mysql_info *info,
                           uint8_t *page);

#endif
