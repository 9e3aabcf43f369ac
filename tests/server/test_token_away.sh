#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The token is taken away from under a running server: the server goes on with every key that it
# knows, refuses only what needs the token, and a restart says clearly what is missing. The same
# with a module that hangs.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-5000}

token_away() { mv "$KEYRING/tokens" "$KEYRING/tokens.away"; }

token_back() { mv "$KEYRING/tokens.away" "$KEYRING/tokens"; }

server_with_tables() {
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
    fails_with 4 tool key rotate 1
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

keyring_up keyring
check "a server with encrypted tables" server_with_tables
check "token away: the server goes on, a rotation is refused" goes_on_without_token
check "token back: new keys and rotations without a restart" token_back_without_a_restart
check "token away: a restart refuses and names the cause; token back: all there" restart_refuses
finish
