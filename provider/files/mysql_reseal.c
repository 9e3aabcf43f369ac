/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Sealing the keys of MySQL's files anew. */
#include "files/mysql_reseal.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "files/mysql_keys.h"
#include "files/journal.h"
#include "formats/mysql_page.h"
#include "formats/mysql_redo.h"
#include "formats/mysql_tablespace.h"

/* Under the wanted master key, of the wanted keyring. */
static enum kr_status seal(const struct kr_file *file, const struct kr_reseal *reseal,
                           const uint8_t opened[KR_MYSQL_SEALED_BYTES], struct kr_mysql_info *info,
                           struct kr_error *err)
{
    (void)kr_reseal_parse_innodb(reseal->innodb_key, info->server_uuid, &info->master_id);
    return kr_mysql_seal(reseal->to, file->path, opened, info, err);
}

/* Whether the header is sealed by the wanted master key; whether that is of the wanted keyring is
 * what opening it says. */
static bool is_sealed_by(const struct kr_mysql_info *info, const struct kr_reseal *reseal,
                         const char *path, uint8_t *opened)
{
    char master[KR_MYSQL_KEY_NAME_MAX];
    struct kr_error ignored = KR_ERROR_INIT;
    kr_mysql_info_master(info, master);
    return strcmp(master, reseal->innodb_key) == 0 &&
           kr_mysql_unseal(reseal->to, path, info, opened, &ignored) == KR_OK;
}

bool kr_mysql_seals_a_key(const struct kr_file *file)
{
    struct kr_mysql_space space;
    struct kr_mysql_redo redo;
    if (file->kind == KR_FILE_MYSQL_TABLESPACE &&
        kr_mysql_space_parse(file->head, file->head_len, &space))
        return space.encrypted || space.info.state != KR_MYSQL_INFO_NONE;
    if (file->kind == KR_FILE_MYSQL_REDO && file->head_len >= KR_MYSQL_REDO_HEAD &&
        kr_mysql_redo_parse(file->head, &redo))
        return redo.info.state != KR_MYSQL_INFO_NONE;
    return true;
}

/* --- tablespaces ---------------------------------------------------------------------------------
 */

static enum kr_status parse(const struct kr_file *file, struct kr_mysql_space *space,
                            struct kr_error *err)
{
    if (!kr_mysql_space_parse(file->head, file->head_len, space) || space->unfinished)
        return kr_fail(err, KR_INTEGRITY,
                       "%s does not begin as a tablespace: see p11keyring verify", file->path);
    const struct kr_mysql_page_place place = {
        .space_id = space->space_id, .size = space->page_size, .zip = space->zip};
    if (kr_mysql_page_check(file->head, false, &place) > KR_MYSQL_PAGE_UNCHECKED)
        return kr_fail(err, KR_INTEGRITY, "page 0 of %s is damaged", file->path);
    return KR_OK;
}

enum kr_status kr_mysql_refuse_unsettled(const struct kr_file *file, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "the server has not come to the end of what it did to %s", file->path);
    kr_hint(err, "start the server with the keyring that it had, which goes on; then stop it");
    return err->status;
}

static enum kr_status reseal_space(const struct kr_file *file, int writable,
                                   const struct kr_mysql_space *space,
                                   const struct kr_reseal *reseal, const uint8_t *opened,
                                   struct kr_error *err)
{
    struct kr_mysql_info info = space->info;
    KR_TRY(seal(file, reseal, opened, &info, err));
    if (reseal->dry_run)
        return KR_OK;
    uint8_t *page = malloc(space->page_size);
    if (!page)
        return kr_fail_memory(err);
    memcpy(page, file->head, space->page_size);
    kr_mysql_space_reseal(space, &info, page);
    enum kr_status status =
        kr_journal_write(file->path, writable, 0, file->head, page, space->page_size, err);
    free(page);
    return status;
}

enum kr_status kr_mysql_reseal_tablespace(const struct kr_file *file, int writable,
                                          const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                                          struct kr_error *err)
{
    struct kr_mysql_space space;
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    if (!opened)
        return kr_fail_secret(err);
    KR_TRY(parse(file, &space, err));
    if (space.progress != KR_MYSQL_SETTLED)
        return kr_mysql_refuse_unsettled(file, err);
    *ret = KR_REKEY_CURRENT;
    if (is_sealed_by(&space.info, reseal, file->path, opened))
        return KR_OK;
    *ret = KR_REKEY_DONE;
    KR_TRY(kr_mysql_unseal(file->run->keys, file->path, &space.info, opened, err));
    return reseal_space(file, writable, &space, reseal, opened, err);
}

/* --- redo logs -----------------------------------------------------------------------------------
 */

/* A log keeps its key: it is of no use once the server has started. */
enum kr_status kr_mysql_reseal_redo(const struct kr_file *file, int writable,
                                    const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                                    struct kr_error *err)
{
    struct kr_mysql_redo redo;
    uint8_t head[KR_MYSQL_REDO_HEAD];
    enum { INFO_BLOCK_AT = 2 * KR_MYSQL_REDO_BLOCK };
    KR_SECRET uint8_t *opened = kr_secret_alloc(KR_MYSQL_SEALED_BYTES);
    if (!opened)
        return kr_fail_secret(err);
    *ret = KR_REKEY_LEFT;
    if (file->head_len < KR_MYSQL_REDO_HEAD || !kr_mysql_redo_parse(file->head, &redo) ||
        redo.info.state == KR_MYSQL_INFO_NONE)
        return KR_OK;
    *ret = KR_REKEY_CURRENT;
    if (is_sealed_by(&redo.info, reseal, file->path, opened))
        return KR_OK;
    *ret = KR_REKEY_DONE;
    KR_TRY(kr_mysql_unseal(file->run->keys, file->path, &redo.info, opened, err));
    KR_TRY(seal(file, reseal, opened, &redo.info, err));
    if (reseal->dry_run)
        return KR_OK;
    memcpy(head, file->head, sizeof(head));
    kr_mysql_redo_reseal(&redo.info, head);
    return kr_journal_write(file->path, writable, INFO_BLOCK_AT, file->head + INFO_BLOCK_AT,
                            head + INFO_BLOCK_AT, KR_MYSQL_REDO_BLOCK, err);
}

/* --- binary logs ---------------------------------------------------------------------------------
 */

/* What was sealed is opened again. */
static enum kr_status seal_password(const struct kr_file *file, const struct kr_reseal *reseal,
                                    const uint8_t *password, struct kr_mysql_binlog_head *head,
                                    struct kr_error *err)
{
    KR_SECRET uint8_t *again = kr_secret_alloc(KR_MYSQL_PASSWORD_BYTES);
    if (!again)
        return kr_fail_secret(err);
    memset(head->master, 0, sizeof(head->master));
    memcpy(head->master, reseal->binlog_key, strlen(reseal->binlog_key));
    if (RAND_bytes(head->iv, sizeof(head->iv)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL has no random numbers");
    KR_TRY(kr_file_keys_mysql(reseal->to, head->master, KR_FILE_KEY_ENCRYPT, head->iv, password,
                              KR_MYSQL_PASSWORD_BYTES, head->sealed, err));
    KR_TRY(kr_mysql_unseal_password(reseal->to, file, head, again, err));
    if (memcmp(again, password, KR_MYSQL_PASSWORD_BYTES) != 0)
        return kr_fail(err, KR_INTERNAL, "what %s sealed is another password when it is opened",
                       head->master);
    return KR_OK;
}

enum kr_status kr_mysql_reseal_binlog(const struct kr_file *file, int writable,
                                      const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                                      struct kr_error *err)
{
    struct kr_mysql_binlog_head head;
    struct kr_error ignored = KR_ERROR_INIT;
    uint8_t bytes[KR_MYSQL_BINLOG_HEAD];
    KR_SECRET uint8_t *password = kr_secret_alloc(KR_MYSQL_PASSWORD_BYTES);
    if (!password)
        return kr_fail_secret(err);
    *ret = KR_REKEY_LEFT;
    if (!reseal->binlog_key)
        return KR_OK;
    const char *problem = file->head_len < KR_MYSQL_BINLOG_HEAD
                              ? "it ends within its encryption header"
                              : kr_mysql_binlog_parse(file->head, &head);
    if (problem)
        return kr_fail(err, KR_INTEGRITY, "%s: %s", file->path, problem);
    *ret = KR_REKEY_CURRENT;
    if (strcmp(head.master, reseal->binlog_key) == 0 &&
        kr_mysql_unseal_password(reseal->to, file, &head, password, &ignored) == KR_OK)
        return KR_OK;
    *ret = KR_REKEY_DONE;
    KR_TRY(kr_mysql_unseal_password(file->run->keys, file, &head, password, err));
    KR_TRY(seal_password(file, reseal, password, &head, err));
    if (reseal->dry_run)
        return KR_OK;
    kr_mysql_binlog_write(&head, bytes);
    return kr_journal_write(file->path, writable, 0, file->head, bytes, sizeof(bytes), err);
}
