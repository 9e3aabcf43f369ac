#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The plugin's face to a DBA: keys made at first use, unknown and disabled keys, system and status
# variables, manners in the error log, and no secret in it.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

versions_of() { # KEY-ID
    tool key list | awk -v id="$1" '$1 == id { n++ } END { print n + 0 }'
}

keys_one_and_two_at_first_use() {
    keyring_up keyring
    server_new s
    server_keyring s on
    equal "0 0" "$(versions_of 1) $(versions_of 2)" "keys before the first start"
    server_start s
    load_table s one 1000 row
    equal "1 1" "$(versions_of 1) $(versions_of 2)" "keys after the first start"
    contains "$(server_log s)" "Using encryption key id 2 for temporary files"
}

# mariadb-install-db itself with the plugin: the system tables are never on disk in the clear.
install_db_with_the_plugin() {
    server_new fresh
    server_keyring fresh force
    find "$WORK/fresh/data" -mindepth 1 -delete
    (
        unset P11KEYRING_CONF
        as_server mariadb-install-db --defaults-file="$WORK/fresh/my.cnf" --force \
            --auth-root-authentication-method=normal --skip-test-db \
            --plugin-dir="$WORK/fresh/plugins"
    )
    server_start fresh
    all_encrypted fresh 1
    server_stop fresh
}

unknown_key() {
    if sql s "CREATE TABLE t.x (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=50" 2>"$WORK/err"; then
        die "a table with an unknown key was made"
    fi
    cat "$WORK/err"
    server_answers s
    equal 0 "$(versions_of 50)" "keys with id 50"
    tool key create 50 >/dev/null
    sleep 1
    load_table s fifty 10 row "ENCRYPTED=YES ENCRYPTION_KEY_ID=50"
}

disabled_key() {
    tool key disable 50 >/dev/null
    fails_with 7 tool key rotate 50
    sleep 1
    sql s "INSERT INTO t.fifty (n) VALUES (1)"
    server_kill s
    server_start s
    sql s "INSERT INTO t.fifty (n) VALUES (2); ALTER TABLE t.fifty FORCE"
    equal 12 "$(sql s 'SELECT COUNT(*) FROM t.fifty')" "rows"
}

auto_create() {
    printf '\n[mariadb]\nauto-create = yes\ncipher = aes-ctr\n' >>"$P11KEYRING_CONF"
    server_stop s
    server_start s
    load_table s sixty 10 row "ENCRYPTED=YES ENCRYPTION_KEY_ID=60"
    equal 1 "$(versions_of 60)" "keys with id 60"
    tool key list | grep -E '^ *60 ' | grep -q aes-ctr
}

system_variables_override_the_file() {
    server_stop s
    cp "$WORK/s/encryption.cnf" "$WORK/encryption.saved"
    sed -i '/^pkcs11-key-management-config/d' "$WORK/s/encryption.cnf"
    printf '[keyring]\nname = test\n' >"$KEYRING/small.conf"
    server_options s "pkcs11-key-management-config = $KEYRING/small.conf" \
        "pkcs11-key-management-module = $SOFTHSM_MODULE" \
        "pkcs11-key-management-token-uri = pkcs11:token=keyring" \
        "pkcs11-key-management-pin-source = file:$KEYRING/pin" \
        "pkcs11-key-management-keystore = $KEYRING/keyring/test.keystore"
    server_start s
    equal "pkcs11:token=keyring" "$(sql s 'SELECT @@pkcs11_key_management_token_uri')" "variable"
    if sql s "SET GLOBAL pkcs11_key_management_keystore = '/tmp/x'" 2>/dev/null; then
        die "a system variable could be set"
    fi
    server_stop s
    cp "$WORK/encryption.saved" "$WORK/s/encryption.cnf"
    server_start s
}

status_variables() {
    sql s "SHOW GLOBAL STATUS LIKE 'pkcs11_key_management%'"
    equal 4 "$(status_of s Pkcs11_key_management_keys)" "keys"
    equal 4 "$(status_of s Pkcs11_key_management_versions)" "versions"
    equal up "$(status_of s Pkcs11_key_management_token_state)" "token state"
    (($(status_of s Pkcs11_key_management_unwraps) >= 4))
    (($(status_of s Pkcs11_key_management_cache_hits) > 0))
}

uninstall_is_harmless() {
    sql s "UNINSTALL SONAME 'pkcs11_key_management'; SHOW WARNINGS" | tee "$WORK/warnings"
    contains "$WORK/warnings" "will be uninstalled on shutdown"
    load_table s after 100 row
    server_stop s
    server_start s
}

manners_in_the_log() {
    server_stop s
    server_start s --log-warnings=9
    load_table s loud 1000 row
    tool key rotate 1 >/dev/null
    eventually 30 all_encrypted s 1
    server_stop s
    equal "" "$(plugin_lines s Warning)" "[Warning] lines of the plugin"
    equal "" "$(plugin_lines s ERROR)" "[ERROR] lines of the plugin"
}

# Everything the server said at the highest verbosity, and its command line and variables. That the
# search can find is shown with a planted line.
no_secret_in_the_log() {
    local pin
    pin=$(<"$KEYRING/pin")
    { cat "$(server_log s)" && echo "planted $pin"; } >"$WORK/planted"
    contains "$WORK/planted" "$pin"
    lacks "$(server_log s)" "$pin"
    server_start s
    sql s "SHOW GLOBAL VARIABLES LIKE 'pkcs11%'; SHOW GLOBAL STATUS LIKE 'pkcs11%'" >"$WORK/shown"
    lacks "$WORK/shown" "$pin"
    tr '\0' ' ' <"/proc/$(server_pid s)/cmdline" >"$WORK/cmdline"
    tr '\0' '\n' <"/proc/$(server_pid s)/environ" >>"$WORK/cmdline"
    lacks "$WORK/cmdline" "$pin"
}

imported_key_is_in_no_log() {
    local key
    key=$(random_hex 32)
    printf '70;%s\n' "$key" >"$WORK/import"
    chmod 600 "$WORK/import"
    own "$WORK/import"
    tool key create 70 --import-hex-from "$WORK/import" >/dev/null
    server_stop s
    server_start s --log-warnings=9
    load_table s seventy 100 row "ENCRYPTED=YES ENCRYPTION_KEY_ID=70"
    server_stop s
    ! grep -qiF "$key" "$(server_log s)" || die "the key is in the log"
}

check "keys 1 and 2 are made at first use" keys_one_and_two_at_first_use
check "mariadb-install-db works with the plugin, FORCE" install_db_with_the_plugin
check "an unknown key id is an error, and works once the admin has made it" unknown_key
check "a disabled key gets no versions and goes on serving, also after a restart" disabled_key
check "auto-create makes other keys at first use, with the configured cipher" auto_create
check "system variables override the file and cannot be set at run time" \
    system_variables_override_the_file
check "status variables" status_variables
check "UNINSTALL warns and leaves the plugin in place until shutdown" uninstall_is_harmless
check "no warnings or errors of the plugin in a normal log" manners_in_the_log
check "no PIN in log, variables, command line, environment" no_secret_in_the_log
check "no imported key in the log" imported_key_is_in_no_log
finish
