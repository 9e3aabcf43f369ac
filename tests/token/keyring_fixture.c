/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A token fixture with a configuration, for tests of the keyring core. */
#include "keyring_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wrap/envelope.h"

void must(enum kr_status status, const struct kr_error *err)
{
    if (status != KR_OK)
        fail_msg("%s: %s (%s)", kr_status_name(status), err->text, err->hint);
}

static void write_token(FILE *file, const struct fixture *token, const char *name,
                        const char *module, const char *uri)
{
    fprintf(file, "[token:%s]\nmodule = %s\nuri = %s\npin-source = file:%s\n", name, module, uri,
            token->pin_file);
}

static void write_config(struct keyring_fixture *f, const char *two_behind)
{
    snprintf(f->config_path, sizeof(f->config_path), "%s/p11keyring.conf", f->token.dir);
    FILE *file = fopen(f->config_path, "w");
    assert_non_null(file);
    if (two_behind) {
        write_token(file, &f->token, "first", two_behind, "pkcs11:token=first");
        write_token(file, &f->token, "second", two_behind, "pkcs11:token=second");
    } else {
        write_token(file, &f->token, "test", f->token.module, f->token.uri);
    }
    fprintf(file,
            "[keyring]\nname = test\nkeystore = %s\nlock-timeout = 3000\npoll-interval = 100\n"
            "[pkcs11]\ntimeout = 3000\n",
            f->token.keystore);
    assert_int_equal(fclose(file), 0);
}

static void make_keyring(struct keyring_fixture *f, bool replace)
{
    struct kr_error err = KR_ERROR_INIT;
    must(kr_config_load(f->config_path, &f->config, &err), &err);
    struct kr_master_row masters[KR_TOKENS_MAX];
    size_t count;
    unsigned others;
    must(kr_keyring_create(f->config, NULL, replace, masters, &count, &others, &err), &err);
    assert_int_equal(count, f->config->token_count);
}

void keyring_fixture_up(struct keyring_fixture *f)
{
    fixture_up(&f->token, "keyring-test");
    write_config(f, NULL);
    make_keyring(f, false);
}

void keyring_fixture_up_two(struct keyring_fixture *f, const char *module)
{
    fixture_up(&f->token, "first");
    fixture_add_token(&f->token, "second");
    setenv("P11K_MOCK_MODULE", f->token.module, 1); /* where `module` is the mock */
    write_config(f, module);
    make_keyring(f, false);
}

void keyring_fixture_renew(struct keyring_fixture *f)
{
    unlink(f->token.keystore);
    kr_config_free(f->config);
    make_keyring(f, true);
}

void keyring_fixture_down(struct keyring_fixture *f)
{
    kr_config_free(f->config);
    fixture_down(&f->token);
}

struct kr_keyring *keyring_fixture_open(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    must(kr_keyring_open(f->config, &keyring, &err), &err);
    return keyring;
}

enum kr_status keyring_fixture_try_open(struct keyring_fixture *f, struct kr_keyring **ret,
                                        struct kr_error *err)
{
    enum kr_status status = kr_keyring_open(f->config, ret, err);
    for (int i = 0; i < 100 && (status == KR_TOKEN_UNAVAILABLE || status == KR_AUTH); i++) {
        usleep(50000);
        status = kr_keyring_open(f->config, ret, err);
    }
    return status;
}

static void unlock_manifest(struct kr_keystore *keystore, const struct kr_masters *masters)
{
    struct kr_error err = KR_ERROR_INIT;
    uint8_t *blob, *key;
    size_t blob_len, len;
    must(kr_keystore_get_manifest_envelope(keystore, &blob, &blob_len, &err), &err);
    struct kr_envelope_context context = {.keyring = "test",
                                          .uuid = kr_keystore_uuid(keystore),
                                          .ns = "manifest",
                                          .id = "key",
                                          .owner = "",
                                          .version = 1,
                                          .cipher = "hmac-sha256"};
    must(kr_envelope_open(masters, &context, blob, blob_len, &key, &len, &err), &err);
    must(kr_keystore_set_manifest_key(keystore, key, &err), &err);
    kr_secret_free(key);
    free(blob);
}

static void add_one(struct kr_keystore *keystore, const struct kr_masters *masters, const char *id,
                    const char *cipher, size_t len)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_version_row row = {.ns = KR_NS_MARIADB, .id = id, .owner = "", .cipher = cipher};
    must(kr_keystore_next_version(keystore, row.ns, id, "", 1, &row.version, &err), &err);
    uint8_t bytes[64], *blob; /* a sealing key and a data key */
    must(kr_token_random(masters->keys[0].tokens[0], bytes, sizeof(bytes), &err), &err);
    struct kr_envelope_context context = {.keyring = "test",
                                          .uuid = kr_keystore_uuid(keystore),
                                          .ns = KR_NS_MARIADB,
                                          .id = id,
                                          .owner = "",
                                          .version = row.version,
                                          .cipher = row.cipher};
    must(
        kr_envelope_seal(masters, &context, bytes, bytes + 32, len, &blob, &row.envelope_len, &err),
        &err);
    row.envelope = blob;
    must(kr_keystore_add_version(keystore, &row, &err), &err);
    free(blob);
}

static void add_versions(struct keyring_fixture *f, uint32_t id, unsigned count, const char *cipher,
                         size_t len)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin;
    struct kr_token *token = fixture_token(&f->token, NULL, &pin);
    struct kr_keystore_options options = {
        .path = f->token.keystore, .keyring = "test", .writable = true, .lock_timeout_ms = 3000};
    struct kr_keystore *keystore;
    must(kr_keystore_open(&options, &keystore, &err), &err);
    struct kr_master_row *rows;
    size_t row_count;
    must(kr_keystore_list_masters(keystore, &rows, &row_count, &err), &err);
    assert_int_equal(row_count, 1);
    struct kr_master_key key = {.id = rows[0].id,
                                .mechanism = rows[0].mechanism,
                                .current = true,
                                .tokens = {token},
                                .token_count = 1};
    const struct kr_masters masters = {.keys = &key, .count = 1};
    free(rows);
    unlock_manifest(keystore, &masters);
    must(kr_keystore_begin_write(keystore, &err), &err);
    char text[12];
    snprintf(text, sizeof(text), "%u", id);
    for (unsigned i = 0; i < count; i++)
        add_one(keystore, &masters, text, cipher, len);
    must(kr_keystore_commit(keystore, &err), &err);
    kr_keystore_close(keystore);
    kr_token_close(token);
    kr_pin_source_free(pin);
}

void keyring_fixture_add_versions(struct keyring_fixture *f, uint32_t id, unsigned count)
{
    add_versions(f, id, count, "aes-ctr", 32);
}

void keyring_fixture_add_version_of(struct keyring_fixture *f, uint32_t id, const char *cipher,
                                    size_t len)
{
    add_versions(f, id, 1, cipher, len);
}
