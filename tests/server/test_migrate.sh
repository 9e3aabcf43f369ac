#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# migrate on real servers: from file_key_management, its key file plain or encrypted, to ours and out
# again, with the tables read after each; and with running servers, which are paused and resumed.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"
# shellcheck disable=SC2034 # for pause.sh
SWITCH=pkcs11_key_management_operations
# shellcheck source=tests/lib/pause.sh
source "$(dirname "$0")/../lib/pause.sh"
ROWS=${P11K_ROWS:-2000}

key_file() { # FILE ID...
    local file=$1 id
    shift
    for id in "$@"; do printf '%s;%s\n' "$id" "$(random_hex 32)"; done >"$file"
    chmod 600 "$file"
    own "$file"
}

# By MariaDB's documentation: encrypted by openssl, the password in a file.
encrypt_key_file() { # FILE
    random_hex 16 >"$1.password"
    openssl enc -aes-256-cbc -md sha1 -pass "file:$1.password" -in "$1" -out "$1.enc" 2>/dev/null
    chmod 600 "$1.enc" "$1.password"
    own "$1.enc" "$1.password"
}

use_key_file() { # NAME FILE CIPHER [PASSWORD-FILE]
    server_fkm "$1" on "$2" "$3"
    [[ -z ${4:-} ]] || echo "file-key-management-filekey = FILE:$4" >>"$WORK/$1/encryption.cnf"
}

same_data() { # NAME
    equal "$(<"$WORK/$1/sums")" "$(checksums "$1")" "checksums"
    ! grep -aE '\[ERROR\]' "$(server_log "$1")" || die "errors in the log"
}

made_by_file_key_management() { # NAME CIPHER plain|encrypted
    local dir=$WORK/$1
    server_new "$1"
    key_file "$dir/keys" 1 2 7
    if [[ $3 == plain ]]; then
        use_key_file "$1" "$dir/keys" "$2"
    else
        encrypt_key_file "$dir/keys"
        use_key_file "$1" "$dir/keys.enc" "$2" "$dir/keys.password"
    fi
    server_start "$1"
    load_table "$1" one "$ROWS" row
    load_table "$1" seven "$ROWS" row "ENCRYPTED=YES ENCRYPTION_KEY_ID=7"
    checksums "$1" >"$dir/sums"
    server_stop "$1"
}

in_and_out() { # NAME CIPHER plain|encrypted
    local dir=$WORK/$1 source=$WORK/$1/keys password=() out_password=() before
    keyring_up "keyring-$1"
    made_by_file_key_management "$@"
    if [[ $3 == encrypted ]]; then
        source=$source.enc
        password=(--from-password "file:$dir/keys.password")
        out_password=(--to-password "file:$dir/keys.password")
    fi
    before=$(sha256sum <"$source")
    tool migrate --from "file-key-management:$source" --to p11keyring --cipher "${2/_/-}" \
        "${password[@]}"
    equal "$before" "$(sha256sum <"$source")" "source"

    server_keyring "$1" on
    server_start "$1"
    same_data "$1"
    load_table "$1" ours "$ROWS" row
    checksums "$1" >"$dir/sums"
    server_stop "$1"

    fails_with 3 tool migrate --from p11keyring --to "file-key-management:$dir/out" \
        --allow-keys-in-the-clear "${out_password[@]}"
    use_key_file "$1" "$dir/out" "$2" "${out_password:+$dir/keys.password}"
    server_start "$1"
    same_data "$1"
    server_stop "$1"
}

# What was encrypted with a later version cannot be read by file_key_management: so that is refused.
rotated_keys_stay() {
    keyring_use keyring-plain
    tool key rotate 7
    fails_with 7 tool migrate --from p11keyring --to "file-key-management:$WORK/plain/late" \
        --allow-keys-in-the-clear 2>"$WORK/err"
    contains "$WORK/err" "key 7 version 3: file_key_management knows version 1 of a key alone"
    [[ ! -e $WORK/plain/late ]] || die "something was written"
}

# --- with running servers --------------------------------------------------------------------------

two_servers() {
    mock_token_up shared
    sed -i 's/^timeout = .*/timeout = 30000/' "$P11KEYRING_CONF" # a call that hangs is waited for
    tool master create
    tool key create 1
    server_new a
    server_keyring a on
    server_new b
    key_file "$WORK/b/keys" 1
    use_key_file b "$WORK/b/keys" aes_cbc
    local name
    for name in a b; do
        server_start "$name"
        client_file "$name"
    done
    load_table a one "$ROWS" row
}

count_keys() { tool key list --json | jq '.keys | length'; }

migrate_online() { # FILE
    exec "$WORK/bin/p11keyring" migrate --from "file-key-management:$1" --to p11keyring --json \
        --server "$WORK/a.client.cnf" --server "$WORK/b.client.cnf"
}

paused_and_resumed() {
    key_file "$WORK/a/more" 20 21
    (migrate_online "$WORK/a/more") >"$WORK/out"
    jq -e '[.servers[].state] == ["paused", "none"] and .copied' "$WORK/out" >/dev/null ||
        die "$(<"$WORK/out")"
    is_on a
    sql a "CREATE TABLE t.twenty (n INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=20"
    [[ ! -e $KEYRING/keyring/test.keystore.paused-servers ]] || die "a record is left"
}

# The watchdog outlives us, and the keystore is as it was.
killed_while_paused() {
    local i before
    before=$(count_keys)
    for i in 1 2 3; do
        key_file "$WORK/a/killed" $((100 * i)) $((100 * i + 1))
        mock_rules "hang C_Encrypt"
        migrate_online "$WORK/a/killed" >"$WORK/out" 2>&1 &
        eventually 20 is_off a
        kill -KILL $!
        mock_rules ""
        eventually 20 is_on a
        equal "$before" "$(count_keys)" "keys"
    done
    eventually 20 nothing_is_recorded
    (migrate_online "$WORK/a/killed") >"$WORK/out"
    equal $((before + 2)) "$(count_keys)" "keys"
    "$WORK/bin/p11keyring" migrate --repair >"$WORK/out"
    contains "$WORK/out" "no server is recorded as paused"
}

nothing_is_recorded() { [[ ! -e $KEYRING/keyring/test.keystore.paused-servers ]]; }

# The keyring fails while the servers are paused: they are resumed all the same.
failed_while_paused() {
    local before
    before=$(count_keys)
    key_file "$WORK/a/failing" 900 901
    mock_rules "fail C_Encrypt 0x68"
    ! in_a_shell migrate_online "$WORK/a/failing" >"$WORK/out" 2>"$WORK/err" || die "no failure"
    contains "$WORK/err" CKR_KEY_FUNCTION_NOT_PERMITTED
    mock_rules ""
    is_on a
    nothing_is_recorded
    equal "$before" "$(count_keys)" "keys"
}

in_a_shell() { ("$@"); }

weak_account() {
    local password before
    before=$(count_keys)
    password=$(random_hex 12)
    sql a "CREATE USER weak@localhost IDENTIFIED BY '$password'"
    printf '[client]\nsocket = %s\nuser = weak\npassword = %s\n' "$WORK/a/socket" "$password" \
        >"$WORK/weak.cnf"
    chmod 600 "$WORK/weak.cnf"
    fails_with 7 "$WORK/bin/p11keyring" migrate --from "file-key-management:$WORK/a/failing" \
        --to p11keyring --server "$WORK/weak.cnf" 2>"$WORK/err"
    contains "$WORK/err" SUPER
    lacks "$WORK/err" "$password"
    equal "$before" "$(count_keys)" "keys"
}

check "a plain key file comes in, and its keys go out to a server that reads them" \
    in_and_out plain aes_cbc plain
check "the same with an encrypted key file and the other cipher" in_and_out sealed aes_ctr encrypted
check "keys of later versions are not taken out" rotated_keys_stay
check "two servers start" two_servers
check "running servers are paused and resumed" paused_and_resumed
check "a kill while servers are paused resumes them" killed_while_paused
check "a failure while servers are paused resumes them" failed_while_paused
check "without the privilege it says which is missing" weak_account
finish
