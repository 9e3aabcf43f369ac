# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# What the command-line tests share; source it first.
# shellcheck source=tests/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

OUT=$WORK/out
ERR=$WORK/err
export GOLDEN=$ROOT/tests/cli/golden

# Runs the tool; what it said is in $OUT and $ERR.
expect() { # EXIT-CODE ARGUMENT...
    local want=$1 rc=0
    shift
    tool "$@" >"$OUT" 2>"$ERR" </dev/null || rc=$?
    [[ $rc == "$want" ]] || {
        cat "$OUT" "$ERR" >&2
        die "exit code of 'p11keyring $*': wanted $want, saw $rc"
    }
}

# The keystore's bytes and the names beside it; the PIN guard is free to change.
keyring_digest() {
    (cd "$KEYRING/keyring" && find . ! -name '*.pin-guard' -printf '%p %u %m\n' | sort &&
        { cat -- *.keystore 2>/dev/null || true; } | sha256sum)
}

# The tool fails with this code, says TEXT in its one error and HINT in its hint, prints nothing
# and changes nothing.
refuses() { # EXIT-CODE TEXT HINT ARGUMENT...
    local code=$1 text=$2 hint=$3 before
    shift 3
    before=$(keyring_digest)
    expect "$code" "$@"
    equal "" "$(<"$OUT")" "standard output"
    equal 1 "$(grep -c '^p11keyring: error: ' "$ERR")" "number of errors"
    grep '^p11keyring: error: ' "$ERR" | grep -qF -- "$text" || die "no '$text' in: $(<"$ERR")"
    [[ -z $hint ]] || grep '^p11keyring: hint: ' "$ERR" | grep -qF -- "$hint" ||
        die "no hint '$hint' in: $(<"$ERR")"
    equal "$before" "$(keyring_digest)" "keyring folder"
}

json() { # JQ-FILTER: of what the tool printed
    jq -er "$1" "$OUT"
}

is_json() { # SCHEMA
    equal "$1" "$(json .schema)" "schema"
}

p11tool() { # pkcs11-tool on the selected token, logged in
    P11K_TEST_PIN=$(<"$KEYRING/good-pin") as_server pkcs11-tool --module "$SOFTHSM_MODULE" \
        --token-label "$(basename "$KEYRING")" --login --pin env:P11K_TEST_PIN "$@"
}

# As `keyring_up`, and keeps a copy of the right PIN.
cli_keyring() { # NAME
    token_up "$1"
    cp -p "$KEYRING/pin" "$KEYRING/good-pin"
    tool master create >/dev/null
}

# A keyring whose module is tests/mock: see mock_rules in common.sh. Calls are counted.
mock_keyring() { # NAME
    export P11K_MOCK_COUNTS=$WORK/mock.counts
    : >"$P11K_MOCK_COUNTS"
    own "$P11K_MOCK_COUNTS"
    mock_token_up "$1"
    sed -i 's/^timeout = .*/timeout = 300/' "$P11KEYRING_CONF"
    cp -p "$KEYRING/pin" "$KEYRING/good-pin"
    tool master create >/dev/null
    tool key create 1 >/dev/null
}

# The counters are records of a name (32 bytes) and a number (8 bytes), see tests/mock/control.h.
mock_calls() { # FUNCTION: by all processes since mock_keyring
    local at
    at=$(grep -abo -P "$1\\x00" "$P11K_MOCK_COUNTS" | head -1 | cut -d: -f1)
    [[ -n $at ]] || die "no counter for $1"
    od -An -tu8 -j $((at + 32)) -N 8 "$P11K_MOCK_COUNTS" | tr -d ' '
}
