/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A login at the mock's token, past our own code. */
#include "mock_session.h"

#include <dlfcn.h>
#include <string.h>

struct fixture f;
CK_FUNCTION_LIST *p11;
CK_SLOT_ID slot;
CK_SESSION_HANDLE session;
CK_OBJECT_HANDLE key;

CK_SLOT_ID slot_with(const char *label)
{
    CK_SLOT_ID slots[16];
    CK_ULONG count = 16;
    CK_TOKEN_INFO info;

    assert_rv(p11->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
    for (CK_ULONG i = 0; i < count; i++)
        if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
            strncmp((char *)info.label, label, strlen(label)) == 0)
            return slots[i];
    fail_msg("no token %s", label);
    return 0;
}

CK_RV open_session(CK_SLOT_ID in, CK_SESSION_HANDLE *ret)
{
    return p11->C_OpenSession(in, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, ret);
}

CK_RV log_in(CK_USER_TYPE user, const char *pin)
{
    return p11->C_Login(session, user, (CK_BYTE *)pin, pin ? strlen(pin) : 0);
}

CK_RV make_key(CK_BBOOL on_token, CK_MECHANISM_TYPE allowed, CK_OBJECT_HANDLE *ret)
{
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE;
    CK_ULONG len = 32;
    CK_ATTRIBUTE template[] = {
        {CKA_TOKEN, &on_token, sizeof(on_token)},
        {CKA_ENCRYPT, &yes, sizeof(yes)},
        {CKA_DECRYPT, &yes, sizeof(yes)},
        {CKA_WRAP, &yes, sizeof(yes)},
        {CKA_UNWRAP, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &yes, sizeof(yes)},
        {CKA_VALUE_LEN, &len, sizeof(len)},
        {CKA_ALLOWED_MECHANISMS, &allowed, sizeof(allowed)},
    };

    return p11->C_GenerateKey(session, &mechanism, template, allowed ? 8 : 7, ret);
}

CK_RV encrypt_with(struct gcm *g, bool context_login)
{
    CK_GCM_PARAMS params = {
        .pIv = g->iv, .ulIvLen = sizeof(g->iv), .ulIvBits = 96, .ulTagBits = 128};
    CK_MECHANISM mechanism = {g->type, &params, sizeof(params)};
    CK_RV rv = p11->C_EncryptInit(session, &mechanism, key);

    if (rv == CKR_OK && context_login)
        rv = log_in(CKU_CONTEXT_SPECIFIC, f.pin);
    g->len = sizeof(g->text);
    return rv == CKR_OK
               ? p11->C_Encrypt(session, (CK_BYTE *)PLAIN_TEXT, PLAIN_BYTES, g->text, &g->len)
               : rv;
}

CK_RV encrypt(struct gcm *g)
{
    memset(g, 0, sizeof(*g));
    g->type = CKM_AES_GCM;
    return encrypt_with(g, false);
}

CK_RV decrypt(struct gcm *g, uint8_t ret[64], CK_ULONG *ret_len)
{
    CK_GCM_PARAMS params = {
        .pIv = g->iv, .ulIvLen = sizeof(g->iv), .ulIvBits = 96, .ulTagBits = 128};
    CK_MECHANISM mechanism = {g->type, &params, sizeof(params)};
    CK_RV rv = p11->C_DecryptInit(session, &mechanism, key);

    *ret_len = 64;
    return rv == CKR_OK ? p11->C_Decrypt(session, g->text, g->len, ret, ret_len) : rv;
}

int mock_up(void **state)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_C_GetFunctionList get_list;
    void *handle;

    (void)state;
    fixture_up(&f, "mocktest");
    mock_setup(f.dir);
    handle = dlopen(P11K_MOCK, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(handle);
    *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    assert_rv(get_list(&p11), CKR_OK);
    assert_rv(p11->C_Initialize(&args), CKR_OK);
    slot = slot_with("mocktest");
    assert_rv(open_session(slot, &session), CKR_OK);
    assert_rv(log_in(CKU_USER, f.pin), CKR_OK);
    assert_rv(make_key(CK_FALSE, 0, &key), CKR_OK);
    return 0;
}

/* The module stays loaded: its last user was this test. */
int mock_down(void **state)
{
    (void)state;
    mock_rules("%s", "");
    assert_rv(p11->C_Finalize(NULL), CKR_OK);
    assert_int_equal(mock_calls("sessions-open"), 0);
    fixture_down(&f);
    return 0;
}
