#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Master keys that mysql_migrate_keyring brings into token mode: they come into the token, serve, are
# named, are replaced by a rotation and destroyed; and the way out of token mode again, to
# component_keyring_file alone.
# shellcheck source=tests/lib/mysql_token.sh
source "$(dirname "$0")/../lib/mysql_token.sh"

MARKER=marker-$(random_hex 8)
EVIDENCE=$WORK/evidence

keystore() { sqlite3 "$KEYRING/keyring/test.keystore" "$1"; }

imported_names() { keystore "SELECT id FROM versions WHERE cipher LIKE '%-imported' ORDER BY id"; }

innodb_key() { imported_names | grep "^INNODBKey-.*-$1\$"; }

migrate_keyring() { # FROM TO [option...]
    local environment
    mapfile -t environment <"$WORK/i/env"
    in_root env "${environment[@]}" mysql_migrate_keyring --component-dir="$WORK/i/plugins" \
        --source-keyring="$1" --destination-keyring="$2" "${@:3}"
}

# Our keyring is there, but not yet loaded.
file_server() {
    server_new i
    KIND="file" server_keyring i
    server_options i "binlog-encryption = ON" "innodb-redo-log-encrypt = ON" \
        "innodb-undo-log-encrypt = ON"
    server_start i
    load_table i secret 200 "$MARKER" "ENCRYPTION='Y'"
    many_tables i one 3
    sql i "$ROTATE_INNODB"
    checksums i >"$WORK/sums"
    cp "$WORK/i/keyring/keys" "$WORK/file.keys"
}

value_of() { # NAME: in component_keyring_file, hexadecimal
    jq -r --arg name "$1" '.elements[] | select(.data_id == $name) | .data' "$WORK/file.keys"
}

# The server runs and reads meanwhile, but makes no key.
migrated_online() {
    local socket=$WORK/i/socket
    KIND=token server_keyring i
    server_manifest i component_keyring_file
    migrate_keyring component_keyring_file component_keyring_pkcs11 --online-migration \
        --socket="$socket" --user=root
    equal 1 "$(sql i "SELECT @@GLOBAL.keyring_operations")" "keyring_operations"
    same_checksums i "$WORK/sums"
    server_stop i
    server_manifest i component_keyring_pkcs11
    equal 3 "$(imported_names | wc -l)" "imported keys"
    server_start i
    same_checksums i "$WORK/sums"
    sql i "SHOW BINLOG EVENTS IN 'binlog.000001'" >/dev/null
    (($(operations i) > 5)) || die "the token did $(operations i) operations"
    equal "token-cbc-imported token-ecb-imported wrapped" \
        "$(keystore "SELECT DISTINCT cipher FROM versions WHERE namespace = 'mysql' ORDER BY cipher" | paste -sd ' ')" "forms"
}

read_value() { # ID
    PIN=$(<"$KEYRING/pin") as_server pkcs11-tool --module "$SOFTHSM_MODULE" --token-label \
        "$(<"$WORK/selected")" --login --pin env:PIN --read-object --type secrkey --id "$1" \
        -o "$KEYRING/value"
}

# The file keyring's own value opens the table, which shows what to search for; it is not found in what
# the migrated server has.
values_stay_inside() {
    local name value
    value_of "$(innodb_key 2)" >"$WORK/value"
    open_ibd "$WORK/i/data/t/secret.ibd" "$WORK/value" >"$WORK/pages"
    contains "$WORK/pages" "$MARKER"
    for name in $(imported_names); do
        read_value "$(object_id "$name")" >"$WORK/read" 2>&1 || true
        contains "$WORK/read" CKR_ATTRIBUTE_SENSITIVE
        value=$(value_of "$name")
        find_bytes "$value" "$WORK/file.keys" | grep -q . || die "the search finds nothing"
        equal "" "$(find_bytes "$value" "$(server_pid i)")" "the value of $name in the memory"
        equal "" "$(find "$WORK/i/data" "$KEYRING" -type f -exec "$WORK/bin/find_bytes" "$value" {} +)" \
            "files with the value of $name"
    done
}

named_everywhere() {
    local name
    row i Imported_keys >"$WORK/row"
    fails_with 3 tool status >"$WORK/status" 2>&1
    fails_with 3 tool key list >"$WORK/list" 2>&1
    fails_with 3 tool doctor >"$WORK/doctor" 2>&1
    tool master list >"$WORK/masters"
    for name in $(imported_names); do
        for file in row status list doctor masters; do contains "$WORK/$file" "$name"; done
    done
    grep -q "mysql-imported:$(innodb_key 1) .*imported .*yes" "$WORK/masters" || die "$(<"$WORK/masters")"
}

# New tables are sealed by the imported key until the first rotation, and never after it: not by the
# server, and not by a tool that is asked to.
sealed_until_rotated() {
    local old
    old=$(innodb_key 2)
    sql i "CREATE TABLE t.before (id INT) ENCRYPTION='Y'; FLUSH TABLES t.before FOR EXPORT; UNLOCK TABLES"
    equal 2 "$(header_key "$WORK/i/data/t/before.ibd")" "master key of a new table"
    cp "$WORK/i/data/t/secret.ibd" "$WORK/secret.ibd"
    own "$WORK/secret.ibd"
    sql i "$ROTATE_INNODB; $ROTATE_BINLOG; CREATE TABLE t.after (id INT) ENCRYPTION='Y';
        DROP TABLE t.before"
    server_start i
    same_tables
    equal 3 "$(header_keys i)" "master keys of all tables"
    equal "token-ecb" "$(keystore "SELECT cipher FROM versions WHERE id LIKE 'INNODBKey-%-3'")" "form"
    cp "$WORK/i/data/t/secret.ibd" "$WORK/rotated.ibd"
    own "$WORK/rotated.ibd"
    ! tool rekey --alone --header-only --innodb-key "$old" "$WORK/rotated.ibd" >"$WORK/rekey" 2>&1 ||
        die "the imported key sealed a header: $(<"$WORK/rekey")"
    contains "$WORK/rekey" "seals nothing any more"
    equal 3 "$(header_key "$WORK/rotated.ibd")" "master key of the copy"
    tool decrypt "$WORK/secret.ibd" -o "$KEYRING/clear"
    contains "$KEYRING/clear" "$MARKER"
}

same_tables() {
    sql i "DROP TABLE IF EXISTS t.after"
    same_checksums i "$WORK/sums"
}

evidence() { # NAME
    mkdir -p "$EVIDENCE"
    own "$EVIDENCE"
    tool usage "$WORK/i/data" --ignore-unknown -o "$EVIDENCE/$1" >"$WORK/usage"
}

destroy() { # EVIDENCE NAME...
    local name
    for name in "${@:2}"; do
        tool key destroy "$name" --evidence "$EVIDENCE/$1" --confirm "$name"
    done
}

gone_in_the_end() {
    local names
    sql i "SET GLOBAL innodb_fast_shutdown = 0"
    server_stop i
    grep -q data-directories "$P11KEYRING_CONF" ||
        sed -i "s|^\[keyring\]|&\ndata-directories = $WORK/i/data|" "$P11KEYRING_CONF"
    evidence first
    names=$(imported_names)
    equal 2 "$(wc -l <<<"$names")" "imported keys, the binary log's being removed by mysqld: $names"
    # shellcheck disable=SC2086 # one word each
    destroy first $names
    equal "" "$(imported_names)" "imported keys"
    tool status >"$WORK/status" 2>&1
    lacks "$WORK/status" imported
    server_start i
    equal none "$(row i Imported_keys)" Imported_keys
    same_checksums i "$WORK/sums"
}

# --- the way out -----------------------------------------------------------------------------------

to_file() { # [OPTION...]
    rm -f "$WORK/i/keyring/keys"
    migrate_keyring component_keyring_pkcs11 component_keyring_file "$@" >"$WORK/migrate.log" 2>&1
}

refused_in_token_mode() {
    server_stop i
    ! to_file || die "token mode was left: $(<"$WORK/migrate.log")"
    contains "$WORK/migrate.log" "stays in the token"
    contains "$WORK/migrate.log" "master-keys = wrapped"
    contains "$WORK/migrate.log" "key destroy"
}

# By the configuration, a restart, both rotations, and the end of the keys in the token.
out_of_token_mode() {
    local names
    sed -i 's/^master-keys = token/master-keys = wrapped/' "$P11KEYRING_CONF"
    server_start i
    sql i "$ROTATE_INNODB; $ROTATE_BINLOG; SET GLOBAL innodb_fast_shutdown = 0"
    same_checksums i "$WORK/sums"
    server_stop i
    names=$(keystore "SELECT id FROM versions WHERE cipher LIKE 'token-%'")
    evidence second
    # shellcheck disable=SC2086
    destroy second $names
    server_start i
    to_file --online-migration --socket="$WORK/i/socket" --user=root || die "$(<"$WORK/migrate.log")"
    equal 1 "$(sql i "SELECT @@GLOBAL.keyring_operations")" "keyring_operations"
    server_stop i
}

# Nothing of ours is left in this server's way.
component_keyring_file_alone() {
    server_manifest i component_keyring_file
    sed -i '/^OPENSSL_\|^SOFTHSM2_CONF/d' "$WORK/i/env"
    rm "$WORK/i/plugins/component_keyring_pkcs11."*
    mv "$KEYRING" "$KEYRING.away"
    server_start i
    same_checksums i "$WORK/sums"
    for log in $(sql i "SHOW BINARY LOGS" | cut -f 1); do
        sql i "SHOW BINLOG EVENTS IN '$log'" >/dev/null
    done
    sql i "$ROTATE_INNODB; $ROTATE_BINLOG"
    server_start i
    same_checksums i "$WORK/sums"
}

check "a server with component_keyring_file" file_server
check "mysql_migrate_keyring brings its keys into the token while it runs" migrated_online
check "their values are not to be had any more" values_stay_inside
check "status, key list, doctor, master list and the server name the imported keys" named_everywhere
check "they seal nothing after the first rotation, and open what they sealed" sealed_until_rotated
check "key destroy ends them, and nobody names them any more" gone_in_the_end
check "mysql_migrate_keyring out of token mode is refused and names the way" refused_in_token_mode
check "the way out: wrapped, both rotations, key destroy, mysql_migrate_keyring" out_of_token_mode
check "component_keyring_file alone opens everything" component_keyring_file_alone
finish
