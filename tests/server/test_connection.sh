#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# How the admin tool connects to a running mariadbd: by socket and option file, where passwords come
# from, TLS over TCP or nothing, and what an account must be allowed.
# shellcheck source=tests/lib/mariadb.sh
source "$(dirname "$0")/../lib/mariadb.sh"

PASSWORD=$(random_hex 12)

status_by() { # EXIT-CODE SERVER [option...]
    local want=$1 rc=0
    shift
    tool mariadb status --server "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || rc=$?
    equal "$want" "$rc" "exit code of mariadb status --server $* ($(<"$WORK/err"))"
    lacks "$WORK/out" "$PASSWORD"
    lacks "$WORK/err" "$PASSWORD"
}

says() { contains "$WORK/err" "$1"; }

option_file() { # NAME LINE...
    { echo "[client]" && printf '%s\n' "${@:2}"; } >"$WORK/$1.cnf"
    chmod 600 "$WORK/$1.cnf"
    own "$WORK/$1.cnf"
}

# A CA with certificates for 127.0.0.1 and for some other name, and another CA.
certificates() {
    local dir=$WORK/tls ca
    mkdir -p "$dir"
    for ca in ca other; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
            -subj "/CN=test $ca" -keyout "$dir/$ca.key" -out "$dir/$ca.pem"
    done
    certificate server IP:127.0.0.1
    certificate elsewhere DNS:db.example
    own "$dir"
}

certificate() { # NAME SUBJECT-ALTERNATIVE-NAME
    local dir=$WORK/tls
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
        -keyout "$dir/$1.key" -out "$dir/$1.csr"
    openssl x509 -req -days 2 -in "$dir/$1.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" \
        -CAcreateserial -extfile <(echo "subjectAltName = $2") -out "$dir/$1.pem"
}

server_with_accounts() {
    certificates
    server_new r
    free_port >"$WORK/port"
    sed -i '/^skip-networking$/d' "$WORK/r/my.cnf"
    server_options r "bind-address = 127.0.0.1" "port = $(<"$WORK/port")" \
        "ssl-cert = $WORK/tls/server.pem" "ssl-key = $WORK/tls/server.key"
    server_start r
    sql r "CREATE USER $RUN_AS@localhost IDENTIFIED VIA unix_socket;
        GRANT PROCESS, SELECT, BINLOG MONITOR ON *.* TO $RUN_AS@localhost;
        CREATE USER dba@localhost IDENTIFIED BY '$PASSWORD', dba@'127.0.0.1' IDENTIFIED BY '$PASSWORD';
        GRANT ALL ON *.* TO dba@localhost, dba@'127.0.0.1';
        CREATE USER small@localhost IDENTIFIED BY '$PASSWORD';
        CREATE ROLE looker; GRANT PROCESS, SELECT, BINLOG MONITOR ON *.* TO looker;
        CREATE USER role@localhost IDENTIFIED BY '$PASSWORD';
        GRANT looker TO role@localhost; SET DEFAULT ROLE looker FOR role@localhost"
}

by_socket() {
    status_by 0 "$WORK/r/socket"
    contains "$WORK/out" "MariaDB 10."
    contains "$WORK/out" "unencrypted"
    status_by 1 "$WORK/r/none"
    says "No such file"
    server_kill r
    status_by 1 "$WORK/r/socket"
    says "is the server running"
    server_start r
}

by_password() {
    option_file dba "socket = $WORK/r/socket" "user = dba" "password = '$PASSWORD'"
    status_by 0 "$WORK/dba.cnf"
    chmod 640 "$WORK/dba.cnf"
    status_by 7 "$WORK/dba.cnf"
    says "is open to others"
    option_file source "socket = $WORK/r/socket" "user = dba"
    status_by 5 "$WORK/source.cnf"
    says "Access denied"
    says "--password-source"
    printf '%s\n' "$PASSWORD" >"$WORK/password"
    chmod 600 "$WORK/password"
    own "$WORK/password"
    status_by 0 "$WORK/source.cnf" --password-source "file:$WORK/password"
    P11K_TEST_PASSWORD=$PASSWORD status_by 0 "$WORK/source.cnf" \
        --password-source env:P11K_TEST_PASSWORD
    echo wrong >"$WORK/password"
    status_by 5 "$WORK/source.cnf" --password-source "file:$WORK/password"
    says "Access denied"
    chmod 644 "$WORK/password"
    status_by 1 "$WORK/source.cnf" --password-source "file:$WORK/password"
    says "is open to others"
}

usage() {
    fails_with 2 tool mariadb status
    fails_with 2 tool mariadb status --server "$WORK/r/socket" --server "$WORK/r/socket"
    fails_with 2 tool status --server "$WORK/r/socket"
}

by_tls() {
    local tcp=("host = 127.0.0.1" "port = $(<"$WORK/port")" "user = dba" "password = $PASSWORD")
    option_file tls "${tcp[@]}" "ssl-ca = $WORK/tls/ca.pem"
    status_by 0 "$WORK/tls.cnf"
    contains "$WORK/out" "at 127.0.0.1 port"
    option_file no-ca "${tcp[@]}"
    status_by 1 "$WORK/no-ca.cnf"
    says "name the server's CA with ssl-ca"
    option_file other-ca "${tcp[@]}" "ssl-ca = $WORK/tls/other.pem"
    status_by 1 "$WORK/other-ca.cnf"
    says "name the server's CA with ssl-ca"
}

refuses_another_name() {
    sed -i 's/tls.server/tls\/elsewhere/' "$WORK/r/encryption.cnf"
    server_start r
    status_by 1 "$WORK/tls.cnf"
    says "a certificate for this host name"
}

# Nothing of the account reaches a server that has no TLS; the search finds it where it does.
sends() { # TEXT SERVER
    strace -f -e trace=network,write,writev -s 65536 -o "$WORK/sent" \
        "${AS_SERVER[@]}" "$WORK/bin/p11keyring" mariadb status --server "$2" >/dev/null 2>&1 || true
    grep -qF -- "$1" "$WORK/sent"
}

never_without_tls() {
    sed -i '/^ssl-/d' "$WORK/r/encryption.cnf"
    server_start r
    status_by 1 "$WORK/tls.cnf"
    says "TLS"
    sends dba "$WORK/dba.cnf" || die "the search does not find an account"
    ! sends dba "$WORK/tls.cnf" || die "the account was sent without TLS"
}

refuses_small_accounts() {
    local before
    before=$(sql r "SHOW GLOBAL VARIABLES LIKE '%encrypt%'")
    option_file small "socket = $WORK/r/socket" "user = small" "password = $PASSWORD"
    status_by 7 "$WORK/small.cnf"
    says "PROCESS, SELECT, BINLOG MONITOR"
    fails_with 7 tool mariadb encrypt --server "$WORK/r/socket" --threads 4 2>"$WORK/err"
    says "has not the privileges to encrypt its tables: SUPER"
    fails_with 7 tool mariadb decrypt --server "$WORK/r/socket" --threads 4 2>"$WORK/err"
    says "SUPER"
    equal "$before" "$(sql r "SHOW GLOBAL VARIABLES LIKE '%encrypt%'")" "variables"
    option_file role "socket = $WORK/r/socket" "user = role" "password = $PASSWORD"
    status_by 0 "$WORK/role.cnf"
}

check "a server with accounts" server_with_accounts
check "by its socket, as the calling account" by_socket
check "by an option file, and passwords from a source" by_password
check "one server is named" usage
check "by TCP with TLS and the server's CA" by_tls
check "a certificate for another host is refused" refuses_another_name
check "nothing is sent to a server without TLS" never_without_tls
check "missing privileges are named, and nothing is changed" refuses_small_accounts
finish
