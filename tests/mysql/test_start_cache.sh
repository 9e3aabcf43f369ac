#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# An mysqld in wrapped mode that may restart while its token is away.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

KIND=wrapped

sealed() { [[ -s $KEYRING/keyring/start.cache ]]; }
confirmed() { [[ $(row s Start_cache) == "not served" ]]; }

server_that_seals() {
    server_new s
    server_keyring s
    allow_start_cache
    server_start s
    sql s "CREATE DATABASE t; CREATE TABLE t.x (id INT PRIMARY KEY, b TEXT) ENCRYPTION='Y';
        INSERT INTO t.x VALUES (1, 'one')"
    server_stop s
    rm -f "$KEYRING/keyring/start.cache" # that of a server whose keys were still to be made
    server_start s
    eventually 20 sealed
    confirmed
}

restarts_without_token() {
    token_away
    server_kill s
    server_start s
    equal served "$(row s Start_cache)" "Start_cache"
    equal one "$(sql s 'SELECT b FROM t.x')" "row"
    sql s "INSERT INTO t.x VALUES (2, 'two'); CREATE TABLE t.y (id INT) ENCRYPTION='Y'"
    sql_fails s "" "ALTER INSTANCE ROTATE INNODB MASTER KEY"
}

token_confirms() {
    token_back
    eventually 20 confirmed
    sql s "ALTER INSTANCE ROTATE INNODB MASTER KEY"
    equal "one two" "$(sql s 'SELECT b FROM t.x' | paste -sd ' ')" "rows"
    server_stop s
}

check "a server seals its keys for a start without the token" server_that_seals
check "token away: a killed server starts, reads and writes" restarts_without_token
check "token back: it confirms, and a rotation works" token_confirms
finish
