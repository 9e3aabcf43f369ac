/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Sealing the keys of files anew, by the kind of file. */
#include "files/reseal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "files/journal.h"
#include "files/mysql_reseal.h"
#include "files/replace.h"
#include "files/verify.h"
#include "formats/mysql_binlog.h"
#include "formats/mysql_info.h"

#define INNODB_KEY "INNODBKey-"

/* For a journal of what is there and what is to be. */
enum { JOURNAL_ROOM = 3 * KR_JOURNAL_BYTES_MAX };

bool kr_reseal_parse_innodb(const char *name, char ret_uuid[37], uint32_t *ret_number)
{
    const size_t start = sizeof(INNODB_KEY) - 1, number_at = start + KR_MYSQL_UUID_CHARS + 1;
    if (strlen(name) <= number_at || strncmp(name, INNODB_KEY, start) != 0 ||
        !kr_mysql_is_uuid(name + start) || name[number_at - 1] != '-')
        return false;
    char *end;
    unsigned long number = strtoul(name + number_at, &end, 10);
    if (name[number_at] < '1' || name[number_at] > '9' || *end || number > UINT32_MAX)
        return false;
    memcpy(ret_uuid, name + start, KR_MYSQL_UUID_CHARS);
    ret_uuid[KR_MYSQL_UUID_CHARS] = '\0';
    *ret_number = (uint32_t)number;
    return true;
}

bool kr_reseal_is_binlog_key(const char *name)
{
    return kr_mysql_binlog_is_key((const uint8_t *)name, strlen(name));
}

static kr_mysql_reseal function_of(enum kr_file_kind kind)
{
    switch (kind) {
    case KR_FILE_MYSQL_TABLESPACE:
        return kr_mysql_reseal_tablespace;
    case KR_FILE_MYSQL_REDO:
        return kr_mysql_reseal_redo;
    case KR_FILE_MYSQL_BINLOG_ENCRYPTED:
        return kr_mysql_reseal_binlog;
    default:
        return NULL;
    }
}

/* Written in place, a change reaches every name of the file: links are how some backups are made.
 */
static enum kr_status refuse_linked(const struct kr_file *file, struct kr_error *err)
{
    if (file->st.st_nlink == 1)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%s has another name (a hard link), which would change as well",
            file->path);
    kr_hint(err, "make a copy of it, and work on the copy");
    return err->status;
}

/* A file is locked before it is read: what its head says stays true. */
static enum kr_status claim(const struct kr_file *seen, struct kr_mysql_datadirs *datadirs,
                            int *ret_locked, struct kr_file *ret, struct kr_error *err)
{
    KR_TRY(refuse_linked(seen, err));
    KR_TRY(kr_mysql_datadirs_hold(datadirs, seen, err));
    KR_TRY(kr_journal_lock(seen, ret_locked, err));
    KR_TRY(kr_file_open(seen->path, seen->run, ret, err));
    if (ret->kind != seen->kind || ret->st.st_ino != seen->st.st_ino)
        return kr_fail(err, KR_REFUSED, "%s was changed meanwhile", seen->path);
    return KR_OK;
}

/* *ret_function NULL: it seals no key. */
static enum kr_status find(const char *path, const struct kr_file_run *run, struct kr_file *ret,
                           kr_mysql_reseal *ret_function, struct kr_error *err)
{
    *ret_function = NULL;
    if (kr_journal_is_name(path) || kr_replacement_is_name(path))
        return KR_OK;
    KR_TRY(kr_file_open(path, run, ret, err));
    kr_mysql_reseal function = function_of(ret->kind);
    if (function && kr_mysql_seals_a_key(ret))
        *ret_function = function;
    return KR_OK;
}

enum kr_status kr_file_reseal(const char *path, const struct kr_file_run *run,
                              const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                              struct kr_error *err)
{
    KR_FILE seen = {.fd = -1};
    KR_FILE file = {.fd = -1};
    KR_FD int writable = -1;
    kr_mysql_reseal function;
    *ret = KR_REKEY_LEFT;
    KR_TRY(find(path, run, &seen, &function, err));
    if (!function)
        return KR_OK;
    KR_TRY(claim(&seen, reseal->datadirs, &writable, &file, err));
    KR_TRY(function(&file, writable, reseal, ret, err));
    if (*ret != KR_REKEY_DONE || !reseal->dry_run)
        return KR_OK;
    KR_TRY(kr_replacement_check(path, JOURNAL_ROOM, err));
    return kr_file_require_verified(&file, err);
}

enum kr_status kr_file_reseal_check(const char *path, const struct kr_file_run *run,
                                    struct kr_mysql_datadirs *datadirs, bool *ret_seals,
                                    struct kr_error *err)
{
    KR_FILE seen = {.fd = -1};
    KR_FILE file = {.fd = -1};
    KR_FD int locked = -1;
    kr_mysql_reseal function;
    KR_TRY(find(path, run, &seen, &function, err));
    *ret_seals = function != NULL;
    if (!function)
        return KR_OK;
    KR_TRY(claim(&seen, datadirs, &locked, &file, err));
    return kr_file_require_verified(&file, err);
}
