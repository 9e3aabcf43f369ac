#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# A cold copy of a data directory goes to another server, whose keyring is in another token: rekey
# --header-only --to-config seals its keys there, and the first token is not needed any more.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

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

# What has a sealed key: tables, a general tablespace, the system's, redo, undo and binary logs, the
# last of different master keys.
a_server_with_everything() {
    server_new a
    server_options a "log-bin = binlog" # the index of its logs has no path of another server
    server_keyring a
    server_start a
    sql a "SET PERSIST default_table_encryption = ON; SET PERSIST innodb_redo_log_encrypt = ON;
        SET PERSIST innodb_undo_log_encrypt = ON; SET PERSIST binlog_encryption = ON;
        ALTER TABLESPACE mysql ENCRYPTION='Y'"
    load_table a one "$ROWS" row
    load_table a zipped "$ROWS" row "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"
    sql a "CREATE TABLESPACE general ADD DATAFILE 'general.ibd';
        CREATE TABLE t.in_general TABLESPACE general AS SELECT * FROM t.one;
        ALTER INSTANCE ROTATE INNODB MASTER KEY; FLUSH BINARY LOGS;
        CREATE TABLE t.later AS SELECT * FROM t.one; FLUSH BINARY LOGS"
    checksums a >"$WORK/sums"
    sql a "SELECT @@server_uuid" >"$WORK/a/uuid"
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

# The names of the master keys in the headers of all files.
needed_keys() { tool inspect --json "$WORK/b/data" | jq -r '.files[].needs[].key' | sort -u; }

the_copy_is_sealed_there() {
    local b
    b=$(<"$WORK/b/uuid")
    cp -p "$WORK/b/data/auto.cnf" "$WORK/b/"
    rm -r "$WORK/b/data"
    cp -a "$WORK/a/data" "$WORK/b/data"
    mv "$WORK/b/auto.cnf" "$WORK/b/data/"
    needed_keys | grep -q "$(<"$WORK/a/uuid")" || die "no file needs a key of the first server"
    tool rekey --json --header-only --to-config "$WORK/b.keyring/p11keyring.conf" \
        --innodb-key "INNODBKey-$b-1" --binlog-key "MySQLReplicationKey_${b}_1" "$WORK/b/data" \
        >"$WORK/rekey.json"
    equal 0 "$(jq .failed "$WORK/rekey.json")" "failures"
    equal "INNODBKey-$b-1
MySQLReplicationKey_${b}_1" "$(needed_keys)" "keys that the copy needs"
    fails_with 1 tool verify "$WORK/b/data/t" >/dev/null
    P11KEYRING_CONF=$WORK/b.keyring/p11keyring.conf
    tool verify --ignore-unknown "$WORK/b/data/t" "$WORK/b/data"/{mysql.ibd,undo_001,binlog.00*} \
        >/dev/null
}

# Of each binary log the events, as the server reads them.
logs_are_read() { # NAME
    local log
    for log in $(sql "$1" "SHOW BINARY LOGS" | cut -f 1); do
        sql "$1" "SHOW BINLOG EVENTS IN '$log'" >"$WORK/events"
        [[ -s $WORK/events ]] || die "$log has no events"
    done
    sql "$1" "SHOW BINLOG EVENTS IN 'binlog.000002'" >"$WORK/events"
    contains "$WORK/events" "CREATE TABLE"
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

for KIND in $KINDS; do
    check "$KIND: a server with everything encrypted" a_server_with_everything
    check "$KIND: another server, whose keyring is in another token" another_server_with_its_token
    check "$KIND: a cold copy is sealed by the other token" the_copy_is_sealed_there
    check "$KIND: its server goes on and rotates, without the first token" \
        the_server_needs_the_first_token_no_more
    servers_remove a b
done
finish
