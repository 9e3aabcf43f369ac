#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Bar 2: what a page costs whatever its length is, in instructions, as callgrind counts them: the
# slope over the number of pages at two lengths, carried on to length 0. Does not depend on noise.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
. "$ROOT/tests/lib/bench.sh"
BENCH=${P11K_BUILD:-$ROOT/build/test}/bin/bench_page
FEW=200 MANY=1200

count() { # CIPHER PAGES LENGTH: instructions of the whole run
    valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$BENCH" --cipher "$1" --pages "$2" --length "$3" 2>&1 | awk '/Collected/ { print $NF }'
}

per_page() { # CIPHER LENGTH
    local few many
    few=$(count "$1" "$FEW" "$2")
    many=$(count "$1" "$MANY" "$2")
    echo $(((many - few) / (MANY - FEW)))
}

rc=0
for cipher in aes-cbc aes-ctr aes256-cbc aes256-ctr; do
    short=$(per_page "$cipher" 4096)
    long=$(per_page "$cipher" 8192)
    bar_judge 2 "$cipher decrypt, fixed instructions a page" $((2 * short - long)) "<=" 1800 || rc=1
done
exit "$rc"
