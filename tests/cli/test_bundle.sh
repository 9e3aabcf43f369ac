#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# backup create, verify and restore without a server: who can open a bundle, conflicts, policy, where a
# password must never be; kills and full disks. P11K_KILLS is the number of kills that hit. Backups of
# servers are in tests/server/test_bundle.sh.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
# shellcheck source=tests/cli/kills.sh
source "$(dirname "$0")/kills.sh"
KILLS=${P11K_KILLS:-3}
FILES=$WORK/files

password() { # NAME
    random_hex 16 >"$FILES/$1"
    chmod 600 "$FILES/$1"
    own "$FILES/$1"
}

by() { # NAME: sets $by, the options for a password
    by=(--password-source "$FILES/$1")
}

# An empty keyring beside the others, around the selected token.
new_keystore() { # NAME
    sed "s/^name = .*/name = $1/; s|^keystore = .*|keystore = $KEYRING/keyring/$1.keystore|" \
        "$KEYRING/p11keyring.conf" >"$KEYRING/$1.conf"
    own "$KEYRING/$1.conf"
    export P11KEYRING_CONF=$KEYRING/$1.conf
    tool master create >/dev/null
}

versions() { # ID
    tool key show "$1" --json | jq -r '[.key_versions[].version] | join(" ")'
}

keyring_and_bundle() {
    mkdir -p "$FILES"
    chmod 700 "$FILES"
    own "$FILES"
    password one
    password two
    cli_keyring source
    tool key create 1 >/dev/null
    tool key rotate 1 >/dev/null
    tool key create 7 --cipher aes256-ctr >/dev/null
    tool key create 9 >/dev/null
    tool key disable 9 >/dev/null
    by one
    expect 0 backup create -o "$FILES/all" "${by[@]}" --json
    is_json p11keyring.backup.create/1
    equal "all 4 0 1" "$(json '"\(.scope) \(.data_key_versions) \(.secrets) \(.custodians)"')" bundle
    expect 0 backup verify "$FILES/all" "${by[@]}" --json
    is_json p11keyring.backup.verify/1
    equal "test all 4" "$(json '.bundles[0] | "\(.keyring) \(.scope) \(.data_key_versions)"')" bundle
    refuses 7 "exists already" "" backup create -o "$FILES/all" "${by[@]}"
    refuses 2 "-o BUNDLE" "" backup create "${by[@]}"
    expect 0 backup create -o "$FILES/planned" "${by[@]}" -n
    [[ ! -e $FILES/planned ]] || die "a dry run wrote a bundle"
}

# Which keys are in a bundle: the keystore remembers, status and doctor tell.
keys_in_no_bundle() {
    by one
    expect 0 status --json
    equal 0 "$(json '.unbundled | length')" "keys in no bundle"
    expect 0 key rotate 7
    contains "$ERR" "in no bundle yet: p11keyring backup create"
    expect 3 status --json
    equal "7 3" "$(json '.unbundled[] | "\(.key) \(.version)"')" "keys in no bundle"
    contains "$ERR" "1 keys are in no bundle in their newest version, the first is 7"
    expect 3 doctor
    contains "$OUT" "1 keys are in no bundle"
    expect 0 backup create -o "$FILES/again" "${by[@]}"
    expect 0 status
    new_keystore fresh
    expect 0 status
    lacks "$ERR" bundle
    expect 0 key create 1
    expect 0 status
    contains "$ERR" "no key is in a bundle"
}

policy() {
    by one
    keyring_use source
    { cat "$P11KEYRING_CONF" && printf '\n[keyring]\nexport = forbidden\n'; } >"$KEYRING/policy.conf"
    own "$KEYRING/policy.conf"
    export P11KEYRING_CONF=$KEYRING/policy.conf
    refuses 7 "the configuration forbids that keys leave the keyring" "export = allowed" \
        backup create -o "$FILES/forbidden" "${by[@]}"
    [[ ! -e $FILES/forbidden ]] || die "a bundle was made"
    expect 7 migrate --from p11keyring --to "component-keyring-file:$FILES/forbidden" \
        --allow-keys-in-the-clear
    [[ ! -e $FILES/forbidden ]] || die "keys were copied"
    expect 0 status
    lacks "$ERR" bundle
}

another_keyring() {
    by one
    cli_keyring target
    new_keystore plain
    expect 0 backup restore "$FILES/all" "${by[@]}" -n
    equal "" "$(tool key list --json | jq -r '.keys[].id')" "keys after a dry run"
    expect 0 backup restore "$FILES/all" "${by[@]}" --json
    is_json p11keyring.backup.restore/1
    equal "4 2 0" "$(json '"\(.restored) \(.rotated) \(.equal)"')" "result"
    equal "1 3 5" "$(versions 1)" "versions of key 1"
    equal "1 3" "$(versions 7)" "versions of key 7"
    # A key that was disabled gets no new version, and stays disabled.
    equal "1" "$(versions 9)" "versions of key 9"
    equal disabled "$(tool key list --json | jq -r '.keys[] | select(.id == 9) | .state')" "key 9"
    expect 0 backup restore "$FILES/all" "${by[@]}" --json
    equal "0 0 4" "$(json '"\(.restored) \(.rotated) \(.equal)"')" "result of a second run"
}

the_same_server() {
    by one
    new_keystore same
    expect 0 backup restore "$FILES/all" "${by[@]}" --same-server
    equal "1 3" "$(versions 1)" "versions of key 1"
}

new_master_key() {
    local before
    by one
    new_keystore master
    before=$(tool master list --json | jq -r '.master_keys[] | select(.state == "current") | .id')
    expect 0 backup restore "$FILES/all" "${by[@]}" --generate-new-master-key --json
    [[ $(json .new_master_key) == p11keyring:master:2 ]] || die "no new master key: $(<"$OUT")"
    [[ $(tool master list --json | jq -r '.master_keys[] | select(.state == "current" and
        (.label | startswith("p11keyring:master:"))) | .id') != "$before" ]] || die "the same one"
}

conflicts() {
    by one
    new_keystore conflict
    tool key create 7 >/dev/null
    refuses 7 "1 keys of the bundles cannot be restored, the first is key 7 version 1" "all at once" \
        backup restore "$FILES/all" "${by[@]}"
    equal 7 "$(tool key list --json | jq -r '.keys[].id')" "keys"
}

wrong_passwords() {
    new_keystore wrong
    by two
    refuses 5 "the password does not open the bundle" "the password that it was made with" \
        backup restore "$FILES/all" "${by[@]}"
    chmod 640 "$FILES/two"
    refuses 1 "$FILES/two is open to others" "chmod" backup restore "$FILES/all" "${by[@]}"
    chmod 600 "$FILES/two"
    echo short >"$FILES/short"
    chmod 600 "$FILES/short"
    own "$FILES/short"
    by short
    refuses 2 "shorter than 12" "openssl rand" backup create -o "$FILES/new" "${by[@]}"
    refuses 1 "there is no terminal" "" backup create -o "$FILES/new"
    [[ ! -e $FILES/new ]] || die "a bundle was made"
    by one
    head -c 100 "$FILES/all" >"$FILES/cut"
    refuses 6 "damaged" "another copy" backup restore "$FILES/cut" "${by[@]}"
    { head -c -1 "$FILES/all" && echo; } >"$FILES/edited"
    refuses 6 "it was edited" "another copy" backup restore "$FILES/edited" "${by[@]}"
}

# A new password is asked for twice. The prompt comes after echo is off.
asked() { # PASSWORD AGAIN
    rm -f "$FILES/asked"
    on_terminal "$WORK/bin/p11keyring backup create -o $FILES/asked" \
        "New password of" "$1" "New password again of" "$2"
}

prompts() {
    keyring_use source
    ! asked "a long password" "another password" || die "two passwords were taken"
    contains "$WORK/tty.out" "the two entries of the password differ"
    [[ ! -e $FILES/asked ]] || die "a bundle was made"
    asked "a long password" "a long password" || die "$(<"$WORK/tty.out")"
    lacks "$WORK/tty.out" "a long password"
    printf 'a long password' >"$FILES/typed"
    chmod 600 "$FILES/typed"
    own "$FILES/typed"
    by typed
    expect 0 backup verify "$FILES/asked" "${by[@]}"
}

custodians() {
    local both=(--password-source "$FILES/one" --second-password-source "$FILES/two")
    keyring_use source
    expect 0 backup create -o "$FILES/dual" "${both[@]}"
    by one
    refuses 2 "same password" "" backup create -o "$FILES/new" "${by[@]}" \
        --second-password-source "$FILES/one"
    expect 0 backup verify "$FILES/dual" "${both[@]}"
    expect 1 backup verify "$FILES/dual" "${by[@]}"
    contains "$ERR" "there is no terminal" # to ask the second custodian on
    expect 5 backup verify "$FILES/dual" --password-source "$FILES/two" \
        --second-password-source "$FILES/one"
    contains "$ERR" "in the same order"
}

# For the key of another token, of which only the public half is known.
recipients() {
    cli_keyring recipient
    p11tool --keypairgen --key-type RSA:3072 --usage-decrypt --id 77 --label recipient >/dev/null
    p11tool --read-object --type pubkey --id 77 -o "$FILES/public.der" >/dev/null 2>&1 ||
        as_server pkcs11-tool --module "$SOFTHSM_MODULE" --token-label recipient --read-object \
            --type pubkey --id 77 >"$FILES/public.der"
    openssl rsa -pubin -inform DER -in "$FILES/public.der" -out "$FILES/public.pem" 2>/dev/null
    own "$FILES/public.pem"
    keyring_use source
    expect 0 backup create -o "$FILES/sealed" --recipient "$FILES/public.pem"
    expect 1 backup verify "$FILES/sealed"
    contains "$ERR" "the token does not have the recipient's key"
    by one
    expect 0 backup create -o "$FILES/either" --recipient "$FILES/public.pem" "${by[@]}"
    expect 0 backup verify "$FILES/either" "${by[@]}"
    keyring_use recipient
    expect 0 backup verify "$FILES/sealed"
    expect 0 backup verify "$FILES/either"
    expect 0 backup restore "$FILES/sealed"
    equal "1 3 5" "$(versions 1)" "versions of key 1"
}

# --- secrets ---------------------------------------------------------------------------------------

# The process has read the first password and waits for the second.
waiting_process() {
    rm -f "$FILES/fifo"
    mkfifo "$FILES/fifo"
    own "$FILES/fifo"
    by one
    (exec 7<>"$FILES/fifo" && exec "${AS_SERVER[@]}" "$WORK/bin/p11keyring" backup create --verbose \
        -o "$FILES/waits" "${by[@]}" --second-password-source fd:7 >"$WORK/waiting.log" 2>&1) &
    echo $! >"$WORK/waiting.pid"
    eventually 20 waits_for_second
}

waits_for_second() { [[ $(cat "/proc/$(<"$WORK/waiting.pid")/syscall" 2>/dev/null) == "0 0x7 "* ]]; }

memory_has() { # PID TEXT: in what can be read of it, secret memory too
    perl -e '
        my ($pid, $text) = @ARGV; my $found = 0;
        open my $maps, "<", "/proc/$pid/maps" or die; open my $mem, "<", "/proc/$pid/mem" or die;
        while (<$maps>) {
            next unless /^([0-9a-f]+)-([0-9a-f]+) rw/; my ($from, $to) = (hex $1, hex $2);
            sysseek $mem, $from, 0; sysread $mem, my $bytes, $to - $from;
            $found = 1 if defined $bytes && index($bytes, $text) >= 0;
        }
        exit !$found' "$1" "$2"
}

passwords_stay_secret() {
    local pid word
    printf '\n[keyring]\naudit-log = %s/keyring/audit.log\n' "$WORK/source" >>"$WORK/source/p11keyring.conf"
    keyring_use source
    waiting_process
    pid=$(<"$WORK/waiting.pid")
    word=$(<"$FILES/one")
    memory_has "$pid" "$word" || die "the search does not find what is there"
    ! grep -aq "$word" "/proc/$pid/cmdline" "/proc/$pid/environ" || die "in arguments or environment"
    gcore -o "$WORK/core" "$pid" >/dev/null 2>&1
    grep -aq "$FILES/waits" "$WORK/core.$pid" || die "no core of this process"
    ! grep -aq "$word" "$WORK/core.$pid" || die "in the core"
    rm "$WORK/core.$pid"
    kill "$pid"
    wait_gone "$pid" 20
    expect 0 backup create -o "$FILES/logged" --verbose "${by[@]}"
    cp "$FILES/one" "$WORK/planted"
    equal "$WORK/planted" "$(grep -rlaF "$word" "$WORK" --exclude-dir=files | sort)" \
        "files that have the password"
    contains "$WORK/source/keyring/audit.log" backup-create
}

# --- kills and full disks --------------------------------------------------------------------------

tries() { # NUMBER: how often it may be tried to hit
    (($1 <= 10 * KILLS)) || die "only $inside of $1 kills fell inside the write window"
}

# Right before the bundle gets its name, and while the keystore is told of it. (A kill at a login would
# try SoftHSM2, which then rewrites its token's file.)
kills_of_create() {
    local i us out inside=0
    by one
    keyring_use source
    FOLDER=$KEYRING/keyring
    as_server strace -f -o "$KEYRING/strace" -e trace=linkat -e inject=linkat:signal=KILL \
        "$WORK/bin/p11keyring" backup create -o "$FILES/killed" "${by[@]}" >/dev/null 2>&1 || true
    contains "$KEYRING/strace" "killed by SIGKILL"
    equal "" "$(find "$FILES" -name '*killed*')" "files left"
    us=$(window backup create -o "$FILES/w%" "${by[@]}")
    for ((i = 1; inside < KILLS; i++)); do
        tries "$i"
        rm -f "$FILES/killed"
        out=$(kill_in "$us" backup create -o "$FILES/killed" "${by[@]}")
        count_kill "$out"
        expect 0 backup verify "$FILES/killed" "${by[@]}"
        expect 0 key list
    done
    echo "kills $((i - 1)), inside the write window $inside"
}

kills_of_restore() {
    local i us out inside=0 keys
    by one
    keyring_use target
    FOLDER=$KEYRING/keyring
    for i in 1 2 3; do new_keystore "w$i"; done
    us=$(for i in 1 2 3; do
        P11KEYRING_CONF=$KEYRING/w$i.conf kill_in 0 backup restore "$FILES/all" "${by[@]}" | tail -1
    done | sort -n | sed -n 2p)
    for ((i = 1; inside < KILLS; i++)); do
        tries "$i"
        new_keystore "k$i"
        out=$(kill_in "$us" backup restore "$FILES/all" "${by[@]}")
        count_kill "$out"
        keys=$(tool key list --json | jq -c '[.keys[] | [.id, .versions]]')
        [[ $keys == "[]" || $keys == "[[1,3],[7,2],[9,1]]" ]] || die "after kill $i: $keys"
        [[ $out != *restored* || $keys != "[]" ]] || die "acknowledged, and gone"
        [[ $keys != "[]" ]] || expect 0 backup restore "$FILES/all" "${by[@]}"
        equal "[[1,3],[7,2],[9,1]]" \
            "$(tool key list --json | jq -c '[.keys[] | [.id, .versions]]')" "keys in the end"
    done
    echo "kills $((i - 1)), inside the write window $inside"
}

disk_full() {
    local free made=0 refused=0
    by one
    keyring_use target
    mkdir "$FILES/small"
    mount -t tmpfs -o size=256k,mode=700 tmpfs "$FILES/small"
    trap 'umount "$FILES/small" && rmdir "$FILES/small"' EXIT
    own "$FILES/small"
    sed "s/^name = .*/name = small/; s|^keystore = .*|keystore = $FILES/small/keystore|" \
        "$KEYRING/p11keyring.conf" >"$KEYRING/small.conf"
    own "$KEYRING/small.conf"
    export P11KEYRING_CONF=$KEYRING/small.conf
    tool master create >/dev/null
    for free in 0 4 8 16 64; do
        cat /dev/zero >"$FILES/small/filler" 2>/dev/null || true
        truncate -s "-${free}K" "$FILES/small/filler"
        if tool backup restore "$FILES/all" "${by[@]}" 2>"$ERR" >"$OUT"; then
            made=$((made + 1))
        else
            refused=$((refused + 1))
            grep -qE "No space left|full" "$ERR" || die "the reason is not told: $(<"$ERR")"
            equal "[]" "$(rm "$FILES/small/filler" && tool key list --json | jq -c .keys)" "keys"
        fi
        rm -f "$FILES/small/filler"
    done
    ((refused >= 2 && made >= 1)) || die "$refused refused, $made made"
    cat /dev/zero >"$FILES/small/filler" 2>/dev/null || true
    expect 1 backup create -o "$FILES/small/bundle" "${by[@]}"
    contains "$ERR" "No space left"
    [[ ! -e $FILES/small/bundle ]] || die "half a bundle"
}

check "a bundle of all keys" keyring_and_bundle
check "keys in no bundle are told" keys_in_no_bundle
check "a policy that forbids export" policy
check "restored to another token: new versions; a second run finds them there" another_keyring
check "--same-server makes no new versions" the_same_server
check "--generate-new-master-key" new_master_key
check "a conflict is told before anything is written" conflicts
check "wrong passwords, damaged bundles" wrong_passwords
check "a new password is asked for twice" prompts
check "two custodians" custodians
check "a recipient's key in a token" recipients
check "no password in arguments, environment, logs or cores" passwords_stay_secret
reported "create survives kill -9" kills_of_create
reported "restore survives kill -9" kills_of_restore
check "a full disk leaves no half bundle and no half keyring" disk_full
finish
