#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# backup create, verify, restore: copies of a data directory, cold and by CLONE, go from server A with
# token A to server B with token B by way of a bundle. No process ever sees both tokens.
# shellcheck source=tests/lib/mysql_copies.sh
source "$(dirname "$0")/../lib/mysql_copies.sh"

# shellcheck disable=SC2034 # for server_to_copy
ROWS=${P11K_ROWS:-600}
KILLS=${P11K_KILLS:-1}
((KILLS <= 100)) || KILLS=100
PASSWORD=$WORK/password

new_password() { # FILE
    random_hex 16 >"$1"
    own "$1"
    chmod 600 "$1"
}

backup() { # VERB ARGUMENT...
    tool backup "$1" --password-source "file:$PASSWORD" "${@:2}"
}

server_a() {
    server_to_copy a
    cp "$WORK/a/data/binlog.000002" "$WORK/a/old-binlog.000002"
    sql a "ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    own "$WORK"
    sql a "CLONE LOCAL DATA DIRECTORY = '$WORK/clone'"
    checksums a >"$WORK/sums"
    server_stop a
    cp -a "$WORK/a/data" "$WORK/cold"
    rm "$WORK/cold/auto.cnf" # the copy is to be another server
    new_password "$PASSWORD"
    mkdir "$WORK/bundles"
    own "$WORK/bundles"
}

bundles_are_made() {
    backup create --ignore-unknown "$WORK/cold" -o "$WORK/bundles/cold" --json >"$WORK/made.json"
    if [[ $KIND == token ]]; then
        [[ $(jq .file_keys "$WORK/made.json") -ge 9 ]] || die "hardly any file has its key there"
    else
        equal 0 "$(jq .file_keys "$WORK/made.json")" "keys of single files"
        [[ $(jq .secrets "$WORK/made.json") -ge 3 ]] || die "hardly any secret"
    fi
    backup create --ignore-unknown "$WORK/clone" -o "$WORK/bundles/clone" >/dev/null
    find_nothing_in_the_clear
}

# Neither password nor key: the keys of the wrapped kind are known to the server's SQL alone, so it is
# the password that is searched for, and in files where it must not be.
find_nothing_in_the_clear() {
    grep -qF "$(<"$PASSWORD")" "$PASSWORD" || die "the search finds nothing"
    ! grep -rqF "$(<"$PASSWORD")" "$WORK/bundles" "$WORK/a.keyring/keyring" || die "a password"
}

# Token A is out of reach, and there is no configuration at all.
verified_with_the_bundle_alone() {
    token_away
    P11KEYRING_CONF=$WORK/none backup verify "$WORK/bundles/cold" "$WORK/cold" --ignore-unknown \
        --json >"$WORK/verified.json" || true
    equal 0 "$(jq '[.files[] | select(.verdict == "damaged")] | length' "$WORK/verified.json")" \
        "damaged files"
    equal "" "$(jq -r '.files[] | select(.verdict == "skipped") | .path' "$WORK/verified.json" |
        grep -v 'dblwr$' || true)" "files that were not verified"
    [[ $(jq '[.files[] | select(.verdict == "ok")] | length' "$WORK/verified.json") -ge 12 ]] ||
        die "hardly any file was verified"
    token_back
}

# --- what must fail ---------------------------------------------------------------------------------

wrong_passwords() {
    sha256sum "$WORK/bundles/cold" >"$WORK/before"
    new_password "$WORK/wrong"
    (PASSWORD=$WORK/wrong fails_with 5 backup verify "$WORK/bundles/cold" "$WORK/cold")
    cp "$PASSWORD" "$WORK/open"
    own "$WORK/open"
    chmod 644 "$WORK/open"
    (PASSWORD=$WORK/open fails_with 1 backup verify "$WORK/bundles/cold" "$WORK/cold")
    sha256sum --quiet -c "$WORK/before"
}

# Of a table whose master key is in no keyring, and of a log that was sealed before a rotation: the
# server has removed that key.
unreadable_files() {
    keyring_use a.keyring
    mkdir "$WORK/gone"
    cp "$WORK/cold/t/one.ibd" "$WORK/gone/"
    cp "$WORK/a/old-binlog.000002" "$WORK/gone/"
    own "$WORK/gone"
    fails_with 1 backup create "$WORK/gone" -o "$WORK/bundles/gone" 2>"$WORK/out" || {
        cat "$WORK/out"
        die "another exit code"
    }
    contains "$WORK/out" "MySQLReplicationKey_$(<"$WORK/a/uuid")_1"
    rm "$WORK/gone/old-binlog.000002"
    printf '\x00\x00\x00\x63' | dd of="$WORK/gone/one.ibd" bs=1 seek=10393 conv=notrunc status=none
    fails_with 1 backup create "$WORK/gone" -o "$WORK/bundles/gone" 2>"$WORK/out" || {
        cat "$WORK/out"
        die "another exit code"
    }
    contains "$WORK/out" "INNODBKey-$(<"$WORK/a/uuid")-99"
    [[ ! -e $WORK/bundles/gone ]] || die "a bundle was made all the same"
    keyring_use b.keyring
}

# --- server B ---------------------------------------------------------------------------------------

server_b() {
    token_up b.keyring
    server_new b
    server_options b "log-bin = binlog"
    server_component b "$KIND"
}

digests() { (cd "$WORK/b/data" && sha256sum t/*.ibd ./*.ibd); }

a_foreign_bundle_writes_nothing() {
    put_copy b "$WORK/cold"
    mkdir "$WORK/few"
    cp -a "$WORK/cold/t/zipped.ibd" "$WORK/few/"
    own "$WORK/few"
    keyring_use a.keyring
    backup create "$WORK/few" -o "$WORK/bundles/few" >/dev/null
    keyring_use b.keyring
    tool master create >/dev/null
    digests >"$WORK/before"
    ! backup restore "$WORK/bundles/few" "$WORK/b/data" --generate-new-master-key \
        >"$WORK/out" 2>&1 || die "restored without the keys"
    fails_with 1 backup restore "$WORK/bundles/cold" "$WORK/b/data" >"$WORK/out" 2>&1
    contains "$WORK/out" "--generate-new-master-key"
    equal "$(<"$WORK/before")" "$(digests)" "files after a refusal"
    [[ ! -e $WORK/b/data/auto.cnf ]] || die "the directory has a server"
}

# Into a keyring of its own, under the names that they have.
wrapped_master_keys_come_along() {
    keyring_up c.keyring
    server_component b wrapped
    put_copy b "$WORK/cold"
    digests >"$WORK/before"
    backup restore "$WORK/bundles/cold" "$WORK/b/data" --json >"$WORK/restored.json"
    equal null "$(jq .mysql "$WORK/restored.json")" "files that were sealed anew"
    [[ $(jq .restored "$WORK/restored.json") -ge 3 ]] || die "hardly any key was restored"
    equal "$(<"$WORK/before")" "$(digests)" "files"
    server_start b
    same_checksums b "$WORK/sums"
    logs_are_read b
    server_stop b
}

restored() { # BUNDLE
    backup restore "$WORK/bundles/$1" "$WORK/b/data" --generate-new-master-key --json \
        >"$WORK/restored.json"
    [[ $(jq .mysql.resealed "$WORK/restored.json") -ge $2 ]] || die "hardly any file"
    tool inspect --json "$WORK/b/data" >"$WORK/inspected" || (($? == 3))
    equal 0 "$(jq -r '.files[].needs[].key' "$WORK/inspected" | grep -c "$(<"$WORK/a/uuid")")" \
        "files that need a key of server A"
}

the_cold_copy_lives_at_b() {
    put_copy b "$WORK/cold"
    restored cold 9
    server_start b
    same_checksums b "$WORK/sums"
    logs_are_read b
    [[ $(sql b "SELECT @@server_uuid") != "$(<"$WORK/a/uuid")" ]] || die "it is the same server"
    sql b "UPDATE t.one SET n = n + 1; ALTER INSTANCE ROTATE INNODB MASTER KEY;
        ALTER INSTANCE ROTATE BINLOG MASTER KEY; CREATE TABLE t.new AS SELECT * FROM t.later"
    checksums b >"$WORK/b/sums"
    server_kill b
    server_start b
    same_checksums b "$WORK/b/sums"
    logs_are_read b
    equal 0 "$(keyring_ids b | grep -c "$(<"$WORK/a/uuid")")" "keys of server A at B"
    ! grep -q "MY-013\(469\|473\|474\)" "$(server_log b)" || die "a warning of binary log keys"
    server_stop b
}

the_clone_lives_at_b() {
    put_copy b "$WORK/clone"
    restored clone 6
    server_start b
    same_checksums b "$WORK/sums"
    sql b "ALTER INSTANCE ROTATE INNODB MASTER KEY; SET PERSIST binlog_encryption = ON"
    server_stop b
    server_start b
    same_checksums b "$WORK/sums"
    server_stop b
}

# --- kills ------------------------------------------------------------------------------------------

# shellcheck disable=SC2120 # what runs it, if anything
restore_b() {
    as_server "$@" "$WORK/bin/p11keyring" backup restore --password-source "file:$PASSWORD" \
        "$WORK/bundles/cold" "$WORK/b/data" --generate-new-master-key >"$WORK/out" 2>&1
}

# After it the same command completes, and all files open with keyring B alone.
completed_after() { # WHEN
    # shellcheck disable=SC2119
    restore_b || die "$1, and the same again: $(<"$WORK/out")"
    equal "" "$(find "$WORK/b/data" -name '*p11keyring*')" "what was left after $1"
    tool verify --ignore-unknown "$WORK/b/data/t" "$WORK/b/data"/{mysql,general}.ibd \
        "$WORK/b/data"/binlog.0* "$WORK/b/data/undo_001" >"$WORK/out" || die "$1: $(<"$WORK/out")"
}

run_ms() { # COMMAND...; leaves how long it took in $ms, and its exit code in $rc
    local start=$EPOCHREALTIME
    rc=0
    "$@" || rc=$?
    ms=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
}

# At a call that writes, with a full disk, and at any moment within the time of the last whole run.
killed_at_any_moment() {
    local ms rc whole what n hits=0 tries
    put_copy b "$WORK/cold"
    run_ms restore_b
    equal 0 "$rc" "exit code of the run that is measured"
    whole=$ms
    for what in signal=KILL error=ENOSPC; do
        put_copy b "$WORK/cold"
        run_ms restore_b strace -f -o /dev/null -e trace=/pwrite \
            -e inject=/pwrite:"$what":when=$((4 + RANDOM % 20))
        [[ $rc -ne 0 ]] || die "it went well with $what at a write"
        completed_after "$what at a write"
    done
    for ((tries = 0; hits < KILLS; tries++)); do
        ((tries < 40 * KILLS)) || die "only $hits kills hit in $tries tries"
        put_copy b "$WORK/cold"
        n=$((whole * (RANDOM % 1000) / 1000 + 1))
        keep_softhsm
        run_ms restore_b timeout -s KILL "$((n / 1000)).$(printf '%03d' $((n % 1000)))"
        put_softhsm_right
        if ((rc == 0)); then
            whole=$ms
        else
            hits=$((hits + 1))
            completed_after "killed after $n of $whole ms"
        fi
    done
    echo "$hits kills in $tries tries"
}

for KIND in $KINDS; do
    check "$KIND: server A, a cold copy and a clone of it" server_a
    check "$KIND: a bundle of the keys that each copy needs" bundles_are_made
    check "$KIND: every file opens with the bundle alone" verified_with_the_bundle_alone
    check "$KIND: server B with a token of its own" server_b
    if [[ $KIND == "${KINDS%% *}" ]]; then # where the master key is makes no difference here
        check "$KIND: a wrong password, one that others can read" wrong_passwords
        check "$KIND: files whose key is gone" unreadable_files
        check "$KIND: with a bundle of other files nothing is written" a_foreign_bundle_writes_nothing
        check "$KIND: the clone lives at B" the_clone_lives_at_b
        check "$KIND: killed at any moment, or the disk full, it is completed by the next run" \
            killed_at_any_moment
    fi
    check "$KIND: the cold copy lives at B" the_cold_copy_lives_at_b
    [[ $KIND == token ]] ||
        check "$KIND: or its own master keys come with it" wrapped_master_keys_come_along
    servers_remove a b
    rm -rf "$WORK"/{cold,clone,bundles,gone,few,c.keyring}
done
finish
