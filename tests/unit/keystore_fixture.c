/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A keystore for one test. */
#include "keystore_fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void store_must(enum kr_status status, const struct kr_error *err, const char *what, int line)
{
    if (status != KR_OK)
        fail_msg("line %d: %s: %s: %s", line, what, kr_status_name(status), err->text);
}

struct store store;

void store_up(struct store *s)
{
    strcpy(s->dir, "/tmp/p11k-store-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/keystore", s->dir);
    assert_int_equal(getrandom(s->uuid, sizeof(s->uuid), 0), sizeof(s->uuid));
    assert_int_equal(getrandom(s->manifest_key, sizeof(s->manifest_key), 0),
                     sizeof(s->manifest_key));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st, (void)type, (void)walk;
    return remove(path);
}

void store_down(struct store *s)
{
    nftw(s->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int store_setup(void **state)
{
    (void)state;
    store_up(&store);
    return 0;
}

int store_teardown(void **state)
{
    (void)state;
    store_down(&store);
    return 0;
}

struct kr_keystore_options store_options(const struct store *s, bool writable)
{
    return (struct kr_keystore_options){.path = s->path,
                                        .keyring = STORE_KEYRING,
                                        .writable = writable,
                                        .lock_timeout_ms = STORE_TIMEOUT_MS};
}

static enum kr_status fill_new(const struct store *s, struct kr_keystore *keystore,
                               struct kr_error *err)
{
    static const uint8_t envelope[] = "manifest envelope";
    const struct kr_master_row master = {.id = {.len = 2, .bytes = {0xa1, 0xb2}},
                                         .label = "p11keyring:test:1",
                                         .token = "test",
                                         .state = KR_MASTER_CURRENT,
                                         .mechanism = KR_WRAP_AES_GCM,
                                         .created = 1700000000};
    KR_TRY(kr_keystore_set_manifest_key(keystore, s->manifest_key, err));
    KR_TRY(kr_keystore_set_manifest_envelope(keystore, envelope, sizeof(envelope), err));
    return kr_keystore_add_master(keystore, &master, err);
}

enum kr_status store_create(const struct store *s, struct kr_keystore **ret, struct kr_error *err)
{
    struct kr_keystore_options options = store_options(s, true);
    struct kr_keystore *keystore = NULL;
    KR_TRY(kr_keystore_create(&options, s->uuid, &keystore, err));
    enum kr_status status = fill_new(s, keystore, err);
    if (status == KR_OK)
        *ret = keystore;
    else
        kr_keystore_close(keystore);
    return status;
}

void store_make(const struct store *s, unsigned keys, unsigned versions)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    MUST(store_create(s, &keystore, &err), &err);
    for (unsigned key = 1; key <= keys; key++) {
        char id[16];
        uint32_t version;
        snprintf(id, sizeof(id), "%u", key);
        for (unsigned i = 0; i < versions; i++)
            MUST(store_add_version(keystore, id, 1, &version, &err), &err);
    }
    MUST(kr_keystore_commit_new(keystore, &err), &err);
    kr_keystore_close(keystore);
}

enum kr_status store_try_open(const struct store *s, bool writable, struct kr_keystore **ret,
                              struct kr_error *err)
{
    struct kr_keystore_options options = store_options(s, writable);
    struct kr_keystore *keystore = NULL;
    KR_TRY(kr_keystore_open(&options, &keystore, err));
    enum kr_status status = kr_keystore_set_manifest_key(keystore, s->manifest_key, err);
    if (status == KR_OK)
        *ret = keystore;
    else
        kr_keystore_close(keystore);
    return status;
}

struct kr_keystore *store_open(const struct store *s, bool writable)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    MUST(store_try_open(s, writable, &keystore, &err), &err);
    return keystore;
}

enum kr_status store_add_version(struct kr_keystore *keystore, const char *id, uint32_t step,
                                 uint32_t *ret_version, struct kr_error *err)
{
    uint8_t envelope[180];
    struct kr_version_row row = {.ns = "mariadb",
                                 .id = id,
                                 .owner = "",
                                 .cipher = "aes-cbc",
                                 .created = 1700000000,
                                 .envelope = envelope,
                                 .envelope_len = sizeof(envelope)};
    if (getrandom(envelope, sizeof(envelope), 0) != sizeof(envelope))
        return kr_fail(err, KR_INTERNAL, "getrandom");
    KR_TRY(kr_keystore_next_version(keystore, row.ns, id, "", step, &row.version, err));
    KR_TRY(kr_keystore_add_version(keystore, &row, err));
    *ret_version = row.version;
    return KR_OK;
}

enum kr_status store_rotate(struct kr_keystore *keystore, const char *id, uint32_t step,
                            uint32_t *ret_version, struct kr_error *err)
{
    uint32_t version = 0;
    KR_TRY(kr_keystore_begin_write(keystore, err));
    enum kr_status status = store_add_version(keystore, id, step, &version, err);
    if (status == KR_OK)
        status = kr_keystore_commit(keystore, err);
    else
        kr_keystore_rollback(keystore);
    if (status == KR_OK)
        *ret_version = version;
    return status;
}

/* --- dump ------------------------------------------------------------------------------------ */

static void print_bytes(FILE *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fprintf(out, "%02x", bytes[i]);
}

static enum kr_status print_key(const struct kr_key_row *row, void *context, struct kr_error *err)
{
    (void)err;
    fprintf(context, "key %s/%s/%s %d %u %lld\n", row->ns, row->id, row->owner, row->disabled,
            row->high_water, (long long)row->created);
    return KR_OK;
}

static enum kr_status print_version(const struct kr_version_row *row, void *context,
                                    struct kr_error *err)
{
    (void)err;
    fprintf(context, "version %s/%s/%s %u %s %d %lld ", row->ns, row->id, row->owner, row->version,
            row->cipher, row->key_disabled, (long long)row->created);
    print_bytes(context, row->envelope, row->envelope_len);
    fputc('\n', context);
    return KR_OK;
}

static enum kr_status print_rows(struct kr_keystore *keystore, FILE *out, struct kr_error *err)
{
    KR_TRY(kr_keystore_verify(keystore, err));
    struct kr_master_row *masters = NULL;
    size_t count = 0;
    uint8_t *envelope = NULL;
    KR_TRY(kr_keystore_get_manifest_envelope(keystore, &envelope, &count, err));
    print_bytes(out, envelope, count);
    free(envelope);
    KR_TRY(kr_keystore_list_masters(keystore, &masters, &count, err));
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "\nmaster %s %s %d %d %lld %llu ", masters[i].label, masters[i].token,
                masters[i].state, masters[i].mechanism, (long long)masters[i].created,
                (unsigned long long)masters[i].wraps);
        print_bytes(out, masters[i].id.bytes, masters[i].id.len);
    }
    fputc('\n', out);
    free(masters);
    KR_TRY(kr_keystore_each_key(keystore, NULL, print_key, out, err));
    return kr_keystore_each_version(keystore, NULL, print_version, out, err);
}

enum kr_status store_dump(struct kr_keystore *keystore, char **ret, struct kr_error *err)
{
    char *text = NULL;
    size_t len = 0;
    KR_TRY(kr_keystore_begin_read(keystore, err));
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    enum kr_status status = print_rows(keystore, out, err);
    fclose(out);
    kr_keystore_rollback(keystore);
    if (status == KR_OK)
        *ret = text;
    else
        free(text);
    return status;
}

char *store_must_dump(struct kr_keystore *keystore)
{
    struct kr_error err = KR_ERROR_INIT;
    char *dump = NULL;
    MUST(store_dump(keystore, &dump, &err), &err);
    return dump;
}

/* --- files ----------------------------------------------------------------------------------- */

uint8_t *store_read_file(const char *path, size_t *ret_len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_len = (size_t)st.st_size;
    return bytes;
}

void store_write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

void store_edit(const struct store *s, const char *sql)
{
    sqlite3 *db = NULL;
    char *message = NULL;
    assert_int_equal(sqlite3_open(s->path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}
