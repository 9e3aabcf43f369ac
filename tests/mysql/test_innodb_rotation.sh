#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# ALTER INSTANCE ROTATE INNODB MASTER KEY: under load, against statements that it excludes, killed at
# any moment, and on a replica.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

TABLES=${P11K_TABLES:-60}
CRASHES=${P11K_CRASHES:-4}
ROTATE="ALTER INSTANCE ROTATE INNODB MASTER KEY"

newest_key() { # NAME
    keyring_ids "$1" 'INNODBKey%' | sed 's/.*-//' | sort -n | tail -n 1
}

# Every header names a key that is there; after a stop or a recovery, the newest.
headers_are_at() { # NAME NUMBER
    equal "$2" "$(header_keys "$1")" "master keys in the headers"
}

server_with_tables() {
    server_new r
    server_keyring r
    server_start r
    many_tables r one "$TABLES"
    load_table r big 2000 row "ENCRYPTION='Y'"
    checksums r >"$WORK/sums"
}

rotated() {
    sql r "$ROTATE"
    equal 2 "$(newest_key r)" "newest master key"
    server_stop r
    headers_are_at r 2
    server_start r
    same_checksums r "$WORK/sums"
}

write_rows() { # HOW-MANY
    local i
    {
        echo "CREATE TABLE t.written (id INT PRIMARY KEY, b TEXT) ENCRYPTION='Y';"
        for ((i = 0; i < $1; i++)); do
            echo "INSERT INTO t.written VALUES ($i, REPEAT('x', 500));
                UPDATE t.written SET b = CONCAT(b, 'y') WHERE id = $i / 2; DO SLEEP(0.001);"
        done
    } | sql r
}

under_dml() {
    local i writer before
    before=$(newest_key r)
    background write_rows 500
    writer=$background_pid
    for i in 1 2 3 4 5; do
        sql r "$ROTATE"
        sleep 0.1
    done
    wait "$writer"
    equal $((before + i)) "$(newest_key r)" "newest master key"
    equal 500 "$(sql r 'SELECT COUNT(*) FROM t.written')" "rows written during rotations"
    sql r "DROP TABLE t.written"
    same_checksums r "$WORK/sums"
}

in_state() { # NAME STATEMENT-LIKE STATE-LIKE
    [[ $(sql "$1" "SELECT COUNT(*) FROM information_schema.processlist
        WHERE info LIKE '$2' AND state LIKE '$3'") == 1 ]]
}

# ALTER TABLE is held by a reader of the table; a rotation waits for the ALTER TABLE.
waits_for_alter_table() {
    local before
    before=$(newest_key r)
    background sql r "BEGIN; SELECT COUNT(*) FROM t.big; DO SLEEP(60)"
    eventually 10 in_state r 'DO SLEEP%' 'User sleep'
    background sql r "ALTER TABLE t.big ENCRYPTION='N'"
    eventually 10 in_state r 'ALTER TABLE%' 'Waiting for table metadata lock'
    background sql r "$ROTATE"
    local rotation=$background_pid
    eventually 10 in_state r 'ALTER INSTANCE%' 'Waiting for backup lock'
    equal "$before" "$(newest_key r)" "newest master key while the rotation waits"
    sql r "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist
        WHERE info LIKE 'DO SLEEP%'" | sql r
    wait "$rotation"
    equal $((before + 1)) "$(newest_key r)" "newest master key"
    equal N "$(encryption_of r t/big)" "the table"
    sql r "ALTER TABLE t.big ENCRYPTION='Y'"
    same_checksums r "$WORK/sums"
}

create_and_drop() { # WHICH HOW-MANY
    local i
    for ((i = 0; i < $2; i++)); do
        echo "CREATE TABLE t.p$1 (id INT PRIMARY KEY) ENCRYPTION='Y'; INSERT INTO t.p$1 VALUES ($i);
            ALTER TABLE t.p$1 ENCRYPTION='N'; ALTER TABLE t.p$1 ENCRYPTION='Y'; DROP TABLE t.p$1;"
    done | sql r
}

with_parallel_ddl() {
    local pids=() i before
    before=$(newest_key r)
    for i in 1 2 3; do
        background create_and_drop "$i" 8
        pids+=("$background_pid")
    done
    for i in 1 2 3 4 5; do
        sql r "$ROTATE"
    done
    for i in "${pids[@]}"; do
        wait "$i"
    done
    equal $((before + 5)) "$(newest_key r)" "newest master key"
    same_checksums r "$WORK/sums"
}

# Milliseconds of one rotation.
rotation_takes() {
    local start=$EPOCHREALTIME
    sql r "$ROTATE"
    echo $(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
}

# The keyring's files have changed since $WORK/before-rotation.
key_is_made() {
    [[ -n $(find "$(keyring_dir r)" -newer "$WORK/before-rotation") ]]
}

# By turns: some time after the statement was sent, and some time after the new key was made.
kill_during_rotation() { # WHICH MS
    local i
    touch "$WORK/before-rotation"
    background sql r "$ROTATE" 2>/dev/null
    if (($1 % 2)); then
        for ((i = 0; i < 200; i++)); do
            key_is_made && break
        done
        sleep "0.00$((RANDOM % 5))"
    else
        pause $(($2 * $1 / CRASHES))
    fi
    server_kill r
}

killed_at_any_moment() {
    local n ms made=0 before newest
    ms=$(rotation_takes)
    for ((n = 0; n < CRASHES; n++)); do
        before=$(newest_key r)
        kill_during_rotation "$n" "$ms"
        server_start r
        same_checksums r "$WORK/sums"
        made=$((made + $(newest_key r) - before))
    done
    echo "a rotation takes $ms ms; of $CRASHES killed ones $made had made their key"
    server_stop r
    rolled_forward
    sql r "$ROTATE"
    newest=$(newest_key r)
    server_stop r
    headers_are_at r "$newest"
    server_start r
    same_checksums r "$WORK/sums"
}

# No header is behind the others. A rotation begins with its record in the redo log: a kill between
# the new key and that record leaves the headers at one before, and the key to the next rotation.
rolled_forward() {
    local seen
    seen=$(header_keys r)
    server_start r
    [[ $seen =~ ^[0-9]+$ ]] || die "different master keys in the headers: $seen"
    keyring_ids r | grep -q -- "-$seen\$" || die "no key $seen in the keyring"
    same_checksums r "$WORK/sums"
}

replica_has_its_own() {
    local name
    for name in source replica; do
        server_new "$name"
        server_keyring "$name"
        server_networking "$name"
        server_start "$name"
    done
    allow_peers source
    replicate replica source
    many_tables source one 5
    sql source "$ROTATE; INSERT INTO t.one1 VALUES (9, 'after the rotation')"
    caught_up replica source
    equal "2 2" "$(newest_key source) $(newest_key replica)" "newest keys of source and replica"
    equal 0 "$(keyring_ids replica | grep -c "$(sql source 'SELECT @@server_uuid')")" \
        "keys of the source in the replica's keyring"
    equal "$(checksums source)" "$(checksums replica)" "checksums"
    server_kill replica
    server_start replica
    sql replica "$ROTATE; START REPLICA"
    sql source "INSERT INTO t.one1 VALUES (10, 'after another')"
    caught_up replica source
    equal "$(checksums source)" "$(checksums replica)" "checksums after kill -9"
}

for KIND in $KINDS; do
    check "$KIND: a server with $TABLES encrypted tables" server_with_tables
    check "$KIND: every header is rewritten under the new master key" rotated
    check "$KIND: rotations while rows are written" under_dml
    check "$KIND: a rotation waits for ALTER TABLE ... ENCRYPTION" waits_for_alter_table
    check "$KIND: rotations while encrypted tables are made and dropped" with_parallel_ddl
    check "$KIND: kill -9 during a rotation, $CRASHES times: rolled forward" killed_at_any_moment
    check "$KIND: a replica rotates its own key when the source does" replica_has_its_own
    servers_remove r source replica
done
finish
