#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Everything that InnoDB and the binary log write can be encrypted: a marker text in every kind of
# row is found on the disk without encryption, and nowhere with it; all is there after a restart and
# after a kill -9.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

ROWS=${P11K_ROWS:-2000}
MARKER=marker-$(random_hex 8)

# One table of every shape that has a writer of its own; ENCRYPTION comes from the schema's default.
load_everything() { # NAME
    load_table "$1" plain "$ROWS" "$MARKER"
    load_table "$1" page_compressed "$ROWS" "$MARKER" "COMPRESSION='zlib'"
    load_table "$1" kbs8 "$ROWS" "$MARKER" "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"
    load_table "$1" parts "$ROWS" "$MARKER" "PARTITION BY HASH(id) PARTITIONS 3"
    sql "$1" "USE t;
        CREATE TABLE words (id INT PRIMARY KEY, b LONGTEXT, FULLTEXT(b)) AS
            SELECT id, REPEAT(CONCAT(txt, ' '), 300) AS b FROM plain LIMIT 20;
        CREATE TABLE places (id INT PRIMARY KEY, g POINT NOT NULL SRID 0, txt TEXT,
            SPATIAL INDEX(g)) AS SELECT id, ST_SRID(POINT(id, n), 0) AS g, txt FROM plain;
        CREATE TABLESPACE general ADD DATAFILE 'general.ibd';
        CREATE TABLE in_general TABLESPACE general AS SELECT * FROM plain;
        UPDATE plain SET txt = CONCAT(txt, ' changed') WHERE id % 3 = 0;"
}

# The kinds of file in which files_with found something, in one line.
kinds() {
    sed -E 's/.*\.ibd$/ibd/; s/.*#ib_redo.*/redo/; s/.*binlog\.[0-9]+$/binlog/
        s/.*undo_00[0-9]$/undo/; s/.*\.dblwr$/doublewrite/' | sort -u | paste -sd ' '
}

run_everything() { # NAME
    load_everything "$1"
    checksums "$1" >"$WORK/$1/sums"
    files_with "$1" "$MARKER" >"$WORK/$1/found"
    server_stop "$1"
    files_with "$1" "$MARKER" >>"$WORK/$1/found"
}

the_search_finds_it() {
    server_new clear
    server_start clear
    run_everything clear
    equal "binlog doublewrite ibd redo undo" "$(kinds <"$WORK/clear/found")" "found without encryption"
    servers_remove clear
}

first_key_when_first_needed() {
    server_new a
    server_keyring a
    server_start a
    load_table a clear 10 text
    equal "" "$(keyring_ids a 'INNODBKey%')" "master keys before the first encrypted table"
    sql a "CREATE TABLE t.first (id INT PRIMARY KEY) ENCRYPTION='Y'"
    equal "INNODBKey-$(sql a 'SELECT @@server_uuid')-1" "$(keyring_ids a 'INNODBKey%')" "master keys"
    sql a "DROP DATABASE t"
}

encrypt_all() { # NAME
    sql "$1" "SET PERSIST default_table_encryption = ON; SET PERSIST innodb_redo_log_encrypt = ON;
        SET PERSIST innodb_undo_log_encrypt = ON; SET PERSIST binlog_encryption = ON;
        ALTER TABLESPACE mysql ENCRYPTION='Y'"
}

nothing_readable() {
    encrypt_all a
    run_everything a
    equal "" "$(<"$WORK/a/found")" "files with the marker"
}

every_tablespace_encrypted() { # HOW-MANY-TABLES
    equal "" "$(sql a "SELECT name FROM information_schema.innodb_tablespaces WHERE encryption <> 'Y'
        AND name NOT IN ('innodb_temporary', 'sys/sys_config')")" "tablespaces in the clear"
    equal "$1" "$(sql a "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 't'
        AND create_options LIKE '%ENCRYPTION=''Y''%'")" "tables whose CREATE_OPTIONS say so"
}

all_there_after_restart() { # HOW-MANY-TABLES
    server_start a
    same_checksums a "$WORK/a/sums"
    every_tablespace_encrypted "$1"
    sql a "SHOW BINLOG EVENTS IN 'binlog.000001'" >/dev/null
}

# Rows that are only in the redo log, tables made and changed in the last moments. The server itself,
# with any keyring, opens undo and redo without encryption while it recovers and rolls back, so
# afterwards old row versions may be there in the clear.
recovered_after_kill() {
    sql a "USE t; CREATE TABLE late AS SELECT * FROM plain;
        UPDATE late SET n = n + 1"
    checksums a >"$WORK/a/sums"
    (
        echo "USE t; BEGIN; UPDATE late SET txt = 'not committed'; SELECT SLEEP(20);" | sql a
    ) >/dev/null 2>&1 &
    eventually 10 update_waits
    server_kill a
    no_plaintext a "$MARKER"
    server_start a
    contains "$(server_log a)" "Starting crash recovery"
    same_checksums a "$WORK/a/sums"
    equal "" "$(files_with a "$MARKER" | grep -vE 'undo_00|#ib_redo|\.dblwr')" "files with the marker"
}

update_waits() {
    [[ $(sql a "SELECT COUNT(*) FROM information_schema.processlist
        WHERE info LIKE 'SELECT SLEEP%'") == 1 ]]
}

on_and_off() {
    sql a "USE t; ALTER TABLE plain ENCRYPTION='N'; ALTER TABLESPACE general ENCRYPTION='N'"
    equal "N N" "$(encryption_of a t/plain) $(encryption_of a general)" "after ENCRYPTION='N'"
    sql a "USE t; ALTER TABLE plain ENCRYPTION='Y'; ALTER TABLESPACE general ENCRYPTION='Y'"
    equal "Y Y" "$(encryption_of a t/plain) $(encryption_of a general)" "after ENCRYPTION='Y'"
    same_checksums a "$WORK/a/sums"
    sql a "SET GLOBAL innodb_undo_log_encrypt = OFF; SET GLOBAL innodb_redo_log_encrypt = OFF;
        ALTER TABLESPACE mysql ENCRYPTION='N'; CREATE UNDO TABLESPACE u3 ADD DATAFILE 'u3.ibu';
        SET GLOBAL innodb_undo_log_encrypt = ON; SET GLOBAL innodb_redo_log_encrypt = ON;
        ALTER TABLESPACE mysql ENCRYPTION='Y'; DELETE FROM t.late WHERE id % 2"
    checksums a >"$WORK/a/sums"
    server_stop a
    all_there_after_restart 8
}

# table_encryption_privilege_check refuses a table that differs from its schema's default.
default_is_enforced() {
    sql a "SET GLOBAL table_encryption_privilege_check = ON;
        CREATE USER plain_user@localhost; GRANT ALL ON t.* TO plain_user@localhost"
    sql a "CREATE TABLE t.by_default (id INT)" --user=plain_user
    equal Y "$(encryption_of a t/by_default)" "a table made without ENCRYPTION"
    ! sql a "CREATE TABLE t.differs (id INT) ENCRYPTION='N'" --user=plain_user 2>"$WORK/refused" ||
        die "a table in the clear was made"
    contains "$WORK/refused" "its database default encryption"
}

check "a marker is found in every kind of file without encryption" the_search_finds_it
for KIND in $KINDS; do
    check "$KIND: the first master key is made when it is first needed" first_key_when_first_needed
    check "$KIND: with everything encrypted the marker is in no file" nothing_readable
    check "$KIND: all there after a restart, every tablespace encrypted" all_there_after_restart 7
    check "$KIND: kill -9: recovered, nothing readable" recovered_after_kill
    check "$KIND: encryption is switched off and on, also for undo, redo and mysql.ibd" on_and_off
    check "$KIND: the schema's default is enforced" default_is_enforced
    servers_remove a
done
finish
