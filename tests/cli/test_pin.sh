#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Where PINs come from, and that a wrong one is tried once.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
cli_keyring pin
PIN=$(<"$KEYRING/good-pin")

# Writes the PIN file as an admin does: a new inode, and no moment with a wrong mode.
write_pin() { # PIN
    printf '%s\n' "$1" >"$KEYRING/pin.new"
    chmod 600 "$KEYRING/pin.new"
    own "$KEYRING/pin.new"
    mv "$KEYRING/pin.new" "$KEYRING/pin"
}

token_says() { # true|false: wrong tries since the last good login
    expect 0 token info --json
    equal "$1" "$(json .pin_count_low)" "pin_count_low"
}

# A good login by another program clears the token's flag: if it stays clear, no attempt was made.
wrong_pin_is_tried_once() {
    write_pin "$(random_hex 8)"
    token_says false
    refuses 5 "CKR_PIN_INCORRECT" "token unguard" key create 1
    token_says true
    p11tool --list-objects >/dev/null 2>&1
    token_says false
    local command
    for command in "key create 1" "key rotate --all --yes" "master create --keystore /nowhere/x"; do
        # shellcheck disable=SC2086 # words
        tool $command >"$OUT" 2>"$ERR" && die "'$command' worked"
    done
    refuses 5 "" "token unguard" key create 1
    expect 3 status
    expect 3 key list
    expect 5 doctor
    contains "$OUT" "not tried"
    token_says false
    expect 0 token info --json
    equal true "$(json .guarded)" "guarded"
    json .guarded_since >/dev/null
}

new_pin_file_clears_the_guard() {
    write_pin "$PIN"
    expect 0 key create 1
    expect 0 token info --json
    equal false "$(json .guarded)" "guarded"
}

unguard() {
    write_pin "$(random_hex 8)"
    refuses 5 "CKR_PIN_INCORRECT" "" key create 2
    refuses 5 "" "token unguard" key create 2
    expect 0 token unguard --json
    is_json p11keyring.token.unguard/1
    equal true "$(json .cleared)" "cleared"
    refuses 5 "CKR_PIN_INCORRECT" "" key create 2
    expect 0 token unguard
    write_pin "$PIN"
    expect 0 key create 2
    expect 0 token unguard
    contains "$OUT" "was not guarded"
}

# By the mock's count of C_Login.
together_they_try_once() {
    local i pids=() before
    write_pin "$(random_hex 8)"
    before=$(mock_calls C_Login)
    ((before >= 3)) || die "the mock counts no logins"
    for i in 1 2 3; do
        tool key create 3 >/dev/null 2>"$WORK/together.$i" &
        pids+=($!)
    done
    for i in "${pids[@]}"; do fails_with 5 wait "$i"; done
    equal 1 "$(($(mock_calls C_Login) - before))" "attempts"
    refuses 5 "" "token unguard" key create 3
    equal 1 "$(($(mock_calls C_Login) - before))" "attempts in the end"
    cat "$KEYRING/good-pin" >"$KEYRING/pin"
    expect 0 key create 3
}

# CKF_USER_PIN_LOCKED and CKF_USER_PIN_FINAL_TRY (PKCS#11 v3.0, CK_TOKEN_INFO).
flags_are_read_first() {
    local before
    before=$(mock_calls C_Login)
    mock_rules "flags C_GetTokenInfo 0x40000"
    refuses 5 "locked" "" key create 4
    expect 5 doctor
    contains "$OUT" "the user PIN is locked"
    mock_rules "flags C_GetTokenInfo 0x20000"
    refuses 5 "one more wrong PIN locks" "" key create 4
    expect 5 doctor
    mock_rules ""
    equal "$before" "$(mock_calls C_Login)" "calls of C_Login"
    expect 0 key create 4
}

readable_by_others() {
    local mode
    for mode in 640 604 660; do
        chmod "$mode" "$KEYRING/pin"
        refuses 1 "$KEYRING/pin" "chmod" key create 4
    done
    chmod 600 "$KEYRING/pin"
    expect 0 key create 4
}

missing_sources() {
    refuses 1 "$KEYRING/no-pin" "" key create 5 --pin-source "file:$KEYRING/no-pin"
    refuses 1 "P11K_NO_SUCH" "" key create 5 --pin-source env:P11K_NO_SUCH
    refuses 1 "" "" key create 5 --pin-source cred:pin
    refuses 1 "" "" key create 5 --pin-source fd:77
}

other_sources() {
    P11K_PIN=$PIN expect 0 key create 10 --pin-source env:P11K_PIN
    tool key create 11 --pin-source fd:9 9<"$KEYRING/good-pin" >/dev/null
    CREDENTIALS_DIRECTORY=$KEYRING expect 0 key create 12 --pin-source cred:good-pin
    expect 0 key create 13 --pin-source "$KEYRING/good-pin"
    # Each is read once, by commands that need it twice.
    P11K_PIN=$PIN expect 0 status --pin-source env:P11K_PIN
    P11K_PIN=$PIN expect 0 doctor --pin-source env:P11K_PIN || expect 3 doctor
}

# The PIN does not show.
prompt() {
    on_terminal "$WORK/bin/p11keyring key create 20 --pin-source prompt" PIN "$PIN" ||
        { cat "$WORK/tty.out"; die "the prompt did not work"; }
    contains "$WORK/tty.out" "key 20 created"
    lacks "$WORK/tty.out" "$PIN"
    local wrong rc=0
    wrong=$(random_hex 6)
    on_terminal "$WORK/bin/p11keyring key create 21 --pin-source prompt" PIN "$wrong" || rc=$?
    equal 5 "$rc" "exit code after a wrong PIN"
    lacks "$WORK/tty.out" "$wrong"
    expect 0 token unguard
}

prompt_without_terminal() {
    local rc=0
    as_server setsid -w "$WORK/bin/p11keyring" key create 22 --pin-source prompt \
        >"$OUT" 2>"$ERR" </dev/null || rc=$?
    equal 1 "$rc" "exit code"
    contains "$ERR" "p11keyring: error: "
}

check "a wrong PIN is tried once" wrong_pin_is_tried_once
check "a new PIN file clears the guard" new_pin_file_clears_the_guard
check "token unguard clears the guard" unguard
mock_keyring together
check "three at once make one attempt" together_they_try_once
check "a PIN that is locked, or would be, is not tried" flags_are_read_first
keyring_use pin
check "a PIN file that others can read is refused" readable_by_others
check "a source that is not there is named" missing_sources
check "PINs come from env:, fd:, cred: and plain paths" other_sources
check "a PIN is asked for on the terminal and does not show" prompt
check "without a terminal the prompt is an error" prompt_without_terminal
finish
