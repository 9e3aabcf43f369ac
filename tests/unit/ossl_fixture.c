/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The OpenSSL provider in a library context beside a plain one, and a keyring that is no token. */
#include "ossl_fixture.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/rand.h>

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

/* --- one use of a handle ---------------------------------------------------------------------- */

static const char *const names[] = {"AES-256-ECB", "AES-256-CBC"};
static const int lengths[] = {KR_HANDLE_ECB_BYTES, KR_HANDLE_CBC_BYTES};
static const enum kr_handle_op ops[2][2] = {{KR_HANDLE_ECB_DECRYPT, KR_HANDLE_ECB_ENCRYPT},
                                            {KR_HANDLE_CBC_DECRYPT, KR_HANDLE_CBC_ENCRYPT}};
const uint8_t test_iv[16] = {0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7};

void start(struct use *use, void **state, int mode)
{
    *use = (struct use){.ossl = *state, .mode = mode, .len = lengths[mode]};
    make_handle(use->handle);
    assert_true(RAND_bytes(use->in, sizeof(use->in)));
    memset(use->out, 0xEE, sizeof(use->out));
    use->cipher = EVP_CIPHER_fetch(use->ossl->ours, names[mode], NULL);
    use->ctx = EVP_CIPHER_CTX_new();
    assert_int_equal(use->ossl->set(fake_keyring_run, &use->fake), 1);
    use->ossl->counters(&use->before);
    ERR_clear_error();
}

void finish(struct use *use)
{
    assert_int_equal(use->ossl->set(NULL, NULL), 1);
    EVP_CIPHER_CTX_free(use->ctx);
    EVP_CIPHER_free(use->cipher);
}

int init(struct use *use, int direction)
{
    return EVP_CipherInit_ex2(use->ctx, use->cipher, use->handle, use->mode == CBC ? test_iv : NULL,
                              direction, NULL);
}

void start_ready(struct use *use, void **state, int mode)
{
    start(use, state, mode);
    assert_true(init(use, DECRYPT));
    assert_true(EVP_CIPHER_CTX_set_padding(use->ctx, 0));
}

void assert_zeros(const uint8_t *bytes, int len)
{
    for (int i = 0; i < len; i++)
        assert_int_equal(bytes[i], 0);
}

void assert_answered(struct use *use, int direction, const uint8_t *in)
{
    uint8_t expected[KR_HANDLE_ECB_BYTES];
    struct kr_handle_counters after;
    enum kr_handle_op op = ops[use->mode][direction];
    fake_answer(use->handle[KR_HANDLE_BYTES - 1], op, in, (size_t)use->len, expected);
    assert_memory_equal(use->out, expected, (size_t)use->len);
    assert_int_equal(use->fake.calls, 1);
    assert_int_equal(use->fake.op, op);
    assert_int_equal(use->fake.len, use->len);
    assert_memory_equal(use->fake.handle, use->handle, KR_HANDLE_BYTES);
    assert_int_equal(use->fake.had_iv, use->mode == CBC);
    if (use->mode == CBC)
        assert_memory_equal(use->fake.iv, test_iv, sizeof(test_iv));
    use->ossl->counters(&after);
    assert_int_equal(after.performed, use->before.performed + 1);
    assert_int_equal(after.refused, use->before.refused);
}
