#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The ciphers aes256-*: InnoDB's background threads carry a database over to them and back, killed in
# between; what is on the disk then is AES-256, as the openssl tool finds with docs/FORMAT.md alone;
# mariadb-backup, and a keyring whose key 1 is CBC while the tables have CTR. That nothing is readable
# in any kind of file and that logs recover is in test_encrypt_all.sh and test_crash.sh.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-20000}
MARKER=marker-$(random_hex 8)
PAGE=16384
ENCRYPTED_FROM=26 # in a page of the full_crc32 format

# --- a page on the disk, read with openssl and the data key alone ---------------------------------

bytes_at() { # FILE OFFSET LENGTH
    dd if="$1" iflag=skip_bytes,count_bytes bs=64K skip="$2" count="$3" status=none
}

hex_at() { # FILE OFFSET LENGTH
    od -An -v -tx1 -j "$2" -N "$3" "$1" | tr -d ' \n'
}

reversed() { # HEX: big-endian to little-endian
    local hex=$1 result=
    for ((; ${#hex} > 0; )); do
        result=${hex:0:2}$result
        hex=${hex:2}
    done
    echo "$result"
}

# The key that the server gives: AES-ECB(data key, the tablespace's 16 bytes in its page 0).
given_key() { # FILE DATA-KEY
    local at
    at=$(LC_ALL=C grep -obUaP -m1 's\x0e\x0cREt' "$1" | head -n 1 | cut -d: -f1)
    equal 0110 "$(hex_at "$1" $((at + 6)) 2)" "crypt scheme and iv length in page 0"
    bytes_at "$1" $((at + 8)) 16 |
        openssl enc -aes-256-ecb -nopad -K "$2" | od -An -v -tx1 | tr -d ' \n'
}

derived_key() { # DATA-KEY GIVEN-KEY KEY-ID VERSION
    local label
    label=$(printf 'p11keyring page key' | od -An -v -tx1 | tr -d ' \n')
    openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt "hexkey:$1" -kdfopt "hexsalt:$2" \
        -kdfopt "hexinfo:$label$(printf '%08x%08x' "$3" "$4")" HKDF | tr -d ':\n'
}

space_id() { # FILE: as in an iv
    reversed "$(hex_at "$1" 34 4)"
}

# The whole blocks of page N.
decrypt_page() { # FILE N aes-256-ctr|aes-256-cbc|aes-128-cbc KEY
    local at=$(($2 * PAGE)) iv
    iv=$(space_id "$1")$(reversed "$(hex_at "$1" $((at + 4)) 4)$(hex_at "$1" $((at + 16)) 8)" |
        sed -E 's/^(.{16})(.{8})$/\2\1/')
    bytes_at "$1" $((at + ENCRYPTED_FROM)) $(((PAGE - ENCRYPTED_FROM - 4) / 16 * 16)) |
        openssl enc -d "-$3" -nopad -K "$4" -iv "$iv"
}

# The number of pages that are read with this key.
pages_with_marker() { # FILE aes-... KEY
    local page pages found=0
    pages=$(($(stat -c %s "$1") / PAGE))
    ((pages <= 16)) || pages=16
    for ((page = 3; page < pages; page++)); do
        decrypt_page "$1" "$page" "$2" "$3" >"$WORK/page"
        ! grep -qaF "$MARKER" "$WORK/page" || found=$((found + 1))
    done
    echo "$found"
}

imported_key() { # ID CIPHER
    random_hex 32 >"$WORK/key-$1"
    own "$WORK/key-$1"
    chmod 600 "$WORK/key-$1"
    tool key create "$1" --cipher "$2" --import-hex-from "$WORK/key-$1" >/dev/null
}

tables_under_known_keys() {
    local id=11 cipher
    keyring_up keyring
    server_new a
    server_keyring a on
    server_start a
    for cipher in aes-cbc aes256-cbc aes256-ctr; do
        imported_key "$id" "$cipher"
        load_table a "k$id" 2000 "$MARKER" "ENCRYPTED=YES ENCRYPTION_KEY_ID=$id"
        id=$((id + 1))
    done
    server_stop a
    no_plaintext a "$MARKER"
}

# aes-cbc shows what the search finds, and that stock pages are AES-128.
pages_are_aes_128() {
    local file=$WORK/a/data/t/k11.ibd given
    given=$(given_key "$file" "$(<"$WORK/key-11")")
    (($(pages_with_marker "$file" aes-128-cbc "$given") > 5)) || die "pages of aes-cbc are not read"
}

pages_are_aes_256() { # ID aes-256-cbc|aes-256-ctr
    local file=$WORK/a/data/t/k$1.ibd data_key given key
    data_key=$(<"$WORK/key-$1")
    given=$(given_key "$file" "$data_key")
    equal 0 "$(pages_with_marker "$file" "${2/256/128}" "$given")" "pages read with AES-128"
    key=$(derived_key "$data_key" "$given" "$1" 1)
    (($(pages_with_marker "$file" "$2" "$key") > 5)) || die "pages of $2 are not read"
    key=$(derived_key "$data_key" "$given" "$1" 2)
    equal 0 "$(pages_with_marker "$file" "$2" "$key")" "pages read with another version's key"
}

short_keys_are_refused() {
    random_hex 16 >"$WORK/key-short"
    own "$WORK/key-short"
    chmod 600 "$WORK/key-short"
    fails_with 2 tool key create 20 --cipher aes256-ctr --import-hex-from "$WORK/key-short"
    tool key create 20 --cipher aes-ctr --import-hex-from "$WORK/key-short"
    tool key rotate 20 --cipher aes256-ctr
}

# --- moving a database ------------------------------------------------------------------------------

database_under_aes_cbc() {
    keyring_up moved
    server_new m
    server_keyring m on
    server_start m
    load_table m one "$ROWS" "$MARKER"
    load_table m two "$ROWS" "$MARKER" "PAGE_COMPRESSED=1"
    load_table m three "$ROWS" "$MARKER" "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"
    load_table m four 2000 "$MARKER" "ENGINE=Aria"
    eventually 30 all_encrypted m 1
    checksums m >"$WORK/sums"
}

half_way() { # VERSION: some tablespaces are there, and others not
    local behind
    behind=$(tablespaces_behind m "$1")
    ((behind > 0)) && [[ $(sql m "SELECT COUNT(*) > 0
        FROM information_schema.innodb_tablespaces_encryption
        WHERE min_key_version = $1 OR key_rotation_page_number > 0") == 1 ]]
}

# With an empty buffer pool the limit on reads holds the threads up, so that the kill falls inside.
moved_to() { # CIPHER VERSION
    server_stop m
    server_start m --innodb-encryption-rotation-iops=5 --innodb-encryption-threads=1 \
        --innodb-buffer-pool-load-at-startup=OFF
    tool key rotate 1 --cipher "$1" >/dev/null
    eventually 20 half_way "$2"
    server_kill m
    server_start m
    equal "$(<"$WORK/sums")" "$(checksums m)" "checksums right after the kill"
    eventually 60 all_encrypted m "$2"
    equal "$(<"$WORK/sums")" "$(checksums m)" "checksums under $1"
    server_stop m
    no_plaintext m "$MARKER"
    server_start m
    equal "$(<"$WORK/sums")" "$(checksums m)" "checksums under $1 after a restart"
}

# --- a backup ---------------------------------------------------------------------------------------

run_backup() { # OPTION-FILE arguments...
    (
        unset P11KEYRING_CONF
        as_server mariadb-backup --defaults-file="$1" "${@:2}"
    ) >"$WORK/backup.log" 2>&1 || {
        tail -n 20 "$WORK/backup.log" >&2
        return 1
    }
}

# Taken while the background threads go from one cipher to the other.
backed_up_and_restored() { # FROM-CIPHER TO-CIPHER VERSION
    tool key rotate 1 --cipher "$1" >/dev/null
    eventually 60 all_encrypted m "$3"
    tool key rotate 1 --cipher "$2" >/dev/null
    mkdir "$WORK/backups"
    own "$WORK/backups"
    run_backup "$WORK/m/my.cnf" --backup --target-dir="$WORK/backups/full"
    eventually 60 all_encrypted m $(($3 + 2))
    checksums m >"$WORK/sums"
    server_stop m
    run_backup "$WORK/backups/full/backup-my.cnf" --prepare --target-dir="$WORK/backups/full"
    server_new restored
    server_keyring restored on
    find "$WORK/restored/data" -mindepth 1 -delete
    run_backup "$WORK/restored/my.cnf" --copy-back --target-dir="$WORK/backups/full"
    server_start restored
    equal "$(<"$WORK/sums")" "$(checksums restored)" "checksums of the restored server"
    eventually 60 all_encrypted restored $(($3 + 2))
    server_stop restored
    no_plaintext restored "$MARKER"
}

# --- key 1 in CBC, tables in CTR (docs/USAGE-mariadb.md, "Which cipher") ----------------------------

key_of() { # TABLESPACE
    sql s "SELECT current_key_id FROM information_schema.innodb_tablespaces_encryption
        WHERE name = '$1'"
}

tables_with_a_key_of_their_own() {
    keyring_up split
    tool key create 1 --cipher aes256-cbc >/dev/null
    tool key create 10 --cipher aes256-ctr >/dev/null
    server_new s
    server_keyring s on
    server_start s
    load_table s old 100 "$MARKER"
    server_stop s
    server_options s "innodb-default-encryption-key-id = 10"
    server_start s
    load_table s new 100 "$MARKER"
    equal 1 "$(key_of t/old)" "key of a table from before"
    equal 10 "$(key_of t/new)" "key of a new table"
    sql s "ALTER TABLE t.old ENCRYPTED=YES ENCRYPTION_KEY_ID=10"
    equal 10 "$(key_of t/old)" "key of the table that was altered"
    equal 1 "$(key_of innodb_system)" "key of the system tablespace"
    server_stop s
    no_plaintext s "$MARKER"
}

check "tables under imported keys, aes-cbc, aes256-cbc, aes256-ctr" tables_under_known_keys
check "aes-cbc: openssl reads pages on the disk, with AES-128" pages_are_aes_128
check "aes256-cbc: openssl reads them with AES-256 and the derived key alone" \
    pages_are_aes_256 12 aes-256-cbc
check "aes256-ctr: the same" pages_are_aes_256 13 aes-256-ctr
check "a key of 16 bytes takes no aes256 cipher, its next version does" short_keys_are_refused
check "a database under aes-cbc" database_under_aes_cbc
check "it moves to aes256-ctr, killed on the way" moved_to aes256-ctr 3
check "it moves to aes256-cbc, killed on the way" moved_to aes256-cbc 5
check "and back to aes-cbc, killed on the way" moved_to aes-cbc 7
check "mariadb-backup while it moves from aes256-cbc to aes256-ctr: prepared and restored" \
    backed_up_and_restored aes256-cbc aes256-ctr 9
check "key 1 in CBC, tables in CTR with a key of their own" tables_with_a_key_of_their_own
finish
