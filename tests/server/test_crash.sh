#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# kill -9 during load and during key rotation: redo recovery works on encrypted logs, every
# committed row is there, and an interrupted re-encryption is completed.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-20000}
CRASHES=${P11K_CRASHES:-3}

# Inserts rows one by one, each committed, and says which are in.
writer() {
    local i
    for ((i = 0; ; i++)); do
        echo "INSERT INTO t.written (b) VALUES (REPEAT(MD5($i), 30)); SELECT LAST_INSERT_ID();"
    done | sql c >"$WORK/acknowledged" 2>/dev/null
}

server_with_tables() { # CIPHER
    keyring_up "keyring-$1"
    printf '\n[mariadb]\ncipher = %s\n' "$1" >>"$P11KEYRING_CONF"
    server_stop c
    rm -rf "$WORK/c"
    server_new c
    server_keyring c on
    server_start c
    load_table c one "$ROWS" row
    load_table c two "$ROWS" row "PAGE_COMPRESSED=1"
    load_table c three "$ROWS" row "ENGINE=Aria"
    checksums c >"$WORK/sums"
    sql c "CREATE TABLE t.written (id INT PRIMARY KEY AUTO_INCREMENT, b TEXT)"
}

static_tables_equal() {
    equal "$(<"$WORK/sums")" "$(sql c 'CHECKSUM TABLE t.one, t.three, t.two')" "checksums"
}

killed_under_load() {
    local last
    for ((n = 0; n < CRASHES; n++)); do
        background writer
        random_pause 200 700
        server_kill c
        end_process "$WORK/background.$background_pid.pid"
        server_start c
        contains "$(server_log c)" "Starting crash recovery"
        last=$(tail -n 1 "$WORK/acknowledged")
        [[ -n $last ]] || die "the writer wrote nothing before the kill"
        ((last <= $(sql c 'SELECT MAX(id) FROM t.written'))) || die "row $last was lost"
        equal OK "$(sql c 'CHECK TABLE t.written EXTENDED' | cut -f4)" "CHECK TABLE"
        static_tables_equal
        echo "killed after row $last"
    done
}

rotation_is_running() {
    [[ $(sql c "SELECT COUNT(*) > 0 FROM information_schema.innodb_tablespaces_encryption
        WHERE min_key_version < current_key_version - 1 OR rotating_or_flushing <> 0") == 1 ]]
}

# The kill falls between the server's first sight of the new version and the end of its work.
killed_during_rotation() {
    local version=1
    for ((n = 0; n < CRASHES; n++)); do
        version=$((version + 2))
        tool key rotate 1 >/dev/null
        eventually 5 rotation_is_running
        random_pause 1 60
        server_kill c
        server_start c
        eventually 60 all_encrypted c "$version"
        static_tables_equal
        equal OK "$(sql c 'CHECK TABLE t.one EXTENDED' | cut -f4)" "CHECK TABLE"
    done
}

for cipher in aes-cbc aes-ctr aes256-cbc aes256-ctr; do
    check "$cipher: a server with encrypted tables" server_with_tables "$cipher"
    check "$cipher: kill -9 under load, $CRASHES times: redo recovery, no committed row lost" \
        killed_under_load
    check "$cipher: kill -9 during a rotation, $CRASHES times: it is completed, checksums equal" \
        killed_during_rotation
done
finish
