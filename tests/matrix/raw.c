/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Plain Cryptoki calls, past our code. */
#include "raw.h"

#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "pkcs11/ckr.h"
#include "pkcs11/uri.h"

struct raw {
    CK_FUNCTION_LIST *p11;
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE session;
};

/* A master key, as the attacks see it. */
struct target {
    CK_OBJECT_HANDLE handle;
    const struct kr_object_id *id;
    bool is_rsa;
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "matrix: %s: %s\n", what, why);
    exit(1);
}

static void require(CK_RV rv, const char *function)
{
    if (rv != CKR_OK)
        die(function, kr_ckr_name(rv));
}

/* --- open and close --------------------------------------------------------------------------- */

static CK_FUNCTION_LIST *load(const char *module)
{
    void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);
    CK_FUNCTION_LIST *p11 = NULL;
    CK_C_GetFunctionList get_list = NULL;

    if (handle)
        *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    if (!get_list)
        die(module, "no PKCS#11 module");
    require(get_list(&p11), "C_GetFunctionList");
    return p11;
}

static CK_SLOT_ID find_slot(CK_FUNCTION_LIST *p11, const char *text)
{
    KR_URI P11KitUri *uri = NULL;
    struct kr_error err = KR_ERROR_INIT;
    CK_SLOT_ID slots[64];
    CK_ULONG count = COUNT(slots);
    CK_TOKEN_INFO info;

    if (kr_uri_parse(text, P11_KIT_URI_FOR_TOKEN, &uri, &err) != KR_OK)
        die(text, err.text);
    require(p11->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++)
        if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
            p11_kit_uri_match_token_info(uri, &info))
            return slots[i];
    die(text, "no such token");
}

static CK_SESSION_HANDLE open_session(const struct raw *raw)
{
    CK_SESSION_HANDLE session = CK_INVALID_HANDLE;

    require(raw->p11->C_OpenSession(raw->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                    &session),
            "C_OpenSession");
    return session;
}

static void log_in(const struct raw *raw, struct kr_pin_source *source)
{
    KR_SECRET char *pin = NULL;
    struct kr_error err = KR_ERROR_INIT;
    size_t len;

    if (kr_pin_source_read(source, &pin, &len, &err) != KR_OK)
        die("PIN", err.text);
    require(raw->p11->C_Login(raw->session, CKU_USER, (CK_UTF8CHAR *)pin, len), "C_Login");
}

struct raw *raw_open(const struct kr_token_options *options)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK,
                                 .pReserved = (void *)options->quirks.init_args};
    struct raw *raw = calloc(1, sizeof(*raw));

    if (!raw)
        die("calloc", "out of memory");
    raw->p11 = load(options->module);
    require(raw->p11->C_Initialize(&args), "C_Initialize");
    raw->slot = find_slot(raw->p11, options->uri);
    raw->session = open_session(raw);
    log_in(raw, options->pin);
    return raw;
}

void raw_close(struct raw *raw)
{
    raw->p11->C_Finalize(NULL);
    free(raw);
}

/* --- keys ------------------------------------------------------------------------------------- */

/* The first key of a class with this id. */
static bool find_key(const struct raw *raw, CK_OBJECT_CLASS class, const struct kr_object_id *id,
                     CK_OBJECT_HANDLE *ret)
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_ID, (void *)id->bytes, id->len},
    };
    CK_ULONG found = 0;

    require(raw->p11->C_FindObjectsInit(raw->session, template, COUNT(template)),
            "C_FindObjectsInit");
    require(raw->p11->C_FindObjects(raw->session, ret, 1, &found), "C_FindObjects");
    raw->p11->C_FindObjectsFinal(raw->session);
    return found == 1;
}

static CK_RV generate_aes(const struct raw *raw, CK_BBOOL on_token, const struct kr_object_id *id,
                          CK_OBJECT_HANDLE *ret)
{
    CK_MECHANISM generate = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ULONG len = 32;
    CK_ATTRIBUTE template[] = {
        {CKA_VALUE_LEN, &len, sizeof(len)},   {CKA_TOKEN, &on_token, sizeof(on_token)},
        {CKA_PRIVATE, &yes, sizeof(yes)},     {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &yes, sizeof(yes)}, {CKA_ENCRYPT, &yes, sizeof(yes)},
        {CKA_DECRYPT, &yes, sizeof(yes)},     {CKA_WRAP, &yes, sizeof(yes)},
        {CKA_UNWRAP, &yes, sizeof(yes)},      {CKA_ID, (void *)id->bytes, id->len},
    };

    return raw->p11->C_GenerateKey(raw->session, &generate, template, COUNT(template), ret);
}

static CK_RV generate_rsa(const struct raw *raw, const struct kr_object_id *id)
{
    CK_MECHANISM generate = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_ULONG bits = 3072;
    CK_BYTE exponent[] = {1, 0, 1};
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &yes, sizeof(yes)},
        {CKA_MODULUS_BITS, &bits, sizeof(bits)},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)},
        {CKA_ID, (void *)id->bytes, id->len},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &yes, sizeof(yes)},       {CKA_PRIVATE, &yes, sizeof(yes)},
        {CKA_SENSITIVE, &yes, sizeof(yes)},   {CKA_EXTRACTABLE, &yes, sizeof(yes)},
        {CKA_DECRYPT, &yes, sizeof(yes)},     {CKA_SIGN, &yes, sizeof(yes)},
        {CKA_ID, (void *)id->bytes, id->len},
    };
    CK_OBJECT_HANDLE handles[2];

    return raw->p11->C_GenerateKeyPair(raw->session, &generate, public, COUNT(public), private,
                                       COUNT(private), &handles[0], &handles[1]);
}

bool raw_make_extractable(struct raw *raw, const struct kr_object_id *id)
{
    CK_OBJECT_HANDLE handle;

    return generate_aes(raw, CK_TRUE, id, &handle) == CKR_OK || generate_rsa(raw, id) == CKR_OK;
}

void raw_destroy(struct raw *raw, const struct kr_object_id *id)
{
    static const CK_OBJECT_CLASS classes[] = {CKO_SECRET_KEY, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    CK_OBJECT_HANDLE handle;

    for (size_t i = 0; i < COUNT(classes); i++)
        while (find_key(raw, classes[i], id, &handle))
            require(raw->p11->C_DestroyObject(raw->session, handle), "C_DestroyObject");
}

/* --- attacks: each gives the token's answer, CKR_OK when it succeeded ------------------------- */

static CK_RV read_value(const struct raw *raw, const struct target *t)
{
    CK_BYTE value[1024];
    CK_ATTRIBUTE attr = {t->is_rsa ? CKA_PRIVATE_EXPONENT : CKA_VALUE, value, sizeof(value)};
    CK_RV rv = raw->p11->C_GetAttributeValue(raw->session, t->handle, &attr, 1);

    return rv == CKR_OK && attr.ulValueLen == 0 ? CKR_ATTRIBUTE_SENSITIVE : rv;
}

/* Some modules say OK and change nothing. */
static CK_RV is_extractable(const struct raw *raw, CK_OBJECT_HANDLE key)
{
    CK_BBOOL flag = CK_FALSE;
    CK_ATTRIBUTE attr = {CKA_EXTRACTABLE, &flag, sizeof(flag)};
    CK_RV rv = raw->p11->C_GetAttributeValue(raw->session, key, &attr, 1);

    return rv == CKR_OK && !flag ? CKR_ATTRIBUTE_READ_ONLY : rv;
}

static CK_RV make_extractable(const struct raw *raw, const struct target *t)
{
    CK_ATTRIBUTE attr = {CKA_EXTRACTABLE, &yes, sizeof(yes)};
    CK_RV rv = raw->p11->C_SetAttributeValue(raw->session, t->handle, &attr, 1);

    return rv == CKR_OK ? is_extractable(raw, t->handle) : rv;
}

static CK_RV make_readable(const struct raw *raw, const struct target *t)
{
    CK_ATTRIBUTE attr = {CKA_SENSITIVE, &no, sizeof(no)};
    CK_RV rv = raw->p11->C_SetAttributeValue(raw->session, t->handle, &attr, 1);

    return rv == CKR_OK ? read_value(raw, t) : rv;
}

static CK_RV copy_extractable(const struct raw *raw, const struct target *t)
{
    CK_ATTRIBUTE template[] = {
        {CKA_TOKEN, &no, sizeof(no)},
        {CKA_EXTRACTABLE, &yes, sizeof(yes)},
    };
    CK_OBJECT_HANDLE copy;
    CK_RV rv = raw->p11->C_CopyObject(raw->session, t->handle, template, COUNT(template), &copy);

    if (rv != CKR_OK)
        return rv;
    rv = is_extractable(raw, copy);
    raw->p11->C_DestroyObject(raw->session, copy);
    return rv;
}

static CK_RV wrap_out(const struct raw *raw, const struct target *t)
{
    CK_BYTE iv[16] = {0}, out[4096];
    CK_MECHANISM ways[] = {
        {CKM_AES_CBC_PAD, iv, sizeof(iv)},
        {CKM_AES_KEY_WRAP, NULL, 0},
        {CKM_AES_KEY_WRAP_PAD, NULL, 0},
    };
    const struct kr_object_id id = {.len = 1, .bytes = "w"};
    CK_OBJECT_HANDLE wrapper;
    CK_RV rv = generate_aes(raw, CK_FALSE, &id, &wrapper);

    for (size_t i = 0; rv == CKR_OK && i < COUNT(ways); i++) {
        CK_ULONG len = sizeof(out);
        CK_RV answer = raw->p11->C_WrapKey(raw->session, &ways[i], wrapper, t->handle, out, &len);

        if (answer == CKR_OK || i + 1 == COUNT(ways)) {
            raw->p11->C_DestroyObject(raw->session, wrapper);
            return answer;
        }
    }
    return rv;
}

/* A mechanism that is not among those the key was made for. */
static CK_RV other_mechanism(const struct raw *raw, const struct target *t)
{
    CK_MECHANISM ecb = {CKM_AES_ECB, NULL, 0}, pkcs = {CKM_RSA_PKCS, NULL, 0};
    CK_BYTE block[16] = {0}, out[512];
    CK_ULONG len = sizeof(out);
    CK_RV rv;

    if (t->is_rsa)
        rv = raw->p11->C_SignInit(raw->session, &pkcs, t->handle);
    else
        rv = raw->p11->C_EncryptInit(raw->session, &ecb, t->handle);
    if (rv != CKR_OK)
        return rv;
    if (t->is_rsa)
        return raw->p11->C_Sign(raw->session, block, sizeof(block), out, &len);
    return raw->p11->C_Encrypt(raw->session, block, sizeof(block), out, &len);
}

/* Sees the key without having logged in. Last: it logs out. */
static CK_RV see_without_pin(const struct raw *raw, const struct target *t)
{
    CK_OBJECT_HANDLE found;

    require(raw->p11->C_Logout(raw->session), "C_Logout");
    return find_key(raw, t->is_rsa ? CKO_PRIVATE_KEY : CKO_SECRET_KEY, t->id, &found)
               ? CKR_OK
               : CKR_USER_NOT_LOGGED_IN;
}

json_t *raw_attack(struct raw *raw, const struct kr_object_id *id)
{
    static const struct {
        const char *name;
        CK_RV (*run)(const struct raw *raw, const struct target *t);
    } attacks[] = {
        {"read value", read_value},
        {"set extractable", make_extractable},
        {"set readable", make_readable},
        {"copy as extractable", copy_extractable},
        {"wrap out", wrap_out},
        {"use another mechanism", other_mechanism},
        {"see without PIN", see_without_pin},
    };
    struct target t = {.id = id};
    json_t *all = json_object();

    if (!find_key(raw, CKO_SECRET_KEY, id, &t.handle)) {
        t.is_rsa = true;
        if (!find_key(raw, CKO_PRIVATE_KEY, id, &t.handle))
            die("master key", "not found");
    }
    for (size_t i = 0; i < COUNT(attacks); i++) {
        CK_RV rv = attacks[i].run(raw, &t);

        json_object_set_new(
            all, attacks[i].name,
            json_pack("{s:b, s:s}", "refused", rv != CKR_OK, "answer", kr_ckr_name(rv)));
    }
    return all;
}

/* --- sessions and random ---------------------------------------------------------------------- */

unsigned raw_count_sessions(struct raw *raw, unsigned most)
{
    CK_SESSION_HANDLE *more = calloc(most, sizeof(*more));
    unsigned count = 0;

    if (!more)
        die("calloc", "out of memory");
    while (count + 1 < most &&
           raw->p11->C_OpenSession(raw->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                   &more[count]) == CKR_OK)
        count++;
    for (unsigned i = 0; i < count; i++)
        raw->p11->C_CloseSession(more[i]);
    free(more);
    return count + 1;
}

bool raw_random(struct raw *raw)
{
    CK_BYTE bytes[32];

    return raw->p11->C_GenerateRandom(raw->session, bytes, sizeof(bytes)) == CKR_OK;
}
