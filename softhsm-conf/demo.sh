#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# p11keyring from nothing to an encrypted MariaDB or MySQL server, in a private folder: installs the
# Debian packages it needs, builds, makes a SoftHSM2 token, and shows what the keyring promises.
# Touches nothing of the system's own servers. The folder is removed at the end, unless --keep is
# given. demo-mariadb.sh and demo-mysql.sh hold what each server shows, this file what both do.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: softhsm-conf/demo.sh [--mysql] [--keep] [--rows N]

  --mysql    MySQL instead of MariaDB: its master keys stay in the token. Debian 12 has no MySQL
             server, so it runs in a private Debian sid root, made at the first run (two minutes)
  --keep     leave the server running and the folder in place, and say how to connect
  --rows N   rows to load (default 300000)
  --help     this text

Run as root on Debian 12; the server itself runs as the user nobody.
TEXT
}

SERVER=mariadb
KEEP=
ROWS=300000
while (($#)); do
    case $1 in
    --mysql) SERVER=mysql ;;
    --keep) KEEP=1 ;;
    --rows)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || {
            echo "error: --rows needs a number" >&2
            exit 2
        }
        ROWS=$2
        shift
        ;;
    --help | -h)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done

HERE=$(cd "$(dirname "$0")/.." && pwd)
REPORT=()
SECONDS=0

section() { printf '\n=== %s\n' "$*"; }
say() { printf '    %s\n' "$*"; }
shown() { REPORT+=("$*"); }
indent() { sed 's/^/    /'; }

seconds_since() { # EPOCHREALTIME
    local ms=$(((${EPOCHREALTIME/./} - ${1/./}) / 1000))
    printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

quietly() { # WHAT COMMAND...: the output only when it fails
    local log
    log=$(mktemp)
    if ! "${@:2}" >"$log" 2>&1; then
        cat "$log" >&2
        echo "error: $1 failed" >&2
        exit 1
    fi
    rm -f "$log"
}

build() { cmake -S "$HERE" -B "$P11K_BUILD" && cmake --build "$P11K_BUILD" -j "$(nproc)"; }

install_and_build() {
    section "Packages and build"
    "$HERE/tests/lib/packages.sh" "demo-$SERVER"
    export P11K_BUILD=${P11K_BUILD:-$HERE/build}
    quietly "the build" build
    build_for_server
}

# --- what both servers show: the server is `db`, its rows are in t.people ---------------------------

load_rows() {
    section "Loading $ROWS rows"
    local start=$EPOCHREALTIME
    load_table db people "$ROWS" "$MARKER"
    load_more
    sql db "FLUSH BINARY LOGS"
    checksums db >"$WORK/sums"
    say "$ROWS rows with the text '$MARKER' in $(seconds_since "$start")"
    indent <"$WORK/sums"
}

search_plaintext() {
    section "The plaintext is in no file of the data directory"
    server_stop db
    echo "planted: $MARKER" >"$WORK/db/data/planted"
    equal "data/planted" "$(files_with db "$MARKER")" "files found by the search"
    say "searched with grep: a planted copy was found, so the search works"
    rm "$WORK/db/data/planted"
    no_plaintext db "$MARKER"
    say "$(find "$WORK/db/data" -type f | wc -l) files," \
        "$(du -sh "$WORK/db/data" | cut -f1): $1: not found"
    server_start db
    shown "the plaintext is in no file of the data directory"
}

same_rows() { equal "$(<"$WORK/sums")" "$(checksums db)" "checksums"; }

crash() {
    section "kill -9, restart"
    sql db "INSERT INTO t.people (n, txt) VALUES (1, 'the last row before the crash')"
    checksums db >"$WORK/sums"
    server_kill db
    say "killed; starting again"
    server_start db
    same_rows
    grep -m 1 -i "crash recovery" "$(server_log db)" | indent
    say "checksums are equal"
    shown "after kill -9 the server recovered with equal checksums"
}

token_objects() { # [pkcs11-tool option...]
    PIN=$(<"$KEYRING/pin") as_server pkcs11-tool --module "$SOFTHSM_MODULE" \
        --token-label "$(basename "$KEYRING")" --login --pin env:PIN "$@"
}

look_inside() {
    section "p11keyring status"
    tool status 2>&1 | indent
    section "pkcs11-tool: the keys in the token, which never leave it"
    token_objects --list-objects 2>/dev/null | indent
}

report() {
    section "Report ($SECONDS s)"
    printf '    shown: %s\n' "${REPORT[@]}"
    if [[ -z $KEEP ]]; then
        say "everything was made in a private folder, which is now removed (see --keep)"
        return
    fi
    trap - EXIT
    cat <<TEXT

    The server is running, pid $(server_pid db). To look around:
      $(client_command)
      export SOFTHSM2_CONF=$SOFTHSM2_CONF P11KEYRING_CONF=$P11KEYRING_CONF
      setpriv --reuid=$RUN_AS --regid=$(id -gn "$RUN_AS") --clear-groups $WORK/bin/p11keyring status
    To end it:
      kill $(server_pid db); rm -rf $WORK
TEXT
}

# shellcheck source=softhsm-conf/demo-mariadb.sh
source "$HERE/softhsm-conf/demo-$SERVER.sh"
install_and_build
export P11K_KEYRINGS=token
# shellcheck source=tests/lib/mariadb.sh
source "$HERE/tests/lib/$SERVER.sh"
MARKER=plaintext-$(random_hex 6)
show
report
