#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# inspect, verify and decrypt, as far as no server's files are needed for it: what is told of any
# file, exit codes, many files, interruption. tests/server and tests/mysql have the real files.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"

FILES=$WORK/data

# A folder with one of each kind that can be made here.
files_up() {
    mkdir -p "$FILES/sub"
    printf '1;%s\n2;%s\n' "$(random_hex 32)" "$(random_hex 16)" >"$FILES/keys.txt"
    cp "$KEYRING"/keyring/*.keystore "$FILES/copy.keystore"
    printf 'some text\n' >"$FILES/sub/readme"
    : >"$FILES/sub/empty"
    ln -s ../keys.txt "$FILES/sub/link"
    own "$FILES" "$FILES"/* "$FILES"/sub/*
}

inspect_tells_kinds() {
    cli_keyring files
    files_up
    local secret
    secret=$(sed -n 's/^1;//p' "$FILES/keys.txt")
    expect 3 inspect "$FILES"
    contains "$OUT" "4 files, "
    contains "$OUT" "1  MariaDB key file"
    contains "$OUT" "1  p11keyring keystore"
    contains "$OUT" "encrypted: 1 yes, 0 partly, 1 no, 2 not known"
    contains "$OUT" "2 keys in the clear, ids 1 to 2"
    contains "$OUT" "$FILES/sub/link: not looked at: a symbolic link"
    contains "$ERR" "1 paths were not looked at"
    lacks "$OUT" "readme"
    lacks "$OUT" "$secret"
    expect 3 inspect "$FILES" --verbose
    contains "$OUT" "readme"
    expect 3 inspect "$FILES" --json
    is_json p11keyring.inspect/1
    equal "keystore mariadb-key-file empty unknown" "$(json '[.files[].kind] | join(" ")')" "kinds"
    equal 1 "$(json '.skipped | length')" "skipped"
    lacks "$OUT" "$secret"
}

# What is asked for must be there; the rest needs no keyring.
inspect_without_a_keyring() {
    local P11KEYRING_CONF=$WORK/none.conf
    expect 1 inspect "$FILES/keys.txt" -c "$WORK/none.conf"
    contains "$ERR" "none.conf"
    expect 1 inspect "$FILES/missing"
    contains "$ERR" "cannot look at $FILES/missing"
    : >"$P11KEYRING_CONF"
    expect 0 inspect "$FILES/keys.txt"
    equal "" "$(<"$ERR")" "standard error"
}

verify_says_ok_of_nothing_unread() {
    expect 1 verify "$FILES"
    contains "$OUT" "4 files: 0 ok, 0 damaged, 2 not verified, 2 of no known kind"
    lacks "$OUT" "readme"
    contains "$OUT" "keys.txt: not verified: a file of this kind cannot be verified"
    expect 3 verify "$FILES/sub/readme"
    contains "$ERR" "1 files of no kind that is known were not verified (--verbose lists"
    expect 3 verify "$FILES/sub/readme" --verbose
    contains "$OUT" "readme: unknown: no file of a kind that is known"
    expect 0 verify "$FILES/sub/readme" --ignore-unknown
    expect 1 verify "$FILES/sub" --ignore-unknown
    contains "$ERR" "1 paths were not looked at"
    expect 1 verify "$FILES" --json
    is_json p11keyring.verify/1
    equal "not verified" "$(json '.files[] | select(.kind == "keystore") | .verdict')" "verdict"
}

# What may not be read is told, and never taken for read.
no_permission() {
    mkdir "$WORK/closed" "$WORK/closed/folder"
    printf '1;%s\n' "$(random_hex 16)" >"$WORK/closed/keys"
    own "$WORK/closed" "$WORK/closed/folder" "$WORK/closed/keys"
    chmod 0 "$WORK/closed/keys" "$WORK/closed/folder"
    expect 3 inspect "$WORK/closed" --json
    equal "cannot open $WORK/closed/keys: Permission denied" "$(json '.files[0].error')" "file"
    equal "$WORK/closed/folder cannot open it: Permission denied" \
        "$(json '.skipped[0] | "\(.path) \(.why)"')" "folder"
    expect 1 verify "$WORK/closed"
    contains "$OUT" "keys: not verified: cannot open"
    expect 3 usage "$WORK/closed" --json --ignore-unknown
    equal "2 false" "$(json '"\(.counts.silent_files) \(.complete)"')" "what could not be asked"
    chmod 700 "$WORK/closed/folder"
}

decrypt_refuses() {
    local before
    before=$(find "$FILES" -printf '%p %s\n' | sort | sha256sum)
    refuses 7 "keys.txt (MariaDB key file) cannot be decrypted" "" decrypt "$FILES/keys.txt" \
        -o "$FILES/clear"
    refuses 2 "is a folder: name its files" "" decrypt "$FILES" -o "$WORK"
    refuses 2 "several files need a folder to go to" "" decrypt "$FILES/keys.txt" \
        "$FILES/sub/readme"
    refuses 2 "several files need a folder to go to" "" decrypt "$FILES/keys.txt" \
        "$FILES/sub/readme" -o "$FILES/clear"
    expect 2 decrypt "$FILES/keys.txt" --json
    contains "$ERR" "--json needs an output of its own"
    expect 7 decrypt "$FILES/keys.txt" "$FILES/sub/readme" -o "$FILES/sub"
    equal 2 "$(grep -c '^p11keyring: error: ' "$ERR")" "errors"
    equal "$before" "$(find "$FILES" -printf '%p %s\n' | sort | sha256sum)" "the folder"
}

# A hundred thousand files, each looked at once: seconds, not minutes, and nothing is left out.
many_files() {
    local folder=$WORK/many
    mkdir "$folder"
    (cd "$folder" && seq -f 'table_%06.0f.frm' 100000 | xargs touch)
    printf '1;%s\n' "$(random_hex 16)" >"$folder/last.keys"
    own "$folder" "$folder/last.keys"
    expect 0 inspect "$folder" --json
    equal "100001 1 true" "$(json '"\(.files | length) \(.counts.kinds["MariaDB key file"]) \(
        [.files[].path] | . == sort)"')" "files, key files, sorted"
    (cd "$folder" && find . -name '*.frm' -delete)
}

threads() {
    refuses 2 "--threads is a number from 1 to 64" "" inspect "$FILES" --threads=0
    refuses 2 "--threads is a number from 1 to 64" "" inspect "$FILES" --threads=65
    refuses 2 "--threads is a number from 1 to 64" "" inspect "$FILES" --threads=1x
    expect 3 inspect "$FILES" --threads=1
}

key_destroy_wants_evidence() {
    keyring_use use
    tool key create 7 >/dev/null
    tool key rotate 7 >/dev/null
    mkdir -p "$WORK/backup"
    printf '1;%s\n' "$(random_hex 16)" >"$WORK/backup/keys.txt"
    own "$WORK/backup" "$WORK/backup/keys.txt"
    sed -i "s|^data-directories.*|data-directories = $WORK/backup|" "$P11KEYRING_CONF"
    evidence fresh
    refuses 7 "nothing shows that no file or backup needs this key" "--evidence" key destroy 7:1 \
        --confirm 7:1
    refuses 7 "was not confirmed" "--confirm 7:1" key destroy 7:1 --evidence "$KEYRING/fresh"
    refuses 7 "version 3 is the latest of key 7" "key rotate 7" key destroy 7:3 \
        --evidence "$KEYRING/fresh" --confirm 7:3
    refuses 1 "key 7 has no version 2" "" key destroy 7:2 --without-evidence --confirm 7:2
    refuses 1 "there is no secret 'INNODBKey-x-1'" "" key destroy INNODBKey-x-1 --without-evidence
    refuses 2 "name the version, too" "" key destroy 7
    refuses 2 "a key id is a number" "" key destroy 7:x
    expect 0 key destroy 7:1 -n
    contains "$OUT" "would destroy key '7:1'"
    expect 0 key destroy 7:1 --evidence "$KEYRING/fresh" --confirm 7:1 --json
    is_json p11keyring.key.destroy/1
    expect 0 key show 7 --json
    equal "true 3" "$(json '"\(.verified) \([.key_versions[].version] | join(" "))"')" "versions"
    refuses 1 "key 7 has no version 1" "" key destroy 7:1 --without-evidence --confirm 7:1
    tool key rotate 7 >/dev/null
    expect 0 key show 7 --json
    equal "3 5" "$(json '[.key_versions[].version] | join(" ")')" "versions"
}

put() { # FILE OFFSET BYTES VALUE: big-endian
    local hex i
    printf -v hex "%0$((2 * $3))x" "$4"
    for ((i = 0; i < ${#hex}; i += 2)); do printf '%b' "\\x${hex:i:2}"; done |
        dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

crc32c() { # FILE BYTES
    local -a table=()
    local n c byte
    for n in {0..255}; do
        c=$n
        for _ in {1..8}; do c=$(((c & 1) ? (c >> 1) ^ 0x82f63b78 : c >> 1)); done
        table[n]=$c
    done
    c=$((0xffffffff))
    for byte in $(od -An -v -tu1 -N "$2" "$1"); do c=$((table[(c ^ byte) & 255] ^ (c >> 8))); done
    echo $((c ^ 0xffffffff))
}

redo_head() { # FILE FORMAT CREATOR
    truncate -s 4096 "$1"
    put "$1" 0 4 "$2"
    printf '%s' "$3" | dd of="$1" bs=1 seek=16 conv=notrunc status=none
    put "$1" 508 4 "$(crc32c "$1" 508)"
}

# They are told by name, and what is not looked into is never called right.
old_redo_logs_are_named() {
    mkdir -p "$WORK/redo"/{my,ma104,ma106}
    redo_head "$WORK/redo/my/ib_logfile0" 4 "MySQL 8.0.28"
    redo_head "$WORK/redo/ma104/ib_logfile0" 103 "MariaDB 10.4.30"
    redo_head "$WORK/redo/ma106/ib_logfile0" $((0xd0485953)) "MariaDB 10.6.18"
    own "$WORK/redo"
    expect 3 inspect "$WORK/redo" --json
    equal "before 10.8, by MariaDB 10.4.30 no
before 10.8, by MariaDB 10.6.18 yes
format 4 (before MySQL 8.0.30), MySQL 8.0.28, from LSN 0 no" \
        "$(json '.files[] | .format + " " + .encrypted')" "formats"
    expect 1 verify "$WORK/redo/ma106"
    contains "$OUT" "redo logs from before MariaDB 10.8 are not looked into"
}

# A tablespace of MariaDB, full_crc32 and under key 1, with many empty pages that are all looked at:
# docs/FORMAT.md, "Files of MariaDB". It takes minutes to read and no room on the disk.
large_tablespace() { # FILE
    truncate -s 256G "$1"
    put "$1" 24 2 8
    put "$1" 34 4 7
    put "$1" 38 4 7
    put "$1" 46 4 $((256 << 16))
    put "$1" 54 4 $((0x15))
    put "$1" 10428 6 $((0x730e0c524574))
    put "$1" 10434 1 1
    put "$1" 10435 1 16
    put "$1" 10452 4 1
    put "$1" 10456 4 1
    put "$1" 16380 4 "$(crc32c "$1" 16380)"
}

has_told_progress() { grep -q '"schema": "p11keyring.progress/1".*"seconds_left"' "$ERR"; }

interrupt() { # ARGUMENT...: a signal after the first word of progress
    background "${AS_SERVER[@]}" "$WORK/bin/p11keyring" "$@" --progress=json >"$OUT" 2>"$ERR"
    eventually 30 has_told_progress
    kill "-${SIGNAL:-TERM}" "$background_pid"
    fails_with "${EXIT:-8}" wait "$background_pid"
}

interrupted() {
    mkdir "$WORK/large" "$WORK/empty"
    large_tablespace "$WORK/large/t.ibd"
    own "$WORK/large" "$WORK/large/t.ibd" "$WORK/empty"
    interrupt inspect "$WORK/large"
    contains "$ERR" "interrupted: not every file was looked at"
    interrupt verify "$WORK/large"
    contains "$OUT" "0 ok, 0 damaged, 1 not verified"
    interrupt usage "$WORK/large" -o "$WORK/empty/evidence"
    interrupt decrypt "$WORK/large/t.ibd" -o "$WORK/empty/clear"
    contains "$ERR" "interrupted: no part of a file was left behind"
    SIGNAL=KILL EXIT=137 interrupt decrypt "$WORK/large/t.ibd" -o "$WORK/empty/clear"
    equal "" "$(ls -A "$WORK/empty")" "what was left behind"
}

check "inspect tells what files are, and prints no key" inspect_tells_kinds
check "inspect works without a keyring" inspect_without_a_keyring
check "verify says ok of nothing that it did not read" verify_says_ok_of_nothing_unread
check "files and folders without permission are told" no_permission
check "decrypt refuses what it cannot do, and leaves nothing behind" decrypt_refuses
check "a hundred thousand files in one folder" many_files
# A backup of the keystore from before a rotation needs the old master key.
usage_tells_what_is_needed() {
    cli_keyring use
    tool key create 1 >/dev/null
    mkdir "$WORK/backup"
    cp "$KEYRING"/keyring/*.keystore "$WORK/backup/old.keystore"
    : >"$WORK/backup/empty"
    own "$WORK/backup" "$WORK/backup"/*
    tool master rotate >/dev/null
    expect 0 usage "$WORK/backup"
    contains "$OUT" "2 files, 0 of them not asked as a whole, 0 of no known kind"
    contains "$OUT" "3 keys, 1 of them needed, 0 needed and missing"
    expect 0 usage "$WORK/backup" --json
    is_json p11keyring.usage/1
    equal "in use,in use,yes" "$(json '[.keys[] | .needed] | sort | join(",")')" "needed"
    tool key rotate 1 >/dev/null
    expect 0 usage "$WORK/backup" --json
    equal no "$(json '.keys[] | select(.key == "1" and .version == 1) | .needed')" "an old version"
    equal yes "$(json '.keys[] | select(.key == "p11keyring:test:1") | .needed')" "the old key"
    cp "$FILES/sub/readme" "$WORK/backup/archive.tar"
    own "$WORK/backup/archive.tar"
    expect 3 usage "$WORK/backup" --json
    equal unknown "$(json '.keys[] | select(.key == "1" and .version == 1) | .needed')" \
        "a key that may be needed"
    contains "$ERR" "1 files are of no known kind, the first is $WORK/backup/archive.tar"
    expect 0 usage "$WORK/backup" --ignore-unknown
}

retire_with() { # EVIDENCE: the old master key
    tool master retire p11keyring:test:1 --confirm p11keyring:test:1 --evidence "$1"
}

refuses_evidence() { # EXIT-CODE TEXT EVIDENCE
    refuses "$1" "$2" "" master retire p11keyring:test:1 --confirm p11keyring:test:1 --evidence "$3"
}

evidence() { # NAME [ARGUMENT...]: of the backup
    local name=$1
    shift
    expect "${EXIT:-0}" usage "${@:-$WORK/backup}" -o "$KEYRING/$name"
}

master_retire_wants_evidence() {
    keyring_use use
    EXIT=3 evidence unknown
    rm "$WORK/backup/archive.tar"
    evidence needed
    refuses_evidence 7 "no data directories are configured" "$KEYRING/needed"
    sed -i "s|^\[keyring\]|&\ndata-directories = $WORK/backup:$KEYRING|" "$P11KEYRING_CONF"
    refuses_evidence 7 "it is not about $KEYRING" "$KEYRING/needed"
    sed -i "s|^data-directories.*|data-directories = $WORK/backup|" "$P11KEYRING_CONF"
    refuses_evidence 7 "some files could not be asked" "$KEYRING/unknown"
    refuses_evidence 7 "1 files still need this key" "$KEYRING/needed"
    refuses 2 "exclude each other" "" master retire p11keyring:test:1 --without-evidence \
        --evidence "$KEYRING/needed"
    rm "$WORK/backup/old.keystore"
    evidence part "$WORK/backup/empty"
    refuses_evidence 7 "it is not about $WORK/backup" "$KEYRING/part"
    evidence good
    refuses 7 "$KEYRING/good exists already" "" usage "$WORK/backup" -o "$KEYRING/good"
    sed 's/"files": 1/"files": 2/' "$KEYRING/good" >"$KEYRING/edited"
    jq '.evidence.written -= 90000' "$KEYRING/good" >"$KEYRING/aged"
    echo '{}' >"$KEYRING/none"
    own "$KEYRING/edited" "$KEYRING/aged" "$KEYRING/none"
    refuses_evidence 6 "was changed, or is of another keyring" "$KEYRING/edited"
    refuses_evidence 6 "was changed, or is of another keyring" "$KEYRING/aged"
    refuses_evidence 7 "it is no evidence of use" "$KEYRING/none"
    refuses_evidence 1 "cannot open" "$KEYRING/missing"
    retire_with "$KEYRING/good" >/dev/null
    equal 1 "$(tool master list --json | jq '.master_keys | length')" "master keys"
}

check "the number of threads is checked" threads
check "usage tells which keys are needed, and when that is not known" usage_tells_what_is_needed
check "master retire takes complete evidence alone" master_retire_wants_evidence
check "redo logs of old servers are named" old_redo_logs_are_named
check "an interruption is told, and leaves nothing behind" interrupted
check "key destroy ends old versions alone, with evidence" key_destroy_wants_evidence
finish
