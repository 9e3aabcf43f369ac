# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# What test servers of either make have in common. A server is a folder $WORK/NAME with its own data
# directory, socket, plugin folder and options; the sourcing file gives server_launch and sql.
#
#   server_start NAME [option]   waits until it answers; shows its error log when it does not
#   server_stop / server_kill NAME
# shellcheck source=tests/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

server_pid() { cat "$WORK/$1/server.pid"; }

server_log() { echo "$WORK/$1/error.log"; }

server_answers() { sql "$1" "SELECT 1" >/dev/null 2>&1; }

server_start() { # NAME [option...]
    local name=$1 end=$((SECONDS + 30))
    server_launch "$@"
    until server_answers "$name"; do
        if ((SECONDS >= end)) || ! alive "$(server_pid "$name")"; then
            grep -a '\[ERROR\]' "$WORK/$name/error.log" >&2 || true
            tail -n 25 "$WORK/$name/error.log" "$WORK/$name/stdout" >&2
            die "server $name did not start"
        fi
        sleep 0.1
    done
}

server_stop() { end_process "$WORK/$1/server.pid" TERM; }

server_kill() { end_process "$WORK/$1/server.pid" KILL; }

# The server must end by itself.
server_ends() { # NAME [SECONDS]
    local dir=$WORK/$1
    if ! wait_gone "$(server_pid "$1")" "${2:-30}"; then
        tail -n 40 "$dir/error.log" >&2
        die "the server runs although it should have refused"
    fi
    rm -f "$dir/server.pid"
}

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

status_of() { # NAME VARIABLE
    sql "$1" "SHOW GLOBAL STATUS LIKE '$2'" | cut -f2
}

pause() { # MILLISECONDS
    sleep "$(($1 / 1000)).$(printf '%03d' $(($1 % 1000)))"
}

random_pause() { # MIN-MS MAX-MS
    pause $(($1 + RANDOM % ($2 - $1)))
}

# Files in the server's data and temporary directories that hold TEXT, and files that a running
# server has open without a name (most temporary files are deleted when they are made).
files_with() { # NAME TEXT
    local fd
    (cd "$WORK/$1" && grep -rlaF -- "$2" data tmp) || true
    [[ -s $WORK/$1/server.pid ]] || return 0
    for fd in "/proc/$(server_pid "$1")/fd"/*; do
        [[ $(readlink "$fd") == *"(deleted)" ]] || continue
        ! grep -qaF -- "$2" "$fd" 2>/dev/null || readlink "$fd"
    done
}

no_plaintext() { # NAME TEXT
    local files
    files=$(files_with "$1" "$2")
    [[ -z $files ]] || die "'$2' is readable in: $files"
}
