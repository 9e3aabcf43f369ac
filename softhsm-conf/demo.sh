#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# p11keyring from nothing to an encrypted MariaDB server, in a private folder: installs the Debian
# packages it needs, builds, makes a SoftHSM2 token, and shows what the keyring promises. Touches
# nothing of the system's own MariaDB. The folder is removed at the end, unless --keep is given.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: softhsm-conf/demo.sh [--keep] [--rows N]

  --keep     leave the server running and the folder in place, and say how to connect
  --rows N   rows to load (default 300000)
  --help     this text

Run as root on Debian 12; the server itself runs as the user nobody.
TEXT
}

KEEP=
ROWS=300000
while (($#)); do
    case $1 in
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

# --- build and set up ------------------------------------------------------------------------------

install_and_build() {
    section "Packages and build"
    "$HERE/tests/lib/packages.sh" demo
    export P11K_BUILD=${P11K_BUILD:-$HERE/build}
    local log
    log=$(mktemp)
    if ! { cmake -S "$HERE" -B "$P11K_BUILD" && cmake --build "$P11K_BUILD" -j "$(nproc)"; } \
        >"$log" 2>&1; then
        cat "$log" >&2
        echo "error: the build failed" >&2
        exit 1
    fi
    rm -f "$log"
    say "built: $P11K_BUILD/bin/p11keyring, $P11K_BUILD/lib/pkcs11_key_management.so"
}

make_token() {
    section "A SoftHSM2 token, a master key inside it, and a keystore"
    token_up demo
    say "private folder: $WORK"
    tool master create 2>&1 | indent
    say "configuration: $P11KEYRING_CONF"
    grep -v '^$' "$P11KEYRING_CONF" | indent
}

start_server() {
    section "A private mariadbd with everything encrypted"
    server_new db
    server_keyring db on
    server_options db "innodb-buffer-pool-size = 128M" "innodb-log-file-size = 96M"
    server_start db
    grep -E '^(plugin|pkcs11|innodb-encr|encrypt|aria-encr)' "$WORK/db/encryption.cnf" | indent
    say "running as $RUN_AS, pid $(server_pid db), socket only"
}

# --- what is shown ---------------------------------------------------------------------------------

load_rows() {
    section "Loading $ROWS rows"
    local start=$EPOCHREALTIME
    load_table db people "$ROWS" "$MARKER"
    sql db "CREATE TABLE t.people_aria ENGINE=Aria AS SELECT * FROM t.people LIMIT 20000"
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
        "$(du -sh "$WORK/db/data" | cut -f1): tables, redo log, binary logs, Aria: not found"
    server_start db
    shown "the plaintext is in no file of the data directory"
}

show_tablespaces() {
    section "innodb_tablespaces_encryption"
    eventually 60 all_encrypted db "$1"
    mariadb --defaults-file="$WORK/db/my.cnf" --table -e "
        SELECT name, encryption_scheme, min_key_version, current_key_version
        FROM information_schema.innodb_tablespaces_encryption" | indent
}

rotate() {
    section "A rotation: p11keyring key rotate 1"
    local start=$EPOCHREALTIME
    tool key rotate 1 | indent
    eventually 5 latest_is 3
    say "the running server has the new version after $(seconds_since "$start")"
    eventually 120 all_encrypted db 3
    say "InnoDB's background threads have re-encrypted everything after $(seconds_since "$start")"
    show_tablespaces 3
    shown "a rotation reached the running server and its background threads finished it"
}

latest_is() {
    [[ $(sql db "SELECT MIN(current_key_version)
        FROM information_schema.innodb_tablespaces_encryption") == "$1" ]]
}

crash() {
    section "kill -9, restart"
    sql db "INSERT INTO t.people (n, txt) VALUES (1, 'the last row before the crash')"
    checksums db >"$WORK/sums"
    server_kill db
    say "killed; starting again"
    server_start db
    equal "$(<"$WORK/sums")" "$(checksums db)" "checksums"
    grep -m 1 "crash recovery" "$(server_log db)" | indent
    say "checksums are equal"
    shown "after kill -9 the server recovered with equal checksums"
}

token_away() {
    section "The token is taken away"
    mv "$KEYRING/tokens" "$KEYRING/tokens.away"
    as_server mkdir "$KEYRING/tokens"
    sql db "SELECT COUNT(*) FROM t.people; CREATE TABLE t.made_without_token
        AS SELECT * FROM t.people LIMIT 1000; FLUSH BINARY LOGS; DROP TABLE t.made_without_token" \
        >/dev/null
    say "the server keeps working: rows read, a table made, the binary log changed"
    say "what needs the token says so:"
    { tool key rotate 1 2>&1 || true; } | indent
    server_stop db
    say "a restart refuses:"
    server_refuses db "token"
    plugin_lines db ERROR | indent
    rmdir "$KEYRING/tokens"
    mv "$KEYRING/tokens.away" "$KEYRING/tokens"
    server_start db
    equal "$(<"$WORK/sums")" "$(checksums db)" "checksums"
    say "token back: the server starts, checksums are equal"
    shown "without the token the server kept working, a restart refused; token back, all there"
}

look_inside() {
    section "p11keyring status"
    tool status 2>&1 | indent
    section "pkcs11-tool: the master key never leaves the token"
    PIN=$(<"$KEYRING/pin") as_server pkcs11-tool --module "$SOFTHSM_MODULE" --token-label demo \
        --login --pin env:PIN --list-objects 2>/dev/null | indent
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
      mariadb --defaults-file=$WORK/db/my.cnf t
      export SOFTHSM2_CONF=$SOFTHSM2_CONF P11KEYRING_CONF=$P11KEYRING_CONF
      setpriv --reuid=$RUN_AS --regid=$(id -gn "$RUN_AS") --clear-groups $WORK/bin/p11keyring status
    To end it:
      kill $(server_pid db); rm -rf $WORK
TEXT
}

install_and_build
# shellcheck source=tests/lib/mariadb.sh
source "$HERE/tests/lib/mariadb.sh"
MARKER=plaintext-$(random_hex 6)
make_token
start_server
load_rows
search_plaintext
show_tablespaces 1
rotate
crash
token_away
look_inside
report
