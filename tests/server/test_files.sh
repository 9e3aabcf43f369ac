#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The file tools on files that mariadbd wrote: what inspect says of them, that verify finds them right
# and names what is damaged, that what decrypt writes the server's own tools read, and that it is what
# the server itself reads.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-1500}
LOG_SIZE=$((ROWS > 20000 ? 1024 : 16)) # the redo log is in its first lap: all of it can be checked
PAGE_SIZES=${P11K_PAGE_SIZES:-"16k 4k"}
BINLOG=$UNPACKED/mariadb-binlog
CIPHERS="aes-cbc aes-ctr aes256-cbc aes256-ctr"

# --- servers and their tables ----------------------------------------------------------------------

data() { echo "$WORK/$1/data"; }

# A server with pages of another size than the template's.
server_of_size() { # NAME SIZE
    if [[ $2 != 16k ]]; then
        mkdir -p "$WORK/template-$2"
        own "$WORK/template-$2"
        as_server mariadb-install-db --no-defaults --force --datadir="$WORK/template-$2" \
            --innodb-page-size="$2" --innodb-undo-tablespaces=2 --innodb-log-file-size=16M --skip-test-db \
            --auth-root-authentication-method=normal --skip-name-resolve >/dev/null
        TEMPLATE=$WORK/template-$2 P11K_TEMPLATE=$WORK/template-$2 server_new "$1"
    else
        server_new "$1"
    fi
}

# In both layouts: PREFIX_one and so on. Table formats that a page size does not allow are left out.
tables() { # NAME PREFIX SIZE
    load_table "$1" "$2_one" "$ROWS" planted-row
    load_table "$1" "$2_compressed" "$ROWS" planted-row "PAGE_COMPRESSED=1"
    [[ $3 == 64k || $3 == 32k ]] ||
        load_table "$1" "$2_zip" "$ROWS" planted-row "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"
    load_table "$1" "$2_redundant" 200 planted-row "ROW_FORMAT=REDUNDANT"
    load_table "$1" "$2_clear" 200 planted-row "ENCRYPTED=NO"
    sql "$1" "CREATE TABLE t.$2_points (g GEOMETRY NOT NULL, SPATIAL INDEX(g));
        INSERT INTO t.$2_points SELECT POINT(seq, seq) FROM t.seq_1_to_500"
}

encrypted() { # NAME
    [[ $(sql "$1" "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption
        WHERE rotating_or_flushing OR (name NOT LIKE '%clear' AND min_key_version = 0)") == 0 ]]
}

filled_server() { # NAME SIZE
    local cipher id=10
    server_of_size "$1" "$2"
    server_keyring "$1" on
    server_options "$1" "innodb-page-size = $2" "innodb-log-file-size = ${LOG_SIZE}M"
    [[ ! -e $(data "$1")/undo001 ]] || server_options "$1" "innodb-undo-tablespaces = 2"
    server_start "$1"
    tables "$1" full "$2"
    sql "$1" "SET GLOBAL innodb_checksum_algorithm = crc32"
    tables "$1" older "$2"
    for cipher in $CIPHERS; do
        load_table "$1" "${cipher/-/_}" 200 planted-row "ENCRYPTED=YES ENCRYPTION_KEY_ID=$id"
        id=$((id + 1))
    done
    load_table "$1" aria "$ROWS" planted-row "ENGINE=Aria"
    load_table "$1" aria_loose "$ROWS" planted-row "ENGINE=Aria TRANSACTIONAL=0"
    sql "$1" "FLUSH BINARY LOGS; INSERT INTO t.full_one (n) VALUES (1)"
    eventually 120 encrypted "$1"
    checksums "$1" >"$WORK/$1/sums"
    "$BINLOG" --no-defaults --socket="$WORK/$1/socket" --user=root -R --raw \
        --result-file="$WORK/$1/sent-" binlog.000001
    "$BINLOG" --no-defaults --socket="$WORK/$1/socket" --user=root -R -v binlog.000001 \
        >"$WORK/$1/sent.txt"
    server_stop "$1"
}

keys_up() {
    local cipher id=10
    keyring_up keyring
    for cipher in $CIPHERS; do
        tool key create "$id" --cipher "$cipher" >/dev/null
        id=$((id + 1))
    done
}

# Files of a server that checksums protect as a whole.
checked_files() { # NAME
    find "$(data "$1")" -name '*.ibd' -o -name ibdata1 -o -name 'undo0*' -o -name 'binlog.0*' \
        -o -name ib_logfile0 -o -name aria_log_control -o -path '*/t/*.MAD'
}

# --- inspect ---------------------------------------------------------------------------------------

# FILTER is jq's, over the row of FILE.
row() { # NAME FILE FILTER
    tool inspect "$(data "$1")/$2" --json | jq -r ".files[0] | $3"
}

inspect_says() { # NAME SIZE
    local size=$((${2%k} * 1024))
    equal "mariadb-tablespace $size yes true" \
        "$(row "$1" t/full_one.ibd '"\(.kind) \(.page_size) \(.encrypted) \(.format == "full_crc32")"')"
    equal "$size older checksums" "$(row "$1" t/older_one.ibd '"\(.page_size) \(.format)"')"
    equal no "$(row "$1" t/full_clear.ibd .encrypted)" "ENCRYPTED=NO"
    equal partly "$(row "$1" t/older_points.ibd .encrypted)" "a spatial index in the older layout"
    equal "13 1 yes" "$(row "$1" t/aes256_ctr.ibd '.needs[0] | "\(.key) \(.version) \(.here)"')"
    equal "1 1 yes" "$(row "$1" binlog.000001 '.needs[0] | "\(.key) \(.version) \(.here)"')"
    equal "1 1 yes" "$(row "$1" ib_logfile0 '.needs[0] | "\(.key) \(.version) \(.here)"')"
    [[ $2 == 16k ]] || equal mariadb-tablespace "$(row "$1" undo001 .kind)"
    equal yes "$(row "$1" t/aria.MAD .encrypted)" "Aria's rows"
    equal yes "$(row "$1" t/aria_loose.MAI .encrypted)" "an index without transactions"
    row "$1" ib_logfile0 '.notes[]' >"$WORK/notes"
    contains "$WORK/notes" "nothing to recover"
}

# --- verify ----------------------------------------------------------------------------------------

verify_finds_all_right() { # NAME
    local files
    mapfile -t files < <(checked_files "$1")
    tool verify "${files[@]}" --json >"$WORK/verified"
    equal "${#files[@]} 0" "$(jq -r '.counts | "\(.ok) \(.damaged)"' "$WORK/verified")"
}

# Without checksums there is nothing to be sure of.
aria_is_not_called_right() { # NAME
    fails_with 1 tool verify "$(data "$1")/aria_log.00000001" >"$WORK/out"
    contains "$WORK/out" "not verified"
    fails_with 1 tool verify "$(data "$1")/t/aria.MAI" >"$WORK/out"
    contains "$WORK/out" "not verified: 1 pages carry nothing to check them by"
}

# One byte of a copy in another file for each offset; all are verified in one run. A line of the
# list is what must be named: FILE NUMBER.
plant() { # FILE OFFSET NUMBER NAME
    local copy=$WORK/damaged/$4 byte
    cp "$1" "$copy"
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf '%b' "\\x$(printf '%02x' $((byte ^ 0x24)))" |
        dd of="$copy" bs=1 seek="$2" conv=notrunc status=none
    echo "$4 $3" >>"$WORK/damaged.list"
}

plant_in_page() { # FILE SIZE NUMBER OFFSET...
    local file=$1 size=$2 number=$3 at
    shift 3
    for at in "$@"; do
        plant "$file" $((number * size + at)) "$number" "$(basename "$file" .ibd)-$number-$at.ibd"
    done
}

# Only the beginning of each event can be found without a key: its length stands at 9.
event_offset() { # FILE NUMBER
    local at=4 i
    for ((i = 1; i < $2; i++)); do
        at=$((at + $(od -An -tu4 -j $((at + 9)) -N 4 "$1")))
    done
    echo "$at"
}

plant_everywhere() {
    local t=$WORK/s16k/data/t log=$WORK/s16k/data/binlog.000001 number at
    rm -rf "$WORK/damaged" "$WORK/damaged.list"
    mkdir -p "$WORK/damaged"
    for number in 0 1 3; do
        plant_in_page "$t/full_one.ibd" 16384 "$number" 0 5 9 17 25 27 31 35 40 8000 16371 16377 16383
    done
    plant_in_page "$t/older_one.ibd" 16384 3 1 5 9 17 25 31 35 40 8000 16377 16383
    plant_in_page "$t/full_compressed.ibd" 16384 3 0 5 17 25 27 100
    plant_in_page "$t/older_compressed.ibd" 16384 3 5 17 39 41 43 100
    plant_in_page "$t/full_zip.ibd" 4096 3 5 9 17 25 31 35 40 2000 4095
    plant_in_page "$t/aes256_ctr.ibd" 16384 3 100
    plant_in_page "$t/aes_cbc.ibd" 16384 3 100 16379
    for number in 1 2 3 7; do
        for at in 0 4 5 17 19; do
            plant "$log" $(($(event_offset "$log" "$number") + at)) "$number" "log-$number-$at"
        done
    done
    cp "$t/aria.MAI" "$WORK/damaged/aria.MAI"
    plant "$t/aria.MAD" $((8192 * 2 + 100)) 2 aria.MAD
    plant "$t/aria_loose.MAI" $((8192 * 2 + 100)) 2 loose.MAI
    plant "$WORK/s16k/data/aria_log_control" 20 0 control
    own "$WORK/damaged"
}

damage_is_named() {
    local name number seen
    plant_everywhere
    fails_with 6 tool verify "$WORK/damaged" --json >"$WORK/verified"
    while read -r name number; do
        seen=$(jq -r --arg path "$WORK/damaged/$name" '.files[] | select(.path == $path) |
            "\(.verdict) \(.damages[0].number)"' "$WORK/verified")
        equal "damaged $number" "$seen" "$name"
    done <"$WORK/damaged.list"
    echo "$(wc -l <"$WORK/damaged.list") places"
}

# Named by its LSN: the log has no numbers of its own.
damage_in_redo_is_named() {
    local log=$WORK/s16k/data/ib_logfile0 at
    rm -rf "$WORK/damaged"
    mkdir -p "$WORK/damaged"
    for at in 9 300 4100 8200 12289 13000 200000; do
        plant "$log" "$at" 0 "redo-$at"
    done
    own "$WORK/damaged"
    fails_with 6 tool verify "$WORK/damaged" --json >"$WORK/verified"
    equal 7 "$(jq '.counts.damaged' "$WORK/verified")" "damaged logs"
}

# A page that is cut off, and one that stands in another's place.
cut_and_misplaced() {
    local t=$WORK/s16k/data/t
    rm -rf "$WORK/damaged"
    mkdir -p "$WORK/damaged"
    head -c $((16384 * 5 + 700)) "$t/full_one.ibd" >"$WORK/damaged/cut.ibd"
    cp "$t/older_one.ibd" "$WORK/damaged/misplaced.ibd"
    dd if="$t/older_one.ibd" of="$WORK/damaged/misplaced.ibd" bs=16384 skip=4 seek=3 count=1 \
        conv=notrunc status=none
    head -c 600 "$WORK/s16k/data/binlog.000001" >"$WORK/damaged/cut.log"
    own "$WORK/damaged"
    fails_with 6 tool verify "$WORK/damaged" --json >"$WORK/verified"
    equal "5 3" "$(jq -r '[.files[] | select(.path | endswith(".ibd")) |
        .damages[0].number] | join(" ")' "$WORK/verified")"
    equal 3 "$(jq '.counts.damaged' "$WORK/verified")"
}

# At the boundaries of what the formats are made of, and beside them.
cut_anywhere() {
    local t=$WORK/s16k/data/t file size at
    rm -rf "$WORK/damaged"
    mkdir -p "$WORK/damaged"
    for file in "$t/full_one.ibd" "$t/older_compressed.ibd" "$t/full_zip.ibd" "$t/aria.MAI" \
        "$WORK/s16k/data/binlog.000001" "$WORK/s16k/data/ib_logfile0" \
        "$WORK/s16k/data/aria_log_control"; do
        size=$(stat -c %s "$file")
        for at in 1 4 19 38 58 100 256 296 297 511 512 1024 4096 8192 10461 12288 16383 16384 \
            16385 32768 65536 98304 "$(event_offset "$WORK/s16k/data/binlog.000001" 9)"; do
            ((at >= size)) || head -c "$at" "$file" >"$WORK/damaged/$at-$(basename "$file")"
        done
        head -c $((size - 1)) "$file" >"$WORK/damaged/last-$(basename "$file")"
    done
    own "$WORK/damaged"
    fails_with 6 tool verify "$WORK/damaged" --json >"$WORK/verified"
    fails_with 3 tool inspect "$WORK/damaged" >/dev/null
    equal "" "$(jq -r '.files[] | select(.verdict == "ok") | .path' "$WORK/verified")" \
        "cut off and called right"
    jq '.counts.files' "$WORK/verified"
}

without_the_key_nothing_is_right() {
    keyring_up other
    fails_with 1 tool verify "$WORK/s16k/data/t/full_one.ibd" >"$WORK/out" 2>&1
    contains "$WORK/out" "not verified"
    equal no "$(row s16k t/full_one.ibd '.needs[0].here')"
    fails_with 1 tool decrypt "$WORK/s16k/data/t/full_one.ibd" -o "$WORK/s16k/tmp/none.ibd"
    [[ ! -e $WORK/s16k/tmp/none.ibd ]] || die "an output was left behind"
    keyring_use keyring
}

# --- decrypt ---------------------------------------------------------------------------------------

decrypted_tablespaces_are_sound() { # NAME
    local out=$WORK/$1/tmp/clear file files
    mkdir -p "$out"
    own "$out"
    lacks "$(data "$1")/t/full_one.ibd" planted-row
    mapfile -t files < <(find "$(data "$1")/t" -name '*.ibd' ! -name '*clear.ibd')
    tool decrypt "${files[@]}" -o "$out"
    tool decrypt "$(data "$1")/ibdata1" -o "$out/ibdata1"
    for file in "$out"/*; do
        innochecksum "$file" || die "innochecksum refuses $file"
    done
    tool verify "$out"
    equal 0 "$(tool inspect "$out" --json | jq '[.files[].units.encrypted] | add')"
    grep -qF planted-row "$out/full_one.ibd"
}

# In a server that has no key and no plugin. Without a .cfg file it takes only the primary index.
decrypted_tables_are_imported() { # NAME
    local table tables out=$WORK/$1/tmp/clear
    tables=$(cd "$out" && printf '%s\n' *.ibd | sed 's/\.ibd$//' | grep -v points)
    server_start "$1"
    # shellcheck disable=SC2016 # names in backticks
    for table in $tables; do
        sql "$1" "SHOW CREATE TABLE t.$table\G" | sed -n '3,$p'
        echo ";"
    done | sed 's/`ENCRYPT[A-Z_]*`=[^ ]*//g; s/^  PRIMARY KEY (`id`),$/  PRIMARY KEY (`id`)/; /^  KEY `n`/d' >"$WORK/create.sql"
    server_stop "$1"
    server_new bare
    server_keyring bare off
    sed -i '/plugin-load-add\|pkcs11/d' "$WORK/bare/encryption.cnf"
    server_start bare
    sql bare "CREATE DATABASE t"
    for table in $tables; do
        layout=$([[ $table == older* || $table == aes* ]] && echo crc32 || echo full_crc32)
        { echo "SET GLOBAL innodb_checksum_algorithm = $layout; USE t;"
            sed -n "/CREATE TABLE \`$table\`/,/^;/p" "$WORK/create.sql"
            echo "ALTER TABLE t.$table DISCARD TABLESPACE;"
        } | sql bare
        cp "$out/$table.ibd" "$(data bare)/t/"
        own "$(data bare)/t/$table.ibd"
        sql bare "ALTER TABLE t.$table IMPORT TABLESPACE" || die "$table was not imported"
        equal "$(grep "^t.$table	" "$WORK/$1/sums")" "$(sql bare "CHECKSUM TABLE t.$table")"
    done
    server_stop bare
}

decrypted_log_is_what_the_server_sends() { # NAME
    local log clear=$WORK/$1/tmp/clear.log
    log=$(data "$1")/binlog.000001
    lacks "$log" planted-row
    tool decrypt "$log" -o "$clear"
    cmp "$clear" "$WORK/$1/sent-binlog.000001"
    tool decrypt "$log" -o - 2>/dev/null | cmp - "$clear"
    tool decrypt "$log" -o - 2>/dev/null | "$BINLOG" --no-defaults -v - | diff - "$WORK/$1/sent.txt"
    tool verify "$clear"
    equal no "$(tool inspect "$clear" --json | jq -r '.files[0].encrypted')"
}

# --- in mid rotation -------------------------------------------------------------------------------

server_has_version_3() {
    [[ $(sql s16k "SELECT MAX(current_key_version) FROM
        information_schema.innodb_tablespaces_encryption WHERE current_key_id = 1") == 3 ]]
}

# Without background threads only what is written gets the new version.
mid_rotation() {
    server_options s16k "innodb-encryption-threads = 0"
    server_start s16k
    sql s16k "SELECT 1"
    tool key rotate 1 >/dev/null
    eventually 5 server_has_version_3
    sql s16k "UPDATE t.full_one SET txt = 'planted-row, new' WHERE id = 700; FLUSH BINARY LOGS"
    checksums s16k >"$WORK/s16k/sums"
    server_stop s16k
    equal "1 3" "$(row s16k t/full_one.ibd '[.needs[].version] | sort | join(" ")')" "versions"
    row s16k t/full_one.ibd .progress >"$WORK/out"
    contains "$WORK/out" "2 key versions, 1 to 3"
    verify_finds_all_right s16k
    tool decrypt "$WORK/s16k/data/t/full_one.ibd" -o "$WORK/s16k/tmp/mid.ibd"
    innochecksum "$WORK/s16k/tmp/mid.ibd"
    contains "$WORK/s16k/tmp/mid.ibd" "planted-row, new"
}

# A table that background threads begin to encrypt, until the server is killed under them; what is
# said of it then is in $WORK/out.
killed_encrypting() { # TABLE
    local file=$WORK/s16k/data/t/$1.ibd
    server_start s16k
    load_table s16k "$1" 60000 row
    sql s16k "FLUSH TABLES t.$1 FOR EXPORT"
    sql s16k "SET GLOBAL innodb_encryption_threads = 1; SET GLOBAL innodb_encrypt_tables = ON"
    until (($(tool inspect "$file" --json | jq '.files[0].units.encrypted') >= 1)); do :; done
    server_kill s16k
    tool verify "$file"
    rm -f "$WORK/s16k/tmp/caught.ibd"
    tool decrypt "$file" -o "$WORK/s16k/tmp/caught.ibd"
    innochecksum "$WORK/s16k/tmp/caught.ibd"
    row s16k "t/$1.ibd" .progress >"$WORK/out"
}

mid_encryption() {
    local i
    server_options s16k "innodb-encrypt-tables = OFF" "innodb-max-dirty-pages-pct = 0"
    for ((i = 0; i < 8; i++)); do
        killed_encrypting "growing_$i"
        ! grep -q '^being encrypted' "$WORK/out" || return 0
    done
    die "not once caught in $i times"
}

# What a server leaves that was killed is recovered from its log, and the tool says so.
killed_server() {
    server_start s16k
    sql s16k "INSERT INTO t.full_one (n, txt) SELECT seq, 'late' FROM t.seq_1_to_500"
    server_kill s16k
    row s16k ib_logfile0 '.notes[]' >"$WORK/notes"
    contains "$WORK/notes" "has to recover"
    tool verify "$WORK/s16k/data/ib_logfile0"
}

check "keys of every cipher" keys_up
for size in $PAGE_SIZES; do
    check "a server with pages of $size, tables of every format in both layouts" \
        filled_server "s$size" "$size"
    check "$size: inspect tells formats, encryption and keys" inspect_says "s$size" "$size"
    check "$size: verify finds everything right" verify_finds_all_right "s$size"
    check "$size: decrypted tablespaces pass innochecksum" decrypted_tablespaces_are_sound "s$size"
    check "$size: a decrypted binary log is what the server sends" \
        decrypted_log_is_what_the_server_sends "s$size"
done
check "a server without any key imports the decrypted tablespaces" decrypted_tables_are_imported s16k
check "what Aria gives no checksum is not called right" aria_is_not_called_right s16k
check "verify names the page or event of each damaged byte" damage_is_named
check "verify finds each damaged byte of the redo log" damage_in_redo_is_named
check "verify names what is cut off or misplaced" cut_and_misplaced
check "nothing that is cut off anywhere is called right" cut_anywhere
check "without the key nothing is called right or written" without_the_key_nothing_is_right
check "files in mid rotation" mid_rotation
check "files of a killed server" killed_server
check "files in mid encryption" mid_encryption
finish
