#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# A mysqld under load while its token fails in every way and the server is killed at random: no wrong
# result, no lost row or key, nothing stuck, back in time. See tests/lib/faults.sh.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"
# shellcheck source=tests/lib/faults.sh
source "$(dirname "$0")/../lib/faults.sh"

# Old binary log keys are removed by a rotation: logs_readable looks for those that are needed.
known_keys() { keyring_ids "$1" 'INNODBKey%'; }

logs_readable() { # NAME
    local file
    sql "$1" "SHOW BINARY LOGS" >"$WORK/logs"
    while read -r file _; do
        sql "$1" "SHOW BINLOG EVENTS IN '$file' LIMIT 5" >/dev/null || die "$file is not readable"
    done <"$WORK/logs"
}

# An admin who looks meets the same faults.
side_job() { # NAME
    local rc=0
    tool status >"$WORK/status.log" 2>&1 || rc=$?
    add_to "$1" "status_$rc" 1
}

# binlog_error_action = ABORT_SERVER.
may_have_ended() { grep -qa "Binary logging not possible" "$(server_log "$1")"; }

# MySQL's own fault, see "MySQL does not start after a kill" in docs/RUNBOOK.md: files of tables that
# were being made, whose first page was never written (its LSN is 0), may be in the way.
start_again() { # NAME
    local file found=0
    if (server_start "$1") >"$WORK/start.log" 2>&1; then return; fi
    cat "$WORK/start.log"
    for file in "$WORK/$1"/data/*/*.ibd; do
        [[ $(od -An -tx8 -j 16 -N 8 "$file") == " 0000000000000000" ]] || continue
        add_to "$1" half_made 1
        mv "$file" "$WORK/$1/"
        found=1
    done
    ((found)) || die "the server does not start, and no half-made table is in its way"
    (server_start "$1" --innodb-force-recovery=1) || true # it may end when it has replayed the log
    server_start "$1"
}

# In wrapped mode a new table needs no token.
# shellcheck disable=SC2034 # for faults.sh
statements_of_the_load() {
    PROBE="CREATE TABLE bank.p# (id INT) ENCRYPTION='Y'"
    UNDO="DROP TABLE bank.p#"
    [[ $KIND == token ]] || {
        PROBE="ALTER INSTANCE ROTATE INNODB MASTER KEY"
        UNDO=
    }
    ADMIN=("ALTER INSTANCE ROTATE BINLOG MASTER KEY" "ALTER INSTANCE ROTATE INNODB MASTER KEY"
        "ALTER TABLE bank.accounts FORCE" "FLUSH TABLES bank.fixed"
        "ALTER INSTANCE ROTATE INNODB MASTER KEY"
        "CREATE TABLE IF NOT EXISTS bank.copy ENCRYPTION='Y' SELECT * FROM bank.fixed LIMIT 500"
        "DROP TABLE IF EXISTS bank.copy" "FLUSH BINARY LOGS"
        "PURGE BINARY LOGS BEFORE NOW() - INTERVAL 20 SECOND")
}

server_under_load() { # NAME
    : >"$P11K_MOCK_COUNTS"
    own "$P11K_MOCK_COUNTS"
    mock_rules ""
    server_new "$1"
    server_keyring "$1"
    sed -i "s|^module = .*|module = $WORK/lib/p11k_mock.so|; s|^timeout = .*|timeout = ${DEADLINE}000|" \
        "$P11KEYRING_CONF"
    server_options "$1" "binlog-encryption = ON" "innodb-redo-log-encrypt = ON" \
        "innodb-undo-log-encrypt = ON" "innodb-buffer-pool-size = 8M" "max-connections = 50"
    server_start "$1"
    bank_new "$1" "ENCRYPTION='Y'"
    load_start "$1"
    sleep 1
    load_end "$1"
}

for KIND in $KINDS; do
    name=${KIND}_mode
    statements_of_the_load
    check "$KIND: a server with a load that checks itself" server_under_load "$name"
    check "$KIND: faults of every kind: no wrong result, nothing stuck, back in time, nothing grows" \
        faults "$name" "$HALF" steady
    check "$KIND: the same with kill -9 at random: no row and no key lost" \
        faults "$name" "$HALF" kills
    check "$KIND: every binary log is readable" logs_readable "$name"
    check "$KIND: killed while the token is away: a start says so; token back: all there" \
        refused_start "$name"
    check "$KIND: the token is lost while the PIN is wrong: one attempt" wrong_pin "$name"
    check "$KIND: no abort in the server's log" log_is_clean "$name"
    check "$KIND: the faults were felt" enough_faults "$name"
    faults_summary "$name"
    server_stop "$name"
done
finish
