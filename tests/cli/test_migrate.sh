#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# migrate: from and to the keyrings of files, and between two of ours; what is refused; whose the
# result is. Kills and full disks are in test_migrate_faults.sh, servers in tests/server and
# tests/mysql.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
FILES=$WORK/files
UUID=5e0a3d9c-31a0-11ef-9b0e-0242ac120002

files_up() {
    mkdir "$FILES"
    chmod 700 "$FILES"
    own "$FILES"
}

private() { # FILE...: as a server would have it
    chmod 600 "$@"
    own "$@"
}

key_file() { # FILE ID...
    local file=$1 id
    shift
    for id in "$@"; do printf '%s;%s\n' "$id" "$(random_hex $((16 + 8 * (id % 3))))"; done >"$file"
    private "$file"
}

element() { # USER NAME TYPE BYTES
    printf '{"user":"%s","data_id":"%s","data_type":"%s","data":"%s","extension":[]}' "$1" "$2" "$3" \
        "$(random_hex "$4" | tr a-f A-F)"
}

json_file() { # FILE
    printf '{"version":"1.0","elements":[%s,%s,%s]}' "$(element "" "INNODBKey-$UUID-1" AES 32)" \
        "$(element "" "MySQLReplicationKey_$UUID" AES 16)" \
        "$(element "an@host" "a note" SECRET 3000)" >"$1"
    private "$1"
}

sorted_elements() { jq -cS '.elements | sort_by(.data_id, .user)' "$1"; }

digest() { cat -- "$@" | sha256sum; }

new_keystore() { # NAME [token]: an empty one around the same token, selected by $P11KEYRING_CONF
    sed "s|^name = .*|name = $1|; s|^keystore = .*|keystore = $KEYRING/keyring/$1.keystore|" \
        "$KEYRING/p11keyring.conf" >"$KEYRING/$1.conf"
    printf '\n[mysql]\nmaster-keys = %s\n' "${2:-wrapped}" >>"$KEYRING/$1.conf"
    own "$KEYRING/$1.conf"
    export P11KEYRING_CONF=$KEYRING/$1.conf
    tool master create >/dev/null
}

# --- key files of MariaDB --------------------------------------------------------------------------

plain_key_file() {
    local before
    key_file "$FILES/keys" 1 2 7 4294967295
    before=$(digest "$FILES/keys")
    new_keystore plain
    expect 0 migrate --from "file-key-management:$FILES/keys" --to p11keyring --json
    is_json p11keyring.migrate/1
    equal "4 0 true" "$(json '"\(.data_keys) \(.secrets) \(.copied)"')" "report"
    contains "$OUT" "plugin_load_add = pkcs11_key_management"
    expect 0 key list --json
    equal "1 2 7 4294967295" "$(json '[.keys[].id] | join(" ")')" "ids"
    equal "aes-cbc 1" "$(json '[.keys[] | "\(.cipher) \(.latest)"] | unique | join(",")')" "versions"
    expect 3 migrate --from p11keyring --to "file-key-management:$FILES/keys.out" \
        --allow-keys-in-the-clear
    contains "$ERR" "whoever reads it can decrypt the data"
    diff "$FILES/keys" "$FILES/keys.out"
    equal 600 "$(stat -c %a "$FILES/keys.out")" "mode"
    equal "$before" "$(digest "$FILES/keys")" "source"
    lacks "$OUT" "$(sed -n 's/^7;//p' "$FILES/keys")"
}

ctr_and_comments() {
    {
        echo "# made by hand"
        printf ' 1;%s  # the system key\n\n' "$(random_hex 16)"
        printf '3;%s' "$(random_hex 32)"
    } >"$FILES/comments"
    private "$FILES/comments"
    new_keystore comments
    expect 0 migrate --from "file-key-management:$FILES/comments" --to p11keyring --cipher aes-ctr
    expect 0 key show 3 --json
    equal "aes-ctr 256" "$(json '.key_versions[0] | "\(.cipher) \(.bits)"')" "key 3"
    # What was written by hand stays when keys are added.
    key_file "$FILES/more" 9
    new_keystore more
    expect 0 migrate --from "file-key-management:$FILES/more" --to p11keyring
    cp -p "$FILES/comments" "$FILES/grown"
    expect 3 migrate --from p11keyring --to "file-key-management:$FILES/grown" \
        --allow-keys-in-the-clear
    equal "$(cat "$FILES/comments" && echo && cat "$FILES/more")" "$(<"$FILES/grown")" "lines"
}

encrypted_key_file() {
    local before
    random_hex 20 >"$FILES/password"
    random_hex 20 >"$FILES/wrong"
    private "$FILES/password" "$FILES/wrong"
    key_file "$FILES/inner" 1 5
    openssl enc -aes-256-cbc -md sha1 -pass "file:$FILES/password" -in "$FILES/inner" \
        -out "$FILES/keys.enc" 2>/dev/null
    private "$FILES/keys.enc"
    before=$(digest "$FILES/keys.enc")
    new_keystore encrypted
    refuses 7 "it is encrypted" "--from-password" \
        migrate --from "file-key-management:$FILES/keys.enc" --to p11keyring
    refuses 6 "password" "" migrate --from "file-key-management:$FILES/keys.enc" --to p11keyring \
        --from-password "file:$FILES/wrong"
    refuses 7 "not encrypted" "" migrate --from "file-key-management:$FILES/inner" \
        --to p11keyring --from-password "file:$FILES/password"
    chmod 644 "$FILES/password"
    refuses 1 "$FILES/password" "" migrate --from "file-key-management:$FILES/keys.enc" \
        --to p11keyring --from-password "file:$FILES/password"
    chmod 600 "$FILES/password"
    expect 0 migrate --from "file-key-management:$FILES/keys.enc" --to p11keyring \
        --from-password "file:$FILES/password"
    expect 3 migrate --from p11keyring --to "file-key-management:$FILES/out.enc" \
        --allow-keys-in-the-clear --to-password "file:$FILES/password"
    openssl enc -d -aes-256-cbc -md sha1 -pass "file:$FILES/password" -in "$FILES/out.enc" \
        2>/dev/null | diff "$FILES/inner" -
    lacks "$FILES/out.enc" "1;"
    equal "$before" "$(digest "$FILES/keys.enc")" "source"
}

broken_key_files() {
    new_keystore broken
    printf '1;%s\n1;%s\n' "$(random_hex 16)" "$(random_hex 16)" >"$FILES/twice"
    printf '1;%s\n2;12345\n' "$(random_hex 16)" >"$FILES/short"
    : >"$FILES/nothing"
    private "$FILES/twice" "$FILES/short" "$FILES/nothing"
    refuses 6 "there are two of key 1 version 1" "" \
        migrate --from "file-key-management:$FILES/twice" --to p11keyring
    refuses 6 "line 2" "" migrate --from "file-key-management:$FILES/short" --to p11keyring
    refuses 1 "has no key" "" migrate --from "file-key-management:$FILES/nothing" --to p11keyring
    refuses 1 "there is no" "" migrate --from "file-key-management:$FILES/absent" --to p11keyring
    key_file "$FILES/open" 1
    chmod 644 "$FILES/open"
    expect 3 migrate --from "file-key-management:$FILES/open" --to p11keyring
    contains "$ERR" "can be read by others"
}

# --- MySQL's files ---------------------------------------------------------------------------------

component_file() {
    local before
    json_file "$FILES/component"
    before=$(digest "$FILES/component")
    new_keystore component
    expect 0 migrate --from "component-keyring-file:$FILES/component" --to p11keyring --json
    equal "0 3" "$(json '"\(.data_keys) \(.secrets)"')" "report"
    contains "$OUT" component_keyring_pkcs11
    expect 3 migrate --from p11keyring --to "component-keyring-file:$FILES/component.out" \
        --allow-keys-in-the-clear
    equal "$(sorted_elements "$FILES/component")" "$(sorted_elements "$FILES/component.out")" "keys"
    equal "$before" "$(digest "$FILES/component")" "source"
    # To a keyring that has keys already they are added.
    printf '{"version":"1.0","elements":[%s]}' "$(element "" other AES 16)" >"$FILES/has-one"
    private "$FILES/has-one"
    expect 3 migrate --from p11keyring --to "component-keyring-file:$FILES/has-one" \
        --allow-keys-in-the-clear
    equal 4 "$(jq '.elements | length' "$FILES/has-one")" "keys"
}

# A server's master key becomes a key of the token, and cannot be copied any more.
master_keys_in_the_token() {
    json_file "$FILES/for-token"
    new_keystore resident token
    expect 0 migrate --from "component-keyring-file:$FILES/for-token" --to p11keyring
    expect 0 master list
    contains "$OUT" "INNODBKey-$UUID-1"
    p11tool --list-objects --type secrkey >"$WORK/objects" 2>/dev/null
    contains "$WORK/objects" "INNODBKey-$UUID-1"
    expect 7 migrate --from p11keyring --to "component-keyring-file:$FILES/from-token" \
        --allow-keys-in-the-clear
    contains "$ERR" "secret 'INNODBKey-$UUID-1': it is in the token, which does not give it out"
    contains "$ERR" "1 of 3 keys cannot be copied"
    contains "$ERR" "by a rotation"
    [[ ! -e $FILES/from-token ]] || die "something was written"
}

plugin_file() {
    json_file "$FILES/json"
    jq -r '.elements[] | [.data_id, .data_type, .user, .data] | @tsv' "$FILES/json" |
        perl -ne '
            BEGIN { $out = "Keyring file version:2.0"; $pad = "*305=Ljt0*!\@\$Hnm(*-9-w;:" }
            chomp; my @f = split /\t/, $_, -1; my $key = pack "H*", $f[3];
            my $data = $key ^ substr($pad x (1 + length($key) / 24), 0, length $key);
            my $body = $f[0] . $f[1] . $f[2] . $data;
            my $total = 40 + length $body; my $fill = -$total % 8;
            $out .= pack("Q5", $total + $fill, length $f[0], length $f[1], length $f[2], length $data)
                . $body . "\0" x $fill;
            END { print $out, "EOF" }' >"$FILES/plugin"
    openssl dgst -sha256 -binary "$FILES/plugin" >"$FILES/digest"
    cat "$FILES/digest" >>"$FILES/plugin"
    private "$FILES/plugin"
    new_keystore plugin
    expect 0 migrate --from "keyring-file:$FILES/plugin" --to p11keyring
    expect 3 migrate --from p11keyring --to "component-keyring-file:$FILES/plugin.out" \
        --allow-keys-in-the-clear
    equal "$(sorted_elements "$FILES/json")" "$(sorted_elements "$FILES/plugin.out")" "keys"
    # Without our keyring in between, too.
    expect 3 migrate --from "keyring-file:$FILES/plugin" --allow-keys-in-the-clear \
        --to "component-keyring-file:$FILES/direct.out"
    equal "$(sorted_elements "$FILES/json")" "$(sorted_elements "$FILES/direct.out")" "keys"
    truncate -s -1 "$FILES/plugin"
    refuses 6 "$FILES/plugin" "" migrate --from "keyring-file:$FILES/plugin" --to p11keyring
    refuses 2 "only a source" "" migrate --from p11keyring --to "keyring-file:$FILES/new"
}

half_written_by_a_server() {
    json_file "$FILES/half"
    cp -p "$FILES/half" "$FILES/half.backup"
    new_keystore half
    refuses 7 "$FILES/half.backup is there" "start and stop the server" \
        migrate --from "component-keyring-file:$FILES/half" --to p11keyring
}

# --- between keyrings of ours ----------------------------------------------------------------------

ours_to_ours() {
    new_keystore one
    tool key create 1 >/dev/null
    tool key rotate 1 >/dev/null
    tool key rotate 1 --cipher aes256-ctr >/dev/null
    tool key create 2 >/dev/null
    tool key disable 2 >/dev/null
    json_file "$FILES/for-one"
    expect 0 migrate --from "component-keyring-file:$FILES/for-one" --to p11keyring
    local one=$P11KEYRING_CONF before
    before=$(digest "$KEYRING/keyring/one.keystore")
    new_keystore two
    expect 0 migrate --from "p11keyring:$one" --to p11keyring
    tool key list --json | jq -S '[.keys[] | del(.created)]' >"$WORK/two.keys"
    tool -c "$one" key list --json | jq -S '[.keys[] | del(.created)]' | diff - "$WORK/two.keys"
    tool key show 1 --json | jq -S .key_versions >"$WORK/two.versions"
    tool -c "$one" key show 1 --json | jq -S .key_versions | diff - "$WORK/two.versions"
    equal "$before" "$(digest "$KEYRING/keyring/one.keystore")" "source"
    # Version numbers go on where they were.
    tool key rotate 1 >/dev/null
    equal 7 "$(tool key list --json | jq '.keys[0].latest')" "latest version"
}

# --- what is refused -------------------------------------------------------------------------------

taken_keys() {
    local before
    key_file "$FILES/first" 1 2
    key_file "$FILES/second" 2 3
    new_keystore taken
    expect 0 migrate --from "file-key-management:$FILES/first" --to p11keyring
    refuses 7 "1 of 2 keys cannot be copied" "" \
        migrate --from "file-key-management:$FILES/second" --to p11keyring
    contains "$ERR" "key 2 version 1: the destination has another key of that name"
    refuses 7 "2 of 2 keys cannot be copied" "" \
        migrate --from "file-key-management:$FILES/first" --to p11keyring
    contains "$ERR" "key 2 version 1: it is at the destination already"
    expect 7 migrate --from "file-key-management:$FILES/second" --to p11keyring --json
    equal "false 1" "$(json '"\(.copied) \(.refused)"')" "report"
    # At a file, too.
    before=$(digest "$FILES/second")
    expect 7 migrate --from p11keyring --to "file-key-management:$FILES/second" \
        --allow-keys-in-the-clear
    contains "$ERR" "the destination has another key of that name"
    equal "$before" "$(digest "$FILES/second")" "destination"
}

what_a_file_cannot_hold() {
    new_keystore versions
    tool key create 1 >/dev/null
    tool key rotate 1 >/dev/null
    expect 7 migrate --from p11keyring --to "file-key-management:$FILES/versions" \
        --allow-keys-in-the-clear
    contains "$ERR" "key 1 version 3: file_key_management knows version 1 of a key alone"
    [[ ! -e $FILES/versions ]] || die "something was written"
    expect 7 migrate --from p11keyring --to "component-keyring-file:$FILES/versions" \
        --allow-keys-in-the-clear
    contains "$ERR" "it is a data key of MariaDB"
    json_file "$FILES/secrets"
    expect 7 migrate --from "component-keyring-file:$FILES/secrets" \
        --to "file-key-management:$FILES/versions" --allow-keys-in-the-clear
    contains "$ERR" "secret 'a note' of 'an@host': it is a secret of MySQL"
    key_file "$FILES/no-system-key" 2
    refuses 7 "would have no key 1" "key create 1" migrate --allow-keys-in-the-clear \
        --from "file-key-management:$FILES/no-system-key" \
        --to "file-key-management:$FILES/versions"
    new_keystore ciphers
    tool key create 1 --cipher aes256-cbc >/dev/null
    expect 7 migrate --from p11keyring --to "file-key-management:$FILES/versions" \
        --allow-keys-in-the-clear
    contains "$ERR" "does not have its cipher"
    [[ ! -e $FILES/versions ]] || die "something was written"
}

what_makes_no_sense() {
    new_keystore sense
    key_file "$FILES/sense" 1
    refuses 2 "migrate needs --from" "" migrate --to p11keyring
    refuses 2 "migrate needs --to" "" migrate --from p11keyring
    refuses 2 "names no keyring" "file-key-management:PATH" migrate --from vault --to p11keyring
    refuses 2 "names no keyring" "" migrate --from file-key-management --to p11keyring
    refuses 2 "no full path" "from the root on" \
        migrate --from "file-key-management:keys" --to p11keyring
    refuses 2 "aes-cbc or aes-ctr" "" migrate --from "file-key-management:$FILES/sense" \
        --to p11keyring --cipher aes256-ctr
    refuses 2 "--cipher is for" "" migrate --from p11keyring --cipher aes-ctr \
        --to "file-key-management:$FILES/other" --allow-keys-in-the-clear
    refuses 2 "--from-password is for" "" migrate --from p11keyring --from-password prompt \
        --to "file-key-management:$FILES/other" --allow-keys-in-the-clear
    refuses 7 "whoever reads the file can use" "--allow-keys-in-the-clear" \
        migrate --from p11keyring --to "file-key-management:$FILES/other"
    [[ ! -e $FILES/other ]] || die "something was written"
}

same_keyring() {
    new_keystore same
    tool key create 1 >/dev/null
    cp "$P11KEYRING_CONF" "$KEYRING/same-again.conf"
    as_server ln -s "$KEYRING/keyring/same.keystore" "$KEYRING/keyring/link.keystore"
    sed -i "s|^keystore = .*|keystore = $KEYRING/keyring/link.keystore|" "$KEYRING/same-again.conf"
    own "$KEYRING/same-again.conf"
    refuses 7 "the same file" "keyring move" migrate --from p11keyring --to p11keyring
    refuses 7 "the same file" "" migrate --from p11keyring --to "p11keyring:$KEYRING/same-again.conf"
    key_file "$FILES/same" 1
    ln "$FILES/same" "$FILES/same.hard"
    refuses 7 "the same file" "" migrate --from "file-key-management:$FILES/same" \
        --to "file-key-management:$FILES/same.hard" --allow-keys-in-the-clear
}

dry_run() {
    key_file "$FILES/dry" 1 2
    new_keystore dry
    local before
    before=$(keyring_digest)
    expect 0 migrate --from "file-key-management:$FILES/dry" --to p11keyring -n
    contains "$OUT" "would copy 2 keys"
    equal "$before" "$(keyring_digest)" "keyring folder"
    tool key create 2 >/dev/null
    before=$(keyring_digest)
    expect 7 migrate --from "file-key-management:$FILES/dry" --to p11keyring -n
    equal "$before" "$(keyring_digest)" "keyring folder"
    json_file "$FILES/dry.json"
    expect 0 migrate --from "component-keyring-file:$FILES/dry.json" -n \
        --to "component-keyring-file:$FILES/dry.out" --allow-keys-in-the-clear
    [[ ! -e $FILES/dry.out ]] || die "something was written"
}

in_a_data_directory() {
    mkdir "$FILES/datadir"
    touch "$FILES/datadir/ibdata1"
    own "$FILES/datadir"
    json_file "$FILES/for-datadir"
    expect 3 migrate --from "component-keyring-file:$FILES/for-datadir" --allow-keys-in-the-clear \
        --to "component-keyring-file:$FILES/datadir/keys"
    contains "$ERR" "is inside the data directory $FILES/datadir"
}

# The policy is for what leaves the keyring.
export_is_forbidden() {
    new_keystore policy
    printf '\n[keyring]\nexport = forbidden\n' >>"$P11KEYRING_CONF"
    key_file "$FILES/policy" 1
    expect 0 migrate --from "file-key-management:$FILES/policy" --to p11keyring
    refuses 7 "forbids that keys leave the keyring" "export = allowed" \
        migrate --from p11keyring --allow-keys-in-the-clear \
        --to "file-key-management:$FILES/policy.out"
    [[ ! -e $FILES/policy.out ]] || die "something was written"
}

recorded() {
    new_keystore recorded
    printf '\n[keyring]\naudit-log = %s\n' "$KEYRING/keyring/audit.log" >>"$P11KEYRING_CONF"
    key_file "$FILES/recorded" 1 2
    expect 0 migrate --from "file-key-management:$FILES/recorded" --to p11keyring
    tool audit show --json | jq -e '.records[] | select(.event == "migrate" and .outcome == "ok")
        | .keys == 2 and (.detail | contains("file-key-management:"))' >/dev/null ||
        die "$(tool audit show)"
    expect 0 audit verify
}

# --- as root ---------------------------------------------------------------------------------------

as_root() { # EXIT-CODE ARGUMENT...
    local want=$1 rc=0
    shift
    "$WORK/bin/p11keyring" "$@" >"$OUT" 2>"$ERR" </dev/null || rc=$?
    equal "$want" "$rc" "exit code: $(<"$ERR")"
}

whose_the_result_is() {
    ((EUID == 0)) || return 0
    new_keystore owner
    key_file "$FILES/owner" 1
    as_root 0 migrate --from "file-key-management:$FILES/owner" --to p11keyring
    equal "" "$(find "$KEYRING/keyring" "$KEYRING/tokens" -user root)" "files of root"
    as_root 7 migrate --from p11keyring --to "file-key-management:$FILES/owner.out" \
        --allow-keys-in-the-clear
    contains "$ERR" "--owner ACCOUNT"
    as_root 7 migrate --from p11keyring --to "file-key-management:$FILES/owner.out" \
        --allow-keys-in-the-clear --owner root
    contains "$ERR" "belongs to another account"
    as_root 2 migrate --from p11keyring --to "file-key-management:$FILES/owner.out" \
        --allow-keys-in-the-clear --owner no-such-account
    as_root 3 migrate --from p11keyring --to "file-key-management:$FILES/owner.out" \
        --allow-keys-in-the-clear --owner "$RUN_AS"
    equal "$RUN_AS 600" "$(stat -c '%U %a' "$FILES/owner.out")" "owner and mode"
    expect 7 migrate --from p11keyring --to "file-key-management:$FILES/owner.out" \
        --allow-keys-in-the-clear --owner root
    contains "$ERR" "only root can make files for 'root'"
}

files_up
token_up token
cp -p "$KEYRING/pin" "$KEYRING/good-pin"
check "a key file of MariaDB comes in and goes out again" plain_key_file
check "an encrypted key file comes in and goes out again" encrypted_key_file
check "another cipher is told, and comments stay" ctr_and_comments
check "key files that make no sense are refused" broken_key_files
check "MySQL's component file comes in and goes out again" component_file
check "MySQL's master keys go into the token, and not out" master_keys_in_the_token
check "MySQL's plugin file comes in" plugin_file
check "what a server left half written is refused" half_written_by_a_server
check "versions, ciphers and secrets of one keyring of ours go to another" ours_to_ours
check "a key that is there is named before anything is written" taken_keys
check "what a file cannot hold is named before anything is written" what_a_file_cannot_hold
check "what makes no sense is refused" what_makes_no_sense
check "a keyring is not copied to itself" same_keyring
check "a dry run writes nothing" dry_run
check "a keyring inside a data directory is warned of" in_a_data_directory
check "a policy forbids the way out" export_is_forbidden
check "the audit log tells of it" recorded
check "as root it is said whom the result belongs to" whose_the_result_is
finish
