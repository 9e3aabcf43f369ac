#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The admin tool connects to a running mysqld, whose accounts log in by caching_sha2_password: that
# sends the password itself, so over TCP only to a server whose certificate is right.
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "$0")/../lib/mysql.sh"

PASSWORD=$(random_hex 12)

# A command for MariaDB gets as far as seeing that this is none.
logs_in() { # SERVER
    fails_with 2 tool mariadb status --server "$1" >"$WORK/out" 2>"$WORK/err"
    contains "$WORK/err" "is no MariaDB server"
}

refused() { # EXIT-CODE SERVER TEXT
    fails_with "$1" tool mariadb status --server "$2" >"$WORK/out" 2>"$WORK/err"
    contains "$WORK/err" "$3"
    lacks "$WORK/err" "$PASSWORD"
}

option_file() { # NAME LINE...
    { echo "[client]" && printf '%s\n' "user = dba" "${@:2}"; } >"$WORK/$1.cnf"
    chmod 600 "$WORK/$1.cnf"
    own "$WORK/$1.cnf"
}

server_with_account() {
    server_new m
    server_networking m
    server_start m
    sql m "CREATE USER dba@localhost IDENTIFIED WITH caching_sha2_password BY '$PASSWORD';
        CREATE USER dba@'127.0.0.1' IDENTIFIED WITH caching_sha2_password BY '$PASSWORD'"
}

by_socket() {
    option_file socket "socket = $WORK/m/socket" "password = $PASSWORD"
    logs_in "$WORK/socket.cnf"
    contains "$WORK/err" "MySQL 9."
    logs_in "$WORK/socket.cnf" # the server knows the password by now, and asks in another way
    option_file wrong "socket = $WORK/m/socket" "password = wrong"
    refused 5 "$WORK/wrong.cnf" "Access denied"
}

# The certificate that mysqld makes for itself names no host.
not_by_its_own_certificate() {
    option_file tls "host = 127.0.0.1" "port = $(<"$WORK/m/port")" "password = $PASSWORD" \
        "ssl-ca = $WORK/ca.pem"
    cp "$WORK/m/data/ca.pem" "$WORK/ca.pem"
    own "$WORK/ca.pem"
    refused 1 "$WORK/tls.cnf" "a certificate for this host name"
}

# Signed by the server's own CA.
by_tls() {
    local data=$WORK/m/data
    openssl req -newkey rsa:2048 -nodes -subj "/CN=db" -keyout "$WORK/m/key.pem" \
        -out "$WORK/m/csr.pem"
    openssl x509 -req -days 2 -in "$WORK/m/csr.pem" -CA "$data/ca.pem" -CAkey "$data/ca-key.pem" \
        -CAcreateserial -CAserial "$WORK/m/serial" -out "$WORK/m/cert.pem" \
        -extfile <(echo "subjectAltName = IP:127.0.0.1")
    own "$WORK/m/key.pem" "$WORK/m/cert.pem"
    server_options m "ssl-cert = $WORK/m/cert.pem" "ssl-key = $WORK/m/key.pem"
    server_start m
    logs_in "$WORK/tls.cnf"
    logs_in "$WORK/tls.cnf"
}

# What the tool gives to the kernel. The search finds the password where it goes to a socket.
sends_password() { # SERVER
    strace -f -e trace=network,write,writev -s 65536 -o "$WORK/sent" \
        "${AS_SERVER[@]}" "$WORK/bin/p11keyring" mariadb status --server "$1" >/dev/null 2>&1 || true
    grep -qF -- "$PASSWORD" "$WORK/sent"
}

never_without_tls() {
    server_start m --tls-version=
    sends_password "$WORK/socket.cnf" || die "the search does not find the password"
    ! sends_password "$WORK/tls.cnf" || die "the password was sent in the clear"
    refused 1 "$WORK/tls.cnf" "TLS"
}

check "a mysqld with an account" server_with_account
check "by its socket, and a wrong password" by_socket
check "not over TCP by the certificate that names no host" not_by_its_own_certificate
check "over TCP by one for its address" by_tls
check "the password is not sent to a server without TLS" never_without_tls
servers_remove m
finish
