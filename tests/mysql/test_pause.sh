#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Pausing running MySQL servers, all or none, and resuming them in every case. keyring_operations is
# the server's own, so the kind of keyring does not matter.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"
# shellcheck disable=SC2034 # for pause.sh
SWITCH=keyring_operations
# shellcheck source=tests/lib/pause.sh
source "$(dirname "$0")/../lib/pause.sh"

two_servers() {
    local name
    for name in a b; do
        server_new "$name"
        server_keyring "$name"
        server_start "$name"
        load_table "$name" one 100 row "ENCRYPTION='Y'"
    done
}

# What a pause stops, and what it does not.
a_pause_stops_changes() {
    hold one pwr "$WORK/a.client.cnf"
    eventually 20 said one paused
    sql_fails a "ERROR 3185" "ALTER INSTANCE ROTATE INNODB MASTER KEY"
    sql a "CREATE TABLE t.two ENCRYPTION='Y' AS SELECT * FROM t.one"
    let_go one
    wait "$hold_pid"
    sql a "ALTER INSTANCE ROTATE INNODB MASTER KEY"
}

account() { # SERVER PASSWORD PRIVILEGES
    sql "$1" "DROP USER IF EXISTS weak@localhost; CREATE USER weak@localhost IDENTIFIED BY '$2';
        GRANT $3 ON *.* TO weak@localhost"
    printf '[client]\nsocket = %s\nuser = weak\npassword = %s\n' "$WORK/$1/socket" "$2" >"$WORK/$1.weak.cnf"
    chmod 600 "$WORK/$1.weak.cnf"
}

refused_for_want_of() { # PRIVILEGES
    ! "$WORK/bin/hold_pause" "$RECORD" pr "$WORK/b.client.cnf" "$WORK/a.weak.cnf" >"$WORK/out" 2>"$WORK/err" ||
        die "paused without $1"
    contains "$WORK/err" "$WORK/a/socket: $1"
    lacks "$WORK/out" paused
    is_on a
    is_on b
}

missing_privileges() {
    local password
    password=$(random_hex 12)
    account a "$password" PROCESS
    refused_for_want_of "ENCRYPTION_KEY_ADMIN, SYSTEM_VARIABLES_ADMIN"
    account a "$password" ENCRYPTION_KEY_ADMIN
    refused_for_want_of SYSTEM_VARIABLES_ADMIN
    account a "$password" SUPER
    refused_for_want_of ENCRYPTION_KEY_ADMIN
    account a "$password" "ENCRYPTION_KEY_ADMIN, SUPER"
    "$WORK/bin/hold_pause" "$RECORD" pr "$WORK/a.weak.cnf"
    account a "$password" "ENCRYPTION_KEY_ADMIN, SYSTEM_VARIABLES_ADMIN"
    "$WORK/bin/hold_pause" "$RECORD" pr "$WORK/a.weak.cnf"
    lacks "$WORK/err" "$password"
}

check "two servers" two_servers
check "two servers are paused and resumed" pauses_and_resumes a b
check "a pause stops changes of keys and nothing else" a_pause_stops_changes
check "a server that was off stays off" leaves_off_what_was_off a
check "missing privileges are named before any server is paused" missing_privileges
check "one run at a time" two_runs_at_once a
check "killed while servers are paused: they are resumed" killed_servers_are_resumed a b
check "killed with the watchdog: the record repairs it" repairs_after_both_are_killed a b
check "the watchdog killed: we resume by the record" resumes_without_the_watchdog a
check "a server killed while paused" server_killed_while_paused a b
check "a server started again while paused" server_started_again_while_paused a
[[ ! -e $WORK/kills ]] || cat "$WORK/kills"
finish
