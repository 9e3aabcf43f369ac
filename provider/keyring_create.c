/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keyring core: making a keyring. The keystore appears under its name as the last step, after
 * the master key was made, checked and proven; what fails before leaves nothing behind.
 */
#include "provider/keyring_internal.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct creation {
    const struct kr_config *config;
    const char *adopt_uri;
    struct kr_token *token;
    struct kr_keystore *keystore;
    uint8_t uuid[KR_KEYSTORE_UUID_BYTES];
    struct kr_master_row master;
    unsigned others;
    bool generated;
};

/* Number of a label "p11keyring:<keyring>:<n>", 0 for any other label. */
static unsigned long label_number(const char *label, const char *keyring)
{
    char prefix[96];
    int len = snprintf(prefix, sizeof(prefix), "p11keyring:%s:", keyring);
    if (strncmp(label, prefix, (size_t)len) != 0)
        return 0;
    char *end;
    unsigned long number = strtoul(label + len, &end, 10);
    return *end == '\0' ? number : 0;
}

/* Finds a free number for the new master key, and counts the ones of this keyring's name. */
static enum kr_status survey(struct creation *c, unsigned long *ret_next, struct kr_error *err)
{
    struct kr_master_info *found = NULL;
    size_t count = 0;
    KR_TRY(kr_master_list(c->token, &found, &count, err));
    unsigned long highest = 0;
    c->others = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned long number = label_number(found[i].label, c->config->keyring.name);
        if (number > highest)
            highest = number;
        if (number > 0 && !found[i].problem)
            c->others++;
    }
    free(found);
    *ret_next = highest + 1;
    return KR_OK;
}

/* The mechanism that the configuration wants, or the best that works, is proven in both cases. */
static enum kr_status get_master(struct creation *c, struct kr_error *err)
{
    unsigned long next;
    enum kr_wrap_mechanism wish;
    struct kr_master_info info;
    KR_TRY(kr_config_mechanism(c->config, &wish, err));
    KR_TRY(survey(c, &next, err));
    if (c->adopt_uri) {
        KR_TRY(kr_master_find_uri(c->token, c->adopt_uri, &info, err));
        if (label_number(info.label, c->config->keyring.name) > 0)
            c->others--;
    } else {
        char label[128];
        snprintf(label, sizeof(label), "p11keyring:%s:%lu", c->config->keyring.name, next);
        KR_TRY(kr_master_generate(c->token, label, wish, &info, err));
        c->generated = true;
    }
    c->master.id = info.id;
    memcpy(c->master.label, info.label, sizeof(c->master.label));
    c->master.state = KR_MASTER_CURRENT;
    c->master.created = (int64_t)time(NULL);
    return kr_master_prove(c->token, &info.id, wish, &c->master.mechanism, err);
}

static enum kr_status seal_manifest_key(struct creation *c, struct kr_error *err)
{
    KR_SECRET uint8_t *key = kr_secret_alloc(KR_MANIFEST_KEY_BYTES);
    if (!key)
        return kr_fail_memory(err);
    KR_TRY(kr_token_random(c->token, key, KR_MANIFEST_KEY_BYTES, err));
    KR_TRY(kr_keystore_set_manifest_key(c->keystore, key, err));
    KR_TRY(kr_keystore_count_wrap(c->keystore, &c->master.id, err));
    struct kr_envelope_context context = kr_manifest_context(c->config->keyring.name, c->uuid);
    uint8_t *blob = NULL;
    size_t len = 0;
    KR_TRY(kr_envelope_seal(c->token, &c->master.id, c->master.mechanism, &context, key,
                            KR_MANIFEST_KEY_BYTES, &blob, &len, err));
    enum kr_status status = kr_keystore_set_manifest_envelope(c->keystore, blob, len, err);
    free(blob);
    return status;
}

static enum kr_status fill_keystore(struct creation *c, struct kr_error *err)
{
    KR_TRY(get_master(c, err));
    KR_TRY(kr_keystore_add_master(c->keystore, &c->master, err));
    KR_TRY(seal_manifest_key(c, err));
    return kr_keystore_commit_new(c->keystore, err);
}

/* The temporary keystore comes first: a directory that cannot be written to is found out before
 * the token gets a key. */
static enum kr_status create_in_token(struct creation *c, struct kr_error *err)
{
    KR_TRY(kr_token_login(c->token, err));
    if (RAND_bytes(c->uuid, sizeof(c->uuid)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    struct kr_keystore_options options = kr_config_keystore(c->config, true);
    KR_TRY(kr_keystore_create(&options, c->uuid, &c->keystore, err));
    enum kr_status status = fill_keystore(c, err);
    kr_keystore_close(c->keystore);
    struct kr_error ignored = KR_ERROR_INIT;
    if (status != KR_OK && c->generated &&
        kr_master_destroy(c->token, &c->master.id, &ignored) != KR_OK)
        kr_hint(err,
                "the new master key '%s' is left in the token, unused: delete it with "
                "pkcs11-tool --delete-object --type secrkey",
                c->master.label);
    return status;
}

static enum kr_status refuse_existing(const struct kr_config *config, struct kr_error *err)
{
    if (access(config->keyring.keystore, F_OK) != 0)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "the keystore %s exists already", config->keyring.keystore);
    kr_hint(err, "p11keyring status shows it; for another keyring set another [keyring] keystore");
    return err->status;
}

enum kr_status kr_keyring_create(const struct kr_config *config, const char *adopt_uri,
                                 struct kr_master_row *ret, unsigned *ret_others,
                                 struct kr_error *err)
{
    KR_TRY(kr_config_require(config, err));
    KR_TRY(refuse_existing(config, err));
    kr_secret_set_policy(config->keyring.lock_memory);
    struct creation c = {.config = config, .adopt_uri = adopt_uri};
    struct kr_pin_source *pin = NULL;
    KR_TRY(kr_keyring_open_token(config, &c.token, &pin, err));
    enum kr_status status = create_in_token(&c, err);
    kr_token_close(c.token);
    kr_pin_source_free(pin);
    if (status == KR_OK) {
        *ret = c.master;
        ret->wraps = 1;
        *ret_others = c.others;
    }
    return status;
}
