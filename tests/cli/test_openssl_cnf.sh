#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The openssl.cnf that activates the provider: it does, and what the system's own file says about
# TLS and about other providers still holds.
# shellcheck source=tests/lib/common.sh
source "$(dirname "$0")/../lib/common.sh"

export OPENSSL_MODULES=$WORK/modules
mkdir "$OPENSSL_MODULES"
ln -s "$BUILD/lib/ossl-modules/p11keyring.so" \
    "$(openssl version -m | sed 's/.*"\(.*\)"/\1/')/legacy.so" "$OPENSSL_MODULES"
OURS=$BUILD/share/p11keyring/openssl.cnf

# Ours, with another file in the place of the system's.
with_system_file() { # FILE
    sed "s|^\.include .*|.include $1|" "$OURS" >"$WORK/ours.cnf"
}

init_section() {
    sed -n 's/^openssl_conf *= *//p' "$OURS"
}

providers_section() {
    sed -n 's/^providers *= *//p' "$OURS"
}

# A system that allows TLS 1.3 alone and has the legacy provider.
strict_system() {
    cat <<EOF
openssl_conf = $(init_section)
[$(init_section)]
providers = $(providers_section)
ssl_conf = strict_ssl
[$(providers_section)]
default = strict_default
legacy = strict_legacy
[strict_default]
activate = 0
[strict_legacy]
activate = 1
[strict_ssl]
system_default = strict_defaults
[strict_defaults]
MinProtocol = TLSv1.3
EOF
}

providers() { # CONF
    OPENSSL_CONF=$1 openssl list -providers
}

make_certificate() {
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 2 \
        -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>/dev/null
}

# A client gets a file from a server through TLS, with one configuration at both ends.
tls_carries() { # CONF CLIENT-OPTION...
    local server i rc
    export OPENSSL_CONF=$1
    shift
    rm -f "$WORK/tls.sock"
    (cd "$WORK" && exec openssl s_server -quiet -HTTP -no_etm -naccept 1 -unix tls.sock \
        -cert cert.pem -key key.pem) >/dev/null 2>&1 &
    server=$!
    echo "$server" >"$WORK/server.pid"
    for ((i = 0; i < 100; i++)); do
        [[ ! -S $WORK/tls.sock ]] || break
        sleep 0.05
    done
    printf 'GET /message HTTP/1.0\r\n\r\n' | openssl s_client -quiet -no_etm \
        -unix "$WORK/tls.sock" "$@" >"$WORK/arrived" 2>"$WORK/client.log" && rc=0 || rc=1
    end_process "$WORK/server.pid"
    unset OPENSSL_CONF
    ((rc == 0)) && cmp "$WORK/message" "$WORK/arrived"
}

tls_fails() {
    if tls_carries "$@"; then return 1; fi
    grep -q "alert protocol version" "$WORK/client.log"
}

it_is_found_for() { # CONF CIPHER
    OPENSSL_CONF=$1 openssl list -cipher-algorithms -verbose |
        grep -i "{.*$2.*} @ p11keyring" >/dev/null
}

activates_the_provider() {
    providers "$OURS" | grep "^  p11keyring" >/dev/null
    providers "$OURS" | grep "^  default" >/dev/null
    it_is_found_for "$OURS" AES-256-ECB
    it_is_found_for "$OURS" AES-256-CBC
}

encrypts_as_ever() {
    local key=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
    echo text >"$WORK/text"
    openssl enc -aes-256-cbc -K "$key" -iv "${key:0:32}" -in "$WORK/text" -out "$WORK/theirs"
    OPENSSL_CONF=$OURS openssl enc -aes-256-cbc -K "$key" -iv "${key:0:32}" -in "$WORK/text" \
        -out "$WORK/ours"
    cmp "$WORK/theirs" "$WORK/ours"
}

handle_magic() { # in hex
    printf '%b' "$(sed -n 's/^#define KR_HANDLE_MAGIC "\(.*\)"/\1/p' \
        "$ROOT/provider/openssl/handle.h")" | od -An -tx1 | tr -d ' \n'
}

# First without the provider, where it is a key like any other.
refuses_a_handle() {
    local handle
    handle=$(handle_magic)00112233445566778899aabbccddeeff0011223344556677
    printf '%064d' 0 >"$WORK/wrapped"
    openssl enc -d -aes-256-ecb -nopad -K "$handle" -in "$WORK/wrapped" -out "$WORK/out"
    ! OPENSSL_CONF=$OURS openssl enc -d -aes-256-ecb -nopad -K "$handle" -in "$WORK/wrapped" \
        -out "$WORK/out" 2>"$WORK/errors" || return 1
    grep -q "no keyring is registered in this process" "$WORK/errors"
}

tls_settings_of_the_system_hold() {
    strict_system >"$WORK/strict.cnf"
    with_system_file "$WORK/strict.cnf"
    tls_carries "$OURS" -tls1_2
    tls_fails "$WORK/strict.cnf" -tls1_2
    tls_fails "$WORK/ours.cnf" -tls1_2
    tls_carries "$WORK/ours.cnf" -tls1_3
}

# Records of the stitched cipher, of AES-256-CBC alone, and of AEAD ciphers.
tls_passes_through() {
    local suite
    for suite in ECDHE-RSA-AES256-SHA ECDHE-RSA-AES256-SHA384 ECDHE-RSA-AES256-GCM-SHA384; do
        tls_carries "$OURS" -tls1_2 -cipher "$suite"
    done
    tls_carries "$OURS" -tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384
    tls_carries "$OURS" -tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256
}

other_providers_of_the_system_stay() {
    strict_system >"$WORK/strict.cnf"
    with_system_file "$WORK/strict.cnf"
    providers "$WORK/ours.cnf" | grep "^  legacy" >/dev/null
    providers "$WORK/ours.cnf" | grep "^  default" >/dev/null
    providers "$WORK/ours.cnf" | grep "^  p11keyring" >/dev/null
}

system_without_a_file() {
    with_system_file "$WORK/nowhere.cnf"
    it_is_found_for "$WORK/ours.cnf" AES-256-ECB
}

check "it activates the provider" activates_the_provider
check "keys encrypt as they did" encrypts_as_ever
check "a handle is refused where no keyring is registered" refuses_a_handle
make_certificate
{ printf 'HTTP/1.0 200 ok\r\n\r\n' && seq 20000; } >"$WORK/message"
check "TLS records go through it" tls_passes_through
check "the system's TLS settings hold" tls_settings_of_the_system_hold
check "the system's other providers stay" other_providers_of_the_system_stay
check "a system without an openssl.cnf will do" system_without_a_file
finish
