/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The end of a master key. It is destroyed in its token first, inside the transaction that forgets
 * it: what a kill in between leaves is a row of an old key that is gone, which nobody needs, and
 * which the next call removes.
 */
#include "provider/life.h"

#include "base/hex.h"
#include "provider/change.h"
#include "provider/rewrap.h"
#include "provider/rows.h"

#include <string.h>

struct retirement {
    struct kr_keyring *keyring;
    const struct kr_object_id *id;
    struct kr_master_row row;
    struct kr_token *token; /* NULL: not configured */
    const char *reason;
    struct kr_retirement *result;
};

/* --- which one -------------------------------------------------------------------------------- */

static bool goes_by(const struct kr_master_row *row, const char *name, const char *token)
{
    char id[2 * KR_OBJECT_ID_MAX + 1];
    kr_hex_encode(row->id.bytes, row->id.len, id);
    return (strcmp(row->label, name) == 0 || strcasecmp(id, name) == 0) &&
           (!token || strcmp(row->token, token) == 0);
}

static enum kr_status pick(const struct kr_keyring *keyring, const char *name, const char *token,
                           struct kr_master_row *ret, struct kr_error *err)
{
    const struct kr_master_row *found = NULL;
    for (size_t i = 0; i < keyring->master_count; i++) {
        const struct kr_master_row *row = &keyring->master_rows[i];
        if (!goes_by(row, name, token))
            continue;
        if (found) {
            kr_fail(err, KR_USAGE, "several master keys have the label '%s'", name);
            kr_hint(err, "name one by its ID (p11keyring master list), or its token by --token");
            return err->status;
        }
        found = row;
    }
    if (!found) {
        kr_fail(err, KR_NOT_FOUND, "the keystore names no master key '%s'", name);
        kr_hint(err, "p11keyring master list shows what it names and what the tokens have");
        return err->status;
    }
    *ret = *found;
    return KR_OK;
}

enum kr_status kr_keyring_find_master(struct kr_keyring *keyring, const char *name,
                                      const char *token, struct kr_master_row *ret,
                                      struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = kr_keyring_load_masters(keyring, keyring->keystore, err);
    if (status == KR_OK)
        status = pick(keyring, name, token, ret, err);
    kr_keyring_unlock(keyring);
    return status;
}

/* --- may it go -------------------------------------------------------------------------------- */

static enum kr_status find_row(struct retirement *r, struct kr_error *err)
{
    const struct kr_keyring *keyring = r->keyring;
    for (size_t i = 0; i < keyring->master_count; i++) {
        const struct kr_master_row *row = &keyring->master_rows[i];
        if (!kr_object_id_equal(&row->id, r->id))
            continue;
        r->row = *row;
        r->token =
            kr_master_token(keyring->master_rows, keyring->master_count, row, &keyring->tokens);
        return KR_OK;
    }
    return kr_fail(err, KR_NOT_FOUND, "the keystore does not name this master key any more");
}

/* A current one that a configured token serves. */
static bool another_serves(const struct retirement *r)
{
    const struct kr_masters *masters = &r->keyring->masters;
    for (size_t i = 0; i < masters->count; i++)
        if (masters->keys[i].current && masters->keys[i].token_count > 0 &&
            !kr_object_id_equal(&masters->keys[i].id, r->id))
            return true;
    return false;
}

static enum kr_status refuse_current(const struct retirement *r, struct kr_error *err)
{
    if (r->row.state != KR_MASTER_CURRENT || (!r->token && another_serves(r)))
        return KR_OK;
    kr_fail(err, KR_REFUSED, "master key '%s' is the current one of token '%s'", r->row.label,
            r->row.token);
    if (r->token)
        kr_hint(err, "p11keyring master rotate makes another one; to give up the token, take its "
                     "section out of the configuration first");
    else
        kr_hint(err, "first give the keyring a master key in another token: p11keyring master "
                     "create --token NAME");
    return err->status;
}

static enum kr_status refuse_named(struct retirement *r, struct kr_keystore *keystore,
                                   struct kr_error *err)
{
    struct kr_rewrap_state state;
    KR_TRY(kr_rewrap_survey(r->keyring, keystore, r->id, &state, err));
    if (state.named == 0)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%llu envelopes are still wrapped by master key '%s'",
            (unsigned long long)state.named, r->row.label);
    kr_hint(err, "p11keyring keyring sync wraps them anew; it says what it waits for");
    return err->status;
}

static struct kr_audit_event audit_event(const struct retirement *r)
{
    return (struct kr_audit_event){.name = "master-retire",
                                   .token = r->row.token,
                                   .master = r->row.label,
                                   .detail = r->reason};
}

/* --- steps ------------------------------------------------------------------------------------ */

static enum kr_status make_old(struct kr_change *change, void *context, struct kr_error *err)
{
    struct retirement *r = context;
    KR_TRY(find_row(r, err));
    KR_TRY(refuse_current(r, err));
    change->audit = audit_event(r);
    change->audit.detail = "it is old now";
    return kr_keystore_set_master_old(change->keystore, r->id, err);
}

static enum kr_status destroy(struct retirement *r, struct kr_token *token, struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    enum kr_status status = kr_master_destroy(token, r->id, &why);
    if (status == KR_OK || status == KR_NOT_FOUND) {
        r->result->destroyed = true;
        return KR_OK;
    }
    *err = why;
    kr_error_context(err, "token '%s'", kr_token_name(token));
    return status;
}

/* Copies in other tokens, as vendors' cloning makes them, go too. */
static enum kr_status destroy_everywhere(struct retirement *r, struct kr_error *err)
{
    const struct kr_masters *masters = &r->keyring->masters;
    if (r->token)
        KR_TRY(destroy(r, r->token, err));
    for (size_t i = 0; i < masters->count; i++) {
        const struct kr_master_key *key = &masters->keys[i];
        for (size_t t = 0; kr_object_id_equal(&key->id, r->id) && t < key->token_count; t++)
            if (key->tokens[t] != r->token)
                KR_TRY(destroy(r, key->tokens[t], err));
    }
    return KR_OK;
}

/* No envelope can be sealed or wrapped for it meanwhile: this has the keystore's write lock. */
static enum kr_status end(struct kr_change *change, void *context, struct kr_error *err)
{
    struct retirement *r = context;
    KR_TRY(find_row(r, err));
    if (r->row.state == KR_MASTER_CURRENT)
        return kr_fail(err, KR_REFUSED, "master key '%s' became current again", r->row.label);
    KR_TRY(refuse_named(r, change->keystore, err));
    change->audit = audit_event(r);
    KR_TRY(kr_audit_begin(r->keyring->audit, &change->audit, err));
    KR_TRY(destroy_everywhere(r, err));
    return kr_keystore_remove_master(change->keystore, r->id, err);
}

static enum kr_status change(struct retirement *r, kr_change_step step, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(r->keyring, err));
    enum kr_status status = kr_change_run(r->keyring, NULL, NULL, NULL, step, r, err);
    kr_keyring_unlock(r->keyring);
    return status;
}

/* --- the whole -------------------------------------------------------------------------------- */

static enum kr_status named_view(struct kr_keystore *keystore, void *context, struct kr_error *err)
{
    return refuse_named(context, keystore, err);
}

static enum kr_status check_locked(struct retirement *r, struct kr_error *err)
{
    struct kr_keyring *keyring = r->keyring;
    KR_TRY(kr_keyring_load_masters(keyring, keyring->keystore, err));
    KR_TRY(find_row(r, err));
    KR_TRY(refuse_current(r, err));
    return r->token ? kr_rows_view(keyring->keystore, named_view, r, err) : KR_OK;
}

static enum kr_status check(struct retirement *r, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(r->keyring, err));
    enum kr_status status = check_locked(r, err);
    kr_keyring_unlock(r->keyring);
    return status;
}

/* Of a token that is not configured any more: nothing can wait for it. */
static enum kr_status drop_wraps(struct retirement *r, const struct kr_life_options *options,
                                 struct kr_error *err)
{
    struct kr_rewrap_options rewrap = {.threads = r->keyring->sessions,
                                       .progress = options->progress,
                                       .context = options->context};
    struct kr_rewrap_result result;
    if (r->row.state == KR_MASTER_CURRENT)
        KR_TRY(change(r, make_old, err));
    KR_TRY(kr_rewrap(r->keyring, &rewrap, &result, err));
    r->result->rewrapped = result.rewrapped;
    r->result->interrupted = result.interrupted;
    return KR_OK;
}

static enum kr_status retire(struct retirement *r, const struct kr_life_options *options,
                             struct kr_error *err)
{
    KR_TRY(check(r, err));
    if (options->dry_run)
        return KR_OK;
    if (!r->token)
        KR_TRY(drop_wraps(r, options, err));
    return r->result->interrupted ? KR_OK : change(r, end, err);
}

enum kr_status kr_keyring_retire_master(struct kr_keyring *keyring,
                                        const struct kr_object_id *master,
                                        const struct kr_life_options *options,
                                        struct kr_retirement *ret, struct kr_error *err)
{
    struct retirement r = {
        .keyring = keyring, .id = master, .reason = options->reason, .result = ret};
    *ret = (struct kr_retirement){0};
    enum kr_status status = retire(&r, options, err);
    const struct kr_audit_event failed = audit_event(&r);
    if (status != KR_OK && !options->dry_run)
        kr_audit_end(keyring->audit, &failed, err);
    return status;
}
