#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# migrate that is killed, interrupted, finds a full disk or a failing token: the destination is as it
# was, or has all keys; the source is never changed. P11K_KILLS is the number of kills, P11K_KEYS how
# many keys are copied with a millisecond for each call of the token.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
# shellcheck source=tests/cli/kills.sh
source "$(dirname "$0")/kills.sh"
KILLS=${P11K_KILLS:-8}
KEYS=${P11K_KEYS:-300}
FILES=$WORK/files
EACH=60 # keys that are copied at once

key_file() { # FILE FIRST COUNT
    local id
    random_hex $((32 * $3)) | fold -w 64 >"$WORK/digits"
    for ((id = $2; id < $2 + $3; id++)); do echo "$id"; done | paste -d ';' - "$WORK/digits" >"$1"
    chmod 600 "$1"
    own "$1"
}

component_file() { # FILE FIRST COUNT
    key_file "$1.lines" "$2" "$3"
    jq -Rnc '{version: "1.0", elements: [inputs | split(";") | {user: "", data_id: "key \(.[0])",
        data_type: "AES", data: .[1] | ascii_upcase, extension: []}]}' "$1.lines" >"$1"
    chmod 600 "$1"
    own "$1"
}

digest() { sha256sum <"$1"; }

keys_of_ours() { tool key list --json | jq '.keys | length'; }

# --- kills -----------------------------------------------------------------------------------------

kills_of_ours() {
    local i=0 us out inside=0 before now source
    keyring_up kills
    FOLDER=$KEYRING/keyring
    for i in 1 2 3 4 5; do key_file "$FILES/$i" $((100000000 * i)) "$EACH"; done
    us=$(window migrate --from "file-key-management:$FILES/%" --to p11keyring)
    before=$(keys_of_ours)
    equal $((5 * EACH)) "$before" "keys"
    while ((inside < KILLS)); do
        next_kill
        key_file "$FILES/keys" $((1000 * i)) "$EACH"
        source=$(digest "$FILES/keys")
        out=$(kill_in "$us" migrate --from "file-key-management:$FILES/keys" --to p11keyring)
        count_kill "$out"
        now=$(keys_of_ours)
        ((now == before || now == before + EACH)) || die "$((now - before)) keys after kill $i"
        [[ $out != *copied* || $now != "$before" ]] || die "the copy was acknowledged and is gone"
        equal "$source" "$(digest "$FILES/keys")" "source"
        [[ $now != "$before" ]] ||
            expect 0 migrate --from "file-key-management:$FILES/keys" --to p11keyring
        before=$((before + EACH))
        equal "$before" "$(keys_of_ours)" "keys after the next command"
    done
    echo "kills $i, inside the write window $inside"
}

next_kill() { ((++i <= 20 * KILLS)) || die "only $inside of $i kills fell inside the write window"; }

# A new file, and one that has keys.
kills_of_files() {
    local i=0 us out inside=0 before
    FOLDER=$FILES/out
    as_server mkdir -p "$FOLDER"
    component_file "$FILES/source" 1 "$EACH"
    component_file "$FILES/others" 1000 "$EACH"
    local copy=(migrate --from "component-keyring-file:$FILES/source" --allow-keys-in-the-clear
        --to "component-keyring-file:$FOLDER/keys")
    us=$(for _ in 1 2 3 4 5; do
        rm -f "$FOLDER/keys"
        kill_in 0 "${copy[@]}" | tail -1
    done | sort -n | sed -n 3p)
    while ((inside < KILLS)); do
        next_kill
        rm -f "$FOLDER/keys"
        ((i % 2)) || cp -p "$FILES/others" "$FOLDER/keys"
        before=$(digest "$FOLDER/keys" 2>/dev/null || echo none)
        out=$(kill_in "$us" "${copy[@]}")
        count_kill "$out"
        if [[ $(digest "$FOLDER/keys" 2>/dev/null || echo none) == "$before" ]]; then
            [[ $out != *copied* ]] || die "the copy was acknowledged and is gone"
            expect 3 "${copy[@]}"
        fi
        equal $((i % 2 ? EACH : 2 * EACH)) "$(jq '.elements | length' "$FOLDER/keys")" "keys"
        equal keys "$(ls "$FOLDER")" "files"
    done
    echo "kills $i, inside the write window $inside"
}

# Master keys of a server become keys of the token: none is left there without its row. A hit is a
# run that was killed after it began to write.
master_keys() { # FILE FIRST
    component_file "$1" "$2" 5
    sed -i "s/key \([0-9]*\)/INNODBKey-5e0a3d9c-31a0-11ef-9b0e-0242ac120002-\1/g" "$1"
}

in_the_token() {
    P11K_TEST_PIN=$(<"$KEYRING/pin") as_server pkcs11-tool --module "$SOFTHSM_MODULE" --login \
        --token-label "$(basename "$KEYRING")" --pin env:P11K_TEST_PIN --list-objects --type secrkey \
        2>/dev/null | grep -c INNODBKey- || true
}

in_the_keystore() {
    sqlite3 "$KEYRING/keyring/test.keystore" \
        "SELECT COUNT(*) FROM versions WHERE namespace = 'mysql' AND id LIKE 'INNODBKey-%'"
}

kills_in_token_mode() {
    local i=0 us out hits=0 before now source=$FILES/masters
    keyring_up resident
    FOLDER=$KEYRING/keyring
    master_keys "$source" 1
    us=$((3 * $(kill_in 0 migrate --from "component-keyring-file:$source" --to p11keyring | tail -1)))
    before=$(in_the_keystore)
    equal "5 5" "$before $(in_the_token)" "master keys in keystore and token"
    while ((hits < (KILLS + 3) / 4)); do # each run makes an RSA key pair in the token
        ((++i <= 20 * KILLS)) || die "only $hits of $i kills fell into the write"
        master_keys "$source" $((1000 * i))
        out=$(kill_in "$us" migrate --from "component-keyring-file:$source" --to p11keyring)
        now=$(in_the_keystore)
        ((now == before || now == before + 5)) || die "$((now - before)) keys after kill $i"
        if [[ $out == *finished ]]; then
            us=$((us * 7 / 10 + 2))
        else
            hits=$((hits + 1))
            us=$((us * 115 / 100 + 2))
        fi
        [[ $now != "$before" ]] ||
            expect 0 migrate --from "component-keyring-file:$source" --to p11keyring
        before=$((before + 5))
        equal "$before $before" "$(in_the_keystore) $(in_the_token)" "master keys after kill $i"
    done
    echo "kills $i, inside the write $hits"
}

# --- full disks ------------------------------------------------------------------------------------

leave_free() { # KIB
    rm -f "$FILES/small/filler"
    cat /dev/zero >"$FILES/small/filler" 2>/dev/null || true
    truncate -s "-${1}K" "$FILES/small/filler"
}

small_disk() { # SIZE
    mkdir "$FILES/small"
    mount -t tmpfs -o "size=$1,mode=700" tmpfs "$FILES/small"
    trap 'umount "$FILES/small" && rmdir "$FILES/small"' EXIT
    own "$FILES/small"
}

# A copy at every amount of free space: all keys, or an error that says why and none.
disk_full_ours() {
    local free done=0 refused=0 id=1
    keyring_use kills
    small_disk 512k
    sed "s/^name = .*/name = small/; s|^keystore = .*|keystore = $FILES/small/keystore|" \
        "$P11KEYRING_CONF" >"$KEYRING/small.conf"
    own "$KEYRING/small.conf"
    export P11KEYRING_CONF=$KEYRING/small.conf
    tool master create >/dev/null
    for free in 0 4 8 12 16 24 32 48 64 96 128 192; do
        key_file "$FILES/keys" "$id" "$EACH"
        leave_free "$free"
        if tool migrate --from "file-key-management:$FILES/keys" --to p11keyring 2>"$ERR"; then
            done=$((done + 1))
        else
            refused=$((refused + 1))
            grep -qE "No space left|full" "$ERR" || die "the reason is not told: $(<"$ERR")"
        fi
        rm "$FILES/small/filler"
        equal $((done * EACH)) "$(keys_of_ours)" "keys at $free KiB"
        id=$((id + EACH))
    done
    ((refused >= 2 && done >= 1)) || die "$refused copies were refused, $done were done"
}

disk_full_files() {
    local free done=0 refused=0 before rc
    small_disk 64k
    component_file "$FILES/source" 1 "$EACH"
    for free in 0 4 8 12 16 20 24; do
        component_file "$FILES/others" 1000 5
        cp -p "$FILES/others" "$FILES/small/keys"
        before=$(digest "$FILES/small/keys")
        leave_free "$free"
        rc=0
        tool migrate --from "component-keyring-file:$FILES/source" --allow-keys-in-the-clear \
            --to "component-keyring-file:$FILES/small/keys" 2>"$ERR" || rc=$?
        rm "$FILES/small/filler"
        equal keys "$(ls "$FILES/small")" "files at $free KiB"
        if ((rc == 3)); then
            done=$((done + 1))
            equal $((EACH + 5)) "$(jq '.elements | length' "$FILES/small/keys")" "keys"
        else
            refused=$((refused + 1))
            contains "$ERR" "No space left"
            equal "$before" "$(digest "$FILES/small/keys")" "destination"
        fi
    done
    ((refused >= 2 && done >= 1)) || die "$refused copies were refused, $done were done"
}

# --- the token -------------------------------------------------------------------------------------

# A call that fails in the midst of it.
failing_token() {
    local before from
    key_file "$FILES/keys" 2 "$EACH"
    before=$(keyring_digest)
    for from in 3 20 50; do
        mock_rules "fail C_Encrypt 0x30 $from"
        expect 4 migrate --from "file-key-management:$FILES/keys" --to p11keyring
        equal "$before" "$(keyring_digest)" "keyring folder"
    done
    mock_rules "flip C_Decrypt $((EACH + 20)) 1"
    tool migrate --from "file-key-management:$FILES/keys" --to p11keyring 2>"$ERR" &&
        die "a bit was turned and nobody saw it"
    equal "$before" "$(keyring_digest)" "keyring folder"
    mock_rules ""
    expect 0 migrate --from "file-key-management:$FILES/keys" --to p11keyring
}

interrupted() {
    local before rc=0
    key_file "$FILES/keys" 1000 "$EACH"
    sed -i 's/^timeout = .*/timeout = 20000/' "$P11KEYRING_CONF"
    before=$(keyring_digest)
    mock_rules "delay C_Encrypt 2000" # eight at a time: some 15 seconds
    (exec "${AS_SERVER[@]}" "$WORK/bin/p11keyring" migrate --progress=json --to p11keyring \
        --from "file-key-management:$FILES/keys" >"$OUT" 2>"$ERR") &
    eventually 20 grep -q '"unit": "keys"' "$ERR"
    kill -TERM $!
    wait $! || rc=$?
    mock_rules ""
    equal 8 "$rc" "exit code: $(<"$ERR")"
    contains "$ERR" "no key was added"
    equal "$before" "$(keyring_digest)" "keyring folder"
}

# The keys of a large keyring, over a network.
many_keys() {
    local start=$EPOCHREALTIME
    component_file "$FILES/many" 1 "$KEYS"
    mock_rules "delay * 1"
    expect 0 migrate --from "component-keyring-file:$FILES/many" --to p11keyring
    expect 3 migrate --from p11keyring --to "component-keyring-file:$FILES/many.out" \
        --allow-keys-in-the-clear
    mock_rules ""
    equal "$(jq -cS '.elements | sort_by(.data_id)' "$FILES/many")" \
        "$(jq -cS '.elements | sort_by(.data_id)' "$FILES/many.out")" "keys"
    echo "$KEYS keys, $start to $EPOCHREALTIME"
}

mkdir "$FILES"
chmod 700 "$FILES"
own "$FILES"
reported "migrate to ours survives kill -9" kills_of_ours
reported "migrate of master keys into the token survives kill -9" kills_in_token_mode
reported "migrate to a file survives kill -9" kills_of_files
check "a full disk leaves a keyring of ours as it was" disk_full_ours
check "a full disk leaves a file as it was" disk_full_files
mock_keyring mock
check "a token that fails leaves the keyring as it was" failing_token
check "an interruption leaves the keyring as it was" interrupted
mock_token_up network
tool master create >/dev/null
check "many keys are copied over a network and back" many_keys
finish
