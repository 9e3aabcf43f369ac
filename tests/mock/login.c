/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* PINs and what a token says of itself. */
#include "mock.h"

#include <stdio.h>
#include <string.h>

enum { PIN_MAX = 256, SCRATCH = 32768 };

static CK_FUNCTION_LIST next;

/* The PIN of the last login, while "always-authenticate" wants it again for each use of a key. */
static CK_BYTE last_pin[PIN_MAX];
static CK_ULONG last_pin_len;

/* --- token information ------------------------------------------------------------------------ */

static CK_FLAGS pin_flags(CK_SLOT_ID slot, unsigned long tries)
{
    unsigned long wrong = mock_wrong_pins(slot);

    if (wrong >= tries)
        return CKF_USER_PIN_LOCKED;
    return (wrong > 0 ? CKF_USER_PIN_COUNT_LOW : 0) |
           (wrong + 1 == tries ? CKF_USER_PIN_FINAL_TRY : 0);
}

static CK_RV token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *ret)
{
    const CK_FLAGS pins = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED;
    CK_RV rv = next.C_GetTokenInfo(slot, ret);
    struct mock_rule rule;

    if (rv != CKR_OK)
        return rv;
    if (mock_rules_of("pin-tries", slot, NULL, &rule, 1) == 1)
        ret->flags = (ret->flags & ~pins) | pin_flags(slot, rule.numbers[0]);
    if (mock_rule("pin-pad", slot))
        ret->flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
    if (mock_rules_of("max-sessions", slot, NULL, &rule, 1) == 1)
        ret->ulMaxSessionCount = rule.numbers[0];
    if (mock_rule("write-protected", slot))
        ret->flags |= CKF_WRITE_PROTECTED;
    if (mock_rule("no-random", slot))
        ret->flags &= ~CKF_RNG;
    if (mock_rules_of("flags", slot, "C_GetTokenInfo", &rule, 1) == 1)
        ret->flags |= rule.numbers[0];
    return CKR_OK;
}

/* --- logins ----------------------------------------------------------------------------------- */

static CK_RV read_pin(const char *path, CK_BYTE ret[PIN_MAX], CK_ULONG *ret_len)
{
    FILE *file = fopen(path, "re");

    if (!file)
        return CKR_FUNCTION_CANCELED; /* nobody is there to type it */
    *ret_len = fread(ret, 1, PIN_MAX, file);
    fclose(file);
    if (*ret_len > 0 && ret[*ret_len - 1] == '\n')
        --*ret_len;
    return CKR_OK;
}

static CK_RV login_by_pad(CK_SESSION_HANDLE session, CK_USER_TYPE user, const char *file)
{
    CK_BYTE pin[PIN_MAX];
    CK_ULONG len = 0;
    CK_RV rv = read_pin(file, pin, &len);

    return rv == CKR_OK ? next.C_Login(session, user, pin, len) : rv;
}

/* SoftHSM2 has no such keys, so it cannot be asked. */
static CK_RV login_for_use(CK_SESSION_HANDLE session, const CK_BYTE *pin, CK_ULONG len)
{
    if (!pin || len != last_pin_len || memcmp(pin, last_pin, len) != 0)
        return CKR_PIN_INCORRECT;
    mock_set_authenticated(session, true);
    return CKR_OK;
}

static void note_outcome(CK_SLOT_ID slot, CK_RV rv, const CK_BYTE *pin, CK_ULONG len)
{
    if (rv == CKR_OK) {
        mock_count(INDEX_logins);
        mock_set_wrong_pins(slot, 0);
    }
    if (rv == CKR_OK && pin && len <= PIN_MAX && mock_rule("always-authenticate", slot)) {
        memcpy(last_pin, pin, len);
        last_pin_len = len;
    }
    if (rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE) {
        mock_count(INDEX_wrong_pins);
        mock_set_wrong_pins(slot, mock_wrong_pins(slot) + 1);
    }
}

static CK_RV login_user(CK_SESSION_HANDLE session, CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG len)
{
    struct mock_rule tries;
    char pad[512];

    if (mock_rules_of("pin-tries", slot, NULL, &tries, 1) == 1 &&
        mock_wrong_pins(slot) >= tries.numbers[0])
        return CKR_PIN_LOCKED;
    if (!mock_rule_text("pin-pad", slot, pad, sizeof(pad)))
        return next.C_Login(session, CKU_USER, pin, len);
    return pin ? CKR_ARGUMENTS_BAD : login_by_pad(session, CKU_USER, pad);
}

static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG len)
{
    CK_SLOT_ID slot = mock_slot_of(session);
    CK_RV rv;

    if (slot == MOCK_NO_SLOT || user == CKU_SO)
        return next.C_Login(session, user, pin, len);
    if (user == CKU_CONTEXT_SPECIFIC && mock_rule("always-authenticate", slot))
        return login_for_use(session, pin, len);
    rv = login_user(session, slot, pin, len);
    note_outcome(slot, rv, pin, len);
    return rv;
}

static CK_RV init_pin(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG len)
{
    CK_RV rv = next.C_InitPIN(session, pin, len);
    CK_SLOT_ID slot = mock_slot_of(session);

    if (rv == CKR_OK && slot != MOCK_NO_SLOT)
        mock_set_wrong_pins(slot, 0);
    return rv;
}

/* --- always-authenticate ---------------------------------------------------------------------- */

static bool wants_login(CK_SESSION_HANDLE session)
{
    CK_SLOT_ID slot = mock_slot_of(session);

    return slot != MOCK_NO_SLOT && mock_rule("always-authenticate", slot) &&
           !mock_is_authenticated(session);
}

#define INIT(name)                                                                                 \
    static CK_RV name##_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,                   \
                             CK_OBJECT_HANDLE key)                                                 \
    {                                                                                              \
        mock_set_authenticated(session, false);                                                    \
        return next.C_##name##Init(session, mechanism, key);                                       \
    }
INIT(Encrypt)
INIT(Decrypt)
INIT(Sign)

/* The operation takes place and its output is dropped: so it ends. */
#define USE(name)                                                                                  \
    static CK_RV name##_use(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len, CK_BYTE *out, \
                            CK_ULONG *out_len)                                                     \
    {                                                                                              \
        CK_BYTE scratch[SCRATCH];                                                                  \
        CK_ULONG scratch_len = sizeof(scratch);                                                    \
                                                                                                   \
        if (!wants_login(session))                                                                 \
            return next.C_##name(session, in, in_len, out, out_len);                               \
        next.C_##name(session, in, in_len, scratch, &scratch_len);                                 \
        return CKR_USER_NOT_LOGGED_IN;                                                             \
    }
USE(Encrypt)
USE(Decrypt)
USE(Sign)

static CK_RV wrap_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE wrapping,
                      CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *out_len)
{
    if (wants_login(session))
        return CKR_USER_NOT_LOGGED_IN;
    return next.C_WrapKey(session, mechanism, wrapping, key, out, out_len);
}

static CK_RV unwrap_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                        CK_OBJECT_HANDLE unwrapping, CK_BYTE *in, CK_ULONG in_len,
                        CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *ret)
{
    if (wants_login(session))
        return CKR_USER_NOT_LOGGED_IN;
    return next.C_UnwrapKey(session, mechanism, unwrapping, in, in_len, template, count, ret);
}

/* --- random ----------------------------------------------------------------------------------- */

static CK_RV generate_random(CK_SESSION_HANDLE session, CK_BYTE *ret, CK_ULONG len)
{
    if (mock_rule("no-random", mock_slot_of(session)))
        return CKR_RANDOM_NO_RNG;
    return next.C_GenerateRandom(session, ret, len);
}

void mock_layer_login(CK_FUNCTION_LIST *list)
{
    next = *list;
    list->C_GetTokenInfo = token_info;
    list->C_Login = login;
    list->C_InitPIN = init_pin;
    list->C_EncryptInit = Encrypt_init;
    list->C_DecryptInit = Decrypt_init;
    list->C_SignInit = Sign_init;
    list->C_Encrypt = Encrypt_use;
    list->C_Decrypt = Decrypt_use;
    list->C_Sign = Sign_use;
    list->C_WrapKey = wrap_key;
    list->C_UnwrapKey = unwrap_key;
    list->C_GenerateRandom = generate_random;
}
