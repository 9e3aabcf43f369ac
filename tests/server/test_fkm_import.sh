#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Data of MariaDB's own file_key_management opens unchanged when the same key bytes are imported as
# version 1 with the same cipher, also right after a kill -9 and with the old binary logs; and back.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-5000}

made_by_file_key_management() { # NAME CIPHER BYTES
    server_new "$1"
    printf '1;%s\n2;%s\n7;%s\n' "$(random_hex "$3")" "$(random_hex "$3")" "$(random_hex "$3")" \
        >"$WORK/$1/keys.txt"
    chmod 600 "$WORK/$1/keys.txt"
    own "$WORK/$1/keys.txt"
    server_fkm "$1" on "$WORK/$1/keys.txt" "${2/-/_}"
    server_start "$1"
    load_table "$1" one "$ROWS" binlogged-row
    load_table "$1" seven "$ROWS" row "ENCRYPTED=YES ENCRYPTION_KEY_ID=7 PAGE_COMPRESSED=1"
    load_table "$1" aria "$ROWS" row "ENGINE=Aria"
    checksums "$1" >"$WORK/$1/sums"
}

# Rows that are only in the redo log when the server is killed.
kill_with_work_to_recover() { # NAME
    sql "$1" "CREATE TABLE t.$2 ENCRYPTED=YES AS SELECT seq FROM t.seq_1_to_500;
        UPDATE t.$2 SET seq = seq + 1000"
    server_kill "$1"
    rm -f "$WORK/$1/error.log"
}

recovered() { # NAME TABLE
    contains "$(server_log "$1")" "Starting crash recovery"
    equal "500 625250" "$(sql "$1" "SELECT CONCAT(COUNT(*), ' ', SUM(seq)) FROM t.$2")" "t.$2"
    equal "$(<"$WORK/$1/sums")" "$(sql "$1" "CHECKSUM TABLE t.aria, t.one, t.seven")" "checksums"
    ! plugin_lines "$1" 'ERROR' | grep . || die "errors in the log"
}

same_bytes_same_data() { # CIPHER BYTES
    local name=fkm-$1-$2 id
    keyring_up "keyring-$name"
    made_by_file_key_management "$name" "$1" "$2"
    for id in 1 2 7; do
        tool key create "$id" --cipher "$1" --import-hex-from "$WORK/$name/keys.txt" >/dev/null
    done

    kill_with_work_to_recover "$name" before
    server_keyring "$name" on
    server_start "$name"
    recovered "$name" before
    "$UNPACKED/mariadb-binlog" --no-defaults --socket="$WORK/$name/socket" --user=root -R \
        --verbose binlog.000001 >"$WORK/$name/binlog.txt"
    contains "$WORK/$name/binlog.txt" "binlogged-row"

    kill_with_work_to_recover "$name" after
    server_fkm "$name" on "$WORK/$name/keys.txt" "${1/-/_}"
    server_start "$name"
    recovered "$name" before
    recovered "$name" after
    server_stop "$name"
}

for cipher in aes-cbc aes-ctr; do
    for bytes in 16 24 32; do
        check "$cipher, keys of $bytes bytes: imported after a kill -9, and back after another" \
            same_bytes_same_data "$cipher" "$bytes"
    done
done
finish
