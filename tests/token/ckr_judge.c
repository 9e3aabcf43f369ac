/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What must be true of an operation whose token failed. */
#include "ckr_case.h"

#include "pkcs11/ckr.h"

#include <string.h>

enum kr_status ckr_class(CK_RV ckr)
{
    struct kr_error err = KR_ERROR_INIT;

    return kr_ckr_fail(&err, "", ckr);
}

/* "Already" from a module where it is not so, attributes that are not to be had, and a token that
 * then gets a session that only reads: what fails is something later, which says more. */
static bool is_taken_well(const struct ckr_case *c)
{
    const CK_RV ckr = c->fault->ckr;

    return ckr == CKR_USER_ALREADY_LOGGED_IN || ckr == CKR_CRYPTOKI_ALREADY_INITIALIZED ||
           (ckr == CKR_TOKEN_WRITE_PROTECTED && strcmp(c->function->name, "C_OpenSession") == 0) ||
           ((ckr == CKR_ATTRIBUTE_TYPE_INVALID || ckr == CKR_ATTRIBUTE_SENSITIVE ||
             ckr == CKR_BUFFER_TOO_SMALL) &&
            strcmp(c->function->name, "C_GetAttributeValue") == 0);
}

static bool says_damaged(CK_RV ckr)
{
    return ckr_class(ckr) == KR_INTEGRITY || ckr == CKR_GENERAL_ERROR ||
           ckr == CKR_FUNCTION_FAILED || ckr == CKR_DATA_INVALID || ckr == CKR_DATA_LEN_RANGE;
}

static bool is_right_class(const struct ckr_case *c, const struct outcome *o)
{
    const char *function = c->function->name;
    const CK_RV ckr = c->fault->ckr;

    if (o->status == ckr_class(ckr))
        return true;
    /* A token that does not say what it is might as well be another one. */
    if (strcmp(function, "C_GetTokenInfo") == 0 || strcmp(function, "C_GetSessionInfo") == 0)
        return o->status == KR_TOKEN_UNAVAILABLE;
    /* So does NSS ask for init-args. */
    if (ckr == CKR_ARGUMENTS_BAD && strcmp(function, "C_Initialize") == 0)
        return o->status == KR_CONFIG;
    /* It had said that there is one. */
    if (ckr == CKR_USER_PIN_NOT_INITIALIZED && strcmp(function, "C_Login") == 0)
        return o->status == KR_TOKEN_UNAVAILABLE;
    /* So do modules answer what was tampered with; and one that refuses what it has just wrapped,
     * too, is itself in trouble. */
    if (strncmp(function, "C_Decrypt", 9) == 0 && says_damaged(ckr) &&
        (o->status == KR_INTEGRITY || o->status == KR_TOKEN_UNAVAILABLE))
        return true;
    /* What a token answers to a mechanism that is tried says that it lacks it. */
    return o->status == KR_REFUSED && (strstr(o->err.text, "cannot wrap keys by") ||
                                       strstr(o->err.text, "takes no key from outside"));
}

/* For another thread of the operation, which had the failure. */
static bool has_waited(const struct kr_error *err)
{
    return strstr(err->text, "was busy with other requests");
}

/* What is wrong with a failure; NULL when nothing is. */
static const char *judge_error(const struct ckr_case *c, const struct outcome *o)
{
    if (o->err.status != o->status)
        return "the status is not the error's";
    if (!o->err.hint[0])
        return "no hint";
    if (c->fault->ckr == CKR_OK || is_taken_well(c) || has_waited(&o->err))
        return NULL;
    if (!is_right_class(c, o))
        return "of another class";
    if (!strstr(o->err.text, kr_ckr_name(c->fault->ckr)))
        return "the text does not name the CKR";
    return NULL;
}

/* What failed has changed nothing or, when it was the last steps that failed, everything. */
static bool is_unchanged_or_done(const struct ckr_case *c, const struct outcome *o)
{
    enum kr_status after_success = operations[c->operation].after_success;

    return o->again == after_success || (o->again == KR_OK && o->status != KR_OK);
}

static bool tells_of_a_key(const struct kr_error *err)
{
    return strstr(err->hint, "left") || strstr(err->hint, "stayed behind");
}

static const char *judge_state(const struct ckr_case *c, const struct outcome *o)
{
    if (!is_unchanged_or_done(c, o))
        return "then, without a failure";
    if (!o->verified)
        return "another process crashed or hung";
    if (o->masters > 1 + operations[c->operation].masters && !tells_of_a_key(&o->err))
        return "a master key stays in the token and nobody says so";
    return o->wrong[0] ? o->wrong : NULL;
}

const char *ckr_judge(const struct ckr_case *c, const struct outcome *o)
{
    const char *wrong;

    if (!o->finished)
        return "crashed or hung";
    wrong = o->status == KR_OK ? NULL : judge_error(c, o);
    return wrong ? wrong : judge_state(c, o);
}
