#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# A data key that the admin tool rotates reaches the running server without SQL, and InnoDB's
# background threads re-encrypt everything with it, under MariaDB's default rotate_key_age; also
# when the new version has another cipher.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-20000}

latest_of_server() {
    sql r "SELECT MAX(current_key_version) FROM information_schema.innodb_tablespaces_encryption"
}

server_has() { [[ $(latest_of_server) == "$1" ]]; }

server_with_tables() {
    keyring_up keyring
    server_new r
    server_keyring r on
    server_start r
    load_table r one "$ROWS" row
    load_table r two "$ROWS" row "PAGE_COMPRESSED=1"
    load_table r three "$ROWS" row "ENCRYPTED=YES"
    load_table r four "$ROWS" row "ENGINE=Aria"
    eventually 20 all_encrypted r 1
    checksums r >"$WORK/sums"
    equal 1 "$(sql r 'SELECT @@innodb_encryption_rotate_key_age')" "MariaDB's default"
}

rotate_to() { # VERSION [option...]
    local start=$EPOCHREALTIME wanted=$1
    shift
    tool key rotate 1 "$@" >/dev/null
    start=$EPOCHREALTIME
    eventually 2 server_has "$wanted"
    echo "seen by the server $(((${EPOCHREALTIME/./} - ${start/./}) / 1000)) ms after the tool's end"
}

all_reencrypted() { # VERSION
    eventually 60 all_encrypted r "$1"
    equal "$(<"$WORK/sums")" "$(checksums r)" "checksums"
}

cipher_changed_and_back() {
    rotate_to 5 --cipher aes-ctr
    all_reencrypted 5
    server_kill r
    server_start r
    equal "$(<"$WORK/sums")" "$(checksums r)" "checksums under aes-ctr after kill -9"
    rotate_to 7 --cipher aes-cbc
    all_reencrypted 7
    server_stop r
    server_start r
    equal "$(<"$WORK/sums")" "$(checksums r)" "checksums back under aes-cbc"
}

# Writers, sorts and temporary tables go on while versions come: nothing fails, nothing is lost.
rotations_under_load() {
    local i version=7
    background write_rows 400
    local writer=$background_pid
    for i in 1 2 3; do
        version=$((version + 2))
        rotate_to "$version"
    done
    echo "rotations: $i"
    wait "$writer"
    equal 400 "$(sql r 'SELECT COUNT(*) FROM t.written')" "rows written during rotations"
    eventually 60 all_encrypted r "$version"
    sql r "DROP TABLE t.written"
    all_reencrypted "$version"
}

write_rows() { # HOW MANY
    local i
    {
        echo "CREATE TABLE t.written (id INT PRIMARY KEY, b TEXT);"
        for ((i = 0; i < $1; i++)); do
            echo "INSERT INTO t.written VALUES ($i, REPEAT(MD5($i), 50)); DO SLEEP(0.01);"
        done
    } | sql r
}

other_keys_are_left_alone() {
    tool key create 9 >/dev/null
    load_table r nine 100 row "ENCRYPTED=YES ENCRYPTION_KEY_ID=9"
    tool key rotate 1 >/dev/null
    sleep 1
    equal 1 "$(sql r "SELECT current_key_version FROM
        information_schema.innodb_tablespaces_encryption WHERE name = 't/nine'")" "version of key 9"
    sql r "DROP TABLE t.nine"
}

check "a server with encrypted tables" server_with_tables
check "a rotated key reaches the running server within two seconds" rotate_to 3
check "the background threads re-encrypt everything, checksums equal" all_reencrypted 3
check "the cipher is changed by a rotation, and back" cipher_changed_and_back
check "rotations under load" rotations_under_load
check "a rotation of one key leaves the others alone" other_keys_are_left_alone
finish
