/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Files of MySQL that hold keys in the clear: its own keyrings, and .cfp. */
#include "formats/mysql_keyring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "files/kinds.h"
#include "files/mysql_keys.h"
#include "formats/mysql_tablespace.h"
#include "formats/mysql_transfer.h"

/* --- keyrings ------------------------------------------------------------------------------------
 */

/* A key is at most 16 KiB. */
enum { KEYRING_BYTES_MAX = 16 * 1024 * 1024 };

struct count {
    unsigned innodb, binlog, other;
};

static void count_key(const struct kr_mysql_keyring_key *key, void *context)
{
    struct count *count = context;
    if (!key->owned && strncmp(key->id, "INNODBKey-", 10) == 0)
        count->innodb++;
    else if (!key->owned && strncmp(key->id, "MySQLReplicationKey_", 20) == 0)
        count->binlog++;
    else
        count->other++;
}

/* NULL, or what is wrong. */
static const char *parse_keyring(const struct kr_file *file, const uint8_t *bytes,
                                 struct count *count, bool *ret_digest)
{
    *ret_digest = false;
    if (file->kind == KR_FILE_MYSQL_KEYRING_JSON)
        return kr_mysql_keyring_json((const char *)bytes, (size_t)file->size, count_key, count);
    return kr_mysql_keyring_plugin(bytes, (size_t)file->size, count_key, count, ret_digest);
}

static enum kr_status read_keyring(const struct kr_file *file, struct count *count,
                                   const char **ret_problem, bool *ret_digest, struct kr_error *err)
{
    if (file->size > KEYRING_BYTES_MAX)
        return kr_fail(err, KR_REFUSED, "%s is too large for a keyring", file->path);
    KR_SECRET uint8_t *bytes = kr_secret_alloc((size_t)file->size);
    if (!bytes)
        return kr_fail_secret(err);
    KR_TRY(kr_file_read(file, 0, bytes, (size_t)file->size, err));
    *ret_problem = parse_keyring(file, bytes, count, ret_digest);
    return KR_OK;
}

static enum kr_status inspect_keyring(struct kr_file *file, struct kr_file_report *report,
                                      struct kr_error *err)
{
    struct count count = {0};
    const char *problem;
    bool digest;
    KR_TRY(read_keyring(file, &count, &problem, &digest, err));
    report->encrypted = KR_ENCRYPTED_NO;
    if (problem) {
        report->damaged = true;
        KR_TRY(kr_file_report_note(report, err, "%s", problem));
    }
    return kr_file_report_note(report, err,
                               "keys in the clear: %u of InnoDB, %u of binary logs, %u others",
                               count.innodb, count.binlog, count.other);
}

/* JSON has no checksum: that it can be read says little of the keys. */
static enum kr_status verify_keyring(struct kr_file *file, const struct kr_file_report *report,
                                     struct kr_file_check *check, struct kr_error *err)
{
    struct count count = {0};
    const char *problem;
    bool digest;
    (void)report;
    KR_TRY(read_keyring(file, &count, &problem, &digest, err));
    if (problem)
        kr_file_check_damage(check, 0, "%s", problem);
    else
        kr_file_check_count(check, digest, !digest, 0);
    return KR_OK;
}

const struct kr_file_kind_ops kr_mysql_keyring_json_ops = {
    .kind = KR_FILE_MYSQL_KEYRING_JSON,
    .unit = "file",
    .inspect = inspect_keyring,
    .verify = verify_keyring,
};

const struct kr_file_kind_ops kr_mysql_keyring_plugin_ops = {
    .kind = KR_FILE_MYSQL_KEYRING_PLUGIN,
    .unit = "file",
    .inspect = inspect_keyring,
    .verify = verify_keyring,
};

/* --- .cfp ----------------------------------------------------------------------------------------
 */

static enum kr_status inspect_transfer(struct kr_file *file, struct kr_file_report *report,
                                       struct kr_error *err)
{
    const char *problem = kr_mysql_transfer_check(file->head, file->head_len);
    report->encrypted = KR_ENCRYPTED_NO;
    if (problem) {
        report->damaged = true;
        return kr_file_report_note(report, err, "%s", problem);
    }
    return kr_file_report_note(report, err,
                               "whoever can read it has the key of the exported tablespace");
}

/* Page 0 of the tablespace of the same name knows the checksum of what is in here. */
static bool tablespace_beside(const struct kr_file *file, struct kr_mysql_space *ret)
{
    KR_FILE ibd = {.fd = -1};
    struct kr_error ignored = KR_ERROR_INIT;
    const char *dot = strrchr(file->path, '.');
    char *path = NULL;
    if (!dot || asprintf(&path, "%.*s.ibd", (int)(dot - file->path), file->path) < 0)
        return false;
    bool found = kr_file_open(path, file->run, &ibd, &ignored) == KR_OK &&
                 kr_mysql_space_parse(ibd.head, ibd.head_len, ret) &&
                 ret->info.state == KR_MYSQL_INFO_SEALED;
    free(path);
    return found;
}

static enum kr_status verify_transfer(struct kr_file *file, const struct kr_file_report *report,
                                      struct kr_file_check *check, struct kr_error *err)
{
    struct kr_mysql_space space;
    const char *problem = kr_mysql_transfer_check(file->head, file->head_len);
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    (void)report;
    if (!opened)
        return kr_fail_secret(err);
    if (problem) {
        kr_file_check_damage(check, 0, "%s", problem);
        return KR_OK;
    }
    if (!tablespace_beside(file, &space)) {
        kr_file_check_count(check, 0, 1, 0);
        return KR_OK;
    }
    if (!kr_mysql_transfer_open(file->head, opened))
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to decrypt %s", file->path);
    if (kr_mysql_info_opened(&space.info, opened))
        kr_file_check_count(check, 1, 0, 0);
    else
        kr_file_check_damage(check, 0, "it does not have the key of the tablespace beside it");
    return KR_OK;
}

const struct kr_file_kind_ops kr_mysql_transfer_ops = {
    .kind = KR_FILE_MYSQL_TRANSFER,
    .unit = "file",
    .inspect = inspect_transfer,
    .verify = verify_transfer,
};
