/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Answers that are not what the real module gave. */
#include "mock.h"

static CK_FUNCTION_LIST next;

/* What is asked for once in a call, since asking counts it. */
struct change {
    bool flip, truncate, lengthen;
    long less, more;
};

static struct change change_for(CK_SLOT_ID slot, const char *name)
{
    struct change c = {.flip = false};
    long unused;

    c.flip = mock_rule_due("flip", slot, name, &unused);
    c.truncate = mock_rule_due("truncate", slot, name, &c.less);
    c.lengthen = mock_rule_due("length", slot, name, &c.more);
    if (c.flip || c.truncate || c.lengthen)
        mock_count(INDEX_injected);
    return c;
}

/* Changes `*len` elements of `size` bytes. */
static void apply(const struct change *c, void *bytes, CK_ULONG *len, size_t size)
{
    if (!bytes || *len == CK_UNAVAILABLE_INFORMATION)
        return;
    if (c->flip && *len > 0)
        ((CK_BYTE *)bytes)[*len * size / 2] ^= 1;
    if (c->truncate)
        *len -= *len < (CK_ULONG)c->less ? *len : (CK_ULONG)c->less;
    if (c->lengthen)
        *len += (CK_ULONG)c->more;
}

static CK_RV spoil(CK_RV rv, CK_SLOT_ID slot, const char *name, void *bytes, CK_ULONG *len,
                   size_t size)
{
    struct change c;

    if (rv != CKR_OK || !bytes)
        return rv;
    c = change_for(slot, name);
    apply(&c, bytes, len, size);
    return CKR_OK;
}

#define X(name, params, args)                                                                      \
    static CK_RV spoil_##name params                                                               \
    {                                                                                              \
        return spoil(next.name args, mock_slot_of(a), #name, d, e, 1);                             \
    }
MOCK_CRYPT_FUNCTIONS(X)
#undef X

#define X(name, params, args)                                                                      \
    static CK_RV spoil_##name params                                                               \
    {                                                                                              \
        return spoil(next.name args, mock_slot_of(a), #name, b, c, 1);                             \
    }
MOCK_FINAL_FUNCTIONS(X)
#undef X

static CK_RV wrap_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE wrapping,
                      CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *out_len)
{
    return spoil(next.C_WrapKey(session, mechanism, wrapping, key, out, out_len),
                 mock_slot_of(session), "C_WrapKey", out, out_len, 1);
}

static CK_RV find_objects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *ret, CK_ULONG max,
                          CK_ULONG *ret_count)
{
    return spoil(next.C_FindObjects(session, ret, max, ret_count), mock_slot_of(session),
                 "C_FindObjects", ret, ret_count, sizeof(*ret));
}

static CK_RV slot_list(CK_BYTE with_token, CK_SLOT_ID *ret, CK_ULONG *ret_count)
{
    return spoil(next.C_GetSlotList(with_token, ret, ret_count), MOCK_NO_SLOT, "C_GetSlotList", ret,
                 ret_count, sizeof(*ret));
}

static CK_RV mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *ret, CK_ULONG *ret_count)
{
    return spoil(next.C_GetMechanismList(slot, ret, ret_count), slot, "C_GetMechanismList", ret,
                 ret_count, sizeof(*ret));
}

static CK_RV get_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_RV rv = next.C_GetAttributeValue(session, object, template, count);
    struct change c;

    if (rv != CKR_OK)
        return rv;
    c = change_for(mock_slot_of(session), "C_GetAttributeValue");
    for (CK_ULONG i = 0; i < count; i++)
        apply(&c, template[i].pValue, &template[i].ulValueLen, 1);
    return rv;
}

void mock_layer_output(CK_FUNCTION_LIST *list)
{
    next = *list;
#define X(name, params, args) list->name = spoil_##name;
    MOCK_CRYPT_FUNCTIONS(X)
    MOCK_FINAL_FUNCTIONS(X)
#undef X
    list->C_WrapKey = wrap_key;
    list->C_FindObjects = find_objects;
    list->C_GetSlotList = slot_list;
    list->C_GetMechanismList = mechanism_list;
    list->C_GetAttributeValue = get_attribute_value;
}
