#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# One audit log of a real server and the admin tool: who did what, in order, in one chain.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"
# shellcheck source=tests/lib/audit.sh
source "$(dirname "$0")/../lib/audit.sh"

LOG=$WORK/keyring/keyring/audit.log

server_with_a_log() {
    token_up keyring
    audit_on
    tool master create >/dev/null
    server_new s
    server_keyring s on
    server_start s
    load_table s one 2000 row
}

server_is_at() { [[ $(sql s "SELECT MAX(current_key_version) FROM
    information_schema.innodb_tablespaces_encryption") == "$1" ]]; }

one_chain() {
    tool key rotate 1 >/dev/null
    eventually 5 server_is_at 3
    eventually 5 grep -q '"event":"keyring-refresh"' "$LOG"
    server_stop s
    server_start s
    audit_story >"$WORK/story"
    has_in_order "$WORK/story" "p11keyring log-start ok" "p11keyring master-create ok" \
        "mariadbd token-login ok" "mariadbd keyring-open ok" "mariadbd key-create ok 1" \
        "p11keyring token-login ok" "p11keyring keyring-open ok" "p11keyring key-rotate ok 1" \
        "mariadbd keyring-refresh ok" "mariadbd token-login ok" "mariadbd keyring-open ok"
    equal "$(id -u nobody)" "$(jq -r 'select(.actor.program == "mariadbd") | .actor.uid' "$LOG" |
        sort -u)" "the server's user"
    audit_verified
}

# Servers go on without a log, and say so once.
warn() {
    mv "$LOG" "$LOG.aside"
    as_server mkdir "$LOG"
    tool key rotate 1 >/dev/null 2>&1
    eventually 5 server_is_at 5
    eventually 5 lost_some
    equal 1 "$(grep -c 'audit log cannot be written' "$(server_log s)")" "warnings of the server"
    rmdir "$LOG"
    mv "$LOG.aside" "$LOG"
    server_stop s
}

lost_some() { (($(status_of s Pkcs11_key_management_audit_lost) > 0)); }

require() {
    sed -i "s|^\[keyring\]|&\naudit-policy = require|" "$P11KEYRING_CONF"
    mv "$LOG" "$LOG.aside"
    as_server mkdir "$LOG"
    server_refuses s "audit-policy = require"
    rmdir "$LOG"
    mv "$LOG.aside" "$LOG"
    server_start s
    equal 2000 "$(sql s 'SELECT COUNT(*) FROM t.one')" "rows"
    server_stop s
}

check "a server with an audit log" server_with_a_log
check "server and tool share one chain, in order, which verifies" one_chain
check "audit-policy = warn: the server goes on, and says so once" warn
check "audit-policy = require: the server starts only with its log" require
finish
