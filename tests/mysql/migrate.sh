# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# A server m under component_keyring_file whose keys are to move, and what must be there afterwards.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/mysql.sh"

rows_and_keys() { # KEYS
    same_checksums m "$WORK/sums"
    equal "$1" "$(keyring_ids m | paste -sd ' ')" "keys"
    sql m "SHOW BINLOG EVENTS IN 'binlog.000001'" >/dev/null
}

file_keyring() {
    server_new m
    KIND="file" server_keyring m
    server_options m "binlog-encryption = ON"
    server_start m
    many_tables m one 3
    sql m "ALTER INSTANCE ROTATE INNODB MASTER KEY"
    checksums m >"$WORK/sums"
    keyring_ids m | paste -sd ' ' >"$WORK/keys"
}

rotated() { # CIPHER-COLUMN
    sql m "ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    same_checksums m "$WORK/sums"
    contains <(sqlite3 "$WORK/m.keyring/keyring/test.keystore" "SELECT cipher FROM versions
        WHERE id LIKE 'INNODBKey-%-3'") "$1"
    server_start m
    same_checksums m "$WORK/sums"
    keyring_ids m | paste -sd ' ' >"$WORK/keys"
}
