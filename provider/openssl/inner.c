/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* OpenSSL's default provider in a library context of our own, and what of it we offer. */
#include "inner.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "guard.h"
#include "handle.h"
#include "handle_cipher.h"
#include "refuse.h"
#include "registration.h"

#define PROPERTIES "provider=" KR_OSSL_PROVIDER_NAME

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Written under the lock, before any context of ours exists and after the last is gone. */
static struct inner {
    unsigned users;
    OSSL_LIB_CTX *library;
    OSSL_PROVIDER *provider;
    const OSSL_ALGORITHM *theirs;
    OSSL_ALGORITHM *ours;
    OSSL_DISPATCH (*functions)[KR_CIPHER_FUNCTIONS];
} inner;

static const char *const handle_ciphers[KR_HANDLE_CIPHERS] = {"AES-256-ECB", "AES-256-CBC"};

static size_t key_bytes(kr_function *const *functions)
{
    size_t bytes = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, &bytes), OSSL_PARAM_END};
    OSSL_FUNC_cipher_get_params_fn *get_params =
        (OSSL_FUNC_cipher_get_params_fn *)functions[OSSL_FUNC_CIPHER_GET_PARAMS];
    return get_params && get_params(params) ? bytes : 0;
}

/* Names are a list separated by colons, the cipher's proper name first. */
static bool is_called(const OSSL_ALGORITHM *algorithm, const char *name)
{
    size_t len = strlen(name);
    const char *names = algorithm->algorithm_names;
    return strncasecmp(names, name, len) == 0 && (names[len] == ':' || names[len] == '\0');
}

static const OSSL_DISPATCH *replacements_for(const OSSL_ALGORITHM *algorithm,
                                             kr_function *const *functions, unsigned *kinds)
{
    for (int kind = 0; kind < KR_HANDLE_CIPHERS; kind++) {
        if (is_called(algorithm, handle_ciphers[kind])) {
            *kinds |= 1U << kind;
            return kr_handle_cipher_over((enum kr_handle_cipher)kind, functions);
        }
    }
    return kr_guard_over(
        (OSSL_FUNC_cipher_encrypt_init_fn *)functions[OSSL_FUNC_CIPHER_ENCRYPT_INIT],
        (OSSL_FUNC_cipher_decrypt_init_fn *)functions[OSSL_FUNC_CIPHER_DECRYPT_INIT]);
}

static void write_dispatch(kr_function **functions, const OSSL_DISPATCH *replacements,
                           OSSL_DISPATCH *out)
{
    for (; replacements->function_id != 0; replacements++)
        functions[replacements->function_id] = replacements->function;
    for (int id = 1; id < KR_CIPHER_FUNCTIONS; id++) {
        if (functions[id])
            *out++ = (OSSL_DISPATCH){id, functions[id]};
    }
    *out = (OSSL_DISPATCH){0, NULL};
}

static void collect(const OSSL_DISPATCH *entry, kr_function **ret_functions)
{
    for (; entry->function_id != 0; entry++) {
        if (entry->function_id < KR_CIPHER_FUNCTIONS)
            ret_functions[entry->function_id] = entry->function;
    }
}

static bool offer(const OSSL_ALGORITHM *theirs, size_t *count, unsigned *kinds)
{
    kr_function *functions[KR_CIPHER_FUNCTIONS] = {NULL};
    collect(theirs->implementation, functions);
    if (key_bytes(functions) < KR_HANDLE_BYTES)
        return true;
    const OSSL_DISPATCH *replacements = replacements_for(theirs, functions, kinds);
    if (!replacements)
        return false;
    write_dispatch(functions, replacements, inner.functions[*count]);
    inner.ours[*count] = (OSSL_ALGORITHM){.algorithm_names = theirs->algorithm_names,
                                          .property_definition = PROPERTIES,
                                          .implementation = inner.functions[*count],
                                          .algorithm_description = theirs->algorithm_description};
    ++*count;
    return true;
}

/* A cipher that cannot be guarded, or a handle cipher that is not there, fails the whole. */
static bool offer_all(void)
{
    size_t all = 0, count = 0;
    unsigned kinds = 0;
    while (inner.theirs[all].algorithm_names)
        all++;
    inner.ours = calloc(all + 1, sizeof(*inner.ours));
    inner.functions = calloc(all + 1, sizeof(*inner.functions));
    if (!inner.ours || !inner.functions)
        return false;
    for (size_t i = 0; i < all; i++) {
        if (!offer(&inner.theirs[i], &count, &kinds))
            return false;
    }
    return kinds == (1U << KR_HANDLE_CIPHERS) - 1;
}

static void end(void)
{
    free(inner.ours);
    free(inner.functions);
    if (inner.theirs)
        OSSL_PROVIDER_unquery_operation(inner.provider, OSSL_OP_CIPHER, inner.theirs);
    if (inner.provider)
        OSSL_PROVIDER_unload(inner.provider);
    OSSL_LIB_CTX_free(inner.library);
    kr_refusals_unload();
    inner = (struct inner){0};
}

static bool begin(void)
{
    static bool started;
    int no_cache;
    if (!started && !(started = kr_registration_start()))
        return false;
    if (!kr_refusals_load())
        return false;
    inner.library = OSSL_LIB_CTX_new();
    if (inner.library)
        inner.provider = OSSL_PROVIDER_load(inner.library, "default");
    if (inner.provider)
        inner.theirs = OSSL_PROVIDER_query_operation(inner.provider, OSSL_OP_CIPHER, &no_cache);
    if (inner.theirs && offer_all())
        return true;
    end();
    return false;
}

bool kr_inner_acquire(void)
{
    pthread_mutex_lock(&lock);
    bool ok = inner.users > 0 || begin();
    if (ok)
        inner.users++;
    pthread_mutex_unlock(&lock);
    return ok;
}

void kr_inner_release(void)
{
    pthread_mutex_lock(&lock);
    if (--inner.users == 0)
        end();
    pthread_mutex_unlock(&lock);
}

void *kr_inner_provctx(void)
{
    return OSSL_PROVIDER_get0_provider_ctx(inner.provider);
}

const OSSL_ALGORITHM *kr_inner_ciphers(void)
{
    return inner.ours;
}
