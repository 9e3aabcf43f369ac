#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The full counts of what tests/run.sh shows once and small, and what is too long for it: fuzzers,
# benchmarks, ThreadSanitizer. Prints the figures that docs/DEVELOPMENT.md records; some hours.
# Each P11K_* variable below can be set from outside.
set -uo pipefail

usage() {
    cat <<TEXT
Usage: tests/soak.sh [PART...]

Parts, all of them by default: ${PARTS[*]}
TEXT
}

PARTS=(packages build tidy unit ckr server cli mysql fuzz tsan bench)
ROOT=$(cd "$(dirname "$0")/.." && pwd)
export P11K_BUILD=${P11K_BUILD:-$ROOT/build/test}
export P11K_ROWS=${P11K_ROWS:-200000}
export P11K_CRASHES=${P11K_CRASHES:-40}
export P11K_PAGE_SIZES=${P11K_PAGE_SIZES-4k 8k 32k 64k}
export P11K_STEPS=${P11K_STEPS:-12}
export P11K_CHANGES=${P11K_CHANGES:-150}
export P11K_KILLS=${P11K_KILLS:-500}
export P11K_KEYS=${P11K_KEYS:-10000}
export P11K_REKEY_KILLS=${P11K_REKEY_KILLS:-100}
export P11K_TABLES=${P11K_TABLES:-200}
export P11K_FAULT_SECONDS=${P11K_FAULT_SECONDS:-600}
export P11K_AWAY_SECONDS=${P11K_AWAY_SECONDS:-60}
export P11K_SOAK=1
FUZZ_SECONDS=${P11K_FUZZ_SECONDS:-600}
failures=()

build() { # FOLDER [cmake option...]
    if ! { cmake -S "$ROOT" -B "$1" -DP11K_TESTS=ON "${@:2}" &&
        cmake --build "$1" -j "$(nproc)"; } >"$1.log" 2>&1; then
        tail -n 50 "$1.log"
        return 1
    fi
}

part_packages() { "$ROOT/tests/lib/packages.sh" soak; }

part_build() { build "$P11K_BUILD" -DP11K_WERROR=ON; }

part_tidy() {
    build "$ROOT/build/clang" -DCMAKE_C_COMPILER=clang -DP11K_WERROR=ON && cd "$ROOT" &&
        git ls-files '*.c' ':!tests' |
        xargs -P "$(nproc)" -n 4 clang-tidy -p "$ROOT/build/clang" --quiet 2>/dev/null
}

part_unit() { "$ROOT/tests/run.sh" unit token; }

part_server() { P11K_PAGE_SIZES="16k 4k 8k 32k 64k" "$ROOT/tests/run.sh" server; }

part_cli() { "$ROOT/tests/run.sh" cli; }

part_mysql() { "$ROOT/tests/run.sh" mysql; }

# Every return value of PKCS#11 at every call of every operation; tests/run.sh takes a sample.
part_ckr() {
    local -x P11K_CKR_SAMPLE=${P11K_CKR_SAMPLE:-1}
    "$P11K_BUILD/bin/test_every_ckr" && P11K_KILLS=4 "$P11K_BUILD/bin/test_imports"
}

fuzz() { # FUZZER FOLDER
    local name=${1##*/fuzz_} folder=$2
    mkdir -p "$folder/found/$name"
    if "$1" -max_total_time="$FUZZ_SECONDS" -artifact_prefix="$folder/found/$name/" \
        "$folder/found/$name" "$ROOT/tests/fuzz/corpus/$name" >"$folder/$name.log" 2>&1; then
        printf '%s, %d s: %s\n' "$name" "$FUZZ_SECONDS" "$(tail -n 1 "$folder/$name.log")"
    else
        printf '%s:\n%s\n' "$name" "$(tail -n 40 "$folder/$name.log")"
        return 1
    fi
}

# Fuzzers are built by clang, with the sanitizers, and start from tests/fuzz/corpus/NAME; one for each
# processor runs at a time. New inputs stay in build/fuzz/found; one that crashes is kept there as
# crash-*.
part_fuzz() {
    local folder=$ROOT/build/fuzz fuzzer rc=0
    build "$folder" -DCMAKE_C_COMPILER=clang -DP11K_FUZZ=ON \
        -DP11K_SANITIZE=address,undefined || return
    ctest --test-dir "$folder" -L '^fuzz$' --output-on-failure --no-tests=error || rc=1
    for fuzzer in "$folder/bin"/fuzz_*; do
        while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n || rc=1; done
        fuzz "$fuzzer" "$folder" &
    done
    while [[ -n $(jobs -p) ]]; do wait -n || rc=1; done
    return "$rc"
}

# Small counts: it is ten times slower. Children of tests go on after a fork.
part_tsan() {
    build "$ROOT/build/tsan" -DP11K_SANITIZE=thread &&
        env -u P11K_SOAK -u P11K_KILLS TSAN_OPTIONS=die_after_fork=0 ctest --test-dir \
            "$ROOT/build/tsan" -L '^(unit|token)$' --output-on-failure --no-tests=error
}

part_bench() {
    local bench rc=0
    for bench in import latest ossl pool rewrap; do "$P11K_BUILD/bin/bench_$bench" || rc=1; done
    "$ROOT/tests/bench/run.sh" || rc=1
    "$ROOT/tests/lib/mysql_root.sh" build &&
        "$ROOT/tests/lib/mysql_root.sh" compile "${P11K_MYSQL_BUILD:-$ROOT/build/mysql}" || return
    "$ROOT/tests/bench/server_share_mysql.sh" || rc=1
    "$ROOT/tests/bench/start_mysql.sh" || rc=1
    "$ROOT/tests/bench/verify_many_mysql.sh" || rc=1
    return "$rc"
}

if [[ ${1:-} == --help ]]; then
    usage
    exit 0
fi
(($#)) || set -- "${PARTS[@]}"
for part in "$@"; do
    if [[ " ${PARTS[*]} " != *" $part "* ]]; then
        usage >&2
        exit 2
    fi
done
mkdir -p "$ROOT/build"
for part in "$@"; do
    started=$SECONDS
    printf '\n=== soak: %s\n' "$part"
    "part_$part" || failures+=("$part")
    printf '(%s: %d s)\n' "$part" $((SECONDS - started))
done

printf '\nrows %s, crashes %s, changes %s, kills %s, tables %s, faults %s s, fuzz %s s; %d s in all\n' \
    "$P11K_ROWS" "$P11K_CRASHES" "$P11K_CHANGES" "$P11K_KILLS" "$P11K_TABLES" \
    "$P11K_FAULT_SECONDS" "$FUZZ_SECONDS" "$SECONDS"
printf '%d parts passed, %d failed%s\n' $(($# - ${#failures[@]})) ${#failures[@]} \
    "${failures[*]:+: ${failures[*]}}"
((${#failures[@]} == 0))
