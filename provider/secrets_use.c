/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Operations under a secret by its name, for readers of files without a server. */
#include "hwaccel/aes256.h"
#include "provider/secrets_internal.h"

#include <string.h>

enum { KEY_BYTES = 32 };

/* What is needed of an entry, so that no lock is held while the token works. */
struct found {
    enum kr_secret_form form;
    struct kr_object_id object;
    struct kr_token *token;
    uint8_t *key; /* secret memory; NULL for a token-resident key */
};

static enum kr_status copy_entry(const struct kr_secret_entry *entry, struct found *ret,
                                 struct kr_error *err)
{
    *ret = (struct found){.form = entry->form, .object = entry->object, .token = entry->token};
    if (entry->form != KR_SECRET_WRAPPED)
        return KR_OK;
    if (entry->len != KEY_BYTES)
        return kr_fail(err, KR_USAGE, "the secret '%s' is no AES-256 key", entry->id);
    ret->key = (uint8_t *)kr_secret_dup(entry->bytes, entry->len);
    return ret->key ? KR_OK : kr_fail_secret(err);
}

static enum kr_status find(struct kr_secrets *secrets, const char *id, const char *owner,
                           struct found *ret, struct kr_error *err)
{
    pthread_rwlock_rdlock(&secrets->lock);
    const struct kr_secret_entry *entry = kr_secret_table_find(&secrets->table, id, owner);
    enum kr_status status = entry ? copy_entry(entry, ret, err)
                                  : kr_fail(err, KR_NOT_FOUND, "the keyring has no key '%s'", id);
    pthread_rwlock_unlock(&secrets->lock);
    return status;
}

static enum kr_status use_resident(struct kr_secrets *secrets, struct found *found, bool encrypt,
                                   const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out,
                                   struct kr_error *err)
{
    const struct kr_resident_op op = {
        .mode = iv ? KR_RESIDENT_CBC : KR_RESIDENT_ECB, .encrypt = encrypt, .iv = iv};
    if ((found->form == KR_SECRET_TOKEN_CBC) != (iv != NULL))
        return kr_fail(err, KR_USAGE, "the token keeps this key for another mode of AES");
    if (!found->token)
        KR_TRY(kr_tokens_holder(&secrets->keyring->tokens, &found->object, &found->token, err));
    return kr_resident_crypt(found->token, &found->object, &op, in, len, out, err);
}

enum kr_status kr_secrets_use(struct kr_secrets *secrets, const char *id, const char *owner,
                              bool encrypt, const uint8_t *iv, const uint8_t *in, size_t len,
                              uint8_t *out, struct kr_error *err)
{
    struct found found;
    KR_TRY(find(secrets, id, owner, &found, err));
    enum kr_status status = found.key
                                ? kr_aes256_blocks(found.key, iv, encrypt, in, len, out, err)
                                : use_resident(secrets, &found, encrypt, iv, in, len, out, err);
    kr_secret_free(found.key);
    if (status != KR_OK)
        kr_error_context(err, "master key '%s'", id);
    return status;
}
