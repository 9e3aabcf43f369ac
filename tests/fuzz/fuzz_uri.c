/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any text as a URI: it is refused, or names a token or an object as it can have; and a PIN in it
 * is never repeated. */
#include "pkcs11/uri.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int sound)
{
    if (!sound)
        abort();
}

/* What was accepted is written as a URI that is accepted, and means the same. */
static void check_accepted(const char *text, P11KitUriType type, P11KitUri *uri)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_URI P11KitUri *again = NULL;
    char *written = NULL;
    CK_TOKEN_INFO *token = p11_kit_uri_get_token_info(uri);

    insist(!strcasestr(text, "pin-value"));
    insist(!p11_kit_uri_get_pin_value(uri) && !p11_kit_uri_get_pin_source(uri));
    insist(!p11_kit_uri_any_unrecognized(uri));
    if (p11_kit_uri_format(uri, type, &written) != P11_KIT_URI_OK)
        return;
    insist(kr_uri_parse(written, type, &again, &err) == KR_OK);
    insist(memcmp(token->label, p11_kit_uri_get_token_info(again)->label, sizeof(token->label)) ==
           0);
    free(written);
}

static void check(const char *text, P11KitUriType type)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_URI P11KitUri *uri = NULL;
    if (kr_uri_parse(text, type, &uri, &err) == KR_OK) {
        check_accepted(text, type, uri);
        return;
    }
    insist(!uri && err.status == KR_CONFIG && err.text[0] && err.hint[0]);
    insist(!strcasestr(text, "pin-value") || !strstr(err.text, text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = calloc(size + 1, 1);
    insist(text != NULL);
    memcpy(text, data, size);
    check(text, P11_KIT_URI_FOR_TOKEN);
    check(text, P11_KIT_URI_FOR_OBJECT_ON_TOKEN);
    free(text);
    return 0;
}
