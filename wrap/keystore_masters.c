/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The rows of a keystore: master keys. */
#include <stdlib.h>
#include <string.h>

#include "wrap/keystore_internal.h"

/* Random GCM nonces under one key: NIST SP 800-38D, section 8.3. */
#define WRAPS_MAX INT64_C(4294967296)

enum kr_status kr_keystore_add_master(struct kr_keystore *keystore, const struct kr_master_row *row,
                                      struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    if (row->state == KR_MASTER_CURRENT)
        KR_TRY(kr_sql_run(&keystore->sql, NULL, err, "UPDATE masters SET state = ? WHERE token = ?",
                          "is", (int64_t)KR_MASTER_OLD, row->token));
    return kr_sql_run(&keystore->sql, NULL, err,
                      "INSERT INTO masters (id, label, token, state, mechanism, created, wraps) "
                      "VALUES (?, ?, ?, ?, ?, ?, ?)",
                      "bssiiii", row->id.bytes, (size_t)row->id.len, row->label, row->token,
                      (int64_t)row->state, (int64_t)row->mechanism, row->created,
                      (int64_t)row->wraps);
}

static enum kr_status read_master(const struct kr_keystore *keystore, sqlite3_stmt *statement,
                                  struct kr_master_row *ret, struct kr_error *err)
{
    int64_t state = 0, mechanism = 0, created = 0, wraps = 0;
    size_t len = 0;
    const uint8_t *id = kr_sql_blob(statement, 0, 1, KR_OBJECT_ID_MAX, &len);
    const char *label = kr_sql_text(statement, 1), *token = kr_sql_text(statement, 2);
    if (!id || !label || strlen(label) >= sizeof(ret->label) || !token ||
        strlen(token) >= sizeof(ret->token) ||
        !kr_sql_number(statement, 3, KR_MASTER_CURRENT, KR_MASTER_OLD, &state) ||
        !kr_sql_number(statement, 4, KR_WRAP_AES_GCM, KR_WRAP_RSA_SHA1, &mechanism) ||
        !kr_sql_number(statement, 5, INT64_MIN, INT64_MAX, &created) ||
        !kr_sql_number(statement, 6, 0, WRAPS_MAX, &wraps))
        return kr_sql_damaged(&keystore->sql, "a master key's row makes no sense", err);
    memset(ret, 0, sizeof(*ret));
    ret->id.len = (uint8_t)len;
    memcpy(ret->id.bytes, id, len);
    memcpy(ret->label, label, strlen(label));
    memcpy(ret->token, token, strlen(token));
    ret->state = (enum kr_master_state)state;
    ret->mechanism = (enum kr_wrap_mechanism)mechanism;
    ret->created = created;
    ret->wraps = (uint64_t)wraps;
    return KR_OK;
}

static enum kr_status read_masters(const struct kr_keystore *keystore, sqlite3_stmt *statement,
                                   struct kr_master_row *rows, size_t room, size_t *ret_count,
                                   struct kr_error *err)
{
    size_t count = 0;
    bool row = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    for (; row && count < room; count++) {
        KR_TRY(read_master(keystore, statement, &rows[count], err));
        KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    }
    *ret_count = count;
    return KR_OK;
}

enum kr_status kr_keystore_list_masters(struct kr_keystore *keystore, struct kr_master_row **ret,
                                        size_t *ret_count, struct kr_error *err)
{
    int64_t room = 0;
    size_t count = 0;
    KR_TRY(kr_sql_integer(&keystore->sql, "SELECT count(*) FROM masters", &room, err));
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err,
                          "SELECT id, label, token, state, mechanism, created, wraps FROM masters "
                          "ORDER BY created, label, id",
                          ""));
    struct kr_master_row *rows = calloc((size_t)room + 1, sizeof(*rows));
    if (!rows)
        return kr_fail_memory(err);
    enum kr_status status = read_masters(keystore, statement, rows, (size_t)room, &count, err);
    if (status != KR_OK) {
        free(rows);
        return status;
    }
    *ret = rows;
    *ret_count = count;
    return KR_OK;
}

static enum kr_status change_master(struct kr_keystore *keystore, const char *statement,
                                    const struct kr_object_id *master_id, struct kr_error *err)
{
    int changes = 0;
    KR_TRY(kr_keystore_need_write(keystore, err));
    KR_TRY(kr_sql_run(&keystore->sql, &changes, err, statement, "b", master_id->bytes,
                      (size_t)master_id->len));
    if (changes == 1)
        return KR_OK;
    return kr_fail(err, KR_NOT_FOUND, "the keystore %s does not name this master key",
                   keystore->path);
}

enum kr_status kr_keystore_remove_master(struct kr_keystore *keystore,
                                         const struct kr_object_id *master_id, struct kr_error *err)
{
    return change_master(keystore, "DELETE FROM masters WHERE id = ?", master_id, err);
}

enum kr_status kr_keystore_set_master_old(struct kr_keystore *keystore,
                                          const struct kr_object_id *master_id,
                                          struct kr_error *err)
{
    _Static_assert(KR_MASTER_OLD == 2, "as in the statement");
    return change_master(keystore, "UPDATE masters SET state = 2 WHERE id = ?", master_id, err);
}

enum kr_status kr_keystore_count_wrap(struct kr_keystore *keystore,
                                      const struct kr_object_id *master_id, struct kr_error *err)
{
    int changes = 0;
    KR_TRY(kr_keystore_need_write(keystore, err));
    KR_TRY(kr_sql_run(&keystore->sql, &changes, err,
                      "UPDATE masters SET wraps = wraps + 1 WHERE id = ? AND wraps < ?", "bi",
                      master_id->bytes, (size_t)master_id->len, WRAPS_MAX));
    if (changes == 1)
        return KR_OK;
    kr_fail(err, KR_REFUSED,
            "the master key has wrapped 2^32 keys, the limit for random nonces, or is not in the "
            "keystore %s",
            keystore->path);
    kr_hint(err,
            "its data keys stay usable; new ones need a new master key: p11keyring master rotate");
    return KR_REFUSED;
}
