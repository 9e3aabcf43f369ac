/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The tokens of a keyring. */
#include "provider/tokens.h"

#include "base/guards.h"
#include "base/log.h"
#include "pkcs11/resident.h"
#include "provider/keyring.h"

#include <stdlib.h>
#include <string.h>

/* --- life ------------------------------------------------------------------------------------- */

static struct kr_token_options token_options(const struct kr_config *config,
                                             const struct kr_token_config *token,
                                             struct kr_pin_source *pin, const char *guard,
                                             struct kr_audit *audit)
{
    return (struct kr_token_options){
        .name = token->name,
        .module = token->module,
        .uri = token->uri,
        .pin = pin,
        .guard_path = guard,
        .timeout_ms = config->pkcs11.timeout_ms,
        .lock_timeout_ms = config->keyring.lock_timeout_ms,
        .sessions = config->pkcs11.sessions,
        .one_of_several = config->token_count > 1,
        .quirks = {.init_args = token->init_args,
                   .read_write_only = token->read_write_sessions,
                   .iv_by_token = token->iv_by_token,
                   .no_random = token->no_random,
                   .rsa_pkcs = token->rsa_pkcs,
                   .aes_gcm_code = token->aes_gcm_code,
                   .aes_kwp_code = token->aes_kwp_code},
        .on_login = kr_audit_login,
        .on_login_context = audit,
    };
}

static enum kr_status new_token(const struct kr_config *config, const struct kr_token_config *token,
                                struct kr_audit *audit, struct kr_token **ret,
                                struct kr_pin_source **ret_pin, struct kr_error *err)
{
    struct kr_pin_source *pin = NULL;
    if (token->pin_source)
        KR_TRY(kr_pin_source_new(token->pin_source, "user PIN of the token", &pin, err));
    char *guard = kr_keyring_guard_path(config);
    struct kr_token_options options = token_options(config, token, pin, guard, audit);
    enum kr_status status = guard ? kr_token_new(&options, ret, err) : kr_fail_memory(err);
    free(guard);
    if (status == KR_OK)
        *ret_pin = pin;
    else
        kr_pin_source_free(pin);
    return status;
}

enum kr_status kr_tokens_new(const struct kr_config *config, struct kr_audit *audit,
                             struct kr_tokens *ret, struct kr_error *err)
{
    struct kr_tokens tokens = {0};
    for (unsigned i = 0; i < config->token_count; i++) {
        enum kr_status status =
            new_token(config, &config->tokens[i], audit, &tokens.at[i], &tokens.pins[i], err);
        if (status != KR_OK) {
            if (config->token_count > 1)
                kr_error_context(err, "token '%s'", config->tokens[i].name);
            kr_tokens_close(&tokens);
            return status;
        }
        tokens.count++;
    }
    *ret = tokens;
    return KR_OK;
}

void kr_tokens_close(struct kr_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++) {
        kr_token_close(tokens->at[i]);
        kr_pin_source_free(tokens->pins[i]);
    }
    tokens->count = 0;
}

static const struct kr_token_config *find_config(const struct kr_config *config, const char *name,
                                                 struct kr_error *err)
{
    for (unsigned i = 0; i < config->token_count; i++)
        if (!name || strcmp(config->tokens[i].name, name) == 0)
            return &config->tokens[i];
    kr_fail(err, KR_USAGE, "no token '%s' is configured", name ? name : "");
    kr_hint(err, "name one of the [token:NAME] sections");
    return NULL;
}

enum kr_status kr_keyring_open_token(const struct kr_config *config, const char *name,
                                     struct kr_audit *audit, struct kr_token **ret,
                                     struct kr_pin_source **ret_pin, struct kr_error *err)
{
    const struct kr_token_config *chosen = find_config(config, name, err);
    struct kr_token *token = NULL;
    struct kr_pin_source *pin = NULL;
    struct kr_token_info info;
    if (!chosen)
        return err->status;
    KR_TRY(new_token(config, chosen, audit, &token, &pin, err));
    enum kr_status status = kr_token_get_info(token, &info, err);
    if (status != KR_OK) {
        kr_token_close(token);
        kr_pin_source_free(pin);
        return status;
    }
    *ret = token;
    *ret_pin = pin;
    return KR_OK;
}

/* --- any of them ------------------------------------------------------------------------------ */

typedef enum kr_status (*token_use)(struct kr_token *token, void *context, struct kr_error *err);

/* The first token with which `use` succeeds, those that are worth trying first; else what the first
 * one said, but rather that one refuses than that another is away. */
static enum kr_status first_of(const struct kr_tokens *tokens, token_use use, void *context,
                               struct kr_token **ret, struct kr_error *err)
{
    struct kr_error first = KR_ERROR_INIT;
    bool tried[KR_TOKENS_MAX] = {false};
    for (int worth = 1; worth >= 0; worth--) {
        for (size_t i = 0; i < tokens->count; i++) {
            struct kr_error why = KR_ERROR_INIT;
            if (tried[i] || kr_token_worth_trying(tokens->at[i]) != worth)
                continue;
            tried[i] = true;
            if (use(tokens->at[i], context, &why) == KR_OK) {
                *ret = tokens->at[i];
                return KR_OK;
            }
            if (first.status != KR_OK &&
                (first.status != KR_TOKEN_UNAVAILABLE || why.status == KR_TOKEN_UNAVAILABLE))
                continue;
            first = why;
            if (tokens->count > 1)
                kr_error_context(&first, "token '%s'", kr_token_name(tokens->at[i]));
        }
    }
    *err = first;
    return err->status;
}

static enum kr_status log_in(struct kr_token *token, void *context, struct kr_error *err)
{
    (void)context;
    return kr_token_login(token, err);
}

enum kr_status kr_tokens_serving(const struct kr_tokens *tokens, struct kr_token **ret,
                                 struct kr_error *err)
{
    return first_of(tokens, log_in, NULL, ret, err);
}

enum kr_status kr_tokens_login(const struct kr_tokens *tokens, struct kr_error *err)
{
    struct kr_token *first = NULL;
    KR_TRY(kr_tokens_serving(tokens, &first, err));
    for (size_t i = 0; i < tokens->count; i++) {
        struct kr_error why = KR_ERROR_INIT;
        if (tokens->at[i] != first && kr_token_worth_trying(tokens->at[i]) &&
            kr_token_login(tokens->at[i], &why) != KR_OK)
            kr_log(KR_LOG_NOTE, "token '%s' does not serve: %s", kr_token_name(tokens->at[i]),
                   why.text);
    }
    return KR_OK;
}

struct bytes {
    uint8_t *at;
    size_t len;
};

static enum kr_status get_random(struct kr_token *token, void *context, struct kr_error *err)
{
    const struct bytes *bytes = context;
    return kr_token_random(token, bytes->at, bytes->len, err);
}

enum kr_status kr_tokens_random(const struct kr_tokens *tokens, uint8_t *ret, size_t len,
                                struct kr_error *err)
{
    enum { AT_ONCE = 1024 };
    for (size_t done = 0; done < len; done += AT_ONCE) {
        struct bytes some = {ret + done, len - done < AT_ONCE ? len - done : AT_ONCE};
        struct kr_token *token;
        KR_TRY(first_of(tokens, get_random, &some, &token, err));
    }
    return KR_OK;
}

struct resident {
    struct kr_object_id id;
    bool imported;
};

static enum kr_status check_resident(struct kr_token *token, void *context, struct kr_error *err)
{
    const struct resident *resident = context;
    return kr_resident_check(token, &resident->id, resident->imported, err);
}

enum kr_status kr_tokens_holder(const struct kr_tokens *tokens, const struct kr_object_id *object,
                                bool imported, struct kr_token **ret, struct kr_error *err)
{
    struct resident resident = {*object, imported};
    return first_of(tokens, check_resident, &resident, ret, err);
}

struct kr_token *kr_tokens_find(const struct kr_tokens *tokens, const char *name)
{
    for (size_t i = 0; i < tokens->count; i++)
        if (strcmp(kr_token_name(tokens->at[i]), name) == 0)
            return tokens->at[i];
    return NULL;
}

/* --- master keys ------------------------------------------------------------------------------ */

static bool is_named(const struct kr_master_row *rows, size_t count, const char *token)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].token, token) == 0)
            return true;
    return false;
}

size_t kr_master_place(const struct kr_master_key *key, const struct kr_token *token)
{
    size_t i = 0;
    while (i < key->token_count && key->tokens[i] != token)
        i++;
    return i;
}

struct kr_token *kr_master_token(const struct kr_master_row *rows, size_t count,
                                 const struct kr_master_row *row, const struct kr_tokens *tokens)
{
    struct kr_token *token = kr_tokens_find(tokens, row->token);
    if (token || tokens->count != 1 || is_named(rows, count, kr_token_name(tokens->at[0])))
        return token;
    return tokens->at[0];
}

static bool is_away(enum kr_status status)
{
    return status == KR_TOKEN_UNAVAILABLE || status == KR_AUTH;
}

/* Somebody may have put another key in its place. */
static enum kr_status explain_missing(const struct kr_master_row *row, struct kr_token *token,
                                      struct kr_error *why)
{
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_master_info *found = NULL;
    size_t count = 0;
    if (kr_master_list(token, &found, &count, &ignored) != KR_OK)
        return why->status;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(found[i].label, row->label) != 0)
            continue;
        kr_fail(why, KR_INTEGRITY,
                "token '%s' has another key of that label: the master key was exchanged, or the "
                "keystore names the wrong one",
                kr_token_name(token));
        kr_hint(why, "put the token's own master key back from its backup, or the right keystore");
        break;
    }
    free(found);
    return why->status;
}

/* The key's own token, unless it says that the key does not serve. An old key may be gone. */
static enum kr_status add_own(const struct kr_master_row *row, struct kr_token *token,
                              bool only_token, struct kr_master_key *key, bool *doubtful,
                              struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    struct kr_master_info info;
    if (!token)
        return KR_OK;
    enum kr_status status = kr_token_worth_trying(token)
                                ? kr_master_find(token, &row->id, &info, &why)
                                : KR_TOKEN_UNAVAILABLE;
    if (status == KR_OK || is_away(status)) {
        key->tokens[key->token_count++] = token;
        return KR_OK;
    }
    if (KR_GUARDED && status == KR_NOT_FOUND && row->state == KR_MASTER_CURRENT)
        status = explain_missing(row, token, &why);
    kr_error_context(&why, "master key '%s'", row->label);
    if (only_token && !(row->state == KR_MASTER_OLD && status == KR_NOT_FOUND)) {
        *err = why;
        return status;
    }
    *doubtful = *doubtful || row->state == KR_MASTER_CURRENT;
    kr_log_error(KR_LOG_WARNING, &why);
    return KR_OK;
}

/* Tokens that hold a copy, as the vendors' cloning makes it: only those that are there now. */
static void add_copies(const struct kr_master_row *row, const struct kr_token *own,
                       const struct kr_tokens *tokens, struct kr_master_key *key)
{
    for (size_t i = 0; i < tokens->count; i++) {
        struct kr_error ignored = KR_ERROR_INIT;
        struct kr_master_info info;
        struct kr_token *token = tokens->at[i];
        if (token != own && kr_token_is_up(token) &&
            kr_master_find(token, &row->id, &info, &ignored) == KR_OK)
            key->tokens[key->token_count++] = token;
    }
}

/* Where a key stands: current ones in the order of their tokens, then the old ones. */
static size_t rank(const struct kr_master_row *row, const struct kr_token *own,
                   const struct kr_tokens *tokens)
{
    size_t i = 0;
    if (row->state != KR_MASTER_CURRENT)
        return tokens->count + 1;
    while (i < tokens->count && tokens->at[i] != own)
        i++;
    return i;
}

static enum kr_status match(const struct kr_master_row *row, struct kr_token *own,
                            const struct kr_tokens *tokens, struct kr_master_key *key,
                            bool *doubtful, struct kr_error *err)
{
    key->id = row->id;
    key->mechanism = row->mechanism;
    key->current = row->state == KR_MASTER_CURRENT;
    KR_TRY(add_own(row, own, tokens->count == 1, key, doubtful, err));
    add_copies(row, own, tokens, key);
    return KR_OK;
}

enum kr_status kr_masters_match(const struct kr_master_row *rows, size_t count,
                                const struct kr_tokens *tokens, struct kr_masters *ret,
                                struct kr_error *err)
{
    struct kr_master_key *keys = calloc(count + 1, sizeof(*keys));
    size_t used = 0;
    bool doubtful = false;
    if (!keys)
        return kr_fail_memory(err);
    for (size_t place = 0; place <= tokens->count + 1; place++) {
        for (size_t i = 0; i < count; i++) {
            struct kr_token *own = kr_master_token(rows, count, &rows[i], tokens);
            if (rank(&rows[i], own, tokens) != place)
                continue;
            enum kr_status status = match(&rows[i], own, tokens, &keys[used++], &doubtful, err);
            if (status != KR_OK) {
                free(keys);
                return status;
            }
        }
    }
    *ret = (struct kr_masters){.keys = keys, .count = used, .doubtful = doubtful};
    return KR_OK;
}

enum kr_status kr_masters_copy(const struct kr_masters *masters, struct kr_masters *ret,
                               struct kr_error *err)
{
    struct kr_masters copy = {.count = masters->count, .doubtful = masters->doubtful};
    copy.keys = calloc(masters->count + 1, sizeof(*copy.keys));
    if (!copy.keys)
        return kr_fail_memory(err);
    memcpy(copy.keys, masters->keys, masters->count * sizeof(*copy.keys));
    *ret = copy;
    return KR_OK;
}
