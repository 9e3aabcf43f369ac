#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Encrypted data goes from one server to another that has its own keyring: transportable tablespaces
# and CLONE. Afterwards nothing at the recipient needs a key of the donor.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

ROWS=${P11K_ROWS:-2000}

two_servers() {
    local name
    for name in donor taker; do
        server_new "$name"
        server_keyring "$name"
        server_networking "$name"
        server_options "$name" "plugin-load-add = mysql_clone.so"
        server_start "$name"
    done
    allow_peers donor
    load_table donor one "$ROWS" row "ENCRYPTION='Y'"
    load_table donor two "$ROWS" row "ENCRYPTION='Y' ROW_FORMAT=COMPRESSED"
    checksums donor >"$WORK/sums"
    sql taker "CREATE TABLESPACE own ENCRYPTION='Y'; DROP TABLESPACE own"
}

# The UUID in a tablespace's encryption header.
header_uuid() { # FILE
    od -An -c -j 10397 -N 36 -w36 "$1" | tr -d ' '
}

empty_tables() { # NAME
    sql "$1" "CREATE DATABASE IF NOT EXISTS t"
    nsenter --target "$(server_pid donor)" --mount --root mysqldump --no-defaults \
        --socket="$WORK/donor/socket" --user=root --no-data --set-gtid-purged=OFF t 2>/dev/null |
        sql "$1" "" --database=t
    sql "$1" "USE t; ALTER TABLE one DISCARD TABLESPACE; ALTER TABLE two DISCARD TABLESPACE"
}

export_tables() {
    mkdir "$WORK/exported"
    {
        echo "USE t; FLUSH TABLES one, two FOR EXPORT; SELECT 'locked'; DO SLEEP(60);"
    } | sql donor "" --unbuffered >"$WORK/export.log" &
    eventually 20 grep -q locked "$WORK/export.log"
    cp "$WORK/donor/data/t"/{one,two}.{ibd,cfg,cfp} "$WORK/exported/"
    sql donor "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist
        WHERE info LIKE 'DO SLEEP%'" | sql donor
    wait || true # its connection was ended
    own "$WORK/exported"
}

imported_elsewhere() {
    export_tables
    empty_tables taker
    cp -p "$WORK/exported"/*.{ibd,cfg} "$WORK/taker/data/t/"
    sql_fails taker "the encryption meta-data file cannot be found" "ALTER TABLE t.one IMPORT TABLESPACE"
    cp -p "$WORK/exported"/*.cfp "$WORK/taker/data/t/"
    sql taker "USE t; ALTER TABLE one IMPORT TABLESPACE; ALTER TABLE two IMPORT TABLESPACE"
    same_checksums taker "$WORK/sums"
    local uuid
    uuid=$(sql taker "SELECT @@server_uuid")
    server_stop taker
    equal "$uuid" "$(header_uuid "$WORK/taker/data/t/one.ibd")" "server UUID in the header"
    server_start taker
    same_checksums taker "$WORK/sums"
}

imported_after_rotations() {
    sql donor "ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER TABLE t.one DISCARD TABLESPACE"
    cp -p "$WORK/exported"/one.* "$WORK/donor/data/t/"
    sql donor "ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER TABLE t.one IMPORT TABLESPACE"
    same_checksums donor "$WORK/sums"
}

# A copy in a folder on the same machine is opened with the donor's keyring.
cloned_locally() {
    own "$WORK"
    sql donor "CLONE LOCAL DATA DIRECTORY = '$WORK/donor/clone'"
    server_stop donor
    mv "$WORK/donor/data" "$WORK/donor/original"
    mv "$WORK/donor/clone" "$WORK/donor/data"
    server_start donor
    same_checksums donor "$WORK/sums"
    sql donor "ALTER INSTANCE ROTATE INNODB MASTER KEY"
    server_stop donor
    server_start donor
    same_checksums donor "$WORK/sums"
}

# The recipient ends after a clone, as nothing supervises it.
cloned_from_remote() {
    local uuid
    uuid=$(sql donor "SELECT @@server_uuid")
    sql donor "UPDATE t.one SET n = n + 1; SET GLOBAL innodb_redo_log_encrypt = ON;
        SET GLOBAL innodb_undo_log_encrypt = ON; ALTER TABLESPACE mysql ENCRYPTION='Y'"
    checksums donor >"$WORK/sums"
    sql taker "SET GLOBAL clone_valid_donor_list = '127.0.0.1:$(<"$WORK/donor/port")'"
    sql taker "CLONE INSTANCE FROM peer@'127.0.0.1':$(<"$WORK/donor/port")
        IDENTIFIED BY '$PEER_PASSWORD' REQUIRE SSL" 2>"$WORK/taker/clone.err" ||
        contains "$WORK/taker/clone.err" "Restart server failed"
    server_ends taker
    server_start taker
    same_checksums taker "$WORK/sums"
    equal 0 "$(keyring_ids taker | grep -c -- "$uuid")" "keys of the donor in the recipient's keyring"
    uuid=$(sql taker "SELECT @@server_uuid")
    server_stop taker
    equal "$uuid" "$(header_uuid "$WORK/taker/data/t/one.ibd")" "server UUID in the header"
}

the_clone_lives_alone() {
    servers_remove donor
    server_start taker
    sql taker "ALTER INSTANCE ROTATE INNODB MASTER KEY; CREATE TABLE t.three ENCRYPTION='Y'
        AS SELECT * FROM t.one"
    checksums taker >"$WORK/sums"
    server_kill taker
    server_start taker
    same_checksums taker "$WORK/sums"
}

for KIND in $KINDS; do
    check "$KIND: two servers, each with its own keyring" two_servers
    check "$KIND: exported tables are imported elsewhere, with their .cfp only" imported_elsewhere
    check "$KIND: exported tables come back after rotations" imported_after_rotations
    check "$KIND: CLONE LOCAL opens with the same keyring" cloned_locally
    check "$KIND: CLONE from a remote donor, re-wrapped under the recipient's key" cloned_from_remote
    check "$KIND: the clone lives without the donor's keyring" the_clone_lives_alone
    servers_remove donor taker
    rm -rf "$WORK/exported"
done
finish
