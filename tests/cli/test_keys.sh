#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Data keys from first to last, and what is shown of them.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
cli_keyring keys

create_list_show() {
    expect 0 key create 1
    contains "$OUT" "key 1 created: version 1, aes-cbc"
    expect 0 key create 4294967295 --cipher aes-ctr --json
    is_json p11keyring.key.create/1
    equal "4294967295 1 aes-ctr" "$(json '"\(.id) \(.version) \(.cipher)"')" "new key"
    expect 0 key list
    grep -qE '^ID +LATEST +VERSIONS +CIPHER +STATE +CREATED' "$OUT"
    grep -qE '^ *1 +1 +1 +aes-cbc +enabled +2[0-9]{3}-' "$OUT"
    expect 0 key list --json
    is_json p11keyring.key.list/1
    equal "true 2" "$(json '"\(.verified) \(.keys | length)"')" "verified, keys"
    expect 0 key show 1 --json
    is_json p11keyring.key.show/1
    json ".key_versions[0].created" | grep -q "^$(date -u +%Y)-"
    equal "1 256 aes-cbc" "$(json '.key_versions[0] | "\(.version) \(.bits) \(.cipher)"')" "version"
}

exists_and_missing() {
    refuses 7 "key 1" "" key create 1
    refuses 1 "there is no key 7" "key create 7" key show 7
    refuses 1 "key 7" "" key rotate 7
    refuses 1 "there is no key 7" "" key disable 7
}

rotate() {
    expect 0 key rotate 1 --json
    equal 3 "$(json .version)" "version after a rotation by 2"
    expect 0 key rotate 1 --cipher aes-ctr
    contains "$OUT" "key 1 rotated: version 5, aes-ctr"
    expect 0 key show 1 --json
    equal "1 3 5" "$(json '[.key_versions[].version] | join(" ")')" "versions"
    expect 0 key rotate 1 # back to the configured cipher
    contains "$OUT" "aes-cbc"
}

rotate_all() {
    refuses 7 "not confirmed" "--yes" key rotate --all
    expect 0 key rotate --all --yes --json
    is_json p11keyring.key.rotate/1
    equal "1 4294967295" "$(json '[.keys[].id] | join(" ")')" "rotated keys"
}

disable_enable() {
    expect 0 key disable 1
    expect 0 key show 1 --json
    equal disabled "$(json .key.state)" "state"
    refuses 7 "disabled" "key enable" key rotate 1
    refuses 7 "disabled" "" key rotate 1 --dry-run
    expect 0 key rotate --all --yes --json
    equal 4294967295 "$(json '[.keys[].id] | join(" ")')" "rotated keys"
    expect 0 key enable 1 --json
    is_json p11keyring.key.enable/1
    expect 0 key rotate 1
}

dry_runs_change_nothing() {
    local before command
    before=$(keyring_digest)
    for command in "key create 77" "key rotate 1" "key rotate --all" "key disable 1" \
        "key enable 1" "token unguard"; do
        # shellcheck disable=SC2086 # words
        expect 0 $command --dry-run
        contains "$OUT" "would "
        # shellcheck disable=SC2086 # words
        expect 0 -n --json $command
        equal true "$(json .dry_run)" "dry_run"
    done
    equal "$before" "$(keyring_digest)" "keyring folder"
    refuses 7 "exists already" "" key create 1 -n
    refuses 7 "exists already" "" master create -n
}

options_anywhere() {
    expect 0 --json key --verbose list
    is_json p11keyring.key.list/1
    contains "$ERR" "p11keyring: debug: configuration $P11KEYRING_CONF"
    expect 0 --keystore "$KEYRING/keyring/test.keystore" key list --module "$SOFTHSM_MODULE"
}

new_key_file() { # FILE: hexadecimal bytes on stdin
    cat >"$1"
    chmod 600 "$1"
    own "$1"
}

import() {
    local bytes id=100
    for bytes in 16 24 32; do
        random_hex "$bytes" | new_key_file "$KEYRING/import"
        expect 0 key create "$id" --import-hex-from "$KEYRING/import" --cipher aes-ctr
        lacks "$OUT" "$(<"$KEYRING/import")"
        expect 0 key show "$id" --json
        equal $((8 * bytes)) "$(json '.key_versions[0].bits')" "bits"
        id=$((id + 1))
    done
    printf '# keys\n\n1;%s\n 110 ; %s \n111;%s\n' "$(random_hex 32)" "$(random_hex 16)" \
        "$(random_hex 32)" | new_key_file "$KEYRING/import"
    expect 0 key create 110 --import-hex-from "$KEYRING/import"
    expect 0 key show 110 --json
    equal 128 "$(json '.key_versions[0].bits')" "bits"
    tool key create 112 --import-hex-from - < <(random_hex 24) >/dev/null
}

bad_imports() {
    local key
    key=$(random_hex 16)
    new_key_file "$KEYRING/import" <<<"$key"
    chmod 640 "$KEYRING/import"
    refuses 1 "can be read by others" "chmod 600" key create 120 --import-hex-from "$KEYRING/import"
    chmod 600 "$KEYRING/import"
    local text
    for text in "${key}0" "${key}00" "${key%?}g" "121;$key" "x;$key" "120;$key"$'\n'"120;$key" "" \
        "120;" "Salted__$key"; do
        new_key_file "$KEYRING/import" <<<"$text"
        refuses 2 "key" "" key create 120 --import-hex-from "$KEYRING/import"
        lacks "$ERR" "${key%?}"
    done
    refuses 1 "cannot open key file" "" key create 120 --import-hex-from "$KEYRING/not-there"
    head -c 70000 /dev/zero | new_key_file "$KEYRING/import"
    refuses 2 "larger than" "" key create 120 --import-hex-from "$KEYRING/import"
}

status_counts_first() {
    expect 0 status
    head -1 "$OUT" | grep -qE '^[0-9]+ keys, [0-9]+ versions, 0 disabled$'
    contains "$OUT" "$KEYRING/keyring/test.keystore"
    contains "$OUT" "aes-gcm"
    expect 0 status --json
    is_json p11keyring.status/1
    equal "true true false nobody 0" \
        "$(json '"\(.verified) \(.token_found) \(.pin_guarded) \(.keystore_owner) \(.memory_unlocked_bytes)"')" \
        "status"
    equal "1 0" "$(json '"\(.token_sessions) \(.token_evictions)"')" "sessions"
    ((1 <= $(json .memory_locked_bytes))) || die "nothing is locked"
}

# The keystore tells what it can while the token is away.
without_the_token() {
    local command
    mv "$KEYRING/tokens" "$KEYRING/tokens.away"
    as_server mkdir "$KEYRING/tokens"
    for command in "key list" "key show 1" "status" "master list"; do
        # shellcheck disable=SC2086 # words
        expect 3 $command
        contains "$ERR" "warning: not verified against the token"
        # shellcheck disable=SC2086 # words
        expect 3 $command --json
    done
    refuses 4 "no token matches" "token list" key rotate 1
    rmdir "$KEYRING/tokens"
    mv "$KEYRING/tokens.away" "$KEYRING/tokens"
    expect 0 key list
}

# Keys are seconds old here, and so is what is expected of them.
key_ages() {
    expect 0 status --json
    equal 0 "$(json '.overdue | length')" "overdue keys without cryptoperiods"
    expect 0 doctor --json --server-config /dev/null
    equal "not checked" "$(json '.checks[] | select(.check == "key ages").result')" "doctor"
    cp -p "$P11KEYRING_CONF" "$WORK/conf"
    printf '\n[keyring]\nmaster-key-age = 1s\ndata-key-age = 30d\n' >>"$P11KEYRING_CONF"
    eventually 5 overdue "master key"
    contains "$ERR" "warning: master key 'p11keyring:test:1'"
    contains "$ERR" "master rotate"
    expect 3 doctor --json --server-config /dev/null
    equal warning "$(json '.checks[] | select(.check == "key ages").result')" "doctor"
    sed -i 's/^master-key-age.*/master-key-age = 30d/; s/^data-key-age.*/data-key-age = 1s/' \
        "$P11KEYRING_CONF"
    eventually 5 overdue "data key"
    cp -p "$WORK/conf" "$P11KEYRING_CONF"
    expect 0 status
}

overdue() { # KIND
    tool status --json >"$OUT" 2>"$ERR" || [[ $? == 3 ]] || return
    [[ $(json '[.overdue[].kind] | unique | join(",")') == "$1" ]]
}

check "keys are created, listed and shown" create_list_show
check "a key that exists or is missing is told" exists_and_missing
check "rotation gives new versions" rotate
check "rotating all keys wants a confirmation" rotate_all
check "a disabled key gets no versions" disable_enable
check "a dry run changes nothing" dry_runs_change_nothing
check "options stand anywhere" options_anywhere
check "keys of 16, 24 and 32 bytes are imported, also from key files and pipes" import
check "bad key files are refused and not quoted" bad_imports
check "status counts first" status_counts_first
check "keys older than their cryptoperiod are told" key_ages
check "without the token the keystore is shown, unverified" without_the_token
finish
