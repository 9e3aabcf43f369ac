/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* New master keys, and envelopes brought up to date with them. */
#include "provider/life.h"

#include "base/clock.h"
#include "provider/change.h"
#include "provider/master_make.h"
#include "provider/rewrap.h"
#include "provider/rows.h"

#include <stdlib.h>
#include <string.h>

enum { RETRIES = 3, RETRY_WAIT_MS = 3000 };

struct life {
    const char *event; /* in the audit log */
    struct kr_keyring *keyring;
    const struct kr_life_options *options;
    struct kr_life_result *result;
    struct kr_rewrap_state state;           /* before */
    uint64_t masters_version;               /* the master keys that `state` is about */
    struct kr_token *makers[KR_TOKENS_MAX]; /* get a new master key, in place of what they have */
    size_t maker_count;
    struct kr_token *alone;     /* of all other tokens the master keys become old; NULL: no such */
    bool served[KR_TOKENS_MAX]; /* the keyring's tokens, when the run began */
    uint64_t failures;          /* theirs, until then */
};

/* --- what there is ---------------------------------------------------------------------------- */

static enum kr_status survey_view(struct kr_keystore *keystore, void *context, struct kr_error *err)
{
    struct life *life = context;
    return kr_rewrap_survey(life->keyring, keystore, NULL, &life->state, err);
}

static enum kr_status look(struct life *life, struct kr_error *err)
{
    struct kr_keyring *keyring = life->keyring;
    KR_TRY(kr_keyring_load_masters(keyring, keyring->keystore, err));
    KR_TRY(kr_rows_view(keyring->keystore, survey_view, life, err));
    life->masters_version = keyring->masters_version;
    life->result->envelopes = life->state.envelopes;
    return KR_OK;
}

static const struct kr_master_row *current_of(const struct kr_keyring *keyring,
                                              const struct kr_token *token)
{
    for (size_t i = 0; i < keyring->master_count; i++) {
        const struct kr_master_row *row = &keyring->master_rows[i];
        if (row->state == KR_MASTER_CURRENT &&
            kr_master_token(keyring->master_rows, keyring->master_count, row, &keyring->tokens) ==
                token)
            return row;
    }
    return NULL;
}

static enum kr_status find_token(const struct life *life, struct kr_token **ret,
                                 struct kr_error *err)
{
    struct kr_token *token = kr_tokens_find(&life->keyring->tokens, life->options->token);
    if (token) {
        *ret = token;
        return KR_OK;
    }
    kr_fail(err, KR_USAGE, "no token '%s' is configured", life->options->token);
    kr_hint(err, "add a section [token:%s] to the configuration", life->options->token);
    return err->status;
}

/* --- before anything is written --------------------------------------------------------------- */

static enum kr_status check_token(const struct life *life, struct kr_token *token,
                                  struct kr_error *err)
{
    struct kr_preflight preflight;
    KR_TRY(kr_token_login(token, err));
    return kr_master_preflight(token, life->keyring->mechanism, &preflight, err);
}

static enum kr_status check_tokens(const struct life *life, struct kr_error *err)
{
    for (size_t i = 0; i < life->maker_count; i++) {
        enum kr_status status = check_token(life, life->makers[i], err);
        if (status == KR_OK)
            continue;
        kr_error_context(err, "token '%s'", kr_token_name(life->makers[i]));
        if (!life->options->token && life->maker_count > 1)
            kr_hint(err, "nothing was changed: see p11keyring doctor, or rotate the master key of "
                         "another token alone with --token NAME");
        return status;
    }
    return KR_OK;
}

/* The number of the new labels: above all that the keystore or one of the tokens has. */
static enum kr_status choose_number(const struct life *life, unsigned long *ret,
                                    struct kr_error *err)
{
    const struct kr_keyring *keyring = life->keyring;
    unsigned long highest = 0, number;
    unsigned usable;
    for (size_t i = 0; i < keyring->master_count; i++) {
        number = kr_master_label_number(keyring->master_rows[i].label, keyring->name);
        highest = number > highest ? number : highest;
    }
    for (size_t i = 0; i < life->maker_count; i++) {
        KR_TRY(kr_master_survey(life->makers[i], keyring->name, &number, &usable, err));
        highest = number > highest ? number : highest;
    }
    *ret = highest + 1;
    return KR_OK;
}

/* --- new master keys -------------------------------------------------------------------------- */

static enum kr_status make_all(struct life *life, struct kr_error *err)
{
    struct kr_keyring *keyring = life->keyring;
    struct kr_life_result *result = life->result;
    unsigned long number;
    KR_TRY(choose_number(life, &number, err));
    while (result->made_count < life->maker_count) {
        struct kr_token *token = life->makers[result->made_count];
        enum kr_status status = kr_master_make(token, keyring->name, number, keyring->mechanism,
                                               &result->made[result->made_count], err);
        if (status != KR_OK) {
            kr_error_context(err, "token '%s'", kr_token_name(token));
            return status;
        }
        result->made_count++;
    }
    return KR_OK;
}

static bool becomes_old(const struct life *life, const struct kr_master_row *row)
{
    const struct kr_keyring *keyring = life->keyring;
    const struct kr_token *token =
        kr_master_token(keyring->master_rows, keyring->master_count, row, &keyring->tokens);
    if (row->state != KR_MASTER_CURRENT)
        return false;
    for (size_t i = 0; i < life->maker_count; i++)
        if (token == life->makers[i])
            return true;
    return life->alone && token != life->alone;
}

static enum kr_status name_masters(struct kr_change *change, void *context, struct kr_error *err)
{
    struct life *life = context;
    struct kr_keyring *keyring = life->keyring;
    if (keyring->masters_version != life->masters_version) {
        kr_fail(err, KR_REFUSED, "another process changed the master keys at the same time");
        kr_hint(err, "p11keyring master list shows them; then try again");
        return err->status;
    }
    for (size_t i = 0; i < keyring->master_count; i++)
        if (becomes_old(life, &keyring->master_rows[i]))
            KR_TRY(kr_keystore_set_master_old(change->keystore, &keyring->master_rows[i].id, err));
    for (size_t i = 0; i < life->result->made_count; i++)
        KR_TRY(kr_keystore_add_master(change->keystore, &life->result->made[i], err));
    change->audit = (struct kr_audit_event){.name = life->event,
                                            .token = life->options->token,
                                            .master = life->result->made[0].label,
                                            .keys = life->result->made_count};
    return KR_OK;
}

/* Whether the keystore may name the key after all; asked when a commit has failed. */
static bool may_be_named(struct kr_keyring *keyring, const struct kr_object_id *id)
{
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_master_row *rows = NULL;
    size_t count = 0;
    bool named = kr_keystore_list_masters(keyring->keystore, &rows, &count, &ignored) != KR_OK;
    for (size_t i = 0; i < count; i++)
        named = named || kr_object_id_equal(&rows[i].id, id);
    free(rows);
    return named;
}

static void take_back(struct life *life, struct kr_error *err)
{
    struct kr_life_result *result = life->result;
    for (size_t i = 0; i < result->made_count; i++)
        if (!may_be_named(life->keyring, &result->made[i].id))
            kr_master_take_back(life->makers[i], &result->made[i], err);
    result->made_count = 0;
}

/* Makes the new master keys and says in one commit which ones are current. */
static enum kr_status change_masters(struct life *life, struct kr_error *err)
{
    KR_TRY(check_tokens(life, err));
    if (life->options->dry_run)
        return KR_OK;
    const struct kr_audit_event event = {.name = life->event, .token = life->options->token};
    KR_TRY(kr_audit_begin(life->keyring->audit, &event, err));
    enum kr_status status = make_all(life, err);
    if (status == KR_OK)
        status = kr_change_run(life->keyring, NULL, NULL, NULL, name_masters, life, err);
    if (status != KR_OK)
        take_back(life, err);
    return status;
}

/* --- envelopes -------------------------------------------------------------------------------- */

static enum kr_status rewrap_once(struct life *life, struct kr_error *err)
{
    struct kr_life_result *result = life->result;
    struct kr_rewrap_options options = {.threads = life->keyring->sessions,
                                        .progress = life->options->progress,
                                        .context = life->options->context};
    struct kr_rewrap_result rewrapped;
    enum kr_status status = kr_rewrap(life->keyring, &options, &rewrapped, err);
    result->rewrapped += rewrapped.rewrapped;
    result->waiting = rewrapped.waiting;
    result->interrupted = rewrapped.interrupted;
    return status;
}

/* Failures of the tokens that served when the run began. */
static uint64_t count_failures(const struct life *life)
{
    uint64_t failures = 0;
    for (size_t i = 0; i < life->keyring->tokens.count; i++) {
        struct kr_token_stats stats;
        kr_token_get_stats(life->keyring->tokens.at[i], &stats);
        failures += life->served[i] ? stats.errors : 0;
    }
    return failures;
}

/* False when one of them stays away. */
static bool wait_for_tokens(const struct life *life)
{
    const uint64_t until = kr_now_ms() + RETRY_WAIT_MS;
    for (size_t i = 0; i < life->keyring->tokens.count; i++) {
        while (life->served[i] && !kr_token_worth_trying(life->keyring->tokens.at[i])) {
            if (kr_now_ms() >= until)
                return false;
            nanosleep(&(struct timespec){.tv_nsec = 20 * 1000000L}, NULL);
        }
    }
    return true;
}

/* A token is left alone for a moment after it failed, if only to keep an anchor: what waits because
 * of that need not wait for another run. */
static enum kr_status rewrap(struct life *life, struct kr_error *err)
{
    uint64_t known = life->failures;
    KR_TRY(rewrap_once(life, err));
    for (unsigned i = 0; i < RETRIES && life->result->waiting > 0; i++) {
        uint64_t failures = count_failures(life);
        if (life->result->interrupted || failures == known || !wait_for_tokens(life))
            break;
        known = failures;
        KR_TRY(rewrap_once(life, err));
    }
    return KR_OK;
}

/* `decide` fills in what is to be done, and may find that an earlier run is to be completed. It
 * runs with the lock, and so does the change of master keys. */
typedef enum kr_status (*life_decision)(struct life *life, struct kr_error *err);

static enum kr_status begin(struct life *life, life_decision decide, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(life->keyring, err));
    enum kr_status status = look(life, err);
    if (status == KR_OK)
        status = decide(life, err);
    if (status == KR_OK && !life->result->resumed)
        status = change_masters(life, err);
    kr_keyring_unlock(life->keyring);
    return status;
}

static enum kr_status run(struct kr_keyring *keyring, const char *event,
                          const struct kr_life_options *options, life_decision decide,
                          struct kr_life_result *ret, struct kr_error *err)
{
    struct life life = {.event = event, .keyring = keyring, .options = options, .result = ret};
    const struct kr_audit_event failed = {.name = event, .token = options->token};
    *ret = (struct kr_life_result){0};
    for (size_t i = 0; i < keyring->tokens.count; i++)
        life.served[i] = kr_token_is_up(keyring->tokens.at[i]);
    life.failures = count_failures(&life);
    enum kr_status status = begin(&life, decide, err);
    if (status != KR_OK && !options->dry_run)
        kr_audit_end(keyring->audit, &failed, err);
    KR_TRY(status);
    if (!options->dry_run)
        return rewrap(&life, err);
    ret->rewrapped = ret->resumed ? life.state.outdated : life.state.envelopes;
    return KR_OK;
}

/* --- the operations --------------------------------------------------------------------------- */

static enum kr_status decide_rotation(struct life *life, struct kr_error *err)
{
    struct kr_keyring *keyring = life->keyring;
    struct kr_token *only = NULL;
    if (life->options->token) {
        KR_TRY(find_token(life, &only, err));
        if (!current_of(keyring, only)) {
            kr_fail(err, KR_REFUSED, "token '%s' has no master key yet", life->options->token);
            kr_hint(err, "p11keyring master create --token %s", life->options->token);
            return err->status;
        }
    }
    life->result->resumed = life->state.old > 0;
    for (size_t i = 0; i < keyring->tokens.count; i++) {
        struct kr_token *token = keyring->tokens.at[i];
        if (only ? token == only : current_of(keyring, token) != NULL)
            life->makers[life->maker_count++] = token;
    }
    return KR_OK;
}

enum kr_status kr_keyring_rotate_masters(struct kr_keyring *keyring,
                                         const struct kr_life_options *options,
                                         struct kr_life_result *ret, struct kr_error *err)
{
    return run(keyring, "master-rotate", options, decide_rotation, ret, err);
}

static enum kr_status decide_addition(struct life *life, struct kr_error *err)
{
    struct kr_token *token = NULL;
    KR_TRY(find_token(life, &token, err));
    if (!current_of(life->keyring, token)) {
        life->makers[life->maker_count++] = token;
        return KR_OK;
    }
    life->result->resumed = life->state.outdated > 0;
    if (life->result->resumed)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "token '%s' has a master key of this keyring already",
            life->options->token);
    kr_hint(err, "for a new one: p11keyring master rotate --token %s", life->options->token);
    return err->status;
}

enum kr_status kr_keyring_add_token(struct kr_keyring *keyring,
                                    const struct kr_life_options *options,
                                    struct kr_life_result *ret, struct kr_error *err)
{
    return run(keyring, "master-create", options, decide_addition, ret, err);
}

static enum kr_status decide_move(struct life *life, struct kr_error *err)
{
    struct kr_keyring *keyring = life->keyring;
    bool others = false;
    KR_TRY(find_token(life, &life->alone, err));
    if (!current_of(keyring, life->alone))
        life->makers[life->maker_count++] = life->alone;
    for (size_t i = 0; i < keyring->master_count; i++)
        others = others || becomes_old(life, &keyring->master_rows[i]);
    life->result->resumed = !others;
    return KR_OK;
}

enum kr_status kr_keyring_move(struct kr_keyring *keyring, const struct kr_life_options *options,
                               struct kr_life_result *ret, struct kr_error *err)
{
    return run(keyring, "keyring-move", options, decide_move, ret, err);
}

static enum kr_status decide_sync(struct life *life, struct kr_error *err)
{
    (void)err;
    life->result->resumed = true;
    return KR_OK;
}

enum kr_status kr_keyring_sync(struct kr_keyring *keyring, const struct kr_life_options *options,
                               struct kr_life_result *ret, struct kr_error *err)
{
    return run(keyring, "keyring-sync", options, decide_sync, ret, err);
}
