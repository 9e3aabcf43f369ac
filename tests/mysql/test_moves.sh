#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# A copy of a data directory goes to another server, whose keyring is in another token: rekey
# --header-only --to-config seals its keys there, and the first token is not needed any more. A copy
# that has still to be recovered goes as well, where recovery writes no header itself.
# shellcheck source=tests/lib/mysql_copies.sh
source "$(dirname "$0")/../lib/mysql_copies.sh"

# shellcheck disable=SC2034 # for server_to_copy
ROWS=${P11K_ROWS:-1000}

# A keyring in a token of its own; both are seen by one process, as rekey must see them.
keyring_in_another_token() { # NAME
    local dir=$WORK/$1
    mkdir -p "$dir/keyring"
    cp "$KEYRING"/{softhsm2.conf,pin,so-pin} "$dir/"
    write_conf "$dir/p11keyring.conf" "$1" "$dir" "$SOFTHSM_MODULE"
    sed -i 's/^name = .*/name = target/' "$dir/p11keyring.conf"
    own "$dir"
    keyring_use "$1"
    tool token init --label "$1" --so-pin-source "file:$dir/so-pin" >/dev/null
    tool master create >/dev/null
}

a_server_with_everything() {
    server_to_copy a
    checksums a >"$WORK/sums"
    server_stop a
}

# Its keyring has master keys, as the server itself made them.
another_server_with_its_token() {
    keyring_in_another_token b.keyring
    server_new b
    server_options b "log-bin = binlog"
    server_component b "$KIND"
    server_start b
    sql b "CREATE TABLE mysql.x (id INT) ENCRYPTION='Y'; SET PERSIST binlog_encryption = ON"
    sql b "SELECT @@server_uuid" >"$WORK/b/uuid"
    server_stop b
    keyring_use a.keyring
}

# How many files of the copy need a key of the first server. (3: some are not what they should be.)
files_of_a() {
    tool inspect --json "$WORK/b/data" >"$WORK/inspected" || (($? == 3))
    jq -r '.files[].needs[].key' "$WORK/inspected" | grep -c -- "$(<"$WORK/a/uuid")" || true
}

# With the other server's own UUID.
copy_to_b() { # DIR
    [[ -e $WORK/b/auto.cnf ]] || cp -p "$WORK/b/data/auto.cnf" "$WORK/b/"
    put_copy b "$1"
    cp -p "$WORK/b/auto.cnf" "$WORK/b/data/"
}

seal_copy() {
    local b
    b=$(<"$WORK/b/uuid")
    tool rekey --json --header-only --to-config "$WORK/b.keyring/p11keyring.conf" \
        --innodb-key "INNODBKey-$b-1" --binlog-key "MySQLReplicationKey_${b}_1" "$WORK/b/data" \
        >"$WORK/rekey.json"
}

copy_is_sealed() {
    [[ $(files_of_a) -ge 8 ]] || die "hardly any file needs a key of the first server"
    seal_copy
    equal 0 "$(jq .failed "$WORK/rekey.json")" "failures"
    equal 0 "$(files_of_a)" "files that need a key of the first server"
}

starts_with_the_copy() {
    server_start b
    same_checksums b "$WORK/sums"
    server_stop b
}

# --- copies that have to be recovered -----------------------------------------------------------

# Nothing was made or rotated since the last checkpoint, which a start makes.
a_crash_is_recovered_there() {
    server_start a
    sql a "UPDATE t.one SET n = n + 1; DELETE FROM t.later WHERE id % 3 = 0"
    checksums a >"$WORK/sums"
    server_kill a
    copy_to_b "$WORK/a/data"
    copy_is_sealed
    starts_with_the_copy
}

headers_to_recover_are_refused() {
    local before
    server_start a
    sql a "ALTER INSTANCE ROTATE INNODB MASTER KEY"
    checksums a >"$WORK/sums"
    server_kill a
    copy_to_b "$WORK/a/data"
    before=$(cd "$WORK/b/data" && sha256sum t/*.ibd ./*.ibd)
    fails_with 7 seal_copy 2>"$WORK/err"
    contains "$WORK/err" "its redo log has encryption headers"
    equal "$before" "$(cd "$WORK/b/data" && sha256sum t/*.ibd ./*.ibd)" "files after a refusal"
}

# A clone is recovered from the log of what the donor did meanwhile: here master keys change, so
# that the log has headers. The key of that log stands in it in the clear, but for its first file.
what_clone_made_is_sealed_before_its_first_start() {
    own "$WORK"
    server_start a
    (for _ in 1 2 3; do
        sql a "ALTER INSTANCE ROTATE INNODB MASTER KEY; UPDATE t.one SET n = n"
    done) &
    sql a "CLONE LOCAL DATA DIRECTORY = '$WORK/clone'"
    wait
    copy_to_b "$WORK/clone"
    copy_is_sealed
    lacks "$WORK/inspected" "stands in the clear"
    starts_with_the_copy
    server_stop a
}

# --- a cold copy --------------------------------------------------------------------------------

the_cold_copy_is_sealed_there() {
    copy_to_b "$WORK/a/data"
    copy_is_sealed
    fails_with 1 tool verify "$WORK/b/data/t" >/dev/null
    P11KEYRING_CONF=$WORK/b.keyring/p11keyring.conf
    tool verify --ignore-unknown "$WORK/b/data/t" "$WORK/b/data"/{mysql.ibd,undo_001,binlog.00*} \
        >/dev/null
}

# The first token and its keyring are gone: a server that asks for them does not start.
the_server_needs_the_first_token_no_more() {
    mv "$WORK/a.keyring/keyring" "$WORK/a.keyring/gone"
    server_start b
    same_checksums b "$WORK/sums"
    logs_are_read b
    sql b "UPDATE t.one SET n = n + 1; ALTER INSTANCE ROTATE INNODB MASTER KEY;
        ALTER INSTANCE ROTATE BINLOG MASTER KEY; CREATE TABLE t.new AS SELECT * FROM t.later"
    checksums b >"$WORK/sums"
    server_kill b
    server_start b
    same_checksums b "$WORK/sums"
    logs_are_read b
    equal 0 "$(keyring_ids b | grep -c "$(<"$WORK/a/uuid")")" "keys of the first server"
}

# Where the keys come from makes no difference here: see test_rekey for each kind of keyring.
for KIND in ${P11K_KEYRINGS:-token}; do
    check "$KIND: a server with everything encrypted" a_server_with_everything
    check "$KIND: another server, whose keyring is in another token" another_server_with_its_token
    check "$KIND: a copy after a crash is sealed and recovers" a_crash_is_recovered_there
    check "$KIND: not where recovery would put headers back" headers_to_recover_are_refused
    check "$KIND: what CLONE made is sealed before its first start" \
        what_clone_made_is_sealed_before_its_first_start
    check "$KIND: a cold copy is sealed by the other token" the_cold_copy_is_sealed_there
    check "$KIND: its server goes on and rotates, without the first token" \
        the_server_needs_the_first_token_no_more
    servers_remove a b
    rm -rf "$WORK/clone"
done
finish
