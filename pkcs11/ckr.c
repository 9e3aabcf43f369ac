/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Names, classes and hints of Cryptoki return values. */
#include "pkcs11/ckr.h"

#include <p11-kit/pkcs11.h>

#include <stddef.h>

#define ROW(ckr, status)                                                                           \
    {                                                                                              \
        ckr, #ckr, status                                                                          \
    }

/* Sorted as in the standard. What is not an answer to our request is taken as a token in trouble.
 */
static const struct {
    CK_RV ckr;
    const char *name;
    enum kr_status status;
} table[] = {
    ROW(CKR_OK, KR_OK),
    ROW(CKR_CANCEL, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_HOST_MEMORY, KR_INTERNAL),
    ROW(CKR_SLOT_ID_INVALID, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_GENERAL_ERROR, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_FUNCTION_FAILED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_ARGUMENTS_BAD, KR_INTERNAL),
    ROW(CKR_NO_EVENT, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_NEED_TO_CREATE_THREADS, KR_INTERNAL),
    ROW(CKR_CANT_LOCK, KR_INTERNAL),
    ROW(CKR_ATTRIBUTE_READ_ONLY, KR_REFUSED),
    ROW(CKR_ATTRIBUTE_SENSITIVE, KR_REFUSED),
    ROW(CKR_ATTRIBUTE_TYPE_INVALID, KR_REFUSED),
    ROW(CKR_ATTRIBUTE_VALUE_INVALID, KR_REFUSED),
    ROW(CKR_ACTION_PROHIBITED, KR_REFUSED),
    ROW(CKR_DATA_INVALID, KR_INTERNAL),
    ROW(CKR_DATA_LEN_RANGE, KR_INTERNAL),
    ROW(CKR_DEVICE_ERROR, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_DEVICE_MEMORY, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_DEVICE_REMOVED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_ENCRYPTED_DATA_INVALID, KR_INTEGRITY),
    ROW(CKR_ENCRYPTED_DATA_LEN_RANGE, KR_INTEGRITY),
    ROW(CKR_FUNCTION_CANCELED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_FUNCTION_NOT_PARALLEL, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_FUNCTION_NOT_SUPPORTED, KR_REFUSED),
    ROW(CKR_KEY_HANDLE_INVALID, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_KEY_SIZE_RANGE, KR_REFUSED),
    ROW(CKR_KEY_TYPE_INCONSISTENT, KR_REFUSED),
    ROW(CKR_KEY_NOT_NEEDED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_KEY_CHANGED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_KEY_NEEDED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_KEY_INDIGESTIBLE, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_KEY_FUNCTION_NOT_PERMITTED, KR_REFUSED),
    ROW(CKR_KEY_NOT_WRAPPABLE, KR_REFUSED),
    ROW(CKR_KEY_UNEXTRACTABLE, KR_REFUSED),
    ROW(CKR_MECHANISM_INVALID, KR_REFUSED),
    ROW(CKR_MECHANISM_PARAM_INVALID, KR_REFUSED),
    ROW(CKR_OBJECT_HANDLE_INVALID, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_OPERATION_ACTIVE, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_OPERATION_NOT_INITIALIZED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_PIN_INCORRECT, KR_AUTH),
    ROW(CKR_PIN_INVALID, KR_AUTH),
    ROW(CKR_PIN_LEN_RANGE, KR_AUTH),
    ROW(CKR_PIN_EXPIRED, KR_AUTH),
    ROW(CKR_PIN_LOCKED, KR_AUTH),
    ROW(CKR_SESSION_CLOSED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_SESSION_COUNT, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_SESSION_HANDLE_INVALID, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_SESSION_PARALLEL_NOT_SUPPORTED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_SESSION_READ_ONLY, KR_REFUSED),
    ROW(CKR_SESSION_EXISTS, KR_REFUSED),
    ROW(CKR_SESSION_READ_ONLY_EXISTS, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_SESSION_READ_WRITE_SO_EXISTS, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_SIGNATURE_INVALID, KR_INTEGRITY),
    ROW(CKR_SIGNATURE_LEN_RANGE, KR_INTEGRITY),
    ROW(CKR_TEMPLATE_INCOMPLETE, KR_REFUSED),
    ROW(CKR_TEMPLATE_INCONSISTENT, KR_REFUSED),
    ROW(CKR_TOKEN_NOT_PRESENT, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_TOKEN_NOT_RECOGNIZED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_TOKEN_WRITE_PROTECTED, KR_REFUSED),
    ROW(CKR_UNWRAPPING_KEY_HANDLE_INVALID, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_UNWRAPPING_KEY_SIZE_RANGE, KR_REFUSED),
    ROW(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, KR_REFUSED),
    ROW(CKR_USER_ALREADY_LOGGED_IN, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_USER_NOT_LOGGED_IN, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_USER_PIN_NOT_INITIALIZED, KR_AUTH),
    ROW(CKR_USER_TYPE_INVALID, KR_AUTH),
    ROW(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, KR_AUTH),
    ROW(CKR_USER_TOO_MANY_TYPES, KR_AUTH),
    ROW(CKR_WRAPPED_KEY_INVALID, KR_INTEGRITY),
    ROW(CKR_WRAPPED_KEY_LEN_RANGE, KR_INTEGRITY),
    ROW(CKR_WRAPPING_KEY_HANDLE_INVALID, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_WRAPPING_KEY_SIZE_RANGE, KR_REFUSED),
    ROW(CKR_WRAPPING_KEY_TYPE_INCONSISTENT, KR_REFUSED),
    ROW(CKR_RANDOM_SEED_NOT_SUPPORTED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_RANDOM_NO_RNG, KR_REFUSED),
    ROW(CKR_DOMAIN_PARAMS_INVALID, KR_REFUSED),
    ROW(CKR_CURVE_NOT_SUPPORTED, KR_REFUSED),
    ROW(CKR_BUFFER_TOO_SMALL, KR_INTERNAL),
    ROW(CKR_SAVED_STATE_INVALID, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_INFORMATION_SENSITIVE, KR_REFUSED),
    ROW(CKR_STATE_UNSAVEABLE, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_CRYPTOKI_NOT_INITIALIZED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_CRYPTOKI_ALREADY_INITIALIZED, KR_INTERNAL),
    ROW(CKR_MUTEX_BAD, KR_INTERNAL),
    ROW(CKR_MUTEX_NOT_LOCKED, KR_INTERNAL),
    ROW(CKR_NEW_PIN_MODE, KR_AUTH),
    ROW(CKR_NEXT_OTP, KR_AUTH),
    ROW(CKR_EXCEEDED_MAX_ITERATIONS, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_FIPS_SELF_TEST_FAILED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_LIBRARY_LOAD_FAILED, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_PIN_TOO_WEAK, KR_AUTH),
    ROW(CKR_PUBLIC_KEY_INVALID, KR_TOKEN_UNAVAILABLE),
    ROW(CKR_FUNCTION_REJECTED, KR_REFUSED),
    {0x42, "CKR_AEAD_DECRYPT_FAILED", KR_INTEGRITY}, /* new in 3.0 */
    {0x1b9, "CKR_OPERATION_CANCEL_FAILED", KR_TOKEN_UNAVAILABLE},
};

static const struct {
    CK_RV ckr;
    const char *hint;
} hints[] = {
    {CKR_PIN_INCORRECT, "put the right PIN into the PIN source: it is not tried again before that"},
    {CKR_PIN_LEN_RANGE, "put the right PIN into the PIN source: it is not tried again before that"},
    {CKR_PIN_INVALID, "put the right PIN into the PIN source: it is not tried again before that"},
    {CKR_PIN_LOCKED, "have the security officer set a new user PIN (pkcs11-tool --init-pin)"},
    {CKR_PIN_EXPIRED, "set a new user PIN (pkcs11-tool --change-pin) and update the PIN source"},
    {CKR_USER_PIN_NOT_INITIALIZED,
     "have the security officer set a user PIN (pkcs11-tool --init-pin)"},
    {CKR_TOKEN_WRITE_PROTECTED, "the token allows no new objects: lift its write protection"},
    {CKR_KEY_FUNCTION_NOT_PERMITTED,
     "the key lacks the usage: make one with 'p11keyring master create'"},
    {CKR_MECHANISM_INVALID, "see what the token offers: p11keyring doctor"},
    {CKR_DEVICE_MEMORY, "the token is full: remove objects that are not needed"},
    {CKR_SESSION_COUNT, "the token has no free session: close other programs that use it"},
};

/* Of values that have none of their own. */
static const char *const class_hints[] = {
    [KR_TOKEN_UNAVAILABLE] =
        "check that the token is connected and its service runs; then: p11keyring doctor",
    [KR_AUTH] = "check the token's user PIN and the PIN source: p11keyring doctor",
    [KR_INTEGRITY] =
        "see what 'p11keyring doctor' finds, and restore the keystore from its backup if need be",
    [KR_REFUSED] = "see what the token offers and allows: p11keyring doctor",
    [KR_INTERNAL] = "see the module's own log, and what 'p11keyring doctor' finds",
};

static size_t find(CK_RV ckr)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].ckr == ckr)
            return i;
    return sizeof(table) / sizeof(table[0]);
}

const char *kr_ckr_name(unsigned long ckr)
{
    size_t i = find(ckr);

    if (i < sizeof(table) / sizeof(table[0]))
        return table[i].name;
    return ckr & CKR_VENDOR_DEFINED ? "CKR_VENDOR_DEFINED" : "CKR_(unknown)";
}

static const char *hint_for(CK_RV ckr, enum kr_status status)
{
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        if (hints[i].ckr == ckr)
            return hints[i].hint;
    return class_hints[status];
}

enum kr_status kr_ckr_fail(struct kr_error *err, const char *function, unsigned long ckr)
{
    size_t i = find(ckr);
    enum kr_status status =
        i < sizeof(table) / sizeof(table[0]) ? table[i].status : KR_TOKEN_UNAVAILABLE;

    if (status == KR_OK)
        status = KR_INTERNAL;
    kr_fail(err, status, "%s failed: %s (0x%lx)", function, kr_ckr_name(ckr), ckr);
    kr_hint(err, "%s", hint_for(ckr, status));
    err->ckr = ckr;
    err->ckr_name = kr_ckr_name(ckr);
    return status;
}

enum kr_status kr_ckr_fail_count(const char *function, unsigned long count, struct kr_error *err)
{
    kr_fail(err, KR_INTERNAL, "%s gave %lu entries, more than there can be", function, count);
    kr_hint(err, "the module breaks the rules of PKCS#11: see its vendor's notes");
    return KR_INTERNAL;
}

void kr_ckr_hint_default(struct kr_error *err)
{
    const enum kr_status status = err->status;

    if (!err->hint[0] &&
        (status == KR_TOKEN_UNAVAILABLE || status == KR_INTEGRITY || status == KR_REFUSED))
        kr_hint(err, "%s", class_hints[status]);
}
