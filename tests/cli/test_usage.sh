#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Help, usage errors and completion. P11K_GOLDEN=write renews the golden files.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
KEYRING=$WORK/none
mkdir -p "$KEYRING/keyring"
export P11KEYRING_CONF=$WORK/empty.conf
: >"$P11KEYRING_CONF"

golden() { # NAME ARGUMENT...
    local name=$1
    shift
    expect 0 "$@"
    [[ -z ${P11K_GOLDEN:-} ]] || cp "$OUT" "$GOLDEN/$name"
    diff -u "$GOLDEN/$name" "$OUT"
    equal "" "$(<"$ERR")" "standard error"
}

help_is_golden() {
    golden help.txt --help
    golden help.txt help
    golden help-key.txt key --help
    golden help-key-create.txt key create --help
    golden help-key-create.txt --help key create
    golden help-doctor.txt help doctor
}

every_command_explains_itself() {
    local line commands=0
    expect 0 --help
    while read -r line; do
        # shellcheck disable=SC2086 # noun and verb are two words
        expect 0 $line --help
        contains "$OUT" "Usage: p11keyring $line"
        commands=$((commands + 1))
    done < <(sed -n '/^Commands:/,/^$/s/^  \([a-z]* *[a-z]*\).*/\1/p' "$WORK/out" |
        sed 's/ *$//; s/  .*//')
    ((commands >= 15)) || die "only $commands commands were found in the help"
}

usage_errors() {
    refuses 2 "no command is given" "--help"
    refuses 2 "unknown command" "--help" frobnicate
    refuses 2 "needs one of these verbs: create, list, show" "key --help" key
    refuses 2 "needs one of these verbs" "" key destroy-everything
    refuses 2 "takes: ID" "key create --help" key create
    refuses 2 "takes: ID" "" key create 1 2
    refuses 2 "takes no argument" "" status now
    refuses 2 "unknown option --colour" "--help" status --colour=red
    refuses 2 "unknown option -x" "" status -x
    refuses 2 "option --cipher is not for key list" "key list --help" key list --cipher aes-ctr
    refuses 2 "option --dry-run is not for status" "" status -n
    refuses 2 "option --config needs a value" "" status --config
    refuses 2 "option --json takes no value" "" status --json=yes
    refuses 2 "given twice" "" status --keystore /a --keystore /b
    refuses 2 "key rotate takes a key id or --all" "" key rotate
    refuses 2 "key rotate takes a key id or --all" "" key rotate 1 --all
    refuses 2 "--label" "" token init
    refuses 2 "--slot" "" token init --slot x
}

key_ids_out_of_range() {
    local id
    for id in 0 -- -1 4294967296 99999999999999999999 1x x '' 1.0 ' 1' 0x1; do
        [[ $id != -- ]] || continue
        refuses 2 "a key id is a number from 1 to 4294967295" "" key show -- "$id"
    done
}

# What somebody types for a PIN is neither taken nor repeated.
pin_in_arguments() {
    local pin
    pin=$(random_hex 6)
    refuses 2 "the PIN source is of no known form" "file:/path" status --pin-source "$pin"
    lacks "$ERR" "$pin"
    refuses 2 "" "" status --pin "$pin"
    lacks "$ERR" "$pin"
    refuses 2 "" "" status --user-pin="$pin"
    lacks "$ERR" "$pin"
    refuses 2 "pin-value" "" status --token-uri "pkcs11:token=a?pin-value=$pin"
    lacks "$ERR" "$pin"
    refuses 2 "" "" status "$pin"
    lacks "$ERR" "$pin"
}

configuration_errors() {
    refuses 1 "no PKCS#11 module is configured" "module =" key list
    printf '[keyring]\nkeystoer = /x\n' >"$WORK/bad.conf"
    refuses 1 "keystoer" "keystore" key list --config "$WORK/bad.conf"
    refuses 1 "cannot open the configuration file" "" key list --config "$WORK/not-there.conf"
    refuses 2 "option --keystore" "" key list --keystore relative/path
    printf '[keyring]\nname = a\n' >"$WORK/open.conf"
    chmod 666 "$WORK/open.conf"
    refuses 1 "can be changed by others" "chmod" key list --config "$WORK/open.conf"
}

json_errors() {
    expect 1 key list --json
    is_json p11keyring.error/1
    equal config "$(json .error.class)" "class"
    equal 1 "$(json .error.exit)" "exit"
    json .error.hint >/dev/null
    contains "$ERR" "p11keyring: error: "
    expect 2 key show 0 --json
    equal usage "$(json .error.class)" "class"
}

version_and_completion() {
    expect 0 version
    grep -qE '^p11keyring [0-9]+\.[0-9]+\.[0-9]+$' "$OUT"
    expect 0 version --json
    is_json p11keyring.version/1
    expect 0 completion bash
    cp "$OUT" "$WORK/completion.bash"
    equal "create destroy disable enable list rotate show" "$(complete_words key '')" "verbs of key"
    equal "--cipher" "$(complete_words key create --ci)" "options of key create"
    equal "status" "$(complete_words sta)" "commands"
}

complete_words() { # WORD...: what bash offers for the last one
    bash -c 'source "$1"; shift; COMP_WORDS=(p11keyring "$@"); COMP_CWORD=$#; _p11keyring
        printf "%s\n" "${COMPREPLY[@]}"' bash "$WORK/completion.bash" "$@" | sort | xargs
}

output_that_cannot_be_written() {
    local rc=0
    tool version >/dev/full 2>"$ERR" || rc=$?
    equal 1 "$rc" "exit code"
    contains "$ERR" "cannot write the result"
}

manuals_are_complete() {
    local page=$ROOT/docs/man/p11keyring.1 command option
    equal "" "$(groff -man -ww -Tutf8 "$page" "$ROOT/docs/man/p11keyring.conf.5" 2>&1 >/dev/null)" \
        "groff's warnings"
    sed 's/\\f[BIR]//g; s/\\-/-/g' "$page" >"$WORK/manual"
    expect 0 --help
    while read -r command; do
        grep -q -- "$command" "$WORK/manual" || die "'$command' is not in p11keyring(1)"
    done < <(sed -n '/^Commands:/,/^$/s/^  \([a-z]* [a-z]\+\).*/\1/p' "$OUT")
    for option in $(sed -n 's/.*words="\(.*\)".*/\1/p' "$WORK/completion.bash" | xargs -n 1 |
        grep '^--' | sort -u); do
        grep -q -- "$option" "$WORK/manual" || die "'$option' is not in p11keyring(1)"
    done
}

check "help is as it was" help_is_golden
check "every command explains itself" every_command_explains_itself
check "usage errors exit with 2, name the mistake and where help is" usage_errors
check "key ids out of range are refused" key_ids_out_of_range
check "a PIN in the arguments is refused and not repeated" pin_in_arguments
check "configuration errors name option and fix" configuration_errors
check "errors come as JSON too" json_errors
tool completion bash >"$WORK/completion.bash"
check "version and completion" version_and_completion
check "a result that cannot be written is no success" output_that_cannot_be_written
check "the manual has every command and option, and no roff mistakes" manuals_are_complete
finish
