/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The OpenSSL provider in a library context beside a plain one, and a keyring that is no token. */
#include "ossl_fixture.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/rand.h>

#ifndef P11K_OSSL_TEST_MODULES
#error "which folder holds the p11keyring.so under test?"
#endif

int ossl_setup(void **state)
{
    struct ossl *ossl = calloc(1, sizeof(*ossl));
    assert_non_null(ossl);
    ossl->plain = OSSL_LIB_CTX_new();
    ossl->ours = OSSL_LIB_CTX_new();
    assert_true(OSSL_PROVIDER_set_default_search_path(ossl->ours, P11K_OSSL_TEST_MODULES));
    ossl->provider_default = OSSL_PROVIDER_load(ossl->ours, "default");
    ossl->provider = OSSL_PROVIDER_load(ossl->ours, KR_OSSL_PROVIDER_NAME);
    if (!ossl->provider)
        ERR_print_errors_fp(stderr);
    assert_non_null(ossl->provider);
    assert_true(EVP_set_default_properties(ossl->ours, "?provider=" KR_OSSL_PROVIDER_NAME));
    const OSSL_DISPATCH *entry = OSSL_PROVIDER_get0_dispatch(ossl->provider);
    for (; entry->function_id != 0; entry++) {
        if (entry->function_id == KR_FUNC_REGISTER)
            ossl->set = (kr_register_function)entry->function;
        else if (entry->function_id == KR_FUNC_COUNTERS)
            ossl->counters = (kr_counters_function)entry->function;
    }
    assert_non_null(ossl->set);
    assert_non_null(ossl->counters);
    *state = ossl;
    return 0;
}

int ossl_teardown(void **state)
{
    struct ossl *ossl = *state;
    OSSL_PROVIDER_unload(ossl->provider);
    OSSL_PROVIDER_unload(ossl->provider_default);
    OSSL_LIB_CTX_free(ossl->ours);
    OSSL_LIB_CTX_free(ossl->plain);
    free(ossl);
    return 0;
}

void fake_answer(uint8_t last_of_handle, enum kr_handle_op op, const uint8_t *in, size_t len,
                 uint8_t *out)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(in[i] ^ last_of_handle ^ (0x51 * (op + 1)) ^ i);
}

int fake_keyring_run(void *context, const uint8_t handle[KR_HANDLE_BYTES], enum kr_handle_op op,
                     const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out)
{
    struct fake_keyring *fake = context;
    fake->calls++;
    fake->op = op;
    fake->len = len;
    fake->had_iv = iv != NULL;
    memcpy(fake->handle, handle, KR_HANDLE_BYTES);
    if (iv)
        memcpy(fake->iv, iv, sizeof(fake->iv));
    assert_true(len <= sizeof(fake->in));
    memcpy(fake->in, in, len);
    fake_answer(handle[KR_HANDLE_BYTES - 1], op, in, len, out);
    return fake->fails ? 0 : 1;
}

void make_handle(uint8_t handle[KR_HANDLE_BYTES])
{
    assert_true(RAND_bytes(handle, KR_HANDLE_BYTES));
    memcpy(handle, KR_HANDLE_MAGIC, KR_HANDLE_MAGIC_BYTES);
}

const char *first_reason(void)
{
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : "";
    ERR_clear_error();
    return reason ? reason : "(no text)";
}

struct each {
    void (*call)(EVP_CIPHER *cipher, void *arg);
    void *arg;
};

static void if_wide(EVP_CIPHER *cipher, void *arg)
{
    const struct each *each = arg;
    if (EVP_CIPHER_get_key_length(cipher) >= KR_HANDLE_BYTES)
        each->call(cipher, each->arg);
}

void each_wide_cipher(struct ossl *ossl, void (*call)(EVP_CIPHER *cipher, void *arg), void *arg)
{
    struct each each = {call, arg};
    EVP_CIPHER_do_all_provided(ossl->plain, if_wide, &each);
}
