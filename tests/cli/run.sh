#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Runs the command-line tests, or the one that is named: run.sh keys runs test_keys.sh.
set -uo pipefail

rc=0
for script in "$(dirname "$0")"/test_${1:-*}.sh; do
    printf '\n%s\n' "$(basename "$script" .sh)"
    "$script" || rc=1
done
exit "$rc"
