/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Master keys: how they are made, which are accepted, and that wraps are what they should be. */
#include "one_token.h"

#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct kr_master_info generate(enum kr_wrap_mechanism wish)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;

    assert_ok(kr_master_generate(token, "p11keyring:test:1", wish, &info, &err));
    return info;
}

/* --- making ----------------------------------------------------------------------------------- */

static void makes_keys_that_stay_inside(void **state)
{
    struct kr_master_info info = generate(KR_WRAP_AUTO);

    (void)state;
    assert_null(info.problem);
    assert_int_equal(info.id.len, 16);
    assert_string_equal(info.label, "p11keyring:test:1");
    assert_true(info.kind == KR_KIND_AES && info.bits == 256 && info.on_token && info.is_private &&
                info.sensitive);
    assert_true(info.never_extractable && info.always_sensitive && info.local);
    assert_false(info.extractable);
    assert_true(info.can_encrypt && info.can_decrypt);
    assert_false(info.can_wrap || info.can_unwrap);
}

static void gives_a_key_only_what_its_mechanism_needs(void **state)
{
    struct kr_master_info info = generate(KR_WRAP_AES_KWP);
    enum kr_wrap_mechanism mechanism;
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    assert_true(info.can_wrap && info.can_unwrap);
    assert_false(info.can_encrypt || info.can_decrypt);
    assert_ok(kr_master_prove(token, &info.id, KR_WRAP_AUTO, &mechanism, &err));
    assert_int_equal(mechanism, KR_WRAP_AES_KWP);
    assert_int_equal(kr_master_prove(token, &info.id, KR_WRAP_AES_GCM, &mechanism, &err),
                     KR_REFUSED);
    assert_error(&err, KR_REFUSED, "aes-gcm: C_EncryptInit (AES-GCM) failed", "doctor");
}

/* A token that lists AES-GCM and cannot do it gets a key for AES-KWP, and no other key stays. */
static void falls_back_when_the_first_choice_fails(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    size_t before;

    (void)state;
    before = check_count_keys(token);
    mock_rules("fail C_Encrypt 0x%lx\n", CKR_MECHANISM_INVALID);
    info = generate(KR_WRAP_AUTO);
    assert_true(info.can_wrap && !info.can_encrypt);
    assert_int_equal(kr_master_generate(token, "x", KR_WRAP_AES_GCM, &info, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "CKR_MECHANISM_INVALID", "doctor");
    assert_int_equal(check_count_keys(token), before + 1);
}

/* Some tokens do not know CKA_ALLOWED_MECHANISMS. */
static void makes_keys_without_allowed_mechanisms(void **state)
{
    (void)state;
    mock_rules("fail C_GenerateKey 0x%lx 1 1\n", CKR_ATTRIBUTE_TYPE_INVALID);
    assert_null(generate(KR_WRAP_AUTO).problem);
}

/* A token that is lost after the key was made does not make another: the first is found again. */
static void makes_no_second_key_after_a_loss(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    uint64_t before = mock_calls("C_GenerateKey");
    size_t keys;

    (void)state;
    keys = check_count_keys(token);
    mock_rules("fail C_GetAttributeValue 0x%lx 1 1\nfail C_EncryptInit 0x%lx 1 1\n",
               CKR_DEVICE_REMOVED, CKR_DEVICE_REMOVED);
    assert_ok(kr_master_generate(token, "x", KR_WRAP_AUTO, &info, &err));
    assert_int_equal(mock_calls("C_GenerateKey") - before, 1);
    assert_int_equal(check_count_keys(token), keys + 1);
}

/* A token that fails and can destroy nothing. */
static void says_that_a_key_stayed_behind(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;

    (void)state;
    mock_rules("fail C_EncryptInit 0x%lx\nfail C_DestroyObject 0x%lx\n", CKR_MECHANISM_INVALID,
               CKR_ACTION_PROHIBITED);
    assert_int_equal(kr_master_generate(token, "x", KR_WRAP_AUTO, &info, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED,
                 "does not serve, and cannot be destroyed: C_DestroyObject failed",
                 "stayed behind");
}

/* Some modules leave an operation active that failed (here: all that the mock does not forward):
 * the next ones are not hindered. */
static void goes_on_after_an_operation_that_was_left_active(void **state)
{
    uint8_t key[KR_SEALING_KEY_BYTES] = {1}, wrapped[KR_WRAPPED_MAX];
    struct kr_master_info master = generate(KR_WRAP_AES_GCM);
    struct kr_error err = KR_ERROR_INIT;
    size_t len = 0;

    (void)state;
    assert_ok(kr_master_wrap(token, &master.id, KR_WRAP_AES_GCM, key, wrapped, &len, &err));
    mock_rules("fail C_Decrypt 0x%lx 1 1\n", CKR_ENCRYPTED_DATA_INVALID);
    wrapped[len - 1] ^= 1;
    assert_int_equal(kr_master_unwrap(token, &master.id, KR_WRAP_AES_GCM, wrapped, len, key, &err),
                     KR_INTEGRITY);
    wrapped[len - 1] ^= 1;
    assert_ok(kr_master_unwrap(token, &master.id, KR_WRAP_AES_GCM, wrapped, len, key, &err));
    mock_rules("fail C_Encrypt 0x%lx\nfail C_WrapKey 0x%lx\nfail C_Sign 0x%lx\n",
               CKR_MECHANISM_INVALID, CKR_MECHANISM_INVALID, CKR_MECHANISM_INVALID);
    assert_int_equal(kr_master_generate(token, "x", KR_WRAP_AUTO, &master, &err), KR_REFUSED);
    assert_says(err.text, "aes-gcm: C_Encrypt (AES-GCM) failed: CKR_MECHANISM_INVALID");
    assert_says(err.text, "aes-kwp: C_WrapKey (AES-KWP) failed: CKR_MECHANISM_INVALID");
    assert_says(err.text,
                "rsa-oaep-sha256: C_Sign (SHA256-RSA-PKCS) failed: CKR_MECHANISM_INVALID");
    assert_says(err.text, "rsa-oaep-sha1: C_Sign (SHA256-RSA-PKCS) failed: CKR_MECHANISM_INVALID");
}

/* --- finding ---------------------------------------------------------------------------------- */

/* A key that is not there does not cost a second search right after the first. */
static void searches_once_for_what_is_missing(void **state)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 5000);
    struct kr_object_id unknown = {.len = 1, .bytes = {0x99}};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *second = NULL;
    struct kr_master_info info;
    struct kr_token_stats stats;

    (void)state;
    assert_ok(kr_token_open(&options, &second, &err));
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(kr_master_find(second, &unknown, &info, &err), KR_NOT_FOUND);
        kr_token_get_stats(second, &stats);
        assert_int_equal(stats.searches, i);
    }
    kr_token_close(second);
}

static void finds_keys_by_id(void **state)
{
    struct kr_master_info made = generate(KR_WRAP_AUTO), found;
    struct kr_object_id unknown = made.id;
    struct kr_error err = KR_ERROR_INIT;
    uint64_t searches;

    (void)state;
    assert_ok(kr_master_find(token, &made.id, &found, &err));
    assert_memory_equal(&made, &found, sizeof(made));
    unknown.bytes[3] ^= 1;
    searches = mock_calls("C_FindObjectsInit");
    assert_int_equal(kr_master_find(token, &unknown, &found, &err), KR_NOT_FOUND);
    assert_error(&err, KR_NOT_FOUND, "no key with id", "master list");
    assert_int_equal(mock_calls("C_FindObjectsInit") - searches, 2); /* secret, RSA private */
    unknown.len = 0;
    assert_int_equal(kr_master_find(token, &unknown, &found, &err), KR_USAGE);
}

static void tool(const char *arguments)
{
    assert_int_equal(check_pkcs11_tool(&f, arguments), 0);
}

/* Also a key that another program made after the token was searched. */
static void adopts_keys_of_pkcs11_tool(void **state)
{
    struct kr_object_id id = {.len = 2, .bytes = {0xa1, 0xb2}};
    struct kr_error err = KR_ERROR_INIT;
    enum kr_wrap_mechanism mechanism;
    struct kr_master_info info;

    (void)state;
    assert_int_equal(kr_master_find(token, &id, &info, &err), KR_NOT_FOUND);
    tool("--keygen --key-type AES:32 --sensitive --private --id a1b2 --label adopted");
    assert_ok(kr_master_find(token, &id, &info, &err));
    assert_ok(kr_master_find_uri(token, "pkcs11:object=adopted", &info, &err));
    assert_memory_equal(&info.id, &id, sizeof(id));
    assert_ok(kr_master_find_uri(token, "pkcs11:token=onetoken;id=%a1%b2", &info, &err));
    assert_string_equal(info.label, "adopted");
    assert_ok(kr_master_prove(token, &info.id, KR_WRAP_AUTO, &mechanism, &err));
    assert_int_equal(mechanism, KR_WRAP_AES_GCM);
}

/* Each is found, and refused with its own reason, also when it is used without being found first.
 */
static void refuses_unsafe_keys(void **state)
{
    static const struct {
        const char *tool, *reason;
        uint8_t id;
    } cases[] = {
        {"--keygen --key-type AES:32 --sensitive --id c1", "CKA_PRIVATE is false", 0xc1},
        {"--keygen --key-type AES:32 --private --extractable --sensitive --id c2",
         "CKA_EXTRACTABLE is true", 0xc2},
        {"--keygen --key-type AES:16 --sensitive --private --id c3", "no AES-256 key", 0xc3},
        {"--keygen --key-type AES:32 --private --id c4", "CKA_SENSITIVE is false", 0xc4},
    };
    uint8_t key[KR_SEALING_KEY_BYTES] = {0}, wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kr_object_id id = {.len = 1, .bytes = {cases[i].id}};
        char uri[32];

        tool(cases[i].tool);
        snprintf(uri, sizeof(uri), "pkcs11:id=%%%02x", cases[i].id);
        assert_int_equal(kr_master_find_uri(token, uri, &info, &err), KR_REFUSED);
        assert_error(&err, KR_REFUSED, cases[i].reason, "master create");
        assert_int_equal(kr_master_find(token, &id, &info, &err), KR_REFUSED);
        assert_error(&err, KR_REFUSED, cases[i].reason, "master create");
        assert_int_equal(kr_master_wrap(token, &id, KR_WRAP_AES_GCM, key, wrapped, &len, &err),
                         KR_REFUSED);
        assert_error(&err, KR_REFUSED, cases[i].reason, "master create");
    }
}

/* It would want the PIN each time that it wraps. */
static void refuses_keys_that_want_the_pin_again(void **state)
{
    struct kr_master_info made = generate(KR_WRAP_AUTO), info;
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    mock_rules("always-authenticate\n");
    assert_int_equal(kr_master_find(token, &made.id, &info, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "wants the PIN again for each use (CKA_ALWAYS_AUTHENTICATE",
                 "master create");
}

static void refuses_uris(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;

    (void)state;
    tool("--keygen --key-type AES:32 --sensitive --private --id d1 --label twin");
    tool("--keygen --key-type AES:32 --sensitive --private --id d2 --label twin");
    assert_int_equal(kr_master_find_uri(token, "pkcs11:object=twin", &info, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "2 keys on the token", "id=");
    assert_int_equal(kr_master_find_uri(token, "pkcs11:object=none", &info, &err), KR_NOT_FOUND);
    assert_error(&err, KR_NOT_FOUND, "pkcs11:object=none", "master list");
    assert_int_equal(kr_master_find_uri(token, "pkcs11:token=onetoken", &info, &err), KR_USAGE);
    assert_error(&err, KR_USAGE, "names no key", "object=");
    assert_int_equal(kr_master_find_uri(token, "pkcs11:token=other;id=%d1", &info, &err),
                     KR_NOT_FOUND);
    assert_error(&err, KR_NOT_FOUND, "another token", "");
    assert_int_equal(kr_master_find_uri(token, "pkcs11:id=%d1;colour=red", &info, &err), KR_CONFIG);
}

static void refuses_an_id_that_two_keys_have(void **state)
{
    struct kr_object_id id = {.len = 1, .bytes = {0xe1}};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;

    (void)state;
    tool("--keygen --key-type AES:32 --sensitive --private --id e1 --label one");
    tool("--keygen --key-type AES:32 --sensitive --private --id e1 --label two");
    assert_int_equal(kr_master_find(token, &id, &info, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "several keys with id e1", "--set-id");
    assert_int_equal(kr_master_find_uri(token, "pkcs11:object=one", &info, &err), KR_REFUSED);
}

static void lists_good_and_bad_keys(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info good = generate(KR_WRAP_AUTO), *list = NULL;
    size_t count = 0, usable = 0, unsafe = 0;
    bool found = false;

    (void)state;
    tool("--keygen --key-type AES:32 --sensitive --id f1 --label open");
    assert_ok(kr_master_list(token, &list, &count, &err));
    for (size_t i = 0; i < count; i++) {
        found = found || memcmp(&list[i].id, &good.id, sizeof(good.id)) == 0;
        usable += list[i].problem == NULL;
        unsafe += list[i].problem != NULL;
    }
    free(list);
    assert_true(found);
    assert_true(usable > 0 && unsafe > 0);
}

/* --- many keys -------------------------------------------------------------------------------- */

/* In a child, so that this process's module is left alone. */
static int make_objects(void *argument)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL yes = CK_TRUE;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE object;
    CK_FUNCTION_LIST *p11;
    CK_C_GetFunctionList get_list;

    *(void **)&get_list = dlsym(dlopen(f.module, RTLD_NOW), "C_GetFunctionList");
    MUST(get_list(&p11) == CKR_OK);
    p11->C_Finalize(NULL);
    MUST(p11->C_Initialize(&args) == CKR_OK);
    MUST(p11->C_OpenSession(*(CK_SLOT_ID *)argument, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL,
                            NULL, &session) == CKR_OK);
    MUST(p11->C_Login(session, CKU_USER, (CK_UTF8CHAR *)f.pin, strlen(f.pin)) == CKR_OK);
    for (unsigned i = 0; i < 120; i++) {
        uint8_t value[32] = {1}, id[3] = {0x77, (uint8_t)(i >> 8), (uint8_t)i};
        CK_ATTRIBUTE template[] = {
            {CKA_CLASS, &class, sizeof(class)}, {CKA_KEY_TYPE, &type, sizeof(type)},
            {CKA_TOKEN, &yes, sizeof(yes)},     {CKA_PRIVATE, &yes, sizeof(yes)},
            {CKA_ID, id, sizeof(id)},           {CKA_VALUE, value, sizeof(value)},
        };

        MUST(p11->C_CreateObject(session, template, 6, &object) == CKR_OK);
    }
    return 0;
}

/* Many foreign keys: one search for all that is asked, and two attributes read of each. */
static void searches_once(void **state)
{
    uint8_t key[KR_SEALING_KEY_BYTES] = {5}, wrapped[KR_WRAPPED_MAX];
    struct kr_master_info first = generate(KR_WRAP_AUTO), second = generate(KR_WRAP_AUTO);
    struct kr_token_options options = check_options(&f, P11K_MOCK, 5000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *other = NULL;
    uint64_t searches, reads;
    struct kr_token_info info;
    CK_SLOT_ID slot;
    size_t len;

    (void)state;
    assert_ok(kr_token_get_info(token, &info, &err));
    slot = info.slot;
    assert_int_equal(scratch_in_child(make_objects, &slot), 0);
    assert_ok(kr_token_open(&options, &other, &err));
    searches = mock_calls("C_FindObjectsInit");
    reads = mock_calls("C_GetAttributeValue");
    for (int i = 0; i < 50; i++) {
        const struct kr_object_id *id = i % 2 ? &first.id : &second.id;

        assert_ok(kr_master_wrap(other, id, KR_WRAP_AES_GCM, key, wrapped, &len, &err));
        assert_ok(kr_master_unwrap(other, id, KR_WRAP_AES_GCM, wrapped, len, key, &err));
    }
    assert_int_equal(mock_calls("C_FindObjectsInit") - searches, 2); /* secret, RSA private */
    assert_in_range(mock_calls("C_GetAttributeValue") - reads, 120, 220);
    kr_token_close(other);
}

/* --- wraps ------------------------------------------------------------------------------------ */

static void wraps_and_unwraps(void **state)
{
    static const struct {
        enum kr_wrap_mechanism mechanism;
        size_t len;
    } cases[] = {{KR_WRAP_AES_GCM, 60}, {KR_WRAP_AES_KWP, 40}};
    struct kr_error err = KR_ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint8_t key[KR_SEALING_KEY_BYTES], back[KR_SEALING_KEY_BYTES], again[KR_WRAPPED_MAX];
        struct kr_master_info master = generate(cases[i].mechanism);
        enum kr_wrap_mechanism m = cases[i].mechanism;
        uint8_t wrapped[KR_WRAPPED_MAX];
        size_t len = 0;

        assert_ok(kr_token_random(token, key, sizeof(key), &err));
        assert_ok(kr_master_wrap(token, &master.id, m, key, wrapped, &len, &err));
        assert_int_equal(len, cases[i].len);
        assert_ok(kr_master_unwrap(token, &master.id, m, wrapped, len, back, &err));
        assert_memory_equal(key, back, sizeof(key));
        assert_ok(kr_master_wrap(token, &master.id, m, key, again, &len, &err));
        if (m == KR_WRAP_AES_GCM)
            assert_memory_not_equal(wrapped, again, 12); /* another IV */
        for (size_t at = 0; at < len; at++) {
            wrapped[at] ^= 0x10;
            memset(back, 0xaa, sizeof(back));
            assert_int_equal(kr_master_unwrap(token, &master.id, m, wrapped, len, back, &err),
                             KR_INTEGRITY);
            assert_int_equal(back[0], 0xaa);
            wrapped[at] ^= 0x10;
        }
        assert_int_equal(kr_master_unwrap(token, &master.id, m, wrapped, len - 1, back, &err),
                         KR_INTEGRITY);
        assert_ok(kr_master_unwrap(token, &master.id, m, wrapped, len, back, &err));
    }
}

/* Bad wraps say nothing about the token: no reconnection, no new login, still up. */
static void a_bad_wrap_is_not_a_lost_token(void **state)
{
    struct kr_master_info one = generate(KR_WRAP_AES_GCM), two = generate(KR_WRAP_AES_GCM);
    uint8_t key[KR_SEALING_KEY_BYTES] = {1}, wrapped[KR_WRAPPED_MAX];
    struct kr_token_stats before, after;
    struct kr_error err = KR_ERROR_INIT;
    size_t len = 0;

    (void)state;
    assert_ok(kr_master_wrap(token, &one.id, KR_WRAP_AES_GCM, key, wrapped, &len, &err));
    kr_token_get_stats(token, &before);
    assert_int_equal(kr_master_unwrap(token, &two.id, KR_WRAP_AES_GCM, wrapped, len, key, &err),
                     KR_INTEGRITY);
    assert_error(&err, KR_INTEGRITY, "refuses a wrapped key", "backup");
    kr_token_get_stats(token, &after);
    assert_int_equal(after.reconnects, before.reconnects);
    assert_int_equal(after.logins, before.logins);
    assert_int_equal(after.errors, before.errors + 1);
    assert_true(kr_token_is_up(token));
}

static void climbs_the_template_ladder(void **state)
{
    static const CK_RV refusals[] = {CKR_ATTRIBUTE_READ_ONLY, CKR_TEMPLATE_INCONSISTENT,
                                     CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_VALUE_INVALID};
    struct kr_master_info master = generate(KR_WRAP_AES_KWP);
    uint8_t key[KR_SEALING_KEY_BYTES] = {1}, wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    uint64_t before;
    size_t len = 0;

    (void)state;
    assert_ok(kr_master_wrap(token, &master.id, KR_WRAP_AES_KWP, key, wrapped, &len, &err));
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        mock_rules("fail C_UnwrapKey 0x%lx\n", refusals[i]);
        before = mock_calls("C_UnwrapKey");
        assert_int_equal(
            kr_master_unwrap(token, &master.id, KR_WRAP_AES_KWP, wrapped, len, key, &err),
            KR_REFUSED);
        assert_int_equal(mock_calls("C_UnwrapKey") - before, 4);
    }
    /* A key that the token will not let be read is of no use, but the template without
     * CKA_SENSITIVE is taken. */
    mock_rules("refuse C_UnwrapKey 0x%lx\n", CKA_SENSITIVE);
    before = mock_calls("C_UnwrapKey");
    assert_int_equal(kr_master_unwrap(token, &master.id, KR_WRAP_AES_KWP, wrapped, len, key, &err),
                     KR_REFUSED);
    assert_error(&err, KR_REFUSED, "C_GetAttributeValue (unwrapped key)", "");
    assert_int_equal(mock_calls("C_UnwrapKey") - before, 3);
    mock_rules("require C_UnwrapKey 0x%lx\n", CKA_VALUE_LEN); /* Luna */
    memset(key, 0, sizeof(key));
    assert_ok(kr_master_unwrap(token, &master.id, KR_WRAP_AES_KWP, wrapped, len, key, &err));
    assert_int_equal(key[0], 1);
    before = mock_calls("C_UnwrapKey"); /* remembered */
    assert_ok(kr_master_unwrap(token, &master.id, KR_WRAP_AES_KWP, wrapped, len, key, &err));
    assert_int_equal(mock_calls("C_UnwrapKey") - before, 1);
    mock_rules("%s", "");
    assert_ok(kr_master_unwrap(token, &master.id, KR_WRAP_AES_KWP, wrapped, len, key, &err));
}

/* Several formats go by the number 0x210A: what is not RFC 5649 is not stored. */
static void refuses_other_formats(void **state)
{
    static const struct {
        const char *rule, *text;
        enum kr_wrap_mechanism mechanism;
    } cases[] = {
        {"length C_WrapKey 8\n", "C_WrapKey (AES-KWP) gave 48 bytes", KR_WRAP_AES_KWP},
        {"length C_Encrypt 16\n", "C_Encrypt (AES-GCM) gave 64 bytes", KR_WRAP_AES_GCM},
        {"truncate C_Decrypt 1\n", "C_Decrypt (AES-GCM) gave 31 bytes", KR_WRAP_AES_GCM},
    };
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mock_rules("%s", cases[i].rule);
        assert_int_equal(kr_master_generate(token, "x", cases[i].mechanism, &info, &err),
                         KR_REFUSED);
        assert_error(&err, KR_REFUSED, cases[i].text, "doctor");
    }
}

static void names_mechanisms(void **state)
{
    enum kr_wrap_mechanism m;

    (void)state;
    assert_string_equal(kr_wrap_mechanism_name(KR_WRAP_AES_GCM), "aes-gcm");
    assert_true(kr_wrap_mechanism_parse("aes-kwp", &m) && m == KR_WRAP_AES_KWP);
    assert_true(kr_wrap_mechanism_parse("auto", &m) && m == KR_WRAP_AUTO);
    assert_false(kr_wrap_mechanism_parse("AES", &m));
    assert_null(kr_wrap_mechanism_name((enum kr_wrap_mechanism)9));
}

#define TEST(name) cmocka_unit_test_teardown(name, no_rules)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(makes_keys_that_stay_inside),
        TEST(gives_a_key_only_what_its_mechanism_needs),
        TEST(falls_back_when_the_first_choice_fails),
        TEST(makes_keys_without_allowed_mechanisms),
        TEST(makes_no_second_key_after_a_loss),
        TEST(says_that_a_key_stayed_behind),
        TEST(goes_on_after_an_operation_that_was_left_active),
        TEST(finds_keys_by_id),
        TEST(searches_once_for_what_is_missing),
        TEST(adopts_keys_of_pkcs11_tool),
        TEST(refuses_unsafe_keys),
        TEST(refuses_keys_that_want_the_pin_again),
        TEST(refuses_uris),
        TEST(refuses_an_id_that_two_keys_have),
        TEST(lists_good_and_bad_keys),
        TEST(wraps_and_unwraps),
        TEST(a_bad_wrap_is_not_a_lost_token),
        TEST(climbs_the_template_ladder),
        TEST(refuses_other_formats),
        TEST(searches_once),
        TEST(names_mechanisms),
    };

    return cmocka_run_group_tests(tests, token_up, token_down);
}
