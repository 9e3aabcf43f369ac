#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Attacks on MySQL's token mode by those who know how it works: each is first seen to succeed against
# a build without the guards, then refused.
# shellcheck source=tests/lib/mysql_token.sh
source "$(dirname "$0")/../lib/mysql_token.sh"

MARKER=marker-$(random_hex 8)
IBD=$WORK/a/data/t/secret.ibd
MODES="ecb cbc cfb1 cfb8 cfb128 ofb"

build_without_guards() {
    "$MYSQL_ROOT_SH" compile "$NO_GUARD_BUILD" -DP11K_TEST_NO_GUARD=ON
    ! cmake --install "$NO_GUARD_BUILD" --prefix "$WORK/installed" 2>"$WORK/install" ||
        die "a build without guards was installed"
    contains "$WORK/install" "is not for use"
}

a_server() {
    server_new a
    server_keyring a
    guards a off
    server_start a
    load_table a secret 200 "$MARKER" "ENCRYPTION='Y'"
    sql a "CREATE USER low@localhost; GRANT SELECT ON performance_schema.* TO low@localhost"
    sleep 1.5 # pages are written at leisure
    server_stop a
    lacks "$IBD" "$MARKER"
    server_start a
}

# The handle that a build without guards gives out for a key of the token.
stable_handle() { # LABEL-LIKE
    local id
    id=$(object_id "$1")
    [[ $id ]] || die "the token has no key $1"
    printf '%s%s0000000000000000' "$HANDLE_MAGIC" "$id"
}

# What a user without privileges gets for 64 bytes of a copied file; NULL or an error otherwise.
sql_decrypts() { # MODE HANDLE
    local iv=
    [[ $1 == ecb ]] || iv=", REPEAT('i', 16)"
    sql a "SET block_encryption_mode = 'aes-256-$1';
        SELECT HEX(AES_DECRYPT(UNHEX('$(open_ibd -i "$IBD")'), UNHEX('$2')$iv))" --user=low 2>&1 ||
        true
}

opens_the_table() { # HEX
    echo "$1" >"$WORK/got"
    open_ibd -t "$IBD" "$WORK/got" >"$WORK/pages" && contains "$WORK/pages" "$MARKER"
}

works_by_sql() {
    local before
    before=$(operations a)
    opens_the_table "$(sql_decrypts ecb "$(stable_handle INNODBKey-.*)")"
    equal $((before + 1)) "$(operations a)" "operations in the token"
}

# A cipher that is not guarded takes the handle for its key.
handle_as_key_by_sql() {
    local handle
    handle=$(stable_handle INNODBKey-.*)
    dd if="$IBD" of="$WORK/sealed" bs=1 skip=10433 count=64 status=none
    openssl enc -d -aes-256-cfb -K "$handle" -iv "$(printf '69%.0s' {1..16})" -in "$WORK/sealed" \
        -out "$WORK/opened"
    equal "$(od -An -v -tx1 "$WORK/opened" | tr -d ' \n')" "$(sql_decrypts cfb128 "$handle" | tr A-F a-f)" \
        "AES_DECRYPT in mode cfb128"
}

random_key_by_sql() { # MODE
    [[ $(sql_decrypts "$1" "$(random_hex 32)") =~ ^[0-9A-F]{128}$ ]] ||
        die "AES_DECRYPT in mode $1 does nothing with any key"
}

# The live handles of this very process, in each mode; the token has nothing to do.
refused_by_sql() {
    local handle mode out before
    guards a on
    server_start a
    equal 200 "$(sql a 'SELECT COUNT(*) FROM t.secret')" "rows"
    for mode in cfb1 cfb8 cfb128 ofb; do random_key_by_sql "$mode"; done
    handles a >"$WORK/handles"
    [[ -s $WORK/handles ]] || die "no handle in memory"
    before=$(operations a)
    while read -r handle; do
        for mode in $MODES; do
            out=$(sql_decrypts "$mode" "$handle")
            [[ $out == NULL || $out == ERROR* ]] || die "$mode gave $out"
        done
    done <"$WORK/handles"
    out=$(sql_decrypts ecb "$(stable_handle INNODBKey-.*)")
    equal NULL "${out/#ERROR*/NULL}" "with a guessed handle"
    equal "$before" "$(operations a)" "operations in the token"
}

# Only the padding check is left out: which handles does this process know?
known_handles() { # FILE
    local handle n=0
    while read -r handle; do
        ! (opens_the_table "$(sql_decrypts ecb "$handle")") 2>/dev/null || n=$((n + 1))
    done <"$1"
    echo "$n"
}

old_handles() {
    guards a off
    server_environment a P11K_TEST_RANDOM_HANDLES=1
    server_start a
    in_root_as_root gdb -batch -nx -p "$(server_pid a)" \
        -ex "set use-coredump-filter off" -ex "set dump-excluded-mappings on" \
        -ex "gcore $WORK/core" >"$WORK/gdb" 2>&1
    find_bytes -n 24 "$HANDLE_MAGIC" "$WORK/core" | cut -d ' ' -f 2 | sort -u >"$WORK/old"
    rm -f "$WORK/core"
    equal 1 "$(known_handles "$WORK/old")" "handles in a core of this process that work"
    server_start a
    handles a >"$WORK/new"
    equal 1 "$(known_handles "$WORK/new")" "handles in the memory of this process that work"
    equal 0 "$(known_handles "$WORK/old")" "handles of an earlier process that work"
}

in_root_as_root() { "$MYSQL_ROOT_SH" run -b "$WORK" -- "$@"; }

handles_in_files() {
    find "$WORK/a/data" "$WORK/a.keyring" -type f \
        -exec "$WORK/bin/find_bytes" "$HANDLE_MAGIC" {} + | cut -d ' ' -f 1
}

never_stored() {
    printf '\x89p11k\x0d\x0a\x1a' >"$WORK/a/data/planted"
    equal "$WORK/a/data/planted" "$(handles_in_files)" "files with a planted handle"
    rm "$WORK/a/data/planted"
    equal "" "$(handles_in_files)" "files with handles"
}

new_in_each_process() {
    guards a on
    sed -i '/^P11K_TEST_RANDOM_HANDLES/d' "$WORK/a/env"
    server_daemonize a
    equal 200 "$(sql a 'SELECT COUNT(*) FROM t.secret')" "rows"
    handles a >"$WORK/one"
    server_daemonize a
    equal 200 "$(sql a 'SELECT COUNT(*) FROM t.secret')" "rows"
    handles a >"$WORK/two"
    [[ -s $WORK/one && -s $WORK/two ]] || die "no handle in memory"
    equal "" "$(comm -12 "$WORK/one" "$WORK/two")" "handles of both processes"
    server_stop a
}


# --- nobody there who knows what a handle is -------------------------------------------------------

# In one of three ways the server's OpenSSL does not come to our provider.
break_openssl() { # NAME HOW
    case $2 in
    inactive) sed -i '/^OPENSSL_CONF=/d' "$WORK/$1/env" ;;
    ineffective) sed -i '/^default_properties/d' "$WORK/$1/openssl.cnf" ;;
    missing)
        sed -i '/^OPENSSL_MODULES=/d' "$WORK/$1/env"
        server_environment "$1" "OPENSSL_MODULES=$WORK/lib/nothing-there"
        ;;
    esac
}

broken_server() { # NAME HOW on|off
    server_new "$1"
    server_keyring "$1"
    guards "$1" "$3"
    break_openssl "$1" "$2"
    server_start "$1"
}

handle_as_key_by_server() {
    broken_server b inactive off
    load_table b secret 200 "$MARKER" "ENCRYPTION='Y'"
    stable_handle INNODBKey-.* >"$WORK/candidates"
    server_stop b
    open_ibd "$WORK/b/data/t/secret.ibd" "$WORK/candidates" >"$WORK/pages"
    contains "$WORK/pages" "$MARKER"
    servers_remove b
}

no_server_uses_a_handle() { # HOW
    broken_server b "$1" on
    sql_fails b "find master key from keyring" "CREATE TABLE mysql.x (id INT) ENCRYPTION='Y'"
    contains "$(server_log b)" "AES-256-ECB of OpenSSL's default context is not done by the p11keyring"
    contains "$(server_log b)" "start mysqld with OPENSSL_CONF naming p11keyring's openssl.cnf"
    sql_fails b "" "SET GLOBAL binlog_encryption = ON"
    sql_fails b "" "$ROTATE_INNODB"
    equal "" "$(object_id mysql:.*)" "keys in the token"
    equal "" "$(handles b)" "handles in the memory"
    servers_remove b
}

# A server that has encrypted tables already: they stay shut, and as they are.
tables_stay_shut() { # HOW
    keyring_use a.keyring
    guards a on
    cp "$WORK/a/env" "$WORK/a.env"
    cp "$WORK/a/openssl.cnf" "$WORK/a.openssl.cnf"
    sha256sum <"$IBD" >"$WORK/ibd.sum"
    break_openssl a "$1"
    server_start a
    sql_fails a "" "SELECT COUNT(*) FROM t.secret"
    sql_fails a "" "$ROTATE_INNODB"
    contains "$(server_log a)" "start mysqld with OPENSSL_CONF naming p11keyring's openssl.cnf"
    sql_fails a "find master key from keyring" "CREATE TABLE t.new (id INT) ENCRYPTION='Y'"
    server_stop a
    equal "$(<"$WORK/ibd.sum")" "$(sha256sum <"$IBD")" "the tablespace"
    mv "$WORK/a.env" "$WORK/a/env"
    mv "$WORK/a.openssl.cnf" "$WORK/a/openssl.cnf"
    server_start a
    equal 200 "$(sql a 'SELECT COUNT(*) FROM t.secret')" "rows with the provider back"
}

# --- a server of another version -------------------------------------------------------------------

configure_mysql() { # LINE...
    sed -i '/^server-versions/d; /^unverified-server/d' "$P11KEYRING_CONF"
    printf '%s\n' "$@" >>"$P11KEYRING_CONF"
}

forms_in_keystore() {
    sqlite3 "$KEYRING/keyring/test.keystore" \
        "SELECT DISTINCT cipher FROM versions WHERE id LIKE 'INNODBKey-%'" | paste -sd ' '
}

unverified_unguarded() {
    server_new v
    server_keyring v
    configure_mysql "server-versions = 8.0"
    guards v off
    server_start v
    load_table v secret 10 row "ENCRYPTION='Y'"
    equal token-ecb "$(forms_in_keystore)" "form of the master key"
}

unverified_refused() {
    guards v on
    server_start v
    sql_fails v "" "SELECT COUNT(*) FROM t.secret"
    sql_fails v "find master key from keyring" "CREATE TABLE t.x (id INT) ENCRYPTION='Y'"
    contains "$(server_log v)" "has not been verified for master-keys = token"
    contains "$(server_log v)" "unverified-server = wrapped for new keys"
    servers_remove v
}

unverified_wrapped() {
    server_new v
    server_keyring v
    configure_mysql "server-versions = 8.0" "unverified-server = wrapped"
    guards v on
    server_start v
    load_table v secret 10 row "ENCRYPTION='Y'"
    equal wrapped "$(forms_in_keystore)" "form of the master key"
    equal 0 "$(operations v)" "operations in the token"
    contains <(row v Mode) "this server version has not been verified"
    servers_remove v
}

# --- outside the server ----------------------------------------------------------------------------

migrate_away() {
    local environment
    mapfile -t environment <"$WORK/a/env"
    rm -f "$WORK/a/tmp/stolen"
    printf '{"path": "%s", "read_only": false}\n' "$WORK/a/tmp/stolen" \
        >"$WORK/a/plugins/component_keyring_file.cnf"
    in_root env "${environment[@]}" mysql_migrate_keyring --component-dir="$WORK/a/plugins" \
        --source-keyring=component_keyring_pkcs11 --destination-keyring=component_keyring_file \
        >"$WORK/migrate.log" 2>&1
}

migration_unguarded() {
    keyring_use a.keyring
    guards a off
    migrate_away || die "$(<"$WORK/migrate.log")"
    contains "$WORK/a/tmp/stolen" "$(stable_handle INNODBKey-.* | tr a-f A-F)"
}

migration_refused() {
    keyring_use a.keyring
    guards a on
    ! migrate_away || die "the migration succeeded: $(<"$WORK/migrate.log")"
    contains "$WORK/migrate.log" "stays in the token: only mysqld itself can use it"
    contains "$WORK/migrate.log" "a key that lives in the token cannot be migrated"
    [[ ! -e $WORK/a/tmp/stolen ]] || lacks "$WORK/a/tmp/stolen" INNODBKey
}

# --- in the keystore and the token -----------------------------------------------------------------

# Who can write the keystore makes the name of one key stand for another in the token.
swap_envelopes() {
    sqlite3 "$KEYRING/keyring/test.keystore" "CREATE TEMP TABLE old AS SELECT * FROM versions;
        UPDATE versions SET envelope = (SELECT old.envelope FROM old WHERE old.namespace = 'mysql'
            AND old.id LIKE 'INNODBKey-%' AND old.id <> versions.id)
        WHERE namespace = 'mysql' AND id LIKE 'INNODBKey-%'"
}

swapped_unguarded() {
    keyring_use a.keyring
    guards a on
    server_start a
    sql a "$ROTATE_INNODB"
    guards a off
    cp -a "$KEYRING/keyring/test.keystore" "$WORK/keystore"
    swap_envelopes
    server_start a
    equal "Active 2" "$(row a Component_status) $(row a Token_resident_keys)" "the component"
    sql_fails a "" "SELECT COUNT(*) FROM t.secret"
}

swapped_refused() {
    guards a on
    server_start a
    equal Disabled "$(row a Component_status)" "Component_status"
    contains "$(server_log a)" "restore $KEYRING/keyring/test.keystore from a backup"
    equal "" "$(handles a)" "handles in the memory"
    cp -a "$WORK/keystore" "$KEYRING/keyring/test.keystore"
    sql a "ALTER INSTANCE RELOAD KEYRING"
    equal Active "$(row a Component_status)" "Component_status"
    server_start a
    equal 200 "$(sql a 'SELECT COUNT(*) FROM t.secret')" "rows"
}

token_encrypts() { # ID MECHANISM
    head -c 64 /dev/zero >"$WORK/zero"
    own "$WORK/zero"
    token_objects --encrypt --id "$1" --mechanism "$2" --iv "$(random_hex 16)" \
        --input-file "$WORK/zero" --output-file "$KEYRING/encrypted"
}

modes_kept_apart() {
    local ecb cbc
    keyring_use a.keyring
    sql a "SET GLOBAL binlog_encryption = ON"
    ecb=$(object_id INNODBKey-.*)
    cbc=$(object_id MySQLReplicationKey_.*)
    token_objects --keygen --key-type AES:32 --sensitive --private --label free --id f0 \
        --usage-decrypt
    token_encrypts f0 AES-ECB || die "a key for every mode does no ECB"
    token_encrypts f0 AES-CBC || die "a key for every mode does no CBC"
    token_encrypts "$ecb" AES-ECB || die "the ECB key does no ECB"
    token_encrypts "$cbc" AES-CBC || die "the CBC key does no CBC"
    ! token_encrypts "$ecb" AES-CBC || die "the ECB key does CBC"
    ! token_encrypts "$cbc" AES-ECB || die "the CBC key does ECB"
}

check "a build without guards, which cannot be installed" build_without_guards
check "a server in token mode" a_server
check "without guards: AES_DECRYPT gives the tablespace key to any user" works_by_sql
check "without guards: AES_DECRYPT takes a handle for a key" handle_as_key_by_sql
check "AES_DECRYPT refuses every handle in every mode" refused_by_sql
check "without the check of the form: handles of earlier processes and cores are worthless" old_handles
check "no handle is in any file" never_stored
check "each process has new handles, also with --daemonize" new_in_each_process
check "without guards: a server without the provider takes a handle for a key" \
    handle_as_key_by_server
for how in inactive ineffective missing; do
    check "provider $how: no master key is made, and the log names the cause" \
        no_server_uses_a_handle "$how"
    check "provider $how: encrypted tables stay shut and as they are" tables_stay_shut "$how"
done
check "without guards: a server that was never verified uses the token" unverified_unguarded
check "a server that was never verified is refused" unverified_refused
check "unverified-server = wrapped: it gets wrapped keys" unverified_wrapped
check "without guards: mysql_migrate_keyring copies a handle" migration_unguarded
check "mysql_migrate_keyring gets no handle" migration_refused
check "without guards: a name stands for another key of the token" swapped_unguarded
check "swapped rows of the keystore are refused" swapped_refused
check "the token keeps ECB keys and CBC keys apart" modes_kept_apart
finish
