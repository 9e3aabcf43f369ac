# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Kills at random moments of a write; source it after cli.sh and set KILLS and FOLDER, the folder in
# which the command writes.
cp "$BUILD/bin/kill_cli" "$WORK/bin/"

kill_in() { # MICROSECONDS ARGUMENT...: what the tool printed, and the last line is the verdict
    local us=$1
    shift
    as_server "$WORK/bin/kill_cli" "$FOLDER" "$us" "$WORK/bin/p11keyring" "$@" 2>/dev/null
}

# The width of a window to begin with, the median of some. count_kill then moves it so that about
# three kills of four fall inside, whatever else the machine does, and the rest after it.
window() { # ARGUMENT...
    local i widths=()
    for i in 1 2 3 4 5; do
        widths+=("$(kill_in 0 "${@//%/$i}" | tail -1)")
    done
    printf '%s\n' "${widths[@]}" | sort -n | sed -n 3p
}

count_kill() { # VERDICT
    if [[ $1 == *inside ]]; then
        inside=$((inside + 1))
        us=$((us * 115 / 100 + 2))
    else
        us=$((us * 7 / 10 + 2))
    fi
}

enough() { # INSIDE
    echo "kills $KILLS, inside the write window $1"
    ((2 * $1 >= KILLS)) || die "fewer than half of the kills fell inside the write window"
}

reported() { # WHAT FUNCTION: the counts are shown also when all is well
    check "$@"
    sed -n 's/^kills/      kills/p' "$WORK/check.log"
}
