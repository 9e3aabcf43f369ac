/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Sets of keys. Their bytes share slabs, each one allocation of secret memory. */
#include "provider/key_set.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider/secrets.h"

enum { SLAB_BYTES = 32 * 1024 };

struct kr_key_slab {
    struct kr_key_slab *next;
    size_t used;
    uint8_t *bytes; /* secret memory of SLAB_BYTES */
};

static void free_strings(struct kr_set_key *key)
{
    free(key->name);
    free(key->owner);
    free(key->type);
}

void kr_key_set_free(struct kr_key_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        free_strings(&set->keys[i]);
    free(set->keys);
    while (set->slabs) {
        struct kr_key_slab *next = set->slabs->next;
        kr_secret_free(set->slabs->bytes);
        free(set->slabs);
        set->slabs = next;
    }
    *set = (struct kr_key_set){0};
}

/* --- adding ----------------------------------------------------------------------------------- */

static enum kr_status add_slab(struct kr_key_set *set, struct kr_error *err)
{
    struct kr_key_slab *slab = calloc(1, sizeof(*slab));
    if (!slab)
        return kr_fail_memory(err);
    slab->bytes = kr_secret_alloc(SLAB_BYTES);
    if (!slab->bytes) {
        free(slab);
        return kr_fail_secret(err);
    }
    slab->next = set->slabs;
    set->slabs = slab;
    return KR_OK;
}

static enum kr_status put_bytes(struct kr_key_set *set, const struct kr_set_key *key, uint8_t **ret,
                                struct kr_error *err)
{
    if (!key->bytes) {
        *ret = NULL;
        return KR_OK;
    }
    if (!set->slabs || SLAB_BYTES - set->slabs->used < key->len)
        KR_TRY(add_slab(set, err));
    *ret = memcpy(set->slabs->bytes + set->slabs->used, key->bytes, key->len);
    set->slabs->used += key->len;
    return KR_OK;
}

static enum kr_status check_data(const struct kr_set_key *key, struct kr_error *err)
{
    if (key->id == 0 || key->version == 0 || key->version > KR_KEY_VERSION_MAX)
        return kr_fail(err, KR_USAGE, "there is no key %u version %u", key->id, key->version);
    if (key->bytes && !kr_cipher_takes(key->cipher, key->len))
        return kr_fail(err, KR_USAGE, "key %u version %u has %zu bytes, which %s does not take",
                       key->id, key->version, key->len, kr_cipher_name(key->cipher));
    return KR_OK;
}

static enum kr_status check_secret(const struct kr_set_key *key, struct kr_error *err)
{
    size_t name = strlen(key->name), owner = strlen(key->owner), type = strlen(key->type);
    char text[KR_SET_KEY_TEXT];
    kr_set_key_text(key, text);
    if (name == 0 || name > KR_SECRET_ID_MAX || owner > KR_SECRET_ID_MAX)
        return kr_fail(err, KR_USAGE, "%s: names have 1 to %d bytes", text, KR_SECRET_ID_MAX);
    if (type > KR_SECRET_TYPE_MAX)
        return kr_fail(err, KR_USAGE, "%s: its type is longer than %d bytes", text,
                       KR_SECRET_TYPE_MAX);
    if (key->bytes && (key->len == 0 || key->len > KR_SECRET_BYTES_MAX))
        return kr_fail(err, KR_USAGE, "%s has %zu bytes, not 1 to %d", text, key->len,
                       KR_SECRET_BYTES_MAX);
    return KR_OK;
}

static bool make_room(struct kr_key_set *set)
{
    if (set->count < set->room)
        return true;
    size_t room = set->room ? 2 * set->room : 64;
    struct kr_set_key *keys = realloc(set->keys, room * sizeof(*keys));
    if (!keys)
        return false;
    set->keys = keys;
    set->room = room;
    return true;
}

static bool copy_strings(struct kr_set_key *copy, const struct kr_set_key *key)
{
    if (key->kind == KR_KEY_DATA)
        return true;
    copy->name = strdup(key->name);
    copy->owner = strdup(key->owner);
    copy->type = strdup(key->type);
    return copy->name && copy->owner && copy->type;
}

enum kr_status kr_key_set_add(struct kr_key_set *set, const struct kr_set_key *key,
                              struct kr_error *err)
{
    struct kr_set_key copy = *key;
    KR_TRY(key->kind == KR_KEY_DATA ? check_data(key, err) : check_secret(key, err));
    KR_TRY(put_bytes(set, key, &copy.bytes, err));
    copy.name = copy.owner = copy.type = NULL;
    if (!make_room(set) || !copy_strings(&copy, key)) {
        free_strings(&copy);
        return kr_fail_memory(err);
    }
    set->keys[set->count++] = copy;
    return KR_OK;
}

/* --- order ------------------------------------------------------------------------------------ */

static int compare(const void *left, const void *right)
{
    const struct kr_set_key *a = left, *b = right;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->kind == KR_KEY_SECRET) {
        int names = strcmp(a->name, b->name);
        return names ? names : strcmp(a->owner, b->owner);
    }
    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return a->version == b->version ? 0 : a->version < b->version ? -1 : 1;
}

enum kr_status kr_key_set_sort(struct kr_key_set *set, struct kr_error *err)
{
    if (set->count > 0)
        qsort(set->keys, set->count, sizeof(*set->keys), compare);
    for (size_t i = 1; i < set->count; i++) {
        char text[KR_SET_KEY_TEXT];
        if (compare(&set->keys[i - 1], &set->keys[i]) != 0)
            continue;
        kr_set_key_text(&set->keys[i], text);
        return kr_fail(err, KR_INTEGRITY, "there are two of %s", text);
    }
    return KR_OK;
}

struct kr_set_key *kr_key_set_find(const struct kr_key_set *set, const struct kr_set_key *name)
{
    return set->count == 0 ? NULL
                           : bsearch(name, set->keys, set->count, sizeof(*set->keys), compare);
}

bool kr_set_key_equal(const struct kr_set_key *a, const struct kr_set_key *b)
{
    if (compare(a, b) != 0 || !a->bytes || !b->bytes || a->len != b->len)
        return false;
    bool same_use = a->kind == KR_KEY_DATA ? a->cipher == b->cipher : strcmp(a->type, b->type) == 0;
    return same_use && CRYPTO_memcmp(a->bytes, b->bytes, a->len) == 0;
}

void kr_set_key_text(const struct kr_set_key *key, char ret[KR_SET_KEY_TEXT])
{
    if (key->kind == KR_KEY_DATA)
        snprintf(ret, KR_SET_KEY_TEXT, "key %u version %u", key->id, key->version);
    else if (*key->owner)
        snprintf(ret, KR_SET_KEY_TEXT, "secret '%.200s' of '%.80s'", key->name, key->owner);
    else
        snprintf(ret, KR_SET_KEY_TEXT, "secret '%.200s'", key->name);
    for (char *c = ret; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
}
