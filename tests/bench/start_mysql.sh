#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Start-up of a mysqld with many encrypted tables: how often the token is asked and how long it takes,
# with the server's own component_keyring_file and in both modes, and in these again with each call
# of the token's module made slower. Figures, no bars.
#
#   tests/bench/start_mysql.sh [TABLES [DELAY-MS]]
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

TABLES=${1:-1000}
DELAY=${2:-1}
SLOW=(C_Encrypt C_EncryptInit C_Decrypt C_DecryptInit C_FindObjectsInit C_FindObjects
    C_FindObjectsFinal C_GetAttributeValue C_GetSessionInfo C_GetTokenInfo C_GetSlotInfo
    C_GetSlotList C_GenerateRandom C_OpenSession C_Login C_GetMechanismInfo)

# Our keyring on the mock module, which counts and delays.
through_mock() { # NAME
    local dir=$WORK/$1
    mock_rules ""
    sed -i "s|^module = .*|module = $WORK/lib/p11k_mock.so|" "$dir.keyring/p11keyring.conf"
    server_environment "$1" "P11K_MOCK_MODULE=$SOFTHSM_MODULE" \
        "P11K_MOCK_CONTROL=$WORK/mock.control" "P11K_MOCK_COUNTS=$dir/counts"
}

count_anew() { # NAME
    : >"$WORK/$1/counts"
    own "$WORK/$1/counts"
}

# All calls of the module, and the encryptions and decryptions among them. The file is an array of
# struct mock_count (tests/mock/control.h).
calls() { # NAME
    # shellcheck disable=SC2016 # Perl's variables
    perl -e '$/ = \40; while (<STDIN>) {
            my ($name, $count) = unpack("Z32 Q", $_);
            $all += $count if $name =~ /^C_/;
            $crypt += $count if $name =~ /^C_(En|De)crypt$/;
        }
        printf "%d calls of the module, %d of them encrypt or decrypt", $all, $crypt' \
        <"$WORK/$1/counts"
}

# From the server's first message to "ready for connections", by its own clock.
milliseconds() { # NAME
    local from to
    from=$(head -n 1 "$(server_log "$1")" | cut -d ' ' -f 1)
    to=$(grep -a -m 1 MY-010931 "$(server_log "$1")" | cut -d ' ' -f 1)
    echo $((($(date -d "$to" +%s%N) - $(date -d "$from" +%s%N)) / 1000000))
}

start() { # NAME: the second of two starts, so that caches are as warm for each
    server_stop "$1"
    server_start "$1"
    server_stop "$1"
    [[ ! -e $WORK/$1/counts ]] || count_anew "$1"
    server_start "$1"
}

tell() { # NAME WHAT
    printf 'start with %d encrypted tables, %s: %d ms' "$TABLES" "$2" "$(milliseconds "$1")"
    [[ ! -e $WORK/$1/counts ]] || printf ', %s' "$(calls "$1")"
    printf '\n'
}

measure() {
    server_new "$KIND"
    server_keyring "$KIND"
    server_options "$KIND" "binlog-encryption = ON"
    if [[ $KIND != file ]]; then
        through_mock "$KIND"
        count_anew "$KIND"
    fi
    server_start "$KIND"
    many_tables "$KIND" one "$TABLES"
    start "$KIND"
    tell "$KIND" "$KIND"
    if [[ $KIND != file ]]; then
        mock_rules "$(printf "delay %s $DELAY\n" "${SLOW[@]}")"
        start "$KIND"
        tell "$KIND" "$KIND, $DELAY ms more for each call"
    fi
    servers_remove "$KIND"
}

for KIND in file token wrapped; do
    measure
done
