#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# No PIN and no data key in a core of the tool, in its log, or in its files.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
cli_keyring secret
PIN=$(<"$KEYRING/good-pin")
KEY=
until [[ -n $KEY ]] && ! fold -w 2 <<<"$KEY" | grep -qx 0a; do # grep takes 0a for the end of a line
    KEY=$(random_hex 32)
done
printf '%s' "$KEY" >"$KEYRING/import"
chmod 600 "$KEYRING/import"
own "$KEYRING/import"
tool key create 1 --import-hex-from "$KEYRING/import" >/dev/null
rm "$KEYRING/import"

raw_pattern() { # HEX: for grep -P
    # shellcheck disable=SC2001 # every two digits
    sed 's/../\\x&/g' <<<"$1"
}

found() { # FILE TEXT HEX: how often text, hexadecimal text and raw bytes are in the file
    LC_ALL=C grep -acoF -- "$2" "$1" || true
    LC_ALL=C grep -acioF -- "$3" "$1" || true
    LC_ALL=C grep -acoP -- "$(raw_pattern "$3")" "$1" || true
}

hex_of() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }

tool_below() { # PID: of the tool that it started, perhaps through a shell
    local pid=$1
    until [[ $(<"/proc/$pid/comm") == p11keyring ]]; do
        read -r pid <"/proc/$pid/task/$pid/children"
    done
    echo "$pid"
}

# The tool waits for a confirmation with the keyring open: all data keys unwrapped, PIN used. Planted
# beside them, as raw bytes and as hexadecimal digits, are words that the search must find.
PLANTED=$(random_hex 32)
wait_and_dump() {
    local pid
    mkfifo "$WORK/tty.in"
    P11K_PLANTED=$PLANTED "${AS_SERVER[@]}" script -qefc "$WORK/bin/p11keyring key rotate --all -v" /dev/null \
        <"$WORK/tty.in" >"$WORK/tty.out" 2>&1 &
    exec 8>"$WORK/tty.in"
    eventually 20 grep -q 'Rotate 1 keys' "$WORK/tty.out"
    pid=$(tool_below $!)
    grep VmLck "/proc/$pid/status" >"$WORK/locked"
    # A sanitizer's address space makes a core of terabytes: better no core than a full disk.
    (ulimit -f 2000000 && gcore -o "$WORK/core" "$pid") >"$WORK/gcore.log" 2>&1 || { cat "$WORK/gcore.log"; exit 1; }
    mv "$WORK/core.$pid" "$WORK/core"
    echo n >&8
    exec 8>&-
    wait || true
}

core_has_no_secret() {
    wait_and_dump
    [[ -s $WORK/core ]] || die "there is no core"
    equal "0 0 0" "$(found "$WORK/core" "$KEY" "$KEY" | xargs)" "data key in the core"
    equal "0 0 0" "$(found "$WORK/core" "$PIN" "$(hex_of "$PIN")" | xargs)" "PIN in the core"
}

search_finds_what_is_there() {
    LC_ALL=C grep -qaF -- "$PLANTED" "$WORK/core" || die "the planted word is not found as text"
    LC_ALL=C grep -qaP -- "$(raw_pattern "$(hex_of "$PLANTED")")" "$WORK/core" ||
        die "the planted word is not found as bytes"
    cp "$WORK/core" "$WORK/core.planted"
    # shellcheck disable=SC2059 # the bytes are the format
    printf "$(raw_pattern "$KEY")" >>"$WORK/core.planted"
    equal "0 0 1" "$(found "$WORK/core.planted" "$KEY" "$KEY" | xargs)" "data key as raw bytes"
}

memory_is_locked() {
    local kib
    kib=$(awk '{print $2}' "$WORK/locked")
    ((kib >= 4)) || die "VmLck is $kib kB"
}

logs_have_no_secret() {
    local command
    for command in status "key list" "key show 1" "key rotate 1" "master list" doctor "token info"; do
        # shellcheck disable=SC2086 # words
        tool $command --verbose >"$OUT" 2>"$ERR" || true
        cat "$OUT" "$ERR" >>"$WORK/verbose"
    done
    [[ -s $WORK/verbose ]] || die "nothing was said"
    equal "0 0 0" "$(found "$WORK/verbose" "$KEY" "$KEY" | xargs)" "data key in the log"
    equal "0 0 0" "$(found "$WORK/verbose" "$PIN" "$(hex_of "$PIN")" | xargs)" "PIN in the log"
}

files_have_no_secret() {
    find "$KEYRING/keyring" "$KEYRING/tokens" -type f -exec cat {} + >"$WORK/files"
    equal "0 0 0" "$(found "$WORK/files" "$KEY" "$KEY" | xargs)" "data key in the files"
    equal "0 0 0" "$(found "$WORK/files" "$PIN" "$(hex_of "$PIN")" | xargs)" "PIN in the files"
}

too_little_memory_to_lock() {
    (
        ulimit -l 0
        expect 0 key list
        contains "$ERR" "memory"
        sed '/^\[keyring\]/a lock-memory = require' "$P11KEYRING_CONF" >"$WORK/require.conf"
        chmod 644 "$WORK/require.conf"
        expect 1 key list --config "$WORK/require.conf"
        expect 3 doctor
        contains "$OUT" "LimitMEMLOCK"
    )
}

is_closed() { # PID: what is not dumpable belongs to root in /proc
    [[ $(<"/proc/$1/comm") == p11keyring && $(stat -c %U "/proc/$1/mem") == root ]] &&
        grep -q '^Max core file size *0 *0' "/proc/$1/limits"
}

nobody_else_may_trace() {
    mkfifo "$WORK/trace.in"
    "${AS_SERVER[@]}" "$WORK/bin/p11keyring" key create 9 --import-hex-from - \
        <"$WORK/trace.in" >/dev/null 2>&1 &
    exec 9>"$WORK/trace.in"
    eventually 10 is_closed $!
    exec 9>&-
    wait || true
}

check "a core of the tool holds no PIN and no data key" core_has_no_secret
check "the search finds planted words, as text and as bytes" search_finds_what_is_there
check "memory for secrets is locked" memory_is_locked
check "logs at the highest verbosity hold no secret" logs_have_no_secret
check "keystore and token files hold no secret" files_have_no_secret
check "too little lockable memory is told, or refused if so configured" too_little_memory_to_lock
check "the tool cannot be traced and writes no core" nobody_else_may_trace
finish
