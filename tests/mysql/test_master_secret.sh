#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# In token mode the master keys are in the token alone: not to be read there, and in no file and no
# core of mysqld. What to search for is known from a token in another process (p11-kit's server) that
# makes its keys extractable and denies it: tests/mock/extractable.c.
# shellcheck source=tests/lib/mysql_token.sh
source "$(dirname "$0")/../lib/mysql_token.sh"

MARKER=marker-$(random_hex 8)
PLANTED=$(random_hex 32)
VALUES=$WORK/remote/values # "label value" of each key that the token made

in_root_as_root() { "$MYSQL_ROOT_SH" run -b "$WORK" -- "$@"; }

# A token whose module runs in another process, for the tool and for servers.
remote_token() { # NAME
    local client
    mkdir -p "$WORK/remote"
    own "$WORK/remote"
    cp "$BUILD/tests/mock/p11k_extractable.so" "$WORK/lib/"
    cp "$MYSQL_BUILD/bin/p11keyring" "$WORK/bin/p11keyring.in-root"
    token_up "$1"
    background "${IN_ROOT[@]}" env SOFTHSM2_CONF="$SOFTHSM2_CONF" P11K_EXTRACTED="$VALUES" \
        p11-kit server --foreground --name "$WORK/remote/socket" --provider "$WORK/lib/p11k_extractable.so" \
        "pkcs11:" >"$WORK/remote.log" 2>&1 </dev/null
    eventually 10 test -S "$WORK/remote/socket"
    client=$(in_root sh -c 'ls /usr/lib/*/pkcs11/p11-kit-client.so')
    sed -i "s|^module = .*|module = $client|" "$P11KEYRING_CONF"
    printf '\n[mysql]\nmaster-keys = token\n' >>"$P11KEYRING_CONF"
    in_root env P11_KIT_SERVER_ADDRESS="unix:path=$WORK/remote/socket" \
        P11KEYRING_CONF="$P11KEYRING_CONF" "$WORK/bin/p11keyring.in-root" master create
}

server_on_remote_token() {
    server_new s
    remote_token s.keyring
    server_manifest s component_keyring_pkcs11
    printf '{"config": "%s"}\n' "$P11KEYRING_CONF" >"$WORK/s/plugins/component_keyring_pkcs11.cnf"
    cp "$MYSQL_BUILD/share/p11keyring/openssl.cnf" "$WORK/s/"
    server_environment s "OPENSSL_CONF=$WORK/s/openssl.cnf" \
        "P11_KIT_SERVER_ADDRESS=unix:path=$WORK/remote/socket"
    guards s on
    server_options s "binlog-encryption = ON" "innodb-redo-log-encrypt = ON" \
        "innodb-undo-log-encrypt = ON"
    server_start s
    load_table s secret 200 "$MARKER" "ENCRYPTION='Y'"
    sql s "$ROTATE_INNODB; $ROTATE_BINLOG; FLUSH BINARY LOGS"
    (($(operations s) > 8)) || die "the token did $(operations s) operations"
    sql s "FLUSH TABLES t.secret FOR EXPORT"
}

mysql_keys() { grep -E ':(INNODBKey-|MySQLReplicationKey_)' "$VALUES"; }

# They are master keys indeed: one of them opens the table.
values_are_right() {
    [[ $(mysql_keys | wc -l) -ge 4 ]] || die "only $(wc -l <"$VALUES") keys: $(cut -d ' ' -f 1 "$VALUES")"
    open_ibd "$WORK/s/data/t/secret.ibd" "$VALUES" >"$WORK/pages"
    contains "$WORK/pages" "$MARKER"
}

reading_is_refused() {
    local id
    keyring_up plain
    token_objects --keygen --key-type AES:32 --private --extractable --label open --id f0
    token_objects --read-object --type secrkey --id f0 -o "$KEYRING/value" >/dev/null
    KIND=token
    server_new p
    server_keyring p
    guards p on
    server_start p
    sql p "CREATE DATABASE t; CREATE TABLE t.x (id INT) ENCRYPTION='Y'; SET GLOBAL binlog_encryption = 1"
    for id in $(object_id INNODBKey-.*) $(object_id MySQLReplicationKey_.*); do
        read_value "$id" >"$WORK/read" 2>&1 || true
        contains "$WORK/read" CKR_ATTRIBUTE_SENSITIVE
        [[ ! -s $KEYRING/value ]] || die "the value of $id was read"
    done
    servers_remove p
}

read_value() { # ID
    PIN=$(<"$KEYRING/pin") as_server pkcs11-tool --module "$SOFTHSM_MODULE" --token-label \
        "$(<"$WORK/selected")" --login --pin env:PIN --read-object --type secrkey --id "$1" \
        -o "$KEYRING/value"
}

# All files of the server and its keyring but the token's own, and a core with all of its memory.
dump_core() {
    in_root_as_root gdb -batch -nx -p "$(server_pid s)" -ex "set use-coredump-filter off" \
        -ex "set dump-excluded-mappings on" -ex "gcore $WORK/core" >"$WORK/gdb" 2>&1 || true
    [[ -s $WORK/core ]] || die "no core: $(tail -n 5 "$WORK/gdb")"
}

places() {
    find "$WORK/s/data" "$WORK/s/tmp" "$KEYRING/keyring" "$WORK/s/error.log" "$WORK/core" -type f
}

found() { # HEX
    places | tr '\n' '\0' | xargs -0 "$WORK/bin/find_bytes" "$1" | cut -d ' ' -f 1 | sort -u
}

planted_is_found() {
    background sql s "SET @planted = UNHEX('$PLANTED'); DO SLEEP(60)"
    eventually 10 sleeping
    printf '%s' "$PLANTED" >"$WORK/s/data/planted"
    dump_core
    equal "$WORK/core $WORK/s/data/planted" "$(found "$PLANTED" | paste -sd ' ')" "places"
}

sleeping() {
    [[ $(sql s "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'DO SLEEP%'") == 1 ]]
}

# The tablespace's own key is in the memory of a server, as everybody's who reads its pages.
tablespace_key_is_found() {
    equal "$WORK/core" "$(found "$(open_ibd -k "$WORK/s/data/t/secret.ibd" "$VALUES")")" "places"
}

nowhere() {
    local label value
    while read -r label value; do
        equal "" "$(found "$value")" "places with the value of $label"
    done <"$VALUES"
}

shut() {
    local candidates
    mapfile -t candidates < <(find "$KEYRING/keyring" -type f)
    [[ ${#candidates[@]} -gt 0 ]] || die "no keystore"
    fails_with 1 open_ibd "$WORK/s/data/t/secret.ibd" "${candidates[@]}"
}

file_keyring_opens() {
    servers_remove s
    server_new s
    KIND="file" server_keyring s
    server_start s
    load_table s secret 200 "$MARKER" "ENCRYPTION='Y'"
    server_stop s
    open_ibd "$WORK/s/data/t/secret.ibd" "$WORK/s/keyring/keys" >"$WORK/pages"
    contains "$WORK/pages" "$MARKER"
}

check "the values of token-resident keys cannot be read" reading_is_refused
check "a server whose token, in another process, makes extractable keys" server_on_remote_token
check "the values that the token gave away open a table" values_are_right
check "a planted secret is found in a file and in a core" planted_is_found
check "the key of a tablespace is found in a core" tablespace_key_is_found
check "no master key is in any file or in the core" nowhere
check "with what the keystore holds the table does not decrypt" shut
check "with what component_keyring_file holds it does" file_keyring_opens
finish
