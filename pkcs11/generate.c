/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Generating keys in the token, and destroying them. */
#include "pkcs11/session.h"

#include "pkcs11/ckr.h"
#include "pkcs11/import.h"

#include <openssl/rand.h>

#include <stdlib.h>
#include <string.h>

/* A version 4 UUID (RFC 4122). */
enum kr_status kr_object_id_make(struct kr_object_id *ret, struct kr_error *err)
{
    struct kr_object_id id = {.len = 16};

    if (RAND_bytes(id.bytes, 16) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40);
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    *ret = id;
    return KR_OK;
}

/* The standard has several values for it, and modules choose among them as they like. */
bool kr_template_refused(CK_RV rv)
{
    switch (rv) {
    case CKR_ATTRIBUTE_READ_ONLY:
    case CKR_ATTRIBUTE_TYPE_INVALID:
    case CKR_ATTRIBUTE_VALUE_INVALID:
    case CKR_TEMPLATE_INCOMPLETE:
    case CKR_TEMPLATE_INCONSISTENT:
        return true;
    default:
        return false;
    }
}

/* NSS has no room for CKA_ALLOWED_MECHANISMS in a token object, and says CKR_GENERAL_ERROR. */
bool kr_refused_when_made(CK_RV rv)
{
    return kr_template_refused(rv) || rv == CKR_GENERAL_ERROR;
}

/* One usage pair only: a key with WRAP (by CBC, say) and DECRYPT would reveal other keys of the
 * token. The list of allowed mechanisms says the same once more, where the token knows it. */
void kr_key_template_fill(struct kr_key_template *t, const struct kr_key_order *order)
{
    const bool crypt = order->usage == KR_KEY_CRYPTS;

    t->class = CKO_SECRET_KEY;
    t->type = CKK_AES;
    t->yes = t->crypt = t->wrap = CK_TRUE;
    t->no = CK_FALSE;
    *(crypt ? &t->wrap : &t->crypt) = CK_FALSE;
    t->mechanism = order->mechanism;
    const CK_ATTRIBUTE attrs[KR_KEY_ATTRS] = {
        {CKA_CLASS, &t->class, sizeof(t->class)},
        {CKA_KEY_TYPE, &t->type, sizeof(t->type)},
        {CKA_TOKEN, &t->yes, sizeof(t->yes)},
        {CKA_PRIVATE, &t->yes, sizeof(t->yes)},
        {CKA_SENSITIVE, &t->yes, sizeof(t->yes)},
        {CKA_EXTRACTABLE, &t->no, sizeof(t->no)},
        {CKA_ENCRYPT, &t->crypt, sizeof(t->crypt)},
        {CKA_DECRYPT, &t->crypt, sizeof(t->crypt)},
        {CKA_WRAP, &t->wrap, sizeof(t->wrap)},
        {CKA_UNWRAP, &t->wrap, sizeof(t->wrap)},
        {CKA_SIGN, &t->no, sizeof(t->no)},
        {CKA_VERIFY, &t->no, sizeof(t->no)},
        {CKA_DERIVE, &t->no, sizeof(t->no)},
        {CKA_ID, (void *)order->id.bytes, order->id.len},
        {CKA_LABEL, (void *)order->label, strlen(order->label)},
    };
    memcpy(t->attrs, attrs, sizeof(attrs));
    t->count = KR_KEY_ATTRS;
}

void kr_key_template_add(struct kr_key_template *t, CK_ATTRIBUTE_TYPE type, void *value,
                         CK_ULONG len)
{
    t->attrs[t->count++] = (CK_ATTRIBUTE){type, value, len};
}

void kr_key_template_allow(struct kr_key_template *t)
{
    kr_key_template_add(t, CKA_ALLOWED_MECHANISMS, &t->mechanism, sizeof(t->mechanism));
}

static CK_RV generate(struct kr_session *s, const struct kr_key_order *order, CK_OBJECT_HANDLE *ret)
{
    CK_MECHANISM generate = {CKM_AES_KEY_GEN, NULL, 0};
    struct kr_key_template t;
    CK_ULONG len = 32;
    CK_RV rv;

    kr_key_template_fill(&t, order);
    kr_key_template_add(&t, CKA_VALUE_LEN, &len, sizeof(len));
    kr_key_template_allow(&t);
    rv = P11(s, C_GenerateKey, s->handle, &generate, t.attrs, t.count, ret);
    if (kr_refused_when_made(rv))
        rv = P11(s, C_GenerateKey, s->handle, &generate, t.attrs, t.count - 1, ret);
    return rv;
}

/* The public key object is there for other tools: we encrypt and verify by OpenSSL. A TPM makes
 * none that does not encrypt. */
static CK_RV generate_pair(struct kr_session *s, const struct kr_object_id *id, const char *label,
                           CK_OBJECT_HANDLE *ret_private)
{
    CK_MECHANISM generate = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_MECHANISM_TYPE allowed[] = {CKM_RSA_PKCS_OAEP, CKM_SHA256_RSA_PKCS, CKM_RSA_PKCS};
    const CK_ULONG allowed_bytes = (s->quirks.rsa_pkcs ? 3 : 2) * sizeof(allowed[0]);
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG bits = KR_RSA_BITS_MIN;
    CK_BYTE exponent[] = {1, 0, 1};
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &yes, sizeof(yes)},
        {CKA_MODULUS_BITS, &bits, sizeof(bits)},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)},
        {CKA_ENCRYPT, &yes, sizeof(yes)},
        {CKA_VERIFY, &yes, sizeof(yes)},
        {CKA_WRAP, &no, sizeof(no)},
        {CKA_ID, (void *)id->bytes, id->len},
        {CKA_LABEL, (void *)label, strlen(label)},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &yes, sizeof(yes)},
        {CKA_PRIVATE, &yes, sizeof(yes)},
        {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &no, sizeof(no)},
        {CKA_DECRYPT, &yes, sizeof(yes)},
        {CKA_SIGN, &yes, sizeof(yes)},
        {CKA_UNWRAP, &no, sizeof(no)},
        {CKA_SIGN_RECOVER, &no, sizeof(no)},
        {CKA_DERIVE, &no, sizeof(no)},
        {CKA_ID, (void *)id->bytes, id->len},
        {CKA_LABEL, (void *)label, strlen(label)},
        {CKA_ALLOWED_MECHANISMS, allowed, allowed_bytes},
    };
    const CK_ULONG publics = sizeof(public) / sizeof(public[0]);
    const CK_ULONG privates = sizeof(private) / sizeof(private[0]);
    CK_OBJECT_HANDLE other;
    CK_RV rv = P11(s, C_GenerateKeyPair, s->handle, &generate, public, publics, private, privates,
                   &other, ret_private);

    if (kr_refused_when_made(rv))
        rv = P11(s, C_GenerateKeyPair, s->handle, &generate, public, publics, private, privates - 1,
                 &other, ret_private);
    return rv;
}

/* --- destroy ---------------------------------------------------------------------------------- */

/* Without its private half it opens nothing: what hinders its end is no failure. */
static void destroy_public(struct kr_session *s, const struct kr_object_id *id)
{
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_KEY_TYPE type = CKK_RSA;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof(class)},
                               {CKA_KEY_TYPE, &type, sizeof(type)},
                               {CKA_ID, (void *)id->bytes, id->len}};
    struct kr_error ignored = KR_ERROR_INIT;
    CK_OBJECT_HANDLE *objects = NULL;
    size_t count = 0;

    if (kr_objects_find(s, template, 3, &objects, &count, &ignored) != KR_OK)
        return;
    for (size_t i = 0; i < count; i++)
        P11(s, C_DestroyObject, s->handle, objects[i]);
    free(objects);
}

CK_RV kr_key_destroy(struct kr_session *s, CK_OBJECT_HANDLE handle, enum kr_key_kind kind,
                     const struct kr_object_id *id)
{
    CK_RV rv = P11(s, C_DestroyObject, s->handle, handle);

    if (rv == CKR_OK && kind == KR_KIND_RSA)
        destroy_public(s, id);
    kr_keys_forget(s);
    return rv;
}

/* --- make ------------------------------------------------------------------------------------- */

enum kr_status kr_key_order_fill(struct kr_key_order *order, enum kr_key_kind kind,
                                 const char *label, struct kr_error *err)
{
    if (strlen(label) >= sizeof(order->label))
        return kr_fail(err, KR_USAGE, "a key's label has at most %zu bytes",
                       sizeof(order->label) - 1);
    KR_TRY(kr_object_id_make(&order->id, err));
    strcpy(order->label, label);
    order->kind = kind;
    order->tried = order->made = false;
    return KR_OK;
}

static enum kr_status generate_any(struct kr_session *s, const struct kr_key_order *order,
                                   CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    const bool pair = order->kind == KR_KIND_RSA;
    CK_RV rv = pair ? generate_pair(s, &order->id, order->label, ret) : generate(s, order, ret);

    kr_keys_forget(s);
    if (rv == CKR_OK)
        return KR_OK;
    kr_ckr_fail(err, pair ? "C_GenerateKeyPair" : "C_GenerateKey", rv);
    if (err->status == KR_TOKEN_UNAVAILABLE && rv != CKR_DEVICE_MEMORY)
        kr_hint(err, "see 'p11keyring master list' for a key that was left behind, and try again");
    return err->status;
}

/* Makes the key once; one that is not as asked is destroyed. */
static enum kr_status make_one(struct kr_session *s, struct kr_key_order *order,
                               struct kr_error *err)
{
    struct kr_key_entry key = {.id = order->id, .kind = order->kind};
    enum kr_status status;

    order->tried = true;
    order->info = (struct kr_master_info){.on_token = order->value != NULL}; /* try an import once */
    KR_TRY(order->value ? kr_key_import(s, order, &key.handle, err)
                        : generate_any(s, order, &key.handle, err));
    order->made = true;
    order->info.on_token = true;
    status = kr_key_read(s, &key, &order->info, err);
    if (status == KR_OK)
        status = order->value ? kr_key_accept_imported(&order->info, err)
                              : kr_key_accept(&order->info, err);
    if (status != KR_OK && !s->lost && kr_key_destroy(s, key.handle, key.kind, &key.id) == CKR_OK)
        order->made = false;
    return status;
}

/* A token object that turned into a session object was spoiled by another program, which read it
 * while it was made (see kr_keys_load): then it is made anew. */
enum kr_status kr_key_make(struct kr_session *s, struct kr_key_order *order, struct kr_error *err)
{
    enum { TRIES = 4 };
    CK_OBJECT_HANDLE handle;
    enum kr_status status;

    if (order->tried) {
        status = order->value ? kr_key_imported(s, order, err)
                              : kr_key_usable(s, &order->id, &handle, &order->info, err);
        if (status != KR_NOT_FOUND || s->wants_keys)
            return status;
        order->made = false;
    }
    status = make_one(s, order, err);
    for (int i = 1; i < TRIES && status != KR_OK && !order->made && !order->info.on_token; i++) {
        kr_session_pause();
        status = make_one(s, order, err);
    }
    return status;
}
