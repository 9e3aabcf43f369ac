#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The keyring in the ways that a server can be set up, started and used: manifests, bootstrap, --user,
# --daemonize, persisted variables, keyring functions, keyring_operations, TLS, many connections.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

CLIENTS=${P11K_CLIENTS:-6}
SECRET=secret-$(random_hex 8)

keyring_works() { # NAME
    equal Active "$(sql "$1" "SELECT status_value FROM performance_schema.keyring_component_status
        WHERE status_key = 'Component_status'")" "Component_status"
    sql "$1" "CREATE DATABASE w; CREATE TABLE w.x (id INT PRIMARY KEY) ENCRYPTION='Y';
        INSERT INTO w.x VALUES (1); ALTER INSTANCE ROTATE INNODB MASTER KEY; DROP DATABASE w"
}

local_manifest_and_config() {
    local component
    component=$(component)
    server_new s
    server_keyring s
    mv "$WORK/s/bin/mysqld.my" "$WORK/s/data/mysqld.my"
    mv "$WORK/s/plugins/$component.cnf" "$WORK/s/data/$component.cnf"
    own "$WORK/s/data/mysqld.my" "$WORK/s/data/$component.cnf"
    echo '{"read_local_manifest": true}' >"$WORK/s/bin/mysqld.my"
    echo '{"read_local_config": true}' >"$WORK/s/plugins/$component.cnf"
    server_start s
    keyring_works s
}

repaired_by_reload() {
    local config
    config=$WORK/s/data/$(component).cnf
    server_stop s
    mv "$config" "$config.away"
    server_start s
    sql_fails s "find master key from keyring" "CREATE TABLE mysql.x (id INT) ENCRYPTION='Y'"
    mv "$config.away" "$config"
    sql s "ALTER INSTANCE RELOAD KEYRING"
    keyring_works s
}

bootstrapped_with_encryption() {
    server_new boot
    server_keyring boot
    rm -rf "$WORK/boot/data"
    mkdir "$WORK/boot/data"
    own "$WORK/boot/data"
    server_options boot "default-table-encryption = ON" "innodb-redo-log-encrypt = ON" \
        "innodb-undo-log-encrypt = ON"
    server_prepare boot
    (server_exec boot "$RUN_AS" --initialize-insecure --innodb-flush-method=nosync) || {
        tail -n 25 "$(server_log boot)"
        die "mysqld --initialize-insecure failed"
    }
    server_start boot
    keyring_works boot
    servers_remove boot
}

owned_by_root() { # NAME
    find "$WORK/$1/data" "$(keyring_dir "$1")" -user root
}

started_by_root() {
    ((EUID == 0)) || die "needs root"
    SERVER_USER=root server_start s --user="$RUN_AS"
    equal "$RUN_AS" "$(stat -c %U "/proc/$(server_pid s)")" "user of the server"
    keyring_works s
    server_stop s
    equal "" "$(owned_by_root s)" "files of root"
}

daemonized() {
    server_daemonize s --binlog-encryption=ON --innodb-undo-log-encrypt=ON
    equal "$RUN_AS" "$(stat -c %U "/proc/$(server_pid s)")" "user of the server"
    keyring_works s
    sql s "CREATE DATABASE t; CREATE TABLE t.d (id INT PRIMARY KEY) ENCRYPTION='Y';
        INSERT INTO t.d VALUES (1); ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    server_stop s
    equal "" "$(owned_by_root s)" "files of root"
    server_daemonize s
    equal 1 "$(sql s 'SELECT * FROM t.d')" "row after another start"
    keyring_works s
    server_start s
    equal 1 "$(sql s 'SELECT * FROM t.d')" "row after a start without --daemonize"
}

sensitive_variables() {
    cp "$ROOT/tests/mysql/sensitive_variable.c" "$WORK/"
    (cd "$WORK" && "$MYSQL_ROOT_SH" run -b "$WORK" gcc -shared -fPIC -O1 sensitive_variable.c \
        -o "$WORK/s/plugins/component_sensitive_variable.so")
    sql s "INSTALL COMPONENT 'file://component_sensitive_variable';
        SET PERSIST sensitive_variable.secret = '$SECRET', max_connections = 77"
    contains "$WORK/s/data/mysqld-auto.cnf" 77
    lacks "$WORK/s/data/mysqld-auto.cnf" "$SECRET"
    contains <(keyring_ids s) persisted_variables_key
    server_stop s
    server_start s
    equal "$SECRET" "$(sql s 'SELECT @@sensitive_variable.secret')" "the variable after a restart"
}

# The longest key is a literal: keyring_key_store measures it by strlen, which runs on behind the
# result of REPEAT().
keyring_functions() {
    local name type longest
    longest=$(printf 'x%.0s' {1..16384})
    {
        echo "INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so';"
        for name in generate:INTEGER fetch:STRING length_fetch:INTEGER type_fetch:STRING \
            store:INTEGER remove:INTEGER; do
            type=${name#*:}
            echo "CREATE FUNCTION keyring_key_${name%:*} RETURNS $type SONAME 'keyring_udf.so';"
        done
    } | sql s
    equal "1 1 1 1" "$(sql s "SELECT keyring_key_generate('made', 'AES', 32);
        SELECT keyring_key_generate('rsa', 'RSA', 512);
        SELECT keyring_key_store('stored', 'SECRET', '$SECRET');
        SELECT keyring_key_store('big', 'SECRET', '$longest')" | paste -sd ' ')" "results"
    equal NULL "$(sql s "SELECT keyring_key_store('stored', 'SECRET', 'again')")" "an id again"
    sql s "SELECT HEX(keyring_key_fetch('made'))" >"$WORK/made"
    the_functions_see_all
    server_stop s
    server_start s
    the_functions_see_all
    equal "$(<"$WORK/made")" "$(sql s "SELECT HEX(keyring_key_fetch('made'))")" "key after a restart"
    equal 1 "$(sql s "SELECT keyring_key_remove('stored')")" "keyring_key_remove"
    equal NULL "$(sql s "SELECT keyring_key_fetch('stored')")" "a removed key"
}

the_functions_see_all() {
    equal "AES 32 $SECRET 16384" "$(sql s "SELECT CONCAT_WS(' ', keyring_key_type_fetch('made'),
        keyring_key_length_fetch('made'), keyring_key_fetch('stored'),
        keyring_key_length_fetch('big'))")" "what the functions see"
    equal "big made rsa stored" "$(sql s "SELECT key_id FROM performance_schema.keyring_keys
        WHERE key_owner <> '' AND key_id NOT LIKE '%persisted%' ORDER BY 1" | paste -sd ' ')" \
        "keys of users"
}

operations_off() {
    sql s "SET GLOBAL keyring_operations = OFF"
    sql s "CREATE TABLE t.off (id INT) ENCRYPTION='Y'; INSERT INTO t.off VALUES (1)"
    sql_fails s "find master key from keyring" "ALTER INSTANCE ROTATE INNODB MASTER KEY"
    equal NULL "$(sql s "SELECT keyring_key_generate('off', 'AES', 32)")" "keyring_key_generate"
    sql s "SET GLOBAL keyring_operations = ON"
    keyring_works s
}

# Suites with AES-256-CBC, which mysqld itself no longer takes, through the OpenSSL that it uses.
tls_with_cbc() { # SUITE
    local port environment dir=$WORK/s/tls
    mkdir -p "$dir"
    port=$(free_port)
    mapfile -t environment <"$WORK/s/env"
    cp "$WORK"/s/data/server-{cert,key}.pem "$dir"
    head -c 300000 /dev/urandom | base64 >"$dir/page"
    own "$dir"
    cd "$dir"
    background "${IN_ROOT[@]}" env "${environment[@]}" openssl s_server \
        -accept "127.0.0.1:$port" -WWW -cert server-cert.pem -key server-key.pem -tls1_2 -cipher "$1" -quiet
    eventually 10 fetch_page "$port" "${environment[@]}"
    sed '1,/^\r$/d' "$dir/answer" | cmp - "$dir/page"
    end_process "$WORK/background.$background_pid.pid"
}

fetch_page() { # PORT VARIABLE=VALUE...
    printf 'GET /page HTTP/1.0\r\n\r\n' | in_root env "${@:2}" openssl s_client \
        -connect "127.0.0.1:$1" -tls1_2 -quiet -ign_eof >"$WORK/s/tls/answer" 2>/dev/null
}

tls_of_the_server() { # VERSION
    equal "$1" "$(sql s "SHOW STATUS LIKE 'Ssl_version'" --ssl-mode=REQUIRED --tls-version="$1" |
        cut -f 2)" "Ssl_version"
    equal 3000000 "$(sql s "SELECT REPEAT('x', 3000000)" --ssl-mode=REQUIRED --tls-version="$1" |
        tr -d '\n' | wc -c)" "bytes through the connection"
}

make_and_drop() { # WHICH
    local i
    for i in 1 2 3 4 5 6; do
        echo "CREATE TABLE t.c$1_$i (id INT PRIMARY KEY, b TEXT) ENCRYPTION='Y';
            INSERT INTO t.c$1_$i VALUES (1, 'x'); SELECT * FROM t.c$1_$i;"
        ((i % 2)) || echo "DROP TABLE t.c$1_$i;"
    done | sql s "" --database=t >/dev/null
}

many_connections() {
    local i pids=()
    for ((i = 0; i < CLIENTS; i++)); do
        background make_and_drop "$i"
        pids+=("$background_pid")
    done
    for i in "${pids[@]}"; do
        wait "$i"
    done
    equal $((CLIENTS * 3)) "$(sql s "SELECT COUNT(*) FROM information_schema.tables
        WHERE table_name LIKE 'c%\_%' AND table_schema = 't'")" "tables left"
    checksums s >"$WORK/sums"
    server_stop s
    server_start s
    same_checksums s "$WORK/sums"
}

for KIND in $KINDS; do
    check "$KIND: local manifest and local configuration" local_manifest_and_config
    check "$KIND: RELOAD KEYRING repairs a failed load" repaired_by_reload
    check "$KIND: a server is bootstrapped with encryption on" bootstrapped_with_encryption
    check "$KIND: started by root with --user" started_by_root
    check "$KIND: --daemonize" daemonized
    check "$KIND: SENSITIVE persisted variables" sensitive_variables
    check "$KIND: keyring functions" keyring_functions
    check "$KIND: keyring_operations = OFF" operations_off
    check "$KIND: connections with TLS 1.2" tls_of_the_server TLSv1.2
    check "$KIND: connections with TLS 1.3" tls_of_the_server TLSv1.3
    for suite in AES256-SHA AES256-SHA256 ECDHE-RSA-AES256-SHA384; do
        check "$KIND: TLS 1.2 with $suite under the server's OpenSSL settings" tls_with_cbc "$suite"
    done
    check "$KIND: $CLIENTS connections make and drop encrypted tables" many_connections
    servers_remove s
done
finish
