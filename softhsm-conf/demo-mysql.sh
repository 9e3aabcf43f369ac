# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The MySQL half of demo.sh, in token mode: the master keys themselves stay in the token.

build_for_server() {
    export P11K_MYSQL_BUILD=${P11K_MYSQL_BUILD:-$HERE/build/mysql}
    "$HERE/tests/lib/mysql_root.sh" build
    "$HERE/tests/lib/mysql_root.sh" compile "$P11K_MYSQL_BUILD"
    say "built: $P11K_BUILD/bin/p11keyring,"
    say "and for MySQL: $P11K_MYSQL_BUILD/lib/component_keyring_pkcs11.so," \
        "$P11K_MYSQL_BUILD/lib/ossl-modules/p11keyring.so"
}

client_command() {
    echo "nsenter --target $(server_pid db) --mount --root mysql --defaults-file=$WORK/db/my.cnf"
}

as_table() { # STATEMENT
    sql db "$1" --table --column-names | indent
}

start_server() {
    section "A private mysqld: a SoftHSM2 token, our component, our OpenSSL provider"
    server_new db
    server_keyring db
    server_options db "default-table-encryption = ON" "innodb-redo-log-encrypt = ON" \
        "innodb-undo-log-encrypt = ON" "binlog-encryption = ON"
    server_start db
    sql db "ALTER TABLESPACE mysql ENCRYPTION = 'Y'"
    say "private folder: $WORK"
    say "bin/mysqld.my: $(<"$WORK/db/bin/mysqld.my")"
    say "plugins/component_keyring_pkcs11.cnf: $(<"$WORK/db/plugins/component_keyring_pkcs11.cnf")"
    grep '^OPENSSL' "$WORK/db/env" | indent
    indent <"$WORK/db/options.cnf"
    say "$(sql db 'SELECT VERSION()') running as $RUN_AS, pid $(server_pid db), socket only"
}

load_more() { sql db "CREATE TABLE t.people_2 AS SELECT * FROM t.people LIMIT 20000"; }

status_row() { # KEY
    sql db "SELECT status_value FROM performance_schema.keyring_component_status
        WHERE status_key = '$1'"
}

show_state() {
    section "What the server says of its keyring"
    as_table "SELECT * FROM performance_schema.keyring_component_status"
    as_table "SELECT key_id FROM performance_schema.keyring_keys"
}

# A key that only encrypts and decrypts inside the token cannot be the one that the server holds.
show_keys() {
    section "The server's master keys are in the token: what it was given are handles"
    local id
    tool master list | indent
    id=$(token_objects --list-objects --type secrkey 2>/dev/null |
        sed -n '/:mysql:INNODBKey/,/ID:/s/ *ID: *//p' | head -n 1)
    say "reading the InnoDB master key out of the token:"
    { token_objects --read-object --type secrkey --id "$id" 2>&1 || true; } |
        grep -v '^Using' | indent
    shown "the InnoDB and the binary log master key were made in the token and cannot be read"
}

rotate() {
    section "Both rotations, done by the token"
    local before after log
    before=$(status_row Token_operations)
    log=$(sql db "SHOW BINARY LOGS" | head -n 1 | cut -f 1)
    say "before: $(log_key "$WORK/db/data/$log") in the header of $log, $before token operations"
    sql db "ALTER INSTANCE ROTATE INNODB MASTER KEY"
    sql db "ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    after=$(status_row Token_operations)
    say "after:  $(log_key "$WORK/db/data/$log") in the header of $log, $after token operations"
    ((after > before)) || die "the token did nothing"
    as_table "SELECT key_id FROM performance_schema.keyring_keys"
    same_rows
    say "rows are as they were; only tablespace keys and file passwords were wrapped anew"
    shown "both rotations ran in the token: $((after - before)) operations"
}

show_token_away() {
    section "The token is taken away"
    token_away
    sql db "SELECT COUNT(*) FROM t.people; INSERT INTO t.people (n, txt) VALUES (1, 'token away')" \
        >/dev/null
    say "open tables keep working; what needs the token fails and says so:"
    { sql db "CREATE TABLE t.more (id INT)" 2>&1 || true; } | indent
    say "Last_error of keyring_component_status:"
    status_row Last_error | fold -s -w 96 | indent
    token_back
    sql db "CREATE TABLE t.more (id INT); DROP TABLE t.more"
    say "token back: the same statement works, without a restart"
    checksums db >"$WORK/sums"
    shown "without the token open tables kept working, and with it the rest, without a restart"
}

component_error() {
    grep -a -m 1 '\[ERROR\].*component_keyring_pkcs11' "$(server_log db)" | fold -s -w 96 | indent
}

refuse_starts() {
    section "No token, or no OpenSSL provider: no start"
    server_stop db
    token_away
    server_refuses db "no token matches"
    component_error
    token_back
    cp "$WORK/db/env" "$WORK/db/env.all"
    sed -i '/^OPENSSL_CONF/d' "$WORK/db/env"
    server_refuses db "OPENSSL_CONF"
    component_error
    cp "$WORK/db/env.all" "$WORK/db/env"
    server_start db
    same_rows
    say "with both the server starts, checksums are equal"
    shown "a start without the token or the OpenSSL provider is refused, with the cause in the log"
}

show() {
    start_server
    load_rows
    search_plaintext "tables, mysql.ibd, redo and undo log, binary logs"
    show_state
    show_keys
    rotate
    crash
    show_token_away
    refuse_starts
    look_inside
}
