#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Everything that must hold, each promise once and small, on Debian 12 as root in a fresh clone:
# installs, builds with warnings as errors, and runs all tests. The last line is the sum.
set -uo pipefail

STEPS=(packages build lint unit token cli matrix server mysql sanitizers)

usage() {
    cat <<TEXT
Usage: tests/run.sh [STEP...]

Steps, all of them by default: ${STEPS[*]}
A step can be narrowed: server:backup runs tests/server/test_backup.sh alone,
matrix:softhsm2 one token.
Build folders: build/test, build/asan, build/mysql. See docs/DEVELOPMENT.md for the P11K_* variables.
TEXT
}

ROOT=$(cd "$(dirname "$0")/.." && pwd)
export P11K_BUILD=${P11K_BUILD:-$ROOT/build/test}
ASAN_BUILD=${P11K_ASAN_BUILD:-$ROOT/build/asan}
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
# shellcheck source=tests/lib/scripts.sh
source "$ROOT/tests/lib/scripts.sh"
export P11K_RESULTS=$SCRATCH/results
: >"$P11K_RESULTS"

pass() { printf 'pass %s\n' "$*" >>"$P11K_RESULTS"; }
fail() { printf 'fail %s\n' "$*" >>"$P11K_RESULTS"; }
count() { grep -c "^$1 " "$P11K_RESULTS"; }

quietly() { # WHAT COMMAND...: the output only when it fails
    local what=$1
    shift
    if "$@" >"$SCRATCH/log" 2>&1; then
        pass "$what"
    else
        tail -n 100 "$SCRATCH/log"
        fail "$what"
        return 1
    fi
}

# --- steps -----------------------------------------------------------------------------------------

step_packages() { "$ROOT/tests/lib/packages.sh" tests && pass "packages"; }

build() { # FOLDER [cmake option...]
    local folder=$1
    shift
    cmake -S "$ROOT" -B "$folder" -DP11K_TESTS=ON -DP11K_WERROR=ON "$@" &&
        cmake --build "$folder" -j "$(nproc)"
}

step_build() { quietly "build with -Wall -Wextra -Werror" build "$P11K_BUILD"; }

step_lint() {
    cd "$ROOT" || return
    local files
    mapfile -t files < <(git ls-files '*.c' '*.h')
    quietly "cppcheck" cppcheck -q -j 2 --enable=warning,portability --inline-suppr --std=c11 \
        --suppress=missingIncludeSystem --error-exitcode=1 -D_GNU_SOURCE -I . -I wrap -I provider \
        --include=tests/lib/cppcheck.h \
        "${files[@]/#/$ROOT/}"
    quietly "shellcheck" shellcheck .ci/run softhsm-conf/*.sh tests/*.sh tests/*/*.sh
    quietly "every source file names its licence and stays under 600 lines" house_rules
}

house_rules() {
    local file rc=0
    while IFS= read -r file; do
        head -n 2 "$file" | grep -q 'SPDX-License-Identifier: GPL-2.0-or-later WITH' ||
            { echo "$file: no licence line" && rc=1; }
        (($(wc -l <"$file") <= 600)) || { echo "$file: over 600 lines" && rc=1; }
    done < <(git ls-files '*.c' '*.h' '*.sh' '*CMakeLists.txt' '*.cmake' .ci/run)
    return "$rc"
}

# Each cmocka test counts once; a program that fails counts as one failure.
run_ctest() { # FOLDER LABELS WHAT
    local log=$SCRATCH/ctest name
    ctest --test-dir "$1" -L "$2" -j "$(nproc)" --output-on-failure --no-tests=error | tee "$log"
    local rc=${PIPESTATUS[0]}
    while IFS= read -r name; do pass "$3: $name"; done < <(
        sed -n 's/^\[       OK \] //p' "$1/Testing/Temporary/LastTest.log")
    while IFS= read -r name; do fail "$3: $name"; done < <(
        sed -nE 's/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: ([^ ]+) \.*\*\*\*.*/\1/p' "$log")
    return "$rc"
}

step_unit() { run_ctest "$P11K_BUILD" '^unit$' unit; }

step_token() { run_ctest "$P11K_BUILD" '^token$' token; }

step_cli() { run_scripts 2 "$ROOT/tests/cli" "$@"; } # [NAME]

step_matrix() { "$ROOT/tests/matrix/run.sh" "$@"; }

step_server() { run_scripts 2 "$ROOT/tests/server" "$@"; } # [NAME]

step_mysql() { "$ROOT/tests/mysql/run.sh" "$@"; }

step_sanitizers() {
    quietly "build with ASan and UBSan" build "$ASAN_BUILD" -DP11K_SANITIZE=address,undefined &&
        run_ctest "$ASAN_BUILD" '^(unit|token)$' sanitizers
}

# --- main ------------------------------------------------------------------------------------------

run_step() { # STEP[:NAME]
    local name=${1%%:*} argument=${1#*:} failures start=$SECONDS
    [[ $argument != "$1" ]] || argument=
    printf '\n=== %s\n' "$1"
    failures=$(count fail)
    # A step that fails without saying which test did is itself the failure.
    if ! "step_$name" ${argument:+"$argument"} && (($(count fail) == failures)); then
        fail "step $1"
    fi
    printf '(%s: %d s)\n' "$1" $((SECONDS - start))
}

if [[ ${1:-} == --help ]]; then
    usage
    exit 0
fi
for wanted in "$@"; do
    case " ${STEPS[*]} " in
    *" ${wanted%%:*} "*) ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
done
(($#)) || set -- "${STEPS[@]}"
for wanted in "$@"; do run_step "$wanted"; done

printf '\n=== summary (%d s)\n' "$SECONDS"
sed -n 's/^fail /failed: /p' "$P11K_RESULTS"
printf '%d passed, %d failed\n' "$(count pass)" "$(count fail)"
(($(count fail) == 0 && $(count pass) > 0))
