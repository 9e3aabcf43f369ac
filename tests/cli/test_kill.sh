#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# kill -9 at random moments of a write: the keystore opens, with every key that was acknowledged.
# P11K_KILLS is the number of kills for each command.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
# shellcheck source=tests/cli/kills.sh
source "$(dirname "$0")/kills.sh"
KILLS=${P11K_KILLS:-40}

latest() { jq -r ".keys[] | select(.id == $1) | .latest" "$OUT"; }

kills_of_create() {
    local i id us out inside=0
    cli_keyring create
    FOLDER=$KEYRING/keyring
    us=$(window key create %)
    for ((i = 1; i <= KILLS; i++)); do
        id=$((1000 + i))
        out=$(kill_in "$us" key create "$id")
        count_kill "$out"
        expect 0 key list --json
        [[ $out != *created* || $(latest "$id") == 1 ]] || die "key $id was acknowledged and is gone"
        [[ -n $(latest "$id") ]] || expect 0 key create "$id"
        equal "$((5 + i))" "$(tool key list --json | jq '.keys | length')" "keys after kill $i"
    done
    enough "$inside"
    find "$KEYRING/keyring" | sort
    equal 2 "$(find "$KEYRING/keyring" -type f | wc -l)" "files: keystore and PIN guard"
}

kills_of_rotate() {
    local i us out inside=0 before acknowledged=1
    cli_keyring rotate
    FOLDER=$KEYRING/keyring
    tool key create 1 >/dev/null
    us=$(window key rotate 1)
    expect 0 key list --json
    acknowledged=$(latest 1)
    for ((i = 1; i <= KILLS; i++)); do
        before=$acknowledged
        out=$(kill_in "$us" key rotate 1)
        count_kill "$out"
        expect 0 key list --json
        acknowledged=$(latest 1)
        [[ $acknowledged == "$before" || $acknowledged == $((before + 2)) ]] ||
            die "version $before became $acknowledged"
        [[ $out != *rotated* || $acknowledged == $((before + 2)) ]] ||
            die "version $((before + 2)) was acknowledged and is gone"
    done
    enough "$inside"
}

kills_of_master_create() {
    local i us out inside=0 rc
    token_up master
    FOLDER=$KEYRING/keyring
    us=$(kill_in 0 master create | tail -1)
    for ((i = 1; i <= KILLS; i++)); do
        rm -f "$KEYRING/keyring/test.keystore"
        out=$(kill_in "$us" master create --confirm test)
        count_kill "$out"
        if [[ -e $KEYRING/keyring/test.keystore ]]; then
            expect 0 key list
        else
            [[ $out != *"master key '"* ]] || die "the keystore was acknowledged and is not there"
            rc=0
            tool master create --confirm test >"$OUT" 2>"$ERR" || rc=$?
            ((rc == 0 || rc == 3)) || die "master create after kill $i: $rc: $(<"$ERR")"
        fi
        expect 0 key create 1
        rm -f "$KEYRING"/keyring/*.new-*
    done
    enough "$inside"
}

reported "key create survives kill -9" kills_of_create
reported "key rotate survives kill -9" kills_of_rotate
reported "master create survives kill -9" kills_of_master_create
finish
