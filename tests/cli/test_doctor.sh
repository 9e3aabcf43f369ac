#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# doctor finds what is wrong, says what to do, and exits by the worst of it.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
cli_keyring doc
tool key create 1 >/dev/null
STORE=$KEYRING/keyring/test.keystore

# server_cnf LINE...: a server's option file that doctor reads.
server_cnf() {
    mkdir -p "$KEYRING/data"
    own "$KEYRING/data"
    printf '%s\n' '[mariadbd]' "datadir = $KEYRING/data" "$@" >"$WORK/server.cnf"
}

verdict() { # CHECK: its result
    jq -r ".checks[] | select(.check == \"$1\") | .result" "$OUT"
}

finds() { # EXIT-CODE CHECK RESULT TEXT-OF-FINDING-OR-FIX [ARGUMENT...]
    local code=$1 name=$2 result=$3 text=$4
    shift 4
    expect "$code" doctor --json --server-config "$WORK/server.cnf" "$@"
    is_json p11keyring.doctor/1
    equal "$result" "$(verdict "$name")" "$name"
    jq -r ".checks[] | select(.check == \"$name\") | .finding, .fix" "$OUT" | grep -qF -- "$text" ||
        die "no '$text' in: $(jq ".checks[] | select(.check == \"$name\")" "$OUT")"
}

all_is_well() {
    server_cnf 'plugin-load-add = pkcs11_key_management'
    expect 0 doctor --server-config "$WORK/server.cnf"
    equal 25 "$(grep -c '^ok ' "$OUT")" "checks that are ok"
    expect 0 doctor --server-config "$WORK/server.cnf" --json
    equal 25 "$(json '[.checks[] | select(.result == "ok")] | length')" "checks that are ok"
    finds 0 "page ciphers" ok "many pages in lockstep: on"
}

server_findings() {
    server_cnf 'plugin-load-add = pkcs11_key_management' 'plugin_load_add = file_key_management'
    finds 1 "other keyrings" error file_key_management
    server_cnf 'loose-plugin-load = "x=pkcs11_key_management.so;hashicorp_key_management.so"'
    finds 1 "other keyrings" error hashicorp_key_management
    server_cnf 'plugin-load-add = file_key_management'
    finds 0 "other keyrings" ok "file_key_management"
    server_cnf 'core-file'
    finds 3 "core files" warning "LimitCORE=0"
    server_cnf
    finds 1 "keystore file" error "chown daemon" --user daemon
    expect 2 doctor --user no-such-user
    expect 1 doctor --server-config /not/there.cnf
}

cipher_of_key_1() {
    local cipher
    server_cnf
    for cipher in aes-ctr aes256-ctr; do
        expect 0 key rotate 1 --cipher "$cipher"
        finds 3 "cipher of key 1" warning "key rotate 1 --cipher aes256-cbc"
    done
    expect 0 key rotate 1 --cipher aes256-cbc
    finds 0 "cipher of key 1" ok aes256-cbc
}

files() {
    server_cnf
    chmod 644 "$STORE"
    finds 1 "keystore file" error "chmod 600"
    chmod 600 "$STORE"
    chmod 770 "$KEYRING/keyring"
    finds 1 "keystore directory" error "chmod go-w"
    chmod 700 "$KEYRING/keyring"
    as_server touch "$STORE.new-x1"
    finds 3 "leftovers" warning "rm "
    rm "$STORE.new-x1"
    as_server touch "$STORE.paused-servers"
    finds 3 "leftovers" warning "migrate --repair"
    rm "$STORE.paused-servers"
    sed -i "s|^datadir.*|datadir = $KEYRING|" "$WORK/server.cnf"
    finds 1 "keystore place" error "data directory"
    server_cnf
    finds 0 "keystore place" ok "outside"
}

pin_findings() {
    server_cnf
    chmod 644 "$KEYRING/pin"
    finds 1 "PIN source" error "chmod"
    chmod 600 "$KEYRING/pin"
    random_hex 8 >"$KEYRING/pin"
    finds 5 "login" error "unguard"
    finds 5 "PIN state" error "unguard"
    equal "not checked" "$(verdict login)" "second login"
    cat "$KEYRING/good-pin" >"$KEYRING/pin"
    finds 3 "PIN state" warning "wrong PIN"
    finds 0 "PIN state" ok "not guarded"
}

token_findings() {
    server_cnf
    finds 1 "module" error "/not/there.so" --module /not/there.so
    finds 4 "token" error "token list" --token-uri pkcs11:token=nothing
    equal "not checked" "$(verdict "keystore integrity")" "integrity without a token"
}

keystore_findings() {
    server_cnf
    cp -p "$STORE" "$WORK/good"
    truncate -s 5000 "$STORE"
    finds 6 "keystore integrity" error "$STORE"
    rm "$STORE"
    finds 1 "keystore file" error "backup"
    cp -p "$WORK/good" "$STORE"
    p11tool --delete-object --type secrkey --id \
        "$(tool master list --json | jq -r '.master_keys[0].id')" >/dev/null 2>&1
    finds 1 "master key" error ""
}

configuration() {
    server_cnf
    printf '[keyring]\nnaem = x\n' >"$WORK/bad.conf"
    finds 1 "configuration" error "naem" --config "$WORK/bad.conf"
    equal "not checked" "$(verdict token)" "token without a configuration"
}

# As a rotation leaves one that is killed between making the key and naming it.
unused_keys() {
    server_cnf
    p11tool --keygen --key-type AES:32 --id 0f0f --label "p11keyring:test:99" --sensitive --private \
        --usage-decrypt >/dev/null 2>&1
    finds 3 "unused keys" warning "p11keyring:test:99"
    p11tool --delete-object --type secrkey --id 0f0f >/dev/null 2>&1
    finds 0 "unused keys" ok ""
}

check "all is well" all_is_well
check "the server's option files are judged" server_findings
check "a cipher that key 1 should not have is told" cipher_of_key_1
check "owners, modes, leftovers and the keystore's place are judged" files
check "the PIN is judged and not tried when it should not be" pin_findings
check "module and token are judged" token_findings
check "keys in the token that the keystore does not name are told" unused_keys
check "a bad configuration is the first finding" configuration
check "keystore and master key are judged" keystore_findings
finish
