#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Encrypted binary and relay logs: switched on and off, ALTER INSTANCE ROTATE BINLOG MASTER KEY with
# its errors, killed at any moment, at start-up, under a new server UUID, and on several channels.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

CRASHES=${P11K_CRASHES:-4}
FILES=${P11K_FILES:-30}
ROTATE="ALTER INSTANCE ROTATE BINLOG MASTER KEY"
MARKER=marker-$(random_hex 8)

# The numbers of binary log keys in the keyring, in one line.
keys_in_keyring() { # NAME
    keyring_ids "$1" 'MySQLReplicationKey%' | grep -oP '_\K[0-9]+$' | sort -n | paste -sd ' '
}

# The different numbers in the headers of the logs whose names begin with PREFIX, in one line.
keys_in_headers() { # NAME [PREFIX]
    local file
    for file in "$WORK/$1/data/${2:-binlog.0}"*; do
        [[ $file == *.index ]] || log_key "$file"
    done | sed 's/.*_//' | sort -nu | paste -sd ' '
}

write_marker() { # NAME
    sql "$1" "CREATE DATABASE IF NOT EXISTS t; CREATE TABLE IF NOT EXISTS t.x (txt TEXT);
        INSERT INTO t.x VALUES ('$MARKER')"
}

new_logs() { # NAME HOW-MANY
    local i
    for ((i = 0; i < $2; i++)); do
        echo "INSERT INTO t.x VALUES ('$MARKER $i'); FLUSH BINARY LOGS;"
    done | sql "$1"
}

# Every file can be read through the server, to the end.
all_readable() { # NAME
    local file
    sql "$1" "SHOW BINARY LOGS" >"$WORK/$1/logs"
    while read -r file _; do
        sql "$1" "SHOW BINLOG EVENTS IN '$file'" >"$WORK/$1/events" || die "$file is not readable"
        [[ $(wc -l <"$WORK/$1/events") -ge 2 ]] || die "$file has no events"
    done <"$WORK/$1/logs"
}

on_and_off() {
    server_new b
    server_keyring b
    server_start b
    write_marker b
    sql b "SET GLOBAL binlog_encryption = ON"
    write_marker b
    sql b "SET GLOBAL binlog_encryption = OFF"
    write_marker b
    sql b "SET PERSIST binlog_encryption = ON"
    equal "No Yes No Yes" "$(sql b 'SHOW BINARY LOGS' | cut -f 3 | paste -sd ' ')" "Encrypted"
    equal "data/binlog.000001 data/binlog.000003" \
        "$(cd "$WORK/b" && grep -lF "$MARKER" data/binlog.0* | paste -sd ' ')" "files with the marker"
    equal 1 "$(keys_in_keyring b)" "keys"
    all_readable b
    in_root mysqlbinlog --no-defaults --socket="$WORK/b/socket" --user=root -R --verbose \
        binlog.000002 >"$WORK/b/binlog.txt"
    contains "$WORK/b/binlog.txt" "$MARKER"
}

refused_while_off() {
    sql b "SET GLOBAL binlog_encryption = OFF"
    sql_fails b "Cannot rotate binary log master key when 'binlog-encryption' is off" "$ROTATE"
    sql b "SET GLOBAL binlog_encryption = ON"
    equal 1 "$(keys_in_keyring b)" "keys"
}

rotated() {
    new_logs b 3
    sql b "$ROTATE"
    equal 2 "$(keys_in_headers b)" "keys in headers"
    equal 2 "$(keys_in_keyring b)" "keys in the keyring"
    all_readable b
    server_stop b
    server_start b
    write_marker b
    all_readable b
    equal 2 "$(keys_in_headers b)" "keys in headers after a restart"
}

no_effect_without_a_keyring() {
    chmod 500 "$(keyring_dir b)"
    sql_fails b "The statement had no effect: the old binary log master key is still in use" "$ROTATE"
    chmod 700 "$(keyring_dir b)"
    equal 2 "$(keys_in_headers b)" "keys in headers"
    write_marker b
    sql b "$ROTATE"
    equal "3 3" "$(keys_in_headers b) $(keys_in_keyring b)" "keys"
}

unreadable_file_keeps_its_key() {
    local file=$WORK/b/data/binlog.000002
    chmod 000 "$file"
    sql_fails b "There may still exist binary or relay log files using the previous" "$ROTATE"
    chmod 640 "$file"
    equal "3 4" "$(keys_in_keyring b)" "keys after a rotation with an unreadable file"
    all_readable b
    sql b "$ROTATE"
    equal "5 5" "$(keys_in_headers b) $(keys_in_keyring b)" "keys"
    all_readable b
}

killed_at_any_moment() {
    local n start ms
    new_logs b "$FILES"
    start=$EPOCHREALTIME
    sql b "$ROTATE"
    ms=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
    for ((n = 0; n < CRASHES; n++)); do
        background sql b "$ROTATE" 2>/dev/null
        pause $((10 + ms * n / CRASHES))
        server_kill b
        echo "killed with headers at $(keys_in_headers b)"
        server_start b
        write_marker b
        all_readable b
    done
    sql b "$ROTATE"
    equal "$(keys_in_headers b)" "$(keys_in_keyring b)" "keys in headers and keyring"
    all_readable b
}

at_startup() {
    local before
    before=$(keys_in_headers b)
    server_stop b
    server_start b --binlog-rotate-encryption-master-key-at-startup=ON
    write_marker b
    equal "$before $((before + 1))" "$(keys_in_headers b)" "keys in headers"
    equal "$before $((before + 1))" "$(keys_in_keyring b)" "keys in the keyring"
    all_readable b
}

new_server_uuid() {
    local before old
    sql b "$ROTATE"
    before=$(keys_in_keyring b)
    old=$(sql b "SELECT @@server_uuid")
    server_stop b
    rm "$WORK/b/data/auto.cnf"
    server_start b
    write_marker b
    sql b "$ROTATE"
    contains <(keyring_ids b) "MySQLReplicationKey_${old}_$before"
    all_readable b
}

relay_logs_on_channels() {
    local name
    servers_remove b
    for name in one two replica; do
        server_new "$name"
        server_keyring "$name"
        server_networking "$name"
        server_options "$name" "binlog-encryption = ON" "relay-log = $WORK/$name/data/relay"
        server_start "$name"
    done
    for name in one two; do
        allow_peers "$name"
        replicate replica "$name" "$name"
        sql "$name" "CREATE DATABASE $name; CREATE TABLE $name.x (txt TEXT);
            INSERT INTO $name.x VALUES ('$MARKER')"
        caught_up replica "$name"
    done
    equal 1 "$(keys_in_headers replica relay-one)" "key of the relay logs of channel one"
    sql replica "STOP REPLICA SQL_THREAD FOR CHANNEL 'one'"
    sql one "INSERT INTO one.x VALUES ('$MARKER waits in the relay log')"
    eventually 10 relay_log_has_it
    sql replica "$ROTATE"
    equal "2 2 2" "$(keys_in_headers replica relay-one) $(keys_in_headers replica relay-two) $(
        keys_in_headers replica)" "keys in the headers of two channels and the binary log"
    equal 2 "$(keys_in_keyring replica)" "keys in the replica's keyring"
    sql replica "START REPLICA SQL_THREAD FOR CHANNEL 'one'"
    caught_up replica one
    equal "2 1" "$(sql replica "SELECT (SELECT COUNT(*) FROM one.x), (SELECT COUNT(*) FROM two.x)" |
        tr '\t' ' ')" "rows that were replicated"
    no_plaintext_in_logs
}

relay_log_has_it() {
    local received
    received=$(sql replica "SELECT received_transaction_set FROM
        performance_schema.replication_connection_status WHERE channel_name = 'one'")
    [[ $(sql one "SELECT GTID_SUBSET(@@GLOBAL.gtid_executed, '${received//\\n/}')") == 1 ]]
}

no_plaintext_in_logs() {
    local name
    for name in one two replica; do
        ! grep -laF "$MARKER" "$WORK/$name/data"/{binlog,relay}* || die "readable"
    done
}

# What waits in a relay log is read from the file, and damage of it is found.
relay_logs_without_a_server() {
    local log
    sql replica "STOP REPLICA SQL_THREAD FOR CHANNEL 'one'"
    sql one "INSERT INTO one.x VALUES ('$MARKER is still in the relay log')"
    eventually 10 relay_log_has_it
    server_stop replica
    equal "mysql-binlog-encrypted MySQLReplicationKey_$(server_uuid replica)_2 yes" \
        "$(tool inspect --json "$WORK/replica/data"/relay-one.0* | jq -r '.files[] |
            [.kind, .needs[0].key, .needs[0].here] | join(" ")' | sort -u)" "kind and key"
    tool verify "$WORK/replica/data"/relay-{one,two}.0* >"$WORK/out" || die "$(<"$WORK/out")"
    for log in "$WORK/replica/data"/relay-one.0*; do
        tool decrypt "$log" 2>/dev/null >"$WORK/replica/tmp/clear"
        in_root mysqlbinlog --no-defaults --verbose "$WORK/replica/tmp/clear"
    done >"$WORK/events"
    contains "$WORK/events" "$MARKER is still in the relay log"
    cp "$log" "$WORK/replica/tmp/relay.000099"
    printf '\xa5\x5a' | dd of="$WORK/replica/tmp/relay.000099" bs=1 conv=notrunc status=none \
        seek=$(($(stat -c %s "$log") - 40))
    own "$WORK/replica/tmp"
    fails_with 6 tool verify "$WORK/replica/tmp/relay.000099" >"$WORK/out"
    grep -qE "event [0-9]+: " "$WORK/out" || die "no event is named: $(<"$WORK/out")"
}

server_uuid() { sed -n 's/^server-uuid=//p' "$WORK/$1/data/auto.cnf"; }

for KIND in $KINDS; do
    check "$KIND: binary log encryption is switched on and off" on_and_off
    check "$KIND: the rotation is refused while it is off" refused_while_off
    check "$KIND: a rotation rewrites every header and removes the old key" rotated
    check "$KIND: an error and no effect while the keyring cannot be written" \
        no_effect_without_a_keyring
    check "$KIND: an unreadable old file keeps its key" unreadable_file_keeps_its_key
    check "$KIND: kill -9 during a rotation, $CRASHES times, then the statement again" \
        killed_at_any_moment
    check "$KIND: rotation at start-up leaves old files and their key" at_startup
    check "$KIND: a new server UUID deletes nothing of the old one" new_server_uuid
    check "$KIND: relay logs of two channels on a replica" relay_logs_on_channels
    check "$KIND: relay logs without a server" relay_logs_without_a_server
    servers_remove b one two replica
done
finish
