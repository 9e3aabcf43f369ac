/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keyring core: making a keyring. The keystore appears under its name as the last step, after
 * the master key was made, checked and proven; what fails before leaves nothing behind.
 */
#include "provider/change.h"
#include "provider/master_make.h"

#include "base/clock.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct creation {
    const struct kr_config *config;
    const char *adopt_uri;
    bool replace;
    struct kr_audit *audit;
    struct kr_tokens tokens;
    struct kr_anchors anchors;
    struct kr_keystore *keystore;
    uint8_t uuid[KR_KEYSTORE_UUID_BYTES];
    struct kr_master_row masters[KR_TOKENS_MAX]; /* one for each token */
    bool generated[KR_TOKENS_MAX];
    bool adopted;
    unsigned others;
};

/* The key that the admin names, if this token is the one that has it. */
static enum kr_status adopt(struct creation *c, size_t i, enum kr_wrap_mechanism wish,
                            struct kr_error *err)
{
    struct kr_token *token = c->tokens.at[i];
    struct kr_master_info info;
    KR_TRY(kr_master_find_uri(token, c->adopt_uri, &info, err));
    KR_TRY(kr_master_describe(token, &info, wish, &c->masters[i], err));
    if (kr_master_label_number(info.label, c->config->keyring.name) > 0)
        c->others--;
    c->adopted = true;
    return KR_OK;
}

static enum kr_status adopt_or_make(struct creation *c, size_t i, enum kr_wrap_mechanism wish,
                                    struct kr_error *err)
{
    struct kr_token *token = c->tokens.at[i];
    const char *keyring = c->config->keyring.name;
    unsigned long highest;
    unsigned usable;
    KR_TRY(kr_master_survey(token, keyring, &highest, &usable, err));
    c->others += usable;
    if (c->adopt_uri && !c->adopted) {
        enum kr_status status = adopt(c, i, wish, err);
        if (status != KR_NOT_FOUND || i + 1 == c->tokens.count)
            return status;
        *err = (struct kr_error)KR_ERROR_INIT;
    }
    KR_TRY(kr_master_make(token, keyring, highest + 1, wish, &c->masters[i], err));
    c->generated[i] = true;
    return KR_OK;
}

/* The mechanism that the configuration wants, or the best that works, is proven in both cases. */
static enum kr_status get_master(struct creation *c, size_t i, struct kr_error *err)
{
    enum kr_wrap_mechanism wish;
    KR_TRY(kr_config_mechanism(c->config, &wish, err));
    KR_TRY(adopt_or_make(c, i, wish, err));
    return kr_keystore_add_master(c->keystore, &c->masters[i], err);
}

static enum kr_status seal_manifest_key(struct creation *c, const struct kr_masters *masters,
                                        struct kr_error *err)
{
    KR_SECRET uint8_t *keys = kr_secret_alloc(KR_MANIFEST_KEY_BYTES + KR_SEALING_KEY_BYTES);
    uint8_t *blob = NULL;
    size_t len = 0;
    if (!keys)
        return kr_fail_memory(err);
    KR_TRY(kr_tokens_random(&c->tokens, keys, KR_MANIFEST_KEY_BYTES + KR_SEALING_KEY_BYTES, err));
    KR_TRY(kr_keystore_set_manifest_key(c->keystore, keys, err));
    struct kr_envelope_context context = kr_manifest_context(c->config->keyring.name, c->uuid);
    KR_TRY(kr_envelope_seal(masters, &context, keys + KR_MANIFEST_KEY_BYTES, keys,
                            KR_MANIFEST_KEY_BYTES, &blob, &len, err));
    enum kr_status status = kr_change_count_wraps(c->keystore, blob, len, NULL, 0, err);
    if (status == KR_OK)
        status = kr_keystore_set_manifest_envelope(c->keystore, blob, len, err);
    free(blob);
    return status;
}

/* Another keystore of this name would be refused from now on by whoever uses it. */
static enum kr_status check_remembered(struct creation *c, struct kr_error *err)
{
    const char *name = c->config->keyring.name;
    kr_anchors_init(&c->anchors, &c->tokens, name);
    KR_TRY(kr_anchors_read(&c->anchors, err));
    for (size_t i = 0; i < c->tokens.count && !c->replace; i++) {
        char written[KR_TIME_TEXT];
        if (c->anchors.at[i].state != KR_ANCHOR_SET)
            continue;
        kr_time_text(c->anchors.at[i].written, written);
        kr_fail(err, KR_REFUSED,
                "token '%s' remembers a keystore of keyring '%s' (last changed at %s)",
                kr_token_name(c->tokens.at[i]), name, written);
        kr_hint(err,
                "if it was lost, restore it from a backup; a further keyring needs another "
                "[keyring] name; if it is not needed any more: --confirm %s",
                name);
        return err->status;
    }
    return KR_OK;
}

/* What is remembered of another keystore is replaced first: a kill leaves nothing that the same
 * command does not put right. */
static enum kr_status publish(struct creation *c, struct kr_error *err)
{
    kr_anchors_replace(&c->anchors, c->keystore);
    KR_TRY(kr_keystore_commit_new(c->keystore, err));
    kr_anchors_raise(&c->anchors, c->keystore);
    return KR_OK;
}

static const char *event_name(const struct creation *c)
{
    return c->adopt_uri ? "master-adopt" : "master-create";
}

static enum kr_status fill_keystore(struct creation *c, struct kr_error *err)
{
    struct kr_masters masters;
    KR_TRY(check_remembered(c, err));
    for (size_t i = 0; i < c->tokens.count; i++)
        KR_TRY(get_master(c, i, err));
    KR_TRY(kr_masters_match(c->masters, c->tokens.count, &c->tokens, &masters, err));
    enum kr_status status = seal_manifest_key(c, &masters, err);
    free(masters.keys);
    for (size_t i = 0; i < c->tokens.count && status == KR_OK; i++) {
        const struct kr_audit_event event = {.name = event_name(c),
                                             .token = c->masters[i].token,
                                             .master = c->masters[i].label,
                                             .detail =
                                                 kr_wrap_mechanism_name(c->masters[i].mechanism)};
        status = kr_audit_commit(c->audit, c->keystore, &event, err);
    }
    return status == KR_OK ? publish(c, err) : status;
}

/* What was made for nothing does not stay, if its token still answers. */
static void take_back(struct creation *c, struct kr_error *err)
{
    for (size_t i = 0; i < c->tokens.count; i++)
        if (c->generated[i])
            kr_master_take_back(c->tokens.at[i], &c->masters[i], err);
}

static enum kr_status log_in_all(const struct creation *c, struct kr_error *err)
{
    for (size_t i = 0; i < c->tokens.count; i++)
        KR_TRY(kr_token_login(c->tokens.at[i], err));
    return KR_OK;
}

/* The temporary keystore comes first: a directory that cannot be written to is found out before
 * a token gets a key. */
static enum kr_status create_in_tokens(struct creation *c, struct kr_error *err)
{
    KR_TRY(log_in_all(c, err));
    if (RAND_bytes(c->uuid, sizeof(c->uuid)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    struct kr_keystore_options options = kr_config_keystore(c->config, true);
    KR_TRY(kr_keystore_create(&options, c->uuid, &c->keystore, err));
    enum kr_status status = fill_keystore(c, err);
    kr_keystore_close(c->keystore);
    if (status != KR_OK)
        take_back(c, err);
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

enum kr_status kr_keyring_check_new(const struct kr_config *config, bool replace,
                                    struct kr_error *err)
{
    KR_TRY(kr_config_require(config, err));
    KR_TRY(refuse_existing(config, err));
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    KR_TRY(kr_audit_open(config, &audit, err));
    struct creation c = {.config = config, .replace = replace};
    KR_TRY(kr_tokens_new(config, audit, &c.tokens, err));
    enum kr_status status = log_in_all(&c, err);
    if (status == KR_OK)
        status = check_remembered(&c, err);
    kr_tokens_close(&c.tokens);
    return status;
}

enum kr_status kr_keyring_create(const struct kr_config *config, const char *adopt_uri,
                                 bool replace, struct kr_master_row ret[KR_TOKENS_MAX],
                                 size_t *ret_count, unsigned *ret_others, struct kr_error *err)
{
    KR_TRY(kr_config_require(config, err));
    KR_TRY(refuse_existing(config, err));
    kr_secret_set_policy(config->keyring.lock_memory);
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    KR_TRY(kr_audit_open(config, &audit, err));
    struct creation c = {
        .config = config, .adopt_uri = adopt_uri, .replace = replace, .audit = audit};
    const struct kr_audit_event event = {.name = event_name(&c)};
    KR_TRY(kr_audit_begin(audit, &event, err));
    KR_TRY(kr_tokens_new(config, audit, &c.tokens, err));
    enum kr_status status = create_in_tokens(&c, err);
    if (status != KR_OK)
        kr_audit_end(audit, &event, err);
    if (status == KR_OK) {
        memcpy(ret, c.masters, c.tokens.count * sizeof(*ret));
        *ret_count = c.tokens.count;
        *ret_others = c.others;
    }
    kr_tokens_close(&c.tokens);
    return status;
}
