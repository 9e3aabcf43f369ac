#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# A server that may restart while its token is away: with the keys that it had, until the token is
# back; and not when the PIN was refused or the keystore has changed.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

sealed() { [[ -s $KEYRING/keyring/start.cache ]]; }
start_cache_is() { [[ $(status_of s pkcs11_key_management_start_cache) == "$1" ]]; }

server_that_seals() {
    allow_start_cache
    server_new s
    server_keyring s on
    server_start s
    load_table s one 1000 row
    checksums s >"$WORK/sums"
    server_stop s
    rm -f "$KEYRING/keyring/start.cache" # that of a server whose keys were still to be made
    server_start s
    eventually 20 sealed
    start_cache_is "not served"
}

restarts_without_token() {
    token_away
    server_stop s
    server_start s
    start_cache_is served
    contains "$(server_log s)" "starting from the start cache"
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
    load_table s away 500 row "ENCRYPTED=YES"
    server_kill s
    server_start s
    checksums s >"$WORK/sums"
}

token_confirms() {
    token_back
    eventually 20 start_cache_is "not served"
    tool key rotate 1 >/dev/null
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
}

changed_keystore_refuses() {
    server_stop s
    tool key rotate 1 >/dev/null # no server takes note of it
    token_away
    server_refuses s "is for generation"
    token_back
    server_start s
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
}

refused_pin_ends_it() {
    server_stop s
    cp -p "$KEYRING/pin" "$WORK/pin"
    random_hex 4 >"$KEYRING/pin"
    server_refuses s "refused the PIN"
    contains "$(server_log s)" "start.cache was removed"
    token_away
    server_refuses s "no token matches"
    token_back
    cat "$WORK/pin" >"$KEYRING/pin"
    server_start s
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
    server_stop s
}

keyring_up keyring
check "a server seals its keys for a start without the token" server_that_seals
check "token away: restarts, also after kill -9, read and write everything" restarts_without_token
check "token back: it confirms, and keys are made again" token_confirms
check "a keystore that has changed since is refused without the token" changed_keystore_refuses
check "after a refused PIN the file is gone" refused_pin_ends_it
finish
