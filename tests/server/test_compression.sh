#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Encrypted tables that a server compressed in every way it has, in both layouts: verified page by
# page, decrypted, and under another key.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

WAYS="zlib lz4 lzo lzma bzip2 snappy"
ROWS=${P11K_ROWS:-1500}

tables() { # PREFIX
    local way
    for way in $WAYS; do
        sql c "SET GLOBAL innodb_compression_algorithm = $way"
        load_table c "$1_$way" "$ROWS" planted-row "PAGE_COMPRESSED=1"
    done
}

encrypted() {
    [[ $(sql c "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption
        WHERE rotating_or_flushing OR min_key_version = 0") == 0 ]]
}

server_with_tables() {
    local way
    keyring_up keyring
    server_new c
    server_keyring c on
    for way in $WAYS; do
        [[ $way != zlib ]] || continue
        cp "$UNPACKED/provider_$way.so" "$WORK/c/plugins/"
        server_options c "plugin-load-add = provider_$way"
    done
    server_start c
    tables full
    sql c "SET GLOBAL innodb_checksum_algorithm = crc32"
    tables older
    eventually 30 encrypted
    checksums c >"$WORK/sums"
    server_stop c
}

files() { find "$WORK/c/data/t" -name '*.ibd'; }

each_is_compressed() {
    local way
    tool inspect "$WORK/c/data/t" --json >"$WORK/seen"
    for way in $WAYS; do
        equal "full_crc32, PAGE_COMPRESSED $way" "$(jq -r ".files[] |
            select(.path | endswith(\"full_$way.ibd\")) | .format" "$WORK/seen")" "format"
    done
    equal 12 "$(jq '[.files[] | select(.units.compressed > 2)] | length' "$WORK/seen")" "compressed"
}

all_are_right() {
    local files
    mapfile -t files < <(files)
    tool verify "${files[@]}" >"$WORK/out" || { cat "$WORK/out" && return 1; }
    contains "$WORK/out" "12 ok, 0 damaged, 0 not verified"
}

# The last byte of the payload of a page, which is where the server left off.
damage_is_seen() {
    local file copy=$WORK/c/tmp/copy.ibd
    for file in $(files); do
        cp "$file" "$copy"
        chmod 644 "$copy"
        printf '\377\377\377\377' | dd of="$copy" bs=1 seek=$((3 * 16384 + 60)) conv=notrunc status=none
        fails_with 6 tool verify "$copy" >"$WORK/out" 2>&1
        contains "$WORK/out" "page 3"
        rm -f "$copy"
    done
}

another_key() {
    tool key rotate 1 >/dev/null
    tool rekey "$WORK/c/data" >"$WORK/out"
    all_are_right
    equal "$(tool key show 1 --json | jq .key.latest)" "$(tool inspect "$WORK/c/data/t" --json |
        jq -r '[.files[].needs[].version] | unique | .[]')" "versions"
}

server_reads_all() {
    server_start c
    equal "$(<"$WORK/sums")" "$(checksums c)" "checksums"
    server_stop c
}

check "a server with tables compressed in every way, in both layouts" server_with_tables
check "each table is compressed in its way" each_is_compressed
check "every page is decrypted, decompressed and found right" all_are_right
check "a damaged page is named" damage_is_seen
check "rekey gives them another key" another_key
check "the server reads everything" server_reads_all
finish
