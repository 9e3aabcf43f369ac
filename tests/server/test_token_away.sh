#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The token is taken away from under a running server: the server goes on with every key that it
# knows, refuses only what needs the token, and a restart says clearly what is missing. The same
# with a module that hangs.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-5000}

server_with_tables() {
    rm -rf "$WORK/s"
    server_new s
    server_keyring s on
    server_start s
    load_table s one "$ROWS" row
    checksums s >"$WORK/sums"
}

# Everything that a server does with keys that it has.
server_goes_on() { # PREFIX
    equal "$(<"$WORK/sums")" "$(sql s 'CHECKSUM TABLE t.one')" "checksums"
    load_table s "$1_plain" "$ROWS" row
    load_table s "$1_encrypted" 500 row "ENCRYPTED=YES ENCRYPTION_KEY_ID=2"
    load_table s "$1_aria" 500 row "ENGINE=Aria"
    sql s "FLUSH BINARY LOGS; ALTER TABLE t.$1_plain FORCE; FLUSH TABLES;
        SELECT SQL_NO_CACHE * FROM t.one ORDER BY txt" >/dev/null
    equal "$ROWS" "$(sql s "SELECT COUNT(*) FROM t.$1_plain")" "rows"
    sql s "DROP TABLE t.$1_plain, t.$1_encrypted, t.$1_aria"
}

goes_on_without_token() {
    token_away
    fails_with 4 tool key rotate 1 2>"$WORK/err"
    contains "$WORK/err" "no token matches"
    server_goes_on away
    if sql s "CREATE TABLE t.unknown (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=77"; then
        die "a table with an unknown key was made"
    fi
    server_goes_on after
    token_back
}

token_back_without_a_restart() {
    tool key create 77 >/dev/null
    sleep 1
    load_table s seventyseven 100 row "ENCRYPTED=YES ENCRYPTION_KEY_ID=77"
    tool key rotate 1 >/dev/null
    eventually 30 all_encrypted s 1
    sql s "DROP TABLE t.seventyseven"
}

restart_refuses() {
    token_away
    server_stop s
    server_refuses s "no token matches"
    token_back
    server_start s
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
    server_stop s
}

# A server that went on without its keys would run Aria's recovery without them, and lose rows.
refused_after_a_crash() {
    server_start s
    sql s "CREATE TABLE t.aria (id INT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=1"
    printf 'INSERT INTO t.aria VALUES (%d);\n' {1..300} | sql s
    server_kill s
    token_away
    server_refuses s "no token matches"
    lacks "$(server_log s)" "Aria engine"
    token_back
    server_start s
    equal 300 "$(sql s 'SELECT COUNT(*) FROM t.aria')" "rows of an Aria table"
    equal OK "$(sql s 'CHECK TABLE t.aria EXTENDED' | cut -f 4)" "CHECK TABLE"
    sql s "DROP TABLE t.aria"
    server_stop s
}

# --- a module that hangs ---------------------------------------------------------------------------

HANGS_AT_RUN_TIME=(C_GetSlotList C_GetTokenInfo C_GetSessionInfo C_OpenSession C_Login
    C_FindObjectsInit C_GenerateRandom C_EncryptInit C_Encrypt C_DecryptInit C_Decrypt
    C_CloseSession C_Logout C_Finalize)

hang_at() { # CALL...
    mock_rules "$(printf 'hang %s\n' "$@")"
}

seconds_of() { # COMMAND...: how long it takes, whatever it returns
    local start=$SECONDS
    "$@" >"$WORK/out" 2>&1 || true
    echo $((SECONDS - start))
}

server_on_the_mock() {
    mock_token_up mocked
    sed -i 's/^timeout = .*/timeout = 1000/' "$P11KEYRING_CONF"
    tool master create >/dev/null
    server_with_tables
}

hung_at_run_time() {
    local took
    hang_at "${HANGS_AT_RUN_TIME[@]}"
    took=$(seconds_of tool key rotate 1)
    ((took <= 10)) || die "the tool took $took s"
    contains "$WORK/out" "did not return within 1000 ms"
    server_goes_on hung
    took=$(seconds_of sql s "CREATE TABLE t.unknown (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=77")
    ((took <= 5)) || die "an unknown key took $took s"
    took=$(seconds_of sql s "SHOW GLOBAL STATUS LIKE 'pkcs11%'")
    ((took <= 1)) || die "SHOW STATUS took $took s"
    server_goes_on after_hang
    took=$(seconds_of server_stop s)
    ((took <= 10)) || die "the server took $took s to stop"
    lacks "$(server_log s)" "[ERROR] mysqld got signal"
    mock_rules ""
}

server_has_version() {
    [[ $(sql s "SELECT MAX(current_key_version)
        FROM information_schema.innodb_tablespaces_encryption") == "$1" ]]
}

has_seen_the_hang() { (($(status_of s Pkcs11_key_management_token_timeouts) > 0)); }

# The server learns of a new version while its own way to the token hangs; the admin's does not.
new_version_while_hung() {
    sed "s|^module = .*|module = $SOFTHSM_MODULE|" "$P11KEYRING_CONF" >"$KEYRING/direct.conf"
    server_start s
    hang_at "${HANGS_AT_RUN_TIME[@]}"
    tool --config "$KEYRING/direct.conf" key rotate 1
    eventually 10 has_seen_the_hang
    server_goes_on unseen
    server_has_version 1
    equal down "$(status_of s Pkcs11_key_management_token_state)" "token state"
    mock_rules ""
    eventually 20 server_has_version 3
    eventually 30 all_encrypted s 3
    equal up "$(status_of s Pkcs11_key_management_token_state)" "token state"
    server_goes_on seen
    plugin_lines s ERROR
    (($(plugin_lines s ERROR | wc -l) <= 3)) || die "the log is flooded"
    server_stop s
}

hung_at_start() {
    local call took
    for call in C_GetFunctionList C_Initialize C_GetSlotList C_GetTokenInfo C_OpenSession C_Login \
        C_FindObjectsInit C_DecryptInit C_Decrypt; do
        hang_at "$call"
        took=$SECONDS
        server_refuses s "did not return within 1000 ms"
        took=$((SECONDS - took))
        ((took <= 6)) || die "$call: the server took $took s to give up"
        contains "$(server_log s)" "$call"
    done
    mock_rules ""
    server_start s
    equal "$(<"$WORK/sums")" "$(checksums s)" "checksums"
}

keyring_up keyring
check "a server with encrypted tables" server_with_tables
check "token away: the server goes on, a rotation is refused" goes_on_without_token
check "token back: new keys and rotations without a restart" token_back_without_a_restart
check "token away: a restart refuses and names the cause; token back: all there" restart_refuses
check "killed, then a start without the token: no row of an encrypted Aria table is lost" \
    refused_after_a_crash
check "a server whose token's module can hang" server_on_the_mock
check "the module hangs: the server goes on, waits for nothing, stops" hung_at_run_time
check "a new version while the module hangs: it comes when the token answers again" \
    new_version_while_hung
check "the module hangs at each call of a start: the server gives up in time" hung_at_start
finish
