#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Runs the MySQL tests, or the one that is named: run.sh binlog runs test_binlog.sh. They wait more
# than they work, so several run at a time; each one's output is shown when it ends. $P11K_KEYRINGS
# names the kinds of keyring (see tests/lib/mysql.sh).
set -uo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
SCRATCH=$(mktemp -d "${P11K_WORK:-/var/tmp}/p11keyring-mysql.XXXXXX")
chmod 755 "$SCRATCH"
trap 'rm -rf "$SCRATCH"' EXIT
export P11K_MYSQL_TEMPLATE=$SCRATCH/template
AT_A_TIME=${P11K_JOBS:-3}

# A script that ends before its sum counts as a failure, too.
run_script() { # SCRIPT
    local name log
    name=$(basename "$1" .sh)
    log=$SCRATCH/$name
    "$1" >"$log" 2>&1 && touch "$log.ok"
    if [[ ! -e $log.ok ]] && ! grep -q "^$name: .* failed$" "$log"; then
        echo "FAIL  $name ended early" >>"$log"
        [[ -z ${P11K_RESULTS:-} ]] || echo "fail $name ended early" >>"$P11K_RESULTS"
    fi
    printf '\n%s\n%s\n' "$name" "$(<"$log")"
}

prepare() {
    "$HERE/../lib/mysql_root.sh" build || return
    export P11K_MYSQL_BUILD=${P11K_MYSQL_BUILD:-$HERE/../../build/mysql}
    "$HERE/../lib/mysql_root.sh" compile "$P11K_MYSQL_BUILD" || return
    # shellcheck disable=SC1091 # checked on its own
    (source "$HERE/../lib/mysql.sh" && server_template)
}

prepare || exit 1
for script in "$HERE"/test_${1:-*}.sh; do
    while (($(jobs -rp | wc -l) >= AT_A_TIME)); do wait -n; done
    run_script "$script" &
done
wait
for script in "$HERE"/test_${1:-*}.sh; do
    [[ -e $SCRATCH/$(basename "$script" .sh).ok ]] || exit 1
done
