/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * RSA master keys. Built a second time without the check of the signature (P11K_TEST_NO_GUARD),
 * where a forged wrap opens: so its refusal in the first build means something.
 */
#include "one_token.h"

#include "base/guards.h"
#include "base/hex.h"
#include "pkcs11/recipient.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Made by pkcs11-tool, as in the second build none is proven. */
static struct kr_master_info master;

static int up(void **state)
{
    struct kr_error err = KR_ERROR_INIT;

    token_up(state);
    if (check_pkcs11_tool(&f, "--keypairgen --key-type RSA:3072 --usage-decrypt --usage-sign "
                              "--id ad --label adopted") != 0)
        return -1;
    return kr_master_find_uri(token, "pkcs11:object=adopted;type=private", &master, &err) == KR_OK
               ? 0
               : -1;
}

static void tool(const char *arguments)
{
    assert_int_equal(check_pkcs11_tool(&f, arguments), 0);
}

/* pkcs11-tool with the id of `master` as its --id. */
static void tool_for_master(const char *arguments)
{
    char id[2 * KR_OBJECT_ID_MAX + 1], command[512];

    kr_hex_encode(master.id.bytes, master.id.len, id);
    snprintf(command, sizeof(command), "%s --id %s", arguments, id);
    tool(command);
}

/* --- the key ---------------------------------------------------------------------------------- */

/* A token without AES, and without lists of allowed mechanisms. */
static void comes_after_aes(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    enum kr_wrap_mechanism mechanism;
    struct kr_master_info info;
    size_t before = check_count_keys(token);

    (void)state;
    mock_rules("fail C_GenerateKey 0x%lx\nfail C_GenerateKeyPair 0x%lx 1 1\n",
               CKR_MECHANISM_INVALID, CKR_ATTRIBUTE_TYPE_INVALID);
    assert_ok(kr_master_generate(token, "p11keyring:test:2", KR_WRAP_AUTO, &info, &err));
    assert_int_equal(info.kind, KR_KIND_RSA);
    assert_int_equal(info.bits, 3072);
    assert_true(info.on_token && info.is_private && info.sensitive && !info.extractable);
    assert_true(info.never_extractable && info.always_sensitive && info.local);
    assert_true(info.can_decrypt && info.can_sign);
    assert_false(info.can_encrypt || info.can_wrap || info.can_unwrap || info.always_authenticate);
    assert_int_equal(check_count_keys(token), before + 1);
    assert_ok(kr_master_prove(token, &info.id, KR_WRAP_AUTO, &mechanism, &err));
    assert_int_equal(mechanism, KR_WRAP_RSA_SHA1); /* SoftHSM2 knows no other hash */
    assert_int_equal(kr_master_prove(token, &info.id, KR_WRAP_AES_GCM, &mechanism, &err),
                     KR_REFUSED);
    assert_error(&err, KR_REFUSED, "of another kind", "doctor");
    assert_ok(kr_master_destroy(token, &info.id, &err));
    assert_int_equal(kr_master_find(token, &info.id, &info, &err), KR_NOT_FOUND);
}

/* A token that is full says nothing of AES. */
static void is_no_way_out_of_a_full_token(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    uint64_t pairs = mock_calls("C_GenerateKeyPair");

    (void)state;
    mock_rules("fail C_GenerateKey 0x%lx\n", CKR_DEVICE_MEMORY);
    assert_int_equal(kr_master_generate(token, "x", KR_WRAP_AUTO, &info, &err),
                     KR_TOKEN_UNAVAILABLE);
    assert_error(&err, KR_TOKEN_UNAVAILABLE, "CKR_DEVICE_MEMORY", "the token is full");
    assert_int_equal(mock_calls("C_GenerateKeyPair"), pairs);
}

/* Nothing stays behind, neither half. */
static void stays_only_when_it_serves(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    size_t before = check_count_keys(token);
    uint64_t destroyed = mock_calls("C_DestroyObject");

    (void)state;
    assert_int_equal(kr_master_generate(token, "x", KR_WRAP_RSA_SHA256, &info, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "rsa-oaep-sha256: C_DecryptInit (RSA-OAEP)", "doctor");
    mock_rules("fail C_SignInit 0x%lx\n", CKR_MECHANISM_INVALID);
    assert_int_equal(kr_master_generate(token, "x", KR_WRAP_RSA, &info, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "C_SignInit (SHA256-RSA-PKCS) failed: CKR_MECHANISM_INVALID",
                 "doctor");
    assert_int_equal(mock_calls("C_DestroyObject") - destroyed, 4);
    assert_int_equal(check_count_keys(token), before);
}

struct pair {
    CK_SLOT_ID slot;
    CK_ULONG bits;
    CK_BBOOL decrypt, sign, extractable, always;
    CK_BYTE id;
};

/* In a child, so that this process's module is left alone. */
static int make_pair(void *argument)
{
    struct pair *p = argument;
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE public[] = {{CKA_MODULUS_BITS, &p->bits, sizeof(p->bits)},
                             {CKA_ID, &p->id, sizeof(p->id)}};
    CK_ATTRIBUTE private[] = {{CKA_TOKEN, &yes, sizeof(yes)},
                              {CKA_PRIVATE, &yes, sizeof(yes)},
                              {CKA_SENSITIVE, &yes, sizeof(yes)},
                              {CKA_EXTRACTABLE, &p->extractable, sizeof(p->extractable)},
                              {CKA_DECRYPT, &p->decrypt, sizeof(p->decrypt)},
                              {CKA_SIGN, &p->sign, sizeof(p->sign)},
                              {CKA_ALWAYS_AUTHENTICATE, &p->always, sizeof(p->always)},
                              {CKA_ID, &p->id, sizeof(p->id)}};
    CK_OBJECT_HANDLE halves[2];
    CK_SESSION_HANDLE session;
    CK_FUNCTION_LIST *p11;
    CK_C_GetFunctionList get_list;

    *(void **)&get_list = dlsym(dlopen(f.module, RTLD_NOW), "C_GetFunctionList");
    MUST(get_list(&p11) == CKR_OK);
    p11->C_Finalize(NULL);
    MUST(p11->C_Initialize(&args) == CKR_OK);
    MUST(p11->C_OpenSession(p->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session) ==
         CKR_OK);
    MUST(p11->C_Login(session, CKU_USER, (CK_UTF8CHAR *)f.pin, strlen(f.pin)) == CKR_OK);
    MUST(p11->C_GenerateKeyPair(session, &mechanism, public, 2, private, 8, &halves[0],
                                &halves[1]) == CKR_OK);
    return 0;
}

static void refuses_unsafe_keys(void **state)
{
    static struct {
        struct pair pair;
        const char *reason;
    } cases[] = {
        {{.bits = 2048, .decrypt = 1, .sign = 1, .id = 0xc1}, "fewer than 3072"},
        {{.bits = 2048, .decrypt = 1, .id = 0xc2}, "CKA_SIGN is false"},
        {{.bits = 2048, .sign = 1, .id = 0xc3}, "CKA_DECRYPT is false"},
        {{.bits = 2048, .extractable = 1, .id = 0xc4}, "CKA_EXTRACTABLE is true"},
        {{.bits = 2048, .always = 1, .id = 0xc5}, "CKA_ALWAYS_AUTHENTICATE is true"},
    };
    uint8_t key[KR_SEALING_KEY_BYTES] = {0}, wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info info;
    size_t len, before = check_count_keys(token);

    (void)state;
    assert_ok(kr_token_get_info(token, &info, &err));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kr_object_id id = {.len = 1, .bytes = {cases[i].pair.id}};
        struct kr_master_info found;

        cases[i].pair.slot = info.slot;
        assert_int_equal(scratch_in_child(make_pair, &cases[i].pair), 0);
        assert_int_equal(kr_master_find(token, &id, &found, &err), KR_REFUSED);
        assert_error(&err, KR_REFUSED, cases[i].reason, "master create");
        assert_int_equal(kr_master_wrap(token, &id, KR_WRAP_RSA_SHA1, key, wrapped, &len, &err),
                         KR_REFUSED);
        assert_error(&err, KR_REFUSED, cases[i].reason, "master create");
    }
    assert_int_equal(check_count_keys(token), before); /* other programs' keys */
}

static void adopts_keys_of_pkcs11_tool(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    enum kr_wrap_mechanism mechanism;

    (void)state;
    assert_int_equal(master.id.bytes[0], 0xad);
    assert_ok(kr_master_prove(token, &master.id, KR_WRAP_RSA, &mechanism, &err));
    assert_int_equal(mechanism, KR_WRAP_RSA_SHA1);
}

/* --- wraps ------------------------------------------------------------------------------------ */

static void wrap(uint8_t key[KR_SEALING_KEY_BYTES], uint8_t wrapped[KR_WRAPPED_MAX])
{
    struct kr_error err = KR_ERROR_INIT;
    size_t len = 0;

    assert_ok(kr_token_random(token, key, KR_SEALING_KEY_BYTES, &err));
    assert_ok(kr_master_wrap(token, &master.id, KR_WRAP_RSA_SHA1, key, wrapped, &len, &err));
    assert_int_equal(len, 2 + 384 + 384);
}

static enum kr_status unwrap(const uint8_t *wrapped, uint8_t *ret_key, struct kr_error *err)
{
    return kr_master_unwrap(token, &master.id, KR_WRAP_RSA_SHA1, wrapped, 2 + 384 + 384, ret_key,
                            err);
}

static void wraps_and_unwraps(void **state)
{
    uint8_t key[KR_SEALING_KEY_BYTES], back[KR_SEALING_KEY_BYTES], wrapped[KR_WRAPPED_MAX];
    uint8_t again[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    uint64_t reads;

    (void)state;
    wrap(key, wrapped);
    reads = mock_calls("C_GetAttributeValue"); /* the public key is known from now on */
    wrap(back, again);
    assert_memory_not_equal(wrapped + 2, again + 2, 384);
    assert_ok(unwrap(wrapped, back, &err));
    assert_memory_equal(key, back, sizeof(key));
    assert_int_equal(mock_calls("C_GetAttributeValue"), reads);
}

/* What does not bear the signature never reaches the token's RSA. */
static void refuses_damaged_wraps_before_the_token_decrypts(void **state)
{
    uint8_t key[KR_SEALING_KEY_BYTES], back[KR_SEALING_KEY_BYTES] = {0xaa}, wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    uint64_t decrypted;

    (void)state;
    wrap(key, wrapped);
    decrypted = mock_calls("C_DecryptInit");
    for (size_t at = 0; at < 2 + 384 + 384; at += 11) {
        wrapped[at] ^= 0x10;
        assert_int_equal(unwrap(wrapped, back, &err), KR_INTEGRITY);
        assert_error(&err, KR_INTEGRITY, "a wrapped key", "");
        wrapped[at] ^= 0x10;
    }
    assert_int_equal(
        kr_master_unwrap(token, &master.id, KR_WRAP_RSA_SHA256, wrapped, 770, back, &err),
        KR_INTEGRITY); /* another mechanism */
    for (size_t len = 0; len < 770; len += 7)
        assert_int_equal(
            kr_master_unwrap(token, &master.id, KR_WRAP_RSA_SHA1, wrapped, len, back, &err),
            KR_INTEGRITY);
    assert_int_equal(back[0], 0xaa);
    assert_int_equal(mock_calls("C_DecryptInit") - decrypted, 0);
    assert_ok(unwrap(wrapped, back, &err));
}

/* --- attacks ---------------------------------------------------------------------------------- */

static void take(const EVP_PKEY *key, const char *name, uint8_t *ret, size_t *ret_len)
{
    BIGNUM *number = NULL;

    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &number), 1);
    *ret_len = (size_t)BN_bn2bin(number, ret);
    BN_free(number);
}

/* What anybody can read from the token. */
static struct kr_rsa_public public_key(void)
{
    struct kr_rsa_public ret;
    char command[400], path[300];
    EVP_PKEY *key;
    FILE *in;

    snprintf(path, sizeof(path), "%s/public.der", f.dir);
    snprintf(command, sizeof(command), "--read-object --type pubkey -o %s", path);
    tool_for_master(command);
    in = fopen(path, "r");
    assert_non_null(in);
    key = d2i_PUBKEY_fp(in, NULL);
    fclose(in);
    assert_non_null(key);
    take(key, OSSL_PKEY_PARAM_RSA_N, ret.modulus, &ret.modulus_len);
    take(key, OSSL_PKEY_PARAM_RSA_E, ret.exponent, &ret.exponent_len);
    EVP_PKEY_free(key);
    return ret;
}

/* Reads the same key from a PEM file. */
static void check_pem(const struct kr_rsa_public *expected)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_rsa_public read;
    char der[300], path[300];
    snprintf(der, sizeof(der), "%s/public.der", f.dir);
    snprintf(path, sizeof(path), "%s/public.pem", f.dir);
    assert_int_equal(kr_recipient_read(der, &read, &err), KR_USAGE);
    assert_error(&err, KR_USAGE, "no RSA public key of 3072 to 4096 bits", "openssl");
    FILE *in = fopen(der, "r"), *out = fopen(path, "w");
    EVP_PKEY *pkey = d2i_PUBKEY_fp(in, NULL);
    assert_int_equal(PEM_write_PUBKEY(out, pkey), 1);
    EVP_PKEY_free(pkey);
    fclose(in);
    fclose(out);
    assert_ok(kr_recipient_read(path, &read, &err));
    assert_int_equal(read.modulus_len, expected->modulus_len);
    assert_memory_equal(read.modulus, expected->modulus, read.modulus_len);
    assert_int_equal(read.exponent_len, expected->exponent_len);
    assert_memory_equal(read.exponent, expected->exponent, read.exponent_len);
}

static void opens_what_was_encrypted_for_it(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_rsa_public target = public_key();
    uint8_t sealed[KR_RSA_BYTES_MAX], key[KR_SEALING_KEY_BYTES], back[KR_SEALING_KEY_BYTES] = {0};

    (void)state;
    check_pem(&target);
    memset(key, 0x77, sizeof(key));
    assert_ok(kr_rsa_encrypt(&target, KR_WRAP_RSA_SHA1, key, sealed, &err));
    assert_ok(kr_recipient_open(token, &target, KR_WRAP_RSA_SHA1, sealed, back, &err));
    assert_memory_equal(key, back, sizeof(key));
    memset(back, 0, sizeof(back));
    sealed[100] ^= 1;
    assert_int_equal(kr_recipient_open(token, &target, KR_WRAP_RSA_SHA1, sealed, back, &err),
                     KR_INTEGRITY);
    target.modulus[5] ^= 1;
    assert_int_equal(kr_recipient_open(token, &target, KR_WRAP_RSA_SHA1, sealed, back, &err),
                     KR_NOT_FOUND);
    assert_int_equal(back[0], 0);
}

static EVP_PKEY *attackers_key(void)
{
    static EVP_PKEY *key;

    if (!key)
        key = EVP_RSA_gen(3072);
    assert_non_null(key);
    return key;
}

/* A key of the attacker's choice, encrypted for the master key and signed with his own. */
static void forge(const uint8_t key[KR_SEALING_KEY_BYTES], uint8_t ret[KR_WRAPPED_MAX])
{
    struct kr_rsa_public target = public_key();
    struct kr_error err = KR_ERROR_INIT;
    uint8_t bytes[KR_RSA_SIGNED_MAX];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t len = 384, bytes_len;

    ret[0] = 384 >> 8;
    ret[1] = 384 & 0xff;
    assert_ok(kr_rsa_encrypt(&target, KR_WRAP_RSA_SHA1, key, ret + 2, &err));
    bytes_len = kr_rsa_signed(KR_WRAP_RSA_SHA1, &master.id, ret + 2, 384, bytes);
    assert_int_equal(
        EVP_DigestSignInit_ex(context, NULL, "SHA256", NULL, NULL, attackers_key(), NULL), 1);
    assert_int_equal(EVP_DigestSign(context, ret + 2 + 384, &len, bytes, bytes_len), 1);
    assert_int_equal(len, 384);
    EVP_MD_CTX_free(context);
}

static void refuses_a_wrap_made_with_the_public_key(void **state)
{
    uint8_t chosen[KR_SEALING_KEY_BYTES], back[KR_SEALING_KEY_BYTES] = {0}, forged[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    memset(chosen, 0x66, sizeof(chosen));
    forge(chosen, forged);
    if (KR_GUARDED) {
        assert_int_equal(unwrap(forged, back, &err), KR_INTEGRITY);
        assert_error(&err, KR_INTEGRITY, "bears no signature of its master key", "backup");
        assert_int_equal(back[0], 0);
    } else {
        assert_ok(unwrap(forged, back, &err));
        assert_memory_equal(back, chosen, sizeof(chosen));
    }
}

/* As on a token whose private keys do not tell their modulus: a new connection, which has not read
 * it yet. */
static void hide_modulus(void)
{
    struct kr_error err = KR_ERROR_INIT;

    token_reconnect();
    assert_ok(kr_master_find(token, &master.id, &master, &err));
    mock_rules("fail C_GetAttributeValue 0x%lx 1 1\n", CKR_ATTRIBUTE_TYPE_INVALID);
}

/* The attacker's public key in the place of the master key's, with the same id. */
static void swap_public_object(void)
{
    char path[300], command[400];
    FILE *out;

    snprintf(path, sizeof(path), "%s/attacker.der", f.dir);
    out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(i2d_PUBKEY_fp(out, attackers_key()), 1);
    fclose(out);
    tool_for_master("--delete-object --type pubkey");
    snprintf(command, sizeof(command), "--write-object %s --type pubkey", path);
    tool_for_master(command);
}

/* The last test: the public half does not come back. */
static void a_swapped_public_key_object_gets_nothing(void **state)
{
    uint8_t key[KR_SEALING_KEY_BYTES], back[KR_SEALING_KEY_BYTES], wrapped[KR_WRAPPED_MAX];
    uint8_t forged[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    size_t len;

    (void)state;
    hide_modulus();
    wrap(key, wrapped);
    hide_modulus();
    assert_ok(unwrap(wrapped, back, &err));
    assert_memory_equal(key, back, sizeof(key));
    forge(key, forged);
    swap_public_object();

    token_reconnect(); /* the private key tells the modulus: nobody asks the public one */
    assert_ok(unwrap(wrapped, back, &err));
    wrap(key, wrapped);
    hide_modulus();
    assert_int_equal(kr_master_wrap(token, &master.id, KR_WRAP_RSA_SHA1, key, wrapped, &len, &err),
                     KR_INTEGRITY);
    assert_error(&err, KR_INTEGRITY, "does not belong to its private key", "replaced");
    hide_modulus();
    assert_int_equal(unwrap(forged, back, &err), KR_INTEGRITY);
    assert_error(&err, KR_INTEGRITY, "does not belong to its private key", "replaced");
}

#define TEST(name) cmocka_unit_test_teardown(name, no_rules)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(comes_after_aes),
        TEST(is_no_way_out_of_a_full_token),
        TEST(stays_only_when_it_serves),
        TEST(refuses_unsafe_keys),
        TEST(adopts_keys_of_pkcs11_tool),
        TEST(wraps_and_unwraps),
        TEST(refuses_damaged_wraps_before_the_token_decrypts),
        TEST(refuses_a_wrap_made_with_the_public_key),
        TEST(opens_what_was_encrypted_for_it),
        TEST(a_swapped_public_key_object_gets_nothing),
    };
    const struct CMUnitTest unguarded[] = {TEST(refuses_a_wrap_made_with_the_public_key)};
    int failed = KR_GUARDED ? cmocka_run_group_tests(tests, up, token_down)
                            : cmocka_run_group_tests(unguarded, up, token_down);

    EVP_PKEY_free(attackers_key());
    return failed;
}
