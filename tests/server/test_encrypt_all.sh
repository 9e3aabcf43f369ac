#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Everything that the server writes is encrypted: a marker text that is in every kind of row, index
# and temporary file is found on the disk without encryption, and nowhere with it.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-20000}
SMALL_POOL="innodb-buffer-pool-size = 8M"
MARKER=marker-$(random_hex 8)

# Rows in every shape that has a writer of its own. The Aria table is filled in bulk, since the
# server writes single Aria rows to its aria_log in the clear (MDEV-8587).
load_everything() { # NAME
    load_table "$1" plain "$ROWS" "$MARKER"
    load_table "$1" page_compressed "$ROWS" "$MARKER" "PAGE_COMPRESSED=1"
    load_table "$1" kbs8 "$ROWS" "$MARKER" "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"
    sql "$1" "USE t;
        CREATE TABLE aria ENGINE=Aria AS SELECT * FROM plain;
        CREATE TABLE blobs (id INT PRIMARY KEY, b LONGTEXT, FULLTEXT(b)) AS
            SELECT seq AS id, REPEAT(CONCAT('$MARKER ', MD5(seq), ' '), 800) AS b
            FROM seq_1_to_40;"
}

# Runs in the background: an InnoDB temporary table that does not fit the buffer pool, a join
# result in an on-disk temporary table, and a big sort, held open by slow rows.
hold_temporary_files() { # NAME
    sql "$1" "USE t;
        SET sort_buffer_size = 65536, tmp_memory_table_size = 65536, max_heap_table_size = 65536;
        CREATE TEMPORARY TABLE tt ENGINE=InnoDB AS
            SELECT a.id, a.txt FROM plain a, seq_1_to_8;
        SELECT txt, SLEEP(1) FROM
            (SELECT txt, COUNT(*) c FROM tt GROUP BY txt, id) x ORDER BY txt DESC, c" \
        >/dev/null 2>&1
}

sort_is_held() { # NAME
    [[ $(sql "$1" "SELECT COUNT(*) FROM information_schema.processlist
        WHERE info LIKE 'SELECT txt, SLEEP%' AND state = 'User sleep'") == 1 ]]
}

# ALTER TABLE in the background, while rows are changed so that there is a row log.
alter_under_load() { # NAME
    sql "$1" "SET SESSION alter_algorithm = INPLACE;
        ALTER TABLE t.plain FORCE, ADD KEY txt (txt), LOCK=NONE" &
    local alter=$!
    while alive "$alter"; do
        sql "$1" "UPDATE t.plain SET txt = CONCAT(txt, ' x') WHERE id MOD 50 = 7"
        files_with "$1" "$MARKER" | sed 's/ (deleted)//; s/^.*#/#/' >>"$WORK/$1/alter.found"
    done
    wait "$alter"
}

# The kinds of file in which files_with found something, in one line.
kinds() {
    sed -E 's/.*\.ibd$/ibd/; s/.*ib_logfile0$/redo/; s/.*binlog\.[0-9]+$/binlog/
        s/.*\.MA[DI]$/aria/; s/.*ibtmp1$/ibtmp/; s/.*ibdata1$/system/
        s/.*undo[0-9]*$/undo/; s/.*\(deleted\)$/tmpfile/' | sort -u | paste -sd ' '
}

run_everything() { # NAME
    : >"$WORK/$1/alter.found"
    load_everything "$1"
    alter_under_load "$1"
    background hold_temporary_files "$1"
    eventually 120 sort_is_held "$1"
    files_with "$1" "$MARKER" >"$WORK/$1/found"
    sql "$1" "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist
        WHERE info LIKE 'SELECT txt, SLEEP%'" | sql "$1"
    checksums "$1" >"$WORK/$1/sums"
    server_stop "$1"
    files_with "$1" "$MARKER" >>"$WORK/$1/found"
}

the_search_finds_it() {
    server_new clear
    server_options clear "$SMALL_POOL"
    server_start clear
    run_everything clear
    local seen kind
    seen=$(kinds <"$WORK/clear/found")
    echo "found in: $seen"
    for kind in ibd redo binlog aria ibtmp tmpfile; do
        [[ " $seen " == *" $kind "* ]] || die "a search that must find $kind found only: $seen"
    done
    [[ -s $WORK/clear/alter.found ]] || die "nothing was seen during ALTER TABLE"
}

# Rows of an internal temporary table that outgrow Aria's page cache are written in the clear, with
# any encryption plugin (file_key_management too): seen with 120,000 rows, not with 20,000.
without_the_servers_own() {
    grep -vE '^tmp/#sql-temptable-[0-9a-f-]+\.MAD$' || true
}

nothing_readable() { # NAME CIPHER FORCE
    keyring_up "keyring_$1"
    printf '\n[mariadb]\ncipher = %s\n' "$2" >>"$P11KEYRING_CONF"
    server_new "$1"
    server_keyring "$1" "$3"
    server_options "$1" "$SMALL_POOL"
    server_start "$1"
    run_everything "$1"
    equal "" "$(cat "$WORK/$1/found" "$WORK/$1/alter.found" | without_the_servers_own)" \
        "files with the marker"
}

same_after_restart() { # NAME
    server_start "$1"
    equal "$(<"$WORK/$1/sums")" "$(checksums "$1")" "checksums"
    eventually 20 all_encrypted "$1" 1
}

binlog_readable_through_the_server() { # NAME
    "$UNPACKED/mariadb-binlog" --no-defaults --socket="$WORK/$1/socket" --user=root -R --verbose \
        binlog.000001 >"$WORK/$1/binlog.txt"
    contains "$WORK/$1/binlog.txt" "$MARKER"
}

check "a marker is found in every kind of file without encryption" the_search_finds_it
for case in "aes-cbc on" "aes-ctr force" "aes256-cbc force" "aes256-ctr on"; do
    read -r cipher word <<<"$case"
    check "$cipher, $word: the marker is in no file" nothing_readable "$cipher" "$cipher" "$word"
    check "$cipher, $word: all there after a restart, every tablespace encrypted" \
        same_after_restart "$cipher"
    check "$cipher, $word: mariadb-binlog -R reads the binary log" \
        binlog_readable_through_the_server "$cipher"
    server_stop "$cipher"
done
finish
