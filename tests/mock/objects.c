/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Objects: how many there may be, what their templates may say, and what they say of themselves. */
#include "mock.h"

#include <string.h>

enum { RULES_OF_A_KIND = 32, TEMPLATE_MAX = 64, FOUND_AT_ONCE = 256 };

static CK_FUNCTION_LIST next;

/* --- templates -------------------------------------------------------------------------------- */

static const CK_ATTRIBUTE *find_attribute(const CK_ATTRIBUTE *template, CK_ULONG count,
                                          CK_ATTRIBUTE_TYPE type)
{
    for (CK_ULONG i = 0; i < count; i++)
        if (template[i].type == type)
            return &template[i];
    return NULL;
}

static bool is_true(const CK_ATTRIBUTE *attribute)
{
    return attribute && attribute->pValue && attribute->ulValueLen == sizeof(CK_BBOOL) &&
           *(const CK_BBOOL *)attribute->pValue;
}

static CK_RV check_template(CK_SLOT_ID slot, const char *function, const CK_ATTRIBUTE *template,
                            CK_ULONG count)
{
    struct mock_rule rules[RULES_OF_A_KIND];
    size_t n = mock_rules_of("refuse", slot, function, rules, RULES_OF_A_KIND);

    for (size_t i = 0; i < n; i++)
        if (find_attribute(template, count, rules[i].numbers[0]))
            return rules[i].numbers[1] ? rules[i].numbers[1] : CKR_TEMPLATE_INCONSISTENT;
    n = mock_rules_of("require", slot, function, rules, RULES_OF_A_KIND);
    for (size_t i = 0; i < n; i++)
        if (!find_attribute(template, count, rules[i].numbers[0]))
            return CKR_TEMPLATE_INCOMPLETE;
    return CKR_OK;
}

/* The template as the real module gets it: without what only the rules require, and of keys that
 * can be taken out where they say so. */
static CK_ULONG strip_template(CK_SLOT_ID slot, const char *function, const CK_ATTRIBUTE *template,
                               CK_ULONG count, CK_ATTRIBUTE ret[TEMPLATE_MAX])
{
    static CK_BBOOL yes = CK_TRUE;
    struct mock_rule rules[RULES_OF_A_KIND];
    size_t n = mock_rules_of("require", slot, function, rules, RULES_OF_A_KIND);
    const bool leaky = mock_rule("leaky", slot);
    CK_ULONG kept = 0;

    for (CK_ULONG i = 0; i < count && kept < TEMPLATE_MAX; i++) {
        bool required = false;

        for (size_t j = 0; j < n; j++)
            required = required || rules[j].numbers[0] == template[i].type;
        if (!required)
            ret[kept++] = template[i];
        if (!required && leaky && template[i].type == CKA_EXTRACTABLE)
            ret[kept - 1].pValue = &yes;
    }
    return kept;
}

/* --- room for objects ------------------------------------------------------------------------- */

/* All token objects that the user sees, in a session of its own: the caller's may be busy. */
static CK_RV count_objects(CK_SLOT_ID slot, CK_ULONG *ret)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE on_token = {CKA_TOKEN, &yes, sizeof(yes)};
    CK_OBJECT_HANDLE found[FOUND_AT_ONCE];
    CK_SESSION_HANDLE session;
    CK_ULONG n = 0;
    CK_RV rv = mock_real->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session);

    *ret = 0;
    if (rv != CKR_OK)
        return rv;
    rv = mock_real->C_FindObjectsInit(session, &on_token, 1);
    while (rv == CKR_OK &&
           (rv = mock_real->C_FindObjects(session, found, FOUND_AT_ONCE, &n)) == CKR_OK && n > 0)
        *ret += n;
    mock_real->C_CloseSession(session);
    return rv;
}

static CK_RV may_store(CK_SLOT_ID slot, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct mock_rule limit;
    CK_ULONG objects;
    CK_RV rv;

    if (!is_true(find_attribute(template, count, CKA_TOKEN)))
        return CKR_OK;
    if (mock_rule("write-protected", slot))
        return CKR_TOKEN_WRITE_PROTECTED;
    if (mock_rules_of("limit-objects", slot, NULL, &limit, 1) == 0)
        return CKR_OK;
    rv = count_objects(slot, &objects);
    if (rv != CKR_OK)
        return rv;
    return objects < limit.numbers[0] ? CKR_OK : CKR_DEVICE_MEMORY;
}

static CK_RV check(CK_SLOT_ID slot, const char *function, const CK_ATTRIBUTE *template,
                   CK_ULONG count)
{
    CK_RV rv = check_template(slot, function, template, count);

    return rv == CKR_OK ? may_store(slot, template, count) : rv;
}

/* --- making objects --------------------------------------------------------------------------- */

/* NAME with a template T of N attributes. */
#define MAKES(name, t, n, params, args)                                                            \
    static CK_RV make_##name params                                                                \
    {                                                                                              \
        CK_SLOT_ID slot = mock_slot_of(a);                                                         \
        CK_ATTRIBUTE stripped[TEMPLATE_MAX];                                                       \
        CK_RV rv = check(slot, #name, t, n);                                                       \
                                                                                                   \
        if (rv != CKR_OK)                                                                          \
            return rv;                                                                             \
        n = strip_template(slot, #name, t, n, stripped);                                           \
        t = stripped;                                                                              \
        return next.name args;                                                                     \
    }

MAKES(C_CreateObject, b, c, (CK_SESSION_HANDLE a, CK_ATTRIBUTE *b, CK_ULONG c, CK_OBJECT_HANDLE *d),
      (a, b, c, d))
MAKES(C_CopyObject, c, d,
      (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b, CK_ATTRIBUTE *c, CK_ULONG d, CK_OBJECT_HANDLE *e),
      (a, b, c, d, e))
MAKES(C_GenerateKey, c, d,
      (CK_SESSION_HANDLE a, CK_MECHANISM *b, CK_ATTRIBUTE *c, CK_ULONG d, CK_OBJECT_HANDLE *e),
      (a, b, c, d, e))
MAKES(C_UnwrapKey, f, g,
      (CK_SESSION_HANDLE a, CK_MECHANISM *b, CK_OBJECT_HANDLE c, CK_BYTE *d, CK_ULONG e,
       CK_ATTRIBUTE *f, CK_ULONG g, CK_OBJECT_HANDLE *h),
      (a, b, c, d, e, f, g, h))
MAKES(C_DeriveKey, d, e,
      (CK_SESSION_HANDLE a, CK_MECHANISM *b, CK_OBJECT_HANDLE c, CK_ATTRIBUTE *d, CK_ULONG e,
       CK_OBJECT_HANDLE *f),
      (a, b, c, d, e, f))

static CK_RV make_pair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public,
                       CK_ULONG public_count, CK_ATTRIBUTE *private, CK_ULONG private_count,
                       CK_OBJECT_HANDLE *ret_public, CK_OBJECT_HANDLE *ret_private)
{
    CK_SLOT_ID slot = mock_slot_of(session);
    CK_RV rv = check(slot, "C_GenerateKeyPair", public, public_count);

    if (rv == CKR_OK)
        rv = check(slot, "C_GenerateKeyPair", private, private_count);
    if (rv != CKR_OK)
        return rv;
    return next.C_GenerateKeyPair(session, mechanism, public, public_count, private, private_count,
                                  ret_public, ret_private);
}

/* --- changing and reading them ---------------------------------------------------------------- */

static CK_RV may_change(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    CK_BBOOL value = CK_FALSE;
    CK_ATTRIBUTE on_token = {CKA_TOKEN, &value, sizeof(value)};

    if (!mock_rule("write-protected", mock_slot_of(session)) ||
        next.C_GetAttributeValue(session, object, &on_token, 1) != CKR_OK || !value)
        return CKR_OK;
    return CKR_TOKEN_WRITE_PROTECTED;
}

static CK_RV destroy_object(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    CK_RV rv = may_change(session, object);

    return rv == CKR_OK ? next.C_DestroyObject(session, object) : rv;
}

static CK_RV set_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_RV rv = may_change(session, object);

    return rv == CKR_OK ? next.C_SetAttributeValue(session, object, template, count) : rv;
}

/* Returns whether there was one to answer. */
static bool answer_always_authenticate(CK_ATTRIBUTE *template, CK_ULONG count)
{
    bool any = false;

    for (CK_ULONG i = 0; i < count; i++) {
        if (template[i].type != CKA_ALWAYS_AUTHENTICATE)
            continue;
        template[i].ulValueLen = sizeof(CK_BBOOL);
        if (template[i].pValue)
            *(CK_BBOOL *)template[i].pValue = CK_TRUE;
        any = true;
    }
    return any;
}

static bool all_available(const CK_ATTRIBUTE *template, CK_ULONG count)
{
    for (CK_ULONG i = 0; i < count; i++)
        if (template[i].ulValueLen == CK_UNAVAILABLE_INFORMATION)
            return false;
    return true;
}

/* SoftHSM2 knows the attribute of private keys alone. */
static CK_RV get_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_RV rv = next.C_GetAttributeValue(session, object, template, count);

    if ((rv == CKR_OK || rv == CKR_ATTRIBUTE_TYPE_INVALID) &&
        mock_rule("always-authenticate", mock_slot_of(session)) &&
        answer_always_authenticate(template, count) && all_available(template, count))
        rv = CKR_OK;
    return rv;
}

void mock_layer_objects(CK_FUNCTION_LIST *list)
{
    next = *list;
    list->C_CreateObject = make_C_CreateObject;
    list->C_CopyObject = make_C_CopyObject;
    list->C_GenerateKey = make_C_GenerateKey;
    list->C_UnwrapKey = make_C_UnwrapKey;
    list->C_DeriveKey = make_C_DeriveKey;
    list->C_GenerateKeyPair = make_pair;
    list->C_DestroyObject = destroy_object;
    list->C_SetAttributeValue = set_attribute_value;
    list->C_GetAttributeValue = get_attribute_value;
}
