#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The share of mysqld's CPU samples that is spent in crypto and in our code, under sysbench's
# read-write load on encrypted tables: our component in token mode, with the OpenSSL provider,
# against the server's own component_keyring_file, in interleaved rounds.
#
#   tests/bench/server_share_mysql.sh [ROUNDS [SECONDS]]
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"
# shellcheck source=tests/lib/bench.sh
source "$(dirname "$0")/../lib/bench.sh"

ROUNDS=${1:-5}
SECONDS_EACH=${2:-10}
WORKLOAD=oltp_read_write
ROWS=100000

# With half of its data in memory, so that pages go out and come in all the time.
server_up() { # NAME
    server_new "$1"
    server_keyring "$1"
    server_options "$1" "default-table-encryption = ON" "innodb-redo-log-encrypt = ON" \
        "innodb-undo-log-encrypt = ON" "binlog-encryption = ON" "innodb-buffer-pool-size = 24M"
    server_start "$1"
    sql "$1" "CREATE DATABASE t"
    load "$1" prepare >/dev/null
}

# Percent of the samples in libcrypto, a keyring component, the OpenSSL provider or the token.
share() { # NAME
    samples "$1" | awk -F'|' '
        $2 ~ /libcrypto|component_keyring_|p11keyring|libsofthsm2/ { sum += $1 }
        END { printf "%.2f\n", sum }'
}

measure() {
    local kind round
    for KIND in token file; do
        server_up "$KIND"
    done
    for ((round = 0; round < ROUNDS; round++)); do
        for kind in token file; do
            share "$kind" >>"$WORK/$kind/shares"
        done
    done
    for kind in token file; do
        server_stop "$kind"
    done
}

measure
ours=$(median <"$WORK/token/shares")
theirs=$(median <"$WORK/file/shares")
bar_info 0 "share of crypto and our code in mysqld: token mode $ours%, component_keyring_file $theirs%"
bar_at_most 0 "share of crypto in mysqld / component_keyring_file" \
    "$(ratio "$ours" "$theirs")" 1.1
