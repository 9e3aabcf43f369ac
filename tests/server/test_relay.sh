#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Relay logs of a replica, encrypted by its own keyring: inspect, verify and decrypt read them without
# a server, and mariadb-binlog reads what comes out.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

BINLOG=$UNPACKED/mariadb-binlog
PASSWORD=$(random_hex 12)
MARKER=marker-$(random_hex 8)

relay_logs() { find "$WORK/replica/data" -name 'relay.0*' | sort; }

a_replica() {
    local port
    port=$(free_port)
    keyring_up source
    server_new source
    server_keyring source on
    sed -i '/^skip-networking/d' "$WORK/source/my.cnf"
    server_options source "bind-address = 127.0.0.1" "port = $port" "server-id = 1"
    server_start source
    sql source "CREATE USER peer@'127.0.0.1' IDENTIFIED BY '$PASSWORD';
        GRANT REPLICATION SLAVE ON *.* TO peer@'127.0.0.1'; RESET MASTER"
    keyring_up replica
    server_new replica
    server_keyring replica on
    server_options replica "relay-log = $WORK/replica/data/relay" "server-id = 2" \
        "skip-slave-start" "relay-log-purge = OFF" "max-relay-log-size = 64K"
    server_start replica
    sql replica "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = $port,
        MASTER_USER = 'peer', MASTER_PASSWORD = '$PASSWORD', MASTER_USE_GTID = slave_pos,
        MASTER_CONNECT_RETRY = 1; START SLAVE"
    load_table source orders 3000 "$MARKER"
    sql source "INSERT INTO t.orders (txt) VALUES ('$MARKER is the last')"
    eventually 30 replicated
    server_stop source
    server_stop replica
}

replicated() {
    [[ $(sql replica "SELECT COUNT(*) FROM t.orders WHERE txt = '$MARKER is the last'" 2>/dev/null) == 1 ]]
}

they_are_read() {
    local logs
    mapfile -t logs < <(relay_logs)
    ((${#logs[@]} >= 3)) || die "only ${#logs[@]} relay logs"
    ! grep -laF "$MARKER" "${logs[@]}" || die "a relay log is in the clear"
    tool inspect --json "${logs[@]}" >"$WORK/inspect"
    equal "mariadb-binlog 1 1 yes" "$(jq -r '.files[] | [.kind, .needs[0].key, .needs[0].version,
        .needs[0].here] | join(" ")' "$WORK/inspect" | sort -u)" "kind and key"
    tool verify "${logs[@]}" >"$WORK/out" || die "$(<"$WORK/out")"
}

they_are_decrypted() {
    local log
    mkdir "$WORK/clear"
    own "$WORK/clear"
    while IFS= read -r log; do
        tool decrypt "$log" 2>/dev/null | "$BINLOG" --no-defaults --verbose - >>"$WORK/events"
        tool decrypt "$log" -o "$WORK/clear" >/dev/null 2>&1
        "$BINLOG" --no-defaults --verbose "$WORK/clear/${log##*/}" >>"$WORK/events2"
    done < <(relay_logs)
    contains "$WORK/events" "$MARKER is the last"
    contains "$WORK/events2" "$MARKER is the last"
    equal 3001 "$(grep -ao "$MARKER" "$WORK/clear"/* | wc -l)" "rows"
    own "$WORK/clear"
}

damage_is_named() {
    local log size
    log=$(relay_logs | sed -n 2p)
    size=$(stat -c %s "$log")
    cp "$log" "$WORK/clear/relay.000009"
    own "$WORK/clear"
    printf '\xa5\x5a\xa5' |
        dd of="$WORK/clear/relay.000009" bs=1 seek=$((size / 2)) conv=notrunc status=none
    fails_with 6 tool verify "$WORK/clear/relay.000009" >"$WORK/out" 2>&1
    grep -qE "event [0-9]+: " "$WORK/out" || die "no event is named: $(<"$WORK/out")"
}

check "a replica with encrypted relay logs" a_replica
check "inspect and verify read them" they_are_read
check "decrypt writes what mariadb-binlog reads, to files and to a pipe" they_are_decrypted
check "a damaged event of one is named" damage_is_named
finish
