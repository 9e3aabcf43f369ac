/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Wrapping a sealing key in the token, by one of the mechanisms. What a token lists says little
 * (SoftHSM2 lists wraps that it cannot do), so a mechanism counts only when a round trip has proven
 * it.
 */
#include "pkcs11/wrapping.h"

#include "base/secret.h"
#include "pkcs11/ckr.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <string.h>

/* --- failures --------------------------------------------------------------------------------- */

enum kr_status kr_fail_format(const char *function, CK_ULONG len, struct kr_error *err)
{
    return kr_fail(err, KR_REFUSED, "%s gave %lu bytes, which is not the standard's format",
                   function, len);
}

enum kr_status kr_fail_wrapped_length(size_t len, size_t right, struct kr_error *err)
{
    return kr_fail(err, KR_INTEGRITY, "a wrapped key has %zu bytes instead of %zu", len, right);
}

enum kr_status kr_fail_unwrap(const char *function, CK_RV rv, struct kr_error *err)
{
    enum kr_status status = kr_ckr_fail(err, function, rv);

    switch (rv) {
    case CKR_GENERAL_ERROR:
    case CKR_FUNCTION_FAILED:
    case CKR_DATA_INVALID:
    case CKR_DATA_LEN_RANGE:
        status = KR_INTEGRITY;
        break;
    default:
        break;
    }
    if (status == KR_INTEGRITY) {
        kr_fail(err, status,
                "the token refuses a wrapped key (%s: %s): it is damaged, or was "
                "wrapped by another master key",
                function, kr_ckr_name(rv));
        kr_hint(err, "restore the keystore from its backup, or connect the token it was made with");
        err->ckr = rv;
        err->ckr_name = kr_ckr_name(rv);
    }
    return status;
}

/* --- any -------------------------------------------------------------------------------------- */

static enum kr_status fail_mechanism(enum kr_wrap_mechanism mechanism, struct kr_error *err)
{
    return kr_fail(err, KR_USAGE, "there is no wrapping mechanism %d", (int)mechanism);
}

enum kr_status kr_wrap_with(struct kr_session *s, CK_OBJECT_HANDLE master,
                            const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                            const uint8_t *key, uint8_t *ret_wrapped, size_t *ret_len,
                            struct kr_error *err)
{
    switch (mechanism) {
    case KR_WRAP_AES_GCM:
        return kr_gcm_wrap(s, master, id, key, ret_wrapped, ret_len, err);
    case KR_WRAP_AES_KWP:
        return kr_kwp_wrap(s, master, key, ret_wrapped, ret_len, err);
    case KR_WRAP_RSA_SHA256:
    case KR_WRAP_RSA_SHA1:
        return kr_rsa_wrap(s, master, id, mechanism, key, ret_wrapped, ret_len, err);
    default:
        return fail_mechanism(mechanism, err);
    }
}

static enum kr_status unwrap_once(struct kr_session *s, CK_OBJECT_HANDLE master,
                                  const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                                  const uint8_t *wrapped, size_t wrapped_len, uint8_t *ret_key,
                                  struct kr_error *err)
{
    switch (mechanism) {
    case KR_WRAP_AES_GCM:
        return kr_gcm_unwrap(s, master, id, wrapped, wrapped_len, ret_key, err);
    case KR_WRAP_AES_KWP:
        return kr_kwp_unwrap(s, master, wrapped, wrapped_len, ret_key, err);
    case KR_WRAP_RSA_SHA256:
    case KR_WRAP_RSA_SHA1:
        return kr_rsa_unwrap(s, master, id, mechanism, wrapped, wrapped_len, ret_key, err);
    default:
        return fail_mechanism(mechanism, err);
    }
}

/* With a random key; the wrap is handed out. */
static enum kr_status round_trip(struct kr_session *s, CK_OBJECT_HANDLE master,
                                 const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                                 uint8_t ret_wrapped[KR_WRAPPED_MAX], size_t *ret_len,
                                 struct kr_error *err)
{
    KR_SECRET uint8_t *keys = kr_secret_alloc(2UL * KR_SEALING_KEY_BYTES);
    uint8_t *key = keys, *back;

    if (!keys)
        return kr_fail_secret(err);
    back = keys + KR_SEALING_KEY_BYTES;
    KR_TRY(kr_session_random(s, key, KR_SEALING_KEY_BYTES, err));
    KR_TRY(kr_wrap_with(s, master, id, mechanism, key, ret_wrapped, ret_len, err));
    KR_TRY(unwrap_once(s, master, id, mechanism, ret_wrapped, *ret_len, back, err));
    if (CRYPTO_memcmp(key, back, KR_SEALING_KEY_BYTES) != 0)
        return kr_fail(err, KR_REFUSED, "an unwrapped key differs from what was wrapped");
    return KR_OK;
}

/* KR_OK as well when nothing can be shown. */
static enum kr_status show_that_it_works(struct kr_session *s, CK_OBJECT_HANDLE master,
                                         const struct kr_object_id *id,
                                         enum kr_wrap_mechanism mechanism, struct kr_error *err)
{
    struct kr_error proof = KR_ERROR_INIT;
    uint8_t wrapped[KR_WRAPPED_MAX];
    size_t len;
    enum kr_status status = round_trip(s, master, id, mechanism, wrapped, &len, &proof);

    if (status != KR_TOKEN_UNAVAILABLE && status != KR_INTEGRITY)
        return KR_OK;
    *err = proof;
    kr_hint(err, "it refuses what it has just wrapped, too, so the keystore is not to blame: see "
                 "what 'p11keyring doctor' finds");
    return err->status = KR_TOKEN_UNAVAILABLE;
}

/* A token that lost its network may answer as it does to a damaged wrap. Where the module leaves
 * the refused operation active, that costs the session, and the next run of the job goes on. */
enum kr_status kr_unwrap_with(struct kr_session *s, CK_OBJECT_HANDLE master,
                              const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                              const uint8_t *wrapped, size_t wrapped_len, uint8_t *ret_key,
                              bool *doubted, struct kr_error *err)
{
    enum kr_status status;

    if (*doubted)
        KR_TRY(show_that_it_works(s, master, id, mechanism, err));
    status = unwrap_once(s, master, id, mechanism, wrapped, wrapped_len, ret_key, err);
    if (status != KR_INTEGRITY || err->ckr == 0 || *doubted)
        return status;
    *doubted = true;
    KR_TRY(show_that_it_works(s, master, id, mechanism, err));
    return unwrap_once(s, master, id, mechanism, wrapped, wrapped_len, ret_key, err);
}

enum kr_status kr_prove_with(struct kr_session *s, CK_OBJECT_HANDLE master,
                             const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                             struct kr_error *err)
{
    uint8_t wrapped[KR_WRAPPED_MAX], back[KR_SEALING_KEY_BYTES];
    struct kr_error refusal = KR_ERROR_INIT;
    size_t len = 0;

    KR_TRY(round_trip(s, master, id, mechanism, wrapped, &len, err));
    wrapped[len - 1] ^= 1;
    if (unwrap_once(s, master, id, mechanism, wrapped, len, back, &refusal) == KR_OK)
        return kr_fail(err, KR_REFUSED, "a damaged wrap was accepted");
    return KR_OK;
}

/* --- random ----------------------------------------------------------------------------------- */

enum kr_status kr_session_random(struct kr_session *s, uint8_t *ret, size_t len,
                                 struct kr_error *err)
{
    KR_SECRET uint8_t *ours = kr_secret_alloc(len);
    CK_RV rv;

    if (!ours)
        return kr_fail_secret(err);
    if (RAND_priv_bytes(ours, (int)len) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    memset(ret, 0, len);
    rv = s->quirks.no_random ? CKR_RANDOM_NO_RNG : P11(s, C_GenerateRandom, s->handle, ret, len);
    if (rv == CKR_RANDOM_NO_RNG || rv == CKR_FUNCTION_NOT_SUPPORTED)
        memset(ret, 0, len);
    else if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GenerateRandom", rv);
    for (size_t i = 0; i < len; i++)
        ret[i] ^= ours[i];
    return KR_OK;
}

static const struct {
    enum kr_wrap_mechanism mechanism;
    const char *name;
} names[] = {
    {KR_WRAP_AUTO, "auto"},
    {KR_WRAP_AES_GCM, "aes-gcm"},
    {KR_WRAP_AES_KWP, "aes-kwp"},
    {KR_WRAP_RSA_SHA256, "rsa-oaep-sha256"},
    {KR_WRAP_RSA_SHA1, "rsa-oaep-sha1"},
    {KR_WRAP_RSA, "rsa-oaep"},
};
enum { NAMES = sizeof(names) / sizeof(names[0]) };

const char *kr_wrap_mechanism_name(enum kr_wrap_mechanism mechanism)
{
    for (size_t i = 0; i < NAMES; i++)
        if (names[i].mechanism == mechanism)
            return names[i].name;
    return NULL;
}

bool kr_wrap_mechanism_parse(const char *name, enum kr_wrap_mechanism *ret)
{
    for (size_t i = 0; i < NAMES; i++) {
        if (strcmp(names[i].name, name) == 0) {
            *ret = names[i].mechanism;
            return true;
        }
    }
    return false;
}
