# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The MariaDB half of demo.sh.

build_for_server() {
    say "built: $P11K_BUILD/bin/p11keyring, $P11K_BUILD/lib/pkcs11_key_management.so"
}

client_command() { echo "mariadb --defaults-file=$WORK/db/my.cnf t"; }

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

load_more() { sql db "CREATE TABLE t.people_aria ENGINE=Aria AS SELECT * FROM t.people LIMIT 20000"; }

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

show_token_away() {
    section "The token is taken away"
    token_away
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
    token_back
    server_start db
    same_rows
    say "token back: the server starts, checksums are equal"
    shown "without the token the server kept working, a restart refused; token back, all there"
}

show() {
    make_token
    start_server
    load_rows
    search_plaintext "tables, redo log, binary logs, Aria"
    show_tablespaces 1
    rotate
    crash
    show_token_away
    look_inside
}
