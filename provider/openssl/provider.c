/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * p11keyring.so, the OpenSSL provider that lets an unmodified mysqld keep its master keys in a
 * token. It has no token code and no cipher of its own.
 *
 * The server asks its keyring for a 32-byte master key and runs AES-256-ECB or AES-256-CBC with
 * what it gets. In token mode the keyring gives it a handle (handle.h); here a handle is recognised
 * by its magic and the operation is done by the function that the keyring registered. All other
 * keys go to OpenSSL's default provider, held in a library context of our own (inner.c).
 *
 * Why no path uses a handle as a key:
 * - We offer every cipher of the default provider whose key can hold a handle whole (32 bytes or
 *   more), by all of its names, and under default_properties = ?provider=p11keyring ours is what a
 *   fetch in the default library context finds. A cipher that we could not guard makes the whole
 *   provider fail to load.
 * - A key enters a context by encrypt_init and decrypt_init alone: OpenSSL 3.5's functions that
 *   take an opaque key are not offered (libcrypto then hands the raw key to these two), and no
 *   parameter of these ciphers carries the key. Both functions look at the first bytes of each
 *   32-byte part of the key before anything else sees it, whatever its length: handle_cipher.c for
 *   AES-256-ECB and AES-256-CBC, guard.c for the others, where a handle is an error.
 * - An AES-256-ECB or -CBC context with a handle passes nothing to its inner context but the
 *   padding switch, and stays so until an init brings another key: an init without a key, any other
 *   parameter, a copy, a second update are errors and end it. Thus an inner context has never been
 *   given a handle in any order of calls.
 * - With a handle exactly one form is run, the server's own: padding off, one update of 64 bytes
 *   (ECB) or 32 bytes (CBC, with an iv), and an empty final. SQL's AES_ENCRYPT and AES_DECRYPT
 *   leave padding on, so that a user who has got hold of a handle cannot make them unwrap the
 *   tablespace key out of a copied file.
 * - No function registered, an unknown handle, a forked child, a token that is away: an error with
 *   a reason on the error stack, the output zeroed. There is no other outcome to fall back to.
 *
 * What is not seen here, and why it gives nothing away: a handle folded or derived into another key
 * (AES_ENCRYPT folds 32 bytes to 16 for aes-128; its kdf option hashes them), cut short, or given
 * to another library context or to a fetch that names another provider. The bytes are then the key
 * of some cipher, but 24 of them are random, made in this process and stored nowhere; nothing that
 * the server has ever written was encrypted under them, since its own calls for a master key are
 * all of the form above and in the default library context. That these calls do arrive here is not
 * in our hands: the keyring gives out handles only after it has fetched both ciphers as the server
 * does, found them ours, and seen the token's answer come back through them. With fips=yes in the
 * default properties ours, which has no such claim, is not found and no handle is given out.
 *
 * The token's own software may call OpenSSL from inside the registered function: no lock of ours is
 * held then, and an operation with any other key takes no lock and writes nothing shared.
 * The module is never unmapped (-z nodelete), so that a registered or counted pointer to it stays
 * good. EVP_SKEY objects (OpenSSL 3.5) of the default provider need its ciphers by name
 * (provider=default): libcrypto does not mix providers there, and mysqld does not use them.
 */
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "handle.h"
#include "inner.h"
#include "registration.h"

static const OSSL_PARAM *gettable_params(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_DEFN(OSSL_PROV_PARAM_NAME, OSSL_PARAM_UTF8_PTR, NULL, 0),
        OSSL_PARAM_DEFN(OSSL_PROV_PARAM_VERSION, OSSL_PARAM_UTF8_PTR, NULL, 0),
        OSSL_PARAM_DEFN(OSSL_PROV_PARAM_BUILDINFO, OSSL_PARAM_UTF8_PTR, NULL, 0),
        OSSL_PARAM_DEFN(OSSL_PROV_PARAM_STATUS, OSSL_PARAM_INTEGER, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return params;
}

static int get_params(void *provctx, OSSL_PARAM params[])
{
    static const struct {
        const char *key, *text;
    } texts[] = {
        {OSSL_PROV_PARAM_NAME, "p11keyring: MySQL master keys in a PKCS#11 token"},
        {OSSL_PROV_PARAM_VERSION, P11K_VERSION},
        {OSSL_PROV_PARAM_BUILDINFO, P11K_VERSION},
    };
    (void)provctx;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        OSSL_PARAM *param = OSSL_PARAM_locate(params, texts[i].key);
        if (param && !OSSL_PARAM_set_utf8_ptr(param, texts[i].text))
            return 0;
    }
    OSSL_PARAM *status = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);
    return !status || OSSL_PARAM_set_int(status, 1);
}

static const OSSL_ALGORITHM *query_operation(void *provctx, int operation, int *no_cache)
{
    (void)provctx;
    *no_cache = 0;
    return operation == OSSL_OP_CIPHER ? kr_inner_ciphers() : NULL;
}

static void teardown(void *provctx)
{
    (void)provctx;
    kr_inner_release();
}

static const OSSL_DISPATCH functions[] = {
    {OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))teardown},
    {OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))gettable_params},
    {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))get_params},
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_operation},
    {KR_FUNC_REGISTER, (void (*)(void))kr_registration_set},
    {KR_FUNC_COUNTERS, (void (*)(void))kr_registration_counters},
    {0, NULL},
};

OSSL_provider_init_fn OSSL_provider_init;

__attribute__((visibility("default"))) int OSSL_provider_init(const OSSL_CORE_HANDLE *core,
                                                              const OSSL_DISPATCH *in,
                                                              const OSSL_DISPATCH **out,
                                                              void **provctx)
{
    (void)core;
    (void)in;
    if (!kr_inner_acquire())
        return 0;
    *out = functions;
    *provctx = kr_inner_provctx();
    return 1;
}
