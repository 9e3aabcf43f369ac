#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# What `p11keyring verify` takes for each of many small encrypted tables of MySQL in token mode, by
# how many there are, and with a token that takes 5 ms for a decryption, one by one and side by side.
# P11K_SIZES ("1000 10000 100000") can be set. The tables are names of ten files: no room is needed.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

KIND=token

one_table() {
    server_new m
    server_keyring m
    server_start m
    sql m "CREATE DATABASE t; CREATE TABLE t.one (id INT PRIMARY KEY, b TEXT) ENCRYPTION='Y';
        INSERT INTO t.one VALUES (1, 'x')"
    server_stop m
}

many_names() { # HOW-MANY
    local i
    mkdir "$WORK/many.$1"
    for ((i = 0; i < 10; i++)); do cp "$WORK/m/data/t/one.ibd" "$WORK/many.$1/t$i.ibd"; done
    for ((i = 10; i < $1; i++)); do echo "t$((i % 10)).ibd t$i.ibd"; done |
        (cd "$WORK/many.$1" && perl -ne 'link $1, $2 or die "$!" if /(\S+) (\S+)/')
    own "$WORK/many.$1"
}

measure() { # FILES [option...]
    local start=${EPOCHREALTIME/./} us
    tool verify --json --progress=none "${@:2}" "$WORK/many.$1" >"$WORK/verified"
    us=$((${EPOCHREALTIME/./} - start))
    equal "$1" "$(jq .counts.ok "$WORK/verified")" "files that are right"
    printf '%d files%s: %d us each\n' "$1" "${LABEL:-}${2:+, $2 $3}" $((us / $1))
}

one_table
for size in ${P11K_SIZES:-1000 10000 100000}; do
    many_names "$size"
    measure "$size"
done
many_names 1001
sed -i "s|^module = .*|module = $WORK/lib/p11k_mock.so|" "$P11KEYRING_CONF"
mock_rules "delay C_Decrypt 5"
LABEL=", 5 ms for each decryption"
measure 1001 --threads 1
measure 1001
