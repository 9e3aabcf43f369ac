# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Servers of either make that are paused by tests/load/hold_pause; the sourcing script has sourced
# mariadb.sh or mysql.sh before, and gives SWITCH, the variable that pauses a server.
#
#   hold NAME STEPS SERVER...   in the background; its output is $WORK/NAME.out and .err, its pid
#                               $hold_pid
#   let_go NAME                 gives it the line that it waits for
cp "$BUILD/tests/load/hold_pause" "$WORK/bin/"
RECORD=$WORK/record
KILLS=${P11K_KILLS:-4}

# As root of the server, by an option file.
client_file() { # NAME
    printf '[client]\nsocket = %s\nuser = root\n' "$WORK/$1/socket" >"$WORK/$1.client.cnf"
    chmod 600 "$WORK/$1.client.cnf"
}

is_on() { [[ $(sql "$1" "SELECT @@GLOBAL.$SWITCH") == 1 ]]; }
is_off() { [[ $(sql "$1" "SELECT @@GLOBAL.$SWITCH") == 0 ]]; }

hold() { # NAME STEPS SERVER...
    local name=$1 steps=$2
    shift 2
    rm -f "$WORK/$name.in"
    mkfifo "$WORK/$name.in"
    : >"$WORK/$name.out"
    "$WORK/bin/hold_pause" "$RECORD" "$steps" "$@" \
        <>"$WORK/$name.in" >"$WORK/$name.out" 2>"$WORK/$name.err" &
    hold_pid=$!
    echo "$hold_pid" >"$WORK/$name.pid"
}

let_go() { echo >"$WORK/$1.in"; }

said() { grep -qxF "$2" "$WORK/$1.out"; }

stat_of() { # PID FIELD: 2 the parent, 4 the session
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    cut -d " " -f "$2" <<<"${stat##*) }"
}

watchdog_of() { # PID
    local dir
    for dir in /proc/[0-9]*; do
        [[ $(stat_of "${dir#/proc/}" 2) != "$1" ]] || echo "${dir#/proc/}"
    done
}

nothing_left() {
    [[ ! -e $RECORD ]] || die "the record is still there: $(<"$RECORD")"
}

repair() { "$WORK/bin/hold_pause" "$RECORD" repair; }

# --- checks ----------------------------------------------------------------------------------------

pauses_and_resumes() { # NAME...
    local name specs=()
    for name in "$@"; do
        client_file "$name"
        specs+=("$WORK/$name.client.cnf")
    done
    hold one pwcr "${specs[@]}"
    eventually 20 said one paused
    for name in "$@"; do is_off "$name"; done
    equal "p11keyring-paused 1" "$(head -n 1 "$RECORD")" "the record's first line"
    equal 600 "$(stat -c %a "$RECORD")" "mode of the record"
    lacks "$RECORD" password
    let_go one
    wait "$hold_pid"
    said one resumed
    for name in "$@"; do is_on "$name"; done
    nothing_left
}

# One that somebody else had paused stays so.
leaves_off_what_was_off() { # NAME
    sql "$1" "SET GLOBAL $SWITCH = OFF"
    "$WORK/bin/hold_pause" "$RECORD" pr "$WORK/$1.client.cnf" >"$WORK/out"
    contains "$WORK/out" "was off"
    is_off "$1"
    nothing_left
    sql "$1" "SET GLOBAL $SWITCH = ON"
}

# Killed with everything in its process group while servers are paused; then at random moments of a
# whole run, until enough kills fell between pausing and resuming.
killed_servers_are_resumed() { # NAME...
    local name specs=() hits=0 runs=0 start took
    for name in "$@"; do specs+=("$WORK/$name.client.cnf"); done
    local steps
    steps=p$(printf "c%.0s" {1..60})r
    start=${EPOCHREALTIME/./}
    "$WORK/bin/hold_pause" "$RECORD" "$steps" "${specs[@]}" >"$WORK/whole"
    took=$((${EPOCHREALTIME/./} - start))
    while ((hits < KILLS)); do
        ((++runs <= 60 * KILLS)) || die "only $hits of $runs kills fell while servers were paused"
        set -m
        hold killed "$steps" "${specs[@]}"
        set +m
        sleep "$(printf '0.%06d' $((RANDOM * took / 32768 % 1000000)))"
        kill -KILL -- "-$hold_pid" 2>/dev/null || true
        wait "$hold_pid" 2>/dev/null || true
        if said killed paused && ! said killed resumed; then hits=$((hits + 1)); fi
        for name in "$@"; do eventually 20 is_on "$name"; done
        eventually 20 nothing_left_yet
    done
    echo "$hits of $runs kills fell while servers were paused" | tee "$WORK/kills"
}

nothing_left_yet() { [[ ! -e $RECORD ]]; }

# The watchdog as well: the record says what was paused, refuses another run, and is repaired.
repairs_after_both_are_killed() { # NAME...
    local name specs=() dog
    for name in "$@"; do specs+=("$WORK/$name.client.cnf"); done
    hold both pw "${specs[@]}"
    eventually 20 said both paused
    dog=$(watchdog_of "$hold_pid")
    ! repair 2>"$WORK/err" || die "repaired while a run was at work"
    contains "$WORK/err" "still at work"
    kill -STOP "$dog" # so that it does not resume in between
    kill -KILL "$hold_pid" "$dog"
    wait_gone "$dog" 10
    for name in "$@"; do is_off "$name"; done
    ! "$WORK/bin/hold_pause" "$RECORD" pr "${specs[@]}" 2>"$WORK/err" || die "ran over the record"
    contains "$WORK/err" "p11keyring migrate --repair"
    repair
    for name in "$@"; do is_on "$name"; done
    nothing_left
    repair
}

# The watchdog alone: we resume by the record.
resumes_without_the_watchdog() { # NAME
    hold alone pwr "$WORK/$1.client.cnf"
    eventually 20 said alone paused
    kill -KILL "$(watchdog_of "$hold_pid")"
    let_go alone
    wait "$hold_pid"
    is_on "$1"
    nothing_left
}

# Nothing of ours is open in the watchdog, no signal but KILL ends it, and the password with which it
# logged in is not in its memory; that the search finds something else shows that it works.
watchdog_is_alone() { # NAME PASSWORD
    local dog
    sql "$1" "CREATE USER dba@localhost IDENTIFIED BY '$2'; GRANT ALL ON *.* TO dba@localhost"
    printf '[client]\nsocket = %s\nuser = dba\npassword = %s\n' "$WORK/$1/socket" "$2" >"$WORK/dba.cnf"
    chmod 600 "$WORK/dba.cnf"
    exec 7<"$0"
    hold guard pwr "$WORK/dba.cnf"
    eventually 20 said guard paused
    exec 7<&-
    dog=$(watchdog_of "$hold_pid")
    equal p11k-watchdog "$(cat "/proc/$dog/comm")" "name"
    [[ $(stat_of "$dog" 4) != "$(stat_of "$hold_pid" 4)" ]] || die "the session is ours"
    kill -TERM "$dog"
    kill -INT "$dog"
    kill -HUP "$dog"
    ! find "/proc/$dog/fd" -lname "$0" | grep -q . || die "a descriptor of ours is open"
    gcore -o "$WORK/core" "$dog" >/dev/null
    grep -qaF " at $WORK/$1/socket" "$WORK/core.$dog"
    lacks "$WORK/core.$dog" "$2"
    rm "$WORK/core.$dog"
    let_go guard
    wait "$hold_pid"
    is_on "$1"
}

# A paused server that dies takes its pause with it. That is told before anything is committed, and
# resuming takes it for what it is.
server_killed_while_paused() { # NAME OTHER
    hold dying pwcr "$WORK/$1.client.cnf" "$WORK/$2.client.cnf"
    eventually 20 said dying paused
    server_kill "$1"
    let_go dying
    ! wait "$hold_pid" || die "nothing was said of a server that died"
    contains "$WORK/dying.err" "does not answer"
    is_on "$2"
    nothing_left
    server_start "$1"
    is_on "$1"
}

server_started_again_while_paused() { # NAME
    hold again pwcr "$WORK/$1.client.cnf"
    eventually 20 said again paused
    server_kill "$1"
    server_start "$1"
    let_go again
    ! wait "$hold_pid" || die "nothing was said of a server that started again"
    contains "$WORK/again.err" "is not paused any more"
    nothing_left
}

two_runs_at_once() { # NAME
    hold first pwr "$WORK/$1.client.cnf"
    eventually 20 said first paused
    ! "$WORK/bin/hold_pause" "$WORK/other.record" pr "$WORK/$1.client.cnf" 2>"$WORK/err" ||
        die "two runs paused one server"
    contains "$WORK/err" "another p11keyring is at work"
    [[ ! -e $WORK/other.record ]] || die "a record is left"
    is_off "$1"
    let_go first
    wait "$hold_pid"
    is_on "$1"
}
