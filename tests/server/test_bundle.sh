#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Backups and their bundles, from a server and a token to another server and another token: full and
# incremental, with different passwords, a rotation in between; verified and restored from the bundles
# alone. And what is refused: a bundle too few, a wrong password, damaged and incomplete chains, a
# key that is gone. Kills and full disks are in tests/cli/test_bundle.sh.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/../cli/cli.sh"
ROWS=${P11K_ROWS:-2000}
BACKUPS=$WORK/backups

password() { # NAME
    random_hex 16 >"$WORK/$1.password"
    chmod 600 "$WORK/$1.password"
    own "$WORK/$1.password"
}

# Without keyring and token.
alone() { # EXIT-CODE ARGUMENT...
    P11KEYRING_CONF=$WORK/no.conf SOFTHSM2_CONF=/dev/null expect "$@"
}

sources() { # NAME...
    local name
    for name; do printf -- '--password-source\n%s\n' "$WORK/$name.password"; done
}

# What is in the buffer pool alone is not in a backup's files.
flushed() {
    sql "$1" "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0; SET GLOBAL innodb_max_dirty_pages_pct = 0"
    eventually 60 no_dirty_pages "$1"
}

no_dirty_pages() {
    [[ $(sql "$1" "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'" | cut -f 2) == 0 ]] &&
        [[ $(sql "$1" "SHOW GLOBAL STATUS LIKE 'Innodb_checkpoint_age'" | cut -f 2) -lt 1000 ]]
}

server_with_tables() {
    mkdir -p "$BACKUPS"
    own "$BACKUPS"
    password full
    password inc
    password wrong
    keyring_up a
    server_new a
    server_keyring a on
    server_start a
    load_table a one "$ROWS" row
    load_table a two "$ROWS" row "PAGE_COMPRESSED=1"
    load_table a three "$ROWS" row "ROW_FORMAT=COMPRESSED"
    load_table a aria 500 row "ENGINE=Aria"
    eventually 60 all_encrypted a 1
    flushed a
}

full_backup() {
    backup "$WORK/a/my.cnf" --backup --target-dir="$BACKUPS/full"
    expect 0 backup create "$BACKUPS/full" -o "$BACKUPS/full.bundle" --json \
        --password-source "$WORK/full.password"
    equal "files 1 1" "$(jq -r '"\(.scope) \(.data_key_versions) \(.custodians)"' "$OUT")" "bundle"
    # Key 2, of temporary tables, is in no file.
    contains "$OUT" '"why": "no file needs it"'
    equal 600 "$(stat -c %a "$BACKUPS/full.bundle")" "mode"
}

incremental_backup() {
    tool key rotate 1 >/dev/null
    eventually 60 all_encrypted a 3
    load_table a four "$ROWS" row
    sql a "UPDATE t.one SET n = n + 1 WHERE id MOD 10 = 0"
    flushed a
    backup "$WORK/a/my.cnf" --backup --target-dir="$BACKUPS/inc" \
        --incremental-basedir="$BACKUPS/full"
    sql a "CHECKSUM TABLE t.one, t.two, t.three, t.four, t.aria" >"$WORK/sums"
    expect 0 backup create "$BACKUPS/full" "$BACKUPS/inc" -o "$BACKUPS/inc.bundle" \
        --password-source "$WORK/inc.password"
    server_stop a
}

opens_with_the_bundles_alone() {
    local args
    mapfile -t args < <(sources full inc)
    alone 0 backup verify "$BACKUPS/full.bundle" "$BACKUPS/inc.bundle" "$BACKUPS/full" \
        "$BACKUPS/inc" "${args[@]}"
    contains "$OUT" " 0 damaged, 0 not verified, 0 of no known kind"
    # Pages of incremental backups were read, by more than one version.
    alone 0 backup verify "$BACKUPS/inc.bundle" "$BACKUPS/full" "$BACKUPS/inc" --json \
        --password-source "$WORK/inc.password"
    jq -e '[.files[] | select(.kind == "mariadb-delta" and .verdict == "ok")] | length > 3' \
        "$OUT" >/dev/null
}

a_bundle_too_few() {
    alone 1 backup verify "$BACKUPS/full.bundle" "$BACKUPS/full" "$BACKUPS/inc" \
        --password-source "$WORK/full.password"
    contains "$OUT" "missing: version 3 of key 1, needed by"
    keyring_use b
    expect 1 backup restore "$BACKUPS/full.bundle" "$BACKUPS/full" "$BACKUPS/inc" \
        --generate-new-master-key --password-source "$WORK/full.password"
    contains "$ERR" "version 3 of key 1, which is in none of the bundles"
    [[ ! -e $KEYRING/keyring/test.keystore ]] || die "something was written"
}

wrong_passwords() {
    local args
    alone 5 backup verify "$BACKUPS/full.bundle" --password-source "$WORK/wrong.password"
    contains "$ERR" "the password does not open the bundle"
    mapfile -t args < <(sources inc full)
    alone 5 backup verify "$BACKUPS/full.bundle" "$BACKUPS/inc.bundle" "${args[@]}"
    chmod 644 "$WORK/full.password"
    alone 1 backup verify "$BACKUPS/full.bundle" --password-source "$WORK/full.password"
    contains "$ERR" "is open to others"
    chmod 600 "$WORK/full.password"
}

# Each before anything else is done.
broken_chains() {
    local pw=(--password-source "$WORK/inc.password")
    alone 6 backup verify "$BACKUPS/inc.bundle" "$BACKUPS/inc" "${pw[@]}"
    contains "$ERR" "no full backup is named before it"
    alone 6 backup verify "$BACKUPS/inc.bundle" "$BACKUPS/inc" "$BACKUPS/full" "${pw[@]}"
    cp -a "$BACKUPS/inc" "$BACKUPS/gap"
    sed -i 's/^from_lsn = .*/from_lsn = 999999999/; s/^to_lsn = .*/to_lsn = 9999999999/' \
        "$BACKUPS/gap/xtrabackup_checkpoints"
    alone 6 backup verify "$BACKUPS/inc.bundle" "$BACKUPS/full" "$BACKUPS/gap" "${pw[@]}"
    contains "$ERR" "an incremental backup in between is missing"
    sed -i 's/^to_lsn = .*/to_lsn = x/' "$BACKUPS/gap/xtrabackup_checkpoints"
    alone 6 backup verify "$BACKUPS/inc.bundle" "$BACKUPS/full" "$BACKUPS/gap" "${pw[@]}"
    contains "$ERR" "checkpoints of the backup $BACKUPS/gap are damaged"
    rm "$BACKUPS/gap/xtrabackup_checkpoints"
    keyring_use b
    expect 6 backup restore "$BACKUPS/inc.bundle" "$BACKUPS/full" "$BACKUPS/gap" "${pw[@]}" \
        --generate-new-master-key
    contains "$ERR" "was not completed"
    [[ ! -e $KEYRING/keyring/test.keystore ]] || die "something was written"
}

damaged_pages() {
    local pw=(--password-source "$WORK/inc.password")
    cp -a "$BACKUPS/full" "$BACKUPS/damaged"
    printf 'damage' | dd of="$BACKUPS/damaged/t/one.ibd" bs=1 seek=$((3 * 16384 + 5000)) \
        conv=notrunc status=none
    alone 6 backup verify "$BACKUPS/inc.bundle" "$BACKUPS/damaged" "${pw[@]}"
    contains "$OUT" "page 3:"
    cp -a "$BACKUPS/inc/t" "$BACKUPS/damaged/inc"
    printf 'damage' | dd of="$BACKUPS/damaged/inc/one.ibd.delta" bs=1 seek=$((2 * 16384 + 5000)) \
        conv=notrunc status=none
    alone 6 backup verify "$BACKUPS/inc.bundle" "$BACKUPS/full/t/one.ibd" \
        "$BACKUPS/damaged/inc/one.ibd.delta" "$BACKUPS/damaged/inc/one.ibd.meta" "${pw[@]}"
    truncate -s -16384 "$BACKUPS/damaged/inc/one.ibd.delta"
    alone 6 backup verify "$BACKUPS/inc.bundle" "$BACKUPS/full/t/one.ibd" \
        "$BACKUPS/damaged/inc/one.ibd.delta" "${pw[@]}"
    rm -r "$BACKUPS/damaged"
}

restored() {
    local args
    mapfile -t args < <(sources full inc)
    keyring_use b
    expect 0 backup restore "$BACKUPS/full.bundle" "$BACKUPS/inc.bundle" "$BACKUPS/full" \
        "$BACKUPS/inc" "${args[@]}" --generate-new-master-key --json
    equal "2 1" "$(jq -r '"\(.restored) \(.rotated)"' "$OUT")" "restored keys"
    expect 0 key show 1 --json
    equal "1 3 5" "$(jq -r '[.key_versions[].version] | join(" ")' "$OUT")" "versions"
}

# The backup names the keyring of its server: that of the new one is put in its place.
prepare() { # FOLDER arguments...
    sed -i "s|^pkcs11_key_management_config=.*|pkcs11_key_management_config=$P11KEYRING_CONF|" \
        "$BACKUPS/$1/backup-my.cnf"
    backup "$BACKUPS/$1/backup-my.cnf" --prepare --target-dir="$BACKUPS/$1" "${@:2}"
}

server_of_the_other_token() {
    keyring_use b
    rm -rf "$WORK/a/tokens" # nothing of the first one is at hand
    prepare full
    prepare full --incremental-dir="$BACKUPS/inc"
    server_new b
    server_keyring b on
    find "$WORK/b/data" -mindepth 1 -delete
    backup "$WORK/b/my.cnf" --copy-back --target-dir="$BACKUPS/full"
    server_start b
    equal "$(<"$WORK/sums")" \
        "$(sql b "CHECKSUM TABLE t.one, t.two, t.three, t.four, t.aria")" "checksums"
    eventually 60 all_encrypted b 5
    load_table b five 100 row
    server_stop b
}

a_key_that_is_gone() {
    keyring_use b
    expect 0 key destroy 1:1 --without-evidence --confirm 1:1
    expect 1 backup create "$BACKUPS/full" -o "$BACKUPS/none.bundle" \
        --password-source "$WORK/full.password"
    grep -qE "files need version [13] of key 1, which is not in the keyring" "$ERR" || {
        cat "$ERR" >&2
        die "the missing key is not named"
    }
    [[ ! -e $BACKUPS/none.bundle ]] || die "a bundle was made"
}

check "a server with encrypted tables" server_with_tables
check "a bundle has exactly the keys that a full backup names" full_backup
check "a rotation, an incremental backup, a bundle with another password" incremental_backup
check "with the bundles alone every page of both backups opens" opens_with_the_bundles_alone
token_up b
check "a bundle too few: the missing key is named, nothing is written" a_bundle_too_few
check "wrong passwords, passwords in another order, a password that others can read" wrong_passwords
check "damaged and incomplete chains" broken_chains
check "damaged pages of full and incremental backups" damaged_pages
check "restored to another token, with a new version of each key" restored
check "prepared and copied back to another server: checksums equal" server_of_the_other_token
check "no bundle without a key that a table needs" a_key_that_is_gone
finish
