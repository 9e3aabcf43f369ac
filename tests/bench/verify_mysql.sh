#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Bar 11: `p11keyring verify` of an encrypted tablespace in the page cache against MySQL's
# innochecksum -C crc32 of the same pages in the clear: CPU time, user and system, in turn within a
# round, the best of each, since a neighbour on the core slows AES more than it slows copying. First
# both find no fault, and verify names a page that was damaged. P11K_MIB (2048) and P11K_ROUNDS (25)
# can be set.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
BUILD=${P11K_BUILD:-$ROOT/build/test}
MIB=${P11K_MIB:-2048}
ROUNDS=${P11K_ROUNDS:-25}
# shellcheck source=tests/lib/bench.sh
source "$ROOT/tests/lib/bench.sh"

pages_folder verify
export P11KEYRING_CONF=$WORK/none.conf
: >"$P11KEYRING_CONF"

verify_cpu() { # THREADS
    cpu "$BUILD/bin/p11keyring" verify --progress=none --threads="$1" "$WORK/t.ibd"
}

"$ROOT/tests/lib/mysql_root.sh" build
"$BUILD/bin/scan_pages" make "$MIB" "$WORK/plain.ibd"
cp "$WORK/plain.ibd" "$WORK/t.ibd"
"$BUILD/bin/seal_space" "$WORK/t.ibd"
mysql_innochecksum "$WORK/plain.ibd"
"$BUILD/bin/p11keyring" verify "$WORK/t.ibd" >/dev/null

for ((round = 0; round < ROUNDS; round++)); do
    printf '%s %s %s\n' "$(verify_cpu 1)" "$(verify_cpu 2)" \
        "$(mysql_innochecksum_cpu "$WORK/plain.ibd")"
done >"$WORK/rounds"
rc=0
one=$(column_best 1)
two=$(column_best 2)
mysql=$(column_best 3)
bar_at_most 11 "verify / MySQL's innochecksum -C crc32, CPU time" "$(ratio "$one" "$mysql")" 1.4 || rc=1
bar_at_most 11 "the same on two threads" "$(ratio "$two" "$mysql")" 1.4 || rc=1
bar_info 11 "best for $MIB MiB: one thread $one s, two $two s, MySQL $mysql s; medians of the ratios" \
    "$(column_ratio 1 3) and $(column_ratio 2 3)"
# What no verify can be quicker than, with pages that are in the processor's cache already.
aes=$(openssl speed -seconds 1 -bytes 16384 -evp aes-256-cbc -decrypt 2>/dev/null |
    awk '/^AES-256-CBC/ { print $2 * 1000 }')
bar_info 11 "AES-256-CBC decryption alone takes $(awk -v mib="$MIB" -v aes="$aes" -v mysql="$mysql" \
    'BEGIN { printf "%.2f", mib * 1048576 / aes / mysql }') of innochecksum's time"

printf x | dd of="$WORK/t.ibd" bs=1 seek=$((16384 * 1000 + 5000)) conv=notrunc status=none
"$BUILD/bin/p11keyring" verify "$WORK/t.ibd" >"$WORK/out" 2>&1 && rc=1
grep -q "page 1000: checksum mismatch" "$WORK/out" || rc=1
exit "$rc"
