#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The keyring's own master keys are rotated and retired, and the keyring moves to another token,
# while mysqld writes and rotates the InnoDB master key.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

ROTATE="ALTER INSTANCE ROTATE INNODB MASTER KEY"

server_with_tables() {
    server_new l
    server_keyring l
    as_server softhsm2-util --init-token --free --label two --so-pin "$(<"$KEYRING/so-pin")" \
        --pin "$(<"$KEYRING/pin")" >/dev/null
    server_start l
    many_tables l one 5
    checksums l >"$WORK/sums"
}

write_and_rotate() {
    local i
    sql l "CREATE TABLE t.written (id INT PRIMARY KEY, b TEXT) ENCRYPTION='Y'"
    for ((i = 0; ; i++)); do
        [[ ! -e $WORK/stop ]] || break
        sql l "INSERT INTO t.written VALUES ($i, REPEAT('x', 500))" || return
        sql l "$ROTATE" || return
    done
    echo "$i" >"$WORK/written"
}

under_load() { # COMMAND...: while the server writes
    rm -f "$WORK/stop"
    write_and_rotate >"$WORK/writer.log" 2>&1 &
    local writer=$!
    "$@"
    touch "$WORK/stop"
    wait "$writer" || { tail -n 20 "$(server_log l)" >&2; die "the writer: $(<"$WORK/writer.log")"; }
    equal "$(<"$WORK/written")" "$(sql l 'SELECT COUNT(*) FROM t.written')" "rows"
    sql l "DROP TABLE t.written"
}

rotations() {
    local i
    for i in 1 2 3; do tool master rotate; done
}

rotated_under_load() {
    under_load rotations
    tool keyring sync >/dev/null
    local n
    for n in 1 2 3; do
        tool master retire "p11keyring:test:$n" --without-evidence --confirm "p11keyring:test:$n"
    done
    sql l "$ROTATE"
    same_checksums l "$WORK/sums"
    server_kill l
    server_start l
    same_checksums l "$WORK/sums"
}

# What lives in the old token stays there; mysqld makes the next one in the first token, and then
# needs the old token no more.
moved() {
    sed -i "1i [token:two]\nmodule = $SOFTHSM_MODULE\nuri = pkcs11:token=two\npin-source = file:$KEYRING/pin\n" \
        "$P11KEYRING_CONF"
    sql l "ALTER INSTANCE RELOAD KEYRING"
    if [[ $KIND == token ]]; then
        fails_with 7 tool keyring move --to two 2>"$WORK/refused"
        contains "$WORK/refused" "can never leave it"
    fi
    under_load tool keyring move --to two --yes
    sql l "$ROTATE"
    server_stop l
    server_start l
    same_checksums l "$WORK/sums"
    [[ $KIND == wrapped ]] || tool master list --json >"$WORK/masters"
    [[ $KIND == wrapped ]] || equal two "$(jq -r '[.master_keys[] | select(.state == "mysql")] |
        sort_by(.label | split("-") | last | tonumber) | last | .token' "$WORK/masters")" \
        "the token of the newest key"
    tool master retire p11keyring:test:4 --without-evidence --confirm p11keyring:test:4
    sed -i '/^\[token:l.keyring\]/,/^pin-source/d' "$P11KEYRING_CONF"
    server_kill l
    server_start l
    same_checksums l "$WORK/sums"
}

for KIND in $KINDS; do
    [[ $KIND != file ]] || continue
    check "$KIND: a server with encrypted tables" server_with_tables
    check "$KIND: master keys are rotated under load, and retired" rotated_under_load
    check "$KIND: the keyring moves to another token" moved
    servers_remove l
done
finish
