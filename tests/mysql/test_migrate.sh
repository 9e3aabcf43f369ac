#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# mysql_migrate_keyring: from the server's component_keyring_file to ours in both modes, and in
# wrapped mode back; the data can be read after each. (Our own tool: test_migrate_tool.sh; more of
# token mode, and out of it: test_imported.sh.)
# shellcheck source=tests/mysql/migrate.sh
source "$(dirname "$0")/migrate.sh"

migrate() { # FROM TO
    local environment
    mapfile -t environment <"$WORK/m/env"
    server_stop m
    in_root env "${environment[@]}" mysql_migrate_keyring --component-dir="$WORK/m/plugins" \
        --source-keyring="$1" --destination-keyring="$2"
    server_manifest m "$2"
    server_start m
}

to_ours() {
    server_stop m
    KIND=$1 server_keyring m
    migrate component_keyring_file component_keyring_pkcs11
    rows_and_keys "$(<"$WORK/keys")"
}

back_again() {
    rm -f "$WORK/m/keyring/keys"
    migrate component_keyring_pkcs11 component_keyring_file
    rows_and_keys "$(<"$WORK/keys")"
}

for mode in token wrapped; do
    check "$mode: tables and binary logs under component_keyring_file" file_keyring
    check "$mode: migrated to ours" to_ours "$mode"
    check "$mode: the next master keys are of this mode" rotated "${mode/token/token-ecb}"
    [[ $mode == token ]] || check "$mode: migrated back" back_again
    servers_remove m
done
finish
