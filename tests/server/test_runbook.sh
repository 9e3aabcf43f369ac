#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Does what docs/RUNBOOK.md says: each of its blocks is run as it stands there, in the situation that
# its chapter is about, with the places that it names put into the test's folder.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

RUNBOOK=$ROOT/docs/RUNBOOK.md
NODE=s # whose server and keyring the commands are about
RAN=$WORK/blocks-that-ran

# --- the document ----------------------------------------------------------------------------------

# The indented blocks, each headed by a line "CHAPTER: NUMBER".
all_blocks() {
    awk '/^##/ { sub(/^#+ /, ""); chapter = $0; n = 0; inside = 0 }
        /^    / && !inside { inside = 1; print chapter ": " ++n }
        /^    / { print; next }
        { inside = 0 }' "$RUNBOOK"
}

block() { # CHAPTER NUMBER
    all_blocks | awk -v wanted="$1: $2" '/^[^ ]/ { on = $0 == wanted } on && /^ / { print substr($0, 5) }'
}

here() { # the places and users of the document are those of the test
    sed -e "s|/etc/p11keyring/|$WORK/node-$NODE/|g" \
        -e "s|/var/lib/p11keyring|$WORK/node-$NODE|g" \
        -e "s|/var/lib/mysql|$WORK/$NODE/data|g" \
        -e "s|/backup|$WORK/backup|g" \
        -e "s|-o mysql -g mysql|-o $RUN_AS -g $(id -gn "$RUN_AS")|; s|mysql:mysql|$RUN_AS:|" \
        -e "s|/usr/lib/softhsm/libsofthsm2.so|$WORK/lib/p11k_mock.so|"
}

run_block() { # CHAPTER NUMBER
    local line want rc
    echo "$1: $2" >>"$RAN"
    while read -r line; do
        want=0
        [[ $line != *" # exit "* ]] || want=${line##* # exit }
        echo "# $line"
        rc=0
        eval "$line" </dev/null || rc=$?
        equal "$want" "$rc" "exit code of $line"
    done < <(block "$1" "$2" | here | sed -e ':a' -e '/\\$/N; s/\\\n//; ta')
}

p11keyring() { tool "$@"; }
pkcs11-tool() { as_server pkcs11-tool "$@"; }

mariadb() {
    if [[ $1 == --defaults-file=* ]]; then
        command mariadb "$@"
    else
        command mariadb --defaults-file="$WORK/$NODE/my.cnf" --skip-column-names "$@"
    fi
}

systemctl() {
    [[ $1 == start ]] || server_stop "$NODE"
    [[ $1 == stop ]] || server_start "$NODE"
}

mariadb-backup() {
    local options=$WORK/$NODE/my.cnf
    [[ $1 != --prepare ]] || options=$WORK/backup/full/backup-my.cnf
    (
        unset P11KEYRING_CONF
        as_server mariadb-backup --defaults-file="$options" "$@"
    ) >"$WORK/mariadb-backup.log" 2>&1 || {
        tail -n 20 "$WORK/mariadb-backup.log"
        return 1
    }
}

# --- the situations --------------------------------------------------------------------------------

use_node() { # NODE
    NODE=$1
    mock_rules ""
    export P11KEYRING_CONF=$WORK/node-$1/p11keyring.conf
}

# A token db1, and the keyring's files where the document has them.
node_with_server() {
    mock_token_up db1
    mkdir -p "$WORK/node-s/db1" "$WORK/backup"
    chmod 700 "$WORK/node-s/db1"
    cp -p "$KEYRING/pin" "$WORK/node-s/pin"
    cp -p "$KEYRING/pin" "$WORK/right-pin"
    sed -e "s|^name = .*|name = db1|; s|^keystore = .*|keystore = $WORK/node-s/db1/keystore|" \
        -e "s|^pin-source = .*|pin-source = file:$WORK/node-s/pin|; s|^timeout = .*|timeout = 1000|" \
        "$KEYRING/p11keyring.conf" >"$WORK/node-s/p11keyring.conf"
    printf '\n[mariadb]\nauto-create = yes\n' >>"$WORK/node-s/p11keyring.conf"
    own "$WORK/node-s" "$WORK/backup"
    use_node s
    tool master create
    server_new s
    server_keyring s on
    server_start s
    load_table s one 2000 row
    tool master rotate
    checksums s >"$WORK/sums"
}

all_there() { equal "$(<"$WORK/sums")" "$(checksums "$NODE")" "checksums"; }

backups() {
    use_node s
    run_block "Before anything happens" 1
    run_block "Before anything happens" 2
}

token_away() {
    use_node s
    mock_rules token-gone
    ! sql s "CREATE TABLE t.x (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=99" || die "a key was made"
    run_block "Token away" 1 | tee "$WORK/out"
    contains "$WORK/out" down
    all_there
    mock_rules ""
    eventually 10 sql s "CREATE TABLE t.x (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=99"
    sql s "DROP TABLE t.x"
    run_block "Token away" 2 | tee "$WORK/out"
    contains "$WORK/out" up
    run_block "Token away" 3
}

token_full() {
    use_node s
    mock_rules "fail C_GenerateKey 0x31"
    run_block "Token full" 1
    mock_rules ""
    run_block "Token full" 2
    all_there
}

pin_changed() {
    use_node s
    OLD_PIN=$(<"$WORK/right-pin")
    NEW_PIN=$(random_hex 12)
    export OLD_PIN NEW_PIN
    run_block "PIN changed" 1
    printf %s "$NEW_PIN" >"$WORK/right-pin"
    server_stop s
    server_start s
    all_there
}

pin_guarded() {
    local RIGHT_PIN
    use_node s
    RIGHT_PIN=$(<"$WORK/right-pin")
    printf 'wrong-%s' "$RIGHT_PIN" >"$WORK/node-s/pin"
    fails_with 5 tool key create 7
    run_block "PIN guarded" 1
    run_block "PIN guarded" 2
    printf 'wrong-%s' "$RIGHT_PIN" >"$WORK/node-s/pin"
    fails_with 5 tool key create 7
    # The file's inode and time stay, as if it had been right all the time.
    guarded_although_right
    run_block "PIN guarded" 3
}

# The token's PIN becomes the one that is in the file.
guarded_although_right() {
    local pin
    pin=$(<"$WORK/node-s/pin")
    OLD_PIN=$RIGHT_PIN NEW_PIN=$pin pkcs11-tool --module "$SOFTHSM_MODULE" --token-label db1 --login \
        --pin env:OLD_PIN --change-pin --new-pin env:NEW_PIN
    fails_with 5 tool key create 7
    printf %s "$pin" >"$WORK/right-pin"
}

keystore_lost() {
    use_node s
    run_block "Before anything happens" 1
    tool key rotate 2 # the token remembers a newer one than the backup
    rm "$WORK/node-s/db1/keystore"
    fails_with 1 tool key rotate 2
    all_there
    run_block "Keystore lost and restored" 1
    run_block "Keystore lost and restored" 2
    all_there
}

# A copy of everything but the token.
copy_of_the_node() {
    server_stop s
    cp -a "$WORK/s" "$WORK/copy"
    cp -a "$WORK/node-s" "$WORK/node-copy"
    sed -i "s|$WORK/s/|$WORK/copy/|; s|$WORK/node-s/|$WORK/node-copy/|" "$WORK"/copy/*.cnf \
        "$WORK/node-copy/p11keyring.conf"
    rm -f "$WORK"/copy/{data/mariadbd,server}.pid
    cp -p "$WORK/right-pin" "$WORK/node-copy/pin2"
    own "$WORK/node-copy"
    server_start s
}

node_cloned() {
    use_node s
    copy_of_the_node
    use_node copy
    tool token init --label db2 --so-pin-source "file:$KEYRING/so-pin" \
        --pin-source "file:$WORK/node-copy/pin2" --module "$WORK/lib/p11k_mock.so"
    server_start copy
    all_there
    echo "Node cloned: 1" >>"$RAN"
    block "Node cloned" 1 | here >>"$P11KEYRING_CONF"
    run_block "Node cloned" 2
    sed -i '/^\[token:db1\]/,/^$/d' "$P11KEYRING_CONF"
    server_start copy
    all_there
    server_stop copy
    use_node s
    run_block "Node cloned" 3
    server_start s
    all_there
}

disaster() {
    local RIGHT_PIN
    use_node s
    RIGHT_PIN=$(<"$WORK/right-pin")
    run_block "Before anything happens" 1
    rm -r "$WORK/backup/full"
    run_block "Before anything happens" 2
    server_stop s
    rm -r "$WORK/node-s/db1" "$WORK/node-s/pin" "$WORK/s/data"
    as_server mkdir "$WORK/s/data"
    run_block "Disaster recovery from a backup and the token" 1
    run_block "Disaster recovery from a backup and the token" 2
    all_there
}

hsm_replaced() {
    use_node s
    as_server softhsm2-util --init-token --free --label new --so-pin "$(<"$KEYRING/so-pin")" \
        --pin "$(<"$WORK/right-pin")"
    run_block "HSM replaced" 1
    run_block "HSM replaced" 2
    all_there
    run_block "HSM replaced" 3
    mock_rules $'token db1\ntoken-gone'
    all_there
    tool key create 77
    equal "current new" "$(tool master list --json | jq -r '.master_keys[] | "\(.state) \(.token)"')" \
        "master keys"
    mock_rules ""
}

nothing_untried() {
    all_blocks | grep '^[^ ]' | sort >"$WORK/all"
    (($(wc -l <"$WORK/all") > 10)) || die "the document has hardly any blocks"
    equal "" "$(sort -u "$RAN" | comm -13 - "$WORK/all")" "blocks that no test runs"
}

check "a node with token, keyring and server" node_with_server
check "backups of keystore and data" backups
check "token away" token_away
check "token full" token_full
check "PIN changed" pin_changed
check "PIN guarded" pin_guarded
check "keystore lost and restored" keystore_lost
check "node cloned" node_cloned
check "disaster recovery from a backup and the token" disaster
check "HSM replaced" hsm_replaced
check "every block of the document was run" nothing_untried
finish
