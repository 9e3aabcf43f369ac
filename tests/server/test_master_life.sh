#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Master keys are rotated, a token is added and the keyring moves to it, while a server writes and
# makes keys: it needs no restart, and nothing is lost.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROTATIONS=${P11K_ROTATIONS:-3}

server_with_two_tokens() {
    keyring_up one
    printf '\n[mariadb]\nauto-create = yes\n' >>"$P11KEYRING_CONF"
    another_token two >>"$P11KEYRING_CONF"
    server_new s
    server_keyring s on
    server_start s
    load_table s kept 2000 row
    checksums s >"$WORK/sums"
    server_pid s >"$WORK/pid"
}

# The server makes keys at first use, and rows, until it is told to stop.
write_and_make_keys() {
    local i
    for ((i = 1; ; i++)); do
        [[ ! -e $WORK/stop ]] || break
        sql s "CREATE TABLE t.k$i (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=$((300 + i));
            INSERT INTO t.k$i SELECT seq FROM t.seq_1_to_100" || return
        tool key rotate 1 >/dev/null || return
    done
    echo "$i" >"$WORK/made"
}

master_keys() { # JQ-CONDITION: how many
    tool master list --json | jq "[.master_keys[] | select(.state == \"$1\")] | length"
}

rotated_under_load() {
    local i writer
    rm -f "$WORK/stop"
    write_and_make_keys >"$WORK/writer.log" 2>&1 &
    writer=$!
    for ((i = 0; i < ROTATIONS; i++)); do
        tool master rotate
    done
    tool master create --token two
    tool master rotate --token two
    tool keyring move --to two
    touch "$WORK/stop"
    wait "$writer" || die "the writer: $(<"$WORK/writer.log")"
    # What the server made after a rotation is wrapped for its new master key already.
    tool keyring sync --json >"$WORK/sync"
    equal 0 "$(jq .waiting "$WORK/sync")" "envelopes that wait"
    equal 1 "$(master_keys current)" "current master keys"
    equal $((ROTATIONS + 2)) "$(master_keys old)" "old master keys"
    equal "$(<"$WORK/pid")" "$(server_pid s)" "the server's process"
    equal "" "$(plugin_lines s ERROR)" "errors of the plugin"
}

retire_all_old() {
    local id
    while read -r id; do
        tool master retire "$id" --without-evidence --confirm "$(tool master list --json |
            jq -r --arg id "$id" '.master_keys[] | select(.id == $id) | .label')"
    done < <(tool master list --json | jq -r '.master_keys[] | select(.state == "old") | .id')
    equal 0 "$(master_keys old)" "old master keys"
}

server_goes_on() {
    sql s "CREATE TABLE t.last (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=900;
        INSERT INTO t.last VALUES (1)"
    sed -i '/^\[token:one\]/,/^pin-source/d' "$P11KEYRING_CONF"
    server_kill s
    server_start s
    equal 1 "$(sql s 'SELECT * FROM t.last')" "row under a key that was made last"
    local i
    for ((i = 1; i < $(<"$WORK/made"); i++)); do
        equal 100 "$(sql s "SELECT COUNT(*) FROM t.k$i")" "rows of t.k$i"
    done
    equal "$(grep kept "$WORK/sums")" "$(checksums s | grep kept)" "checksums"
}

check "a server, and a token for later" server_with_two_tokens
check "rotations, another token and a move under load, without a restart" rotated_under_load
check "the old master keys are retired" retire_all_old
check "the server makes keys, and starts with the new token alone" server_goes_on
finish
