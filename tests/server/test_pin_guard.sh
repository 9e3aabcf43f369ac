#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Two servers and mariadb-backup are started at once with a wrong PIN: the token sees one attempt,
# and no other until the PIN's source changes or an admin lifts the guard. The attempts are counted
# by OpenSC's pkcs11-spy, which logs each call to the module.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

SPY=$(dpkg -L opensc-pkcs11 | grep '/pkcs11-spy\.so$' | head -n 1)
export PKCS11SPY=$SOFTHSM_MODULE PKCS11SPY_OUTPUT=$WORK/spy.log

logins() { grep -c ': C_Login$' "$WORK/spy.log" || true; }

set_pin() { printf '%s' "$1" >"$KEYRING/pin"; }

two_servers_and_a_backup() {
    token_up keyring "$SPY"
    : >"$WORK/spy.log"
    own "$WORK/spy.log"
    tool master create >/dev/null
    (($(logins) == 1)) || die "the spy saw $(logins) logins instead of 1"
    server_new a
    server_keyring a on
    server_start a
    load_table a one 1000 row
    mkdir "$WORK/backup"
    own "$WORK/backup"
    (
        unset P11KEYRING_CONF
        as_server mariadb-backup --defaults-file="$WORK/a/my.cnf" --backup \
            --target-dir="$WORK/backup/full"
    )
    server_stop a
    server_new b
    server_keyring b on
}

prepare_backup() {
    (
        unset P11KEYRING_CONF
        as_server mariadb-backup --defaults-file="$WORK/backup/full/backup-my.cnf" --prepare \
            --target-dir="$WORK/backup/full"
    ) >"$WORK/prepare.log" 2>&1
}

one_attempt() {
    local pin
    pin=$(<"$KEYRING/pin")
    cp "$KEYRING/pin" "$WORK/right-pin"
    set_pin "wrong-$pin"
    : >"$WORK/spy.log"
    background prepare_backup
    local prepare=$background_pid
    server_launch a
    server_launch b
    wait_gone "$(server_pid a)" 30
    wait_gone "$(server_pid b)" 30
    if wait "$prepare"; then die "mariadb-backup worked with a wrong PIN"; fi
    equal 1 "$(logins)" "attempts to log in"
    grep -ahE 'ERROR|pkcs11_key_management' "$(server_log a)" "$(server_log b)" \
        "$WORK/prepare.log" | tee "$WORK/all.log"
    equal 1 "$(grep -c CKR_PIN_INCORRECT "$WORK/all.log")" "processes that saw the refusal"
    equal 2 "$(grep -c 'is not tried again; hint' "$WORK/all.log")" "processes that were held back"
}

no_other_attempt() {
    server_refuses a "token unguard"
    fails_with 5 tool key create 9
    if prepare_backup; then die "mariadb-backup worked with a wrong PIN"; fi
    equal 1 "$(logins)" "attempts to log in"
}

unguard_allows_one() {
    tool token unguard
    server_refuses a CKR_PIN_INCORRECT
    server_refuses b "token unguard"
    equal 2 "$(logins)" "attempts to log in"
}

the_right_pin() {
    set_pin "$(<"$WORK/right-pin")"
    prepare_backup
    server_start a
    server_start b
    equal 1000 "$(sql a 'SELECT COUNT(*) FROM t.one')" "rows"
}

check "two servers and a backup; logins are counted" two_servers_and_a_backup
check "three processes at once with a wrong PIN make one attempt" one_attempt
check "no process tries again" no_other_attempt
check "token unguard allows one more" unguard_allows_one
check "the right PIN in the file lifts the guard" the_right_pin
finish
