/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Operations under a secret by its name, for readers of files without a server. */
#include "hwaccel/aes256.h"
#include "provider/secrets_internal.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = 32 };

/* What is needed of an entry, so that no lock is held while the token works. */
struct found {
    enum kr_secret_form form;
    bool imported;
    struct kr_object_id object;
    struct kr_token *token;
    uint8_t *key; /* secret memory; NULL for a token-resident key */
};

static enum kr_status copy_entry(const struct kr_secret_entry *entry, struct found *ret,
                                 struct kr_error *err)
{
    *ret = (struct found){.form = entry->form,
                          .imported = entry->imported,
                          .object = entry->object,
                          .token = entry->token};
    if (entry->form != KR_SECRET_WRAPPED)
        return KR_OK;
    if (entry->len != KEY_BYTES)
        return kr_fail(err, KR_USAGE, "the secret '%s' is no AES-256 key", entry->id);
    ret->key = (uint8_t *)kr_secret_dup(entry->bytes, entry->len);
    return ret->key ? KR_OK : kr_fail_secret(err);
}

static bool may_seal(const struct kr_secret_table *table, const struct kr_secret_entry *entry)
{
    struct kr_secret_series series;
    kr_secret_table_series(table, entry->id, &series);
    return !entry->imported || strtoul(entry->id + series.stem, NULL, 10) == series.newest;
}

static enum kr_status find(struct kr_secrets *secrets, const char *id, const char *owner,
                           bool encrypt, struct found *ret, struct kr_error *err)
{
    enum kr_status status;
    pthread_rwlock_rdlock(&secrets->lock);
    const struct kr_secret_entry *entry = kr_secret_table_find(&secrets->table, id, owner);
    if (!entry)
        status = kr_fail(err, KR_NOT_FOUND, "the keyring has no key '%s'", id);
    else if (encrypt && !may_seal(&secrets->table, entry))
        status = kr_secret_fail_replaced(id, err);
    else
        status = copy_entry(entry, ret, err);
    pthread_rwlock_unlock(&secrets->lock);
    return status;
}

static enum kr_status use_resident(struct kr_secrets *secrets, struct found *found, bool encrypt,
                                   const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out,
                                   struct kr_error *err)
{
    const struct kr_resident_op op = {.mode = iv ? KR_RESIDENT_CBC : KR_RESIDENT_ECB,
                                      .encrypt = encrypt,
                                      .imported = found->imported,
                                      .iv = iv};
    if ((found->form == KR_SECRET_TOKEN_CBC) != (iv != NULL))
        return kr_fail(err, KR_USAGE, "the token keeps this key for another mode of AES");
    if (!found->token)
        KR_TRY(kr_tokens_holder(&secrets->keyring->tokens, &found->object, found->imported,
                                &found->token, err));
    return kr_resident_crypt(found->token, &found->object, &op, in, len, out, err);
}

enum kr_status kr_secrets_use(struct kr_secrets *secrets, const char *id, const char *owner,
                              bool encrypt, const uint8_t *iv, const uint8_t *in, size_t len,
                              uint8_t *out, struct kr_error *err)
{
    struct found found;
    KR_TRY(find(secrets, id, owner, encrypt, &found, err));
    enum kr_status status = found.key
                                ? kr_aes256_blocks(found.key, iv, encrypt, in, len, out, err)
                                : use_resident(secrets, &found, encrypt, iv, in, len, out, err);
    kr_secret_free(found.key);
    if (status != KR_OK)
        kr_error_context(err, "master key '%s'", id);
    return status;
}
