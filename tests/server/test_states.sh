#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# A mariadbd is brought to the encrypted state and back to a server without the plugin, by what the
# tool does and by doing what it says; interrupted, killed and resumed on the way. $P11K_CRASHES
# kills.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

MARKER=marker-$(random_hex 8)
CRASHES=${P11K_CRASHES:-4}
export XDG_RUNTIME_DIR=$WORK/run # where the tool records what it raised

work_on() { # EXIT-CODE VERB [option...]: on server $SERVER
    local want=$1 rc=0
    shift
    tool mariadb "$1" --server "$WORK/$SERVER/socket" "${@:2}" >"$WORK/out" 2>"$WORK/err" \
        </dev/null || rc=$?
    [[ $rc == "$want" ]] || {
        cat "$WORK/out" "$WORK/err" >&2
        die "exit code of mariadb $*: wanted $want, saw $rc"
    }
}

json() { jq -er "$1" "$WORK/out"; }

variable() { sql "$SERVER" "SELECT @@GLOBAL.$1"; }

as_before() {
    equal "2 100 1" "$(variable innodb_encryption_threads) $(variable innodb_encryption_rotation_iops) \
$(variable innodb_encryption_rotate_key_age)" "threads, iops and key age"
    equal "" "$(find "$WORK/run" -name 'mariadb-*' 2>/dev/null)" "records"
}

PASSWORD=$(random_hex 12)

allow_tool() {
    sql "$SERVER" "CREATE USER $RUN_AS@localhost IDENTIFIED VIA unix_socket;
        GRANT ALL ON *.* TO $RUN_AS@localhost;
        CREATE USER dba@localhost IDENTIFIED BY '$PASSWORD'; GRANT ALL ON *.* TO dba@localhost"
    printf '[client]\nsocket = %s\nuser = dba\npassword = %s\n' "$WORK/$SERVER/socket" \
        "$PASSWORD" >"$WORK/$SERVER.cnf"
    chmod 600 "$WORK/$SERVER.cnf"
    own "$WORK/$SERVER.cnf"
}

same_data() { equal "$(<"$WORK/sums")" "$(checksums "$SERVER")" "checksums"; }

# --- there -----------------------------------------------------------------------------------------

SERVER=r

server_in_the_clear() {
    mkdir -p "$WORK/run"
    own "$WORK/run"
    keyring_up keyring
    server_new r
    server_keyring r off
    server_options r "innodb-buffer-pool-size = 8M"
    server_start r
    allow_tool
    load_table r one 20000 "$MARKER"
    load_table r "\`odd-name ü\`" 100 "$MARKER" "ENCRYPTED=NO"
    load_table r parts 100 "$MARKER" "ENCRYPTED=NO PARTITION BY HASH (id) PARTITIONS 3"
    load_table r aria 1000 "$MARKER" "ENGINE=Aria"
    load_table r old 100 "$MARKER" "ENGINE=MyISAM"
    sql r "FLUSH BINARY LOGS; FLUSH TABLES"
    checksums r >"$WORK/sums"
    [[ -n $(files_with r "$MARKER") ]] || die "the search does not find the marker"
    work_on 0 status --json
    equal unencrypted "$(json .state)" "state"
    equal 0 "$(json '.left_to_decrypt | length')" "left to decrypt"
}

says_what_stays() {
    work_on 0 encrypt -n --threads 4
    contains "$WORK/out" "would encrypt"
    mkdir -p "$WORK/open/p11keyring"
    chmod 777 "$WORK/open/p11keyring"
    XDG_RUNTIME_DIR=$WORK/none work_on 1 encrypt --threads 4
    contains "$WORK/err" "cannot make $WORK/none/p11keyring"
    XDG_RUNTIME_DIR=$WORK/open work_on 7 encrypt --threads 4
    contains "$WORK/err" "is no folder that we alone can write to"
    as_before
    equal OFF "$(variable innodb_encrypt_tables)" "after a dry run, and without a record"
    work_on 3 encrypt --threads 4 --iops 5000 --json
    as_before
    equal false "$(json .finished)" "finished"
    local what
    for what in "table \`t\`.\`odd-name ü\` is ENCRYPTED=NO" "table \`t\`.\`parts\` is ENCRYPTED=NO" \
        "table \`t\`.\`aria\` of Aria is in the clear" "table \`mysql\`.\`proc\` of Aria" \
        "table \`t\`.\`old\` of MyISAM" "the redo log" "temporary files" "new binary logs" \
        "binary logs, the last of them binlog.000002" \
        "innodb_encrypt_tables is ON until the next restart"; do
        json '.left[].what' | grep -qF "$what" || die "'$what' is not named"
    done
    equal 0 "$(json '[.left[] | select(.kind == "tablespace")] | length')" "tablespaces left"
    all_but_explicit
}

# The server's own view.
all_but_explicit() {
    equal "t/odd@002dname@0020@1o t/parts#P#p0 t/parts#P#p1 t/parts#P#p2" "$(sql r "SELECT name
        FROM information_schema.innodb_tablespaces_encryption WHERE min_key_version = 0
        ORDER BY name" | paste -sd ' ')" "tablespaces in the clear"
}

# What the list says: its statements, and its options with a restart.
do_what_it_says() {
    json '.left[].statement // empty | . + ";"' >"$WORK/statements" || true
    sql "$SERVER" <"$WORK/statements"
    json '.left[].option // empty' >"$WORK/options" || true
    [[ -s $WORK/options ]] || return 0
    mapfile -t lines <"$WORK/options"
    server_options "$SERVER" "${lines[@]}"
    server_start "$SERVER"
}

# Twice: what is in old binary logs can be removed when the server has begun another.
reach() { # VERB
    do_what_it_says
    work_on 3 "$1" --json
    do_what_it_says
    work_on 0 "$1"
    as_before
}

# It holds the last 128 pages that were written in it, and a small batch does not reach the last ones.
overwrite_doublewrite_buffer() {
    sql r "UPDATE t.one SET n = n + 1; UPDATE t.one SET n = n - 1"
}

everything_encrypted() {
    reach encrypt
    contains "$WORK/out" "everything is encrypted"
    same_data
    work_on 0 status --json
    equal "encrypted 0" "$(json '.state + " " + (.left_to_encrypt | length | tostring)')" "state"
    overwrite_doublewrite_buffer
    server_stop r
    no_plaintext r "$MARKER"
    server_start r
}

# --- versions --------------------------------------------------------------------------------------

rotates() {
    work_on 0 rotate --threads 4 --iops 5000 --json
    as_before
    equal "1 3 false" "$(json '.keys[] | "\(.id) \(.version) \(.resumed)"')" "keys"
    equal 0 "$(tablespaces_behind r 3)" "tablespaces behind"
    same_data
    sql r "SET GLOBAL innodb_encryption_rotate_key_age = 0"
    work_on 0 rotate 1 --json
    equal 0 "$(variable innodb_encryption_rotate_key_age)" "key age"
    equal 0 "$(tablespaces_behind r 5)" "tablespaces behind"
    tool key rotate 1 >/dev/null
    eventually 20 server_knows 7
    work_on 0 rotate --json
    equal "1 7 true" "$(json '.keys[] | "\(.id) \(.version) \(.resumed)"')" "a version that was there"
    sql r "SET GLOBAL innodb_encryption_rotate_key_age = 1"
    work_on 1 rotate 9
    contains "$WORK/err" "no tablespace of this server is under key 9"
    keyring_up other
    tool key create 1 >/dev/null
    work_on 7 rotate
    contains "$WORK/err" "key 1 is at version 7 in the server, and at 1 in this keyring"
    as_before
    keyring_use keyring
}

server_knows() {
    [[ $(sql r "SELECT MAX(current_key_version) FROM
        information_schema.innodb_tablespaces_encryption") == "$1" ]]
}

# --- interrupted -----------------------------------------------------------------------------------

launch_work() { # VERB
    background "${AS_SERVER[@]}" "$WORK/bin/p11keyring" mariadb "$1" --server "$WORK/r.cnf" \
        --threads 3 --progress json >"$WORK/run.out" 2>&1
}

at_work() { [[ $(variable innodb_encryption_threads) == 3 ]]; }

# The server has seen that a killed tool is gone.
nobody_at_work() { [[ $(sql r "SELECT IS_USED_LOCK('p11keyring.state')") == NULL ]]; }

# A server whose keyring is paused takes no new version over: rotate waits for it.
launch_waiting_work() {
    sql r "SET GLOBAL pkcs11_key_management_operations = OFF"
    launch_work rotate
    eventually 20 at_work
}

# Of a tool that has logged in and waits. The search finds what else it knows of the server.
no_password_in_core() {
    gcore -o "$WORK/core" "$background_pid" >/dev/null
    grep -qaF " at $WORK/r/socket" "$WORK/core.$background_pid"
    lacks "$WORK/core.$background_pid" "$PASSWORD"
    lacks "/proc/$background_pid/cmdline" "$PASSWORD"
    rm "$WORK/core.$background_pid"
}

interrupted() {
    local rc=0
    launch_waiting_work
    work_on 7 decrypt
    contains "$WORK/err" "another p11keyring is at work"
    work_on 3 status --json
    contains "$WORK/err" "the keyring is paused"
    equal "true 2 3" "$(json '"\(.at_work) \(.raised[0].before) \(.raised[0].raised)"')" "for others"
    eventually 20 grep -q '"unit": "pages"' "$WORK/run.out"
    no_password_in_core
    kill -TERM "$background_pid" # a shell lets its background ignore SIGINT
    wait "$background_pid" || rc=$?
    equal 8 "$rc" "exit code ($(<"$WORK/run.out"))"
    contains "$WORK/run.out" "run the same command again"
    as_before
}

killed() {
    launch_waiting_work
    kill -KILL "$background_pid"
    wait "$background_pid" || true
    eventually 20 nobody_at_work
    equal 3 "$(variable innodb_encryption_threads)" "threads, which nobody put back"
    work_on 3 status
    contains "$WORK/err" "left variables of this server raised"
    contains "$WORK/err" "SET GLOBAL innodb_encryption_threads = 2"
    work_on 0 rotate -n
    equal 3 "$(variable innodb_encryption_threads)" "threads after a dry run"
    sql r "SET GLOBAL pkcs11_key_management_operations = ON"
    work_on 0 rotate --json
    contains "$WORK/err" "left variables of this server raised: put back"
    equal "9 true" "$(json '.keys[] | "\(.version) \(.resumed)"')" "the one version of all runs"
    equal 0 "$(tablespaces_behind r 9)" "tablespaces behind"
    as_before
}

# Kills that come too late do not count: a run takes less than that.
killed_anywhere() {
    local i verb start ms after hits=0
    start=$EPOCHREALTIME
    work_on 3 decrypt --threads 3
    ms=$((1 + (${EPOCHREALTIME/./} - ${start/./}) / 1000))
    work_on 3 encrypt --threads 3
    for ((i = 0; i < 10 * CRASHES && hits < CRASHES; i++)); do
        verb=$([[ $((i % 2)) == 0 ]] && echo decrypt || echo encrypt)
        launch_work "$verb"
        after=$((1 + RANDOM % ms))
        pause "$after"
        if alive "$background_pid"; then hits=$((hits + 1)); else ms=$after; fi
        kill -KILL "$background_pid" 2>/dev/null || true
        wait "$background_pid" || true
    done 2>/dev/null
    echo "kills: $hits of $i in a run of $ms ms"
    equal "$CRASHES" "$hits" "kills of a running tool"
    eventually 20 nobody_at_work
}

put_right_by_the_next() {
    work_on 3 encrypt --threads 4 --iops 10000 --json
    as_before
    equal setting "$(json '[.left[].kind] | unique | join(" ")')" "what is left"
    server_start r
    work_on 0 encrypt
    same_data
}

server_dies() {
    local rc=0
    launch_waiting_work
    server_kill r
    wait "$background_pid" || rc=$?
    equal 1 "$rc" "exit code ($(<"$WORK/run.out"))"
    contains "$WORK/run.out" "run the same command again when it serves"
    server_start r
    work_on 0 status
    work_on 0 rotate --threads 4
    as_before
    same_data
}

# --- and back --------------------------------------------------------------------------------------

unreadable_log() {
    sql r "FLUSH BINARY LOGS"
    printf 'no event at all' | dd of="$WORK/r/data/$(sql r 'SHOW BINARY LOGS' | head -n 1 | cut -f 1)" \
        bs=1 seek=4 conv=notrunc status=none
    work_on 3 decrypt --threads 4 --iops 10000 --json
    json '.left[].what' | grep -qE "binary log binlog.[0-9]* cannot be read" || die "$(<"$WORK/out")"
}

removed_to_the_end() {
    sql r "ALTER TABLE t.one ENCRYPTED=YES"
    work_on 3 decrypt --json
    json '.left[].what' | grep -qF "table \`t\`.\`one\` is ENCRYPTED=YES" || die "$(<"$WORK/out")"
    reach decrypt
    contains "$WORK/out" "nothing is encrypted: the plugin and its options can be taken out"
    server_stop r
    echo "[mariadbd]" >"$WORK/r/encryption.cnf"
    server_start r
    equal 0 "$(sql r "SELECT COUNT(*) FROM information_schema.plugins
        WHERE plugin_type = 'ENCRYPTION'")" "encryption plugins"
    same_data
    sql r "FLUSH TABLES"
    files_with r "$MARKER" | grep -q 'one.ibd' || die "the marker is not in the files"
    work_on 0 status --json
    equal unencrypted "$(json .state)" "state"
    work_on 7 encrypt
    contains "$WORK/err" "has no encryption plugin"
}

# --- another plugin --------------------------------------------------------------------------------

with_file_key_management() {
    SERVER=f
    printf '1;%s\n' "$(random_hex 32)" >"$WORK/keys.txt"
    own "$WORK/keys.txt"
    server_new f
    server_fkm f off "$WORK/keys.txt" aes_ctr
    server_start f --innodb-encryption-threads=0
    allow_tool
    load_table f one 1000 "$MARKER"
    checksums f >"$WORK/sums"
    work_on 7 encrypt
    contains "$WORK/err" "--threads=N"
    work_on 3 encrypt --threads 2
    equal 0 "$(variable innodb_encryption_threads)" "threads"
    work_on 7 rotate
    contains "$WORK/err" "file_key_management"
    work_on 3 decrypt --threads 2 --progress json
    work_on 0 status
    contains "$WORK/out" "0 encrypted"
    same_data
}

check "a server in the clear, with tables of all kinds" server_in_the_clear
check "encrypt names what stays in the clear, and puts back threads and iops" says_what_stays
check "what the list says leads to a server without clear text" everything_encrypted
check "rotate carries new versions everywhere, whatever the key age, and goes on with old ones" rotates
check "an interrupted run puts back and says how to go on" interrupted
check "a killed one is told by status, and the next goes on where it was" killed
check "killed at any moment" killed_anywhere
check "the next run puts right what kills left" put_right_by_the_next
check "a server that dies in the middle" server_dies
check "an old binary log that cannot be read is named" unreadable_log
check "encryption removed to the end: a server without the plugin, the same data" removed_to_the_end
check "file_key_management: encrypted and decrypted as well" with_file_key_management
finish
