/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keyring core: an admin vouches for a keystore that the tokens remember otherwise. */
#include "provider/change.h"

#include <stdio.h>
#include <string.h>

static const char EVENT[] = "keystore-accept";

static enum kr_status note_newest(const struct kr_version_row *row, void *context,
                                  struct kr_error *err)
{
    (void)err;
    int64_t *newest = context;
    if (row->created > *newest)
        *newest = row->created;
    return KR_OK;
}

static void compare(const struct kr_keyring *keyring, const struct kr_config *config,
                    struct kr_acceptance *found)
{
    const struct kr_anchors *anchors = &keyring->anchors;
    const uint8_t *uuid = kr_keystore_uuid(keyring->keystore);
    struct kr_error ignored = KR_ERROR_INIT;
    found->generation = kr_keystore_generation(keyring->keystore).number;
    found->token_count = anchors->tokens->count;
    for (size_t i = 0; i < found->token_count; i++) {
        const struct kr_anchor *anchor = &anchors->at[i];
        found->tokens[i] = (struct kr_remembered){
            .token = config->tokens[i].name,
            .state = anchor->state,
            .same_keystore = memcmp(anchor->uuid, uuid, sizeof(anchor->uuid)) == 0,
            .generation = anchor->generation.number,
            .written = anchor->written,
        };
    }
    found->needed = kr_anchors_check(anchors, keyring->keystore, &ignored) != KR_OK;
}

static enum kr_status survey(struct kr_keyring *keyring, const struct kr_config *config,
                             struct kr_acceptance *found, struct kr_error *err)
{
    KR_TRY(kr_anchors_read(&keyring->anchors, err));
    KR_TRY(kr_keystore_verify(keyring->keystore, err));
    KR_TRY(kr_keystore_each_version(keyring->keystore, NULL, note_newest, &found->newest_key, err));
    compare(keyring, config, found);
    return KR_OK;
}

static uint64_t highest(const struct kr_acceptance *found)
{
    uint64_t number = found->generation;
    for (size_t i = 0; i < found->token_count; i++)
        if (found->tokens[i].state == KR_ANCHOR_SET && found->tokens[i].generation > number)
            number = found->tokens[i].generation;
    return number;
}

/* The file first, as with every change: after a kill between the two it is accepted once more. */
static enum kr_status raise_file(struct kr_keyring *keyring, struct kr_keystore *keystore,
                                 const struct kr_acceptance *found, struct kr_error *err)
{
    KR_TRY(kr_keystore_set_manifest_key(keystore, keyring->manifest_key, err));
    KR_TRY(kr_keystore_begin_write(keystore, err));
    if (kr_keystore_generation(keystore).number != found->generation) {
        kr_fail(err, KR_REFUSED, "the keystore %s was changed meanwhile", keyring->keystore_path);
        kr_hint(err, "look again: p11keyring keyring accept");
        return err->status;
    }
    KR_TRY(kr_keystore_raise_generation(keystore, highest(found), err));
    char detail[64];
    snprintf(detail, sizeof(detail), "from generation %llu", (unsigned long long)found->generation);
    const struct kr_audit_event event = {.name = EVENT, .detail = detail};
    KR_TRY(kr_audit_commit(keyring->audit, keystore, &event, err));
    KR_TRY(kr_keystore_commit(keystore, err));
    kr_anchors_replace(&keyring->anchors, keystore);
    kr_anchors_raise(&keyring->anchors, keystore);
    return KR_OK;
}

static enum kr_status accept(struct kr_keyring *keyring, const struct kr_config *config,
                             struct kr_acceptance *found, struct kr_error *err)
{
    struct kr_keystore_options options = kr_config_keystore(config, true);
    struct kr_keystore *keystore = NULL;
    KR_TRY(kr_keystore_open(&options, &keystore, err));
    enum kr_status status = raise_file(keyring, keystore, found, err);
    if (status == KR_OK)
        found->generation = kr_keystore_generation(keystore).number;
    kr_keystore_close(keystore);
    return status;
}

enum kr_status kr_keyring_accept(const struct kr_config *config, kr_confirm confirm, void *context,
                                 struct kr_acceptance *ret, struct kr_error *err)
{
    struct kr_acceptance found = {0};
    struct kr_keyring *keyring = NULL;
    KR_TRY(kr_keyring_connect(config, EVENT, &keyring, err));
    enum kr_status status = survey(keyring, config, &found, err);
    if (status == KR_OK && found.needed)
        status = confirm(&found, context, err);
    if (status == KR_OK && found.needed)
        status = accept(keyring, config, &found, err);
    const struct kr_audit_event event = {
        .name = EVENT, .detail = found.needed ? NULL : "there was nothing to accept"};
    if (status != KR_OK || !found.needed)
        kr_audit_end(keyring->audit, &event, status == KR_OK ? NULL : err);
    kr_keyring_close(keyring);
    if (status == KR_OK)
        *ret = found;
    return status;
}
