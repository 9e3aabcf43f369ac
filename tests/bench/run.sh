#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Every bar of docs/DEVELOPMENT.md once: runs what measures it, shows its lines as they come, and at
# the end one line per bar, with the measurement that is nearest to failing. Fails when a bar is not
# met or was not measured; those that are only reported pass.
#
#   tests/bench/run.sh [NUMBER...]        all bars, or some
#   tests/bench/run.sh --judge < LINES    the table for lines that were measured before
set -uo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
export P11K_BUILD=${P11K_BUILD:-$ROOT/build/test}
# shellcheck source=tests/lib/bench.sh
source "$ROOT/tests/lib/bench.sh"

BARS=(
    "1|one-page decrypt, key kept / streaming EVP"
    "2|one page, key kept / a new context; instructions a page"
    "3|16 pages of CBC at once / EVP CBC"
    "4|pages at offset 38 / at offset 0"
    "5|file: decrypt, CRC, encrypt / page after page"
    "6|CPU time for a page, two threads / one"
    "7|O_DIRECT re-encryption / plain copy (reported)"
    "8|CRC scan / innochecksum of MariaDB and MySQL"
    "9|aes256-* page / aes-* page"
    "10|page crypto in mariadbd / file_key_management"
    "11|verify of a MySQL tablespace / innochecksum -C crc32"
    "12|rekey: pages at once / page after page; two threads / one"
)
MEASURED_BY=(
    "1 2|$P11K_BUILD/bin/bench_page"
    "2|$ROOT/tests/bench/page_instructions.sh"
    "3 4|$P11K_BUILD/bin/bench_pages"
    "5 6 7|$P11K_BUILD/bin/bench_bulk"
    "8|$ROOT/tests/bench/innochecksum.sh"
    "9|$P11K_BUILD/bin/bench_aes256"
    "10|$ROOT/tests/bench/server_share.sh"
    "11|$ROOT/tests/bench/verify_mysql.sh"
    "12|$P11K_BUILD/bin/bench_rekey"
)

wanted() { # NUMBER...: whether one of them is
    local number
    for number in "$@"; do
        [[ " ${numbers[*]} " != *" $number "* ]] || return 0
    done
    return 1
}

# What one program measures. When it breaks off, its bars are not met, whatever it saw before.
measure_by() { # PROGRAM NUMBER...
    local number rc=0
    "$1" | tee "$seen" || rc=$?
    if ((rc == 0)) || grep -q 'FAIL$' "$seen"; then return; fi
    for number in "${@:2}"; do
        bar_line "$number" "${1##*/} ended with $rc" nan ">=0" FAIL
    done
}

measure() {
    local row
    for row in "${MEASURED_BY[@]}"; do
        # shellcheck disable=SC2086 # several numbers
        wanted ${row%%|*} || continue
        # shellcheck disable=SC2086
        measure_by "${row#*|}" ${row%%|*}
    done
}

# The line of a bar that is nearest to failing, by measured / bar; a FAIL comes before all.
worst() { # NUMBER: of the lines on standard input
    awk -v number="$1" '
        $1 != number || $NF !~ /^(pass|FAIL|info)$/ { next }
        $(NF - 1) !~ /^[<>]=/ { next }
        {
            measured = $(NF - 2) ~ /^[0-9.]+$/ ? $(NF - 2) + 0 : 0
            bar = substr($(NF - 1), 3)
            margin = $(NF - 1) ~ /^>/ ? measured / bar : bar / (measured + 1e-9)
            margin -= $NF == "FAIL" ? 1e12 : $NF == "info" ? -1e12 : 0
            if (found++ && margin >= least) next
            least = margin
            line = sprintf("%9s  %-9s %s", $(NF - 2), $(NF - 1), $NF)
        }
        END { print found ? line : sprintf("%9s  %-9s %s", "-", "-", "FAIL (not measured)") }'
}

table() { # FILE
    local row line failures=0
    printf '\n #  %-58s  measured  bar\n' bar
    for row in "${BARS[@]}"; do
        wanted "${row%%|*}" || continue
        line=$(worst "${row%%|*}" <"$1")
        printf '%2d  %-56s %s\n' "${row%%|*}" "${row#*|}" "$line"
        [[ $line != *FAIL* ]] || failures=$((failures + 1))
    done
    printf '%d of %d bars are not met\n' "$failures" "${#numbers[@]}"
    ((failures == 0))
}

judge=
if [[ ${1:-} == --judge ]]; then
    judge=yes
    shift
fi
numbers=("$@")
if ((!$#)); then
    mapfile -t numbers < <(printf '%s\n' "${BARS[@]%%|*}")
fi
for number in "${numbers[@]}"; do
    if [[ ! $number =~ ^([1-9]|1[0-2])$ ]]; then
        sed -n 's/^#   /usage: /p' "$0" >&2
        exit 2
    fi
done
lines=$(mktemp)
seen=$(mktemp)
trap 'rm -f "$lines" "$seen"' EXIT
if [[ $judge ]]; then
    cat >"$lines"
else
    measure | tee "$lines"
fi
table "$lines"
