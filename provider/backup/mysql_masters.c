/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* New master keys for a data directory of MySQL. */
#include "backup/mysql_masters.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io.h"
#include "base/secret.h"
#include "files/output.h"
#include "files/reseal.h"
#include "provider/secrets.h"

#define BINLOG_STEM "MySQLReplicationKey_"
#define INNODB_STEM "INNODBKey-"
#define KEY_TYPE "AES"

enum { KEY_BYTES = 32, NUMBER_BYTES = 16, AUTO_CNF_MAX = 4096 };

bool kr_mysql_masters_are(const char *id, const char *owner)
{
    return !*owner && (strncmp(id, INNODB_STEM, sizeof(INNODB_STEM) - 1) == 0 ||
                       strncmp(id, BINLOG_STEM, sizeof(BINLOG_STEM) - 1) == 0);
}

/* --- which server ----------------------------------------------------------------------------- */

static enum kr_status make_uuid(struct kr_mysql_masters *ret, struct kr_error *err)
{
    uint8_t b[16];
    if (RAND_bytes(b, sizeof(b)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL has no random numbers");
    b[6] = (b[6] & 0x0f) | 0x40; /* version 4: random */
    b[8] = (b[8] & 0x3f) | 0x80;
    snprintf(ret->uuid, sizeof(ret->uuid),
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    ret->new_uuid = true;
    return KR_OK;
}

/* [auto] server-uuid=UUID, and nothing else that matters. */
static enum kr_status read_uuid(const char *path, char *text, struct kr_mysql_masters *ret,
                                struct kr_error *err)
{
    static const char option[] = "server-uuid";
    const char *at = strstr(text, option);
    if (at) {
        at += sizeof(option) - 1;
        at += strspn(at, " \t");
        at += *at == '=';
        at += strspn(at, " \t");
    }
    if (!at || strlen(at) < KR_MYSQL_UUID_CHARS || !kr_mysql_is_uuid(at)) {
        kr_fail(err, KR_INTEGRITY, "%s names no server-uuid", path);
        kr_hint(err, "remove it, then a new one is made");
        return err->status;
    }
    memcpy(ret->uuid, at, KR_MYSQL_UUID_CHARS);
    ret->uuid[KR_MYSQL_UUID_CHARS] = '\0';
    return KR_OK;
}

static enum kr_status server_of(const char *path, struct kr_mysql_masters *ret,
                                struct kr_error *err)
{
    char text[AUTO_CNF_MAX + 1];
    KR_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return make_uuid(ret, err);
    ssize_t len = fd < 0 ? -1 : kr_read_full(fd, text, AUTO_CNF_MAX);
    if (len < 0)
        return kr_fail(err, KR_IO, "cannot read %s: %s", path, strerror(errno));
    text[len] = '\0';
    return read_uuid(path, text, ret, err);
}

static char *auto_cnf(const char *dir)
{
    char *path = NULL;
    return asprintf(&path, "%s/auto.cnf", dir) < 0 ? NULL : path;
}

enum kr_status kr_mysql_masters_server(const char *dir, struct kr_mysql_masters *ret,
                                       struct kr_error *err)
{
    *ret = (struct kr_mysql_masters){.new_uuid = false};
    if (!dir)
        return make_uuid(ret, err);
    char *path = auto_cnf(dir);
    enum kr_status status = path ? server_of(path, ret, err) : kr_fail_memory(err);
    free(path);
    return status;
}

static enum kr_status write_auto_cnf(const struct kr_mysql_masters *masters, const char *dir,
                                     const char *path, struct kr_error *err)
{
    KR_OUTPUT output = {.fd = -1, .folder = -1};
    struct stat st;
    KR_TRY(kr_output_open(path, &output, err));
    if (dprintf(output.fd, "[auto]\nserver-uuid=%s\n", masters->uuid) < 0 ||
        fchmod(output.fd, S_IRUSR | S_IWUSR | S_IRGRP) != 0 || stat(dir, &st) != 0 ||
        (geteuid() == 0 && fchown(output.fd, st.st_uid, st.st_gid) != 0))
        return kr_fail(err, KR_IO, "cannot write %s: %s", path, strerror(errno));
    return kr_output_commit(&output, err);
}

enum kr_status kr_mysql_masters_name_server(const struct kr_mysql_masters *masters, const char *dir,
                                            struct kr_error *err)
{
    char *path = auto_cnf(dir);
    enum kr_status status = path ? write_auto_cnf(masters, dir, path, err) : kr_fail_memory(err);
    free(path);
    return status;
}

/* --- which numbers ---------------------------------------------------------------------------- */

/* The number behind "STEM-UUID-" or "STEM_UUID_"; 0 when the name is another server's. */
static uint32_t own_number(const struct kr_mysql_masters *masters, const char *name)
{
    char uuid[KR_MYSQL_UUID_CHARS + 1];
    uint32_t number = 0;
    if (kr_reseal_parse_innodb(name, uuid, &number))
        return strcasecmp(uuid, masters->uuid) == 0 ? number : 0;
    const char *at = name + sizeof(BINLOG_STEM) - 1;
    if (!kr_reseal_is_binlog_key(name) || strncasecmp(at, masters->uuid, KR_MYSQL_UUID_CHARS) != 0)
        return 0;
    unsigned long found = strtoul(at + KR_MYSQL_UUID_CHARS + 1, NULL, 10);
    return found < UINT32_MAX ? (uint32_t)found : 0;
}

static void see(struct kr_mysql_masters *masters, const char *name)
{
    uint32_t number = own_number(masters, name);
    uint32_t *highest =
        kr_reseal_is_binlog_key(name) ? &masters->binlog_number : &masters->innodb_number;
    if (number > *highest)
        *highest = number;
}

void kr_mysql_masters_see(struct kr_mysql_masters *masters, const struct kr_mysql_sealed *sealed)
{
    see(masters, sealed->master);
}

void kr_mysql_masters_see_sealed(struct kr_mysql_masters *masters,
                                 const struct kr_mysql_sealed *sealed)
{
    uint32_t number = own_number(masters, sealed->master);
    if (sealed->kind != KR_FILE_MYSQL_BINLOG_ENCRYPTED && number > masters->left_number)
        masters->left_number = number;
    see(masters, sealed->master);
}

static enum kr_status see_keyring(struct kr_mysql_masters *masters, struct kr_secrets *secrets,
                                  struct kr_error *err)
{
    struct kr_secret_name *names = NULL;
    size_t count = 0;
    KR_TRY(kr_secrets_names(secrets, &names, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (!*names[i].owner)
            see(masters, names[i].id);
    }
    kr_secret_names_free(names, count);
    return KR_OK;
}

/* The server's own record of its current key: the number, little-endian, and zeros. */
static enum kr_status current_binlog(const struct kr_mysql_masters *masters,
                                     struct kr_secrets *secrets, uint32_t *ret,
                                     struct kr_error *err)
{
    char name[KR_MYSQL_KEY_NAME_MAX];
    struct kr_secret secret = {0};
    struct kr_error ignored = KR_ERROR_INIT;
    *ret = 0;
    snprintf(name, sizeof(name), BINLOG_STEM "%s", masters->uuid);
    enum kr_status status = kr_secrets_fetch(secrets, name, "", &secret, &ignored);
    if (status == KR_NOT_FOUND)
        return KR_OK;
    if (status != KR_OK) {
        *err = ignored;
        return status;
    }
    for (size_t i = 0; secret.len == NUMBER_BYTES && i < sizeof(*ret); i++)
        *ret |= (uint32_t)secret.bytes[i] << (8 * i);
    kr_secret_free(secret.bytes);
    return KR_OK;
}

enum kr_status kr_mysql_masters_choose(struct kr_mysql_masters *masters, struct kr_file_keys *keys,
                                       bool innodb, bool binlog, struct kr_error *err)
{
    struct kr_secrets *secrets;
    uint32_t current;
    KR_TRY(kr_file_keys_secrets(keys, &secrets, err));
    KR_TRY(see_keyring(masters, secrets, err));
    KR_TRY(current_binlog(masters, secrets, &current, err));
    masters->make_innodb =
        innodb && (masters->left_number == 0 || masters->left_number < masters->innodb_number);
    masters->innodb_number += masters->make_innodb;
    masters->make_binlog = binlog && current == 0;
    masters->binlog_number = current ? current : masters->binlog_number + 1;
    if (innodb)
        snprintf(masters->innodb, sizeof(masters->innodb), INNODB_STEM "%s-%" PRIu32, masters->uuid,
                 masters->innodb_number);
    if (binlog)
        snprintf(masters->binlog, sizeof(masters->binlog), BINLOG_STEM "%s_%" PRIu32, masters->uuid,
                 masters->binlog_number);
    return KR_OK;
}

/* --- making them ------------------------------------------------------------------------------ */

static enum kr_status store_number(const struct kr_mysql_masters *masters,
                                   struct kr_secrets *secrets, const char *suffix, uint32_t number,
                                   struct kr_error *err)
{
    char name[KR_MYSQL_KEY_NAME_MAX];
    uint8_t bytes[NUMBER_BYTES] = {0};
    for (size_t i = 0; i < sizeof(number); i++)
        bytes[i] = (uint8_t)(number >> (8 * i));
    snprintf(name, sizeof(name), BINLOG_STEM "%s%s", masters->uuid, suffix);
    return kr_secrets_store(secrets, name, "", KEY_TYPE, bytes, sizeof(bytes), err);
}

/* The number comes last: only then the server takes the key for its own. */
static enum kr_status make_binlog(const struct kr_mysql_masters *masters,
                                  struct kr_secrets *secrets, bool resident, struct kr_error *err)
{
    static const char purged[] = "_last_purged";
    enum kr_secret_form form = resident ? KR_SECRET_TOKEN_CBC : KR_SECRET_WRAPPED;
    char name[KR_MYSQL_KEY_NAME_MAX];
    struct kr_error gone = KR_ERROR_INIT;
    snprintf(name, sizeof(name), BINLOG_STEM "%s%s", masters->uuid, purged);
    enum kr_status status = kr_secrets_remove(secrets, name, "", &gone);
    if (status != KR_OK && status != KR_NOT_FOUND) {
        *err = gone;
        return status;
    }
    KR_TRY(store_number(masters, secrets, purged, masters->binlog_number - 1, err));
    KR_TRY(kr_secrets_generate(secrets, masters->binlog, "", KEY_TYPE, form, KEY_BYTES, err));
    return store_number(masters, secrets, "", masters->binlog_number, err);
}

enum kr_status kr_mysql_masters_make(const struct kr_mysql_masters *masters,
                                     struct kr_file_keys *keys, bool resident, struct kr_error *err)
{
    struct kr_secrets *secrets;
    enum kr_secret_form form = resident ? KR_SECRET_TOKEN_ECB : KR_SECRET_WRAPPED;
    KR_TRY(kr_file_keys_secrets(keys, &secrets, err));
    if (masters->make_innodb)
        KR_TRY(kr_secrets_generate(secrets, masters->innodb, "", KEY_TYPE, form, KEY_BYTES, err));
    return masters->make_binlog ? make_binlog(masters, secrets, resident, err) : KR_OK;
}
