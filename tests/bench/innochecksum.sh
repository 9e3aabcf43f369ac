#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Bar 8: a scan of all checksums of a file in the page cache through the bulk pipeline, against the
# innochecksum of MariaDB and that of MySQL with -C crc32, on the same file: CPU time, user and
# system, in turn within a round, medians of the ratios. First all three find no fault in the file,
# and then the same damaged page. P11K_MIB (2048) and P11K_ROUNDS (7) can be set.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
BUILD=${P11K_BUILD:-$ROOT/build/test}
MIB=${P11K_MIB:-2048}
ROUNDS=${P11K_ROUNDS:-7}
# shellcheck source=tests/lib/bench.sh
source "$ROOT/tests/lib/bench.sh"

pages_folder scan
FILE=$WORK/t.ibd

# All three are as good at finding a wrong byte, or there is nothing to compare.
check() { # STATUS
    local tool status
    for tool in ours mariadb mysql; do
        status=0
        case $tool in
        ours) "$BUILD/bin/scan_pages" check 1 "$FILE" || status=1 ;;
        mariadb) innochecksum "$FILE" || status=1 ;;
        mysql) mysql_innochecksum "$FILE" || status=1 ;;
        esac >/dev/null 2>&1
        ((status == $1)) || {
            printf 'error: %s ended with %d where %d was expected\n' "$tool" "$status" "$1" >&2
            exit 1
        }
    done
}

"$ROOT/tests/lib/mysql_root.sh" build
"$BUILD/bin/scan_pages" make "$MIB" "$FILE"
check 0

rc=0
for ((round = 0; round < ROUNDS; round++)); do
    one=$(cpu "$BUILD/bin/scan_pages" check 1 "$FILE")
    mariadb=$(cpu innochecksum "$FILE")
    mysql=$(mysql_innochecksum_cpu "$FILE")
    two=$(cpu "$BUILD/bin/scan_pages" check 2 "$FILE")
    printf '%s %s %s %s\n' "$one" "$two" "$mariadb" "$mysql"
done >"$WORK/rounds"
bar_at_most 8 "CRC scan / MariaDB's innochecksum, CPU time" "$(column_ratio 1 3)" 0.9 || rc=1
bar_at_most 8 "CRC scan / MySQL's innochecksum -C crc32, CPU time" "$(column_ratio 1 4)" 0.7 || rc=1
bar_at_most 8 "the same on two threads, MariaDB's" "$(column_ratio 2 3)" 0.9 || rc=1
bar_at_most 8 "the same on two threads, MySQL's" "$(column_ratio 2 4)" 0.7 || rc=1
bar_info 8 "medians for $MIB MiB: one thread $(column 1) s, two $(column 2) s," \
    "MariaDB $(column 3) s, MySQL $(column 4) s"

for page in 1 1000 20000; do
    "$BUILD/bin/scan_pages" make 512 "$FILE"
    printf x | dd of="$FILE" bs=1 seek=$((16384 * page + 5000)) conv=notrunc status=none
    check 1
done
exit "$rc"
