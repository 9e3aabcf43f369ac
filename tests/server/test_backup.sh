#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# mariadb-backup loads its own copy of the plugin with the server's system variables: full and
# incremental backups with rotations between and during them, prepare, copy-back.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

ROWS=${P11K_ROWS:-20000}
BACKUPS=$WORK/backups

prepare() { # FOLDER arguments...
    backup "$BACKUPS/$1/backup-my.cnf" --prepare --target-dir="$BACKUPS/$1" "${@:2}"
}

server_with_tables() {
    mkdir -p "$BACKUPS"
    own "$BACKUPS"
    keyring_up keyring
    server_new b
    server_keyring b on
    server_start b
    load_table b one "$ROWS" row
    load_table b two "$ROWS" row "PAGE_COMPRESSED=1"
    load_table b aria 1000 row "ENGINE=Aria"
    eventually 20 all_encrypted b 1
}

full_then_incremental() {
    backup "$WORK/b/my.cnf" --backup --target-dir="$BACKUPS/full"
    tool key rotate 1 >/dev/null
    eventually 60 all_encrypted b 3
    load_table b three "$ROWS" row
    sql b "UPDATE t.one SET n = n + 1 WHERE id MOD 10 = 0"

    backup "$WORK/b/my.cnf" --backup --target-dir="$BACKUPS/inc" --incremental-basedir="$BACKUPS/full" \
        --throttle=400 &
    local running=$!
    sleep 0.5
    tool key rotate 1 >/dev/null
    sql b "UPDATE t.two SET n = n + 1 WHERE id MOD 7 = 0"
    wait "$running"
    sql b "DELETE FROM t.one WHERE id MOD 1000 = 0"

    backup "$WORK/b/my.cnf" --backup --target-dir="$BACKUPS/inc2" --incremental-basedir="$BACKUPS/inc"
    checksums b >"$WORK/sums"
}

nothing_secret_in_the_backup() {
    lacks "$BACKUPS/full/backup-my.cnf" "$(<"$KEYRING/pin")"
    contains "$BACKUPS/full/backup-my.cnf" "pkcs11_key_management_config"
    ! grep -rlaF "$(<"$KEYRING/pin")" "$BACKUPS" || die "the PIN is in the backup"
}

prepared_and_copied_back() {
    server_stop b
    prepare full
    prepare full --incremental-dir="$BACKUPS/inc"
    prepare full --incremental-dir="$BACKUPS/inc2"
    server_new restored
    server_keyring restored on
    find "$WORK/restored/data" -mindepth 1 -delete
    backup "$WORK/restored/my.cnf" --copy-back --target-dir="$BACKUPS/full"
    server_start restored
    equal "$(<"$WORK/sums")" "$(checksums restored)" "checksums"
    eventually 60 all_encrypted restored 3
    server_stop restored
}

# A writer that is killed when it is about to delete its journal leaves a hot journal.
leave_hot_journal() {
    local keystore=$KEYRING/keyring/test.keystore
    as_server strace -f -o "$KEYRING/strace" -e trace=unlink -e inject=unlink:signal=KILL \
        "$WORK/bin/p11keyring" key rotate 1 >/dev/null || true
    [[ -s $keystore-journal ]] || die "there is no hot journal"
}

hot_journal() {
    server_start b
    backup "$WORK/b/my.cnf" --backup --target-dir="$BACKUPS/hot"
    checksums b >"$WORK/sums"
    server_stop b
    leave_hot_journal
    prepare hot
    leave_hot_journal
    server_start b
    equal "$(<"$WORK/sums")" "$(checksums b)" "checksums"
}

check "a server with encrypted tables" server_with_tables
check "full and incremental backups, rotations between and during" full_then_incremental
check "the backup names the PIN's source and holds no PIN" nothing_secret_in_the_backup
check "prepare and copy-back: checksums equal" prepared_and_copied_back
check "mariadb-backup and server open a keystore with a hot journal" hot_journal
finish
