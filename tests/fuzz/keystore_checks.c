/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What must hold of any file that is taken for a keystore, and keystores to begin with. */
#include "keystore_checks.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wrap/envelope.h"
#include "wrap/keystore.h"

static char dir[] = "/dev/shm/p11k-fuzz-XXXXXX";
static char path[sizeof(dir) + 16];

void insist(bool sound)
{
    if (!sound)
        abort();
}

static void remove_files(void)
{
    static const char *const names[] = {"", "-journal", "-wal", "-shm"};
    char name[sizeof(path) + 16];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", path, names[i]);
        unlink(name);
    }
}

static void at_end(void)
{
    remove_files();
    rmdir(dir);
}

const char *keystore_path(void)
{
    if (path[0] == '\0') {
        insist(mkdtemp(dir) != NULL && atexit(at_end) == 0);
        snprintf(path, sizeof(path), "%s/keystore", dir);
    }
    remove_files();
    return path;
}

const char *keystore_write(const uint8_t *data, size_t size)
{
    keystore_path();
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    insist(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    return path;
}

static enum kr_status check_key(const struct kr_key_row *row, void *context, struct kr_error *err)
{
    (void)context, (void)err;
    insist(strlen(row->ns) + strlen(row->id) + strlen(row->owner) < 1000000);
    insist(row->high_water >= 1 && row->high_water <= KR_KEY_VERSION_MAX);
    return KR_OK;
}

static enum kr_status check_version(const struct kr_version_row *row, void *context,
                                    struct kr_error *err)
{
    struct kr_envelope_header header;
    (void)context;
    insist(row->version >= 1 && row->version <= KR_KEY_VERSION_MAX);
    insist(strlen(row->cipher) < 1000000);
    insist(row->envelope_len >= 1 && row->envelope_len <= KR_ENVELOPE_MAX);
    (void)!kr_envelope_parse(row->envelope, row->envelope_len, &header, err);
    return KR_OK;
}

/* Every refusal is one that an admin can act on. */
static bool sound(enum kr_status status, const struct kr_error *err)
{
    if (status == KR_OK)
        return true;
    if (status != KR_INTEGRITY && status != KR_IO)
        fprintf(stderr, "%s: %s\n", kr_status_name(status), err->text);
    insist(status == KR_INTEGRITY || status == KR_IO);
    insist(err->text[0] && err->hint[0]);
    return false;
}

static void check_masters(struct kr_keystore *keystore)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row *rows = NULL;
    size_t count = 0;
    if (!sound(kr_keystore_list_masters(keystore, &rows, &count, &err), &err))
        return;
    for (size_t i = 0; i < count; i++)
        insist(rows[i].id.len >= 1 && rows[i].id.len <= KR_OBJECT_ID_MAX &&
               memchr(rows[i].label, '\0', sizeof(rows[i].label)));
    free(rows);
}

static void check_rows(struct kr_keystore *keystore)
{
    struct kr_error err = KR_ERROR_INIT;
    uint8_t *envelope = NULL;
    size_t len = 0;
    check_masters(keystore);
    if (sound(kr_keystore_get_manifest_envelope(keystore, &envelope, &len, &err), &err))
        free(envelope);
    sound(kr_keystore_each_key(keystore, NULL, check_key, NULL, &err), &err);
    sound(kr_keystore_each_version(keystore, NULL, check_version, NULL, &err), &err);
}

/* The manifest key of the corpus is all zeros. */
static void check_write(struct kr_keystore *keystore)
{
    static const uint8_t key[KR_MANIFEST_KEY_BYTES];
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    insist(kr_keystore_set_manifest_key(keystore, key, &err) == KR_OK);
    bool verified = sound(kr_keystore_verify(keystore, &err), &err);
    enum kr_status status = kr_keystore_begin_write(keystore, &err);
    insist((status == KR_OK) == verified);
    if (!verified)
        return;
    insist(kr_keystore_next_version(keystore, "mariadb", "9", "", 1, &version, &err) == KR_OK);
    if (sound(kr_keystore_commit(keystore, &err), &err))
        insist(kr_keystore_verify(keystore, &err) == KR_OK);
}

void keystore_check(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    const struct kr_keystore_options options = {
        .path = path, .keyring = "test", .writable = true, .lock_timeout_ms = 10};
    if (sound(kr_keystore_open(&options, &keystore, &err), &err)) {
        check_rows(keystore);
        check_write(keystore);
    }
    kr_keystore_close(keystore);
}

/* --- seeds ------------------------------------------------------------------------------------ */

static void add_key(struct kr_keystore *keystore, const char *id)
{
    static const uint8_t envelope[200];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_version_row row = {.ns = "mariadb",
                                 .id = id,
                                 .owner = "",
                                 .cipher = "aes-cbc",
                                 .envelope = envelope,
                                 .envelope_len = sizeof(envelope)};
    insist(kr_keystore_next_version(keystore, row.ns, id, "", 1, &row.version, &err) == KR_OK);
    insist(kr_keystore_add_version(keystore, &row, &err) == KR_OK);
}

void keystore_make(const char *at, unsigned keys)
{
    static const uint8_t uuid[KR_KEYSTORE_UUID_BYTES], key[KR_MANIFEST_KEY_BYTES], blob[100];
    const struct kr_keystore_options options = {
        .path = at, .keyring = "test", .writable = true, .lock_timeout_ms = 10};
    const struct kr_master_row master = {.id = {.len = 16},
                                         .label = "p11keyring:test:1",
                                         .token = "hsm",
                                         .state = KR_MASTER_CURRENT,
                                         .mechanism = KR_WRAP_AES_GCM};
    struct kr_keystore *keystore = NULL;
    struct kr_error err = KR_ERROR_INIT;
    char id[12];
    insist(kr_keystore_create(&options, uuid, &keystore, &err) == KR_OK);
    insist(kr_keystore_set_manifest_key(keystore, key, &err) == KR_OK);
    insist(kr_keystore_add_master(keystore, &master, &err) == KR_OK);
    insist(kr_keystore_set_manifest_envelope(keystore, blob, sizeof(blob), &err) == KR_OK);
    for (unsigned i = 1; i <= keys; i++) {
        snprintf(id, sizeof(id), "%u", i);
        add_key(keystore, id);
    }
    insist(kr_keystore_commit_new(keystore, &err) == KR_OK);
    kr_keystore_close(keystore);
}

bool keystore_is_sound(const char *at)
{
    static const uint8_t key[KR_MANIFEST_KEY_BYTES];
    const struct kr_keystore_options options = {
        .path = at, .keyring = "test", .lock_timeout_ms = 10};
    struct kr_keystore *keystore = NULL;
    struct kr_error err = KR_ERROR_INIT;
    bool ret = kr_keystore_open(&options, &keystore, &err) == KR_OK &&
               kr_keystore_set_manifest_key(keystore, key, &err) == KR_OK &&
               kr_keystore_verify(keystore, &err) == KR_OK;
    if (!ret)
        fprintf(stderr, "%s: %s\n", at, err.text);
    kr_keystore_close(keystore);
    return ret;
}
