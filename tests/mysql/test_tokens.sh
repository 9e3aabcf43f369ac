#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# One keyring in two tokens: a mysqld in wrapped mode goes on with either of them, and brings the one
# that was away up to date by itself.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"
# shellcheck source=tests/lib/two_tokens.sh
source "$(dirname "$0")/../lib/two_tokens.sh"

ROTATE="ALTER INSTANCE ROTATE INNODB MASTER KEY"

token_states() { row "$1" Token_states; }

loses_the_first() {
    two_tokens_up
    sed -i "s|^\[keyring\]|&\npoll-interval = 200|" "$P11KEYRING_CONF"
    tool master create >/dev/null
    server_new s
    server_component s wrapped
    server_start s
    many_tables s before 2
    equal "first: up, second: up" "$(token_states s)" "Token_states"
    token_leaves first
    eventually 20 is_state s first down
    is_state s second up
}

restarts_with_the_second_alone() {
    server_kill s
    server_start s
    sql s "$ROTATE"
    many_tables s meanwhile 2
    checksums s >"$WORK/sums"
    equal "first: down, second: up" "$(token_states s)" "Token_states"
}

the_server_brings_the_first_up_to_date() {
    (($(waiting first) > 0)) || die "nothing waits for the first token"
    tokens_return
    eventually 20 is_state s first up
    eventually 30 nothing_waits first
    equal "first: up, second: up" "$(token_states s)" "Token_states"
}

the_first_alone_has_everything() {
    token_leaves second
    eventually 20 is_state s second down
    server_kill s
    server_start s
    same_checksums s "$WORK/sums"
    sql s "$ROTATE"
    equal "first: up, second: down" "$(token_states s)" "Token_states"
    server_stop s
}

check "a server loses the first of its two tokens" loses_the_first
check "killed, it starts with the second alone, and makes a key" restarts_with_the_second_alone
check "the first token is back: the server brings it up to date" the_server_brings_the_first_up_to_date
check "killed, it starts and reads everything with the first alone" the_first_alone_has_everything
finish
