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
    refuses 7 "nothing shows that no file or backup needs this key" "--without-evidence" \
        master retire p11keyring:test:1 --confirm p11keyring:test:1
    refuses 7 "was not confirmed by its name" "--confirm" master retire p11keyring:test:1 \
        --without-evidence
    refuses 7 "was not confirmed by its name" "" master retire p11keyring:test:1 --confirm yes \
        --without-evidence
    refuses 2 "option --yes is not for master retire" "" master retire p11keyring:test:1 --yes
    refuses 1 "names no master key 'nothing'" "master list" master retire nothing
    expect 0 master retire p11keyring:test:1 -n
    contains "$OUT" "would destroy master key 'p11keyring:test:1' in token 'rot'"
    equal true "$(master_field in_token p11keyring:test:1 rot)" "in the token"
    expect 0 master retire p11keyring:test:1 --without-evidence --confirm p11keyring:test:1 --json
    is_json p11keyring.master.retire/1
    equal true "$(json .destroyed)" "destroyed"
    expect 0 master list --json
    equal 1 "$(json '.master_keys | length')" "master keys"
    equal 1 "$(p11tool -O --type secrkey 2>/dev/null | grep -c '^Secret Key Object')" "in the token"
    equal 5 "$(versions)" "versions"
}

two_tokens() {
    keys_up one
    refuses 2 "no token 'two' is configured" "[token:two]" master create --token two
    add_token two
    refuses 7 "token 'two' has no master key yet" "master create --token two" \
        master rotate --token two
    expect 0 master create --token two -n
    contains "$OUT" "would make a master key in that token, and wrap 5 of 5 envelopes anew"
    expect 0 master create --token two --json
    is_json p11keyring.master.create/1
    equal "two 5" "$(json '"\(.master_keys[0].token) \(.rewrapped)"')" "result"
    refuses 7 "token 'two' has a master key of this keyring already" "master rotate --token two" \
        master create --token two
    expect 0 master list --json
    equal "one,p11keyring:test:1,current,true two,p11keyring:test:2,current,true" \
        "$(json '[.master_keys[] | "\(.token),\(.label),\(.state),\(.in_token)"] | join(" ")')" \
        "master keys"
}

token_away() { # NAME: its section names a token that is not there
    sed -i "/^\[token:$1\]/,/^pin-source/s|token=$1\$|token=$1-away|" "$P11KEYRING_CONF"
}

token_back() {
    sed -i "s|token=$1-away|token=$1|" "$P11KEYRING_CONF"
}

away() {
    keyring_use one
    token_away two
    refuses 4 "token 'two'" "--token NAME" master rotate
    expect 0 key create 9
    expect 4 keyring sync --json
    equal "0 1" "$(json '"\(.rewrapped) \(.waiting)"')" "envelopes"
    contains "$ERR" "1 envelopes wait for a token that is away"
    expect 3 master list --json
    equal "true null" \
        "$(json '[.master_keys[] | .in_token] | sort | reverse | map(tostring) | join(" ")')" \
        "what is known"
    expect 4 master rotate --token one
    token_back two
    expect 0 keyring sync --json
    equal "1 0" "$(json '"\(.rewrapped) \(.waiting)"')" "envelopes"
    token_away one
    equal 5 "$(versions)" "versions by the other token"
    token_back one
}

move() {
    keyring_use one
    refuses 2 "keyring move needs --to NAME" "" keyring move
    refuses 2 "no token 'three' is configured" "[token:three]" keyring move --to three
    add_token three
    expect 0 keyring move --to three -n
    contains "$OUT" "would make all other master keys old, and wrap 6 of 6 envelopes anew"
    expect 0 keyring move --to three --progress=json
    contains "$ERR" "retire the old master keys"
    refuses 7 "is the current one of token 'three'" "take its section out" \
        master retire --token three p11keyring:test:4
    drop_section one
    drop_section two
    equal 5 "$(versions)" "versions by the new token alone"
    expect 0 master retire p11keyring:test:1 --without-evidence --confirm p11keyring:test:1
    contains "$ERR" "token 'one' is not configured"
    expect 0 key create 10
}

given_up() {
    keys_up first
    add_token second
    tool master create --token second >/dev/null
    drop_section second
    expect 0 master retire p11keyring:test:2 --without-evidence --confirm p11keyring:test:2 --json
    equal "false 5" "$(json '"\(.destroyed) \(.rewrapped)"')" "result"
    equal 1 "$(tool master list --json | jq '[.master_keys[] | select(.state == "current")] | length')" \
        "current master keys"
    equal 4 "$(versions)" "versions"
    refuses 7 "is the current one" "master rotate" master retire p11keyring:test:1
}

interrupt() {
    mock_keyring slow
    local id
    for id in 2 3 4 5 6 7 8 9; do tool key create "$id" >/dev/null; done
    sed -i 's/^timeout = .*/timeout = 3000\nsessions = 1/' "$P11KEYRING_CONF"
    mock_rules "delay C_Decrypt 150"
    background "${AS_SERVER[@]}" "$WORK/bin/p11keyring" master rotate --json --progress=none \
        >"$OUT" 2>"$ERR"
    eventually 20 rewrap_began
    kill -TERM "$background_pid"
    fails_with 8 wait "$background_pid"
    mock_rules ""
    contains "$ERR" "run the same command again to go on"
    equal true "$(json .interrupted)" "interrupted"
    expect 0 master rotate --json
    equal "true 0" "$(json '"\(.resumed) \(.master_keys | length)"')" "resumed"
    contains "$ERR" "went on with it and made no new master key"
    equal 9 "$(versions)" "versions"
    refuses 2 "--progress is auto, line, json or none" "" master rotate --progress=often
}

rewrap_began() { [[ $(state p11keyring:test:2 slow) == current ]]; }

check "master rotate wraps everything for a new master key" rotate
check "master retire destroys an old one, after its label was typed" retire
check "a keyring gets a second token" two_tokens
check "a token that is away is waited for, and brought up to date" away
check "a keyring moves to another token" move
check "a token that will not come back is given up" given_up
check "an interrupted rotation exits with 8, and the next call goes on" interrupt
finish
