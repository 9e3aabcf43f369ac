#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Page crypto in mariadbd: our plugin against file_key_management with the same cipher, in interleaved
# rounds. Under sysbench's write-only load and while the background threads encrypt a table: the share
# of CPU samples in page crypto; and the CPU time that the whole server takes for that table.
#
#   tests/bench/server_share.sh [ROUNDS [SECONDS [MEGABYTES]]]
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"
# shellcheck source=tests/lib/bench.sh
source "$(dirname "$0")/../lib/bench.sh"

ROUNDS=${1:-5}
SECONDS_EACH=${2:-10}
MEGABYTES=${3:-2048}
WORKLOAD=oltp_write_only
ROWS=100000
LONG=600 # seconds that the table's encryption may take

# Percent of CPU samples in libcrypto, in the encryption plugin, or in the server's own cipher code;
# and in libcrypto alone. What file_key_management's contexts cost in malloc is not in it.
share() {
    awk -F'|' '
        $2 ~ /libcrypto/ { evp += $1 }
        $2 ~ /pkcs11_key_management|file_key_management/ { other += $1 }
        $2 ~ /mariadbd/ && $3 ~ /MyCTX|my_aes_|my_random_bytes/ { other += $1 }
        END { printf "%.2f %.2f\n", evp + other, evp }'
}

# A server with each plugin, named ours-CIPHER and theirs-CIPHER.
servers_new() { # CIPHER
    local keys=$WORK/theirs-$1/keys
    keyring_up "ring-$1"
    tool key create 1 --cipher "$1" >/dev/null
    tool key create 2 --cipher "$1" >/dev/null
    server_new "ours-$1"
    server_keyring "ours-$1" on
    server_new "theirs-$1"
    printf '1;%s\n2;%s\n' "$(random_hex 32)" "$(random_hex 32)" >"$keys"
    own "$keys"
    server_fkm "theirs-$1" on "$keys" "${1/-/_}"
}

# shares FILE: medians of the rounds, in $ours, $theirs and $evp (what EVP takes of ours)
shares() {
    ours=$(cut -d' ' -f1 "$WORK/ours-$cipher/$1" | median)
    evp=$(cut -d' ' -f2 "$WORK/ours-$cipher/$1" | median)
    theirs=$(cut -d' ' -f1 "$WORK/theirs-$cipher/$1" | median)
    bar_info 10 "$cipher, $1: page crypto $ours% of the CPU samples, file_key_management $theirs%;" \
        "a plugin of no cost but EVP's would reach $(ratio "$evp" "$theirs")"
}

# --- under load -------------------------------------------------------------------------------------

# A server with half of its data in memory, so that pages go out and come in all the time.
loaded_server() { # NAME
    server_start "$1" --innodb-buffer-pool-size=24M --innodb-flush-log-at-trx-commit=2 \
        --sync-binlog=0 --innodb-encryption-threads=0 --innodb-encrypt-tables=FORCE
    sql "$1" "CREATE DATABASE t"
    load "$1" prepare >/dev/null
}

under_load() {
    local name round
    for name in "ours-$cipher" "theirs-$cipher"; do
        loaded_server "$name"
    done
    for ((round = 0; round < ROUNDS; round++)); do
        for name in "ours-$cipher" "theirs-$cipher"; do
            samples "$name" | share >>"$WORK/$name/write-only"
        done
    done
    for name in "ours-$cipher" "theirs-$cipher"; do
        server_stop "$name"
    done
    shares write-only
    bar_at_most 10 "$cipher, write-only: share / file_key_management" "$(ratio "$ours" "$theirs")" 0.6 ||
        failed=$((failed + 1))
}

# --- a table, encrypted by the background threads ---------------------------------------------------

# Made once, not encrypted: two rows to a page.
table_template() {
    server_new plain
    server_start plain --skip-log-bin --innodb-buffer-pool-size=256M \
        --innodb-flush-log-at-trx-commit=2
    sql plain "CREATE DATABASE t; USE t;
        CREATE TABLE big (id INT PRIMARY KEY, txt VARCHAR(7000) CHARACTER SET latin1)
            AS SELECT seq AS id, REPEAT(MD5(seq), 218) AS txt FROM seq_1_to_$((MEGABYTES * 128))"
    server_stop plain
}

table_server() { # NAME
    rm -rf "$WORK/$1/data"
    cp -a "$WORK/plain/data" "$WORK/$1/data"
    server_start "$1" --skip-log-bin --innodb-buffer-pool-size=256M --innodb-encrypt-tables=OFF \
        --innodb-encryption-rotation-iops=1000000 --innodb-encryption-threads=1
}

all_plain() { # NAME
    [[ $(sql "$1" "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption
        WHERE min_key_version > 0 OR rotating_or_flushing <> 0") == 0 ]]
}

encrypt_table() { # NAME
    sql "$1" "SET GLOBAL innodb_encrypt_tables = ON"
    eventually "$LONG" all_encrypted "$1" 1
}

decrypt_table() { # NAME
    sql "$1" "SET GLOBAL innodb_encrypt_tables = OFF"
    eventually "$LONG" all_plain "$1"
}

cpu_ticks() { # NAME
    awk '{ print $14 + $15 }' "/proc/$(server_pid "$1")/stat"
}

encrypted_once() { # NAME
    local before
    before=$(cpu_ticks "$1")
    samples_of "$1" encrypt_table "$1" | share >>"$WORK/$1/encrypting a table"
    echo $(($(cpu_ticks "$1") - before)) >>"$WORK/$1/ticks"
    decrypt_table "$1"
}

of_a_table() {
    local name round
    for name in "ours-$cipher" "theirs-$cipher"; do
        table_server "$name"
    done
    for ((round = 0; round < ROUNDS; round++)); do
        for name in "ours-$cipher" "theirs-$cipher"; do
            encrypted_once "$name"
        done
    done
    for name in "ours-$cipher" "theirs-$cipher"; do
        server_stop "$name"
        rm -rf "$WORK/$name/data"
    done
    # Reported: the server gives one page at a time, in which the cipher takes nearly all of the time.
    shares "encrypting a table"
    bar_line 10 "$cipher, encrypting a table: share / file_key_management" \
        "$(ratio "$ours" "$theirs")" "<=0.6" info
    ours=$(best <"$WORK/ours-$cipher/ticks")
    theirs=$(best <"$WORK/theirs-$cipher/ticks")
    bar_info 10 "$cipher, encrypting $MEGABYTES MB: $ours ticks of CPU time, file_key_management $theirs"
    bar_at_most 10 "$cipher, encrypting a table: CPU time / file_key_management" \
        "$(ratio "$ours" "$theirs")" 1.0 || failed=$((failed + 1))
}

table_template
for cipher in aes-cbc aes-ctr; do
    servers_new "$cipher"
    under_load
    of_a_table
done
((failed == 0))
