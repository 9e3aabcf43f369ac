#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# A mariadbd under load while its token fails in every way and the server is killed at random: no
# wrong result, no lost row or key, nothing stuck, back in time. See tests/lib/faults.sh.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"
# shellcheck source=tests/lib/faults.sh
source "$(dirname "$0")/../lib/faults.sh"

# shellcheck disable=SC2034 # for faults.sh
PROBE="CREATE TABLE bank.p# (id INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=#"
# shellcheck disable=SC2034
UNDO="DROP TABLE bank.p#"
# shellcheck disable=SC2034
ADMIN=("FLUSH BINARY LOGS" "ALTER TABLE bank.accounts FORCE" "FLUSH TABLES bank.fixed"
    "CREATE OR REPLACE TABLE bank.copy ENGINE=Aria SELECT * FROM bank.fixed LIMIT 500"
    "CREATE OR REPLACE TABLE bank.two ENCRYPTED=YES ENCRYPTION_KEY_ID=2 SELECT * FROM bank.fixed LIMIT 500")

known_keys() {
    tool --config "$KEYRING/direct.conf" --json key list | jq -r '.keys[].id'
    tool --config "$KEYRING/direct.conf" --json key show 1 | jq -r '.key_versions[] | "1.\(.version)"'
}

# The admin's tool meets the same faults: it is done, or it says why in time.
side_job() { # NAME
    local rc=0 start=$EPOCHREALTIME took
    tool key rotate 1 >"$WORK/rotate.log" 2>&1 || rc=$?
    took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
    add_to "$1" "rotations_$rc" 1
    at_least "$1" rotation_slowest "$took"
}

server_under_load() {
    : >"$P11K_MOCK_COUNTS"
    own "$P11K_MOCK_COUNTS"
    mock_token_up keyring
    printf '\n[mariadb]\nauto-create = yes\n' >>"$P11KEYRING_CONF"
    sed -i "s/^timeout = .*/timeout = ${DEADLINE}000/" "$P11KEYRING_CONF"
    sed "s|^module = .*|module = $SOFTHSM_MODULE|" "$P11KEYRING_CONF" >"$KEYRING/direct.conf"
    tool master create >/dev/null
    server_new s
    server_keyring s force
    server_options s "innodb-buffer-pool-size = 8M"
    server_start s
    bank_new s
    load_start s
    sleep 1
    load_end s
}

may_have_ended() { false; }

start_again() { server_start "$1"; }

check "a server with a load that checks itself" server_under_load
check "faults of every kind: no wrong result, nothing stuck, back in time, nothing grows" \
    faults s "$HALF" steady
check "the same with kill -9 at random: no row and no key lost" faults s "$HALF" kills
check "killed while the token is away: a start says so; token back: all there" refused_start s
check "the token is lost while the PIN is wrong: one attempt" wrong_pin s
check "no abort in the server's log" log_is_clean s
check "the faults were felt" enough_faults s
faults_summary s
finish
