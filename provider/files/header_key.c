/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The master key that a file of MySQL names in its header. */
#include "files/header_key.h"

#include <string.h>

#include "files/file.h"
#include "formats/mysql_redo.h"
#include "formats/mysql_tablespace.h"

static void name_info(const struct kr_mysql_info *info, char ret[KR_MYSQL_BINLOG_NAME_MAX])
{
    if (info->state == KR_MYSQL_INFO_SEALED)
        kr_mysql_info_master(info, ret);
}

static void name_key(const struct kr_file *file, char ret[KR_MYSQL_BINLOG_NAME_MAX])
{
    struct kr_mysql_space space;
    struct kr_mysql_redo redo;
    struct kr_mysql_binlog_head binlog;
    if (file->kind == KR_FILE_MYSQL_REDO && file->head_len >= KR_MYSQL_REDO_HEAD &&
        kr_mysql_redo_parse(file->head, &redo))
        name_info(&redo.info, ret);
    if (file->kind == KR_FILE_MYSQL_TABLESPACE &&
        kr_mysql_space_parse(file->head, file->head_len, &space))
        name_info(&space.info, ret);
    if (file->kind == KR_FILE_MYSQL_BINLOG_ENCRYPTED && file->head_len >= KR_MYSQL_BINLOG_HEAD &&
        !kr_mysql_binlog_parse(file->head, &binlog))
        strcpy(ret, binlog.master);
}

enum kr_status kr_file_header_key(const char *path, char ret[KR_MYSQL_BINLOG_NAME_MAX],
                                  struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    static const struct kr_file_run run = {.threads = 1};
    KR_TRY(kr_file_open(path, &run, &file, err));
    *ret = '\0';
    name_key(&file, ret);
    return KR_OK;
}
