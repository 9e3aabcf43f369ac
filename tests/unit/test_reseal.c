/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Headers that are sealed by another master key, when the keyring gives back something else than it
 * should: what was sealed is opened again and compared before a byte of the file changes.
 */
#include "files/reseal.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "formats/mysql_binlog.h"
#include "formats/mysql_tablespace.h"
#include "hwaccel/crc32c.h"
#include "scratch.h"

#define UUID "0c9d4c3e-1111-11ef-8000-000000000001"
#define OLD_INNODB "INNODBKey-" UUID "-1"
#define NEW_INNODB "INNODBKey-" UUID "-2"
#define OLD_BINLOG "MySQLReplicationKey_" UUID "_1"
#define NEW_BINLOG "MySQLReplicationKey_" UUID "_2"

enum { K16 = 16384, INFO_AT = 10390, PROGRESS_AT = INFO_AT + 123, LOG_BYTES = 1024 };

/* --- a keyring with faults ---------------------------------------------------------------------
 */

static enum fault {
    NONE,
    FLIPPED, /* one bit of what is sealed */
    NOTHING, /* what is sealed is what was given: in the clear */
    ANOTHER, /* rightly sealed, but other bytes */
    NO_ANSWER_TO_OPENING
} fault;
static bool sealed_once;

/* Under a key that its name gives, AES-256 without padding. */
static void cipher(const char *name, bool encrypt, const uint8_t *iv, const uint8_t *in, size_t len,
                   uint8_t *out)
{
    uint8_t key[32];
    int used = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_non_null(ctx);
    assert_int_equal(EVP_Digest(name, strlen(name), key, NULL, EVP_sha256(), NULL), 1);
    assert_int_equal(
        EVP_CipherInit_ex(ctx, iv ? EVP_aes_256_cbc() : EVP_aes_256_ecb(), NULL, key, iv, encrypt),
        1);
    assert_int_equal(EVP_CIPHER_CTX_set_padding(ctx, 0), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, out, &used, in, (int)len), 1);
    assert_int_equal(used, len);
    EVP_CIPHER_CTX_free(ctx);
}

enum kr_status __wrap_kr_file_keys_mysql(struct kr_file_keys *keys, const char *name,
                                         enum kr_file_key_use use, const uint8_t *iv,
                                         const uint8_t *in, size_t len, uint8_t *out,
                                         struct kr_error *err);

enum kr_status __wrap_kr_file_keys_mysql(struct kr_file_keys *keys, const char *name,
                                         enum kr_file_key_use use, const uint8_t *iv,
                                         const uint8_t *in, size_t len, uint8_t *out,
                                         struct kr_error *err)
{
    uint8_t other[64];
    (void)keys;
    if (use == KR_FILE_KEY_DECRYPT && sealed_once && fault == NO_ANSWER_TO_OPENING)
        return kr_fail(err, KR_TOKEN_UNAVAILABLE, "the token is away");
    memcpy(other, in, len);
    if (use == KR_FILE_KEY_ENCRYPT && fault == ANOTHER)
        other[len - 1] ^= 1;
    cipher(name, use == KR_FILE_KEY_ENCRYPT, iv, other, len, out);
    if (use == KR_FILE_KEY_DECRYPT)
        return KR_OK;
    sealed_once = true;
    if (fault == FLIPPED)
        out[20] ^= 1;
    if (fault == NOTHING)
        memcpy(out, in, len);
    return KR_OK;
}

/* --- files -------------------------------------------------------------------------------------
 */

static void make_tablespace(uint8_t page[K16], uint8_t progress)
{
    struct kr_mysql_space space;
    struct kr_mysql_info info = {.state = KR_MYSQL_INFO_SEALED, .master_id = 1};
    uint8_t opened[KR_MYSQL_SEALED_BYTES];
    memset(page, 0, K16);
    memset(opened, 0x37, sizeof(opened));
    strcpy(info.server_uuid, UUID);
    info.crc = kr_crc32c(0, opened, sizeof(opened));
    cipher(OLD_INNODB, true, NULL, opened, sizeof(opened), info.sealed);
    kr_put_number(page + 8, 90704, 4);
    kr_put_number(page + 12, 1, 4);
    kr_put_number(page + 24, 8, 2);
    kr_put_number(page + 34, 77, 4);
    kr_put_number(page + 38, 77, 4);
    kr_put_number(page + 46, 1, 4);
    kr_put_number(page + 54, 0x6021, 4);
    kr_mysql_info_write(&info, page + INFO_AT);
    page[PROGRESS_AT] = progress;
    assert_true(kr_mysql_space_parse(page, K16, &space));
    kr_mysql_space_reseal(&space, &info, page);
}

static void make_log(uint8_t log[LOG_BYTES])
{
    static const uint8_t magic[4] = {0xfe, 'b', 'i', 'n'};
    struct kr_mysql_binlog_head head = {.master = OLD_BINLOG};
    struct kr_mysql_binlog_key key;
    uint8_t password[KR_MYSQL_PASSWORD_BYTES];
    memset(log, 0, LOG_BYTES);
    memset(password, 0x41, sizeof(password));
    memset(head.iv, 0x42, sizeof(head.iv));
    cipher(OLD_BINLOG, true, head.iv, password, sizeof(password), head.sealed);
    kr_mysql_binlog_write(&head, log);
    assert_true(kr_mysql_binlog_derive(password, &key));
    assert_true(kr_mysql_binlog_start(&key, magic, log + KR_MYSQL_BINLOG_HEAD));
}

static void read_file(const char *path, uint8_t *ret, size_t len)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(ret, 1, len, file), len);
    fclose(file);
}

static enum kr_status reseal(const char *path, enum kr_rekey_result *ret, struct kr_error *err)
{
    struct kr_mysql_datadirs *datadirs = NULL;
    struct kr_file_keys *keys = NULL;
    atomic_bool stop = false;
    atomic_ullong done = 0;
    assert_int_equal(kr_mysql_datadirs_new(true, &datadirs, err), KR_OK);
    assert_int_equal(kr_file_keys_new(NULL, &keys, err), KR_OK);
    const struct kr_file_run run = {.keys = keys, .threads = 1, .stop = &stop, .done_bytes = &done};
    const struct kr_reseal wanted = {
        .datadirs = datadirs, .to = keys, .innodb_key = NEW_INNODB, .binlog_key = NEW_BINLOG};
    sealed_once = false;
    enum kr_status status = kr_file_reseal(path, &run, &wanted, ret, err);
    kr_file_keys_free(keys);
    kr_mysql_datadirs_free(datadirs);
    return status;
}

/* --- tests -------------------------------------------------------------------------------------
 */

/* With each fault the file stays as it is; without one it changes, so that the faults count. */
static void stays_with_each_fault(const char *name, const uint8_t *bytes, size_t len)
{
    uint8_t *seen = malloc(len);
    assert_non_null(seen);
    for (fault = NO_ANSWER_TO_OPENING;; fault--) {
        struct kr_error err = KR_ERROR_INIT;
        enum kr_rekey_result result;
        const char *path = scratch_write(name, bytes, len, 0600);
        enum kr_status status = reseal(path, &result, &err);
        read_file(path, seen, len);
        if (fault == NONE) {
            assert_int_equal(status, KR_OK);
            assert_int_equal(result, KR_REKEY_DONE);
            assert_memory_not_equal(seen, bytes, len);
            assert_int_equal(reseal(path, &result, &err), KR_OK);
            assert_int_equal(result, KR_REKEY_CURRENT);
            break;
        }
        if (status == KR_OK)
            fail_msg("%s, fault %d: taken", name, (int)fault);
        assert_memory_equal(seen, bytes, len);
    }
    free(seen);
}

static void a_tablespace_stays(void **state)
{
    (void)state;
    uint8_t *page = malloc(K16);
    assert_non_null(page);
    make_tablespace(page, 0);
    stays_with_each_fault("t.ibd", page, K16);
    free(page);
}

static void a_binary_log_stays(void **state)
{
    (void)state;
    uint8_t log[LOG_BYTES];
    make_log(log);
    stays_with_each_fault("binlog.000001", log, sizeof(log));
}

/* The server goes on with such a tablespace by its header. */
static void one_that_the_server_is_encrypting_is_refused(void **state)
{
    (void)state;
    uint8_t *page = malloc(K16), *seen = malloc(K16);
    assert_true(page && seen);
    for (uint8_t progress = 1; progress <= 2; progress++) {
        struct kr_error err = KR_ERROR_INIT;
        enum kr_rekey_result result;
        fault = NONE;
        make_tablespace(page, progress);
        const char *path = scratch_write("half.ibd", page, K16, 0600);
        assert_int_equal(reseal(path, &result, &err), KR_REFUSED);
        assert_error(&err, KR_REFUSED, "has not come to the end", "start the server with");
        read_file(path, seen, K16);
        assert_memory_equal(seen, page, K16);
    }
    free(page);
    free(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tablespace_stays),
        cmocka_unit_test(a_binary_log_stays),
        cmocka_unit_test(one_that_the_server_is_encrypting_is_refused),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
