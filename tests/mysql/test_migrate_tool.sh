#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# p11keyring migrate with the server running: from its component_keyring_file to ours in both modes,
# and in wrapped mode back; the data can be read after each.
# shellcheck source=tests/mysql/migrate.sh
source "$(dirname "$0")/migrate.sh"

online() { # EXIT-CODE ARGUMENT...
    printf '[client]\nsocket = %s\nuser = root\n' "$WORK/m/socket" >"$WORK/client.cnf"
    chmod 600 "$WORK/client.cnf"
    fails_with "$1" "$WORK/bin/p11keyring" migrate --server "$WORK/client.cnf" --json "${@:2}" \
        >"$WORK/out"
    equal 1 "$(sql m "SELECT @@GLOBAL.keyring_operations")" "keyring_operations"
    jq -e '.servers[0].state == "paused"' "$WORK/out" >/dev/null || die "$(<"$WORK/out")"
}

tool_to_ours() { # MODE
    local keys=$WORK/m/keyring/keys before
    KIND=$1 server_keyring m
    before=$(sha256sum <"$keys")
    online 3 --from "component-keyring-file:$keys" --to p11keyring # others can read it: a warning
    equal "$before" "$(sha256sum <"$keys")" "source"
    server_stop m
    server_start m
    rows_and_keys "$(<"$WORK/keys")"
}

tool_back() {
    local keys=$WORK/m/keyring/keys
    rm -f "$keys"
    online 3 --from p11keyring --to "component-keyring-file:$keys" --allow-keys-in-the-clear \
        --owner "$RUN_AS"
    server_stop m
    server_manifest m component_keyring_file
    server_start m
    rows_and_keys "$(<"$WORK/keys")"
    sql m "ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER INSTANCE ROTATE BINLOG MASTER KEY"
}

# What is in the token stays there, and is named.
tool_not_out() {
    fails_with 7 "$WORK/bin/p11keyring" migrate --from p11keyring --allow-keys-in-the-clear \
        --to "component-keyring-file:$WORK/m/keyring/out" --owner "$RUN_AS" 2>"$WORK/err"
    contains "$WORK/err" "it is in the token, which does not give it out"
    [[ ! -e $WORK/m/keyring/out ]] || die "something was written"
}

for mode in token wrapped; do
    check "$mode: tables and binary logs under component_keyring_file" file_keyring
    check "$mode: copied to ours while the server runs" tool_to_ours "$mode"
    check "$mode: the next master keys are of this mode" rotated "${mode/token/token-ecb}"
    if [[ $mode == token ]]; then
        check "$mode: what is in the token is not copied" tool_not_out
    else
        check "$mode: copied back while the server runs" tool_back
    fi
    servers_remove m
done
finish
