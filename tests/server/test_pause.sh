#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Pausing several running servers, all or none, and resuming them in every case.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"
# shellcheck disable=SC2034 # for pause.sh
SWITCH=pkcs11_key_management_operations
# shellcheck source=tests/lib/pause.sh
source "$(dirname "$0")/../lib/pause.sh"

two_servers() {
    keyring_up keyring
    server_new a
    server_keyring a on
    server_new b
    server_keyring b on
    server_start a
    server_start b
    server_new plain # without our plugin
    server_start plain
    client_file plain
}

account() { # SERVER PASSWORD PRIVILEGES
    sql "$1" "CREATE OR REPLACE USER weak@localhost IDENTIFIED BY '$2'; GRANT $3 ON *.* TO weak@localhost"
    printf '[client]\nsocket = %s\nuser = weak\npassword = %s\n' "$WORK/$1/socket" "$2" >"$WORK/$1.weak.cnf"
    chmod 600 "$WORK/$1.weak.cnf"
}

# Of all servers, before any is paused.
missing_privileges() {
    local password
    password=$(random_hex 12)
    account a "$password" PROCESS
    account b "$password" SELECT
    ! "$WORK/bin/hold_pause" "$RECORD" pr "$WORK/plain.client.cnf" "$WORK/a.weak.cnf" "$WORK/b.weak.cnf" \
        >"$WORK/out" 2>"$WORK/err" || die "paused without the privilege"
    contains "$WORK/err" "$WORK/a/socket: SUPER; "
    contains "$WORK/err" "$WORK/b/socket: SUPER"
    lacks "$WORK/out" paused
    lacks "$WORK/err" "$password"
    is_on a
    is_on b
}

# The second of two fails when it comes to it: the first is resumed.
all_or_none() {
    sql b "CREATE OR REPLACE USER weak@localhost IDENTIFIED BY 'x$1'; GRANT SUPER ON *.* TO weak@localhost"
    printf '[client]\nsocket = %s\nuser = weak\npassword = x%s\n' "$WORK/b/socket" "$1" >"$WORK/b.weak.cnf"
    hold partly wpr "$WORK/a.client.cnf" "$WORK/b.weak.cnf"
    eventually 20 said partly opened
    server_kill b
    let_go partly
    ! wait "$hold_pid" || die "paused with a server that is gone"
    lacks "$WORK/partly.out" paused
    is_on a
    nothing_left
    server_start b
}

nothing_to_pause() {
    "$WORK/bin/hold_pause" "$RECORD" pr "$WORK/plain.client.cnf" >"$WORK/out"
    contains "$WORK/out" ": none"
    nothing_left
}

named_twice() {
    ! "$WORK/bin/hold_pause" "$RECORD" pr "$WORK/a.client.cnf" "$WORK/a.client.cnf" 2>"$WORK/err" ||
        die "one server, twice"
    contains "$WORK/err" "named twice"
}

foreign_record() {
    printf 'p11keyring-paused 1\nsocket %s\n' "$WORK/a/socket" >"$RECORD"
    own "$RECORD"
    ! repair 2>"$WORK/err" || die "connected where another account says"
    contains "$WORK/err" "was made by account"
    echo something >"$RECORD"
    chown "$(id -u)" "$RECORD"
    ! repair 2>"$WORK/err" || die "took anything for a record"
    contains "$WORK/err" "is no record"
    rm "$RECORD"
}

check "two servers with one keystore, and one without our plugin" two_servers
check "two servers are paused and resumed" pauses_and_resumes a b
check "a server that was off stays off" leaves_off_what_was_off a
check "a server without our plugin needs no pause" nothing_to_pause
check "missing privileges of all servers are named before any is paused" missing_privileges
check "all are paused or none" all_or_none "$(random_hex 8)"
check "a server named twice" named_twice
check "one run at a time" two_runs_at_once a
check "killed while servers are paused: they are resumed" killed_servers_are_resumed a b
check "the watchdog has a session of its own and nothing of ours, nor the password" watchdog_is_alone a \
    "$(random_hex 12)"
check "killed with the watchdog: the record repairs it" repairs_after_both_are_killed a b
check "the watchdog killed: we resume by the record" resumes_without_the_watchdog a
check "a record of another account, or of something else, is refused" foreign_record
check "a server killed while paused" server_killed_while_paused a b
check "a server started again while paused" server_started_again_while_paused a
[[ ! -e $WORK/kills ]] || cat "$WORK/kills"
finish
