/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Vouching for files that are kept outside of the keystore. */
#include "provider/keyring_internal.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

/* A key of its own for each purpose, so that no bytes mean one thing here and another there. */
enum kr_status kr_keyring_vouch(struct kr_keyring *keyring, const char *purpose,
                                const uint8_t *bytes, size_t len, uint8_t ret[KR_VOUCH_BYTES],
                                struct kr_error *err)
{
    unsigned key_len = 0, mac_len = 0;
    KR_SECRET uint8_t *key = kr_secret_alloc(KR_VOUCH_BYTES);
    if (!key)
        return kr_fail_secret(err);
    if (!HMAC(EVP_sha256(), keyring->manifest_key, KR_MANIFEST_KEY_BYTES, (const uint8_t *)purpose,
              strlen(purpose), key, &key_len) ||
        !HMAC(EVP_sha256(), key, (int)key_len, bytes, len, ret, &mac_len) ||
        mac_len != KR_VOUCH_BYTES)
        return kr_fail(err, KR_INTERNAL, "HMAC-SHA-256 failed in libcrypto");
    return KR_OK;
}
