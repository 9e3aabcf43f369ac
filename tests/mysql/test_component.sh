#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# What our component promises beyond any keyring: where the master keys are, that nothing stands in
# for the token, what an operator sees, and migration.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"
# shellcheck source=tests/lib/audit.sh
source "$(dirname "$0")/../lib/audit.sh"

ROTATE="ALTER INSTANCE ROTATE INNODB MASTER KEY"
NO_KEY="find master key from keyring"

operations() { row "$1" Token_operations; }

conf_of() { # NAME
    echo "$WORK/$1.keyring/p11keyring.conf"
}

without_provider() { # NAME COMMAND...
    local env=$WORK/$1/env rc=0
    cp "$env" "$env.whole"
    sed -i '/^OPENSSL_/d' "$env"
    "${@:2}" || rc=$?
    mv "$env.whole" "$env"
    return "$rc"
}

# --- where the keys are ----------------------------------------------------------------------------

keys_are_where_they_should_be() {
    server_new k
    server_keyring k
    audit_on
    server_start k
    equal "$KIND" "$(row k Mode)" "Mode"
    equal up "$(row k Token_state)" "Token_state"
    equal none "$(row k Last_error)" "Last_error"
    sql k "CREATE DATABASE t; CREATE TABLE t.x (id INT PRIMARY KEY, b TEXT) ENCRYPTION='Y';
        INSERT INTO t.x VALUES (1, 'one'); SET PERSIST binlog_encryption = ON;
        INSERT INTO t.x VALUES (2, 'two'); ALTER INSTANCE ROTATE BINLOG MASTER KEY; $ROTATE"
    local resident=0
    [[ $KIND == wrapped ]] || resident=3 # InnoDB's two, and the newest of the binary log's
    equal "$resident" "$(row k Token_resident_keys)" "Token_resident_keys"
    keyring_use k.keyring
    tool status --json >"$WORK/status"
    equal "$resident" "$(jq .mysql_token_count "$WORK/status")" "mysql_token_count"
    tool master list --json >"$WORK/masters"
    equal "$resident" "$(jq '[.master_keys[] | select(.state == "mysql" and .in_token and
        .problem == null)] | length' "$WORK/masters")" "MySQL's keys in master list"
    equal 0 "$(jq '[.master_keys[] | select(.state == "not in the keystore")] | length' \
        "$WORK/masters")" "keys that the keystore does not know"
}

# Each tablespace key and file password that is wrapped or unwrapped is an operation in the token.
operations_are_in_the_token() {
    local before after
    before=$(operations k)
    many_tables k op 4
    after=$(operations k)
    [[ $KIND == wrapped ]] || ((after >= before + 4)) || die "$before operations, then $after"
    sql k "$ROTATE; FLUSH BINARY LOGS"
    [[ $KIND == wrapped ]] || (($(operations k) >= after + 6)) || die "rotation: $after, $(operations k)"
    checksums k >"$WORK/sums"
    server_stop k
    server_start k
    same_checksums k "$WORK/sums"
    if [[ $KIND == wrapped ]]; then
        equal 0 "$(operations k)" "operations in wrapped mode"
    else
        (($(operations k) >= 5)) || die "$(operations k) operations after a restart"
    fi
}

# Of two starts, rotations in SQL and the tool.
one_audit_log() {
    local key
    key=INNODBKey-$(sql k "SELECT @@server_uuid")
    keyring_use k.keyring
    sql k "$ROTATE"
    tool status >/dev/null
    audit_story >"$WORK/story"
    has_in_order "$WORK/story" "mysqld log-start ok" "mysqld token-login ok" \
        "mysqld keyring-open ok" "mysqld secrets-open ok" "mysqld secret-generate ok $key-1" \
        "mysqld secret-generate ok $key-2" "p11keyring token-login ok" "p11keyring keyring-open ok" \
        "mysqld secret-generate ok $key-3" "mysqld token-login ok" "mysqld keyring-open ok" \
        "mysqld secrets-open ok" "mysqld secret-generate ok $key-4" "p11keyring token-login ok" \
        "p11keyring keyring-open ok"
    equal "$(id -u "$RUN_AS")" "$(jq -r 'select(.actor.program == "mysqld") | .actor.uid' \
        "$(audit_log)" | sort -u)" "the server's user"
    audit_verified
}

# --- nothing stands in for the token ---------------------------------------------------------------

reads_fail() {
    ! sql k "SELECT * FROM t.x" 2>/dev/null || die "the table could be read"
}

refused_without_provider() {
    server_stop k
    without_provider k server_launch k --skip-log-bin --binlog-encryption=OFF
    eventually 30 no_provider_seen
    server_kill k
}

# The server ends, or runs and cannot open its tables; the log names the cause in both cases.
no_provider_seen() {
    server_answers k || ! alive "$(server_pid k)" || return 1
    ! server_answers k || reads_fail
    grep -q "is not done by the p11keyring provider" "$(server_log k)"
}

refused_when_not_verified() {
    sed -i '/^master-keys/a server-versions = 8.0' "$(conf_of k)"
    server_launch k --skip-log-bin --binlog-encryption=OFF
    eventually 30 not_verified_seen
    server_kill k
    sed -i '/^server-versions/d' "$(conf_of k)"
    server_start k --skip-log-bin --binlog-encryption=OFF
    equal "one two" "$(sql k 'SELECT b FROM t.x' | paste -sd ' ')" "rows in a verified server"
}

not_verified_seen() {
    server_answers k || ! alive "$(server_pid k)" || return 1
    ! server_answers k || reads_fail
    grep -q "has not been verified for master-keys = token" "$(server_log k)"
}

new_server_makes_nothing() {
    server_new n
    server_keyring n
    without_provider n server_start n
    sql_fails n "$NO_KEY" "CREATE TABLE mysql.x (id INT) ENCRYPTION='Y'"
    contains "$(server_log n)" "OPENSSL_CONF"
    equal 0 "$(row n Keys)" "Keys"
    contains <(row n Last_error) "is not done by the p11keyring provider"
    server_stop n
}

# --- the token goes away ---------------------------------------------------------------------------

token_comes_and_goes() {
    server_start k
    sql k "CREATE TABLE t.before (id INT PRIMARY KEY) ENCRYPTION='Y'"
    mv "$WORK/k.keyring/tokens" "$WORK/k.keyring/tokens.away"
    eventually 10 token_is down
    equal "one two" "$(sql k 'SELECT b FROM t.x' | paste -sd ' ')" "rows of an opened table"
    sql_fails k "" "$ROTATE"
    contains "$(server_log k)" "component_keyring_pkcs11: "
    mv "$WORK/k.keyring/tokens.away" "$WORK/k.keyring/tokens"
    eventually 10 token_is up
    sql k "$ROTATE; CREATE TABLE t.after (id INT PRIMARY KEY) ENCRYPTION='Y'"
    contains "$(server_log k)" "works again"
}

token_is() { [[ $(row k Token_state) == "$1" ]]; }

reload_on_a_good_keyring() {
    local i
    for i in 1 2 3; do
        sql k "ALTER INSTANCE RELOAD KEYRING; CREATE TABLE t.reload$i (id INT) ENCRYPTION='Y';
            FLUSH BINARY LOGS; $ROTATE"
    done
    equal none "$(row k Last_error)" "Last_error"
}

# --- migration -------------------------------------------------------------------------------------

migrate() { # NAME FROM-COMPONENT TO-COMPONENT
    local environment
    mapfile -t environment <"$WORK/$1/env"
    in_root env "${environment[@]}" mysql_migrate_keyring --component-dir="$WORK/$1/plugins" \
        --source-keyring="$2" --destination-keyring="$3" >"$WORK/migrate.log" 2>&1
}

# An encrypted server on the server's own component goes on with ours, and makes its next key there.
from_component_keyring_file() {
    local kind=$KIND
    server_new m
    KIND="file" server_keyring m
    server_start m
    sql m "CREATE DATABASE t; CREATE TABLE t.x (id INT PRIMARY KEY) ENCRYPTION='Y';
        INSERT INTO t.x VALUES (7)"
    server_stop m
    KIND=$kind
    server_keyring m
    migrate m component_keyring_file component_keyring_pkcs11 || {
        cat "$WORK/migrate.log"
        die "the migration failed"
    }
    server_start m
    equal 7 "$(sql m 'SELECT * FROM t.x')" "row after the migration"
    sql m "$ROTATE"
    server_stop m
    server_start m
    equal 7 "$(sql m 'SELECT * FROM t.x')" "row after a rotation"
    server_stop m
}

and_back() {
    rm -f "$WORK/m/keyring/keys"
    if [[ $KIND == token ]]; then
        ! migrate m component_keyring_pkcs11 component_keyring_file || die "token keys were migrated"
        contains "$WORK/migrate.log" "only mysqld itself can use it"
        ! grep -q 897031316B "$WORK/m/keyring/keys" 2>/dev/null || die "a handle was migrated"
        return
    fi
    migrate m component_keyring_pkcs11 component_keyring_file
    server_manifest m component_keyring_file
    server_start m
    equal 7 "$(sql m 'SELECT * FROM t.x')" "row after the way back"
}

for KIND in $KINDS; do
    [[ $KIND != file ]] || continue
    check "$KIND: master keys are where they should be, and listed" keys_are_where_they_should_be
    check "$KIND: operations at the token are counted" operations_are_in_the_token
    check "$KIND: server and tool share one audit log, in order, which verifies" one_audit_log
    check "$KIND: the token goes away and comes back" token_comes_and_goes
    check "$KIND: RELOAD KEYRING on a good keyring" reload_on_a_good_keyring
    if [[ $KIND == token ]]; then
        check "$KIND: without the OpenSSL provider nothing is read" refused_without_provider
        check "$KIND: a server that is not verified is refused" refused_when_not_verified
        check "$KIND: without the OpenSSL provider no key is made" new_server_makes_nothing
    fi
    check "$KIND: mysql_migrate_keyring from component_keyring_file" from_component_keyring_file
    check "$KIND: mysql_migrate_keyring back" and_back
    servers_remove k n m
done
finish
