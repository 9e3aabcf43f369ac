#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# kill -9 of mysqld during the first rotation of imported master keys, which seal nothing any more once
# the new ones are used, and of mysql_migrate_keyring while it brings them in: the server starts, reads
# everything, and rotates on. $P11K_CRASHES kills of each (default 1).
# shellcheck source=tests/lib/mysql_token.sh
source "$(dirname "$0")/../lib/mysql_token.sh"

CRASHES=${P11K_CRASHES:-1}

keystore() { sqlite3 "$KEYRING/keyring/test.keystore" "$1"; }

imported() { keystore "SELECT COUNT(*) FROM versions WHERE cipher LIKE '%-imported'"; }

imported_in_token() { token_objects -O --type secrkey | grep -c 'label:.*:mysql-imported:' || true; }

# Redo and undo log have headers under the master key, too, which a start may have to write.
server_to_migrate() {
    server_new i
    KIND="file" server_keyring i
    server_options i "binlog-encryption = ON" "innodb-redo-log-encrypt = ON" \
        "innodb-undo-log-encrypt = ON"
    server_start i
    many_tables i one 20
    sql i "$ROTATE_INNODB"
    checksums i >"$WORK/sums"
    server_stop i
    KIND=token server_keyring i
    server_manifest i component_keyring_pkcs11
    keep before
}

keep() { # NAME
    mkdir "$WORK/$1"
    cp -a "$WORK/i/data" "$KEYRING" "$WORK/$1/"
}

put_back() { # NAME
    rm -rf "$WORK/i/data" "$KEYRING"
    cp -a "$WORK/$1/." "$WORK/"
    mv "$WORK/data" "$WORK/i/"
}

# A command for `background`, whose pid is then the program's.
migration() {
    local environment
    mapfile -t environment <"$WORK/i/env"
    MIGRATION=("${IN_ROOT[@]}" env "${environment[@]}" mysql_migrate_keyring
        --component-dir="$WORK/i/plugins" --source-keyring=component_keyring_file
        --destination-keyring=component_keyring_pkcs11)
}

milliseconds() { # COMMAND...
    local start=$EPOCHREALTIME
    "$@" >/dev/null 2>&1
    echo $(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
}

# Its keys come one by one: each is whole or not there. The next command that opens the secrets takes
# back what is in the token alone.
migration_killed() {
    local ms hits=0 rows
    migration
    ms=$(milliseconds "${MIGRATION[@]}")
    while ((hits < CRASHES)); do
        put_back before
        keep_softhsm
        background "${MIGRATION[@]}" >"$WORK/migrate.log" 2>&1
        random_pause 0 "$ms"
        if kill -KILL "$background_pid" 2>/dev/null; then hits=$((hits + 1)); fi
        ms=$((ms * 9 / 10 + 1))
        wait_gone "$background_pid" 10
        put_softhsm_right
        tool key destroy INNODBKey-none-1 --without-evidence --dry-run 2>"$WORK/err" || true
        rows=$(imported)
        equal "$rows" "$(imported_in_token)" "imported keys in the token"
    done
    put_back before
    "${MIGRATION[@]}"
    equal 3 "$(imported)" "imported keys"
    keep migrated
}

rotation_killed() {
    local ms n
    put_back migrated
    server_start i
    ms=$(milliseconds sql i "$ROTATE_INNODB; $ROTATE_BINLOG")
    for ((n = 0; n < CRASHES; n++)); do
        server_kill i
        put_back migrated
        server_start i
        background sql i "$ROTATE_INNODB; $ROTATE_BINLOG" 2>/dev/null
        random_pause 0 "$ms"
        server_kill i
        server_start i
        same_checksums i "$WORK/sums"
        sql i "$ROTATE_INNODB; $ROTATE_BINLOG; CREATE TABLE t.new (id INT) ENCRYPTION='Y'; DROP TABLE t.new"
        same_checksums i "$WORK/sums"
    done
}

check "a server with component_keyring_file" server_to_migrate
check "kill -9 of mysql_migrate_keyring, $CRASHES times: keys are whole or not there" migration_killed
check "kill -9 during the first rotation, $CRASHES times: the server starts and rotates on" rotation_killed
finish
