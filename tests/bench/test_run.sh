#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# How tests/bench/run.sh judges the lines of the benchmarks.
set -euo pipefail
RUN=$(dirname "$0")/run.sh
# shellcheck source=tests/lib/bench.sh
source "$(dirname "$0")/../lib/bench.sh"

JUDGE=yes
expect() { # EXIT-CODE LINE-IN-THE-TABLE NUMBER...; the lines come on standard input
    local want=$1 line=$2 rc=0 table
    shift 2
    table=$("$RUN" ${JUDGE:+--judge} "$@" 2>&1) || rc=$?
    [[ $rc == "$want" ]] || { printf 'wanted %s, saw %s:\n%s\n' "$want" "$rc" "$table" && exit 1; }
    sed -E 's/ +/ /g' <<<"$table" | grep -qE "^ ?$line" ||
        { printf "no '%s' in:\n%s\n" "$line" "$table" && exit 1; }
}

lines() {
    bar_at_least 1 "page 16384" 0.96 0.93
    bar_at_least 1 "page 4096" 0.805 0.80
    bar_info 1 "streaming EVP 12.1 GB/s, 1.5 of openssl"
    bar_at_most 2 "instructions" 1200 1800
    bar_line 7 "copied" 0.5 ">=0.75" info
    bar_at_least 0 "not in the table" 1 2 || true
}

and() { # bar_... ARGUMENT...: the lines and one that fails
    lines
    "$@" || true
}

lines | expect 0 "1 .* 0.805 >=0.80 pass$" 1
lines | expect 0 "2 .* 1200.000 <=1800 pass$" 1 2
lines | expect 0 "7 .* 0.500 >=0.75 info$" 7
lines | expect 0 "0 of 3 bars are not met" 1 2 7
lines | expect 1 "10 .* FAIL \(not measured\)$" 1 10
lines | expect 1 "9 of 12 bars are not met"
and bar_at_least 1 "page 256" 0.9 1 | expect 1 "1 .* 0.900 >=1 FAIL$" 1
and bar_at_most 2 "none" nan 1 | expect 1 "2 .* nan <=1 FAIL$" 2
expect 2 "" 13 </dev/null # it ends before it reads
JUDGE='' P11K_BUILD=/nowhere expect 1 "6 .* nan >=0 FAIL$" 6 # what measures it breaks off
