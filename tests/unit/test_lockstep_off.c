/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* When pages are not encrypted in lockstep: a lockstep that gives wrong bytes, an OpenSSL that
 * fails, a FIPS provider. Each in a process of its own, since lockstep is proven once in each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

#include "hwaccel/features.h"
#include "hwaccel/lockstep.h"
#include "hwaccel/page_cipher.h"
#include "page_batch.h"

/* --- what the linker puts in between ---------------------------------------------------------- */

static enum { RIGHT, WRONG, FAILING } blocks_are;
static bool provider_is_fips, old_processor;
static unsigned lockstep_calls, ivs_given;

int __real_EVP_Cipher(EVP_CIPHER_CTX *ctx, unsigned char *out, const unsigned char *in,
                      unsigned int len);
int __wrap_EVP_Cipher(EVP_CIPHER_CTX *ctx, unsigned char *out, const unsigned char *in,
                      unsigned int len);
int __wrap_EVP_Cipher(EVP_CIPHER_CTX *ctx, unsigned char *out, const unsigned char *in,
                      unsigned int len)
{
    if (EVP_CIPHER_CTX_get_mode(ctx) != EVP_CIPH_ECB_MODE)
        return __real_EVP_Cipher(ctx, out, in, len);
    lockstep_calls++;
    if (blocks_are == FAILING)
        return -1;
    int ret = __real_EVP_Cipher(ctx, out, in, len);
    if (blocks_are == WRONG)
        out[len - 1] ^= 1; /* one bit, of the last lane */
    return ret;
}

int __real_EVP_CipherInit_ex(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, ENGINE *engine,
                             const unsigned char *key, const unsigned char *iv, int enc);
int __wrap_EVP_CipherInit_ex(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, ENGINE *engine,
                             const unsigned char *key, const unsigned char *iv, int enc);
int __wrap_EVP_CipherInit_ex(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, ENGINE *engine,
                             const unsigned char *key, const unsigned char *iv, int enc)
{
    ivs_given += iv != NULL;
    return __real_EVP_CipherInit_ex(ctx, cipher, engine, key, iv, enc);
}

const char *__real_OSSL_PROVIDER_get0_name(const OSSL_PROVIDER *provider);
const char *__wrap_OSSL_PROVIDER_get0_name(const OSSL_PROVIDER *provider);
const char *__wrap_OSSL_PROVIDER_get0_name(const OSSL_PROVIDER *provider)
{
    return provider_is_fips ? "fips" : __real_OSSL_PROVIDER_get0_name(provider);
}

bool __real_kr_features_have(const char *name);
bool __wrap_kr_features_have(const char *name);
bool __wrap_kr_features_have(const char *name)
{
    return !old_processor && __real_kr_features_have(name);
}

/* --- what must be true then ------------------------------------------------------------------- */

static bool state_is(enum kr_lockstep_state state, const char *text)
{
    return kr_lockstep_state() == state && strcmp(kr_lockstep_text(state), text) == 0;
}

/* Compares with EVP, too. */
static bool pages_use_lockstep(void)
{
    size_t lengths[20];
    struct page_batch batch;
    for (size_t i = 0; i < 20; i++)
        lengths[i] = 16346;
    page_batch_make(&batch, KR_CIPHER_AES_CBC, 32, lengths, 20);
    lockstep_calls = 0;
    page_batch_check_both(&batch);
    page_batch_free(&batch);
    return lockstep_calls > 0;
}

static bool when_all_is_well(void)
{
    return state_is(KR_LOCKSTEP_ON, "on") && pages_use_lockstep();
}

static bool when_the_processor_is_old(void)
{
    old_processor = true;
    return state_is(KR_LOCKSTEP_ON, "on") && pages_use_lockstep();
}

static bool when_it_is_wrong(void)
{
    blocks_are = WRONG;
    return state_is(KR_LOCKSTEP_DIFFERS, "off: it did not give the bytes of OpenSSL's CBC") &&
           !pages_use_lockstep();
}

static bool when_openssl_fails(void)
{
    blocks_are = FAILING;
    return state_is(KR_LOCKSTEP_FAILED, "off: OpenSSL failed while it was tried") &&
           !pages_use_lockstep();
}

/* A page under a key that the pool knows: whether EVP hears of its iv. */
static bool evp_is_given_ivs(void)
{
    const uint8_t key[16] = {1}, iv[16] = {2};
    uint8_t page[64] = {0};
    size_t len;
    for (unsigned i = 0; i < 2; i++) {
        struct kr_page_op *op;
        ivs_given = 0;
        if (kr_page_begin(KR_CIPHER_AES_CBC, KR_PAGE_DECRYPT,
                          &(struct kr_page_key){.bytes = key, .len = sizeof(key)}, iv, sizeof(iv),
                          &op) != KR_OK ||
            kr_page_update(op, page, sizeof(page), page, &len) != KR_OK ||
            kr_page_finish(op, page, &len) != KR_OK)
            abort();
    }
    return ivs_given > 0;
}

static bool when_the_provider_is_fips(void)
{
    provider_is_fips = true;
    return state_is(KR_LOCKSTEP_FIPS, "off: OpenSSL works with a FIPS provider") &&
           !pages_use_lockstep() && evp_is_given_ivs();
}

static bool when_ivs_are_kept_from_evp(void)
{
    return !evp_is_given_ivs();
}

/* Also when it was proven before. There is no such provider here, so that there is no AES. */
static bool when_fips_is_asked_for(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pages *pages;
    uint8_t key[32] = {0};
    return kr_lockstep_state() == KR_LOCKSTEP_ON && EVP_set_default_properties(NULL, "fips=yes") &&
           state_is(KR_LOCKSTEP_FIPS, "off: OpenSSL works with a FIPS provider") &&
           kr_pages_new(KR_CIPHER_AES_CBC, key, 32, &pages, &err) == KR_INTERNAL;
}

static void in_a_process(bool (*holds)(void))
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(holds() ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define IN_A_PROCESS(holds)                                                                        \
    static void test_##holds(void **state)                                                         \
    {                                                                                              \
        (void)state;                                                                               \
        in_a_process(holds);                                                                       \
    }
IN_A_PROCESS(when_all_is_well)
IN_A_PROCESS(when_the_processor_is_old)
IN_A_PROCESS(when_it_is_wrong)
IN_A_PROCESS(when_openssl_fails)
IN_A_PROCESS(when_the_provider_is_fips)
IN_A_PROCESS(when_ivs_are_kept_from_evp)
IN_A_PROCESS(when_fips_is_asked_for)

static void test_features(void **state)
{
    (void)state;
    assert_true(strlen(kr_features_text()) > 0);
    assert_false(kr_features_have("sse4"));
    assert_false(kr_features_have("avx1024"));
#ifdef __x86_64__
    assert_int_equal(kr_features_have("aes"), __builtin_cpu_supports("aes") != 0);
    assert_int_equal(kr_features_have("avx2"), __builtin_cpu_supports("avx2") != 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when_all_is_well),
        cmocka_unit_test(test_when_the_processor_is_old),
        cmocka_unit_test(test_when_it_is_wrong),
        cmocka_unit_test(test_when_openssl_fails),
        cmocka_unit_test(test_when_the_provider_is_fips),
        cmocka_unit_test(test_when_ivs_are_kept_from_evp),
        cmocka_unit_test(test_when_fips_is_asked_for),
        cmocka_unit_test(test_features),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
