#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Tokens, modules and URIs: what is shown, and what is refused.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
cli_keyring tok

init_prints_the_uri() {
    expect 0 token init --label 'second one' --so-pin-source "file:$KEYRING/so-pin" --json
    is_json p11keyring.token.init/1
    json .uri | grep -qE '^pkcs11:token=second%20one;serial=[0-9a-f]+$'
    local uri
    uri=$(json .uri)
    expect 0 token info --token-uri "$uri" --json
    equal "second one" "$(json .label)" "label"
    refuses 7 "second one" "" token init --label 'second one' \
        --so-pin-source "file:$KEYRING/so-pin"
    refuses 1 "no free slot" "token list" token init --label third --slot 999999 \
        --so-pin-source "file:$KEYRING/so-pin"
}

initialised_token_is_left_alone() {
    local slot
    expect 0 token list --json
    slot=$(json '.tokens[] | select(.label == "tok") | .slot')
    refuses 7 "initiali" "" token init --label new --slot "$slot" \
        --so-pin-source "file:$KEYRING/so-pin"
    expect 0 key list
}

init_dry_run() {
    expect 0 token init --label third --so-pin-source "file:$KEYRING/so-pin" --dry-run
    expect 0 token list
    lacks "$OUT" third
}

list_and_info() {
    expect 0 token list
    grep -qE '^SLOT +LABEL +MODEL +SERIAL' "$OUT"
    contains "$OUT" "pkcs11:token=tok;serial="
    expect 0 token list --json
    is_json p11keyring.token.list/1
    expect 0 token info
    contains "$OUT" "CKM_AES_GCM"
    expect 0 token info --json
    is_json p11keyring.token.info/1
    equal "tok false false true" \
        "$(json '"\(.label) \(.pin_locked) \(.guarded) \(.mechanisms.CKM_AES_GCM)"')" "token"
}

# A PIN file that is not there shows that nobody asked for it.
no_login_for_looking() {
    mv "$KEYRING/pin" "$KEYRING/pin.away"
    expect 0 token list
    mv "$KEYRING/pin.away" "$KEYRING/pin"
}

bad_modules() {
    refuses 1 "/not/there.so" "" key list --module /not/there.so
    refuses 1 "libz" "" key list --module "$(find /lib /usr/lib -name 'libz.so.1' | head -1)"
    refuses 1 "" "" key list --module "$P11KEYRING_CONF"
    refuses 1 "/not/there.so" "" token list --module /not/there.so
}

bad_uris() {
    refuses 4 "no token matches" "token list" key create 5 --token-uri pkcs11:token=nobody
    refuses 7 "2 tokens match" "serial" key create 5 --token-uri "pkcs11:manufacturer=SoftHSM%20project"
    refuses 1 "" "" key create 5 --token-uri "pkcs11:token=tok;colour=red"
    refuses 1 "" "" key create 5 \
        --token-uri "pkcs11:token=a-label-that-is-longer-than-thirty-two-bytes"
    refuses 2 "" "token list" key create 5 --token-uri "token=tok"
}

token_that_fails() {
    local rules
    for rules in "hang C_OpenSession" "fail C_GetSlotList 0x32" "fail C_Initialize 0x5" \
        "hang C_Decrypt" "hang C_Initialize"; do
        mock_rules "$rules"
        refuses 4 "C_" "" key create 2
        expect 3 key list
    done
    expect 4 doctor
    contains "$OUT" "not checked"
    mock_rules ""
    expect 0 key create 2
}

no_pkcs11_module() {
    refuses 1 "p11k_not_a_module" "" key list \
        --module "$(cp "$BUILD/tests/mock/p11k_not_a_module.so" "$WORK/lib/" &&
            echo "$WORK/lib/p11k_not_a_module.so")"
}

check "token init makes a token and prints its URI" init_prints_the_uri
check "an initialised token is left alone" initialised_token_is_left_alone
check "a dry run of token init makes none" init_dry_run
check "tokens are listed and shown" list_and_info
check "listing tokens needs no PIN" no_login_for_looking
check "missing and wrong modules are refused" bad_modules
check "URIs that match none, several or are not understood are refused" bad_uris
check "a library that is a module in name only is refused" no_pkcs11_module
mock_keyring away
check "a token that fails or hangs gives exit code 4, in time" token_that_fails
finish
