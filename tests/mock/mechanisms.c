/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Mechanisms that are hidden, broken, or known by another number; and IVs of the token's own. */
#include "mock.h"

#include <string.h>
#include <sys/random.h>

enum { LIST_MAX = 512, RULES_OF_A_KIND = 32, TEMPLATE_MAX = 64 };

static CK_FUNCTION_LIST next;

CK_RV mock_give_list(const CK_ULONG *list, CK_ULONG count, CK_ULONG *ret, CK_ULONG *ret_count)
{
    CK_ULONG room = *ret_count;

    *ret_count = count;
    if (!ret)
        return CKR_OK;
    if (room < count)
        return CKR_BUFFER_TOO_SMALL;
    memcpy(ret, list, count * sizeof(*list));
    return CKR_OK;
}

/* --- rules ------------------------------------------------------------------------------------ */

/* Finds the rule whose number at `at` is the mechanism. */
static bool find_rule(const char *action, CK_SLOT_ID slot, int at, CK_MECHANISM_TYPE mechanism,
                      struct mock_rule *ret)
{
    struct mock_rule rules[RULES_OF_A_KIND];
    size_t count = mock_rules_of(action, slot, NULL, rules, RULES_OF_A_KIND);

    for (size_t i = 0; i < count; i++) {
        if (rules[i].numbers[at] == mechanism) {
            *ret = rules[i];
            return true;
        }
    }
    return false;
}

static bool is_hidden(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism)
{
    struct mock_rule rule;

    return find_rule("hidden", slot, 0, mechanism, &rule) ||
           find_rule("renamed", slot, 0, mechanism, &rule);
}

/* What the real module calls it. */
static CK_MECHANISM_TYPE real_number(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism)
{
    struct mock_rule rule;

    return find_rule("renamed", slot, 1, mechanism, &rule) ? rule.numbers[0] : mechanism;
}

static CK_RV may_use(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism)
{
    struct mock_rule rule;

    if (is_hidden(slot, mechanism))
        return CKR_MECHANISM_INVALID;
    if (find_rule("broken", slot, 0, mechanism, &rule))
        return rule.numbers[1] ? rule.numbers[1] : CKR_MECHANISM_INVALID;
    return CKR_OK;
}

/* --- what is listed --------------------------------------------------------------------------- */

static void add_once(CK_ULONG *list, CK_ULONG *count, CK_ULONG value)
{
    for (CK_ULONG i = 0; i < *count; i++)
        if (list[i] == value)
            return;
    list[(*count)++] = value;
}

static CK_RV mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *ret, CK_ULONG *ret_count)
{
    struct mock_rule rules[RULES_OF_A_KIND], rule;
    CK_MECHANISM_TYPE all[LIST_MAX], shown[LIST_MAX + RULES_OF_A_KIND];
    CK_ULONG count = LIST_MAX, shown_count = 0;
    CK_RV rv = next.C_GetMechanismList(slot, all, &count);
    size_t broken;

    if (rv != CKR_OK)
        return rv;
    for (CK_ULONG i = 0; i < count; i++) {
        if (find_rule("renamed", slot, 0, all[i], &rule))
            add_once(shown, &shown_count, rule.numbers[1]);
        else if (!is_hidden(slot, all[i]))
            add_once(shown, &shown_count, all[i]);
    }
    broken = mock_rules_of("broken", slot, NULL, rules, RULES_OF_A_KIND);
    for (size_t i = 0; i < broken; i++)
        add_once(shown, &shown_count, rules[i].numbers[0]);
    return mock_give_list(shown, shown_count, ret, ret_count);
}

static CK_RV mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism, CK_MECHANISM_INFO *ret)
{
    struct mock_rule rule;
    CK_RV rv;

    if (is_hidden(slot, mechanism))
        return CKR_MECHANISM_INVALID;
    rv = next.C_GetMechanismInfo(slot, real_number(slot, mechanism), ret);
    if (rv == CKR_OK || !find_rule("broken", slot, 0, mechanism, &rule))
        return rv;
    *ret = (CK_MECHANISM_INFO){.ulMinKeySize = 16,
                               .ulMaxKeySize = 4096,
                               .flags = CKF_HW | CKF_ENCRYPT | CKF_DECRYPT | CKF_WRAP | CKF_UNWRAP |
                                        CKF_SIGN | CKF_VERIFY | CKF_GENERATE};
    return CKR_OK;
}

/* --- what is used ----------------------------------------------------------------------------- */

/* Every function whose mechanism is b; `b` becomes the one that the real module knows. */
#define X(name, params, args)                                                                      \
    static CK_RV real_##name params                                                                \
    {                                                                                              \
        CK_SLOT_ID slot = mock_slot_of(a);                                                         \
        CK_MECHANISM mechanism;                                                                    \
        CK_RV rv = b ? may_use(slot, b->mechanism) : CKR_OK;                                       \
                                                                                                   \
        if (rv != CKR_OK)                                                                          \
            return rv;                                                                             \
        if (b) {                                                                                   \
            mechanism = *b;                                                                        \
            mechanism.mechanism = real_number(slot, b->mechanism);                                 \
            b = &mechanism;                                                                        \
        }                                                                                          \
        return next.name args;                                                                     \
    }
MOCK_MECHANISM_FUNCTIONS(X)
#undef X

static CK_RV encrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_SLOT_ID slot = mock_slot_of(session);
    CK_GCM_PARAMS *gcm = mechanism ? mechanism->pParameter : NULL;

    if (gcm && real_number(slot, mechanism->mechanism) == CKM_AES_GCM &&
        mock_rule("iv-by-token", slot) && getrandom(gcm->pIv, gcm->ulIvLen, 0) < 0)
        return CKR_FUNCTION_FAILED;
    return real_C_EncryptInit(session, mechanism, key);
}

/* A key that may be used with a vendor's mechanism alone. */
static CK_RV generate_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                          CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *ret)
{
    CK_ATTRIBUTE copy[TEMPLATE_MAX];
    CK_MECHANISM_TYPE allowed[RULES_OF_A_KIND];
    CK_SLOT_ID slot = mock_slot_of(session);

    if (count > TEMPLATE_MAX)
        return CKR_ARGUMENTS_BAD;
    for (CK_ULONG i = 0; i < count; i++) {
        copy[i] = template[i];
        if (copy[i].type != CKA_ALLOWED_MECHANISMS || copy[i].ulValueLen > sizeof(allowed))
            continue;
        memcpy(allowed, copy[i].pValue, copy[i].ulValueLen);
        for (CK_ULONG j = 0; j < copy[i].ulValueLen / sizeof(allowed[0]); j++)
            allowed[j] = real_number(slot, allowed[j]);
        copy[i].pValue = allowed;
    }
    return real_C_GenerateKey(session, mechanism, copy, count, ret);
}

void mock_layer_mechanisms(CK_FUNCTION_LIST *list)
{
    next = *list;
    list->C_GetMechanismList = mechanism_list;
    list->C_GetMechanismInfo = mechanism_info;
#define X(name, params, args) list->name = real_##name;
    MOCK_MECHANISM_FUNCTIONS(X)
#undef X
    list->C_EncryptInit = encrypt_init;
    list->C_GenerateKey = generate_key;
}
