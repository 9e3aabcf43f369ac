#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The end of master keys: what a real mysqld's files and an old copy of one need is told; an old
# master key goes when no file needs it, not before; the server reads everything afterwards.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

usage() { # PATH...
    tool usage "$@" --ignore-unknown --json >"$WORK/usage" 2>"$WORK/err" ||
        die "$(<"$WORK/err") $(jq -c .files "$WORK/usage")"
}

needed() { # NAME
    jq -r ".keys[] | select(.key == \"$1\") | .needed" "$WORK/usage"
}

destroy() { # NAME EVIDENCE
    tool key destroy "$1" --evidence "$2" --confirm "$1"
}

# Its first key of tablespaces is an old one, which a copy of a table still needs.
a_server_that_rotated() {
    server_new u
    server_keyring u
    server_start u
    sql u "SET PERSIST default_table_encryption = ON; SET PERSIST binlog_encryption = ON;
        SET PERSIST innodb_redo_log_encrypt = ON; SET PERSIST innodb_undo_log_encrypt = ON;
        ALTER TABLESPACE mysql ENCRYPTION='Y'"
    load_table u one 300 row
    echo "INNODBKey-$(sql u "SELECT @@server_uuid")" >"$WORK/u/key"
    server_stop u
    mkdir -p "$WORK/backup" "$WORK/evidence"
    cp -p "$WORK/u/data/t/one.ibd" "$WORK/backup/"
    own "$WORK/backup" "$WORK/evidence"
    server_start u
    sql u "ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    checksums u >"$WORK/u/sums"
    server_stop u
    sed -i "s|^\[keyring\]|&\ndata-directories = $WORK/u/data:$WORK/backup|" "$P11KEYRING_CONF"
}

old_keys_are_told() {
    local key
    key=$(<"$WORK/u/key")
    usage "$WORK/u/data"
    equal "true no yes" "$(jq -r .complete "$WORK/usage") $(needed "$key-1") $(needed "$key-2")" \
        "what the data directory needs"
    usage "$WORK/u/data" "$WORK/backup"
    equal "true yes yes" "$(jq -r .complete "$WORK/usage") $(needed "$key-1") $(needed "$key-2")" \
        "what the copy needs as well"
    equal 0 "$(jq .counts.missing "$WORK/usage")" "keys that are missing"
}

needed_keys_stay() {
    local key
    key=$(<"$WORK/u/key")
    usage "$WORK/u/data" -o "$WORK/evidence/one"
    usage "$WORK/u/data" "$WORK/backup" -o "$WORK/evidence/both"
    fails_with 7 tool key destroy "$key-1" --confirm "$key-1" 2>"$WORK/err"
    contains "$WORK/err" "nothing shows that no file or backup needs this key"
    fails_with 7 destroy "$key-1" "$WORK/evidence/one" 2>"$WORK/err"
    contains "$WORK/err" "$WORK/backup"
    fails_with 7 destroy "$key-1" "$WORK/evidence/both" 2>"$WORK/err"
    contains "$WORK/err" "1 files still need this key"
    fails_with 7 destroy "$key-2" "$WORK/evidence/both" 2>"$WORK/err"
    tool verify "$WORK/backup/one.ibd" >/dev/null
}

an_old_key_goes() {
    local key
    key=$(<"$WORK/u/key")
    mv "$WORK/backup/one.ibd" "$WORK/evidence/"
    usage "$WORK/u/data" "$WORK/backup" -o "$WORK/evidence/after"
    destroy "$key-1" "$WORK/evidence/after"
    fails_with 1 tool verify "$WORK/evidence/one.ibd" >"$WORK/out"
    contains "$WORK/out" "$key-1"
    server_start u
    same_checksums u "$WORK/u/sums"
    equal "" "$(keyring_ids u "$key-1")" "the old key, as the server sees it"
    sql u "ALTER INSTANCE ROTATE INNODB MASTER KEY"
    server_stop u
}

# The keyring's own: a copy of the keystore from before its rotation needs the old one.
an_old_master_key_goes() {
    local old=p11keyring:test:1
    cp -p "$KEYRING/keyring/test.keystore" "$WORK/backup/"
    tool master rotate >/dev/null
    usage "$WORK/u/data" "$WORK/backup" -o "$WORK/evidence/master"
    fails_with 7 tool master retire "$old" --evidence "$WORK/evidence/master" --confirm "$old" \
        2>"$WORK/err"
    contains "$WORK/err" "1 files still need this key"
    rm "$WORK/backup/test.keystore"
    usage "$WORK/u/data" "$WORK/backup" -o "$WORK/evidence/retire"
    tool master retire "$old" --evidence "$WORK/evidence/retire" --confirm "$old"
    server_start u
    same_checksums u "$WORK/u/sums"
    sql u "ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    server_stop u
    usage "$WORK/u/data"
    equal 0 "$(jq .counts.missing "$WORK/usage")" "keys that are missing"
}

for KIND in $KINDS; do
    check "$KIND: a server that has rotated its master keys" a_server_that_rotated
    check "$KIND: what its files and a copy of one need is told" old_keys_are_told
    check "$KIND: a key that is needed stays, with evidence or without" needed_keys_stay
    check "$KIND: one that nothing needs goes, and the server goes on" an_old_key_goes
    check "$KIND: an old master key of the keyring goes likewise" an_old_master_key_goes
    servers_remove u
    rm -rf "$WORK/backup" "$WORK/evidence"
done
finish
