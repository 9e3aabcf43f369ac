/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Master keys: made, and proven. Each mechanism is tried in a job of its own, so that a session in
 * which a failed one is left active is exchanged before the next (retry.c).
 */
#include "pkcs11/token_internal.h"
#include "pkcs11/wrapping.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Primes are found by chance, by some tokens slowly. */
enum { RSA_GENERATE_MS = 120000 };

/* In order of preference. */
static const enum kr_wrap_mechanism preference[] = {KR_WRAP_AES_GCM, KR_WRAP_AES_KWP,
                                                    KR_WRAP_RSA_SHA256, KR_WRAP_RSA_SHA1};
enum { PREFERENCES = sizeof(preference) / sizeof(preference[0]) };

static enum kr_key_kind kind_for(enum kr_wrap_mechanism mechanism)
{
    return mechanism == KR_WRAP_AES_GCM || mechanism == KR_WRAP_AES_KWP ? KR_KIND_AES : KR_KIND_RSA;
}

static bool wished(enum kr_wrap_mechanism wish, enum kr_wrap_mechanism mechanism)
{
    return wish == KR_WRAP_AUTO || wish == mechanism ||
           (wish == KR_WRAP_RSA && kind_for(mechanism) == KR_KIND_RSA);
}

/* --- what the token answered ------------------------------------------------------------------ */

struct answers {
    char text[512];
    enum kr_status trouble; /* of one that was no refusal; KR_OK: none */
    bool key_left;          /* a key was made, and could not be removed */
};

/* No mechanism is to blame, so that another one would be a choice by chance. */
static bool is_full_or_closed(CK_RV rv)
{
    return rv == CKR_DEVICE_MEMORY || rv == CKR_HOST_MEMORY || rv == CKR_TOKEN_WRITE_PROTECTED;
}

/* Whether a failure says that the token cannot do this, and not that it cannot be asked. */
static bool is_answer(struct kr_token *token, const struct kr_error *err)
{
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_token_info info;

    if (is_full_or_closed(err->ckr))
        return false;
    if (err->status == KR_REFUSED || err->status == KR_INTEGRITY)
        return true;
    if (err->ckr == 0 || (err->status != KR_INTERNAL && err->status != KR_TOKEN_UNAVAILABLE))
        return false;
    return kr_token_get_info(token, &info, &ignored) == KR_OK;
}

static void add_answer(struct answers *answers, enum kr_wrap_mechanism mechanism,
                       const struct kr_error *answer)
{
    size_t used = strlen(answers->text);

    snprintf(answers->text + used, sizeof(answers->text) - used, "%s%s: %.200s", used ? "; " : "",
             kr_wrap_mechanism_name(mechanism), answer->text);
    if (answer->status == KR_TOKEN_UNAVAILABLE)
        answers->trouble = answer->status;
}

static void hint_key_left(struct kr_error *err)
{
    kr_hint(err, "a key was made and stayed behind: see it with 'p11keyring master list', remove "
                 "it with pkcs11-tool --delete-object");
}

static enum kr_status fail_answers(enum kr_wrap_mechanism wish, const struct answers *answers,
                                   struct kr_error *err)
{
    if (answers->trouble) {
        kr_fail(err, answers->trouble, "the token failed while its mechanisms were tried: %s",
                answers->text);
        kr_hint(err, "try again; if it stays so: p11keyring doctor");
    } else {
        kr_fail(err, KR_REFUSED, "the token cannot wrap keys by %s: %s",
                wish == KR_WRAP_AUTO ? "any mechanism known here" : kr_wrap_mechanism_name(wish),
                answers->text[0] ? answers->text : "the key is of another kind");
        kr_hint(err, "see what the token offers: p11keyring doctor; option mechanism in section "
                     "[pkcs11] pins one");
    }
    if (answers->key_left)
        hint_key_left(err);
    return err->status;
}

/* --- prove ------------------------------------------------------------------------------------ */

struct prove_args {
    struct kr_object_id id;
    enum kr_wrap_mechanism mechanism;
};

static enum kr_status run_prove(struct kr_session *s, void *data, struct kr_error *err)
{
    const struct prove_args *args = data;
    CK_OBJECT_HANDLE master;

    KR_TRY(kr_key_usable(s, &args->id, &master, NULL, err));
    return kr_prove_with(s, master, &args->id, args->mechanism, err);
}

static enum kr_status prove_one(struct kr_token *token, const struct kr_object_id *id,
                                enum kr_wrap_mechanism mechanism, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct prove_args), run_prove, NULL);

    if (!job)
        return kr_fail_memory(err);
    *(struct prove_args *)job->args = (struct prove_args){*id, mechanism};
    return kr_token_run(token, KR_NEED_LOGIN, job, err);
}

/* The first that works of what is wished and fits the key; what the token answered to the others is
 * added to `answers`. KR_REFUSED when none works. */
static enum kr_status prove_first(struct kr_token *token, const struct kr_master_info *key,
                                  enum kr_wrap_mechanism wish, enum kr_wrap_mechanism *ret,
                                  struct answers *answers, struct kr_error *err)
{
    for (size_t i = 0; i < PREFERENCES; i++) {
        if (!wished(wish, preference[i]) || kind_for(preference[i]) != key->kind)
            continue;
        if (prove_one(token, &key->id, preference[i], err) == KR_OK) {
            *ret = preference[i];
            return KR_OK;
        }
        if (!is_answer(token, err))
            return err->status;
        add_answer(answers, preference[i], err);
    }
    return fail_answers(wish, answers, err);
}

enum kr_status kr_master_prove(struct kr_token *token, const struct kr_object_id *id,
                               enum kr_wrap_mechanism wish, enum kr_wrap_mechanism *ret,
                               struct kr_error *err)
{
    struct kr_master_info key;
    struct answers answers = {.trouble = KR_OK};

    KR_TRY(kr_master_find(token, id, &key, err));
    return prove_first(token, &key, wish, ret, &answers, err);
}

/* --- generate --------------------------------------------------------------------------------- */

/* An AES key has the usages of one mechanism, an RSA key serves both of RSA's. */
struct attempt {
    enum kr_wrap_mechanism wish;
    CK_MECHANISM_TYPE needs; /* is to be listed by the token: making a key may take long */
    const char *name;
};

static const struct attempt attempts[] = {
    {KR_WRAP_AES_GCM, CKM_AES_GCM, "AES-GCM"},
    {KR_WRAP_AES_KWP, CKM_AES_KEY_GEN, "AES key generation"},
    {KR_WRAP_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, "RSA key pair generation"}};

/* What two wishes have in common; KR_WRAP_AUTO for nothing. */
static enum kr_wrap_mechanism common(enum kr_wrap_mechanism wish, enum kr_wrap_mechanism other)
{
    if (wished(wish, other))
        return other;
    return wished(other, wish) ? wish : KR_WRAP_AUTO;
}

static enum kr_status check_listed(struct kr_session *s, const struct attempt *attempt,
                                   struct kr_error *err)
{
    const CK_MECHANISM_TYPE needs =
        attempt->wish == KR_WRAP_AES_GCM ? kr_gcm_code(s) : attempt->needs;
    CK_ULONG *list = NULL;
    size_t count = 0;
    bool found = false;

    KR_TRY(kr_session_mechanisms(s, &list, &count, err));
    for (size_t i = 0; i < count; i++)
        found = found || list[i] == needs;
    free(list);
    return found ? KR_OK
                 : kr_fail(err, KR_REFUSED, "the token does not list %s (0x%lx)", attempt->name,
                           needs);
}

struct make_args {
    const struct attempt *attempt;
    struct kr_key_order order;
};

static enum kr_status run_make(struct kr_session *s, void *data, struct kr_error *err)
{
    struct make_args *args = data;
    const bool by_gcm = args->attempt->wish == KR_WRAP_AES_GCM;

    KR_TRY(check_listed(s, args->attempt, err));
    args->order.usage = by_gcm ? KR_KEY_CRYPTS : KR_KEY_WRAPS;
    args->order.mechanism = by_gcm ? kr_gcm_code(s) : kr_kwp_code(s);
    return kr_key_make(s, &args->order, err);
}

static enum kr_status make(struct kr_token *token, const struct attempt *attempt, const char *label,
                           struct kr_master_info *ret, bool *ret_key_left, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct make_args), run_make, NULL);
    struct make_args *args;
    enum kr_status status;

    if (!job)
        return kr_fail_memory(err);
    args = (struct make_args *)job->args;
    args->attempt = attempt;
    KR_TRY(kr_key_order_fill(&args->order, kind_for(attempt->wish), label, err));
    if (args->order.kind == KR_KIND_RSA)
        job->timeout_ms = RSA_GENERATE_MS;
    status = kr_token_run(token, KR_NEED_LOGIN, job, err);
    if (status == KR_OK)
        *ret = args->order.info;
    else if (err->ckr || err->status != KR_TOKEN_UNAVAILABLE) /* a call that hangs has the job */
        *ret_key_left = *ret_key_left || args->order.made;
    return status;
}

/* A key that does not serve does not stay; but who has waited for a token that does not answer does
 * not wait again for this. */
static enum kr_status remove_made(struct kr_token *token, const struct kr_object_id *id,
                                  struct kr_error *err)
{
    enum kr_status status;

    if (err->status == KR_REFUSED) {
        status = kr_master_destroy(token, id, err);
        if (status == KR_OK)
            return KR_OK;
        kr_error_context(err, "a key does not serve, and cannot be destroyed");
    }
    hint_key_left(err);
    return err->status;
}

enum kr_status kr_master_generate(struct kr_token *token, const char *label,
                                  enum kr_wrap_mechanism wish, struct kr_master_info *ret,
                                  struct kr_error *err)
{
    struct answers answers = {.trouble = KR_OK};

    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        const enum kr_wrap_mechanism narrowed = common(wish, attempts[i].wish);
        enum kr_wrap_mechanism proven;
        struct kr_master_info key;

        if (narrowed == KR_WRAP_AUTO)
            continue;
        if (make(token, &attempts[i], label, &key, &answers.key_left, err) != KR_OK) {
            if (!is_answer(token, err)) {
                if (answers.key_left)
                    hint_key_left(err);
                return err->status;
            }
            add_answer(&answers, narrowed, err);
            continue;
        }
        if (prove_first(token, &key, narrowed, &proven, &answers, err) == KR_OK) {
            *ret = key;
            return KR_OK;
        }
        const struct kr_error why = *err;
        KR_TRY(remove_made(token, &key.id, err));
        if (is_full_or_closed(why.ckr)) {
            *err = why;
            return err->status;
        }
    }
    return fail_answers(wish, &answers, err);
}
