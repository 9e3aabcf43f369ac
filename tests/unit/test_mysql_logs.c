/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MySQL's logs and keyring files: real ones are understood, and any changed byte, or any end that
 * comes too early, is noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/bytes.h"
#include "formats/binlog_events.h"
#include "formats/mysql_binlog.h"
#include "formats/mysql_keyring.h"
#include "formats/mysql_redo.h"
#include "hwaccel/crc32c.h"
#include "mysql_vectors.h"

/* --- redo ----------------------------------------------------------------------------------------
 */

enum { BLOCK = KR_MYSQL_REDO_BLOCK, BLOCKS = 8, FLAG_FULL = 8 };
#define START_LSN UINT64_C(30820352)

static void put_crc(uint8_t *block)
{
    kr_put_number(block + 508, kr_crc32c(0, block, 508), 4);
}

static void make_redo(uint8_t log[BLOCKS * BLOCK], uint32_t flags)
{
    memset(log, 0, BLOCKS * BLOCK);
    kr_put_number(log, 6, 4);
    kr_put_number(log + 8, START_LSN, 8);
    memcpy(log + 16, "MySQL 9.7.4", 11);
    kr_put_number(log + 48, flags, 4);
    put_crc(log);
    memcpy(log + 1024 + 48, vector_info, sizeof(vector_info));
    for (uint64_t i = 4; i < BLOCKS; i++) {
        uint8_t *block = log + i * BLOCK;
        assert_int_equal(RAND_bytes(block, BLOCK), 1);
        kr_put_number(block, START_LSN / BLOCK + i - 4 + 1, 4);
        kr_put_number(block + 4, BLOCK, 2);
        put_crc(block);
    }
}

static bool redo_is_sound(const uint8_t *log)
{
    struct kr_mysql_redo redo;
    if (!kr_mysql_redo_parse(log, &redo) || redo.info.state != KR_MYSQL_INFO_SEALED ||
        memcmp(redo.info.sealed, vector_info + 43, 64) != 0 ||
        redo.info.crc != kr_get_number(vector_info + 107, 4))
        return false;
    bool sound = !redo.bad[0] && !redo.bad[1] && !redo.bad[2] && !redo.bad[3];
    for (uint64_t i = 4; i < BLOCKS; i++)
        sound = sound && kr_mysql_redo_check(&redo, i, log + i * BLOCK) == KR_MYSQL_REDO_SOUND;
    return sound;
}

/* The uuid and number of the master key are what they are: another key does not open the rest. */
static bool names_the_master_key(size_t at)
{
    return at >= 1024 + 48 + 3 && at < 1024 + 48 + 43;
}

static void any_changed_byte_of_a_redo_log(void **state)
{
    (void)state;
    uint8_t log[BLOCKS * BLOCK];
    make_redo(log, FLAG_FULL);
    assert_true(redo_is_sound(log));
    for (size_t i = 0; i < sizeof(log); i++) {
        log[i] ^= 0x20;
        if (!names_the_master_key(i) && redo_is_sound(log))
            fail_msg("byte %zu may be any", i);
        log[i] ^= 0x20;
    }
}

/* In the file that is being written to, blocks of its earlier use follow those of today. */
static void blocks_that_are_not_in_use(void **state)
{
    (void)state;
    struct kr_mysql_redo redo;
    uint8_t log[BLOCKS * BLOCK], *last = log + (BLOCKS - 1) * BLOCK;
    make_redo(log, 0);
    assert_true(kr_mysql_redo_parse(log, &redo));
    assert_string_equal(redo.creator, "MySQL 9.7.4");
    kr_put_number(last, 17, 4);
    put_crc(last);
    assert_int_equal(kr_mysql_redo_check(&redo, BLOCKS - 1, last), KR_MYSQL_REDO_UNUSED);
    redo.full = true;
    assert_int_equal(kr_mysql_redo_check(&redo, BLOCKS - 1, last), KR_MYSQL_REDO_DAMAGED);
    memset(last, 0, BLOCK);
    assert_int_equal(kr_mysql_redo_check(&redo, BLOCKS - 1, last), KR_MYSQL_REDO_DAMAGED);
    redo.full = false;
    assert_int_equal(kr_mysql_redo_check(&redo, BLOCKS - 1, last), KR_MYSQL_REDO_UNUSED);
}

/* --- binary logs ---------------------------------------------------------------------------------
 */

enum { BODY = sizeof(vector_binlog) - KR_MYSQL_BINLOG_HEAD };

static void crypt_with(const EVP_CIPHER *cipher, const uint8_t *key, const uint8_t *iv,
                       const uint8_t *in, size_t len, uint8_t *out)
{
    int done = 0;
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    assert_non_null(evp);
    assert_int_equal(EVP_DecryptInit_ex(evp, cipher, NULL, key, iv), 1);
    EVP_CIPHER_CTX_set_padding(evp, 0);
    assert_int_equal(EVP_DecryptUpdate(evp, out, &done, in, (int)len), 1);
    assert_int_equal((size_t)done, len);
    EVP_CIPHER_CTX_free(evp);
}

/* False when the head is refused or asks for another key. */
static bool open_log(const uint8_t *file, uint8_t body[BODY])
{
    struct kr_mysql_binlog_head head;
    struct kr_mysql_binlog_key key;
    uint8_t password[KR_MYSQL_PASSWORD_BYTES];
    if (kr_mysql_binlog_parse(file, &head) || strcmp(head.master, VECTOR_BINLOG_MASTER_NAME) != 0)
        return false;
    crypt_with(EVP_aes_256_cbc(), vector_binlog_master, head.iv, head.sealed, sizeof(password),
               password);
    assert_true(kr_mysql_binlog_derive(password, &key));
    crypt_with(EVP_aes_256_ctr(), key.key, key.iv, file + KR_MYSQL_BINLOG_HEAD, BODY, body);
    return true;
}

static void count_damage(const struct kr_binlog_event *event, enum kr_binlog_fault fault,
                         void *context)
{
    assert_string_not_equal(kr_binlog_fault_text(fault), "");
    assert_true(event->offset < BODY + 100);
    ++*(unsigned *)context;
}

/* How many damages there are when it is fed in pieces of `step`. */
static unsigned damages(const uint8_t *body, size_t len, size_t step, struct kr_binlog_check *ret)
{
    unsigned count = 0;
    kr_binlog_check_begin(ret, count_damage, &count);
    for (size_t at = 0; at < len; at += step)
        kr_binlog_check_feed(ret, body + at, len - at < step ? len - at : step);
    kr_binlog_check_end(ret);
    assert_int_equal(count, ret->damaged);
    return count;
}

static void a_real_binlog_opens(void **state)
{
    (void)state;
    struct kr_binlog_check check;
    struct kr_mysql_binlog_head head;
    uint8_t body[BODY], again[KR_MYSQL_BINLOG_HEAD];
    assert_true(open_log(vector_binlog, body));
    for (size_t step = 1; step <= BODY; step++) {
        assert_int_equal(damages(body, BODY, step, &check), 0);
        assert_int_equal(check.events, 3);
        assert_int_equal(check.unchecked, 0);
        assert_string_equal(check.server, "9.7.4-2");
        assert_false(check.in_use);
    }
    assert_null(kr_mysql_binlog_parse(vector_binlog, &head));
    kr_mysql_binlog_write(&head, again);
    assert_memory_equal(again, vector_binlog, sizeof(again));
}

static void any_changed_byte_of_a_binlog(void **state)
{
    (void)state;
    struct kr_binlog_check check;
    uint8_t file[sizeof(vector_binlog)], body[BODY];
    for (size_t i = 0; i < sizeof(file); i++) {
        memcpy(file, vector_binlog, sizeof(file));
        file[i] ^= 0x08;
        if (open_log(file, body) && damages(body, BODY, 100, &check) == 0)
            fail_msg("byte %zu may be any", i);
    }
}

/* Where an event ends the rest of the file is missing without a trace. */
static void any_early_end_of_a_binlog(void **state)
{
    (void)state;
    struct kr_binlog_check check;
    uint8_t body[BODY];
    assert_true(open_log(vector_binlog, body));
    for (size_t len = 0; len < BODY; len++) {
        unsigned found = damages(body, len, 100, &check);
        assert_int_equal(found > 0, len != 127 && len != 198);
    }
}

static void hostile_events(void **state)
{
    (void)state;
    struct kr_binlog_check check;
    uint8_t body[BODY], in_use[BODY];
    assert_true(open_log(vector_binlog, body));
    memcpy(in_use, body, BODY);
    in_use[4 + 17] |= 1; /* the crc of the first event does not know this flag */
    assert_int_equal(damages(in_use, BODY, 50, &check), 0);
    assert_true(check.in_use);
    static const uint32_t lengths[] = {0, 1, 18, 19, 22, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        memcpy(in_use, body, BODY);
        memcpy(in_use + 127 + 9, &lengths[i], 4);
        assert_int_equal(damages(in_use, BODY, 50, &check), 1);
    }
}

/* --- keyring files -------------------------------------------------------------------------------
 */

static void count_key(const struct kr_mysql_keyring_key *key, void *context)
{
    uint8_t bytes[512];
    assert_true(strlen(key->id) < sizeof(key->id) && key->bits / 8 <= sizeof(bytes));
    assert_true(kr_mysql_keyring_open(key, bytes));
    ++*(unsigned *)context;
}

static void check_key(const struct kr_mysql_keyring_key *key, void *context)
{
    uint8_t bytes[32], json[32] = "\x7a\x7c", plugin[32];
    memset(plugin, 0x5a, sizeof(plugin));
    count_key(key, context);
    assert_true(kr_mysql_keyring_open(key, bytes));
    assert_memory_equal(bytes, key->obfuscated ? plugin : json, key->bits / 8);
    assert_int_equal(strncmp(key->type.at, "AES", key->type.len), 0);
    assert_int_equal(strncmp(key->name.at, key->id, key->name.len), 0);
}

static void keyring_json(void **state)
{
    (void)state;
    static const char good[] =
        "{\"version\":\"1.0\",\"elements\":[{\"user\":\"\",\"data_id\":\"INNODBKey-1\","
        "\"data_type\":\"AES\",\"data\":\"7A7C\",\"extension\":[]},{\"user\":\"me\",\"data_id\":"
        "\"mine\",\"data_type\":\"AES\",\"data\":\"\",\"extension\":[]}]}";
    unsigned keys = 0;
    assert_null(kr_mysql_keyring_json(good, sizeof(good) - 1, check_key, &keys));
    assert_int_equal(keys, 2);
    for (size_t len = 0; len < sizeof(good) - 1; len++)
        assert_non_null(kr_mysql_keyring_json(good, len, count_key, &keys));
    assert_non_null(kr_mysql_keyring_json("{\"elements\":[7]}", 16, count_key, &keys));
    assert_non_null(kr_mysql_keyring_json("[]", 2, count_key, &keys));
}

static size_t put_plugin_key(uint8_t *at, const char *id, size_t data)
{
    uint64_t lengths[5] = {0, strlen(id), 3, 0, data}, sum = 40 + strlen(id) + 3 + data;
    lengths[0] = (sum + 7) / 8 * 8;
    memset(at, 0, lengths[0]);
    memcpy(at, lengths, 40);
    memcpy(at + 40, id, strlen(id));
    memcpy(at + 40 + strlen(id), "AES", 3);
    for (size_t i = 0; i < data; i++)
        at[40 + strlen(id) + 3 + i] = (uint8_t)("*305=Ljt0*!@$Hnm(*-9-w;:"[i % 24] ^ 0x5a);
    return lengths[0];
}

static void keyring_plugin(void **state)
{
    (void)state;
    static const char start[] = "Keyring file version:2.0";
    unsigned keys = 0;
    bool digest;
    uint8_t file[400], other[400];
    size_t len = sizeof(start) - 1;
    memcpy(file, start, len);
    len += put_plugin_key(file + len, "INNODBKey-1", 32);
    len += put_plugin_key(file + len, "INNODBKey-22", 32);
    memcpy(file + len, "EOF", 3);
    len += 3;
    assert_int_equal(EVP_Digest(file, len, file + len, NULL, EVP_sha256(), NULL), 1);
    len += 32;
    assert_null(kr_mysql_keyring_plugin(file, len, check_key, &keys, &digest));
    assert_int_equal(keys, 2);
    assert_true(digest);
    for (size_t i = 0; i < len; i++) {
        memcpy(other, file, len);
        other[i] ^= 2;
        assert_non_null(kr_mysql_keyring_plugin(other, len, count_key, &keys, &digest));
        assert_non_null(kr_mysql_keyring_plugin(file, i, count_key, &keys, &digest));
    }
    file[sizeof(start) - 4] = '1'; /* version 1.0, without a digest */
    assert_null(kr_mysql_keyring_plugin(file, len - 32, count_key, &keys, &digest));
    assert_false(digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_changed_byte_of_a_redo_log),
        cmocka_unit_test(blocks_that_are_not_in_use),
        cmocka_unit_test(a_real_binlog_opens),
        cmocka_unit_test(any_changed_byte_of_a_binlog),
        cmocka_unit_test(any_early_end_of_a_binlog),
        cmocka_unit_test(hostile_events),
        cmocka_unit_test(keyring_json),
        cmocka_unit_test(keyring_plugin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
