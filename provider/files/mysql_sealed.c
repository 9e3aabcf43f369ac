/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The key that the head of one of MySQL's files seals. */
#include "files/mysql_sealed.h"

#include <string.h>

#include "formats/mysql_redo.h"
#include "formats/mysql_tablespace.h"

static enum kr_status fail_damaged(const struct kr_file *file, const char *why,
                                   struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "%s: %s", file->path, why);
    kr_hint(err, "p11keyring verify lists what is damaged");
    return err->status;
}

/* A header of another state than sealed has nothing that could be opened. */
static enum kr_status take_info(const struct kr_file *file, const struct kr_mysql_info *info,
                                struct kr_mysql_sealed *ret, bool *ret_found, struct kr_error *err)
{
    if (info->state == KR_MYSQL_INFO_NONE)
        return KR_OK;
    if (info->state != KR_MYSQL_INFO_SEALED)
        return fail_damaged(file, "its encryption header is damaged, or too old", err);
    ret->info = *info;
    ret->len = KR_MYSQL_SEALED_BYTES;
    memcpy(ret->bytes, info->sealed, ret->len);
    kr_mysql_info_master(info, ret->master);
    *ret_found = *ret->master != '\0';
    return KR_OK;
}

static enum kr_status find_in_space(const struct kr_file *file, struct kr_mysql_sealed *ret,
                                    bool *ret_found, struct kr_error *err)
{
    struct kr_mysql_space space;
    if (!kr_mysql_space_parse(file->head, file->head_len, &space))
        return fail_damaged(file, "it does not begin as a tablespace", err);
    if (space.encrypted && (space.unfinished || space.info.state == KR_MYSQL_INFO_NONE))
        return fail_damaged(file, "it is encrypted and has no encryption header", err);
    return take_info(file, &space.info, ret, ret_found, err);
}

static enum kr_status find_in_redo(const struct kr_file *file, struct kr_mysql_sealed *ret,
                                   bool *ret_found, struct kr_error *err)
{
    struct kr_mysql_redo redo;
    if (file->head_len < KR_MYSQL_REDO_HEAD || !kr_mysql_redo_parse(file->head, &redo))
        return fail_damaged(file, "it does not begin as a redo log", err);
    return take_info(file, &redo.info, ret, ret_found, err);
}

static enum kr_status find_in_binlog(const struct kr_file *file, struct kr_mysql_sealed *ret,
                                     bool *ret_found, struct kr_error *err)
{
    const char *problem = file->head_len < KR_MYSQL_BINLOG_HEAD
                              ? "it ends within its encryption header"
                              : kr_mysql_binlog_parse(file->head, &ret->head);
    if (problem)
        return fail_damaged(file, problem, err);
    ret->len = KR_MYSQL_PASSWORD_BYTES;
    memcpy(ret->bytes, ret->head.sealed, ret->len);
    memcpy(ret->master, ret->head.master, sizeof(ret->master));
    *ret_found = true;
    return KR_OK;
}

enum kr_status kr_mysql_sealed_find(const struct kr_file *file, struct kr_mysql_sealed *ret,
                                    bool *ret_found, struct kr_error *err)
{
    *ret_found = false;
    memset(ret, 0, sizeof(*ret));
    ret->kind = file->kind;
    switch (file->kind) {
    case KR_FILE_MYSQL_TABLESPACE:
        return find_in_space(file, ret, ret_found, err);
    case KR_FILE_MYSQL_REDO:
        return find_in_redo(file, ret, ret_found, err);
    case KR_FILE_MYSQL_BINLOG_ENCRYPTED:
        return find_in_binlog(file, ret, ret_found, err);
    default:
        return KR_OK;
    }
}

enum kr_status kr_mysql_sealed_open(const struct kr_mysql_sealed *sealed, struct kr_file_keys *keys,
                                    const struct kr_file *file, uint8_t *ret, struct kr_error *err)
{
    return sealed->kind == KR_FILE_MYSQL_BINLOG_ENCRYPTED
               ? kr_mysql_unseal_password(keys, file, &sealed->head, ret, err)
               : kr_mysql_unseal(keys, file->path, &sealed->info, ret, err);
}
