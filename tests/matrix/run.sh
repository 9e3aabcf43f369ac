#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The token matrix: what our code promises, on each token it was promised for.
#
#   run.sh [TOKEN...]
#   run.sh --update-docs
#
# --update-docs writes what was found on all tokens into the tables of docs/TOKENS.md; without it, the run sees
# that they still say so (but for the figures).
# shellcheck source=tests/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
# shellcheck source=tests/matrix/tokens.sh
source "$ROOT/tests/matrix/tokens.sh"

DOCS=$ROOT/docs/TOKENS.md
TABLES=(structure figures refusals)
declare -A NAME_OF=([softhsm2]=SoftHSM2 [nss]="NSS softokn" [opencryptoki]="openCryptoki soft token"
    [tpm2]="tpm2-pkcs11, swtpm")
cp "$BUILD"/tests/matrix/{matrix,outlast} "$WORK/bin/"

# --- what is found ---------------------------------------------------------------------------------

found() { # JQ-ARGUMENT...: of what the program reported
    jq "$@" "$KEYRING/found.json"
}

measure() {
    local table
    as_server "$WORK/bin/matrix" "${ACCESS[@]}" >"$KEYRING/found.json"
    for table in "${TABLES[@]}"; do
        rows "$table" >>"$WORK/$table.rows"
    done
    found -e '[.mechanisms[] | select(.works) | .sessions > 1] | all and length > 0'
}

rows() { # TABLE
    local options=none
    # shellcheck disable=SC2016 # Markdown
    [[ -z $INIT_ARGS ]] || options='`init-args`'
    found -r --arg table "$1" --arg token "${NAME_OF[$TOKEN]}" --arg version "$VERSION" \
        --arg options "$options" -f "$ROOT/tests/matrix/row.jq"
}

documented() {
    local row
    row=$(rows structure)
    grep -qxF -- "$row" "$DOCS" && return
    grep -F "| ${NAME_OF[$TOKEN]} |" "$DOCS" >&2 || true
    die "if this is right, run tests/matrix/run.sh --update-docs: $row"
}

# --- promises --------------------------------------------------------------------------------------

keeps_keys() {
    tool master create
    tool key create 1
    tool key rotate 1
    tool key list --json | jq -e '.keys[0] | .latest == 3 and .versions == 2'
}

# Every envelope (three, with the manifest key's) under a new master key, and the old one destroyed.
rotates_its_master_key() {
    local before
    before=$(tool key show 1 --json | jq -S .key_versions)
    tool master rotate --json | jq -e '(.master_keys | length) == 1 and .envelopes == 3 and
        .rewrapped == 3 and .waiting == 0 and (.interrupted | not)'
    tool master retire p11keyring:matrix:1 --without-evidence --json \
        --confirm p11keyring:matrix:1 |
        jq -e .destroyed
    tool master list --json | jq -e '[.master_keys[] | select(.label | startswith("p11keyring:matrix:"))
        | .label] == ["p11keyring:matrix:2"]'
    tool status --json | jq -e '.verified and .master_key == "p11keyring:matrix:2"'
    [[ $(tool key show 1 --json | jq -S .key_versions) == "$before" ]]
    tool key rotate 1
}

doctor_is_content() { tool doctor; }

doctor_misses_anchor() {
    fails_with 3 tool doctor >"$KEYRING/doctor"
    contains "$KEYRING/doctor" "keeps no data objects"
}

doctor_sees_the_leak() {
    fails_with 3 tool doctor >"$KEYRING/doctor"
    contains "$KEYRING/doctor" "whoever has the PIN can take master keys out of the token"
}

doctor_knows_custody() {
    tool doctor --json | jq -e '.checks[] | select(.check == "key custody") | .result == "ok"'
}

# After the attempts to set it extractable and readable.
value_stays() {
    found -e '[.attacks | .["read value", "set readable", "copy as extractable", "wrap out"]
        | .refused] | all'
}

value_leaves() {
    found -e '.attacks | .["copy as extractable", "wrap out"] | .refused | not'
}

# In the same token, with an option for it.
second_keyring() { # NAME OPTION MECHANISM
    sed "s|^uri.*|&\n$2|; s|^name = matrix|name = $1|; s|/matrix.key|/$1.key|" \
        "$P11KEYRING_CONF" >"$KEYRING/$1.conf"
    printf '[pkcs11]\nmechanism = %s\n' "$3" >>"$KEYRING/$1.conf"
    own "$KEYRING/$1.conf"
    export P11KEYRING_CONF=$KEYRING/$1.conf
    keeps_keys
}

# Its number in PKCS #11 v3.1.
kwp_by_its_new_number() {
    second_keyring kwp "aes-kwp-code = 0x210b" aes-kwp
    tool status --json | jq -e 'any(..; . == "aes-kwp")'
}

rsa_serves_where_pkcs_is_allowed() {
    second_keyring rsa "rsa-pkcs = allowed" rsa-oaep
    tool status --json | jq -e '.mechanism == "rsa-oaep-sha256"'
}

# A process, as a server is one, whose token's daemon is killed and comes back.
outlasts_its_daemon() {
    local said=$KEYRING/outlast pid
    mkfifo "$said.in"
    own "$said.in"
    # shellcheck disable=SC2016 # expanded by sh
    background "${AS_SERVER[@]}" sh -c 'exec "$@" <"$0"' "$said.in" "$WORK/bin/outlast" \
        "${ACCESS[@]}" >"$said" 2>"$said.errors"
    pid=$background_pid
    exec 9>"$said.in"
    eventually 20 grep -q '^up' "$said"
    end_process "$KEYRING/abrmd.pid" KILL
    eventually 30 grep -q '^down' "$said"
    start_abrmd 9>&-
    eventually 30 last_line_is "$said" up
    exec 9>&-
    wait_gone "$pid" 20
}

last_line_is() { # FILE TEXT
    [[ $(tail -n 1 "$1") == "$2" ]]
}

rsa_serves() {
    found -e '.chosen == "rsa-oaep-sha256"'
}

extractable_is_refused() {
    found -e .makes_extractable
    found -e .extractable.refused
}

wrong_pin_is_tried_once() {
    cp -p "$KEYRING/pin" "$KEYRING/good-pin"
    printf 'wrong' >"$KEYRING/pin"
    fails_with 5 tool key rotate 1
    fails_with 5 tool key rotate 1
    fails_with 5 tool key rotate 1
    fails_with 5 tool key rotate 1
    cp -p "$KEYRING/good-pin" "$KEYRING/pin"
    tool key rotate 1
}

# Three wrong PINs lock it. Of these, each one is new to the guard, and the third is not tried.
last_try_is_kept() {
    local pin
    for pin in one two three; do
        printf '%s' "$pin" >"$KEYRING/pin"
        fails_with 5 tool key rotate 1 2>"$KEYRING/refusal"
    done
    contains "$KEYRING/refusal" "no login is tried"
    cp -p "$KEYRING/good-pin" "$KEYRING/pin"
    fails_with 5 tool key rotate 1
    PIN=$(<"$KEYRING/pin") as_server pkcs11-tool --module "$MODULE" --login --pin env:PIN -O
    tool key rotate 1
}

refuses_foreign_kwp() {
    found -e '.mechanisms["aes-kwp"] | (.works | not) and (.why | contains("not the standard"))'
}

# The configurations for vendors' HSMs: nothing hinders them but that there is no such module.
examples_are_understood() {
    local dir=$WORK/examples example
    mkdir "$dir"
    awk -v dir="$dir" '/^    \[token:/ { file = dir "/" ++n ".conf" }
        /^- / { file = "" } file { sub(/^    /, ""); print > file }' "$DOCS"
    (($(find "$dir" -name '*.conf' | wc -l) >= 5))
    for example in "$dir"/*.conf; do
        printf '[keyring]\nkeystore = %s/keystore\n' "$dir" >>"$example"
        own "$dir"
        fails_with 1 env P11KEYRING_CONF="$example" "$WORK/bin/p11keyring" token list 2>"$dir/error"
        contains "$dir/error" "no PKCS#11 module at"
    done
}

needs_init_args() {
    grep -v '^init-args' "$P11KEYRING_CONF" >"$KEYRING/without.conf"
    own "$KEYRING/without.conf"
    P11KEYRING_CONF=$KEYRING/without.conf fails_with 1 tool token info 2>"$KEYRING/refusal"
    contains "$KEYRING/refusal" init-args
}

PROMISES=()
promise() { # FUNCTION WHAT TOKEN...
    PROMISES+=("$1|$2|${*:3}")
}
promise measure "eight callers at once wrap and unwrap by it, on several sessions" "${TOKENS[@]}"
promise keeps_keys "a keyring is made, gets keys, rotates them and is opened again" "${TOKENS[@]}"
promise rotates_its_master_key "the whole keyring goes under a new master key, the old one is destroyed" \
    "${TOKENS[@]}"
promise doctor_is_content "doctor finds nothing wrong" softhsm2 opencryptoki tpm2
promise doctor_misses_anchor "doctor warns that it cannot hold an anchor" nss
promise doctor_sees_the_leak "doctor warns that keys can be taken out of it" nss
promise doctor_knows_custody "doctor finds that keys stay in it" softhsm2 opencryptoki
promise value_stays "the PIN is not enough to get a master key out" softhsm2 opencryptoki tpm2
promise extractable_is_refused "a key that may leave the token is refused" \
    softhsm2 nss opencryptoki
promise rsa_serves "a token without AES-GCM and AES-KWP serves by RSA" tpm2
promise outlasts_its_daemon "a running process finds it again after its daemon was killed" tpm2
promise wrong_pin_is_tried_once "a wrong PIN is tried once" "${TOKENS[@]}"
promise refuses_foreign_kwp "0x210A in a format of its own is refused" nss opencryptoki
promise kwp_by_its_new_number "AES-KWP serves by the number 0x210B" nss opencryptoki
promise rsa_serves_where_pkcs_is_allowed "an RSA master key serves with rsa-pkcs = allowed" opencryptoki
promise needs_init_args "without init-args it is refused, and the hint names the option" nss
promise value_leaves "whoever has the PIN gets a master key out: it is no HSM" nss
promise last_try_is_kept "the try that would lock it is not made" opencryptoki
promise documented "docs/TOKENS.md says what was found" "${TOKENS[@]}"

# --- documents -------------------------------------------------------------------------------------

# The rows between the head of a table (its marker and two lines) and the end's marker.
update_table() { # TABLE
    ROWS=$(<"$WORK/$1.rows") awk -v marker="<!-- matrix: $1 -->" '
        $0 == "<!-- matrix end -->" { skip = 0 }
        !skip { print }
        $0 == marker { head = 3 }
        head > 0 && --head == 0 { print ENVIRON["ROWS"]; skip = 1 }' "$DOCS" >"$WORK/docs.md"
    cat "$WORK/docs.md" >"$DOCS"
}

# --- main ------------------------------------------------------------------------------------------

update=
[[ ${1:-} != --update-docs ]] || { update=1 && set --; }
(($#)) || set -- "${TOKENS[@]}"
for TOKEN in "$@"; do
    [[ -n ${NAME_OF[$TOKEN]:-} ]] || die "there is no token '$TOKEN': ${TOKENS[*]}"
    check "$TOKEN: it starts" start_token "$TOKEN"
    [[ -e $WORK/$TOKEN/state ]] || continue
    AS_SERVER_HERE=("${AS_SERVER[@]}")
    # shellcheck disable=SC1090 # written by start_token
    source "$WORK/$TOKEN/state"
    ACCESS=("$MODULE" "$URI" "file:$KEYRING/pin" "$KEYRING/matrix.guard" "$INIT_ARGS")
    for line in "${PROMISES[@]}"; do
        IFS='|' read -r function what tokens <<<"$line"
        [[ " $tokens " == *" $TOKEN "* ]] || continue
        [[ -z $update || $function != documented ]] || continue
        check "$TOKEN: $what" "$function"
    done
    AS_SERVER=("${AS_SERVER_HERE[@]}")
done
check "the examples in docs/TOKENS.md are understood" examples_are_understood
for table in ${update:+"${TABLES[@]}"}; do update_table "$table"; done
finish
