# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# What the tests of MySQL's token mode have in common, whatever $KINDS says.
#
#   guards NAME on|off     stops a server and gives it our component and OpenSSL provider with their
#                          guards, or as built without (P11K_TEST_NO_GUARD) to show an attack
#   object_id LIKE         CKA_ID, in hex, of the selected token's key whose label ends so
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "${BASH_SOURCE[0]}")/mysql.sh"

KIND=token
NO_GUARD_BUILD=${P11K_MYSQL_NO_GUARD_BUILD:-$MYSQL_BUILD-no-guard}
HANDLE_MAGIC=897031316b0d0a1a
# shellcheck disable=SC2034 # for the scripts
ROTATE_INNODB="ALTER INSTANCE ROTATE INNODB MASTER KEY"
# shellcheck disable=SC2034
ROTATE_BINLOG="ALTER INSTANCE ROTATE BINLOG MASTER KEY"
cp "$BUILD"/tests/mysql/{find_bytes,open_ibd} "$WORK/bin/"
find_bytes() { "$WORK/bin/find_bytes" "$@"; }
open_ibd() { "$WORK/bin/open_ibd" "$@"; }

guards() { # NAME on|off
    local build=$MYSQL_BUILD modules=$WORK/lib/guards-$2
    [[ $2 == on ]] || build=$NO_GUARD_BUILD
    server_stop "$1"
    rm -f "$WORK/$1/plugins/component_keyring_pkcs11.so"
    cp "$build/lib/component_keyring_pkcs11.so" "$WORK/$1/plugins/"
    mkdir -p "$modules"
    [[ -e $modules/p11keyring.so ]] || cp "$build/lib/ossl-modules/p11keyring.so" "$modules/"
    sed -i '/^OPENSSL_MODULES=/d' "$WORK/$1/env"
    server_environment "$1" "OPENSSL_MODULES=$modules"
}

# Operations that the token did under a server's master keys, since the server's start.
operations() { row "$1" Token_operations; }

token_objects() {
    PIN=$(<"$KEYRING/pin") as_server pkcs11-tool --module "$SOFTHSM_MODULE" --token-label \
        "$(<"$WORK/selected")" --login --pin env:PIN "$@" 2>/dev/null
}

object_id() { # LIKE
    token_objects -O --type secrkey | grep -A 1 "label:.*$1\$" | sed -n 's/.*ID: *//p' | head -n 1
}

# Handles in the memory of a server, in hex, each once.
handles() { # NAME
    find_bytes -n 24 "$HANDLE_MAGIC" "$(server_pid "$1")" | cut -d ' ' -f 2 | sort -u
}
