#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The end of a key version: what a real server's files need is told, an old version goes when none of
# them needs it, not before, and the server reads everything afterwards.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

DATA=$WORK/s/data
EVIDENCE=$WORK/evidence

usage() { # [OPTION...]
    tool usage "$DATA" --ignore-unknown --json "$@" >"$WORK/usage"
}

needed() { # ID VERSION
    jq -r ".keys[] | select(.id == $1 and .version == $2) | .needed" "$WORK/usage"
}

filled_server() {
    keyring_up keyring
    tool key create 20 >/dev/null
    server_new s
    server_keyring s on
    server_start s
    load_table s orders 500 planted-row "ENCRYPTED=YES ENCRYPTION_KEY_ID=20"
    load_table s other 200 planted-row
    sql s "SET GLOBAL innodb_fast_shutdown = 0"
    checksums s >"$WORK/sums"
    server_stop s
}

old_versions_are_needed() {
    usage
    equal "true yes yes" "$(jq -r .complete "$WORK/usage") $(needed 1 1) $(needed 20 1)" "needed"
    tool key rotate 20 >/dev/null
    usage
    equal "yes in use" "$(needed 20 1) $(needed 20 3)" "needed after the rotation"
    mkdir -p "$EVIDENCE"
    own "$EVIDENCE"
    usage -o "$EVIDENCE/before"
    sed -i "s|^\[keyring\]|&\ndata-directories = $DATA|" "$P11KEYRING_CONF"
    fails_with 7 tool key destroy 20:1 --evidence "$EVIDENCE/before" --confirm 20:1 2>"$WORK/err"
    contains "$WORK/err" "1 files still need this key"
}

unneeded_version_goes() {
    server_start s
    sql s "ALTER TABLE t.orders FORCE; SET GLOBAL innodb_fast_shutdown = 0"
    server_stop s
    usage -o "$EVIDENCE/after"
    equal "no yes yes" "$(needed 20 1) $(needed 20 3) $(needed 1 1)" "needed"
    tool key destroy 20:1 --evidence "$EVIDENCE/after" --confirm 20:1
    fails_with 7 tool key destroy 1:1 --evidence "$EVIDENCE/after" --confirm 1:1 2>"$WORK/err"
}

server_reads_everything() {
    server_start s
    checksums s | diff "$WORK/sums" -
    server_stop s
    usage
    equal 0 "$(jq -r .counts.missing "$WORK/usage")" "keys that are missing"
}

# The same files with a keystore from before: what is missing there is said.
missing_keys_are_told() {
    tool usage "$DATA/t" --ignore-unknown --json --keystore "$WORK/none" >"$WORK/usage" 2>"$WORK/err" ||
        true
    equal 3 "$(jq -r '.keys[] | select(.id == 20) | .version' "$WORK/usage")" "version"
    contains "$WORK/err" "which keys are here is not known"
}

check "a server and its tables" filled_server
check "versions that its files need are told, and not destroyed" old_versions_are_needed
check "one that none of them needs is destroyed" unneeded_version_goes
check "the server reads everything afterwards" server_reads_everything
check "without the keystore usage says what is not known" missing_keys_are_told
finish
