/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* RFC 7512 URIs: p11-kit's parser, and a refusal of what it would let pass. */
#include "pkcs11/uri.h"

#include <stdbool.h>
#include <string.h>

void kr_uri_cleanup(P11KitUri **uri)
{
    p11_kit_uri_free(*uri);
}

/* The length of the attribute's name at `text`. */
static size_t name_length(const char *text)
{
    return strcspn(text, "=;?&");
}

/* The next attribute after the one at `text`, or NULL. */
static const char *next_attribute(const char *text)
{
    text += strcspn(text, ";?&");
    return *text ? text + 1 : NULL;
}

/* p11-kit silently takes the last of two attributes with one name. */
static bool said_twice(const char *text, size_t *ret_len, const char **ret_name)
{
    const char *colon = strchr(text, ':');

    for (const char *a = colon ? colon + 1 : NULL; a; a = next_attribute(a)) {
        size_t len = name_length(a);

        for (const char *b = next_attribute(a); len && b; b = next_attribute(b)) {
            if (name_length(b) == len && memcmp(a, b, len) == 0) {
                *ret_len = len;
                *ret_name = a;
                return true;
            }
        }
    }
    return false;
}

/* To p11-kit a text that begins with a NUL is one that was not given: it would match any token.
 * Only an id is binary. */
static bool has_nul_in_text(const char *text)
{
    const char *colon = strchr(text, ':');

    for (const char *a = colon ? colon + 1 : NULL; a; a = next_attribute(a)) {
        const char *nul = strstr(a, "%00");

        if (nul && nul < a + strcspn(a, ";?") && strncmp(a, "id=", 3) != 0)
            return true;
    }
    return false;
}

static enum kr_status check(const char *text, P11KitUriType type, P11KitUri *uri,
                            struct kr_error *err)
{
    const char *name;
    size_t len;

    if (strpbrk(text, " \t\r\n\v\f")) { /* p11-kit leaves them out, and reads another URI */
        kr_fail(err, KR_CONFIG, "the token URI has a blank in it");
        kr_hint(err, "write a blank of a name as %%20");
        return KR_CONFIG;
    }
    if (p11_kit_uri_get_pin_value(uri) || strcasestr(text, "pin-value")) {
        kr_fail(err, KR_CONFIG, "the token URI holds a PIN (pin-value)");
        kr_hint(err, "remove pin-value from the URI, name a PIN source instead (option "
                     "pin-source), and change the PIN: others may have seen it");
        return KR_CONFIG;
    }
    if (said_twice(text, &len, &name)) {
        kr_fail(err, KR_CONFIG, "the URI '%s' says %.*s twice", text, (int)len, name);
        kr_hint(err, "leave one of them");
        return KR_CONFIG;
    }
    if (p11_kit_uri_get_pin_source(uri) || p11_kit_uri_get_module_path(uri) ||
        p11_kit_uri_get_module_name(uri)) {
        kr_fail(err, KR_CONFIG, "the URI '%s' names a module or a PIN source", text);
        kr_hint(err, "use the options module and pin-source for these");
        return KR_CONFIG;
    }
    if (p11_kit_uri_any_unrecognized(uri) || has_nul_in_text(text)) {
        kr_fail(err, KR_CONFIG, "the URI '%s' has an attribute or a value that no token can have",
                text);
        kr_hint(err, "use token (at most 32 bytes), serial, manufacturer, model%s",
                type & P11_KIT_URI_FOR_OBJECT ? ", id, object, type" : "");
        return KR_CONFIG;
    }
    return KR_OK;
}

enum kr_status kr_uri_parse(const char *text, P11KitUriType type, P11KitUri **ret,
                            struct kr_error *err)
{
    KR_URI P11KitUri *uri = p11_kit_uri_new();
    int rc;

    if (!uri)
        return kr_fail_memory(err);
    rc = p11_kit_uri_parse(text, type, uri);
    if (rc != P11_KIT_URI_OK) {
        kr_fail(err, KR_CONFIG, "this is no PKCS#11 URI (RFC 7512): %s", p11_kit_uri_message(rc));
        kr_hint(err, "a token's URI looks like pkcs11:token=LABEL; see: p11keyring token list");
        return KR_CONFIG;
    }
    KR_TRY(check(text, type, uri, err));
    *ret = uri;
    uri = NULL;
    return KR_OK;
}
