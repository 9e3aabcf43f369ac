/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the headers of MySQL's files seal. */
#include "files/mysql_keys.h"

#include <string.h>

#include "base/secret.h"
#include "hwaccel/crc32c.h"

static enum kr_status fail_header(const char *path, const struct kr_mysql_info *info,
                                  struct kr_error *err)
{
    if (info->state == KR_MYSQL_INFO_TOO_OLD)
        return kr_fail(err, KR_INTEGRITY,
                       "%s was encrypted by MySQL 5.7.11, whose encryption headers are not known",
                       path);
    if (info->state == KR_MYSQL_INFO_NONE)
        return kr_fail(err, KR_INTEGRITY, "%s has no encryption header", path);
    return kr_fail(err, KR_INTEGRITY, "the encryption header of %s is damaged", path);
}

/* CLONE seals the key of the redo log in the first file of the log alone: in the others it stands
 * as it is. */
static enum kr_status open_default(const struct kr_mysql_info *info, uint8_t *ret,
                                   struct kr_error *err)
{
    uint8_t key[KR_MYSQL_KEY_BYTES];
    if (kr_mysql_info_opened(info, info->sealed)) {
        memcpy(ret, info->sealed, KR_MYSQL_SEALED_BYTES);
        return KR_OK;
    }
    kr_mysql_default_master(key);
    if (!kr_mysql_unseal_by(key, info->sealed, ret))
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to decrypt an encryption header");
    return KR_OK;
}

enum kr_status kr_mysql_unseal(struct kr_file_keys *keys, const char *path,
                               const struct kr_mysql_info *info, uint8_t ret[KR_MYSQL_SEALED_BYTES],
                               struct kr_error *err)
{
    char master[KR_MYSQL_KEY_NAME_MAX];
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    if (!opened)
        return kr_fail_secret(err);
    if (info->state != KR_MYSQL_INFO_SEALED)
        return fail_header(path, info, err);
    kr_mysql_info_master(info, master);
    if (*master)
        KR_TRY(kr_file_keys_mysql(keys, master, KR_FILE_KEY_DECRYPT, NULL, info->sealed,
                                  KR_MYSQL_SEALED_BYTES, opened, err));
    else
        KR_TRY(open_default(info, opened, err));
    if (!kr_mysql_info_opened(info, opened)) {
        kr_fail(err, KR_INTEGRITY, "the encryption header of %s does not open with %s", path,
                *master ? master : "MySQL's built-in key");
        kr_hint(err, "the header is damaged, or the keyring is not the one of this server");
        return err->status;
    }
    memcpy(ret, opened, KR_MYSQL_SEALED_BYTES);
    return KR_OK;
}

enum kr_status kr_mysql_seal(struct kr_file_keys *keys, const char *path,
                             const uint8_t opened[KR_MYSQL_SEALED_BYTES],
                             struct kr_mysql_info *info, struct kr_error *err)
{
    char master[KR_MYSQL_KEY_NAME_MAX];
    KR_SECRET uint8_t *again = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    if (!again)
        return kr_fail_secret(err);
    kr_mysql_info_master(info, master);
    if (!*master)
        return kr_fail(err, KR_REFUSED, "the key of %s is sealed by MySQL's built-in key", path);
    info->crc = kr_crc32c(0, opened, KR_MYSQL_SEALED_BYTES);
    KR_TRY(kr_file_keys_mysql(keys, master, KR_FILE_KEY_ENCRYPT, NULL, opened,
                              KR_MYSQL_SEALED_BYTES, info->sealed, err));
    KR_TRY(kr_mysql_unseal(keys, path, info, again, err));
    if (memcmp(again, opened, KR_MYSQL_SEALED_BYTES) != 0)
        return kr_fail(err, KR_INTERNAL, "what %s sealed is another key when it is opened", master);
    return KR_OK;
}

static enum kr_status open_password(struct kr_file_keys *keys, const char *path,
                                    const struct kr_mysql_binlog_head *head, uint8_t *ret,
                                    struct kr_error *err)
{
    enum kr_status status = kr_file_keys_mysql(keys, head->master, KR_FILE_KEY_DECRYPT, head->iv,
                                               head->sealed, KR_MYSQL_PASSWORD_BYTES, ret, err);
    if (status != KR_OK)
        kr_error_context(err, "%s", path);
    return status;
}

static enum kr_status derive(const char *path, const uint8_t *password,
                             struct kr_mysql_binlog_key *ret, struct kr_error *err)
{
    if (!kr_mysql_binlog_derive(password, ret))
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to derive a key for %s", path);
    return KR_OK;
}

enum kr_status kr_mysql_open_binlog(struct kr_file_keys *keys, const char *path,
                                    const struct kr_mysql_binlog_head *head,
                                    struct kr_mysql_binlog_key *ret, struct kr_error *err)
{
    KR_SECRET uint8_t *password = kr_secret_alloc(KR_MYSQL_PASSWORD_BYTES);
    if (!password)
        return kr_fail_secret(err);
    KR_TRY(open_password(keys, path, head, password, err));
    return derive(path, password, ret, err);
}

/* A sealed password has nothing to tell a right opening from a wrong one: the log's first bytes
 * have, which are those of every binary log. */
enum kr_status kr_mysql_unseal_password(struct kr_file_keys *keys, const struct kr_file *file,
                                        const struct kr_mysql_binlog_head *head,
                                        uint8_t ret[KR_MYSQL_PASSWORD_BYTES], struct kr_error *err)
{
    static const uint8_t magic[4] = {0xfe, 'b', 'i', 'n'};
    uint8_t start[4];
    KR_SECRET uint8_t *password = kr_secret_alloc(KR_MYSQL_PASSWORD_BYTES);
    KR_SECRET struct kr_mysql_binlog_key *key = kr_secret_alloc(sizeof(*key));
    if (!password || !key)
        return kr_fail_secret(err);
    KR_TRY(open_password(keys, file->path, head, password, err));
    KR_TRY(derive(file->path, password, key, err));
    if (file->head_len < KR_MYSQL_BINLOG_HEAD + sizeof(start) ||
        !kr_mysql_binlog_start(key, file->head + KR_MYSQL_BINLOG_HEAD, start) ||
        memcmp(start, magic, sizeof(magic)) != 0)
        return kr_fail(err, KR_INTEGRITY, "%s does not open with %s: see p11keyring verify",
                       file->path, head->master);
    memcpy(ret, password, KR_MYSQL_PASSWORD_BYTES);
    return KR_OK;
}

enum kr_status kr_mysql_info_report(const struct kr_mysql_info *info, uint64_t units,
                                    struct kr_file_report *report, struct kr_error *err)
{
    char master[KR_MYSQL_KEY_NAME_MAX];
    switch (info->state) {
    case KR_MYSQL_INFO_SEALED:
        kr_mysql_info_master(info, master);
        if (*master)
            return kr_file_report_need(report, master, 0, 0, units, err);
        return kr_file_report_note(report, err, "its key %s",
                                   kr_mysql_info_opened(info, info->sealed)
                                       ? "stands in the clear: CLONE leaves it so"
                                       : "is sealed by MySQL's built-in key: no secret");
    case KR_MYSQL_INFO_TOO_OLD:
        return kr_file_report_note(report, err,
                                   "its encryption header is MySQL 5.7.11's, which is not read");
    case KR_MYSQL_INFO_DAMAGED:
        report->damaged = true;
        return kr_file_report_note(report, err, "its encryption header is damaged");
    default:
        return KR_OK;
    }
}
