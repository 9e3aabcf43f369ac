#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# pkcs11_key_management_operations: while it is OFF the server works with the keys that it has, and
# leaves keystore and token alone; ON takes over what was missed.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

# Longer than a server needs to see a change (poll-interval) or that a token is away.
LONGER_THAN_A_LOOK=3

operations() { sql s "SELECT @@GLOBAL.pkcs11_key_management_operations"; }

set_operations() { sql s "SET GLOBAL pkcs11_key_management_operations = $1"; }

version_of_key_1() {
    sql s "SELECT DISTINCT current_key_version FROM information_schema.innodb_tablespaces_encryption
        WHERE current_key_id = 1"
}

is_at() { [[ $(version_of_key_1) == "$1" ]]; }

has_key() { # ID
    sql s "CREATE OR REPLACE TABLE t.probe (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=$1" 2>>"$WORK/err"
}

on_unless_told() {
    keyring_up keyring
    printf '\n[mariadb]\nauto-create = yes\n' >>"$P11KEYRING_CONF"
    server_new s
    server_keyring s on
    server_start s
    load_table s one 2000 row
    equal 1 "$(operations)" "operations after a start"
}

needs_super() {
    local password
    password=$(random_hex 12)
    sql s "CREATE USER weak@localhost IDENTIFIED BY '$password'; GRANT SELECT ON *.* TO weak@localhost"
    printf '[client]\nsocket = %s\nuser = weak\npassword = %s\n' "$WORK/s/socket" "$password" >"$WORK/weak.cnf"
    ! mariadb --defaults-file="$WORK/weak.cnf" -e \
        "SET GLOBAL pkcs11_key_management_operations = OFF" 2>"$WORK/err" || die "anybody may do this"
    contains "$WORK/err" "1227"
    equal 1 "$(operations)" "operations"
}

off_leaves_the_keystore_alone() {
    set_operations OFF
    tool key rotate 1 >/dev/null
    tool key create 50 >/dev/null
    sleep "$LONGER_THAN_A_LOOK"
    is_at 1
    ! has_key 50 || die "a key of another process was taken over"
    ! has_key 60 || die "a key was made"
    contains "$(server_log s)" "cannot be made: the keyring is paused; hint: SET GLOBAL pkcs11_key_management_operations = ON"
    ! tool key list | grep -qE '^ *60 ' || die "key 60 is in the keystore"
}

off_leaves_the_token_alone() {
    token_away
    sleep "$LONGER_THAN_A_LOOK"
    equal up "$(status_of s Pkcs11_key_management_token_state)" "state of a token nobody asked"
    token_back
    equal "" "$(plugin_lines s ERROR | grep -vF 'the keyring is paused')" "errors"
}

off_serves_what_is_there() {
    load_table s two 2000 row
    sql s "INSERT INTO t.one (txt) SELECT txt FROM t.two; ALTER TABLE t.one FORCE; FLUSH BINARY LOGS"
    equal 4000 "$(sql s 'SELECT COUNT(*) FROM t.one')" "rows"
    sql s "FLUSH TABLES; SELECT COUNT(*) FROM t.one"
}

on_takes_over_what_was_missed() {
    set_operations ON
    eventually 20 is_at 3
    has_key 50
    eventually 20 has_key 60
    token_away
    eventually 20 token_is_down
    token_back
    eventually 20 token_is_up
}

token_is_down() { [[ $(status_of s Pkcs11_key_management_token_state) == down ]]; }
token_is_up() { [[ $(status_of s Pkcs11_key_management_token_state) == up ]]; }

# A server that dies while it is paused is not paused after its restart; data is there.
restarted_it_is_on() {
    checksums s >"$WORK/sums"
    set_operations OFF
    server_kill s
    server_start s
    equal 1 "$(operations)" "operations after a restart"
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
}

started_off() {
    server_stop s
    server_start s --pkcs11-key-management-operations=OFF
    equal 0 "$(operations)" "operations"
    sql s "CREATE USER $RUN_AS@localhost IDENTIFIED VIA unix_socket;
        GRANT PROCESS, SELECT, BINLOG MONITOR ON *.* TO $RUN_AS@localhost"
    fails_with 3 tool mariadb status --server="$WORK/s/socket" >"$WORK/out" 2>"$WORK/err"
    contains "$WORK/err" "the keyring is paused: pkcs11_key_management_operations is OFF"
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
    ! has_key 70 || die "a key was made"
    set_operations ON
    eventually 20 has_key 70
    tool mariadb status --server="$WORK/s/socket" >"$WORK/out"
}

check "operations are ON unless told otherwise" on_unless_told
check "SET GLOBAL needs SUPER" needs_super
check "OFF: keys are neither taken over nor made, and the log says what to do" off_leaves_the_keystore_alone
check "OFF: the token is left alone" off_leaves_the_token_alone
check "OFF: the keys that are there are served" off_serves_what_is_there
check "ON takes over what was missed" on_takes_over_what_was_missed
check "a server killed while OFF is ON after its restart" restarted_it_is_on
check "a server can be started with OFF, which status warns of" started_off
finish
