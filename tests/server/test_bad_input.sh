#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# What is wrong at a server's start is said in one [ERROR] line of the plugin that names the fix;
# the server does not start, and neither its data nor the keystore is changed.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

# --- the ways to break it: each changes the selected keyring ----------------------------------------

conf_says() { # OPTION VALUE
    sed -i "s|^$1 = .*|$1 = $2|" "$P11KEYRING_CONF"
}

wrong_pin() { printf '%s' "$(random_hex 12)" >"$KEYRING/pin"; }
readable_pin() { chmod 644 "$KEYRING/pin"; }
no_pin_file() { rm "$KEYRING/pin"; }
missing_module() { conf_says module "$KEYRING/no-such-module.so"; }
not_a_module() { conf_says module "$(find /usr/lib -name 'libsqlite3.so.0' | head -n 1)"; }
not_a_library() { conf_says module "$P11KEYRING_CONF"; }
no_such_token() { conf_says uri "pkcs11:token=other"; }
unknown_attribute() { conf_says uri "pkcs11:token=keyring;colour=red"; }
no_keystore() { rm "$KEYRING/keyring/test.keystore"; }
truncated() { truncate -s 9000 "$KEYRING/keyring/test.keystore"; }
emptied() { : >"$KEYRING/keyring/test.keystore"; }
unknown_option() { echo "colour = red" >>"$P11KEYRING_CONF"; }
missing_conf() { rm "$P11KEYRING_CONF"; }

two_tokens() {
    as_server softhsm2-util --init-token --free --label second \
        --pin "$(random_hex 4)" --so-pin "$(random_hex 4)" >/dev/null
    conf_says uri "pkcs11:manufacturer=SoftHSM%20project"
}

# One byte in the middle of an envelope.
edited() {
    as_server sqlite3 "$KEYRING/keyring/test.keystore" \
        "UPDATE versions SET envelope = CAST(substr(envelope, 1, 80) || x'00' ||
         substr(envelope, 82) AS BLOB) WHERE id = '1'"
}

foreign_keystore() {
    rm "$KEYRING/keyring/test.keystore"
    sed 's|^name = test|name = foreign|' "$P11KEYRING_CONF" >"$KEYRING/foreign.conf"
    tool --config "$KEYRING/foreign.conf" master create >/dev/null
}

# The master key's id on a new token, but the key there is not what a master key must be.
other_master_key() { # pkcs11-tool option...
    local id
    id=$(tool --json master list | jq -er '.master_keys[0].id')
    rm -rf "$KEYRING/tokens"
    mkdir "$KEYRING/tokens"
    own "$KEYRING/tokens"
    tool token init --label keyring --so-pin-source "file:$KEYRING/so-pin" >/dev/null
    PIN=$(<"$KEYRING/pin") as_server pkcs11-tool --module "$SOFTHSM_MODULE" --token-label keyring \
        --login --pin env:PIN --keygen --key-type AES:32 --id "$id" --label other "$@" >/dev/null
}

no_master_key() {
    rm -rf "$KEYRING/tokens"
    mkdir "$KEYRING/tokens"
    own "$KEYRING/tokens"
    tool token init --label keyring --so-pin-source "file:$KEYRING/so-pin" >/dev/null
}

extractable_master() { other_master_key --private --sensitive --extractable; }
public_master() { other_master_key --sensitive; }
another_master() { other_master_key --private --sensitive; }

# --- the test --------------------------------------------------------------------------------------

# Names and contents, but for the PIN guard, Aria's log, which the server opens before it loads any
# plugin, and the token's own files, which SoftHSM2 writes at each login.
files_of() { # FOLDER
    (cd "$1" && find . -type f ! -name '*.pin-guard*' ! -name 'aria_log*' ! -path './tokens/*' \
        -print0 | sort -z | xargs -0 sha256sum)
}

good_server() {
    keyring_up keyring
    server_new b
    server_keyring b on
    server_start b
    load_table b one 1000 row
    checksums b >"$WORK/sums"
    server_stop b
    cp -a "$WORK/keyring" "$WORK/keyring.good"
    files_of "$WORK/b/data" >"$WORK/data.before"
}

refuses() { # HOW TEXT
    rm -rf "$KEYRING"
    cp -a "$WORK/keyring.good" "$KEYRING"
    "$1"
    own "$KEYRING"
    files_of "$KEYRING" >"$WORK/keyring.before"
    server_refuses b "$2"
    plugin_lines b ERROR
    files_of "$KEYRING" | diff "$WORK/keyring.before" - || die "the keyring's files were changed"
    files_of "$WORK/b/data" | diff "$WORK/data.before" - || die "the server's files were changed"
}

good_again() {
    rm -rf "$KEYRING"
    cp -a "$WORK/keyring.good" "$KEYRING"
    server_start b
    equal "$(<"$WORK/sums")" "$(checksums b)" "checksums"
}

check "a good server" good_server
check "refused: wrong PIN" refuses wrong_pin "CKR_PIN_INCORRECT"
check "refused: PIN file that others can read" refuses readable_pin "chmod 0400"
check "refused: no PIN file" refuses no_pin_file "cannot open the PIN file"
check "refused: missing module" refuses missing_module "no PKCS#11 module at"
check "refused: a library that is no module" refuses not_a_module "is no PKCS#11 module"
check "refused: a file that is no library" refuses not_a_library "is no PKCS#11 module"
check "refused: no such token" refuses no_such_token "no token matches"
check "refused: two tokens match" refuses two_tokens "tokens match"
check "refused: unknown URI attribute" refuses unknown_attribute "has an attribute"
check "refused: no keystore" refuses no_keystore "there is no keystore at"
check "refused: truncated keystore" refuses truncated "keystore"
check "refused: empty keystore" refuses emptied "keystore"
check "refused: edited envelope" refuses edited "keystore"
check "refused: another keyring's keystore" refuses foreign_keystore 'belongs to keyring "foreign"'
check "refused: no master key on the token" refuses no_master_key "has no key with id"
check "refused: extractable master key" refuses extractable_master "cannot be a master key"
check "refused: master key that is not private" refuses public_master "cannot be a master key"
check "refused: another master key with the same id" refuses another_master "master key"
check "refused: unknown option in the configuration" refuses unknown_option "unknown option"
check "refused: missing configuration file" refuses missing_conf "cannot open the configuration file"
check "put right, the server starts with all its data" good_again
finish
