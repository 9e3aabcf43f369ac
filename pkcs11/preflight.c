/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What a token lets us do, found out before anything is changed. A session object would not show
 * it: a token may be full, or allow those alone.
 */
#include "pkcs11/anchor.h"

#include <stdio.h>
#include <string.h>

static enum kr_status check_writable(struct kr_token *token, struct kr_error *err)
{
    struct kr_token_info info;

    KR_TRY(kr_token_get_info(token, &info, err));
    if (!info.write_protected)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "the token '%s' is write-protected", info.label);
    kr_hint(err, "lift its write protection: master keys are made and destroyed in the token");
    return KR_REFUSED;
}

/* A token in trouble stays KR_TOKEN_UNAVAILABLE, a refused PIN KR_AUTH. */
static enum kr_status check_key(struct kr_token *token, enum kr_wrap_mechanism wish,
                                enum kr_wrap_mechanism *ret, struct kr_error *err)
{
    struct kr_master_info key;
    enum kr_status status = kr_master_generate(token, KR_PREFLIGHT_LABEL, wish, &key, err);

    if (status != KR_OK) {
        kr_error_context(err, "no master key can be made");
        return status;
    }
    KR_TRY(kr_master_prove(token, &key.id, wish, ret, err));
    status = kr_master_destroy(token, &key.id, err);
    if (status == KR_OK)
        return KR_OK;
    kr_error_context(err, "a key that was made cannot be destroyed");
    if (status == KR_REFUSED)
        kr_hint(err, "allow the token's user to destroy keys; remove '" KR_PREFLIGHT_LABEL
                     "': pkcs11-tool --delete-object");
    return status;
}

static enum kr_status check_anchor(struct kr_token *token, struct kr_preflight *preflight,
                                   struct kr_error *err)
{
    static const uint8_t value[KR_ANCHOR_MAX] = {1};
    struct kr_error why = KR_ERROR_INIT;
    enum kr_status status =
        kr_anchor_raise(token, KR_PREFLIGHT_LABEL, NULL, value, sizeof(value), &why);

    if (status == KR_OK)
        status = kr_anchor_remove(token, KR_PREFLIGHT_LABEL, &why);
    preflight->anchor = status == KR_OK || status == KR_NOT_FOUND; /* removed by another run */
    if (preflight->anchor)
        return KR_OK;
    if (status != KR_REFUSED) {
        *err = why;
        return status;
    }
    snprintf(preflight->no_anchor, sizeof(preflight->no_anchor), "%.255s", why.text);
    return KR_OK;
}

enum kr_status kr_master_preflight(struct kr_token *token, enum kr_wrap_mechanism wish,
                                   struct kr_preflight *ret, struct kr_error *err)
{
    struct kr_preflight preflight = {.mechanism = KR_WRAP_AUTO};

    KR_TRY(check_writable(token, err));
    KR_TRY(check_key(token, wish, &preflight.mechanism, err));
    KR_TRY(check_anchor(token, &preflight, err));
    *ret = preflight;
    return KR_OK;
}
