# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Runs test scripts, several at a time, since they wait more than they work.

# All of a folder, or the one that is named: "binlog" is test_binlog.sh. Each one's output is shown
# when it ends; true when all passed.
run_scripts() { # AT-A-TIME FOLDER [NAME]
    local at_a_time=${P11K_JOBS:-$1} script logs rc=0
    logs=$(mktemp -d)
    for script in "$2"/test_${3:-*}.sh; do
        while (($(jobs -rp | wc -l) >= at_a_time)); do wait -n; done
        run_script "$script" "$logs" &
    done
    wait
    for script in "$2"/test_${3:-*}.sh; do
        [[ -e $logs/$(basename "$script" .sh).ok ]] || rc=1
    done
    rm -rf "$logs"
    return "$rc"
}

# A script that ends before its sum counts as a failure, too.
run_script() { # SCRIPT LOGS
    local name log
    name=$(basename "$1" .sh)
    log=$2/$name
    "$1" >"$log" 2>&1 && touch "$log.ok"
    if [[ ! -e $log.ok ]] && ! grep -q "^$name: .* failed$" "$log"; then
        echo "FAIL  $name ended early" >>"$log"
        [[ -z ${P11K_RESULTS:-} ]] || echo "fail $name ended early" >>"$P11K_RESULTS"
    fi
    printf '\n%s\n%s\n' "$name" "$(<"$log")"
}
