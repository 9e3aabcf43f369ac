#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# rekey: tablespaces of a stopped mariadbd under the newest version of their key; the server reads them
# and goes on. Refused while a server runs or needs recovery; killed anywhere, it is repeated.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-5000}
KILLS=${P11K_KILLS:-8}

data() { echo "$WORK/r/data"; }

tables() { # PREFIX
    load_table r "$1_one" "$ROWS" planted-row
    load_table r "$1_compressed" 1500 planted-row "PAGE_COMPRESSED=1"
    load_table r "$1_zip" 1500 planted-row "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"
}

server_with_tables() {
    keyring_up keyring
    tool key create 2 --cipher aes256-ctr >/dev/null
    server_new r
    server_keyring r on
    server_start r
    tables full
    sql r "SET GLOBAL innodb_checksum_algorithm = crc32"
    tables older
    load_table r other 500 planted-row "ENCRYPTED=YES ENCRYPTION_KEY_ID=2"
    load_table r clear 100 row "ENCRYPTED=NO"
    eventually 30 encrypted
    checksums r >"$WORK/sums"
}

encrypted() {
    [[ $(sql r "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption
        WHERE rotating_or_flushing OR (name NOT LIKE '%clear' AND min_key_version = 0)") == 0 ]]
}

# The lowest version that any page of a table in t has, and the highest.
versions() {
    tool inspect "$(data)" --json |
        jq -r '[.files[] | select(.kind == "mariadb-tablespace") | .needs[] |
            select(.key == 1) | .version] | "\(min) \(max)"'
}

running_server_is_safe() {
    tool key rotate 1 >/dev/null
    fails_with 7 tool rekey "$(data)" >"$WORK/out" 2>&1 || { cat "$WORK/out" && return 1; }
    contains "$WORK/out" "is in use"
}

needs_recovery_first() {
    sql r "UPDATE t.full_one SET n = n + 1"
    server_kill r
    eventually 10 locks_are_gone
    fails_with 7 tool rekey "$(data)" >"$WORK/out" 2>&1
    contains "$WORK/out" "was not shut down cleanly"
    server_start r
    checksums r >"$WORK/sums"
    server_stop r
    eventually 10 locks_are_gone
}

outside_a_data_directory() {
    mkdir -p "$WORK/r/tmp/lone"
    cp "$(data)/t/full_one.ibd" "$WORK/r/tmp/lone/"
    own "$WORK/r/tmp/lone"
    fails_with 7 tool rekey "$WORK/r/tmp/lone/full_one.ibd" >"$WORK/out" 2>&1
    contains "$WORK/out" "in no data directory"
}

# The last threads of a server that has ended may hold its locks a moment longer.
locks_are_gone() {
    tool rekey "$(data)" --dry-run >"$WORK/out" 2>&1 || true
    ! grep -qF "is in use" "$WORK/out"
}

nothing_left_behind() {
    [[ -z $(find "$(data)" -name '*.p11keyring') ]] || die "something was left behind"
}

# Everything that stands in the data directory now is readable with the keys, and nothing without.
always_whole() {
    local files
    mapfile -t files < <(find "$(data)" -name '*.ibd' -o -name ibdata1)
    tool verify "${files[@]}" >"$WORK/out" || { cat "$WORK/out" && die "not whole"; }
    no_plaintext r planted-row
}

data_files() { stat -c %i "$(data)"/t/*.ibd "$(data)/ibdata1" | sort | md5sum; }

# Kills at random moments, until enough of them found it at work, and one with a part of it done.
killed_anywhere() {
    local i before latest hits=0 parts=0
    for ((i = 0; hits < KILLS || parts == 0; i++)); do
        ((i < 10 * KILLS)) || die "of $i kills $hits found it running, $parts with a part done"
        before=$(data_files)
        if kill_tool_inside rekey "$(data)"; then
            hits=$((hits + 1))
            [[ $before == "$(data_files)" ]] || parts=$((parts + 1))
        fi
        always_whole
        latest=$(latest)
        [[ $(versions) != "$latest $latest" ]] || tool key rotate 1 >/dev/null
    done
    echo "kills $i, of a running rekey $hits, with a part of the files done $parts"
}

latest() { tool key show 1 --json | jq .key.latest; }

completed() {
    tool rekey "$(data)" --dry-run >"$WORK/plan" 2>&1
    tool rekey "$(data)" >"$WORK/out"
    equal "$(latest) $(latest)" "$(versions)" "versions"
    nothing_left_behind
    always_whole
    tool rekey "$(data)" >"$WORK/out"
    contains "$WORK/out" "0 rekeyed"
}

server_goes_on() {
    server_start r
    equal "$(<"$WORK/sums")" "$(checksums r)" "checksums"
    sql r "INSERT INTO t.older_one (n, txt) VALUES (7, 'after'); ALTER TABLE t.full_zip FORCE;
        CHECK TABLE t.full_one, t.older_one, t.full_compressed, t.older_compressed, t.older_zip" >"$WORK/out"
    equal 5 "$(grep -c 'status	OK' "$WORK/out")" "tables that CHECK TABLE finds right"
    equal 1 "$(sql r "SELECT COUNT(*) FROM t.older_one WHERE txt = 'after'")"
    server_kill r
    server_start r
    equal 1 "$(sql r "SELECT COUNT(*) FROM t.older_one WHERE txt = 'after'")" "after a kill -9"
    server_stop r
    eventually 10 locks_are_gone
}

a_damaged_tablespace_stays() {
    local file sum
    file=$(data)/t/full_one.ibd
    tool key rotate 1 >/dev/null
    printf 'x' | dd of="$file" bs=1 seek=$((16384 * 4 + 5000)) conv=notrunc status=none
    sum=$(md5sum <"$file")
    fails_with 6 tool rekey "$file" >"$WORK/out" 2>&1
    contains "$WORK/out" "page 4 of"
    equal "$sum" "$(md5sum <"$file")" "the damaged file"
    nothing_left_behind
}

check "a server with tables in both layouts" server_with_tables
check "refused while a server runs" running_server_is_safe
check "refused before a crash is recovered" needs_recovery_first
check "refused outside a data directory" outside_a_data_directory
check "killed anywhere, every file is whole and none in the clear" killed_anywhere
sed -n 's/^kills/      kills/p' "$WORK/check.log"
check "repeated, it completes; a further run has nothing to do" completed
check "the server reads everything and goes on, through a kill -9" server_goes_on
check "a damaged tablespace stays as it was" a_damaged_tablespace_stays
finish
