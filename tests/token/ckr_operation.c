/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What is done to a keyring while its token fails. */
#include "ckr_operation.h"

#include "check.h"
#include "provider/life.h"
#include "provider/secrets_import.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the keyring ------------------------------------------------------------------------------ */

enum kr_status scene_configure(struct scene *s, const char *module, unsigned timeout_ms,
                               struct kr_error *err)
{
    snprintf(s->config_path, sizeof(s->config_path), "%s/p11keyring.conf", s->token.dir);
    FILE *file = fopen(s->config_path, "we");
    if (!file)
        return kr_fail(err, KR_IO, "cannot write %s", s->config_path);
    fprintf(file,
            "[token:test]\nmodule = %s\nuri = %s\npin-source = file:%s\n"
            "[keyring]\nname = test\nkeystore = %s\nlock-timeout = 5000\n"
            "[pkcs11]\ntimeout = %u\n",
            module, s->token.uri, s->token.pin_file, s->token.keystore, timeout_ms);
    fclose(file);
    return kr_config_load(s->config_path, &s->config, err);
}

static enum kr_status create_keyring(struct scene *s, struct kr_error *err)
{
    struct kr_master_row rows[KR_TOKENS_MAX];
    size_t count;
    unsigned others;
    return kr_keyring_create(s->config, NULL, false, rows, &count, &others, err);
}

enum kr_status scene_make(struct scene *s, struct scene_keys *ret, struct kr_error *err)
{
    uint32_t version;
    KR_TRY(create_keyring(s, err));
    KR_TRY(kr_keyring_open(s->config, &s->keyring, err));
    KR_TRY(kr_keyring_create_key(s->keyring, SCENE_KEY, KR_CIPHER_AES_CBC, NULL, 0, &version, err));
    for (int i = 1; i < SCENE_VERSIONS; i++)
        KR_TRY(kr_keyring_rotate_key(s->keyring, SCENE_KEY, KR_CIPHER_AES_CTR, &version, err));
    for (uint32_t i = 0; i < SCENE_VERSIONS; i++)
        memcpy(ret->bytes[i], kr_keyring_find(s->keyring, SCENE_KEY, 1 + 2 * i)->bytes,
               sizeof(ret->bytes[i]));
    kr_keyring_close(s->keyring);
    s->keyring = NULL;
    return KR_OK;
}

enum kr_status scene_check_keys(const struct kr_keyring *keyring, const struct scene_keys *expected,
                                struct kr_error *err)
{
    for (uint32_t i = 0; i < SCENE_VERSIONS; i++) {
        const struct kr_data_key *key = kr_keyring_find(keyring, SCENE_KEY, 1 + 2 * i);
        if (!key || memcmp(key->bytes, expected->bytes[i], sizeof(expected->bytes[i])) != 0)
            return kr_fail(err, KR_INTEGRITY, "version %u is %s", 1 + 2 * i,
                           key ? "another key" : "not there");
    }
    return KR_OK;
}

/* --- copies of the keyring -------------------------------------------------------------------- */

static const char *copy_from, *copy_to;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void copy_file(const char *from, const char *to, mode_t mode)
{
    char buffer[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    ssize_t n;

    MUST(in >= 0 && out >= 0);
    while ((n = read(in, buffer, sizeof(buffer))) > 0)
        MUST(write(out, buffer, (size_t)n) == n);
    close(in);
    close(out);
}

static int copy_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    char to[800];

    (void)ftw;
    snprintf(to, sizeof(to), "%s%s", copy_to, path + strlen(copy_from));
    if (type == FTW_D)
        MUST(mkdir(to, 0700) == 0);
    else
        copy_file(path, to, st->st_mode & 0777);
    return 0;
}

static void write_softhsm_conf(const char *dir)
{
    char path[400];
    FILE *file;

    snprintf(path, sizeof(path), "%s/softhsm2.conf", dir);
    file = fopen(path, "we");
    if (file) {
        fprintf(file, "directories.tokendir = %s/tokens\nobjectstore.backend = file\n", dir);
        fclose(file);
    }
    setenv("SOFTHSM2_CONF", path, 1);
}

static void folder_of(const struct fixture *original, unsigned number, char *ret, size_t size)
{
    snprintf(ret, size, "%.200s.%u", original->dir, number);
}

void scene_remove(const struct fixture *original, unsigned number)
{
    char dir[256];

    folder_of(original, number, dir, sizeof(dir));
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void scene_renew(struct scene *s, const struct fixture *original, unsigned number)
{
    memset(s, 0, sizeof(*s));
    s->token = *original;
    folder_of(original, number, s->token.dir, sizeof(s->token.dir));
    snprintf(s->token.pin_file, sizeof(s->token.pin_file), "%s/pin", s->token.dir);
    snprintf(s->token.keystore, sizeof(s->token.keystore), "%s/keystore.db", s->token.dir);
    scene_remove(original, number);
    copy_from = original->dir;
    copy_to = s->token.dir;
    MUST(nftw(original->dir, copy_entry, 16, FTW_PHYS) == 0);
    write_softhsm_conf(s->token.dir);
    mock_setup(s->token.dir);
}

/* --- the operations --------------------------------------------------------------------------- */

static enum kr_status prepare_nothing(struct scene *s, struct kr_error *err)
{
    (void)s;
    (void)err;
    return KR_OK;
}

static enum kr_status prepare_open(struct scene *s, struct kr_error *err)
{
    return kr_keyring_open(s->config, &s->keyring, err);
}

/* The token fails while the keyring is closed, too. */
static enum kr_status run_open(struct scene *s, struct kr_error *err)
{
    KR_TRY(kr_keyring_open(s->config, &s->keyring, err));
    kr_keyring_close(s->keyring);
    s->keyring = NULL;
    return KR_OK;
}

/* An admin adds a version, which the server has to unwrap. */
static enum kr_status prepare_refresh(struct scene *s, struct kr_error *err)
{
    struct kr_keyring *admin = NULL;
    uint32_t version;
    KR_TRY(prepare_open(s, err));
    KR_TRY(kr_keyring_open(s->config, &admin, err));
    enum kr_status status =
        kr_keyring_rotate_key(admin, SCENE_KEY, KR_CIPHER_AES_CBC, &version, err);
    kr_keyring_close(admin);
    return status;
}

static enum kr_status run_refresh(struct scene *s, struct kr_error *err)
{
    KR_TRY(kr_keyring_refresh(s->keyring, err));
    if (kr_keyring_latest(s->keyring, SCENE_KEY) != 1 + 2 * SCENE_VERSIONS)
        return kr_fail(err, KR_INTERNAL, "refreshed, but the new version is not there");
    return KR_OK;
}

/* In the same token. */
enum kr_status scene_name_second(struct scene *s, struct kr_error *err)
{
    char path[400];
    snprintf(path, sizeof(path), "%s.second", s->token.keystore);
    KR_TRY(kr_config_override(s->config, "keyring", "name", "second", err));
    return kr_config_override(s->config, "keyring", "keystore", path, err);
}

static enum kr_status run_create_key(struct scene *s, struct kr_error *err)
{
    uint32_t version;
    return kr_keyring_create_key(s->keyring, 2, KR_CIPHER_AES_CBC, NULL, 0, &version, err);
}

static enum kr_status run_rotate_key(struct scene *s, struct kr_error *err)
{
    uint32_t version;
    return kr_keyring_rotate_key(s->keyring, SCENE_KEY, KR_CIPHER_AES_CTR, &version, err);
}

/* A token that has just failed is not asked for a while, and what waits for it is done later. */
static enum kr_status run_rotate_master(struct scene *s, struct kr_error *err)
{
    const struct kr_life_options options = {.token = NULL};
    struct kr_life_result result = {.waiting = 0};
    KR_TRY(kr_keyring_rotate_masters(s->keyring, &options, &result, err));
    for (int i = 0; s->serves && result.waiting > 0; i++) {
        if (i == 200)
            return kr_fail(err, KR_INTERNAL, "%lu envelopes still wait",
                           (unsigned long)result.waiting);
        usleep(50000);
        KR_TRY(kr_keyring_sync(s->keyring, &options, &result, err));
    }
    return KR_OK;
}

static enum kr_status prepare_retire(struct scene *s, struct kr_error *err)
{
    KR_TRY(prepare_open(s, err));
    s->serves = true;
    enum kr_status status = run_rotate_master(s, err);
    s->serves = false;
    return status;
}

static enum kr_status run_retire_master(struct scene *s, struct kr_error *err)
{
    const struct kr_life_options options = {.token = NULL};
    struct kr_retirement result;
    struct kr_master_row first;
    KR_TRY(kr_keyring_find_master(s->keyring, "p11keyring:test:1", NULL, &first, err));
    return kr_keyring_retire_master(s->keyring, &first.id, &options, &result, err);
}

/* What mysql_migrate_keyring does in token mode; by C_CreateObject, see test_imports.c for the
 * other way. */
static enum kr_status run_import(struct scene *s, struct kr_error *err)
{
    static const uint8_t bytes[32] = {1, 2, 3};
    const struct kr_secret_item items[] = {
        {"INNODBKey-00000000-0000-0000-0000-000000000000-1", "", "AES", bytes, 32},
        {"secret", "", "SECRET", bytes, 32}};
    struct kr_secrets *secrets = NULL;
    KR_TRY(kr_secrets_open(s->keyring, &secrets, err));
    enum kr_status status = kr_secrets_import(secrets, items, 2, true, err);
    kr_secrets_close(secrets);
    return status;
}

const struct operation operations[] = {
    {"open", prepare_nothing, run_open, KR_OK, 0, false},
    {"unwrap", prepare_refresh, run_refresh, KR_OK, 0, false},
    {"keyring create", scene_name_second, create_keyring, KR_REFUSED, 1, true},
    {"key create", prepare_open, run_create_key, KR_REFUSED, 0, false},
    {"key rotate", prepare_open, run_rotate_key, KR_OK, 0, false},
    {"master rotate", prepare_open, run_rotate_master, KR_OK, 2, false},
    {"master retire", prepare_retire, run_retire_master, KR_NOT_FOUND, 0, false},
    {"secret import", prepare_open, run_import, KR_REFUSED, 1, false},
    {0},
};
