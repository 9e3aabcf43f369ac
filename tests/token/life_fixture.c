/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A keyring behind the mock, with one token or more. */
#include "life_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

void life_must(enum kr_status status, const struct kr_error *err)
{
    if (status != KR_OK)
        fail_msg("%s: %s (%s)", kr_status_name(status), err->text, err->hint);
}

void life_configure(struct keyring_fixture *f, const char *tokens, unsigned sessions)
{
    struct kr_error err = KR_ERROR_INIT;
    char words[64], *rest = words;
    snprintf(words, sizeof(words), "%s", tokens);
    FILE *file = fopen(f->config_path, "w");
    assert_non_null(file);
    for (const char *word; (word = strsep(&rest, " "));)
        fprintf(file, "[token:%s]\nmodule = %s\nuri = pkcs11:token=%s\npin-source = file:%s\n",
                word, P11K_MOCK, word, f->token.pin_file);
    fprintf(file,
            "[keyring]\nname = test\nkeystore = %s\nlock-timeout = 30000\npoll-interval = 100\n"
            "[pkcs11]\ntimeout = 3000\nsessions = %u\n",
            f->token.keystore, sessions);
    assert_int_equal(fclose(file), 0);
    kr_config_free(f->config);
    f->config = NULL;
    life_must(kr_config_load(f->config_path, &f->config, &err), &err);
}

void life_up(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_row masters[KR_TOKENS_MAX];
    size_t count;
    unsigned others;
    memset(f, 0, sizeof(*f));
    fixture_up(&f->token, "one");
    fixture_add_token(&f->token, "two");
    fixture_add_token(&f->token, "three");
    mock_setup(f->token.dir);
    snprintf(f->config_path, sizeof(f->config_path), "%s/p11keyring.conf", f->token.dir);
    life_configure(f, "one", 4);
    life_must(kr_keyring_create(f->config, NULL, false, masters, &count, &others, &err), &err);
}

void life_down(struct keyring_fixture *f)
{
    keyring_fixture_down(f);
}

uint32_t life_create_key(struct kr_keyring *keyring, uint32_t id)
{
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version = 0;
    life_must(kr_keyring_create_key(keyring, id, KR_CIPHER_AES_CBC, NULL, 0, &version, &err), &err);
    return version;
}

uint64_t life_outdated(struct keyring_fixture *f)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = keyring_fixture_open(f);
    const struct kr_life_options options = {.dry_run = true};
    struct kr_life_result result;
    life_must(kr_keyring_sync(keyring, &options, &result, &err), &err);
    kr_keyring_close(keyring);
    return result.rewrapped;
}

/* FNV-1a */
uint64_t life_digest(struct keyring_fixture *f, uint32_t id)
{
    struct kr_keyring *keyring = keyring_fixture_open(f);
    uint64_t digest = 0xcbf29ce484222325;
    for (uint32_t version = 1; version <= kr_keyring_latest(keyring, id); version++) {
        const struct kr_data_key *key = kr_keyring_find(keyring, id, version);
        for (size_t i = 0; key && i < sizeof(key->bytes); i++)
            digest = (digest ^ key->bytes[i]) * 0x100000001b3;
    }
    kr_keyring_close(keyring);
    return digest;
}
