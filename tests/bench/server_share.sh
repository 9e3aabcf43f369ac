#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The share of mariadbd's CPU samples that is spent in page crypto, under sysbench's write-only
# load: our plugin against file_key_management with the same cipher, in interleaved rounds. One line
# per bar: name, measured, bar, pass or FAIL.
#
#   tests/bench/server_share.sh [ROUNDS [SECONDS]]
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"
# shellcheck source=tests/lib/bench.sh
source "$(dirname "$0")/../lib/bench.sh"

ROUNDS=${1:-5}
SECONDS_EACH=${2:-10}
WORKLOAD=oltp_write_only
ROWS=100000

# A server with half of its data in memory, so that pages go out and come in all the time.
server_up() { # NAME
    server_start "$1" --innodb-buffer-pool-size=24M --innodb-flush-log-at-trx-commit=2 \
        --sync-binlog=0 --innodb-encryption-threads=0
    sql "$1" "CREATE DATABASE t"
    load "$1" prepare >/dev/null
}

# Percent of CPU samples in libcrypto, in the encryption plugin, or in the server's own cipher code.
share() { # NAME
    samples "$1" | awk -F'|' '
        $2 ~ /libcrypto|pkcs11_key_management|file_key_management/ { sum += $1; next }
        $2 ~ /mariadbd/ && $3 ~ /MyCTX|my_aes_|my_random_bytes/ { sum += $1 }
        END { printf "%.2f\n", sum }'
}

compare() { # aes-cbc|aes-ctr
    local cipher=$1 ours=ours-$1 theirs=theirs-$1 round
    keyring_up "ring-$cipher"
    tool key create 1 --cipher "$cipher" >/dev/null
    tool key create 2 --cipher "$cipher" >/dev/null
    server_new "$ours"
    server_keyring "$ours" force
    server_new "$theirs"
    printf '1;%s\n2;%s\n' "$(random_hex 32)" "$(random_hex 32)" >"$WORK/$theirs/keys"
    own "$WORK/$theirs/keys"
    server_fkm "$theirs" force "$WORK/$theirs/keys" "${cipher/-/_}"
    server_up "$ours"
    server_up "$theirs"
    for ((round = 0; round < ROUNDS; round++)); do
        share "$ours" >>"$WORK/$ours/shares"
        share "$theirs" >>"$WORK/$theirs/shares"
    done
    server_stop "$ours"
    server_stop "$theirs"
    bar "$cipher" "$(median <"$WORK/$ours/shares")" "$(median <"$WORK/$theirs/shares")"
}

bar() { # CIPHER OURS THEIRS
    local verdict=FAIL
    ! awk "BEGIN { exit !($2 > 0 && $2 < $3) }" || verdict=pass
    printf 'share of page crypto, %s: ours %s%%, bar below %s%% (file_key_management), %s\n' \
        "$1" "$2" "$3" "$verdict"
    [[ $verdict == pass ]] || failed=$((failed + 1))
}

for cipher in aes-cbc aes-ctr; do
    compare "$cipher"
done
((failed == 0))
