/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the tokens remember of the keystore. */
#include "provider/generation.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/guards.h"
#include "base/hex.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* --- the value (docs/FORMAT.md) --------------------------------------------------------------- */

enum { FORMAT = 1, AT_EPOCH = 1, AT_UUID = 5, AT_NUMBER = 21, AT_TAG = 29, AT_WRITTEN = 45 };
enum { VALUE_BYTES = 53 };

static void encode(const struct kr_anchor *anchor, uint8_t ret[VALUE_BYTES])
{
    ret[0] = FORMAT;
    kr_put_number(ret + AT_EPOCH, anchor->epoch, 4);
    memcpy(ret + AT_UUID, anchor->uuid, sizeof(anchor->uuid));
    kr_put_number(ret + AT_NUMBER, anchor->generation.number, 8);
    memcpy(ret + AT_TAG, anchor->generation.tag, sizeof(anchor->generation.tag));
    kr_put_number(ret + AT_WRITTEN, (uint64_t)anchor->written, 8);
}

static bool decode(const uint8_t *value, size_t len, struct kr_anchor *ret)
{
    if (len != VALUE_BYTES || value[0] != FORMAT)
        return false;
    ret->epoch = (uint32_t)kr_get_number(value + AT_EPOCH, 4);
    memcpy(ret->uuid, value + AT_UUID, sizeof(ret->uuid));
    ret->generation.number = kr_get_number(value + AT_NUMBER, 8);
    memcpy(ret->generation.tag, value + AT_TAG, sizeof(ret->generation.tag));
    ret->written = (int64_t)kr_get_number(value + AT_WRITTEN, 8);
    return true;
}

/* By epoch, then by generation; a value of a later format before all, so that it is not replaced.
 */
static bool is_newer(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    struct kr_anchor one, other;
    if (!decode(a, a_len, &one))
        return true;
    if (!decode(b, b_len, &other))
        return false;
    return one.epoch != other.epoch ? one.epoch > other.epoch
                                    : one.generation.number > other.generation.number;
}

/* --- reading ---------------------------------------------------------------------------------- */

void kr_anchors_init(struct kr_anchors *anchors, const struct kr_tokens *tokens,
                     const char *keyring)
{
    *anchors = (struct kr_anchors){.tokens = tokens};
    snprintf(anchors->label, sizeof(anchors->label), "p11keyring:%s:generation", keyring);
}

static enum kr_status fail_format(const struct kr_token *token, const char *label,
                                  struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "the data object '%s' in token '%s' has no value that is known",
            label, kr_token_name(token));
    kr_hint(err, "a newer p11keyring wrote it, or other hands: use the newer one; if nothing did: "
                 "pkcs11-tool --delete-object --type data, then p11keyring keyring accept");
    return err->status;
}

static enum kr_status read_one(struct kr_token *token, const char *label, struct kr_anchor *anchor,
                               struct kr_error *err)
{
    uint8_t value[KR_ANCHOR_MAX];
    size_t len = 0;
    enum kr_status status = kr_anchor_read(token, label, is_newer, value, &len, err);
    anchor->state = KR_ANCHOR_NOT_ASKED;
    if ((status == KR_INTEGRITY && !err->ckr) || (status == KR_OK && !decode(value, len, anchor)))
        return fail_format(token, label, err);
    if (status == KR_OK)
        anchor->state = KR_ANCHOR_SET;
    else if (status == KR_NOT_FOUND)
        anchor->state = KR_ANCHOR_NONE;
    else
        kr_error_context(err, "token '%s'", kr_token_name(token));
    return anchor->state == KR_ANCHOR_NOT_ASKED ? status : KR_OK;
}

/* The tokens that are up, or the others. */
static bool ask(struct kr_anchors *anchors, bool up, struct kr_error *first)
{
    bool answered = false;
    for (size_t i = 0; i < anchors->tokens->count && first->status != KR_INTEGRITY; i++) {
        struct kr_token *token = anchors->tokens->at[i];
        struct kr_anchor *anchor = &anchors->at[i];
        struct kr_error why = KR_ERROR_INIT;
        if (kr_token_is_up(token) != up)
            continue;
        if (anchor->state == KR_ANCHOR_REFUSED ||
            read_one(token, anchors->label, anchor, &why) == KR_OK)
            answered = true;
        else if (first->status == KR_OK || why.status == KR_INTEGRITY)
            *first = why;
    }
    return answered;
}

enum kr_status kr_anchors_read(struct kr_anchors *anchors, struct kr_error *err)
{
    struct kr_error first = KR_ERROR_INIT;
    for (size_t i = 0; i < anchors->tokens->count; i++)
        if (anchors->at[i].state != KR_ANCHOR_REFUSED)
            anchors->at[i].state = KR_ANCHOR_NOT_ASKED;
    bool answered = ask(anchors, true, &first) || ask(anchors, false, &first);
    if (answered && first.status != KR_INTEGRITY)
        return KR_OK;
    *err = first;
    return err->status;
}

/* --- comparing -------------------------------------------------------------------------------- */

static enum kr_status fail_other(const struct kr_anchor *anchor, const struct kr_token *token,
                                 const struct kr_keystore *keystore, struct kr_error *err)
{
    char known[2 * KR_KEYSTORE_UUID_BYTES + 1], found[2 * KR_KEYSTORE_UUID_BYTES + 1];
    kr_hex_encode(anchor->uuid, KR_KEYSTORE_UUID_BYTES, known);
    kr_hex_encode(kr_keystore_uuid(keystore), KR_KEYSTORE_UUID_BYTES, found);
    kr_fail(err, KR_INTEGRITY,
            "%s is not the keystore that token '%s' knows by this keyring's name: it is %s, the "
            "token remembers %s",
            kr_keystore_path(keystore), kr_token_name(token), found, known);
    kr_hint(err, "put the right keystore in its place; two keystores need two names ([keyring] "
                 "name); if it was exchanged on purpose: p11keyring keyring accept");
    return err->status;
}

static enum kr_status fail_older(const struct kr_anchor *anchor, const struct kr_token *token,
                                 const struct kr_keystore *keystore, struct kr_error *err)
{
    struct kr_generation found = kr_keystore_generation(keystore);
    char written[KR_TIME_TEXT];
    kr_time_text(anchor->written, written);
    if (found.number == anchor->generation.number)
        kr_fail(err, KR_INTEGRITY,
                "the keystore %s (generation %llu) is a copy that parted from the one that token "
                "'%s' remembers: both were changed",
                kr_keystore_path(keystore), (unsigned long long)found.number, kr_token_name(token));
    else
        kr_fail(err, KR_INTEGRITY,
                "the keystore %s is older than token '%s' remembers: it has generation %llu, the "
                "token saw %llu at %s",
                kr_keystore_path(keystore), kr_token_name(token), (unsigned long long)found.number,
                (unsigned long long)anchor->generation.number, written);
    kr_hint(err, "keys made since then are not in this file: put the newest keystore in its place; "
                 "if a backup was restored on purpose: p11keyring keyring accept");
    return err->status;
}

static bool is_older(const struct kr_generation *found, const struct kr_generation *known)
{
    return found->number < known->number ||
           (found->number == known->number &&
            memcmp(found->tag, known->tag, sizeof(known->tag)) != 0);
}

enum kr_status kr_anchors_check(const struct kr_anchors *anchors,
                                const struct kr_keystore *keystore, struct kr_error *err)
{
    const struct kr_generation found = kr_keystore_generation(keystore);
    for (size_t i = 0; KR_GUARDED && i < anchors->tokens->count; i++) {
        const struct kr_anchor *anchor = &anchors->at[i];
        if (anchor->state != KR_ANCHOR_SET)
            continue;
        if (memcmp(anchor->uuid, kr_keystore_uuid(keystore), sizeof(anchor->uuid)) != 0)
            return fail_other(anchor, anchors->tokens->at[i], keystore, err);
        if (is_older(&found, &anchor->generation))
            return fail_older(anchor, anchors->tokens->at[i], keystore, err);
    }
    return KR_OK;
}

bool kr_anchors_behind(const struct kr_anchors *anchors, const struct kr_keystore *keystore)
{
    const uint64_t number = kr_keystore_generation(keystore).number;
    for (size_t i = 0; i < anchors->tokens->count; i++) {
        const struct kr_anchor *anchor = &anchors->at[i];
        if (kr_token_is_up(anchors->tokens->at[i]) && anchor->state != KR_ANCHOR_REFUSED &&
            (anchor->state != KR_ANCHOR_SET || anchor->generation.number < number))
            return true;
    }
    return false;
}

/* --- raising ---------------------------------------------------------------------------------- */

static void complain(struct kr_anchor *anchor, const struct kr_token *token, struct kr_error *why)
{
    if (!anchor->complained) {
        kr_error_context(why, "the keystore's generation is not noted in token '%s'",
                         kr_token_name(token));
        kr_log(why->status == KR_REFUSED ? KR_LOG_NOTE : KR_LOG_WARNING, "%s", why->text);
    }
    anchor->complained = true;
    anchor->state = why->status == KR_REFUSED && anchor->state == KR_ANCHOR_NONE
                        ? KR_ANCHOR_REFUSED
                        : KR_ANCHOR_NOT_ASKED;
}

static void raise_one(struct kr_anchor *anchor, struct kr_token *token, const char *label,
                      const struct kr_keystore *keystore, uint32_t epoch)
{
    struct kr_error why = KR_ERROR_INIT;
    struct kr_anchor new = {.state = KR_ANCHOR_SET,
                            .epoch = epoch,
                            .generation = kr_keystore_generation(keystore),
                            .written = (int64_t)time(NULL)};
    uint8_t value[VALUE_BYTES];
    memcpy(new.uuid, kr_keystore_uuid(keystore), sizeof(new.uuid));
    encode(&new, value);
    if (kr_anchor_raise(token, label, is_newer, value, sizeof(value), &why) == KR_OK)
        *anchor = new;
    else
        complain(anchor, token, &why);
}

void kr_anchors_raise(struct kr_anchors *anchors, const struct kr_keystore *keystore)
{
    const uint64_t number = kr_keystore_generation(keystore).number;
    for (size_t i = 0; i < anchors->tokens->count; i++) {
        struct kr_anchor *anchor = &anchors->at[i];
        if (anchor->state == KR_ANCHOR_NONE)
            raise_one(anchor, anchors->tokens->at[i], anchors->label, keystore, 0);
        else if (anchor->state == KR_ANCHOR_SET && anchor->generation.number < number)
            raise_one(anchor, anchors->tokens->at[i], anchors->label, keystore, anchor->epoch);
    }
}

void kr_anchors_replace(struct kr_anchors *anchors, const struct kr_keystore *keystore)
{
    for (size_t i = 0; i < anchors->tokens->count; i++) {
        struct kr_anchor *anchor = &anchors->at[i];
        if (anchor->state == KR_ANCHOR_SET)
            raise_one(anchor, anchors->tokens->at[i], anchors->label, keystore, anchor->epoch + 1);
    }
}
