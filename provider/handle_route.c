/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The way of a handle through OpenSSL. */
#include "provider/handle_route.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    kr_register_function set; /* NULL: nothing is registered */
    pid_t pid;
} registered;

static enum kr_status fail_route(struct kr_error *err, const char *cipher, const char *what)
{
    kr_fail(err, KR_REFUSED, "%s of OpenSSL's default context %s", cipher, what);
    kr_hint(err,
            "start mysqld with OPENSSL_CONF naming p11keyring's openssl.cnf (a systemd drop-in: "
            "docs/USAGE-mysql.md), or set [mysql] master-keys = wrapped");
    return err->status;
}

/* --- who does the ciphers --------------------------------------------------------------------- */

static kr_register_function find_register(const OSSL_PROVIDER *provider)
{
    const OSSL_DISPATCH *entry = OSSL_PROVIDER_get0_dispatch(provider);
    for (; entry && entry->function_id != 0; entry++)
        if (entry->function_id == KR_FUNC_REGISTER)
            return (kr_register_function)entry->function;
    return NULL;
}

static enum kr_status check_provider(const char *name, const OSSL_PROVIDER *provider,
                                     kr_register_function *ret, struct kr_error *err)
{
    if (!provider)
        return fail_route(err, name, "cannot be fetched");
    if (strcmp(OSSL_PROVIDER_get0_name(provider), KR_OSSL_PROVIDER_NAME) != 0)
        return fail_route(err, name, "is not done by the p11keyring provider");
    *ret = find_register(provider);
    if (!*ret)
        return fail_route(err, name, "is done by a p11keyring provider of another version");
    return KR_OK;
}

static enum kr_status check_cipher(const char *name, kr_register_function *ret,
                                   struct kr_error *err)
{
    ERR_set_mark();
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    enum kr_status status =
        check_provider(name, cipher ? EVP_CIPHER_get0_provider(cipher) : NULL, ret, err);
    EVP_CIPHER_free(cipher);
    ERR_pop_to_mark();
    return status;
}

static enum kr_status check_route(kr_register_function *ret, struct kr_error *err)
{
    kr_register_function ecb = NULL, cbc = NULL;
    KR_TRY(check_cipher("AES-256-ECB", &ecb, err));
    KR_TRY(check_cipher("AES-256-CBC", &cbc, err));
    if (ecb != cbc)
        return fail_route(err, "AES-256-CBC", "is done by another provider than AES-256-ECB");
    *ret = ecb;
    return KR_OK;
}

enum kr_status kr_handle_route_check(struct kr_error *err)
{
    kr_register_function ignored;
    return check_route(&ignored, err);
}

static enum kr_status register_once(kr_register_function set, kr_handle_function function,
                                    void *context, struct kr_error *err)
{
    if (registered.set == set && registered.pid == getpid())
        return KR_OK;
    if (set(function, context) != 1) {
        kr_fail(err, KR_REFUSED, "another keyring serves the p11keyring provider in this process");
        kr_hint(err, "load one keyring component only");
        return err->status;
    }
    registered.set = set;
    registered.pid = getpid();
    return KR_OK;
}

enum kr_status kr_handle_route_open(kr_handle_function function, void *context,
                                    struct kr_error *err)
{
    kr_register_function set = NULL;
    KR_TRY(check_route(&set, err));
    pthread_mutex_lock(&lock);
    enum kr_status status = register_once(set, function, context, err);
    pthread_mutex_unlock(&lock);
    return status;
}

void kr_handle_route_close(void)
{
    pthread_mutex_lock(&lock);
    if (registered.set && registered.pid == getpid())
        registered.set(NULL, NULL);
    registered.set = NULL;
    pthread_mutex_unlock(&lock);
}

/* --- the proof -------------------------------------------------------------------------------- */

enum { LONGEST = KR_HANDLE_ECB_BYTES, BLOCK = 16 };

struct attempt {
    const char *cipher;
    const uint8_t *handle, *iv;
    bool encrypt, padding;
    size_t len;
};

static bool run(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const struct attempt *attempt,
                const uint8_t *in, uint8_t *out)
{
    int len = 0, last = 0;
    return EVP_CipherInit_ex2(ctx, cipher, attempt->handle, attempt->iv, attempt->encrypt, NULL) &&
           EVP_CIPHER_CTX_set_padding(ctx, attempt->padding) &&
           EVP_CipherUpdate(ctx, out, &len, in, (int)attempt->len) &&
           EVP_CipherFinal_ex(ctx, out + len, &last) && (size_t)len + (size_t)last >= attempt->len;
}

/* As the server calls OpenSSL; `out` has room for a block more. */
static bool try_openssl(const struct attempt *attempt, const uint8_t *in, uint8_t *out)
{
    ERR_set_mark();
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, attempt->cipher, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool ok = cipher && ctx && run(ctx, cipher, attempt, in, out);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    ERR_pop_to_mark();
    return ok;
}

static enum kr_status fail_proof(struct kr_error *err, const char *what)
{
    kr_fail(err, KR_REFUSED, "the self-test of the way to the token failed: %s", what);
    kr_hint(err, "the p11keyring provider and component must be of one version; until then set "
                 "[mysql] master-keys = wrapped");
    return err->status;
}

static enum kr_status prove_round_trip(struct kr_secrets *secrets, struct attempt attempt,
                                       const uint8_t *plain, struct kr_error *err)
{
    uint8_t wanted[LONGEST], seen[LONGEST + BLOCK], back[LONGEST + BLOCK];
    enum kr_handle_op op = attempt.iv ? KR_HANDLE_CBC_ENCRYPT : KR_HANDLE_ECB_ENCRYPT;
    KR_TRY(
        kr_secrets_crypt(secrets, attempt.handle, op, attempt.iv, plain, attempt.len, wanted, err));
    if (!try_openssl(&attempt, plain, seen))
        return fail_proof(err, "OpenSSL refused a handle, or the token did not answer");
    if (memcmp(seen, wanted, attempt.len) != 0)
        return fail_proof(err, "OpenSSL gave another result than the token");
    attempt.encrypt = false;
    if (!try_openssl(&attempt, seen, back) || memcmp(back, plain, attempt.len) != 0)
        return fail_proof(err, "what the token encrypted was not decrypted");
    return KR_OK;
}

/* None of these may run; each stands for a way in which a handle could be used as a key. */
static enum kr_status prove_refusals(const struct attempt *good, const uint8_t *in,
                                     struct kr_error *err)
{
    uint8_t unknown[KR_HANDLE_BYTES], out[LONGEST + BLOCK];
    struct attempt padded = *good, shorter = *good, stranger = *good, other = *good;
    memcpy(unknown, good->handle, sizeof(unknown));
    unknown[KR_HANDLE_BYTES - 1] ^= 1;
    padded.padding = true;
    shorter.len = BLOCK;
    stranger.handle = unknown;
    other.cipher = "AES-256-CTR";
    other.iv = in;
    if (try_openssl(&padded, in, out))
        return fail_proof(err, "a handle worked with padding on");
    if (try_openssl(&shorter, in, out))
        return fail_proof(err, "a handle worked with data of another length");
    if (try_openssl(&stranger, in, out))
        return fail_proof(err, "a handle that names no key worked");
    if (try_openssl(&other, in, out))
        return fail_proof(err, "a handle worked with another cipher");
    return KR_OK;
}

enum kr_status kr_handle_route_prove(struct kr_secrets *secrets, enum kr_secret_form form,
                                     const uint8_t handle[KR_HANDLE_BYTES], struct kr_error *err)
{
    uint8_t plain[LONGEST], iv[BLOCK];
    bool ecb = form == KR_SECRET_TOKEN_ECB;
    struct attempt attempt = {
        .cipher = ecb ? "AES-256-ECB" : "AES-256-CBC",
        .handle = handle,
        .iv = ecb ? NULL : iv,
        .encrypt = true,
        .len = ecb ? KR_HANDLE_ECB_BYTES : KR_HANDLE_CBC_BYTES,
    };
    if (RAND_bytes(plain, sizeof(plain)) != 1 || RAND_bytes(iv, sizeof(iv)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    KR_TRY(prove_refusals(&attempt, plain, err));
    return prove_round_trip(secrets, attempt, plain, err);
}
