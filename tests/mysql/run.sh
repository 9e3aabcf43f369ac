#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Runs the MySQL tests, or the one that is named: run.sh binlog runs test_binlog.sh. $P11K_KEYRINGS
# names the kinds of keyring (see tests/lib/mysql.sh).
set -uo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
SCRATCH=$(mktemp -d "${P11K_WORK:-/var/tmp}/p11keyring-mysql.XXXXXX")
chmod 755 "$SCRATCH"
trap 'rm -rf "$SCRATCH"' EXIT
export P11K_MYSQL_TEMPLATE=$SCRATCH/template

# shellcheck source=tests/lib/scripts.sh
source "$HERE/../lib/scripts.sh"

prepare() {
    "$HERE/../lib/mysql_root.sh" build || return
    export P11K_MYSQL_BUILD=${P11K_MYSQL_BUILD:-$HERE/../../build/mysql}
    "$HERE/../lib/mysql_root.sh" compile "$P11K_MYSQL_BUILD" || return
    # shellcheck disable=SC1091 # checked on its own
    (source "$HERE/../lib/mysql.sh" && server_template)
}

prepare || exit 1
run_scripts 3 "$HERE" "$@"
