#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Two admin tools and a server change one keystore at once: no update is lost, no version number is
# given twice, nobody waits longer than configured.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

CHANGES=${P11K_CHANGES:-15}

# Rotates key 1 and creates keys, each change acknowledged on stdout.
change_keys() { # FIRST-ID
    local i
    for ((i = 0; i < CHANGES; i++)); do
        tool key rotate 1
        tool key create $(($1 + i))
    done
}

# The server makes keys at first use meanwhile, and writes.
use_keys() {
    local i
    for ((i = 0; i < CHANGES; i++)); do
        sql s "CREATE TABLE t.k$i (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=$((300 + i));
            INSERT INTO t.k$i SELECT seq FROM t.seq_1_to_500"
    done
}

at_once() {
    keyring_up keyring
    printf '\n[mariadb]\nauto-create = yes\n' >>"$P11KEYRING_CONF"
    server_new s
    server_keyring s on
    server_start s
    load_table s one 5000 row
    local a b c
    change_keys 100000 >"$WORK/a" 2>"$WORK/a.err" &
    a=$!
    change_keys 200000 >"$WORK/b" 2>"$WORK/b.err" &
    b=$!
    use_keys &
    c=$!
    wait "$a" || die "tool 1: $(<"$WORK/a.err")"
    wait "$b" || die "tool 2: $(<"$WORK/b.err")"
    wait "$c"
}

nothing_lost() {
    local versions id
    versions=$(sed -n 's/^key 1 rotated: version \([0-9]*\),.*/\1/p' "$WORK/a" "$WORK/b" | sort -n)
    equal $((2 * CHANGES)) "$(sort -u <<<"$versions" | wc -l)" "distinct versions of key 1"
    tool key list >"$WORK/list"
    for ((id = 0; id < CHANGES; id++)); do
        grep -qE "^ *$((100000 + id)) " "$WORK/list" || die "key $((100000 + id)) was lost"
        grep -qE "^ *$((200000 + id)) " "$WORK/list" || die "key $((200000 + id)) was lost"
        grep -qE "^ *$((300 + id)) " "$WORK/list" || die "key $((300 + id)) was lost"
    done
    eventually 2 server_is_at "$(tail -n 1 <<<"$versions")"
}

server_is_at() {
    [[ $(sql s "SELECT current_key_version
        FROM information_schema.innodb_tablespaces_encryption WHERE name = 't/one'") == "$1" ]]
}

all_there_after_restart() {
    eventually 60 all_encrypted s 1
    checksums s >"$WORK/sums"
    server_kill s
    server_start s
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
}

check "two admin tools and a server change one keystore at once" at_once
check "no update is lost, no version given twice, the server has the last one" nothing_lost
check "a restarted server has every key" all_there_after_restart
finish
