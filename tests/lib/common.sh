# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# What every shell test stands on; source it first, end with `finish`.
#
#   check "what must hold" function [args]   runs it in a subshell with errexit and counts it; its
#                                            output is shown only when it fails
#   finish                                   prints this script's counts and exits
#
# Everything lives in $WORK, a private folder that the unprivileged user $RUN_AS can reach, and is
# removed at the end (P11K_KEEP=1 leaves it). Background processes are started with `background` or
# leave a pidfile *.pid in $WORK; both kinds are ended by pid at the end.
[[ -z ${P11K_COMMON_LOADED:-} ]] || return 0
P11K_COMMON_LOADED=1
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${P11K_BUILD:-$ROOT/build/test}
SOFTHSM_MODULE=${P11K_SOFTHSM_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
RUN_AS=nobody
passed=0
failed=0

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# --- processes -------------------------------------------------------------------------------------

# Alive and not merely waiting to be reaped: while threads of it are left, so are its locks.
alive() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    read -ra stat <<<"${stat##*) }" # state is field 3 of proc(5), the number of threads field 20
    [[ ${stat[0]} != Z ]] || ((stat[17] > 1))
}

wait_gone() { # PID SECONDS
    local end=$((SECONDS + $2))
    while alive "$1"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# Runs its arguments in the background and remembers the pid, also when called in a subshell. The
# pid is left in $background_pid; of a function it is that of a shell around what the function runs.
background() {
    "$@" &
    background_pid=$!
    echo "$background_pid" >"$WORK/background.$background_pid.pid"
}

end_process() { # PIDFILE [SIGNAL]
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    rm -f "$1"
    alive "$pid" || return 0
    kill "-${2:-TERM}" "$pid" 2>/dev/null || return 0
    wait_gone "$pid" 20 || kill -KILL "$pid" 2>/dev/null || true
    wait_gone "$pid" 5 || true
}

end_all_processes() {
    local file
    while IFS= read -r file; do
        end_process "$file" KILL
    done < <(find "$WORK" -name '*.pid' 2>/dev/null)
}

# shellcheck disable=SC2317 # called by trap
common_cleanup() {
    local rc=$?
    trap - EXIT
    end_all_processes
    if [[ -n ${P11K_KEEP:-} ]]; then
        echo "kept: $WORK" >&2
    else
        rm -rf "$WORK"
    fi
    exit "$rc"
}

# As the user that servers run as; environment and working directory are kept.
AS_SERVER=(env)
((EUID != 0)) ||
    AS_SERVER=(setpriv --reuid="$RUN_AS" --regid="$(id -g "$RUN_AS")" --clear-groups --)

as_server() { "${AS_SERVER[@]}" "$@"; }

own() { # gives files to the user that servers run as
    ((EUID != 0)) || chown -R "$RUN_AS:$(id -g "$RUN_AS")" "$@"
}

# --- checks ----------------------------------------------------------------------------------------

record() { # pass|fail WHAT
    [[ -z ${P11K_RESULTS:-} ]] || printf '%s %s\n' "$1" "$2" >>"$P11K_RESULTS"
}

check() {
    local what=$1 rc=0 start=$EPOCHREALTIME log=$WORK/check.log
    shift
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1
    rc=$?
    set -e
    [[ ! -f $WORK/selected ]] || keyring_use "$(<"$WORK/selected")"
    local ms=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
    if ((rc == 0)); then
        passed=$((passed + 1))
        printf 'ok    %s (%d.%d s)\n' "$what" $((ms / 1000)) $((ms % 1000 / 100))
        record pass "$what"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s\n' "$what"
        sed 's/^/      | /' "$log"
        record fail "$what"
    fi
}

finish() {
    printf '%s: %d ok, %d failed\n' "$(basename "$0" .sh)" "$passed" "$failed"
    ((failed == 0))
    exit
}

# Assertions, for use inside check functions. They say what they saw.
equal() { # WANTED SEEN WHAT
    [[ $1 == "$2" ]] || die "${3:-value}: wanted '$1', saw '$2'"
}

contains() { # FILE TEXT
    grep -qF -- "$2" "$1" || {
        tail -n 40 "$1" >&2
        die "'$2' is not in $1"
    }
}

lacks() { # FILE TEXT
    ! grep -aF -- "$2" "$1" >&2 || die "'$2' is in $1"
}

fails_with() { # EXIT-CODE COMMAND...
    local want=$1 rc=0
    shift
    "$@" || rc=$?
    equal "$want" "$rc" "exit code of $*"
}

# A command line on a terminal of its own, where prompts are: each that is named is awaited, and gets its
# answer; one more is waited for in vain. What is on the terminal is then in $WORK/tty.out.
on_terminal() { # COMMAND {PROMPT ANSWER}...
    local pid rc=0
    rm -f "$WORK/tty.in" "$WORK/tty.out"
    mkfifo "$WORK/tty.in"
    as_server timeout --foreground 60 script -qefc "$1" /dev/null \
        <"$WORK/tty.in" >"$WORK/tty.out" 2>&1 &
    pid=$!
    shift
    exec 8>"$WORK/tty.in"
    while (($#)); do
        eventually 20 grep -q "$1" "$WORK/tty.out"
        printf '%s\n' "$2" >&8
        shift 2
    done
    wait "$pid" || rc=$?
    exec 8>&-
    return "$rc"
}

# Polls a command until it succeeds.
eventually() { # SECONDS COMMAND...
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/./} < end)) || die "not within the time: $*"
        sleep 0.1
    done
}

# --- tokens and keyrings ---------------------------------------------------------------------------

random_hex() { # BYTES
    od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}

# Makes $WORK/NAME with a SoftHSM2 token (label NAME) of its own, a random PIN in a file, and a
# configuration; no keystore. Selects it (see keyring_use).
token_up() { # NAME [MODULE]
    local dir=$WORK/$1
    mkdir -p "$dir/tokens" "$dir/keyring"
    sed "s|@TOKENDIR@|$dir/tokens|" "$ROOT/softhsm-conf/softhsm2.conf.in" >"$dir/softhsm2.conf"
    random_hex 12 >"$dir/pin"
    random_hex 12 >"$dir/so-pin"
    chmod 700 "$dir" "$dir/tokens" "$dir/keyring"
    chmod 600 "$dir/pin" "$dir/so-pin"
    write_conf "$dir/p11keyring.conf" "$1" "$dir" "${2:-$SOFTHSM_MODULE}"
    own "$dir"
    keyring_use "$1"
    tool token init --label "$1" --so-pin-source "file:$dir/so-pin" >"$WORK/init.log" 2>&1 || {
        cat "$WORK/init.log" >&2
        die "token init failed"
    }
}

write_conf() { # FILE TOKEN-LABEL DIR MODULE
    cat >"$1" <<CONF
[token:$2]
module = $4
uri = pkcs11:token=$2
pin-source = file:$3/pin

[keyring]
name = test
keystore = $3/keyring/test.keystore

[pkcs11]
timeout = 3000
CONF
}

# Makes another token for the selected keyring and prints its section. It stands behind a copy of the
# module: SoftHSM2 loses a token whose file it reads while another process writes it, and has to be
# initialised anew, which is not done while the other token is in use.
another_token() { # NAME
    local module=$WORK/lib/softhsm2-$1.so
    cp "$SOFTHSM_MODULE" "$module"
    as_server softhsm2-util --init-token --free --label "$1" --so-pin "$(<"$KEYRING/so-pin")" \
        --pin "$(<"$KEYRING/pin")" >/dev/null
    printf '\n[token:%s]\nmodule = %s\nuri = pkcs11:token=%s\npin-source = file:%s/pin\n\n' "$1" \
        "$module" "$1" "$KEYRING"
}

# Takes the selected keyring's token away from under whoever uses it.
token_away() {
    mv "$KEYRING/tokens" "$KEYRING/tokens.away"
    as_server mkdir "$KEYRING/tokens"
}

token_back() {
    rmdir "$KEYRING/tokens"
    mv "$KEYRING/tokens.away" "$KEYRING/tokens"
}

# Lets servers of the selected keyring start without its token.
allow_start_cache() {
    random_hex 32 >"$KEYRING/passphrase"
    own "$KEYRING/passphrase"
    chmod 600 "$KEYRING/passphrase"
    cat >>"$P11KEYRING_CONF" <<CONF

[keyring]
start-cache = $KEYRING/keyring/start.cache
start-cache-key = file:$KEYRING/passphrase
CONF
}

# The keyring that `tool` and servers started from now on use; kept from one check to the next.
keyring_use() { # NAME
    echo "$1" >"$WORK/selected"
    KEYRING=$WORK/$1
    export SOFTHSM2_CONF=$KEYRING/softhsm2.conf P11KEYRING_CONF=$KEYRING/p11keyring.conf
}

# As token_up, but the module is the one in tests/mock, which passes calls on to SoftHSM2 and
# misbehaves as mock_rules says (see tests/mock/control.h).
mock_token_up() { # NAME
    mock_rules ""
    token_up "$1" "$WORK/lib/p11k_mock.so"
}

mock_rules() { # RULES
    printf '%s\n' "$1" >"$WORK/mock.control.new"
    mv "$WORK/mock.control.new" "$WORK/mock.control"
}

# A token and a keystore with master key.
keyring_up() { # NAME
    token_up "$1"
    tool master create >/dev/null
}

# The admin tool, as the user that servers run as.
tool() {
    as_server "$WORK/bin/p11keyring" "$@"
}

# Kills the admin tool at a random moment of the time that it takes; false when it had ended before, and
# well. The time is a guess at first, which grows with each hit and shrinks with each miss, so that a
# fast machine is hit, and a slow one to the end.
kill_window_ms=500
kill_tool_inside() { # ARGUMENT...
    local rc=0 ms=$((RANDOM % kill_window_ms))
    keep_softhsm
    background "${AS_SERVER[@]}" "$WORK/bin/p11keyring" "$@" >"$WORK/killed" 2>&1
    sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    kill -KILL "$background_pid" 2>/dev/null || true
    wait "$background_pid" 2>/dev/null || rc=$?
    rm -f "$WORK/background.$background_pid.pid"
    put_softhsm_right
    if ((rc == 137)); then
        kill_window_ms=$((kill_window_ms * 9 / 8 + 1))
        return 0
    fi
    ((rc == 0)) || die "not killed, and failed: $(tail -n 3 "$WORK/killed")"
    kill_window_ms=$((kill_window_ms * 3 / 4 + 1))
    return 1
}

# At each login SoftHSM2 empties its file of the token and writes it anew: a kill in between takes the
# token, which no hardware would lose with its user. So that file is kept before, and put back after.
keep_softhsm() {
    mkdir "$WORK/softhsm"
    cp -a "$KEYRING/tokens" "$WORK/softhsm/"
}

put_softhsm_right() {
    local file
    (cd "$WORK/softhsm" && find tokens -name token.object) | while IFS= read -r file; do
        cp -p "$WORK/softhsm/$file" "$KEYRING/$file"
    done
    rm -r "$WORK/softhsm"
}

# --- set-up ----------------------------------------------------------------------------------------

# The build may be in a folder that the server's user cannot reach (root's home): use copies.
install_copies() {
    mkdir -p "$WORK/bin" "$WORK/lib"
    cp "$BUILD/bin/p11keyring" "$WORK/bin/"
    cp "$BUILD/lib/pkcs11_key_management.so" "$WORK/lib/"
    [[ ! -f $BUILD/tests/mock/p11k_mock.so ]] || cp "$BUILD/tests/mock/p11k_mock.so" "$WORK/lib/"
}

WORK=$(mktemp -d "${P11K_WORK:-/var/tmp}/p11keyring-test.XXXXXX")
chmod 755 "$WORK"
export P11K_MOCK_MODULE=$SOFTHSM_MODULE P11K_MOCK_CONTROL=$WORK/mock.control
trap common_cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
install_copies
