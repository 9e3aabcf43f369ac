/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Master keys: made, listed, found, proven, and used for wrapping. */
#include "base/secret.h"
#include "pkcs11/ckr.h"
#include "pkcs11/token_internal.h"
#include "pkcs11/uri.h"
#include "pkcs11/wrapping.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool kr_object_id_equal(const struct kr_object_id *a, const struct kr_object_id *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

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

/* Collects what the token answered to each mechanism that was tried. */
enum { ANSWERS = 512 };

static void add_answer(char answers[ANSWERS], enum kr_wrap_mechanism mechanism,
                       const struct kr_error *answer)
{
    size_t used = strlen(answers);

    snprintf(answers + used, ANSWERS - used, "%s%s: %.200s", used ? "; " : "",
             kr_wrap_mechanism_name(mechanism), answer->text);
}

static enum kr_status fail_answers(enum kr_wrap_mechanism wish, const char *answers,
                                   struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "the token cannot wrap keys by %s: %s",
            wish == KR_WRAP_AUTO ? "any mechanism known here" : kr_wrap_mechanism_name(wish),
            answers[0] ? answers : "the key is of another kind");
    kr_hint(err,
            "see what the token offers: p11keyring doctor; option mechanism in section [pkcs11] "
            "pins one");
    return KR_REFUSED;
}

/* Proves, in order of preference, what is wished and fits the key; what the token answered to the
 * others is added to `answers`. KR_REFUSED when none works. */
static enum kr_status prove_first(struct kr_session *s, CK_OBJECT_HANDLE master,
                                  const struct kr_object_id *id, enum kr_key_kind kind,
                                  enum kr_wrap_mechanism wish, enum kr_wrap_mechanism *ret,
                                  char *answers, struct kr_error *err)
{
    for (size_t i = 0; i < PREFERENCES; i++) {
        struct kr_error answer = KR_ERROR_INIT;

        if (!wished(wish, preference[i]) || kind_for(preference[i]) != kind)
            continue;
        if (kr_prove_with(s, master, id, preference[i], &answer) == KR_OK) {
            *ret = preference[i];
            return KR_OK;
        }
        if (s->lost) {
            *err = answer;
            return err->status;
        }
        add_answer(answers, preference[i], &answer);
    }
    return fail_answers(wish, answers, err);
}

/* --- generate -----------------------------------------------------------------------------------
 */

struct generate_args {
    char label[sizeof(((struct kr_master_info *)0)->label)];
    enum kr_wrap_mechanism wish;
    bool made; /* a key was made: a second run would leave it behind */
    struct kr_master_info info;
};

/* An AES key has the usages of one mechanism, an RSA key serves both of RSA's. */
static const struct attempt {
    enum kr_wrap_mechanism wish;
    CK_MECHANISM_TYPE needs; /* is to be listed by the token: making a key may take long */
    const char *name;
} attempts[] = {{KR_WRAP_AES_GCM, CKM_AES_GCM, "AES-GCM"},
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

static enum kr_status generate_key(struct kr_session *s, struct generate_args *args,
                                   enum kr_wrap_mechanism mechanism, struct kr_object_id *ret_id,
                                   CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    bool by_gcm = mechanism == KR_WRAP_AES_GCM;

    if (kind_for(mechanism) == KR_KIND_RSA)
        return kr_key_pair_generate(s, args->label, ret_id, ret, err);
    return kr_key_generate(s, args->label, by_gcm ? KR_KEY_CRYPTS : KR_KEY_WRAPS,
                           by_gcm ? kr_gcm_code(s) : kr_kwp_code(s), ret_id, ret, err);
}

/* A key that does not serve does not stay. */
static enum kr_status generate_for(struct kr_session *s, struct generate_args *args,
                                   enum kr_wrap_mechanism wish, char *answers, struct kr_error *err)
{
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    enum kr_key_kind kind = kind_for(wish);
    enum kr_wrap_mechanism proven;
    struct kr_object_id id;
    enum kr_status status = generate_key(s, args, wish, &id, &handle, err);

    if (status == KR_OK) {
        args->made = true;
        status = kr_key_check_new(s, handle, kind, &id, &args->info, err);
    }
    if (status != KR_OK)
        add_answer(answers, wish, err);
    else
        status = prove_first(s, handle, &id, kind, wish, &proven, answers, err);
    if (status != KR_OK && args->made && kr_key_destroy(s, handle, kind, &id) == CKR_OK)
        args->made = false;
    return status;
}

static enum kr_status run_generate(struct kr_session *s, void *data, struct kr_error *err)
{
    struct generate_args *args = data;
    char answers[ANSWERS] = "";

    if (args->made) {
        kr_fail(err, KR_TOKEN_UNAVAILABLE, "the token was lost while it made a master key");
        kr_hint(err, "see 'p11keyring master list' for a key that was left behind, then try again");
        return KR_TOKEN_UNAVAILABLE;
    }
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        enum kr_wrap_mechanism wish = common(args->wish, attempts[i].wish);

        if (wish == KR_WRAP_AUTO)
            continue;
        if (check_listed(s, &attempts[i], err) != KR_OK)
            add_answer(answers, wish, err);
        else if (generate_for(s, args, wish, answers, err) == KR_OK)
            return KR_OK;
        if (s->lost)
            return err->status;
    }
    return fail_answers(args->wish, answers, err);
}

enum kr_status kr_master_generate(struct kr_token *token, const char *label,
                                  enum kr_wrap_mechanism wish, struct kr_master_info *ret,
                                  struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct generate_args), run_generate, NULL);
    struct generate_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct generate_args *)job->args;
    if (strlen(label) >= sizeof(args->label))
        return kr_fail(err, KR_USAGE, "a master key's label has at most %zu bytes",
                       sizeof(args->label) - 1);
    strcpy(args->label, label);
    args->wish = wish;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = args->info;
    return KR_OK;
}

/* --- list and find ------------------------------------------------------------------------------
 */

struct list_args {
    struct kr_master_info *list;
    size_t count;
};

static void clear_list(void *data)
{
    free(((struct list_args *)data)->list);
}

/* RSA keys of other programs, for TLS say, are none of ours. */
static bool is_of_interest(const struct kr_master_info *info)
{
    return info->kind == KR_KIND_AES || !info->problem ||
           strncmp(info->label, "p11keyring:", 11) == 0;
}

static enum kr_status run_list(struct kr_session *s, void *data, struct kr_error *err)
{
    struct list_args *args = data;

    clear_list(args);
    args->list = NULL;
    args->count = 0;
    KR_TRY(kr_keys_load(s, err));
    args->list = calloc(s->keys->count + 1, sizeof(*args->list));
    if (!args->list)
        return kr_fail_memory(err);
    for (size_t i = 0; i < s->keys->count; i++) {
        if (s->keys->entries[i].kind == KR_KIND_OTHER)
            continue;
        KR_TRY(kr_key_read(s, &s->keys->entries[i], &args->list[args->count], err));
        args->count += is_of_interest(&args->list[args->count]);
    }
    return KR_OK;
}

enum kr_status kr_master_list(struct kr_token *token, struct kr_master_info **ret,
                              size_t *ret_count, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct list_args), run_list, clear_list);
    struct list_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct list_args *)job->args;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = args->list;
    *ret_count = args->count;
    args->list = NULL;
    return KR_OK;
}

struct find_args {
    struct kr_object_id id;
    struct kr_master_info info;
    char uri[];
};

static enum kr_status run_find(struct kr_session *s, void *data, struct kr_error *err)
{
    struct find_args *args = data;
    CK_OBJECT_HANDLE handle;

    return kr_key_usable(s, &args->id, &handle, &args->info, err);
}

enum kr_status kr_master_find(struct kr_token *token, const struct kr_object_id *id,
                              struct kr_master_info *ret, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct find_args), run_find, NULL);
    struct find_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct find_args *)job->args;
    args->id = *id;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = args->info;
    return KR_OK;
}

static bool matches_uri(P11KitUri *uri, const struct kr_master_info *info)
{
    CK_OBJECT_CLASS class = info->kind == KR_KIND_RSA ? CKO_PRIVATE_KEY : CKO_SECRET_KEY;
    CK_ATTRIBUTE attrs[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_ID, (void *)info->id.bytes, info->id.len},
        {CKA_LABEL, (void *)info->label, strlen(info->label)},
    };

    return p11_kit_uri_match_attributes(uri, attrs, 3);
}

static enum kr_status find_match(struct kr_session *s, P11KitUri *uri, struct find_args *args,
                                 struct kr_error *err)
{
    size_t matches = 0;

    KR_TRY(kr_keys_load(s, err));
    for (size_t i = 0; i < s->keys->count; i++) {
        struct kr_master_info info;

        KR_TRY(kr_key_read(s, &s->keys->entries[i], &info, err));
        if (matches_uri(uri, &info) && matches++ == 0)
            args->info = info;
    }
    if (matches == 0) {
        kr_fail(err, KR_NOT_FOUND, "no key on the token matches %s", args->uri);
        kr_hint(err, "see the keys it has: p11keyring master list (a binary id is written "
                     "%%01%%ab in a URI)");
        return KR_NOT_FOUND;
    }
    if (matches > 1) {
        kr_fail(err, KR_REFUSED, "%zu keys on the token match %s", matches, args->uri);
        kr_hint(err, "name the key by its id: id=%%01%%ab...");
        return KR_REFUSED;
    }
    return kr_key_accept(&args->info, err);
}

static enum kr_status run_find_uri(struct kr_session *s, void *data, struct kr_error *err)
{
    struct find_args *args = data;
    struct kr_key_entry *only;
    CK_TOKEN_INFO token;
    KR_URI P11KitUri *uri = NULL;

    KR_TRY(kr_uri_parse(args->uri, P11_KIT_URI_FOR_OBJECT_ON_TOKEN, &uri, err));
    if (!p11_kit_uri_get_attribute(uri, CKA_ID) && !p11_kit_uri_get_attribute(uri, CKA_LABEL)) {
        kr_fail(err, KR_USAGE, "the URI %s names no key", args->uri);
        kr_hint(err, "add id=... or object=... to it");
        return KR_USAGE;
    }
    KR_TRY(kr_session_token_info(s, &token, err));
    if (!p11_kit_uri_match_token_info(uri, &token))
        return kr_fail(err, KR_NOT_FOUND, "the URI %s is of another token than %s", args->uri,
                       s->uri);
    KR_TRY(find_match(s, uri, args, err));
    return kr_keys_find(s, &args->info.id, &only, err);
}

enum kr_status kr_master_find_uri(struct kr_token *token, const char *uri,
                                  struct kr_master_info *ret, struct kr_error *err)
{
    size_t len = strlen(uri) + 1;
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct find_args) + len, run_find_uri, NULL);
    struct find_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct find_args *)job->args;
    memcpy(args->uri, uri, len);
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = args->info;
    return KR_OK;
}

/* --- destroy ------------------------------------------------------------------------------------
 */

static enum kr_status run_destroy(struct kr_session *s, void *data, struct kr_error *err)
{
    const struct kr_object_id *id = data;
    struct kr_key_entry *key;
    CK_RV rv;

    KR_TRY(kr_keys_find(s, id, &key, err));
    rv = kr_key_destroy(s, key->handle, key->kind, id);
    return rv == CKR_OK ? KR_OK : kr_ckr_fail(err, "C_DestroyObject", rv);
}

enum kr_status kr_master_destroy(struct kr_token *token, const struct kr_object_id *id,
                                 struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(*id), run_destroy, NULL);

    if (!job)
        return kr_fail_memory(err);
    memcpy(job->args, id, sizeof(*id));
    return kr_token_run(token, KR_NEED_LOGIN, job, err);
}

/* --- prove and use ------------------------------------------------------------------------------
 */

struct use_args {
    struct kr_object_id id;
    enum kr_wrap_mechanism mechanism;
    uint8_t wrapped[KR_WRAPPED_MAX];
    size_t wrapped_len;
    uint8_t key[KR_SEALING_KEY_BYTES];
};

static struct kr_job *use_job(const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                              kr_job_run run)
{
    struct kr_job *job = kr_job_new(sizeof(struct use_args), run, NULL);
    struct use_args *args;

    if (!job)
        return NULL;
    args = (struct use_args *)job->args;
    args->id = *id;
    args->mechanism = mechanism;
    return job;
}

static enum kr_status run_prove(struct kr_session *s, void *data, struct kr_error *err)
{
    struct use_args *args = data;
    struct kr_master_info info;
    CK_OBJECT_HANDLE master;
    char answers[ANSWERS] = "";

    KR_TRY(kr_key_usable(s, &args->id, &master, &info, err));
    return prove_first(s, master, &args->id, info.kind, args->mechanism, &args->mechanism, answers,
                       err);
}

enum kr_status kr_master_prove(struct kr_token *token, const struct kr_object_id *id,
                               enum kr_wrap_mechanism wish, enum kr_wrap_mechanism *ret,
                               struct kr_error *err)
{
    KR_JOB struct kr_job *job = use_job(id, wish, run_prove);

    if (!job)
        return kr_fail_memory(err);
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = ((struct use_args *)job->args)->mechanism;
    return KR_OK;
}

static enum kr_status run_wrap(struct kr_session *s, void *data, struct kr_error *err)
{
    struct use_args *args = data;
    CK_OBJECT_HANDLE master;

    KR_TRY(kr_key_usable(s, &args->id, &master, NULL, err));
    return kr_wrap_with(s, master, &args->id, args->mechanism, args->key, args->wrapped,
                        &args->wrapped_len, err);
}

enum kr_status kr_master_wrap(struct kr_token *token, const struct kr_object_id *id,
                              enum kr_wrap_mechanism mechanism,
                              const uint8_t sealing_key[KR_SEALING_KEY_BYTES], uint8_t *ret_wrapped,
                              size_t *ret_len, struct kr_error *err)
{
    KR_JOB struct kr_job *job = use_job(id, mechanism, run_wrap);
    struct use_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct use_args *)job->args;
    memcpy(args->key, sealing_key, sizeof(args->key));
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    memcpy(ret_wrapped, args->wrapped, args->wrapped_len);
    *ret_len = args->wrapped_len;
    kr_token_count_wrap(token);
    return KR_OK;
}

static enum kr_status run_unwrap(struct kr_session *s, void *data, struct kr_error *err)
{
    struct use_args *args = data;
    CK_OBJECT_HANDLE master;

    KR_TRY(kr_key_usable(s, &args->id, &master, NULL, err));
    return kr_unwrap_with(s, master, &args->id, args->mechanism, args->wrapped, args->wrapped_len,
                          args->key, err);
}

enum kr_status kr_master_unwrap(struct kr_token *token, const struct kr_object_id *id,
                                enum kr_wrap_mechanism mechanism, const uint8_t *wrapped,
                                size_t wrapped_len, uint8_t ret_sealing_key[KR_SEALING_KEY_BYTES],
                                struct kr_error *err)
{
    KR_JOB struct kr_job *job = use_job(id, mechanism, run_unwrap);
    struct use_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct use_args *)job->args;
    if (wrapped_len > sizeof(args->wrapped))
        return kr_fail(err, KR_INTEGRITY,
                       "a wrapped key has %zu bytes, more than any mechanism "
                       "makes",
                       wrapped_len);
    memcpy(args->wrapped, wrapped, wrapped_len);
    args->wrapped_len = wrapped_len;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    memcpy(ret_sealing_key, args->key, sizeof(args->key));
    kr_token_count_unwrap(token);
    return KR_OK;
}
