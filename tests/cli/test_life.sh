#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The life of master keys: rotated, retired, in more tokens than one, moved to another one.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"

# A section of the configuration for another token in the same place, with the same PIN.
section() { # NAME
    printf '[token:%s]\nmodule = %s\nuri = pkcs11:token=%s\npin-source = file:%s/pin\n' \
        "$1" "$SOFTHSM_MODULE" "$1" "$KEYRING"
}

add_token() { # NAME: makes the token; its section comes last
    as_server softhsm2-util --init-token --free --label "$1" --so-pin "$(<"$KEYRING/so-pin")" \
        --pin "$(<"$KEYRING/pin")" >/dev/null
    section "$1" >>"$P11KEYRING_CONF"
}

drop_section() { # NAME
    sed -i "/^\[token:$1\]/,/^pin-source/d" "$P11KEYRING_CONF"
}

master_field() { # FIELD LABEL TOKEN: of `master list`
    tool master list --json 2>/dev/null |
        jq -r --arg l "$2" --arg t "$3" ".master_keys[] |
            select(.label == \$l and (.token == \$t or .token == null)) | .$1"
}

state() { master_field state "$@"; }

versions() { # the opened ones, and that all are
    expect 0 key list --json
    equal true "$(json .verified)" "verified"
    json '[.keys[].versions] | add'
}

keys_up() { # NAME
    cli_keyring "$1"
    local id
    for id in 1 2 3; do tool key create "$id" >/dev/null; done
    tool key rotate 2 >/dev/null
}

rotate() {
    keys_up rot
    expect 0 master rotate -n
    contains "$OUT" "would make new master keys, and wrap 5 of 5 envelopes anew"
    equal "" "$(state p11keyring:test:2 rot)" "a key made by a dry run"
    expect 0 master rotate --json
    is_json p11keyring.master.rotate/1
    equal "p11keyring:test:2 current rot false 5 5 0" "$(json '"\(.master_keys[0].label) \(.master_keys[0].state) \(.master_keys[0].token) \(.resumed) \(.envelopes) \(.rewrapped) \(.waiting)"')" "result"
    equal old "$(state p11keyring:test:1 rot)" "the old key"
    equal current "$(state p11keyring:test:2 rot)" "the new key"
    equal 4 "$(versions)" "versions"
    expect 0 key create 4
    equal 5 "$(versions)" "versions"
    equal 6 "$(master_field wraps p11keyring:test:2 rot)" "wraps by the new key"
    expect 0 keyring sync
    contains "$OUT" "wrapped anew: 0"
}

retire() {
    keyring_use rot
    refuses 7 "is the current one of token 'rot'" "master rotate" master retire p11keyring:test:2
    refuses 7 "was not confirmed by its name" "--confirm" master retire p11keyring:test:1
    refuses 7 "was not confirmed by its name" "" master retire p11keyring:test:1 --confirm yes
    refuses 2 "option --yes is not for master retire" "" master retire p11keyring:test:1 --yes
    refuses 1 "names no master key 'nothing'" "master list" master retire nothing
    expect 0 master retire p11keyring:test:1 -n
    contains "$OUT" "would destroy master key 'p11keyring:test:1' in token 'rot'"
    equal true "$(master_field in_token p11keyring:test:1 rot)" "in the token"
    expect 0 master retire p11keyring:test:1 --confirm p11keyring:test:1 --json
    is_json p11keyring.master.retire/1
    equal true "$(json .destroyed)" "destroyed"
    expect 0 master list --json
    equal 1 "$(json '.master_keys | length')" "master keys"
    equal 1 "$(p11tool -O --type secrkey 2>/dev/null | grep -c '^Secret Key Object')" "in the token"
    equal 5 "$(versions)" "versions"
}

check "master rotate wraps everything for a new master key" rotate
check "master retire destroys an old one, after its label was typed" retire
finish
