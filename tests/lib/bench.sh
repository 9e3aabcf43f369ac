# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# What the benchmarks with a server have in common; source the server's own library first. Set
# WORKLOAD (a test of sysbench) and ROWS; SECONDS_EACH is the time of one measurement.

load() { # NAME prepare|run [option...]
    local name=$1 step=$2
    shift 2
    sysbench "$WORKLOAD" --db-driver=mysql --mysql-socket="$WORK/$name/socket" \
        --mysql-user=root --mysql-db=t --tables=2 --table-size="$ROWS" --threads=2 "$@" "$step"
}

# perf gives up when one of the server's threads ends while it attaches to them all.
perf_attach() { # NAME: the pid in $perf
    local try
    for ((try = 0; try < 20; try++)); do
        perf record -q -e cpu-clock -F 499 -o "$WORK/$1/perf.data" -p "$(server_pid "$1")" \
            >/dev/null 2>&1 &
        perf=$!
        sleep 0.5
        ! alive "$perf" || return 0
    done
    die "perf does not attach to server $1"
}

# The CPU samples of a server while a command runs: "PERCENT|DSO|SYMBOL", blanks removed but for the
# symbol's.
samples_of() { # NAME COMMAND...
    local perf
    perf_attach "$1"
    "${@:2}" >/dev/null
    kill -INT "$perf"
    wait "$perf" || true
    perf report -i "$WORK/$1/perf.data" --stdio --sort dso,symbol -t '|' 2>/dev/null |
        awk -F'|' -v OFS='|' '!/^#/ && NF >= 3 { gsub(/[ %]/, "", $1); gsub(/ /, "", $2); print }'
}

samples() { # NAME: under load
    samples_of "$1" load "$1" run --time="$SECONDS_EACH"
}

# --- files of pages, for benchmarks without a server ------------------------------------------------

# A private folder, $WORK, that goes with the script.
pages_folder() { # NAME
    WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/p11keyring-$1.XXXXXX")
    trap 'rm -f "$WORK"/*; rmdir "$WORK"' EXIT
}

cpu() { # COMMAND...: its CPU seconds
    local TIMEFORMAT='%U %S'
    { time "$@" >/dev/null 2>&1; } 2>&1 | awk '{ print $1 + $2 }'
}

mysql_innochecksum() { # FILE
    "$ROOT/tests/lib/mysql_root.sh" run -b "$WORK" -- innochecksum -C crc32 "$1"
}

# In the root, where a start costs a mount namespace: the time is taken inside.
# shellcheck disable=SC2016 # expanded there
mysql_innochecksum_cpu() { # FILE
    "$ROOT/tests/lib/mysql_root.sh" run -b "$WORK" -- bash -c 'TIMEFORMAT="%U %S"
        time innochecksum -C crc32 "$1" >/dev/null' - "$1" 2>&1 | awk '{ print $1 + $2 }'
}

# Of the columns of $WORK/rounds: the median of two's ratios, the median and the least of one.
column_ratio() { # COLUMN COLUMN
    awk -v a="$1" -v b="$2" '{ print $a / $b }' "$WORK/rounds" | median
}
column() { # COLUMN
    cut -d' ' -f"$1" "$WORK/rounds" | median
}
column_best() { # COLUMN
    cut -d' ' -f"$1" "$WORK/rounds" | best
}

ratio() { # A B
    awk "BEGIN { print ($1 > 0 && $2 > 0 ? $1 / $2 : \"nan\") }"
}

best() { sort -g | head -n 1; }

median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# --- one line per bar, as tests/bench/bar.h prints it; number 0: not in the table of bars ----------

bar_line() { # NUMBER NAME MEASURED BAR VERDICT
    printf '%2s  %-54s %9.3f  %-9s %s\n' "${1/#0/-}" "$2" "$3" "$4" "$5"
}

bar_judge() { # NUMBER NAME MEASURED SENSE BAR: fails when the bar is not met, as by no number
    if awk -v m="$3" -v b="$5" "BEGIN { exit !(m ~ /^[0-9.]+\$/ && m + 0 $4 b) }"; then
        bar_line "$1" "$2" "$3" "$4$5" pass
    else
        bar_line "$1" "$2" "$3" "$4$5" FAIL
        return 1
    fi
}

bar_at_least() { # NUMBER NAME MEASURED BAR
    bar_judge "$1" "$2" "$3" ">=" "$4"
}

bar_at_most() { # NUMBER NAME MEASURED BAR
    bar_judge "$1" "$2" "$3" "<=" "$4"
}

bar_info() { # NUMBER TEXT...
    printf '%2s  %s  info\n' "${1/#0/-}" "${*:2}"
}
