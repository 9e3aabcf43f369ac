#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The server's files without the server: inspect, verify and decrypt of everything that it writes,
# and what they say of files of which one byte is another.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

ROWS=${P11K_ROWS:-1500}
PAGE_SIZES=${P11K_PAGE_SIZES-4k 64k}
MARKER=marker-$(random_hex 8)
TABLES=(one two zipped1 zipped8 packed packed4 places)

# A table of every shape, all encrypted, as are undo, redo and binary logs.
load_tables() { # NAME [page size]
    local size
    sql "$1" "SET PERSIST default_table_encryption = ON; SET PERSIST innodb_redo_log_encrypt = ON;
        SET PERSIST innodb_undo_log_encrypt = ON; SET PERSIST binlog_encryption = ON;
        ALTER TABLESPACE mysql ENCRYPTION='Y'"
    load_table "$1" one "$ROWS" "$MARKER"
    sql "$1" "USE t; CREATE TABLE two (id INT PRIMARY KEY, b LONGTEXT) AS SELECT id,
            REPEAT(CONCAT(txt, ' '), 300) AS b FROM one LIMIT 10;
        CREATE TABLE clear (id INT PRIMARY KEY, txt TEXT) ENCRYPTION='N' AS SELECT id, txt FROM one;
        CREATE TABLE places (id INT PRIMARY KEY, g POINT NOT NULL SRID 0, SPATIAL INDEX(g)) AS
            SELECT id, ST_SRID(POINT(id, n), 0) AS g FROM one;
        CREATE TABLESPACE general ADD DATAFILE 'general.ibd';
        CREATE TABLE in_general TABLESPACE general AS SELECT * FROM one"
    [[ ${2:-16k} == 4k ]] || {
        load_table "$1" packed "$ROWS" "$MARKER" "COMPRESSION='zlib'"
        load_table "$1" packed4 "$ROWS" "$MARKER" "COMPRESSION='lz4'"
    }
    [[ ${2:-16k} != 16k ]] || for size in 1 2 4 8 16; do
        load_table "$1" "zipped$size" "$ROWS" "$MARKER" "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=$size"
    done
}

# The server may find no moment for it: then it says so in its log alone, and is asked again.
exported() { # TABLE
    local copied=0
    : >"$WORK/export.log"
    echo "USE t; FLUSH TABLES $1 FOR EXPORT; SELECT 'locked'; DO SLEEP(60);" |
        sql f "" --unbuffered >"$WORK/export.log" &
    eventually 20 grep -q locked "$WORK/export.log"
    cp "$WORK/f/data/t/$1.cfp" "$WORK/f/" || copied=1
    sql f "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist
        WHERE info LIKE 'DO SLEEP%'" | sql f
    wait || true # its connection was ended
    return "$copied"
}

# The server writes temporary tablespaces when it has time.
temporary_ones_copied() {
    local file
    cp "$WORK/f/data/ibtmp1" "$WORK/f/data/#innodb_temp"/temp_1.ibt "$WORK/f/temporary/"
    for file in "$WORK/f/temporary"/*; do
        ! cmp -s -n 64 "$file" /dev/zero || return 1
    done
}

written_by_a_server() {
    server_new f
    server_keyring f
    server_start f
    load_tables f
    eventually 30 exported one
    sql f "FLUSH BINARY LOGS"
    (cd "$WORK/f/tmp" && in_root mysqlbinlog --no-defaults --socket="$WORK/f/socket" --user=root -R \
        --raw --result-file="$WORK/f/tmp/" binlog.000002)
    checksums f >"$WORK/f/sums"
    sql f "SELECT @@server_uuid" >"$WORK/f/uuid"
    mkdir "$WORK/f/temporary"
    eventually 60 temporary_ones_copied
    server_stop f
    truncate -s 12M "$WORK/f/temporary/ibtmp2" # of a server that has not written to it yet
    own "$WORK/f/temporary"
    mv "$WORK/f/one.cfp" "$WORK/f/data/t/"
    mkdir -p "$WORK/clear"
    own "$WORK/f/data" "$WORK/clear"
}

# A field of every file below FOLDER whose path ends with PATTERN: one value for each.
inspected() { # FOLDER PATTERN FIELD
    tool inspect --json "$1" >"$WORK/inspect.json"
    jq -r --arg tail "$2" ".files[] | select(.path | test(\$tail)) | $3" "$WORK/inspect.json" |
        sort -u | paste -sd ' '
}

inspect_says_it_all() {
    local key
    key=INNODBKey-$(<"$WORK/f/uuid")-1
    equal "false" "$(inspected "$WORK/f/data" . .damaged)" "damaged"
    equal "yes $key yes" "$(jq -r '.files[] | select(.path | test("/(t/one|t/zipped1|t/packed|general|mysql).ibd$")) | [.encrypted, .needs[0].key, .needs[0].here] | join(" ")' \
        "$WORK/inspect.json" | sort -u)" "encrypted tablespaces"
    equal no "$(jq -r '.files[] | select(.path | test("clear.ibd$|ibdata1$")) | .encrypted' \
        "$WORK/inspect.json" | sort -u)" "tablespaces in the clear"
    equal "MySQLReplicationKey_$(<"$WORK/f/uuid")_1 yes" "$(jq -r '.files[] |
        select(.path | test("binlog.000002$")) | .needs[0] | [.key, .here] | join(" ")' \
        "$WORK/inspect.json")" "key of a binary log"
    equal 1024 "$(jq -r '.files[] | select(.path | test("zipped1.ibd$")) | .page_size' \
        "$WORK/inspect.json")" "page size"
    # The same counts of pages as the pages' own types give.
    equal "$(page_types "$WORK/f/data/t/one.ibd" 16384 15)" "$(jq -r '.files[] |
        select(.path | test("/one.ibd$")) | .units.encrypted' "$WORK/inspect.json")" "encrypted pages"
}

# How many pages of the file have this type.
page_types() { # FILE PAGE-SIZE TYPE
    local at size
    size=$(stat -c %s "$1")
    for ((at = 24; at < size; at += $2)); do
        od -An --endian=big -tu2 -j "$at" -N 2 "$1"
    done | grep -cw "$3"
}

# The tool has no way to check the doublewrite buffer.
verified() { # FOLDER
    tool verify --ignore-unknown --json "$1" >"$WORK/verify.json" || true
    jq -r '.files[] | select(.verdict != "ok" and .verdict != "unknown"
        and (.path | endswith(".dblwr") | not)) | [.path, .verdict, .why] | join(": ")' \
        "$WORK/verify.json"
}

everything_is_right() {
    equal "" "$(verified "$WORK/f/data")" "files that are not"
    [[ $(jq .counts.ok "$WORK/verify.json") -gt 20 ]] || die "hardly any file was verified"
}

# What MySQL writes to temporary tablespaces carries no checksum: nothing says that it is right.
temporary_and_system_tablespaces_alone() {
    equal "ok" "$(tool verify --json "$WORK/f/data/ibdata1" | jq -r '.files[].verdict')" "ibdata1"
    equal "ibtmp1 mysql-tablespace, ibtmp2 unknown, temp_1.ibt mysql-tablespace" \
        "$(tool inspect --json "$WORK/f/temporary" | jq -r '[.files[] | (.path | sub(".*/"; "")) +
            " " + .kind] | join(", ")')" "kinds"
    fails_with 1 tool verify --json "$WORK/f/temporary" >"$WORK/verify.json"
    equal "not verified" "$(jq -r '.files[] | select(.kind != "unknown") | .verdict' \
        "$WORK/verify.json" | sort -u)" "verdicts"
    contains "$WORK/verify.json" "carry nothing to check them by"
}

without_the_key_nothing_is_right() {
    : >"$WORK/none.conf"
    keyring_up "other$KIND"
    fails_with 1 tool verify "$WORK/f/data/t/one.ibd"
    equal no "$(inspected "$WORK/f/data/t/one.ibd" . ".needs[0].here")" "whether its key is here"
    fails_with 1 tool verify -c "$WORK/none.conf" "$WORK/f/data/t/one.ibd"
    equal unknown "$(tool inspect --json -c "$WORK/none.conf" "$WORK/f/data/t/one.ibd" |
        jq -r '.files[0].needs[0].here')" "whether its key is here"
    keyring_use f.keyring
}

# --- damage ----------------------------------------------------------------------------------------

# A copy of FILE, as NAME, in which the byte at OFFSET is another one.
broken() { # FILE NAME OFFSET
    local byte
    cp "$1" "$2"
    byte=$(od -An -tu1 -j "$3" -N 1 "$1")
    printf '%b' "\\x$(printf %x $((byte ^ 0x5a)))" |
        dd of="$2" bs=1 seek="$3" conv=notrunc status=none
}

# Offsets in page 0 (number, LSN, type, spaces, flags, lists, header, trailer) and in a page: its
# head, its data, its last bytes. What the server itself does not check: 26..33 of page 0.
break_tablespace() { # FILE PAGE-SIZE INFO-OFFSET
    local name at page=3
    name=$(basename "$1" .ibd)
    for at in 0 5 9 17 24 36 40 47 56 150 $(($3 + 1)) $(($3 + 5)) $(($3 + 20)) $(($3 + 60)) \
        $(($3 + 109)) $(($2 - 6)) $(($2 - 2)); do
        broken "$1" "$WORK/broken/${name}_${at}_0.ibd" "$at"
    done
    for at in 1 6 10 14 20 24 28 35 38 100 $(($2 / 2)) $(($2 - 40)) $(($2 - 7)) $(($2 - 1)); do
        broken "$1" "$WORK/broken/${name}_${at}_$page.ibd" $((page * $2 + at))
    done
}

# The kind of a log is told by its name as well: the copy is in a folder of the name that says what
# is damaged in it, NAME_OFFSET_NUMBER.
break_log() { # FILE NAME OFFSET NUMBER
    local folder=$WORK/broken/$2_$3_$4
    mkdir "$folder"
    broken "$1" "$folder/$(basename "$1")" "$3"
}

break_logs() {
    local redo at log=$WORK/f/data/binlog.000002
    redo=$(grep -laF lCC "$WORK/f/data/#innodb_redo"/#ib_redo*[0-9] | head -n 1)
    for at in 0 9 20 500 1023 1072 1076 1090 1120 1170 1300 2048 2052 2060 2400 2558 2600 3000; do
        break_log "$redo" redo "$at" $((at / 512))
    done
    for at in 0 1 4 5 20 70 90 110 300 513 530; do
        break_log "$log" binlog "$at" 0
    done
    break_log "$log" binlog 650 1
    break_log "$log" binlog $(($(stat -c %s "$log") - 3)) any
    for at in 0 10 50 99; do
        break_log "$WORK/f/data/t/one.cfp" cfp "$at" 0
        cp "$WORK/f/data/t/one.ibd" "$WORK/broken/cfp_${at}_0/"
    done
}

# Each line: a file, its verdict, and the numbers of what is damaged in it.
every_broken_byte_is_named() {
    local path verdict numbers wanted name good=0
    mkdir "$WORK/broken"
    break_tablespace "$WORK/f/data/t/one.ibd" 16384 10390
    break_tablespace "$WORK/f/data/t/zipped8.ibd" 8192 5270
    break_logs
    rm -f "$WORK"/broken/zipped8_{20,28}_3.ibd "$WORK"/broken/zipped8_17_0.ibd # in no checksum
    cp "$WORK/f/data/t/one.ibd" "$WORK/broken/right_0_none.ibd"
    own "$WORK/broken"
    fails_with 6 tool verify --json "$WORK/broken" >"$WORK/verify.json"
    jq -r '.files[] | [.path, .verdict, ([.damages[].number | tostring] | join(","))] | @tsv' \
        "$WORK/verify.json" >"$WORK/verdicts"
    while IFS=$'\t' read -r path verdict numbers; do
        name=${path#"$WORK/broken/"}
        name=${name%%/*}
        wanted=${name%.ibd}
        wanted=${wanted##*_}
        if [[ $wanted == none || $path == */cfp_*/one.ibd ]]; then
            [[ $verdict == ok ]] || die "$path: $verdict"
            continue
        fi
        # Which key it needs stands there without any checksum.
        [[ $name == redo_1076* && $verdict == "not verified" ]] && continue
        [[ $verdict == damaged ]] || die "$path: $verdict"
        [[ $wanted == any || ,$numbers, == *,$wanted,* ]] || die "$path: damaged: $numbers"
        good=$((good + 1))
    done <"$WORK/verdicts"
    ((good >= 60)) || die "only $good broken files were looked at"
    rm -r "$WORK/broken"
}

cut_off_at_any_place() {
    local file=$WORK/f/data/t/one.ibd size len
    size=$(stat -c %s "$file")
    for len in 1 38 511 16383 16384 20000 $((size / 2)) $((size - 1)); do
        head -c "$len" "$file" >"$WORK/clear/cut.ibd"
        own "$WORK/clear/cut.ibd"
        ! tool verify "$WORK/clear/cut.ibd" >/dev/null 2>&1 || die "$len bytes of $size were verified"
        ! tool decrypt "$WORK/clear/cut.ibd" -o "$WORK/clear/out.ibd" >/dev/null 2>&1 ||
            die "$len bytes of $size were decrypted"
        [[ ! -e $WORK/clear/out.ibd ]] || die "an output was left behind"
    done
}

# --- in the clear ----------------------------------------------------------------------------------

# What the tool decrypts the server's own checker takes; page-compressed files it does not know.
decrypted_is_sound() {
    local name
    for name in "${TABLES[@]}"; do
        tool decrypt "$WORK/f/data/t/$name.ibd" -o "$WORK/clear/" 2>"$WORK/warned"
        contains "$WORK/warned" "in the clear"
        no_more_room "$WORK/f/data/t/$name.ibd" "$WORK/clear/$name.ibd"
        [[ $name == packed* ]] || in_root innochecksum "$WORK/clear/$name.ibd"
    done
    tool decrypt "$WORK/f/data/general.ibd" "$WORK/f/data/mysql.ibd" "$WORK/f/data/undo_001" \
        -o "$WORK/clear/"
    in_root innochecksum "$WORK/clear/general.ibd"
    in_root innochecksum "$WORK/clear/mysql.ibd"
    in_root innochecksum "$WORK/clear/undo_001"
    grep -qaF "$MARKER" "$WORK/clear/one.ibd" || die "the marker is not in the clear file"
    ! grep -qaF "$MARKER" "$WORK/f/data/t/one.ibd" || die "the marker is in the encrypted file"
}

# Holes stay holes, but for some blocks that the file system itself needs.
no_more_room() { # OLD NEW
    (($(stat -c %b "$2") <= $(stat -c %b "$1") + 64)) ||
        die "$2 takes $(stat -c %b "$2") blocks, and $1 $(stat -c %b "$1")"
}

# A server without any keyring takes the tables over.
imported_by_another_server() {
    local name
    server_new plain
    server_start plain
    sql plain "CREATE DATABASE t"
    server_start f
    nsenter --target "$(server_pid f)" --mount --root mysqldump --no-defaults \
        --socket="$WORK/f/socket" --user=root --no-data --set-gtid-purged=OFF t "${TABLES[@]}" \
        2>/dev/null | sed "s/ENCRYPTION='Y'/ENCRYPTION='N'/" | sql plain "" --database=t
    server_stop f
    for name in "${TABLES[@]}"; do
        sql plain "ALTER TABLE t.$name DISCARD TABLESPACE"
        cp -p "$WORK/clear/$name.ibd" "$WORK/plain/data/t/"
        sql plain "ALTER TABLE t.$name IMPORT TABLESPACE"
    done
    checksums plain >"$WORK/imported"
    while read -r name sum; do
        contains "$WORK/f/sums" "$(printf '%s\t%s' "$name" "$sum")"
    done <"$WORK/imported"
    equal "${#TABLES[@]}" "$(wc -l <"$WORK/imported")" "tables that were imported"
    servers_remove plain
}

a_binlog_is_the_servers_own_stream() {
    tool decrypt "$WORK/f/data/binlog.000002" -o "$WORK/clear/binlog" 2>/dev/null
    cmp "$WORK/clear/binlog" "$WORK/f/tmp/binlog.000002"
    tool decrypt "$WORK/f/data/binlog.000002" 2>/dev/null >"$WORK/piped"
    cmp "$WORK/piped" "$WORK/clear/binlog"
    in_root mysqlbinlog --no-defaults --verbose - <"$WORK/piped" >"$WORK/statements"
    contains "$WORK/statements" "$MARKER"
}

# --- other states ----------------------------------------------------------------------------------

old_backups_need_old_keys() {
    cp "$WORK/f/data/t/one.ibd" "$WORK/f/old.ibd"
    server_start f
    sql f "ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER INSTANCE ROTATE BINLOG MASTER KEY"
    server_stop f
    own "$WORK/f/old.ibd"
    equal "INNODBKey-$(<"$WORK/f/uuid")-2" \
        "$(inspected "$WORK/f/data/t" "ibd$" '.needs[]?.key')" "keys after a rotation"
    equal "INNODBKey-$(<"$WORK/f/uuid")-1" "$(inspected "$WORK/f/old.ibd" . '.needs[].key')" "old key"
    tool verify "$WORK/f/old.ibd"
    equal "" "$(verified "$WORK/f/data")" "files that are not right"
}

# Redo with rows that are nowhere else, and a log that was not closed.
files_of_a_killed_server() {
    server_start f
    sql f "USE t; UPDATE one SET n = n + 1; CREATE TABLE late AS SELECT * FROM one"
    server_kill f
    equal "" "$(verified "$WORK/f/data/#innodb_redo")" "redo logs that are not right"
    equal "" "$(verified "$WORK/f/data/t" | grep -v "the server was making it")" \
        "tablespaces that are not right"
    tool decrypt "$(find "$WORK/f/data/#innodb_redo" -name '#ib_redo*[0-9]' | sort | tail -n 1)" \
        2>/dev/null >"$WORK/redo"
    tool verify --ignore-unknown "$WORK/redo"
}

another_page_size() { # SIZE
    server_new_sized "$1"
    load_tables sized "$1"
    checksums sized >"$WORK/sized/sums"
    server_stop sized
    equal "" "$(verified "$WORK/sized/data")" "files of $1 pages that are not right"
    equal $((${1%k} * 1024)) "$(inspected "$WORK/sized/data/t" "ibd$" .page_size)" "page size"
    tool decrypt "$WORK/sized/data/t/one.ibd" -o "$WORK/clear/" 2>/dev/null
    in_root innochecksum "$WORK/clear/one.ibd"
    rm "$WORK/clear/one.ibd"
    servers_remove sized
}

server_new_sized() { # SIZE
    local template=$WORK/template$1
    mkdir -p "$template"
    own "$template"
    in_root mysqld --no-defaults --initialize-insecure --datadir="$template" \
        --innodb-page-size="$1" --innodb-redo-log-capacity=16M --innodb-flush-method=nosync \
        --skip-log-bin >"$WORK/initialize.log" 2>&1
    rm -f "$template/auto.cnf"
    P11K_MYSQL_TEMPLATE=$template server_new sized
    server_options sized "innodb-page-size = $1"
    server_keyring sized
    server_start sized
}

# Somebody writes all the time: it is said, of the files that are written to, and nothing crashes.
files_of_a_running_server() {
    server_start f
    sql f "CREATE TABLE t.busy (id INT PRIMARY KEY AUTO_INCREMENT, b TEXT) ENCRYPTION='Y'"
    write_for_ever >/dev/null 2>&1 &
    eventually 60 written_to_is_said
    eventually 60 usage_is_not_complete
    equal "" "$(tool inspect --json "$WORK/f/data" 2>/dev/null | jq -r '.files[] |
        select(.kind == null and (.error | test("No such file") | not)) | .error')" "errors"
    : >"$WORK/f/enough"
    wait
    server_stop f
    equal "" "$(verified "$WORK/f/data")" "files that are not right"
}

write_for_ever() {
    while [[ ! -e $WORK/f/enough ]]; do
        echo "INSERT INTO t.busy (b) VALUES (SHA2(RAND(), 512));"
    done | sql f
}

# More than 7 would be a crash.
written_to_is_said() {
    local rc=0
    tool verify --json --ignore-unknown "$WORK/f/data" >"$WORK/verify.json" 2>/dev/null || rc=$?
    ((rc <= 7)) || die "verify ended with $rc"
    jq -e '.files[] | select(.verdict == "not verified" and (.why // "" | test("somebody wrote")))' \
        "$WORK/verify.json" >/dev/null
}

usage_is_not_complete() {
    local rc=0
    tool usage --json --ignore-unknown "$WORK/f/data" >"$WORK/usage.json" 2>/dev/null || rc=$?
    ((rc == 0 || rc == 3)) || die "usage ended with $rc"
    [[ $(jq .complete "$WORK/usage.json") == false ]]
}

for KIND in $KINDS; do
    check "$KIND: a server writes a file of every kind" written_by_a_server
    check "$KIND: inspect tells kinds, pages and keys" inspect_says_it_all
    check "$KIND: verify finds everything right" everything_is_right
    check "$KIND: temporary and system tablespaces alone" temporary_and_system_tablespaces_alone
    check "$KIND: without the key nothing is called right" without_the_key_nothing_is_right
    check "$KIND: one changed byte anywhere is named, in every kind of file" \
        every_broken_byte_is_named
    check "$KIND: files that are cut off are neither verified nor decrypted" cut_off_at_any_place
    check "$KIND: innochecksum takes what was decrypted" decrypted_is_sound
    check "$KIND: a server without a keyring imports what was decrypted" imported_by_another_server
    check "$KIND: a decrypted binary log is the server's own stream" \
        a_binlog_is_the_servers_own_stream
    check "$KIND: after a rotation old copies need the old key" old_backups_need_old_keys
    check "$KIND: files of a server that writes to them" files_of_a_running_server
    check "$KIND: files of a killed server" files_of_a_killed_server
    servers_remove f
    rm -rf "$WORK/clear"
done
mkdir -p "$WORK/clear"
own "$WORK/clear"
for size in $PAGE_SIZES; do
    check "pages of $size: inspected, verified, decrypted" another_page_size "$size"
done
finish
