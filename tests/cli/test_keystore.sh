#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Master keys and keystores: made, adopted, damaged, foreign, and without room.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
cli_keyring store
STORE=$KEYRING/keyring/test.keystore
tool key create 1 >/dev/null

# The newest file that is in order: the token remembers which one that is.
save() { cp -p "$STORE" "$WORK/store.good"; }
restore() { cp -p "$WORK/store.good" "$STORE"; }
save

master_create() {
    token_up fresh
    cp -p "$KEYRING/pin" "$KEYRING/good-pin"
    expect 0 master create -n
    contains "$OUT" "would make a master key"
    refuses 1 "test.keystore" "master create" key create 1
    expect 0 master create --json
    is_json p11keyring.master.create/1
    equal "current aes-gcm true" \
        "$(json '.master_keys[0] | "\(.state) \(.mechanism) \(.in_token)"')" "master key"
    refuses 7 "exists already" "" master create
    expect 0 key create 1
}

# A lost keystore must not be taken for a fresh start.
others_are_told() {
    keyring_use fresh
    local second=$KEYRING/keyring/second.keystore
    refuses 7 "remembers a keystore of keyring 'test'" "--confirm test" \
        master create --keystore "$second"
    refuses 7 "remembers a keystore" "restore it from a backup" master create -n --keystore "$second"
    refuses 7 "was not confirmed" "--confirm test" master create --keystore "$second" --confirm tset
    expect 3 master create -n --keystore "$second" --confirm test
    expect 3 master create --keystore "$second" --confirm test
    contains "$ERR" "warning: the token holds 1 other master key"
    contains "$ERR" "restore it from a backup"
    rm "$second"
    refuses 6 "is not the keystore that token" "keyring accept" key list
    expect 0 keyring accept --confirm test
    expect 0 key list
}

master_list() {
    keyring_use fresh
    expect 0 master list --json
    is_json p11keyring.master.list/1
    equal "current,true not in the keystore,true" \
        "$(json '[.master_keys[] | "\(.state),\(.in_token)"] | join(" ")')" "master keys"
    mv "$KEYRING/keyring/test.keystore" "$KEYRING/away"
    expect 3 master list --json
    equal 2 "$(json '[.master_keys[] | select(.state == "not in the keystore")] | length')" "keys"
    mv "$KEYRING/away" "$KEYRING/keyring/test.keystore"
}

make_key() { # ID LABEL pkcs11-tool options...
    local id=$1 label=$2
    shift 2
    p11tool --keygen --key-type AES:32 --id "$id" --label "$label" "$@" >/dev/null 2>&1
}

adopt() {
    token_up adopt
    cp -p "$KEYRING/pin" "$KEYRING/good-pin"
    make_key 0a01 good --sensitive --private --usage-decrypt
    refuses 1 "" "" master adopt "pkcs11:object=nothing"
    expect 0 master adopt "pkcs11:object=good" -n
    contains "$OUT" "around the master key 'good'"
    expect 0 master adopt "pkcs11:object=good;type=secret-key" --json
    is_json p11keyring.master.adopt/1
    equal "0a01 good" "$(json '.master_keys[0] | "\(.id) \(.label)"')" "adopted key"
    expect 0 key create 1
    expect 0 key list
}

unsafe_masters() {
    token_up unsafe
    cp -p "$KEYRING/pin" "$KEYRING/good-pin"
    make_key 01 public --sensitive --usage-decrypt
    make_key 02 extractable --sensitive --private --extractable --usage-decrypt
    p11tool --keygen --key-type AES:16 --id 03 --label short --sensitive --private \
        --usage-decrypt >/dev/null 2>&1
    make_key 04 twin --sensitive --private --usage-decrypt
    make_key 05 twin --sensitive --private --usage-decrypt
    refuses 7 "CKA_PRIVATE" "--private" master adopt pkcs11:object=public
    refuses 7 "extractable" "" master adopt pkcs11:object=extractable
    refuses 7 "256" "" master adopt pkcs11:object=short
    refuses 7 "" "" master adopt pkcs11:object=twin
    refuses 7 "extractable" "" master adopt pkcs11:object=extractable -n
    [[ ! -e $KEYRING/keyring/test.keystore ]] || die "a keystore was made"
    expect 3 master list
    contains "$OUT" "extractable"
}

missing_keystore() {
    mv "$STORE" "$WORK/away"
    refuses 1 "$STORE" "master create" key list
    refuses 1 "$STORE" "backup" key create 5
    mv "$WORK/away" "$STORE"
}

# The end of the last page is of a random value: one byte less of it is nothing less when that is 0.
truncated() {
    local size
    size=$(stat -c %s "$STORE")
    for size in 0 100 4096 $((size - 4096)) $((size - 16)); do
        truncate -s "$size" "$STORE"
        refuses 6 "$STORE" "" key list
        refuses 6 "" "" key create 5
        restore
    done
    expect 0 key list
}

# A flipped bit may hit a field without meaning: then everything must be as before; else it is told.
flip() { # OFFSET
    local byte
    byte=$(od -An -tu1 -j "$1" -N 1 "$STORE")
    # shellcheck disable=SC2059 # the byte is the format
    printf "\\x$(printf %x $((byte ^ 1 << RANDOM % 8)))" |
        dd of="$STORE" bs=1 seek="$1" conv=notrunc status=none
}

used_offsets() { # of 60 random bytes that are not zero: most of the file is unused
    od -An -v -tu1 -w1 "$STORE" | awk '$1 != 0 {print NR - 1}' | shuf -n 60
}

flipped() {
    local offset told=0 before rc
    expect 0 key list --json
    before=$(<"$OUT")
    for offset in $(used_offsets); do
        flip "$offset"
        rc=0
        tool key list --json >"$OUT" 2>"$ERR" || rc=$?
        restore
        # A flip in the id of a master key leads to one that the token has not.
        case $rc in
        0) equal "$before" "$(<"$OUT")" "keys after a flip at $offset" ;;
        3) contains "$ERR" "the token has no key with id" ;;
        6) told=$((told + 1)) ;;
        *) die "a flip at $offset gives exit code $rc: $(<"$ERR")" ;;
        esac
    done
    ((told >= 30)) || die "only $told of 60 flips were told"
    echo "told: $told of 60"
}

edited_rows() { # SQL
    restore
    as_server sqlite3 "$STORE" "$1"
    ! cmp -s "$WORK/store.good" "$STORE" || die "the edit changed nothing"
    refuses 6 "" "" key list
    refuses 6 "" "" key create 5
}

edits() {
    tool key create 2 >/dev/null
    tool key disable 2 >/dev/null
    save
    edited_rows "DELETE FROM versions WHERE id = '2'"
    edited_rows "UPDATE versions SET cipher = 'aes-ctr'"
    edited_rows "UPDATE versions SET envelope =
        (SELECT envelope FROM versions o WHERE o.id <> versions.id)"
    edited_rows "UPDATE versions SET id = '3' WHERE id = '2'"
    edited_rows "UPDATE keys SET disabled = 0"
    edited_rows "UPDATE keys SET high_water = 7 WHERE id = '1'"
    edited_rows "PRAGMA user_version = 99"
    restore
    expect 0 key list
}

foreign() {
    sed 's/^name = .*/name = other/' "$P11KEYRING_CONF" >"$WORK/other.conf"
    chmod 644 "$WORK/other.conf"
    refuses 6 "other" "" key list --config "$WORK/other.conf"
    head -c 20000 /dev/urandom >"$WORK/noise"
    chmod 600 "$WORK/noise"
    own "$WORK/noise"
    refuses 6 "" "" key list --keystore "$WORK/noise"
}

small() { tool "$@" --config "$KEYRING/small.conf" --keystore "$KEYRING/small/test.keystore"; }

leave_free() { # KIB
    rm -f "$KEYRING/small/filler"
    cat /dev/zero >"$KEYRING/small/filler" 2>/dev/null || true
    truncate -s "-${1}K" "$KEYRING/small/filler"
}

# A write at every amount of free space: done, or an error that says why, and nothing in between.
disk_full() {
    local free id=0 refused=0
    sed 's/^name = .*/name = small/' "$P11KEYRING_CONF" >"$KEYRING/small.conf"
    chmod 644 "$KEYRING/small.conf"
    mkdir "$KEYRING/small"
    mount -t tmpfs -o size=256k,mode=700 tmpfs "$KEYRING/small"
    trap 'umount "$KEYRING/small"' EXIT
    own "$KEYRING/small"
    leave_free 12
    fails_with 1 small master create 2>"$ERR"
    grep -qE "No space left|full" "$ERR" || die "the reason is not told: $(<"$ERR")"
    equal "" "$(find "$KEYRING/small" -name 'test.keystore*' ! -name '*.pin-guard')" "leftovers"
    rm "$KEYRING/small/filler"
    small master create
    for free in 0 4 8 12 16 20 24 28 32; do
        leave_free "$free"
        if small key create $((id + 1)) 2>"$ERR"; then
            id=$((id + 1))
        else
            refused=$((refused + 1))
            grep -qE "No space left|full" "$ERR" || die "the reason is not told: $(<"$ERR")"
        fi
        rm "$KEYRING/small/filler"
        equal "$id" "$(small key list --json | jq '.keys | length')" "keys at $free KiB"
    done
    echo "refused at $refused of 9 sizes"
    ((refused >= 2 && id >= 1)) || die "$refused writes were refused, $id were done"
}

read_only_directory() {
    chmod 500 "$KEYRING/keyring"
    expect 0 key list
    refuses 1 "" "" key create 5
    refuses 1 "$KEYRING/keyring" "" master create --keystore "$KEYRING/keyring/new"
    refuses 1 "$KEYRING/keyring" "" master create --keystore "$KEYRING/keyring/new" -n
    expect 0 key list
    chmod 700 "$KEYRING/keyring"
    expect 0 key create 5
    restore
}

check "master create makes a keyring once" master_create
check "other master keys of this keyring are told" others_are_told
check "master keys of keystore and token are listed together" master_list
check "a master key made with pkcs11-tool is adopted" adopt
check "unsafe master keys are refused" unsafe_masters
keyring_use store
check "a missing keystore is an error that names backup and master create" missing_keystore
check "a truncated keystore is refused" truncated
check "a flipped bit is told or changes nothing" flipped
check "edited rows are told" edits
check "a foreign keystore is refused" foreign
check "a full disk changes nothing, and passes" disk_full
check "a read-only folder can be read from and not written to" read_only_directory
finish
