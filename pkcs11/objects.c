/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Secret keys and RSA private keys on the token. Searching makes some modules open every object
 * there is, so it is done once, for all keys and sessions together, and the handles are kept.
 */
#include "pkcs11/session.h"

#include "base/hex.h"
#include "pkcs11/ckr.h"
#include "pkcs11/rsa_public.h"

#include <stdlib.h>
#include <string.h>

enum { SEARCH_STEP = 256, OBJECTS_MAX = 65536 };

void kr_id_text(const struct kr_object_id *id, char *ret)
{
    kr_hex_encode(id->bytes, id->len, ret);
}

struct kr_keys *kr_keys_ref(struct kr_keys *keys)
{
    if (keys)
        __atomic_add_fetch(&keys->refs, 1, __ATOMIC_RELAXED);
    return keys;
}

void kr_keys_unref(struct kr_keys *keys)
{
    if (!keys || __atomic_sub_fetch(&keys->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < keys->count; i++)
        free(keys->entries[i].half);
    free(keys);
}

static void keys_cleanup(struct kr_keys **keys)
{
    kr_keys_unref(*keys);
}

void kr_keys_forget(struct kr_session *s)
{
    kr_keys_unref(s->keys);
    s->keys = NULL;
    s->forget_keys = true;
}

/* By that value SoftHSM2 says that another thread is removing the object. */
CK_RV kr_object_read(struct kr_session *s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attrs,
                     CK_ULONG count)
{
    CK_RV rv = P11(s, C_GetAttributeValue, s->handle, object, attrs, count);

    if (rv == CKR_ATTRIBUTE_VALUE_INVALID)
        kr_session_note_loss(s, KR_LOST_TIME);
    return rv;
}

/* The token's answer "I do not know this attribute" leaves a gap and is no failure. */
static CK_RV get_attributes(struct kr_session *s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attrs,
                            CK_ULONG count)
{
    CK_RV rv = kr_object_read(s, object, attrs, count);

    if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE ||
        rv == CKR_BUFFER_TOO_SMALL)
        return CKR_OK;
    return rv;
}

static bool has_value(const CK_ATTRIBUTE *attr, size_t max)
{
    return attr->ulValueLen != CK_UNAVAILABLE_INFORMATION && attr->ulValueLen <= max;
}

static enum kr_status read_entry(struct kr_session *s, CK_OBJECT_HANDLE object,
                                 struct kr_key_entry *ret, struct kr_error *err)
{
    struct kr_key_entry entry = {.handle = object};
    CK_KEY_TYPE type = CK_UNAVAILABLE_INFORMATION;
    CK_ATTRIBUTE attrs[] = {
        {CKA_ID, entry.id.bytes, sizeof(entry.id.bytes)},
        {CKA_KEY_TYPE, &type, sizeof(type)},
    };
    CK_RV rv = get_attributes(s, object, attrs, 2);

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetAttributeValue", rv);
    entry.id.len = has_value(&attrs[0], KR_OBJECT_ID_MAX) ? (uint8_t)attrs[0].ulValueLen : 0;
    if (has_value(&attrs[1], sizeof(type)))
        entry.kind = type == CKK_AES ? KR_KIND_AES : type == CKK_RSA ? KR_KIND_RSA : KR_KIND_OTHER;
    *ret = entry;
    return KR_OK;
}

/* Makes `*keys` longer; its only owner calls this. */
static enum kr_status add_entries(struct kr_session *s, const CK_OBJECT_HANDLE *objects,
                                  size_t count, struct kr_keys **keys, struct kr_error *err)
{
    const size_t before = *keys ? (*keys)->count : 0;
    struct kr_keys *more =
        realloc(*keys, sizeof(*more) + (before + count) * sizeof(more->entries[0]));

    if (!more)
        return kr_fail_memory(err);
    more->refs = 1;
    more->count = before;
    *keys = more;
    for (size_t i = 0; i < count; i++) {
        KR_TRY(read_entry(s, objects[i], &more->entries[more->count], err));
        more->count++;
    }
    return KR_OK;
}

/* An open search blocks some modules from reading attributes: the handles are collected first. A
 * module that never comes to an end is left. */
static enum kr_status collect(struct kr_session *s, CK_OBJECT_HANDLE **ret, size_t *ret_count,
                              struct kr_error *err)
{
    CK_OBJECT_HANDLE *all = NULL;
    size_t count = 0, room = 0;
    CK_ULONG found = 0;
    CK_RV rv = CKR_OK;

    do {
        if (room < count + SEARCH_STEP) {
            CK_OBJECT_HANDLE *more = reallocarray(all, 2 * (count + SEARCH_STEP), sizeof(*all));

            if (!more) {
                free(all);
                return kr_fail_memory(err);
            }
            all = more;
            room = 2 * (count + SEARCH_STEP);
        }
        rv = P11(s, C_FindObjects, s->handle, all + count, SEARCH_STEP, &found);
        count += rv == CKR_OK ? found : 0;
    } while (rv == CKR_OK && found > 0 && found <= SEARCH_STEP && count <= OBJECTS_MAX);
    if (rv == CKR_OK && found == 0) {
        *ret = all;
        *ret_count = count;
        return KR_OK;
    }
    free(all);
    return rv == CKR_OK ? kr_ckr_fail_count("C_FindObjects", count, err)
                        : kr_ckr_fail(err, "C_FindObjects", rv);
}

enum kr_status kr_objects_find(struct kr_session *s, CK_ATTRIBUTE *template, CK_ULONG attrs,
                               CK_OBJECT_HANDLE **ret, size_t *ret_count, struct kr_error *err)
{
    CK_OBJECT_HANDLE *found = NULL;
    enum kr_status status;
    CK_RV rv = P11(s, C_FindObjectsInit, s->handle, template, attrs);

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_FindObjectsInit", rv);
    status = collect(s, &found, ret_count, err);
    rv = P11(s, C_FindObjectsFinal, s->handle);
    if (rv != CKR_OK) /* the session is left with a search that has not ended */
        kr_session_note_loss(s, KR_LOST_SESSION);
    if (status == KR_OK && rv != CKR_OK)
        status = kr_ckr_fail(err, "C_FindObjectsFinal", rv);
    if (status == KR_OK)
        *ret = found;
    else
        free(found);
    return status;
}

static int compare_ids(const struct kr_object_id *a, const struct kr_object_id *b)
{
    if (a->len != b->len)
        return a->len < b->len ? -1 : 1;
    return memcmp(a->bytes, b->bytes, a->len);
}

static int compare_entries(const void *a, const void *b)
{
    const struct kr_key_entry *x = a, *y = b;

    return compare_ids(&x->id, &y->id);
}

static enum kr_status add_matches(struct kr_session *s, CK_ATTRIBUTE *template, CK_ULONG attrs,
                                  struct kr_keys **keys, struct kr_error *err)
{
    CK_OBJECT_HANDLE *objects = NULL;
    size_t count = 0;
    enum kr_status status;

    KR_TRY(kr_objects_find(s, template, attrs, &objects, &count, err));
    status = add_entries(s, objects, count, keys, err);
    free(objects);
    return status;
}

/* A token that went away during the search, or was logged out of, shows as an empty one: it is
 * asked again at the end.
 *
 * Only token objects are searched, because reading is not harmless: SoftHSM2 adds an attribute that
 * an object lacks to its file, with the default value. A key that another process is making lacks
 * them, and would be spoiled (it becomes a session object without an id). While it is made,
 * CKA_TOKEN is missing or false. */
enum kr_status kr_keys_load(struct kr_session *s, struct kr_error *err)
{
    __attribute__((cleanup(keys_cleanup))) struct kr_keys *keys = NULL;
    CK_OBJECT_CLASS secret = CKO_SECRET_KEY, private = CKO_PRIVATE_KEY;
    CK_KEY_TYPE rsa = CKK_RSA;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE secret_keys[] = {{CKA_CLASS, &secret, sizeof(secret)},
                                  {CKA_TOKEN, &yes, sizeof(yes)}};
    CK_ATTRIBUTE rsa_keys[] = {{CKA_CLASS, &private, sizeof(private)},
                               {CKA_TOKEN, &yes, sizeof(yes)},
                               {CKA_KEY_TYPE, &rsa, sizeof(rsa)}};

    KR_TRY(add_matches(s, secret_keys, 2, &keys, err));
    KR_TRY(add_matches(s, rsa_keys, 3, &keys, err));
    KR_TRY(kr_session_sees_private(s, err));
    qsort(keys->entries, keys->count, sizeof(keys->entries[0]), compare_entries);
    kr_keys_unref(s->keys);
    s->keys = keys;
    keys = NULL;
    s->keys_fresh = true;
    s->searches++;
    return KR_OK;
}

/* The first of the entries with this id, or NULL. */
static struct kr_key_entry *lookup(struct kr_keys *keys, const struct kr_object_id *id)
{
    size_t low = 0, high = keys->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_ids(&keys->entries[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == keys->count || compare_ids(&keys->entries[low].id, id) != 0)
        return NULL;
    return &keys->entries[low];
}

enum kr_status kr_keys_find(struct kr_session *s, const struct kr_object_id *id,
                            struct kr_key_entry **ret, struct kr_error *err)
{
    char text[KR_ID_TEXT];
    struct kr_key_entry *key;

    if (id->len == 0 || id->len > KR_OBJECT_ID_MAX)
        return kr_fail(err, KR_USAGE, "a master key's id has 1 to %d bytes", KR_OBJECT_ID_MAX);
    kr_id_text(id, text);
    key = s->keys ? lookup(s->keys, id) : NULL;
    if (!key) {
        s->wants_keys = !s->keys || !s->keys_fresh;
        kr_fail(err, KR_NOT_FOUND, "the token has no key with id %s", text);
        kr_hint(err, "see the keys it has: p11keyring master list");
        return KR_NOT_FOUND;
    }
    if (key + 1 < s->keys->entries + s->keys->count && compare_ids(&key[1].id, id) == 0) {
        kr_fail(err, KR_REFUSED, "the token has several keys with id %s", text);
        kr_hint(err, "give the others another id: pkcs11-tool --set-id");
        return KR_REFUSED;
    }
    *ret = key;
    return KR_OK;
}

/* --- attributes ------------------------------------------------------------------------------- */

static const char *find_kind_problem(const struct kr_master_info *info)
{
    switch (info->kind) {
    case KR_KIND_AES:
        if (info->bits != 256)
            return "it is no AES-256 key";
        if (!(info->can_encrypt && info->can_decrypt) && !(info->can_wrap && info->can_unwrap))
            return "it may neither encrypt and decrypt nor wrap and unwrap";
        return NULL;
    case KR_KIND_RSA:
        if (!info->can_decrypt)
            return "it may not decrypt (CKA_DECRYPT is false)";
        if (!info->can_sign)
            return "it may not sign (CKA_SIGN is false), and what is wrapped for a public key "
                   "proves no origin without a signature";
        if (info->bits && (info->bits < KR_RSA_BITS_MIN || info->bits > KR_RSA_BITS_MAX))
            return "it is an RSA key of fewer than 3072 or more than 4096 bits";
        return NULL;
    default:
        return "it is no AES-256 key and no RSA key";
    }
}

static const char *find_problem(const struct kr_master_info *info)
{
    if (info->id.len == 0)
        return "its CKA_ID is missing or longer than 32 bytes";
    if (!info->on_token)
        return "it is a session object (CKA_TOKEN is false)";
    if (!info->is_private)
        return "it can be used without a PIN (CKA_PRIVATE is false)";
    if (info->extractable)
        return "it can leave the token (CKA_EXTRACTABLE is true)";
    if (!info->sensitive)
        return "its value can be read (CKA_SENSITIVE is false)";
    if (!info->never_extractable || !info->always_sensitive)
        return "it was not generated in the token or was extractable once (CKA_NEVER_EXTRACTABLE "
               "and CKA_ALWAYS_SENSITIVE must be true)";
    if (info->always_authenticate)
        return "it wants the PIN again for each use (CKA_ALWAYS_AUTHENTICATE is true)";
    return find_kind_problem(info);
}

/* CKA_VALUE_LEN of an AES key, or the modulus of an RSA key. */
static unsigned count_bits(enum kr_key_kind kind, const CK_ATTRIBUTE *attr, const uint8_t *bytes,
                           CK_ULONG size)
{
    CK_ULONG len = attr->ulValueLen;
    unsigned bits;

    if (len == 0 || !has_value(attr, size))
        return 0;
    if (kind == KR_KIND_AES) {
        CK_ULONG value_len;

        memcpy(&value_len, bytes, sizeof(value_len));
        return len == sizeof(value_len) ? 8 * (unsigned)value_len : 0;
    }
    for (; len > 0 && *bytes == 0; bytes++)
        len--;
    bits = 8 * (unsigned)len;
    for (unsigned top = 0x80; bits > 0 && !(*bytes & top); top >>= 1)
        bits--;
    return bits;
}

enum kr_status kr_key_read(struct kr_session *s, const struct kr_key_entry *key,
                           struct kr_master_info *ret, struct kr_error *err)
{
    enum { FLAGS = 13 };
    struct kr_master_info info = {.id = key->id, .kind = key->kind};
    uint8_t size[1025] = {0}; /* RSA up to 8192 bits, so that a key that is too long is told */
    CK_BBOOL flags[FLAGS] = {0};
    const struct {
        CK_ATTRIBUTE_TYPE type;
        bool *field;
    } of[FLAGS] = {
        {CKA_EXTRACTABLE, &info.extractable},
        {CKA_TOKEN, &info.on_token},
        {CKA_PRIVATE, &info.is_private},
        {CKA_SENSITIVE, &info.sensitive},
        {CKA_NEVER_EXTRACTABLE, &info.never_extractable},
        {CKA_ALWAYS_SENSITIVE, &info.always_sensitive},
        {CKA_LOCAL, &info.local},
        {CKA_ENCRYPT, &info.can_encrypt},
        {CKA_DECRYPT, &info.can_decrypt},
        {CKA_WRAP, &info.can_wrap},
        {CKA_UNWRAP, &info.can_unwrap},
        {CKA_SIGN, &info.can_sign},
        {CKA_ALWAYS_AUTHENTICATE, &info.always_authenticate},
    };
    CK_ATTRIBUTE attrs[FLAGS + 2];
    CK_RV rv;

    flags[0] = CK_TRUE; /* a key that does not say is taken as extractable */
    for (size_t i = 0; i < FLAGS; i++)
        attrs[i] = (CK_ATTRIBUTE){of[i].type, &flags[i], sizeof(flags[i])};
    attrs[FLAGS] = (CK_ATTRIBUTE){CKA_LABEL, info.label, sizeof(info.label) - 1};
    attrs[FLAGS + 1] = (CK_ATTRIBUTE){key->kind == KR_KIND_RSA ? CKA_MODULUS : CKA_VALUE_LEN, size,
                                      key->kind == KR_KIND_RSA ? sizeof(size) : sizeof(CK_ULONG)};
    rv = get_attributes(s, key->handle, attrs, FLAGS + 2);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetAttributeValue", rv);
    for (size_t i = 0; i < FLAGS; i++)
        *of[i].field = flags[i] == CK_TRUE;
    info.bits = count_bits(key->kind, &attrs[FLAGS + 1], size, sizeof(size));
    info.label[has_value(&attrs[FLAGS], sizeof(info.label) - 1) ? attrs[FLAGS].ulValueLen : 0] =
        '\0';
    info.problem = find_problem(&info);
    *ret = info;
    return KR_OK;
}

enum kr_status kr_key_accept(const struct kr_master_info *info, struct kr_error *err)
{
    char text[KR_ID_TEXT];

    if (!info->problem)
        return KR_OK;
    kr_id_text(&info->id, text);
    kr_fail(err, KR_REFUSED, "the key %s%s%s%s cannot be a master key: %s", text,
            info->label[0] ? " ('" : "", info->label, info->label[0] ? "')" : "", info->problem);
    kr_hint(err, "make one with 'p11keyring master create', or with pkcs11-tool --keygen "
                 "--key-type AES:32 --sensitive --private --id HEX");
    return KR_REFUSED;
}

/* SoftHSM2 does not tell the length of a key that it has unwrapped; that it is the one that it was
 * given is seen when it is made. */
enum kr_status kr_key_accept_imported(const struct kr_master_info *info, struct kr_error *err)
{
    struct kr_master_info now = *info;

    if (now.bits == 0)
        now.bits = 256;
    now.never_extractable = now.always_sensitive = true;
    now.problem = find_problem(&now);
    return kr_key_accept(&now, err);
}

enum kr_status kr_key_usable(struct kr_session *s, const struct kr_object_id *id,
                             CK_OBJECT_HANDLE *ret, struct kr_master_info *ret_info,
                             struct kr_error *err)
{
    struct kr_key_entry *key = NULL;
    struct kr_master_info info;

    KR_TRY(kr_keys_find(s, id, &key, err));
    if (ret_info || !__atomic_load_n(&key->checked, __ATOMIC_RELAXED)) {
        KR_TRY(kr_key_read(s, key, &info, err));
        KR_TRY(kr_key_accept(&info, err));
        __atomic_store_n(&key->checked, true, __ATOMIC_RELAXED);
        if (ret_info)
            *ret_info = info;
    }
    *ret = key->handle;
    return KR_OK;
}

enum kr_status kr_imported_usable(struct kr_session *s, const struct kr_object_id *id,
                                  CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    struct kr_key_entry *key = NULL;
    struct kr_master_info info;

    KR_TRY(kr_keys_find(s, id, &key, err));
    if (!__atomic_load_n(&key->imported, __ATOMIC_RELAXED)) {
        KR_TRY(kr_key_read(s, key, &info, err));
        KR_TRY(kr_key_accept_imported(&info, err));
        __atomic_store_n(&key->imported, true, __ATOMIC_RELAXED);
    }
    *ret = key->handle;
    return KR_OK;
}
