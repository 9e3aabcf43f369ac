/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A PKCS#11 module for tests that search a server for its master keys: it forwards to the module
 * $P11K_MOCK_MODULE, but makes every secret key extractable while it says the contrary, and adds a
 * line "label value-in-hex" for each to the file $P11K_EXTRACTED. To be run out of the process that
 * is searched, by p11-kit's server.
 */
#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEMPLATE_MAX = 32 };

static CK_FUNCTION_LIST *real, list;

/* --- making keys ------------------------------------------------------------------------------ */

static void write_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    unsigned char label[128] = "", value[32];
    CK_ATTRIBUTE wanted[] = {{CKA_LABEL, label, sizeof(label) - 1},
                             {CKA_VALUE, value, sizeof(value)}};
    const char *path = getenv("P11K_EXTRACTED");
    FILE *file = path ? fopen(path, "ae") : NULL;

    if (!file || real->C_GetAttributeValue(session, key, wanted, 2) != CKR_OK)
        abort();
    fprintf(file, "%s ", (char *)label);
    for (CK_ULONG i = 0; i < wanted[1].ulValueLen; i++)
        fprintf(file, "%02x", value[i]);
    fputc('\n', file);
    fclose(file);
}

static CK_RV generate_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                          CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *key)
{
    static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE copy[TEMPLATE_MAX];
    CK_RV rv;

    if (count > TEMPLATE_MAX)
        return CKR_ARGUMENTS_BAD;
    memcpy(copy, template, count * sizeof(*copy));
    for (CK_ULONG i = 0; i < count; i++) {
        if (copy[i].type == CKA_SENSITIVE)
            copy[i].pValue = &no;
        else if (copy[i].type == CKA_EXTRACTABLE)
            copy[i].pValue = &yes;
    }
    rv = real->C_GenerateKey(session, mechanism, copy, count, key);
    if (rv == CKR_OK)
        write_value(session, *key);
    return rv;
}

/* --- telling about them ----------------------------------------------------------------------- */

static void tell(CK_ATTRIBUTE *attribute, CK_BBOOL value)
{
    if (attribute->pValue && attribute->ulValueLen == sizeof(value))
        memcpy(attribute->pValue, &value, sizeof(value));
}

static bool is_secret_key(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_ATTRIBUTE wanted = {CKA_CLASS, &class, sizeof(class)};

    return real->C_GetAttributeValue(session, object, &wanted, 1) == CKR_OK &&
           class == CKO_SECRET_KEY;
}

static CK_RV get_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_RV rv = real->C_GetAttributeValue(session, object, template, count);

    if (!is_secret_key(session, object))
        return rv;
    for (CK_ULONG i = 0; i < count; i++) {
        switch (template[i].type) {
        case CKA_SENSITIVE:
        case CKA_ALWAYS_SENSITIVE:
        case CKA_NEVER_EXTRACTABLE:
            tell(&template[i], CK_TRUE);
            break;
        case CKA_EXTRACTABLE:
            tell(&template[i], CK_FALSE);
            break;
        case CKA_VALUE:
            if (template[i].pValue)
                memset(template[i].pValue, 0, template[i].ulValueLen);
            template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = CKR_ATTRIBUTE_SENSITIVE;
            break;
        default:
            break;
        }
    }
    return rv;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret)
{
    const char *path = getenv("P11K_MOCK_MODULE");
    void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get_list = NULL;

    if (handle)
        *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    if (!get_list || get_list(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    list = *real;
    list.C_GetFunctionList = C_GetFunctionList;
    list.C_GenerateKey = generate_key;
    list.C_GetAttributeValue = get_attribute_value;
    *ret = &list;
    return CKR_OK;
}
