#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# rekey: a data directory gets new tablespace keys, or moves to another keyring, and its server goes
# on; killed at any write it leaves files that are whole, and goes on when it is called again.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

ROWS=${P11K_ROWS:-1500}
MARKER=marker-$(random_hex 8)
STEPS=${P11K_STEPS:-2}
KILLS=${P11K_REKEY_KILLS:-3} # that leave a part done, for each of the two forms of rekey

make_server() {
    server_new r
    server_keyring r
    server_start r
    sql r "SET PERSIST default_table_encryption = ON; SET PERSIST innodb_redo_log_encrypt = ON;
        SET PERSIST innodb_undo_log_encrypt = ON; SET PERSIST binlog_encryption = ON;
        ALTER TABLESPACE mysql ENCRYPTION='Y'"
    load_table r one "$ROWS" "$MARKER"
    load_table r packed "$ROWS" "$MARKER" "COMPRESSION='lz4'"
    load_table r zipped "$ROWS" "$MARKER" "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"
    load_table r clear 10 "$MARKER" "ENCRYPTION='N'"
    sql r "CREATE TABLESPACE general ADD DATAFILE 'general.ibd';
        CREATE TABLE t.in_general TABLESPACE general AS SELECT * FROM t.one; FLUSH BINARY LOGS"
    checksums r >"$WORK/r/sums"
    sql r "SELECT @@server_uuid" >"$WORK/r/uuid"
}

digests() { (cd "$WORK/r/data" && sha256sum t/*.ibd general.ibd mysql.ibd undo_00? binlog.0*); }

# The exit code for what is refused.
refused_while_in_use() {
    make_server
    fails_with 7 tool rekey "$WORK/r/data/t" >"$WORK/out" 2>&1
    contains "$WORK/out" "a server runs in"
    fails_with 7 tool rekey --header-only --innodb-key "INNODBKey-$(<"$WORK/r/uuid")-1" \
        --binlog-key "MySQLReplicationKey_$(<"$WORK/r/uuid")_2" "$WORK/r/data/binlog.000002" \
        >"$WORK/out"
    same_checksums r "$WORK/r/sums"
}

refused_after_a_kill() {
    sql r "UPDATE t.one SET n = n + 1"
    server_kill r
    digests >"$WORK/before"
    fails_with 7 tool rekey "$WORK/r/data" >"$WORK/out" 2>&1
    contains "$WORK/out" "was not shut down cleanly"
    equal "$(<"$WORK/before")" "$(digests)" "files after a refusal"
    server_start r
    checksums r >"$WORK/r/sums"
    server_stop r
}

# The shutdown of another day has left the LSN that such a server still has as its checkpoint: it
# wrote nothing but redo, or not even that.
other_ends_are_refused() {
    server_start r
    server_kill r
    refused_unclean
    server_start r
    sql r "UPDATE t.one SET n = n + 1; SET GLOBAL innodb_fast_shutdown = 2"
    server_stop r
    refused_unclean
    server_start r
    sql r "ALTER INSTANCE DISABLE INNODB REDO_LOG"
    server_stop r
    refused_unclean
    server_start r
    sql r "ALTER INSTANCE ENABLE INNODB REDO_LOG"
    checksums r >"$WORK/r/sums"
    server_stop r
}

refused_unclean() {
    digests >"$WORK/before"
    fails_with 7 tool rekey "$WORK/r/data" >"$WORK/out" 2>&1
    contains "$WORK/out" "was not shut down cleanly"
    equal "$(<"$WORK/before")" "$(digests)" "files after a refusal"
}

a_dry_run_changes_nothing() {
    digests >"$WORK/before"
    tool rekey --dry-run "$WORK/r/data" >"$WORK/out"
    contains "$WORK/out" "would rekey"
    equal "$(<"$WORK/before")" "$(digests)" "files after a dry run"
}

# It finds what the work would come upon: a damaged page, a folder that it may not write to.
a_dry_run_finds_what_stops_the_work() {
    local file=$WORK/r/data/t/one.ibd
    cp -p "$file" "$WORK/r/one"
    printf '\x5a\x5a' | dd of="$file" bs=1 seek=$((3 * 16384 + 3000)) conv=notrunc status=none
    fails_with 6 tool rekey --dry-run "$WORK/r/data" >"$WORK/out" 2>&1
    contains "$WORK/out" "one.ibd is damaged: 1 of"
    cp -p "$WORK/r/one" "$file"
    chmod 555 "$WORK/r/data/t"
    fails_with 1 tool rekey --dry-run "$WORK/r/data" >"$WORK/out" 2>&1
    contains "$WORK/out" "cannot write to $WORK/r/data/t"
    chmod 750 "$WORK/r/data/t"
    tool rekey --dry-run "$WORK/r/data" >/dev/null
}

# The tool is stopped while it has the directory, for as long as a server tries to start there.
no_server_starts_meanwhile() {
    local tool inode tries
    inode=$(stat -c %i "$WORK/r/data/ibdata1")
    for ((tries = 0; ; tries++)); do
        ((tries < 50)) || die "the tool was never seen with the lock"
        background "${AS_SERVER[@]}" "$WORK/bin/p11keyring" rekey --dry-run "$WORK/r/data" \
            >/dev/null 2>&1
        tool=$background_pid
        until grep -q "OFDLCK.*:$inode " /proc/locks || ! alive "$tool"; do :; done
        kill -STOP "$tool" 2>/dev/null || true
        ! grep -q "OFDLCK.*:$inode " /proc/locks || break
        kill -CONT "$tool" 2>/dev/null || true
        wait "$tool" || true
    done
    server_launch r
    eventually 60 grep -q "Unable to lock ./ibdata1" "$(server_log r)"
    server_kill r
    kill -CONT "$tool"
    wait "$tool" || true # it may name a file that the server has touched
}

# The sealed key of a file and the bytes of its page 3, which no new key leaves as they are.
sealed() { dd if="$1" bs=1 skip=10433 count=64 status=none | sha256sum; }
page3() { dd if="$1" bs=16384 skip=3 count=1 status=none | sha256sum; }

new_keys_for_all_tablespaces() {
    local file=$WORK/r/data/t/one.ibd seal page owner blocks
    seal=$(sealed "$file")
    page=$(page3 "$file")
    owner=$(stat -c "%U %a" "$file")
    blocks=$(stat -c %b "$WORK/r/data/t/packed.ibd")
    tool rekey --json "$WORK/r/data" >"$WORK/rekey.json"
    equal 0 "$(jq .failed "$WORK/rekey.json")" "failures"
    [[ $(jq .rekeyed "$WORK/rekey.json") -ge 7 ]] || die "hardly any file has a new key"
    [[ $seal != "$(sealed "$file")" && $page != "$(page3 "$file")" ]] || die "the old key is there"
    equal "$owner" "$(stat -c "%U %a" "$file")" "owner and mode"
    (($(stat -c %b "$WORK/r/data/t/packed.ibd") <= blocks + 64)) || die "the holes are gone"
    equal "" "$(find "$WORK/r/data" -name '*p11keyring*')" "what was left behind"
    equal ok "$(tool verify --json "$WORK/r/data/t" "$WORK/r/data/undo_001" "$WORK/r/data/mysql.ibd" |
        jq -r '.files[].verdict' | sort -u)" "verdicts"
}

# Kills the tool when it has given so many tablespaces their new key: those keep it.
a_killed_run_is_gone_on_with() {
    local done=3 rc=0 file kept=0
    digests >"$WORK/before"
    as_server strace -f -o /dev/null -e trace=/rename -e inject=/rename:signal=KILL:when="$done" \
        "$WORK/bin/p11keyring" rekey --threads 1 "$WORK/r/data" >/dev/null 2>&1 || rc=$?
    equal 137 "$rc" "exit code of the tool that was killed"
    digests >"$WORK/after"
    ! diff "$WORK/before" "$WORK/after" >/dev/null || die "no file had a new key before the kill"
    tool rekey --json --dry-run "$WORK/r/data" >"$WORK/plan.json" 2>"$WORK/out"
    contains "$WORK/out" "goes on with what a run left"
    tool rekey --json "$WORK/r/data" >"$WORK/rekey.json" 2>/dev/null
    equal 0 "$(jq .failed "$WORK/rekey.json")" "failures"
    [[ $(jq .current "$WORK/rekey.json") -ge $((done - 1)) ]] || die "the run began anew"
    [[ $(jq .rekeyed "$WORK/rekey.json") -ge 3 ]] || die "hardly anything was left to do"
    while IFS= read -r file; do
        [[ $(cd "$WORK/r/data" && sha256sum "$file") == "$(grep "  $file\$" "$WORK/after")" ]] ||
            die "$file has another key once more"
        kept=$((kept + 1))
    done < <(jq -r '.files[] | select(.result == "current") | .path | ltrimstr($root)' \
        --arg root "$WORK/r/data/" "$WORK/rekey.json")
    ((kept >= done - 1)) || die "only $kept files were compared"
    equal "" "$(find "$(keyring_dir r)" -name '*.rekey-*')" "record of the run"
    tool rekey --json "$WORK/r/data" >"$WORK/rekey.json"
    equal 0 "$(jq .current "$WORK/rekey.json")" "files that the next run leaves out"
}

the_server_goes_on() {
    server_start r
    same_checksums r "$WORK/r/sums"
    sql r "UPDATE t.one SET n = n + 1; INSERT INTO t.packed (n, txt) SELECT n, txt FROM t.packed;
        ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    checksums r >"$WORK/r/sums"
    server_kill r
    server_start r
    same_checksums r "$WORK/r/sums"
    server_stop r
}

# A second keyring on the same token, with master keys of its own, made by a server that uses it.
make_other_keyring() {
    local conf=$WORK/r.keyring/other.conf
    sed "s|^name = .*|name = other|; s|/test.keystore|/other.keystore|; /^\[mysql\]/,\$d" \
        "$WORK/r.keyring/p11keyring.conf" >"$conf"
    own "$conf"
    chmod 600 "$conf"
    P11KEYRING_CONF=$conf
    tool master create >/dev/null
    server_new o
    server_component o "$KIND"
    server_start o
    sql o "CREATE TABLE mysql.x (id INT) ENCRYPTION='Y'; SET PERSIST binlog_encryption = ON"
    sql o "SELECT @@server_uuid" >"$WORK/o/uuid"
    server_stop o
    keyring_use r.keyring
}

moved_to_another_keyring() {
    local innodb binlog page
    make_other_keyring
    innodb=INNODBKey-$(<"$WORK/o/uuid")-1
    binlog=MySQLReplicationKey_$(<"$WORK/o/uuid")_1
    page=$(page3 "$WORK/r/data/t/one.ibd")
    rekey_headers() {
        tool rekey --json --header-only --innodb-key "$innodb" --binlog-key "$binlog" \
            --to-config "$WORK/r.keyring/other.conf" "$WORK/r/data" >"$WORK/rekey.json" ||
            die "$(jq -c '.files[] | select(.error)' "$WORK/rekey.json")"
    }
    rekey_headers
    equal 0 "$(jq .failed "$WORK/rekey.json")" "failures"
    equal "$page" "$(page3 "$WORK/r/data/t/one.ibd")" "a page"
    equal "$innodb
$binlog" "$(tool inspect --json "$WORK/r/data" | jq -r '.files[].needs[].key' | sort -u)" "keys"
    rekey_headers
    equal 0 "$(jq .rekeyed "$WORK/rekey.json")" "files that were changed once more"
    fails_with 1 tool verify "$WORK/r/data/t/one.ibd" >/dev/null
    printf '{"config": "%s"}\n' "$WORK/r.keyring/other.conf" \
        >"$WORK/r/plugins/component_keyring_pkcs11.cnf"
    server_start r
    same_checksums r "$WORK/r/sums"
    sql r "SHOW BINLOG EVENTS IN 'binlog.000002'" >"$WORK/events"
    [[ $(wc -l <"$WORK/events") -gt 2 ]] || die "the binary log has no events"
    sql r "UPDATE t.one SET n = n + 1; CREATE TABLE t.more AS SELECT * FROM t.one;
        ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    checksums r >"$WORK/r/sums"
    server_stop r
    server_start r
    same_checksums r "$WORK/r/sums"
    server_stop r
}

# Its server may run, and have it closed.
a_file_of_no_data_directory() {
    copy_files
    (cd "$WORK/copy" && sha256sum ./*) >"$WORK/before"
    fails_with 7 seal_for_other "$WORK/copy" >"$WORK/out" 2>&1
    contains "$WORK/out" "is in no data directory"
    fails_with 7 tool rekey -c "$WORK/r.keyring/other.conf" "$WORK/copy/one.ibd" >"$WORK/out" 2>&1
    contains "$WORK/out" "is in no data directory"
    (cd "$WORK/copy" && sha256sum -c --quiet "$WORK/before")
    seal_for_other --alone "$WORK/copy" >"$WORK/out"
    contains "$WORK/out" "2 rekeyed, 0 current"
}

# One damaged page, or another name for a file, keeps the headers of all files as they are.
damage_stops_all_headers() {
    local file=$WORK/r/data/t/zipped.ibd
    digests >"$WORK/intact"
    cp -p "$file" "$WORK/r/zipped"
    printf '\x5a\x5a' | dd of="$file" bs=1 seek=$((3 * 8192 + 3000)) conv=notrunc status=none
    headers_stay 6 "zipped.ibd is damaged: 1 of"
    cp -p "$WORK/r/zipped" "$file"
    ln "$file" "$WORK/r/link"
    headers_stay 7 "has another name (a hard link)"
    rm "$WORK/r/link"
    equal "$(<"$WORK/intact")" "$(digests)" "files"
}

headers_stay() { # EXIT-CODE TEXT
    digests >"$WORK/before"
    fails_with "$1" seal_for_other "$WORK/r/data" >"$WORK/out" 2>&1
    contains "$WORK/out" "$2"
    contains "$WORK/out" "0 rekeyed"
    equal "$(<"$WORK/before")" "$(digests)" "files after a refusal"
}

# Back and forth between the two keyrings' master keys of the number 1.
seal_for_other() { # PATH
    tool rekey --header-only --innodb-key "INNODBKey-$(<"$WORK/o/uuid")-1" \
        -c "$WORK/r.keyring/other.conf" "$@"
}

# A journal that is left when all is written: the server that runs then changes the same page.
a_journal_that_came_too_late() {
    local file=$WORK/r/data/t/one.ibd rc=0
    as_server strace -f -o /dev/null -e trace=unlink -e inject=unlink:signal=KILL:when=1 \
        "$WORK/bin/p11keyring" rekey --header-only -c "$WORK/r.keyring/other.conf" \
        --innodb-key "INNODBKey-$(<"$WORK/o/uuid")-1" "$file" >/dev/null 2>&1 || rc=$?
    equal 137 "$rc" "exit code of the tool that was killed"
    [[ -e $file.p11keyring-header ]] || die "no journal was left"
    server_start r
    fails_with 7 seal_for_other "$file" >"$WORK/out" 2>&1
    contains "$WORK/out" "a server runs in"
    [[ -e $file.p11keyring-header ]] || die "the journal was used while a server runs"
    sql r "INSERT INTO t.one (n, txt) SELECT n, txt FROM t.one; INSERT INTO t.one (n, txt)
        SELECT n, txt FROM t.one; ALTER TABLE t.one ADD INDEX late (txt)"
    checksums r >"$WORK/r/sums"
    server_stop r
    digests >"$WORK/before"
    fails_with 7 seal_for_other "$file" >"$WORK/out" 2>&1
    contains "$WORK/out" "was changed by somebody else"
    equal "$(<"$WORK/before")" "$(digests)" "files after a refusal"
    rm "$file.p11keyring-header"
    seal_for_other "$file" >"$WORK/out"
    tool verify -c "$WORK/r.keyring/other.conf" "$file"
    server_start r
    same_checksums r "$WORK/r/sums"
    server_stop r
}

# --- kills -----------------------------------------------------------------------------------------

copy_files() {
    rm -rf "$WORK/copy"
    mkdir "$WORK/copy"
    cp -p "$WORK/r/data/t"/{one,zipped}.ibd "$WORK/copy/"
    own "$WORK/copy"
}

# Kills the tool where one of its threads makes such a call the Nth time; false when none did.
killed_at() { # CALL N OPTION...
    local rc=0
    as_server strace -f -o /dev/null -e trace=/"$1" -e inject=/"$1":signal=KILL:when="$2" \
        "$WORK/bin/p11keyring" rekey --alone --threads 1 "${@:3}" "$WORK/copy" >/dev/null 2>&1 || rc=$?
    ((rc == 137))
}

whole_after() { # WHEN
    tool verify "$WORK/copy"/*.ibd >"$WORK/out" || die "$1: $(<"$WORK/out")"
}

# What a journal has may be in the file in part, until it is called again.
whole_after_kills() { # OPTION...
    local call n kills=0
    grep -qaF "$MARKER" "$WORK/r/data/t/clear.ibd" || die "the marker is not even in a clear file"
    for call in pwrite fsync rename unlink; do
        for ((n = 1; n <= STEPS; n++)); do
            copy_files
            killed_at "$call" "$n" "$@" || break
            kills=$((kills + 1))
            ! grep -rqaF "$MARKER" "$WORK/copy" || die "a page is in the clear after a kill"
            [[ -n $(find "$WORK/copy" -name '*-header') ]] || whole_after "killed at $call $n"
            tool rekey --alone "$@" "$WORK/copy" >/dev/null
            equal "one.ibd zipped.ibd" "$(find "$WORK/copy" -type f -printf '%f\n' | sort |
                paste -sd ' ')" "files after $call $n and the same again"
            whole_after "killed at $call $n, and the same again"
        done
    done
    ((kills >= 4)) || die "only $kills kills hit"
    echo "$kills kills"
}

killed_while_it_encrypts() {
    export P11KEYRING_CONF=$WORK/r.keyring/other.conf
    whole_after_kills
}

killed_while_it_seals() {
    export P11KEYRING_CONF=$WORK/r.keyring/other.conf
    whole_after_kills --header-only --innodb-key "INNODBKey-$(<"$WORK/o/uuid")-1"
}

# Kills at random moments, until enough of them left a part of the files done. TURN sets the arguments
# of the Nth run, which is called until it completes; WHOLE looks at the files each time.
killed_over_the_directory() { # TURN WHOLE
    local hits=0 parts=0 turn=1 i clear before REKEY=()
    clear=$(files_with r "$MARKER")
    for ((i = 0; parts < KILLS; i++)); do
        ((i < 100 * KILLS)) || die "of $i kills $hits found it running, $parts with a part done"
        "$1" "$turn"
        before=$(digests)
        if kill_tool_inside rekey "${REKEY[@]}"; then
            hits=$((hits + 1))
            [[ $before == "$(digests)" ]] || parts=$((parts + 1))
        else
            turn=$((turn + 1))
        fi
        equal "$clear" "$(files_with r "$MARKER")" "files with something in the clear"
        "$2"
    done
    "$1" 0
    tool rekey "${REKEY[@]}" >/dev/null
    equal "" "$(find "$WORK/r/data" -name '*p11keyring*')" "what was left behind"
    echo "kills $i, of a running rekey $hits, with a part of the files done $parts"
}

tablespaces() { find "$WORK/r/data" -name '*.ibd' -o -name 'undo_00?' | sort; }

# In either keyring, but where a journal says that a header is to be completed.
every_tablespace_is_whole() {
    local conf file
    for conf in "$WORK/r.keyring"/{p11keyring,other}.conf; do
        [[ ! -e $conf ]] || tool verify --json -c "$conf" "$WORK/r/data" 2>/dev/null |
            jq -r '.files[] | select(.verdict == "ok") | .path' || true
    done | sort -u >"$WORK/ok"
    while IFS= read -r file; do
        [[ -e $file.p11keyring-header ]] || grep -qxF "$file" "$WORK/ok" || die "$file is not whole"
    done < <(tablespaces)
}

all_pages() { REKEY=("$WORK/r/data"); } # N

# To the other keyring and back.
all_headers() { # N
    local uuid to=r keyrings=(p11keyring other)
    (($1 % 2)) || to=o
    [[ $to == r ]] || keyrings=(other p11keyring)
    uuid=$(<"$WORK/$to/uuid")
    REKEY=(--header-only --innodb-key "INNODBKey-$uuid-1" -c "$WORK/r.keyring/${keyrings[1]}.conf"
        --to-config "$WORK/r.keyring/${keyrings[0]}.conf" "$WORK/r/data")
}

a_server_reads_it_after_the_kills() {
    server_start r
    same_checksums r "$WORK/r/sums"
    server_stop r
}

for KIND in $KINDS; do
    check "$KIND: refused while a server runs" refused_while_in_use
    check "$KIND: refused after a kill -9 of the server" refused_after_a_kill
    check "$KIND: refused after other ends that were not clean" other_ends_are_refused
    check "$KIND: a dry run changes nothing" a_dry_run_changes_nothing
    check "$KIND: a dry run finds what would stop the work" a_dry_run_finds_what_stops_the_work
    check "$KIND: no server starts meanwhile" no_server_starts_meanwhile
    check "$KIND: every tablespace gets a new key" new_keys_for_all_tablespaces
    check "$KIND: a killed run goes on with what is left" a_killed_run_is_gone_on_with
    check "$KIND: the server goes on with them" the_server_goes_on
    check "$KIND: killed at random moments, full" killed_over_the_directory all_pages \
        every_tablespace_is_whole
    sed -n 's/^kills/      kills/p' "$WORK/check.log"
    check "$KIND: sealed by another keyring's keys, whose server goes on" moved_to_another_keyring
    check "$KIND: what is in no data directory is written with --alone" a_file_of_no_data_directory
    check "$KIND: damage in one file keeps all headers as they are" damage_stops_all_headers
    check "$KIND: a journal is not written over what a server wrote since" \
        a_journal_that_came_too_late
    check "$KIND: killed at any write while pages are encrypted" killed_while_it_encrypts
    check "$KIND: killed at any write while headers are sealed" killed_while_it_seals
    check "$KIND: killed at random moments, headers only" killed_over_the_directory all_headers \
        every_tablespace_is_whole
    sed -n 's/^kills/      kills/p' "$WORK/check.log"
    check "$KIND: a server reads what the kills left" a_server_reads_it_after_the_kills
    servers_remove r o
    rm -rf "$WORK/copy"
done
finish
