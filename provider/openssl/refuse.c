/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Turning a handle away: a reason on OpenSSL's error stack, and a count. */
#include "refuse.h"

#include <openssl/err.h>

#include "registration.h"

/* OpenSSL writes the library's number into the codes. */
static ERR_STRING_DATA reasons[] = {
    {ERR_PACK(0, 0, KR_REFUSAL_CIPHER), "a keyring handle is no key for this cipher"},
    {ERR_PACK(0, 0, KR_REFUSAL_KEY_LENGTH), "a keyring handle with a wrong key length"},
    {ERR_PACK(0, 0, KR_REFUSAL_IV), "a keyring handle with a missing or wrong iv"},
    {ERR_PACK(0, 0, KR_REFUSAL_PADDING), "a keyring handle with padding on"},
    {ERR_PACK(0, 0, KR_REFUSAL_LENGTH), "a keyring handle with data of another length"},
    {ERR_PACK(0, 0, KR_REFUSAL_ORDER), "a keyring handle used other than init, update, final"},
    {ERR_PACK(0, 0, KR_REFUSAL_PARAMETER), "a keyring handle with a parameter besides padding"},
    {ERR_PACK(0, 0, KR_REFUSAL_COPY), "a context with a keyring handle cannot be copied"},
    {ERR_PACK(0, 0, KR_REFUSAL_UNREGISTERED), "no keyring is registered in this process"},
    {ERR_PACK(0, 0, KR_REFUSAL_TOKEN), "the keyring could not run the operation in the token"},
    {0, NULL},
};
static ERR_STRING_DATA name[] = {{0, "p11keyring"}, {0, NULL}};

static int library;

bool kr_refusals_load(void)
{
    if (library == 0)
        library = ERR_get_next_error_library();
    name[0].error = ERR_PACK(library, 0, 0);
    return ERR_load_strings(library, reasons) && ERR_load_strings(library, name);
}

void kr_refusals_unload(void)
{
    ERR_unload_strings(library, reasons);
    ERR_unload_strings(library, name);
}

int kr_refuse(enum kr_refusal reason)
{
    if (reason != KR_REFUSAL_TOKEN)
        kr_registration_count_refused();
    ERR_raise(library, (int)reason);
    return 0;
}
