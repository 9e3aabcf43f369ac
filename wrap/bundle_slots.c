/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Slots: the content key for those who can open a bundle. Bodies, all numbers big-endian:
 *
 *   passwords  kdf u8 | custodians u8 | cost u32 | salt 16 for each | iv 12 | wrapped 32 | tag 16
 *   recipient  hash u8 (1: SHA-256, 2: SHA-1) | modulus length u16 | modulus |
 *              exponent length u8 | exponent | RSAES-OAEP ciphertext, as long as the modulus
 *
 * scrypt (RFC 7914) or PBKDF2-HMAC-SHA-256 (RFC 8018) makes 32 bytes of each password. Those of one
 * are the wrapping key; of two it is HMAC-SHA-256 under the first of a fixed text and the second.
 */
#include "wrap/bundle_internal.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/bytes.h"
#include "base/secret.h"

enum {
    PASSWORDS_HEAD = 1 + 1 + 4,
    WRAPPED = KR_BUNDLE_IV + KR_CONTENT_KEY_BYTES + KR_BUNDLE_TAG,
    SCRYPT_LOG_N_MIN = 10,
    SCRYPT_LOG_N_MAX = 20, /* 1 GiB: what a file may make us spend */
    SCRYPT_R = 8,
    PBKDF2_MIN = 1000,
    PBKDF2_MAX = 10 * 1000 * 1000,
    HASH_SHA256 = 1,
    HASH_SHA1 = 2
};

static const char CUSTODIANS[] = "p11keyring bundle custodians 1";

static enum kr_status fail_slot(const char *what, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "the bundle is damaged: %s", what);
    kr_hint(err, "use another copy of it");
    return KR_INTEGRITY;
}

/* --- parsing ------------------------------------------------------------------------------- */

static bool cost_is_sound(enum kr_bundle_kdf kdf, uint32_t cost)
{
    if (kdf == KR_BUNDLE_SCRYPT)
        return cost >= SCRYPT_LOG_N_MIN && cost <= SCRYPT_LOG_N_MAX;
    return kdf == KR_BUNDLE_PBKDF2 && cost >= PBKDF2_MIN && cost <= PBKDF2_MAX;
}

static enum kr_status parse_passwords(struct kr_bundle_slot *slot, struct kr_error *err)
{
    if (slot->body_len < PASSWORDS_HEAD)
        return fail_slot("a slot for passwords is too short", err);
    slot->kdf = (enum kr_bundle_kdf)slot->body[0];
    slot->custodians = slot->body[1];
    slot->cost = (uint32_t)kr_get_number(slot->body + 2, 4);
    if (!cost_is_sound(slot->kdf, slot->cost))
        return fail_slot("a slot's key derivation is unknown, or costs more than is allowed", err);
    if (slot->custodians < 1 || slot->custodians > KR_CUSTODIANS_MAX ||
        slot->body_len != PASSWORDS_HEAD + slot->custodians * KR_BUNDLE_SALT + WRAPPED)
        return fail_slot("a slot for passwords has an impossible length", err);
    slot->wrapped = slot->body + slot->body_len - KR_CONTENT_KEY_BYTES - KR_BUNDLE_TAG;
    return KR_OK;
}

static enum kr_status parse_recipient(struct kr_bundle_slot *slot, struct kr_error *err)
{
    struct kr_rsa_public *key = &slot->recipient;
    const uint8_t *at = slot->body;
    size_t left = slot->body_len;
    key->modulus_len = left >= 3 ? kr_get_number(at + 1, 2) : 0;
    if (key->modulus_len < KR_RSA_BITS_MIN / 8 || key->modulus_len > KR_RSA_BYTES_MAX ||
        left < 3 + key->modulus_len + 1 || at[0] < HASH_SHA256 || at[0] > HASH_SHA1)
        return fail_slot("a slot for a recipient has an impossible key or hash", err);
    slot->hash = at[0] == HASH_SHA256 ? KR_WRAP_RSA_SHA256 : KR_WRAP_RSA_SHA1;
    memcpy(key->modulus, at + 3, key->modulus_len);
    at += 3 + key->modulus_len;
    key->exponent_len = *at++;
    if (key->exponent_len < 1 || key->exponent_len > sizeof(key->exponent) ||
        left != 3 + key->modulus_len + 1 + key->exponent_len + key->modulus_len)
        return fail_slot("a slot for a recipient has an impossible length", err);
    memcpy(key->exponent, at, key->exponent_len);
    slot->wrapped = at + key->exponent_len;
    return KR_OK;
}

enum kr_status kr_bundle_slot_parse(enum kr_bundle_slot_kind kind, const uint8_t *body, size_t len,
                                    struct kr_bundle_slot *ret, struct kr_error *err)
{
    *ret = (struct kr_bundle_slot){.kind = kind, .body = body, .body_len = len};
    if (kind == KR_BUNDLE_SLOT_PASSWORDS)
        return parse_passwords(ret, err);
    if (kind == KR_BUNDLE_SLOT_RECIPIENT)
        return parse_recipient(ret, err);
    return fail_slot("a slot is of no kind that is known", err);
}

unsigned kr_bundle_custodians(const struct kr_bundle_header *header)
{
    for (size_t i = 0; i < header->slot_count; i++)
        if (header->slots[i].kind == KR_BUNDLE_SLOT_PASSWORDS)
            return header->slots[i].custodians;
    return 0;
}

/* --- passwords ----------------------------------------------------------------------------- */

static bool derive_one(enum kr_bundle_kdf kdf, uint32_t cost, const char *password, size_t len,
                       const uint8_t *salt, uint8_t *ret)
{
    if (kdf == KR_BUNDLE_PBKDF2)
        return PKCS5_PBKDF2_HMAC(password, (int)len, salt, KR_BUNDLE_SALT, (int)cost, EVP_sha256(),
                                 KR_CONTENT_KEY_BYTES, ret) == 1;
    const uint64_t n = UINT64_C(1) << cost;
    return EVP_PBE_scrypt(password, len, salt, KR_BUNDLE_SALT, n, SCRYPT_R, 1,
                          UINT64_C(256) * SCRYPT_R * n, ret, KR_CONTENT_KEY_BYTES) == 1;
}

static bool join(const uint8_t *first, const uint8_t *second, uint8_t *ret)
{
    KR_SECRET uint8_t *text = kr_secret_alloc(sizeof(CUSTODIANS) + KR_CONTENT_KEY_BYTES);
    const size_t prefix = sizeof(CUSTODIANS) - 1;
    size_t len = 0;
    if (!text)
        return false;
    memcpy(text, CUSTODIANS, prefix);
    memcpy(text + prefix, second, KR_CONTENT_KEY_BYTES);
    return EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, first, KR_CONTENT_KEY_BYTES, text,
                     prefix + KR_CONTENT_KEY_BYTES, ret, KR_CONTENT_KEY_BYTES, &len) != NULL;
}

/* The wrapping key of a slot whose body begins at `body`. */
static enum kr_status derive(const uint8_t *body, const struct kr_bundle_passwords *passwords,
                             uint8_t *ret, struct kr_error *err)
{
    enum kr_bundle_kdf kdf = (enum kr_bundle_kdf)body[0];
    const uint32_t cost = (uint32_t)kr_get_number(body + 2, 4);
    const uint8_t *salts = body + PASSWORDS_HEAD;
    KR_SECRET uint8_t *keys =
        kr_secret_alloc((KR_CUSTODIANS_MAX + 1) * (size_t)KR_CONTENT_KEY_BYTES);
    if (!keys)
        return kr_fail_secret(err);
    bool done = true;
    for (unsigned i = 0; i < passwords->count && done; i++)
        done =
            derive_one(kdf, cost, passwords->text[i], passwords->len[i],
                       salts + (size_t)i * KR_BUNDLE_SALT, keys + (size_t)i * KR_CONTENT_KEY_BYTES);
    if (done && passwords->count == 2)
        done = join(keys, keys + KR_CONTENT_KEY_BYTES, ret);
    else if (done)
        memcpy(ret, keys, KR_CONTENT_KEY_BYTES);
    if (done)
        return KR_OK;
    ERR_clear_error();
    return kr_fail(err, KR_INTERNAL, "OpenSSL cannot make a key of the password (%s)",
                   kdf == KR_BUNDLE_SCRYPT ? "scrypt: is there memory for it?" : "PBKDF2");
}

enum kr_status kr_bundle_slot_passwords(const struct kr_bundle_passwords *passwords,
                                        const struct kr_bundle_chance *chance, const uint8_t *info,
                                        size_t info_len, uint8_t ret[KR_BUNDLE_SLOT_MAX],
                                        size_t *ret_len, struct kr_error *err)
{
    KR_SECRET uint8_t *key = kr_secret_alloc(KR_CONTENT_KEY_BYTES);
    uint8_t *at = ret + PASSWORDS_HEAD;
    if (!key)
        return kr_fail_secret(err);
    ret[0] = (uint8_t)chance->kdf;
    ret[1] = (uint8_t)passwords->count;
    kr_put_number(ret + 2, chance->cost, 4);
    for (unsigned i = 0; i < passwords->count; i++, at += KR_BUNDLE_SALT)
        memcpy(at, chance->salts[i], KR_BUNDLE_SALT);
    KR_TRY(derive(ret, passwords, key, err));
    memcpy(at, chance->slot_iv, KR_BUNDLE_IV);
    const struct kr_bundle_gcm gcm = {.key = key,
                                      .iv = at,
                                      .bound = info,
                                      .bound_len = info_len,
                                      .bound_too = ret,
                                      .bound_too_len = (size_t)(at - ret)};
    at += KR_BUNDLE_IV;
    if (!kr_bundle_gcm_seal(&gcm, chance->content_key, KR_CONTENT_KEY_BYTES, at,
                            at + KR_CONTENT_KEY_BYTES))
        return kr_fail(err, KR_INTERNAL, "AES-256-GCM failed in OpenSSL");
    *ret_len = (size_t)(at - ret) + KR_CONTENT_KEY_BYTES + KR_BUNDLE_TAG;
    return KR_OK;
}

static enum kr_status fail_count(unsigned needed, unsigned given, struct kr_error *err)
{
    if (needed == 0) {
        kr_fail(err, KR_USAGE,
                "the bundle opens with no password: it was made for a recipient's "
                "key in a token");
        kr_hint(err, "name the configuration of that token: -c FILE");
    } else {
        kr_fail(err, KR_USAGE, "the bundle needs the passwords of %u custodians, %u given", needed,
                given);
        kr_hint(err, needed == 2 ? "--password-source and --second-password-source, in the order "
                                   "in which it was made"
                                 : "--password-source alone");
    }
    return KR_USAGE;
}

static enum kr_status fail_passwords(unsigned count, struct kr_error *err)
{
    if (count == 2) {
        kr_fail(err, KR_AUTH, "the two passwords do not open the bundle");
        kr_hint(err, "give those that it was made with, in the same order; if they are right, this "
                     "copy of the bundle is damaged");
    } else {
        kr_fail(err, KR_AUTH, "the password does not open the bundle");
        kr_hint(err, "each bundle has the password that it was made with; if it is right, this "
                     "copy of the bundle is damaged");
    }
    return KR_AUTH;
}

/* *ret_opened tells whether these passwords are of this slot. */
static enum kr_status open_slot(const uint8_t *blob, size_t info_len,
                                const struct kr_bundle_slot *slot,
                                const struct kr_bundle_passwords *passwords,
                                uint8_t ret[KR_CONTENT_KEY_BYTES], bool *ret_opened,
                                struct kr_error *err)
{
    KR_SECRET uint8_t *key = kr_secret_alloc((size_t)2 * KR_CONTENT_KEY_BYTES);
    if (!key)
        return kr_fail_secret(err);
    KR_TRY(derive(slot->body, passwords, key, err));
    const struct kr_bundle_gcm gcm = {.key = key,
                                      .iv = slot->wrapped - KR_BUNDLE_IV,
                                      .bound = blob,
                                      .bound_len = info_len,
                                      .bound_too = slot->body,
                                      .bound_too_len = PASSWORDS_HEAD +
                                                       (size_t)slot->custodians * KR_BUNDLE_SALT};
    uint8_t *content_key = key + KR_CONTENT_KEY_BYTES;
    *ret_opened = kr_bundle_gcm_open(&gcm, slot->wrapped, KR_CONTENT_KEY_BYTES, content_key,
                                     slot->wrapped + KR_CONTENT_KEY_BYTES);
    if (*ret_opened)
        memcpy(ret, content_key, KR_CONTENT_KEY_BYTES);
    return KR_OK;
}

enum kr_status kr_bundle_unlock(const uint8_t *blob, const struct kr_bundle_header *header,
                                const struct kr_bundle_passwords *passwords,
                                uint8_t ret[KR_CONTENT_KEY_BYTES], struct kr_error *err)
{
    unsigned needed = kr_bundle_custodians(header);
    bool opened = false;
    if (needed == 0 || needed != passwords->count)
        return fail_count(needed, passwords->count, err);
    for (size_t i = 0; i < header->slot_count && !opened; i++) {
        const struct kr_bundle_slot *slot = &header->slots[i];
        if (slot->kind == KR_BUNDLE_SLOT_PASSWORDS && slot->custodians == passwords->count)
            KR_TRY(open_slot(blob, header->info_len, slot, passwords, ret, &opened, err));
    }
    return opened ? KR_OK : fail_passwords(needed, err);
}

/* --- a recipient --------------------------------------------------------------------------- */

enum kr_status kr_bundle_slot_recipient(const struct kr_rsa_public *recipient,
                                        enum kr_wrap_mechanism hash,
                                        const struct kr_bundle_chance *chance,
                                        uint8_t ret[KR_BUNDLE_SLOT_MAX], size_t *ret_len,
                                        struct kr_error *err)
{
    uint8_t *at = ret;
    *at++ = hash == KR_WRAP_RSA_SHA256 ? HASH_SHA256 : HASH_SHA1;
    kr_put_number(at, recipient->modulus_len, 2);
    memcpy(at + 2, recipient->modulus, recipient->modulus_len);
    at += 2 + recipient->modulus_len;
    *at++ = (uint8_t)recipient->exponent_len;
    memcpy(at, recipient->exponent, recipient->exponent_len);
    at += recipient->exponent_len;
    KR_TRY(kr_rsa_encrypt(recipient, hash, chance->content_key, at, err));
    *ret_len = (size_t)(at - ret) + recipient->modulus_len;
    return KR_OK;
}
