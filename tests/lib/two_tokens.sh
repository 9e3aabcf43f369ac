# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# One keyring in two tokens of the mock, `first` and `second`, for servers of either make. Source
# mariadb.sh or mysql.sh first, and define token_states SERVER: what the server says of its tokens.
#
#   two_tokens_up            makes them and their configuration, without a keystore
#   token_leaves TOKEN / tokens_return
#   is_state SERVER TOKEN STATE
#   waiting TOKEN            prints how many envelopes are not wrapped for it yet
#   nothing_waits TOKEN

two_tokens_up() {
    mock_token_up first
    tool token init --label second --so-pin-source "file:$KEYRING/so-pin" >/dev/null
    sed -i '/^timeout = /s/.*/timeout = 1500/' "$P11KEYRING_CONF"
    sed "/^\[keyring\]/,\$d; s/first/second/" "$P11KEYRING_CONF" | grep . >"$WORK/second.conf"
    sed -i "s|pin-source = .*|pin-source = file:$KEYRING/pin|" "$WORK/second.conf"
    sed -i "/^\[keyring\]/{
        r $WORK/second.conf
        N
    }" "$P11KEYRING_CONF"
}

token_leaves() { mock_rules "token $1
token-gone"; }

tokens_return() { mock_rules ""; }

is_state() { # SERVER TOKEN STATE
    [[ ", $(token_states "$1")," == *", $2: $3,"* ]]
}

waiting() { # TOKEN
    tool status --json 2>/dev/null | jq -er ".tokens[] | select(.name == \"$1\") | .waiting"
}

nothing_waits() { [[ $(waiting "$1") == 0 ]]; }
