#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Run as root the tool acts as the keystore's owner, so that a server is never locked out.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
((EUID == 0)) || die "these tests run as root"
TOOL=$WORK/bin/p11keyring

as_root() { "$TOOL" "$@"; }

nothing_of_roots() {
    equal "" "$(find "$KEYRING/keyring" "$KEYRING/tokens" -user root)" "files of root"
}

set_up() { # as root from the first command on
    token_up "$1"
    find "$KEYRING/tokens" -mindepth 1 -delete
    as_root token init --label "$1" --so-pin-source "file:$KEYRING/so-pin"
}

made_by_root_used_by_server() {
    set_up root
    as_root master create
    as_root key create 1
    as_root key rotate 1
    as_root status
    nothing_of_roots
    expect 0 key list
    expect 0 key create 2
    expect 0 doctor --user nobody
    as_root key list
    nothing_of_roots
}

# A configuration, a PIN file and a key file that root alone can read.
root_reads_what_is_roots() {
    keyring_use root
    mkdir "$WORK/secret"
    chmod 700 "$WORK/secret"
    cp "$KEYRING/pin" "$WORK/secret/pin"
    chmod 600 "$WORK/secret/pin"
    random_hex 32 >"$WORK/secret/key"
    chmod 600 "$WORK/secret/key"
    sed "s|^pin-source = .*|pin-source = file:$WORK/secret/pin|" "$P11KEYRING_CONF" \
        >"$WORK/secret/conf"
    as_root key create 30 --config "$WORK/secret/conf" --import-hex-from "$WORK/secret/key"
    nothing_of_roots
    expect 1 key list --config "$WORK/secret/conf"
    # doctor speaks for the server, which cannot read them.
    fails_with 3 as_root doctor --config "$WORK/secret/conf" >"$OUT"
    contains "$OUT" "can be read by root, but not by the keystore's owner"
}

killed_root_leaves_nothing_of_roots() {
    local i
    keyring_use root
    for i in {1..12}; do
        "$BUILD/bin/kill_cli" "$KEYRING/keyring" 3000 "$TOOL" key create $((100 + i)) >/dev/null 2>&1
        nothing_of_roots
        expect 0 key list
    done
}

wrong_pin_as_root() {
    keyring_use root
    cp -p "$KEYRING/pin" "$KEYRING/good-pin"
    random_hex 8 >"$KEYRING/pin"
    fails_with 5 as_root key create 50
    nothing_of_roots
    expect 5 key create 50
    cat "$KEYRING/good-pin" >"$KEYRING/pin"
    expect 0 key create 50
}

check "what root makes, the server's user reads and writes" made_by_root_used_by_server
check "root's files are read, the server's are written" root_reads_what_is_roots
check "a refused PIN guards root and server alike" wrong_pin_as_root
check "a killed root leaves nothing of root's" killed_root_leaves_nothing_of_roots
finish
