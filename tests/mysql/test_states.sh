#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# p11keyring mysql status and rotate: what a running server has encrypted, under which master key, how
# to encrypt the rest, and what stays behind after a rotation.
# shellcheck disable=SC2016 # names of SQL stand in backticks
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

# By the socket, as the account root of the server, which the test's user is.
SOCKET=$WORK/s/socket

mysql_tool() { # VERB [OPTION...]
    local verb=$1
    shift
    "$WORK/bin/p11keyring" mysql "$verb" --server "$WORK/client.cnf" "$@"
}

status() { # FILTER of jq
    mysql_tool status --json | jq -r "$1"
}

a_server() {
    server_new s
    server_keyring s
    server_options s "performance-schema = ON"
    server_start s
    printf '[client]\nsocket = %s\nuser = root\n' "$SOCKET" >"$WORK/client.cnf"
    chmod 600 "$WORK/client.cnf"
    load_table s plain 100 row
    sql s 'CREATE DATABASE `we-ird`; CREATE TABLE `we-ird`.`a ``b$` (a INT);
        CREATE TABLE `we-ird`.parts (a INT) PARTITION BY HASH(a) PARTITIONS 2;
        CREATE TABLE t.old (a INT) ENGINE=MyISAM; CREATE TABLESPACE `t s` ADD DATAFILE "ts.ibd"'
    sql s "FLUSH BINARY LOGS"
}

names_all_that_is_clear() {
    equal unencrypted "$(status .state)" "state"
    status '.left_to_encrypt[] | .what' >"$WORK/left"
    contains "$WORK/left" 'table `t`.`plain` is in the clear'
    contains "$WORK/left" 'table `we-ird`.`a ``b$` is in the clear'
    equal 1 "$(grep -cF '`we-ird`.`parts`' "$WORK/left")" "lines for a table of two partitions"
    contains "$WORK/left" 'tablespace `mysql` (the data dictionary and the accounts)'
    contains "$WORK/left" 'tablespace `t s` is in the clear'
    contains "$WORK/left" 'table `t`.`old` is of engine MyISAM'
    contains "$WORK/left" "the redo log is written in the clear"
    mysql_tool status >"$WORK/text"
    contains "$WORK/text" "In the clear, and what to do about it:"
    mysql_tool status --verbose >"$WORK/text"
    grep -qE '^t/plain +table +no +-' "$WORK/text" || die "t/plain is not listed: $(<"$WORK/text")"
}

# Each statement that is told, as it is told, until nothing is left.
what_is_told_encrypts_everything() {
    local rounds=0
    until [[ $(status .state) == encrypted ]]; do
        ((++rounds <= 4)) || die "after $rounds rounds: $(status '.left_to_encrypt[]')"
        status '.left_to_encrypt[] | .statement // empty' | sed 's/$/;/' >"$WORK/statements"
        [[ -s $WORK/statements ]] || die "nothing is told: $(status '.left_to_encrypt[]')"
        sql s "" <"$WORK/statements"
        sql s "FLUSH BINARY LOGS"
    done
    equal "0 0" "$(status '[.files.tablespaces.clear, .files.undo.clear] | join(" ")')" "in the clear"
}

newest() { status '.keys[] | select(.newest and (.key | startswith("'"$1"'"))) | .key'; }

# Without the files' headers which key is used is not known, and said so.
only_of_the_files_headers() {
    equal true "$(status .headers_read)" "headers read"
    eventually 30 all_have_the_newest
    mv "$WORK/s/data/auto.cnf" "$WORK/auto.cnf"
    equal false "$(status .headers_read)" "headers read of another server's directory"
    mysql_tool status 2>"$WORK/err" >/dev/null
    contains "$WORK/err" "cannot be read from here"
    mv "$WORK/auto.cnf" "$WORK/s/data/auto.cnf"
}

all_have_the_newest() {
    [[ $(status '[.keys[] | select(.newest | not) | .tablespaces + .undo + .binary_logs] | add // 0') == 0 ]] &&
        (($(status '[.keys[] | select(.newest) | .tablespaces] | add') >= 5))
}

rotates_both() {
    local innodb binlog
    innodb=$(newest INNODBKey)
    binlog=$(newest MySQLReplicationKey)
    equal 0 "$(mysql_tool rotate --dry-run --json | jq '.rotated | length')" "rotated by a dry run"
    equal "$innodb $binlog" "$(newest INNODBKey) $(newest MySQLReplicationKey)" "keys after a dry run"
    local rc=0
    mysql_tool rotate --json --progress=json >"$WORK/rotated" 2>"$WORK/err" || rc=$?
    equal "innodb binlog" "$(jq -r '[.rotated[].master_key] | join(" ")' "$WORK/rotated")" "rotated"
    equal "$innodb $binlog" "$(jq -r '[.rotated[].before] | join(" ")' "$WORK/rotated")" "before"
    equal "$((${innodb##*-} + 1)) $((${binlog##*_} + 1))" \
        "$(jq -r '[.rotated[].key | match("[0-9]+$").string] | join(" ")' "$WORK/rotated")" "numbers"
    # A machine that does not come to writing is told, and is no failure of the server's.
    local behind
    behind=$(jq -r '[.rotated[].behind | length] | add' "$WORK/rotated")
    equal "$((behind > 0 ? 3 : 0))" "$rc" "exit code with $behind files behind"
    eventually 60 all_have_the_newest
    mysql_tool rotate binlog >"$WORK/text"
    contains "$WORK/text" "binary log master key rotated: MySQLReplicationKey_"
    lacks "$WORK/text" "InnoDB master key"
    fails_with 2 mysql_tool rotate redo
}

# A rotation takes two connections.
one_prompt() {
    local password
    password=$(random_hex 12)
    sql s "CREATE USER dba@localhost IDENTIFIED BY '$password'; GRANT ALL ON *.* TO dba@localhost;
        GRANT ENCRYPTION_KEY_ADMIN, BINLOG_ENCRYPTION_ADMIN ON *.* TO dba@localhost"
    printf '[client]\nsocket = %s\nuser = dba\n' "$SOCKET" >"$WORK/dba.cnf"
    chmod 600 "$WORK/dba.cnf"
    own "$WORK/dba.cnf"
    on_terminal "$WORK/bin/p11keyring mysql rotate binlog --server $WORK/dba.cnf \
        --password-source prompt" "Password of the server" "$password" || die "$(<"$WORK/tty.out")"
    contains "$WORK/tty.out" "binary log master key rotated"
    lacks "$WORK/tty.out" "$password"
}

paused_is_refused() {
    sql s "SET GLOBAL keyring_operations = OFF"
    fails_with 7 mysql_tool rotate 2>"$WORK/err"
    contains "$WORK/err" "SET GLOBAL keyring_operations = ON"
    fails_with 3 mysql_tool status 2>"$WORK/err"
    contains "$WORK/err" "the keyring is paused"
    sql s "SET GLOBAL keyring_operations = ON"
}

# As in the document: the server goes on with a new key, leaves the rest as it was, and says so.
unreadable_binary_log() {
    local log key
    log=$(sql s "SHOW BINARY LOGS" | head -n 1 | cut -f 1)
    key=$(log_key "$WORK/s/data/$log")
    sql s "FLUSH BINARY LOGS"
    mv "$WORK/s/data/$log" "$WORK/$log"
    fails_with 1 mysql_tool rotate binlog 2>"$WORK/err"
    contains "$WORK/err" "Failed to open log file"
    contains "$WORK/err" "p11keyring mysql rotate binlog"
    fails_with 3 mysql_tool status >"$WORK/text" 2>"$WORK/err"
    contains "$WORK/err" "the server cannot read binary log $log"
    contains "$WORK/err" "has not come to its end"
    mv "$WORK/$log" "$WORK/s/data/$log"
    equal "$key" "$(log_key "$WORK/s/data/$log")" "key of the log that could not be read"
    mysql_tool rotate binlog >/dev/null
    mysql_tool status >/dev/null
    eventually 60 all_have_the_newest
}

account() { # PRIVILEGES
    sql s "DROP USER IF EXISTS weak@localhost; CREATE USER weak@localhost IDENTIFIED BY '$PASSWORD';
        GRANT $1 ON *.* TO weak@localhost"
}

missing_privileges() {
    PASSWORD=$(random_hex 12)
    printf '[client]\nsocket = %s\nuser = weak\npassword = %s\n' "$SOCKET" "$PASSWORD" >"$WORK/weak.cnf"
    chmod 600 "$WORK/weak.cnf"
    account SELECT
    fails_with 7 "$WORK/bin/p11keyring" mysql status --server "$WORK/weak.cnf" 2>"$WORK/err"
    contains "$WORK/err" "PROCESS, REPLICATION CLIENT"
    account "PROCESS, REPLICATION CLIENT"
    local innodb
    innodb=$(newest INNODBKey)
    fails_with 7 "$WORK/bin/p11keyring" mysql rotate --server "$WORK/weak.cnf" 2>"$WORK/err"
    contains "$WORK/err" "ENCRYPTION_KEY_ADMIN, BINLOG_ENCRYPTION_ADMIN"
    equal "$innodb" "$(newest INNODBKey)" "the master key"
    "$WORK/bin/p11keyring" mysql status --server "$WORK/weak.cnf" >"$WORK/text" 2>"$WORK/err"
    contains "$WORK/err" "SELECT on performance_schema.keyring_keys"
    lacks "$WORK/err" "$PASSWORD"
}

restarted_all_is_there() {
    checksums s >"$WORK/sums"
    server_kill s
    server_start s
    same_checksums s "$WORK/sums"
}

check "a server in the clear" a_server
check "status names all that is in the clear" names_all_that_is_clear
check "the statements that status tells encrypt everything" what_is_told_encrypts_everything
check "keys are told by the files of this very server" only_of_the_files_headers
check "rotate gives both master keys new ones and waits for the disk" rotates_both
check "a password is asked for once" one_prompt
check "a paused keyring is not rotated" paused_is_refused
check "a binary log that cannot be read" unreadable_binary_log
check "missing privileges are named before anything" missing_privileges
check "killed and started again, the data is there" restarted_all_is_there
finish
