#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# One keyring in two tokens: a mariadbd goes on with either of them, and what was made while one was
# away opens with that one alone once it is up to date.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"
# shellcheck source=tests/lib/two_tokens.sh
source "$(dirname "$0")/../lib/two_tokens.sh"

token_states() { status_of "$1" Pkcs11_key_management_tokens; }

make_and_load() { # KEY-ID
    tool key create "$1" >/dev/null
    eventually 10 load_table s "t$1" 50 row "ENCRYPTED=YES ENCRYPTION_KEY_ID=$1"
}

loses_the_first() {
    rm -rf "$WORK/s"
    two_tokens_up
    tool master create >/dev/null
    tool key create 1 >/dev/null
    tool key create 2 >/dev/null
    server_new s
    server_keyring s on
    server_start s
    equal "first: up, second: up" "$(token_states s)" "tokens"
    token_leaves first
    eventually 20 is_state s first down
    make_and_load 11
    fails_with 3 tool status >"$WORK/out" 2>&1
    contains "$WORK/out" "token 'first': down"
}

restarts_with_the_second_alone() {
    server_stop s
    server_start s
    equal 50 "$(sql s 'SELECT COUNT(*) FROM t.t11')" "rows"
    make_and_load 12
}

the_first_is_brought_up_to_date() {
    tokens_return
    eventually 20 is_state s first up
    tool keyring sync --progress=none >/dev/null
    eventually 30 nothing_waits first
}

the_first_alone_has_everything() {
    token_leaves second
    server_stop s
    server_start s
    equal 50 "$(sql s 'SELECT COUNT(*) FROM t.t11')" "rows"
    equal 50 "$(sql s 'SELECT COUNT(*) FROM t.t12')" "rows"
    tokens_return
    server_stop s
    equal "up up" "$(tool status --json | jq -r '[.tokens[].state] | join(" ")')" "tokens"
}

check "a server whose first token goes away makes keys with the second" loses_the_first
check "it restarts with the second token alone" restarts_with_the_second_alone
check "the first token is brought up to date when it is back" the_first_is_brought_up_to_date
check "everything made meanwhile opens with the first token alone" the_first_alone_has_everything
finish
