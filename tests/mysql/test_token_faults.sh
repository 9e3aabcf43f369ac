#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# MySQL's token mode with a token that goes away, hangs, is full or fails (tests/mock), and kill -9 in
# the midst of a rotation, made slow enough by the token to fall between two headers.
# shellcheck source=tests/lib/mysql_token.sh
source "$(dirname "$0")/../lib/mysql_token.sh"

TABLES=${P11K_TABLES:-20}
FILES=${P11K_FILES:-12}
CRASHES=${P11K_CRASHES:-3}
DELAY=50     # milliseconds of one operation while a server is to be killed
DEADLINE=1   # seconds, of the configuration
MARKER=marker-$(random_hex 8)
export P11K_MOCK_COUNTS=$WORK/mock.counts

# --- the mock --------------------------------------------------------------------------------------

AT_RUN_TIME=(C_GetSlotList C_GetTokenInfo C_GetSessionInfo C_OpenSession C_Login C_FindObjectsInit
    C_GenerateRandom C_GenerateKey C_EncryptInit C_Encrypt C_DecryptInit C_Decrypt)

token_away() { mock_rules "$(printf 'fail %s 0x32\n' "${AT_RUN_TIME[@]}")"; } # CKR_DEVICE_REMOVED

token_hangs() { mock_rules "$(printf 'hang %s\n' "${AT_RUN_TIME[@]}" C_CloseSession C_Logout C_Finalize)"; }

token_back() { mock_rules ""; }

mock_calls() { # FUNCTION
    local at
    at=$(grep -aboP "$1\\x00" "$P11K_MOCK_COUNTS" | head -n 1 | tr -d '\0')
    od -An -tu8 -j $((${at%%:*} + 32)) -N 8 "$P11K_MOCK_COUNTS" | tr -d ' '
}

calls_reach() { # FUNCTION NUMBER
    (($(mock_calls "$1") >= $2))
}

milliseconds_of() { # COMMAND...
    local start=$EPOCHREALTIME
    "$@" >"$WORK/out" 2>&1 || true
    echo $(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
}

fails_within_the_deadline() { # STATEMENT
    local took
    took=$(milliseconds_of sql f "$1")
    contains "$WORK/out" ERROR
    ((took <= DEADLINE * 3000)) || die "it took $took ms: $1"
}

server_on_the_mock() {
    : >"$P11K_MOCK_COUNTS"
    own "$P11K_MOCK_COUNTS"
    mock_rules ""
    server_new f
    server_keyring f
    guards f on
    sed -i "s|^module = .*|module = $WORK/lib/p11k_mock.so|; s|^timeout = .*|timeout = ${DEADLINE}000|" \
        "$P11KEYRING_CONF"
    server_options f "binlog-encryption = ON"
    server_start f
    many_tables f one "$TABLES"
    load_table f big 500 "$MARKER" "ENCRYPTION='Y'"
    sql f "CREATE DATABASE other; CREATE TABLE other.x (n INT)"
    checksums f >"$WORK/sums"
}

newest_key() { keyring_ids f 'INNODBKey%' | sed 's/.*-//' | sort -n | tail -n 1; }

resident_objects() { # LIKE
    token_objects -O --type secrkey | grep -c "label:.*$1" || true
}

# --- away ------------------------------------------------------------------------------------------

tables_go_on() {
    same_checksums f "$WORK/sums"
    sql f "INSERT INTO t.big (n, txt) VALUES (1, 'now'); DELETE FROM t.big WHERE txt = 'now'"
}

pulled_out() {
    token_away
    tables_go_on
    fails_within_the_deadline "CREATE TABLE t.x (id INT) ENCRYPTION='Y'"
    fails_within_the_deadline "$ROTATE_INNODB"
    fails_within_the_deadline "$ROTATE_BINLOG"
    equal down "$(row f Token_state)" "Token_state"
    contains "$(server_log f)" "CKR_DEVICE_REMOVED"
    contains "$(server_log f)" "check that the token is connected and its service runs"
    contains <(row f Last_error) "CKR_DEVICE_REMOVED"
    tables_go_on
    token_back
    sql f "CREATE TABLE t.x (id INT) ENCRYPTION='Y'; DROP TABLE t.x; $ROTATE_INNODB; $ROTATE_BINLOG"
    equal up "$(row f Token_state)" "Token_state"
    server_start f
    same_checksums f "$WORK/sums"
}

# A second after it last asked the token, a connection waits for it again before it makes a file: the
# tests that see it wait let that second pass.
short_hang() {
    sleep 1.5
    token_hangs
    background sql f "CREATE TABLE t.y (id INT) ENCRYPTION='Y'"
    sleep 0.5
    token_back
    wait "$background_pid"
    sql f "DROP TABLE t.y"
}

is_under_way() { # STATEMENT
    sql f "SELECT info FROM performance_schema.processlist" | grep -qxF "$1"
}

# A file whose first page waits for its key would keep a killed server from starting.
waits_before_it_makes_a_file() {
    local statement="CREATE TABLE t.z (id INT) ENCRYPTION='Y'" n
    sleep 1.5
    token_hangs
    background sql f "$statement"
    eventually 5 is_under_way "$statement"
    for n in {1..10}; do
        [[ ! -e $WORK/f/data/t/z.ibd ]] || die "there is a file, and its key waits for the token ($n)"
        sleep 0.05
    done
    token_back
    wait "$background_pid"
    sql f "DROP TABLE t.z"
}

short_absence() {
    sleep 1.5
    token_away
    background sql f "CREATE TABLE t.y (id INT) ENCRYPTION='Y'"
    sleep 0.5
    token_back
    wait "$background_pid"
    sql f "DROP TABLE t.y"
}

binlog_ignore_error() {
    server_start f --binlog-error-action=IGNORE_ERROR
    token_away
    fails_within_the_deadline "FLUSH BINARY LOGS"
    sql f "INSERT INTO t.big (n, txt) VALUES (2, 'not in the log')"
    token_back
    server_start f
    equal 1 "$(sql f "SELECT COUNT(*) FROM t.big WHERE txt = 'not in the log'")" "rows"
    sql f "DELETE FROM t.big WHERE n = 2 AND txt = 'not in the log'; FLUSH BINARY LOGS"
    same_checksums f "$WORK/sums"
}

# MySQL's own rule; every row that was acknowledged is there afterwards.
binlog_abort_server() {
    token_away
    sql f "INSERT INTO t.big (n, txt) VALUES (3, 'before the abort')"
    sql f "FLUSH BINARY LOGS" 2>/dev/null || true
    server_ends f 15
    contains "$(server_log f)" "CKR_DEVICE_REMOVED"
    token_back
    server_start f
    equal 1 "$(sql f "SELECT COUNT(*) FROM t.big WHERE txt = 'before the abort'")" "rows"
    sql f "DELETE FROM t.big WHERE n = 3 AND txt = 'before the abort'"
    same_checksums f "$WORK/sums"
}

missing_at_start() {
    server_stop f
    mock_rules "fail C_GetTokenInfo 0xe0" # CKR_TOKEN_NOT_PRESENT
    server_refuses f "no token matches"
    contains "$(server_log f)" component_keyring_pkcs11
    token_back
    server_start f
    same_checksums f "$WORK/sums"
}

# --- hanging and full ------------------------------------------------------------------------------

hanging() {
    local took
    token_hangs
    tables_go_on
    fails_within_the_deadline "CREATE TABLE t.x (id INT) ENCRYPTION='Y'"
    contains "$(server_log f)" "did not return within ${DEADLINE}000 ms"
    token_back
    eventually 10 sql f "CREATE TABLE t.x (id INT) ENCRYPTION='Y'"
    sql f "DROP TABLE t.x"
    token_hangs
    took=$(milliseconds_of server_stop f)
    ((took <= 5000 + DEADLINE * 3000)) || die "the server took $took ms to stop"
    lacks "$(server_log f)" "mysqld got signal"
    token_back
    server_start f
    same_checksums f "$WORK/sums"
}

full() {
    local before
    before=$(newest_key)
    mock_rules "fail C_GenerateKey 0x31" # CKR_DEVICE_MEMORY
    fails_within_the_deadline "$ROTATE_INNODB"
    equal "$before" "$(newest_key)" "newest key"
    contains "$(server_log f)" CKR_DEVICE_MEMORY
    contains "$(server_log f)" "may be retired, INNODBKey-$(sql f 'SELECT @@server_uuid')-1 to $((before - 1)), if"
    tables_go_on
    token_back
    sql f "$ROTATE_INNODB"
    equal $((before + 1)) "$(newest_key)" "newest key"
}

# --- kill -9 between two headers -------------------------------------------------------------------

# Operations of one whole rotation that come before the first header's.
operations_before_headers() { # STATEMENT HEADERS [FUNCTION]
    local before function=${3:-C_Encrypt}
    before=$(mock_calls "$function")
    sql f "$1"
    echo $(($(mock_calls "$function") - before - $2))
}

# Kills while a header somewhere between the first and the last is being written, after a commit that
# writes the redo log with the headers so far. Prints how many headers the token had worked on by then,
# exactly, for the server is dead.
kill_between_headers() { # STATEMENT HEADERS BEFORE-HEADERS
    local start
    start=$(($(mock_calls C_Encrypt) + $3))
    mock_rules "delay C_Encrypt $DELAY"
    background sql f "$1" 2>/dev/null
    eventually 10 calls_reach C_Encrypt $((start + 2 + RANDOM % ($2 / 2)))
    sql f "INSERT INTO other.x VALUES (1)"
    server_kill f
    echo $(($(mock_calls C_Encrypt) - start))
    token_back
}

# On a busy machine the statement may end before the kill, which then shows nothing and does not count.
enough_tries() { # HITS KILLS
    (($2 < 5 * CRASHES)) || die "only $1 of $2 kills fell between two headers"
}

# The server itself rolls forward the tablespaces that its redo log names; the statement does the rest.
innodb_killed() {
    local kills hits=0 headers=$((TABLES + 1)) first reached newest
    first=$(operations_before_headers "$ROTATE_INNODB" "$headers")
    echo "$headers headers, $first operations before them"
    for ((kills = 0; hits < CRASHES; kills++)); do
        enough_tries "$hits" "$kills"
        reached=$(kill_between_headers "$ROTATE_INNODB" "$headers" "$first")
        hits=$((hits + (reached > 1 && reached < headers)))
        server_start f
        contains "$(server_log f)" "The InnoDB Encryption Master Key has been rotated in"
        same_checksums f "$WORK/sums"
        sql f "$ROTATE_INNODB"
        newest=$(newest_key)
        server_stop f
        equal "$newest" "$(header_keys f)" "master keys in the headers"
        server_start f
        same_checksums f "$WORK/sums"
    done
    echo "$hits of $kills kills fell between two headers"
}

new_logs() { # HOW-MANY
    local i
    for ((i = 0; i < $1; i++)); do echo "INSERT INTO t.l VALUES ($i); FLUSH BINARY LOGS;"; done | sql f
}

logs_readable() {
    local file
    sql f "SHOW BINARY LOGS" >"$WORK/f/logs"
    while read -r file _; do
        sql f "SHOW BINLOG EVENTS IN '$file'" >"$WORK/f/events" || die "$file is not readable"
    done <"$WORK/f/logs"
}

keys_in_log_headers() {
    local file
    for file in "$WORK"/f/data/binlog.0*; do log_key "$file"; done | sed 's/.*_//' | sort -nu |
        paste -sd ' '
}

binlog_keys() { keyring_ids f 'MySQLReplicationKey%' | grep -oP '_\K[0-9]+$' | paste -sd ' '; }

one_binlog_key() {
    equal "$(keys_in_log_headers)" "$(binlog_keys)" "keys in headers and keyring"
    equal 1 "$(resident_objects MySQLReplicationKey_)" "binary log keys in the token"
    logs_readable
}

binlog_killed() {
    local kills hits=0 headers first keys
    sql f "CREATE TABLE t.l (n INT)"
    new_logs "$FILES"
    sql f "$ROTATE_BINLOG"
    headers=$(sql f "SHOW BINARY LOGS" | wc -l)
    first=$(operations_before_headers "$ROTATE_BINLOG" "$headers")
    for ((kills = 0; hits < CRASHES; kills++)); do
        enough_tries "$hits" "$kills"
        kill_between_headers "$ROTATE_BINLOG" "$FILES" "$first" >/dev/null
        keys=$(keys_in_log_headers)
        echo "killed with headers at $keys"
        [[ $keys != *" "* ]] || hits=$((hits + 1))
        server_start f
        logs_readable
        sql f "$ROTATE_BINLOG"
        one_binlog_key
    done
    echo "$hits of $kills kills fell between two headers"
    sql f "DROP TABLE t.l"
    same_checksums f "$WORK/sums"
}

# --- the steps of a binary log rotation ------------------------------------------------------------

error_before_the_new_key() {
    local before
    before=$(binlog_keys)
    mock_rules "fail C_GenerateKey 0x30" # CKR_DEVICE_ERROR
    sql_fails f "The statement had no effect: the old binary log master key is still in use" \
        "$ROTATE_BINLOG"
    token_back
    equal "$before $before" "$(binlog_keys) $(keys_in_log_headers)" "keys"
    sql f "$ROTATE_BINLOG"
    one_binlog_key
}

error_in_the_headers() {
    local before first
    first=$(operations_before_headers "$ROTATE_BINLOG" "$(sql f 'SHOW BINARY LOGS' | wc -l)" C_Decrypt)
    before=$(keys_in_log_headers)
    mock_rules "fail C_Decrypt 0x30 $((first + 3))"
    sql_fails f "There may still exist binary or relay log files using the previous" "$ROTATE_BINLOG"
    token_back
    contains <(binlog_keys | tr ' ' '\n') "$before"
    logs_readable
    sql f "$ROTATE_BINLOG"
    one_binlog_key
}

# Step 5: the rotation is done, what is left over is a matter for a warning.
warning_after_the_headers() {
    mock_rules "fail C_DestroyObject 0x30"
    sql f "$ROTATE_BINLOG"
    token_back
    contains "$(server_log f)" "[Warning]"
    contains "$(server_log f)" "is left in the token: C_DestroyObject failed: CKR_DEVICE_ERROR"
    equal "$(keys_in_log_headers)" "$(binlog_keys)" "keys in headers and keyring"
    equal 2 "$(resident_objects MySQLReplicationKey_)" "binary log keys in the token"
    sql f "$ROTATE_BINLOG"
    equal "$(keys_in_log_headers)" "$(binlog_keys)" "keys in headers and keyring"
    logs_readable
}

# The keystore can no longer be written when the old key is to be removed.
keystore_fails_at_the_end() {
    local start first headers before
    headers=$(sql f "SHOW BINARY LOGS" | wc -l)
    first=$(operations_before_headers "$ROTATE_BINLOG" "$headers")
    before=$(keys_in_log_headers)
    start=$(($(mock_calls C_Encrypt) + first))
    mock_rules "delay C_Encrypt $DELAY"
    background sql f "$ROTATE_BINLOG"
    eventually 10 calls_reach C_Encrypt $((start + 2))
    chmod 500 "$(keyring_dir f)"
    wait "$background_pid"
    chmod 700 "$(keyring_dir f)"
    token_back
    contains "$(server_log f)" "cannot write the keystore"
    equal "$((before + 1))" "$(keys_in_log_headers)" "keys in headers"
    equal "$before $((before + 1))" "$(binlog_keys)" "keys in the keyring"
    sql f "$ROTATE_BINLOG"
    equal "$((before + 2)) $((before + 2))" "$(keys_in_log_headers) $(binlog_keys)" \
        "keys in headers and keyring"
    logs_readable
}

check "a server in token mode on a module that fails on demand" server_on_the_mock
check "token pulled out: open tables go on, the rest fails in time and recovers" pulled_out
check "a token that hangs for less than the deadline: nobody notices" short_hang
check "a token that hangs: a new table has no file yet" waits_before_it_makes_a_file
check "a token that comes back in time: the statement only took longer" short_absence
check "token pulled out, binlog_error_action=IGNORE_ERROR" binlog_ignore_error
check "token pulled out, binlog_error_action=ABORT_SERVER: nothing is lost" binlog_abort_server
check "token missing at start: the server refuses and says why" missing_at_start
check "a token that hangs, also when the server stops" hanging
check "a full token: a rotation fails and names old keys" full
check "kill -9 between two headers of an InnoDB rotation, $CRASHES times" innodb_killed
check "kill -9 between two headers of a binary log rotation, $CRASHES times" binlog_killed
check "binary log rotation: an error before the new key has no effect" error_before_the_new_key
check "binary log rotation: an error in the headers keeps the old key" error_in_the_headers
check "binary log rotation: a key left in the token is a warning" warning_after_the_headers
check "binary log rotation: a keystore that fails at the end keeps the old key" keystore_fails_at_the_end
finish
