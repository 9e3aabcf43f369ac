# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Private MySQL servers for tests, inside the Debian root of mysql_root.sh; $WORK has the same name
# on both sides. A copy of mysqld in the server's own folder gives it a manifest of its own.
#
#   server_new NAME              makes it, without a keyring (data directory from a template)
#   server_keyring NAME          gives it a keyring of its own, of the kind $KIND: file (the server's
#                                component_keyring_file), token or wrapped (ours)
#   server_start / server_stop / server_kill / server_refuses NAME
#   sql NAME [statement]         batch mode, no column names; statements on stdin otherwise
#   in_root COMMAND...           any other program of the root, as the server's user
#
# Scripts run their checks for each word of $KINDS.
KINDS=${P11K_KEYRINGS:-token wrapped}
KIND=${KINDS%% *}
# shellcheck source=tests/lib/server.sh
source "$(dirname "${BASH_SOURCE[0]}")/server.sh"

MYSQL_ROOT_SH=$ROOT/tests/lib/mysql_root.sh
MYSQL_ROOT=$("$MYSQL_ROOT_SH" path)
PLUGINS=/usr/lib/mysql/plugin
MYSQL_BUILD=${P11K_MYSQL_BUILD:-$ROOT/build/mysql}

# For `background`: the pid of a function would not be the program's.
IN_ROOT=("$MYSQL_ROOT_SH" run -b "$WORK" -u "$RUN_AS" --)

in_root() { "${IN_ROOT[@]}" "$@"; }

# --- making servers --------------------------------------------------------------------------------

# mysqld --initialize-insecure takes seconds: run it once for all tests, without a keyring.
server_template() {
    TEMPLATE=${P11K_MYSQL_TEMPLATE:-$WORK/template}
    [[ ! -d $TEMPLATE/mysql ]] || return 0
    mkdir -p "$TEMPLATE"
    own "$TEMPLATE"
    "$MYSQL_ROOT_SH" run -b "$TEMPLATE" -u "$RUN_AS" -- mysqld --no-defaults \
        --initialize-insecure --datadir="$TEMPLATE" --innodb-redo-log-capacity=16M \
        --innodb-flush-method=nosync --skip-log-bin >"$WORK/initialize.log" 2>&1 || {
        cat "$WORK/initialize.log" >&2
        die "mysqld --initialize-insecure failed"
    }
    rm -f "$TEMPLATE/auto.cnf" # each server makes a UUID of its own
}

server_new() { # NAME
    local dir=$WORK/$1
    server_template
    mkdir -p "$dir/tmp" "$dir/plugins" "$dir/bin"
    cp -a "$TEMPLATE" "$dir/data"
    own "$dir"
    server_program "$1"
    : >"$dir/env"
    echo "[mysqld]" >"$dir/options.cnf"
    server_conf "$1"
}

# The program, and a plugin folder with the server's own plugins in it.
server_program() { # NAME
    local plugins=("$MYSQL_ROOT$PLUGINS"/*.so)
    [[ -x $WORK/mysqld ]] || cp "$MYSQL_ROOT/usr/sbin/mysqld" "$WORK/mysqld"
    ln "$WORK/mysqld" "$WORK/$1/bin/mysqld"
    ln -s -t "$WORK/$1/plugins" "${plugins[@]#"$MYSQL_ROOT"}"
}

# Options for every test server: socket only, small. The kills in the tests take the process and not
# the machine, so no write waits for the disk.
server_conf() { # NAME
    local dir=$WORK/$1
    cat >"$dir/my.cnf" <<CNF
[mysqld]
basedir = /usr
datadir = $dir/data
socket = $dir/socket
pid-file = $dir/data/pid
log-error = $dir/error.log
log-error-verbosity = 3
tmpdir = $dir/tmp
plugin-dir = $dir/plugins
skip-networking
mysqlx = OFF
skip-name-resolve
secure-file-priv = NULL
skip-replica-start
server-id = $(cksum <<<"$1" | cut -d " " -f 1)
log-bin = $dir/data/binlog
sync-binlog = 0
innodb-flush-log-at-trx-commit = 2
innodb-buffer-pool-size = 32M
innodb-redo-log-capacity = 16M
innodb-log-writer-threads = OFF
!include $dir/options.cnf
[client]
socket = $dir/socket
user = root
CNF
}

# More lines for the server's section.
server_options() { # NAME LINE...
    printf '%s\n' "${@:2}" >>"$WORK/$1/options.cnf"
}

server_environment() { # NAME VARIABLE=VALUE...
    printf '%s\n' "${@:2}" >>"$WORK/$1/env"
}

# --- keyrings --------------------------------------------------------------------------------------

# Makes a keyring of the kind $KIND, which only this server uses, and loads it.
server_keyring() { # NAME
    case $KIND in
    file) keyring_of_server "$1" ;;
    token | wrapped) keyring_of_ours "$1" "$KIND" ;;
    *) die "no such kind of keyring: $KIND" ;;
    esac
}

server_manifest() { # NAME COMPONENT
    printf '{"components": "file://%s"}\n' "$2" >"$WORK/$1/bin/mysqld.my"
}

keyring_of_server() { # NAME
    local dir=$WORK/$1
    mkdir -p "$dir/keyring"
    own "$dir/keyring"
    server_manifest "$1" component_keyring_file
    printf '{"path": "%s", "read_only": false}\n' "$dir/keyring/keys" \
        >"$dir/plugins/component_keyring_file.cnf"
}

# A token, a keystore and our component.
keyring_of_ours() { # NAME token|wrapped
    keyring_up "$1.keyring"
    server_component "$1" "$2"
}

# Our component with the selected keyring; in token mode the OpenSSL provider as well.
server_component() { # NAME token|wrapped
    local dir=$WORK/$1
    printf '\n[mysql]\nmaster-keys = %s\n' "$2" >>"$P11KEYRING_CONF"
    cp "$MYSQL_BUILD/lib/component_keyring_pkcs11.so" "$dir/plugins/"
    server_manifest "$1" component_keyring_pkcs11
    printf '{"config": "%s"}\n' "$P11KEYRING_CONF" >"$dir/plugins/component_keyring_pkcs11.cnf"
    server_environment "$1" "SOFTHSM2_CONF=$SOFTHSM2_CONF"
    [[ $2 != token ]] || openssl_through_provider "$1"
}

# With the openssl.cnf that the build makes.
openssl_through_provider() { # NAME
    mkdir -p "$WORK/lib/ossl-modules"
    # Never over a copy that a running server has mapped: it would crash.
    [[ -e $WORK/lib/ossl-modules/p11keyring.so ]] ||
        cp "$MYSQL_BUILD/lib/ossl-modules/p11keyring.so" "$WORK/lib/ossl-modules/"
    cp "$MYSQL_BUILD/share/p11keyring/openssl.cnf" "$WORK/$1/"
    server_environment "$1" "OPENSSL_CONF=$WORK/$1/openssl.cnf" \
        "OPENSSL_MODULES=$WORK/lib/ossl-modules"
}

# --- running ---------------------------------------------------------------------------------------

# Stops a server that runs, and lets the error log of the next start begin anew.
server_prepare() { # NAME
    local dir=$WORK/$1
    server_stop "$1"
    rm -f "$dir/error.log" "$dir/socket.lock" # that of a killed server, perhaps not reaped yet
    : >"$dir/error.log"
    own "$dir/error.log"
}

# Replaces this process. The server must find its configuration through its own component's file and
# the environment that the test gave it.
server_exec() { # NAME USER [option...]
    local dir=$WORK/$1 user=$2 environment
    shift 2
    mapfile -t environment <"$dir/env"
    ulimit -c 0
    cd "$dir" || exit 1
    unset P11KEYRING_CONF SOFTHSM2_CONF
    exec "$MYSQL_ROOT_SH" run -b "$WORK" -u "$user" -- env "${environment[@]}" \
        "$dir/bin/mysqld" --defaults-file="$dir/my.cnf" "$@" >"$dir/stdout" 2>&1 </dev/null
}

# Starts without waiting, as $SERVER_USER.
server_launch() { # NAME [option...]
    server_prepare "$1"
    (server_exec "$1" "${SERVER_USER:-$RUN_AS}" "${@:2}") &
    echo $! >"$WORK/$1/server.pid"
    disown
}

# As the system's start scripts did: from root, in the background, as another user.
server_daemonize() { # NAME [option...]
    server_prepare "$1"
    (server_exec "$1" root --daemonize --user="$RUN_AS" "${@:2}") || {
        tail -n 25 "$WORK/$1/error.log" "$WORK/$1/stdout" >&2
        die "server $1 did not start"
    }
    cp "$WORK/$1/data/pid" "$WORK/$1/server.pid"
}

# The server must end by itself, saying TEXT in its error log.
server_refuses() { # NAME TEXT [option...]
    server_launch "$1" "${@:3}"
    server_ends "$1"
    contains "$(server_log "$1")" "$2"
}

# The client joins the server's mount namespace: that is much quicker than making another.
sql() { # NAME [STATEMENT [client options...]]; an empty statement means stdin
    nsenter --target "$(server_pid "$1")" --mount --root mysql \
        --defaults-file="$WORK/$1/my.cnf" --batch --skip-column-names ${2:+-e "$2"} "${@:3}"
}

# The statement must fail; TEXT is in its error.
sql_fails() { # NAME TEXT STATEMENT
    local out
    ! out=$(sql "$1" "$3" 2>&1) || die "should have failed: $3"
    [[ $out == *"$2"* ]] || die "'$2' is not in the error of '$3': $out"
}

servers_remove() { # NAME...
    local name
    for name in "$@"; do
        server_kill "$name"
        rm -rf "${WORK:?}/$name" "${WORK:?}/$name.keyring"
    done
}

# --- servers that talk to each other ---------------------------------------------------------------

# Loopback only. The first account of each server that others may use.
server_networking() { # NAME
    free_port >"$WORK/$1/port"
    sed -i '/^skip-networking$/d' "$WORK/$1/my.cnf"
    server_options "$1" "bind-address = 127.0.0.1" "port = $(<"$WORK/$1/port")" \
        "gtid-mode = ON" "enforce-gtid-consistency = ON" "report-host = 127.0.0.1"
}

PEER_PASSWORD=$(random_hex 12)

allow_peers() { # NAME
    sql "$1" "SET sql_log_bin = 0; CREATE USER peer@'127.0.0.1' IDENTIFIED BY '$PEER_PASSWORD';
        GRANT REPLICATION SLAVE, BACKUP_ADMIN, SELECT ON *.* TO peer@'127.0.0.1'"
}

replicate() { # REPLICA SOURCE [CHANNEL]
    sql "$1" "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_USER = 'peer',
            SOURCE_PORT = $(<"$WORK/$2/port"), SOURCE_PASSWORD = '$PEER_PASSWORD', SOURCE_SSL = 1,
            SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1 FOR CHANNEL '${3:-}';
        START REPLICA FOR CHANNEL '${3:-}'"
}

caught_up() { # REPLICA SOURCE
    local set
    set=$(sql "$2" "SELECT @@GLOBAL.gtid_executed")
    equal 0 "$(sql "$1" "SELECT WAIT_FOR_EXECUTED_GTID_SET('${set//\\n/}', 30)")" \
        "$1 waits for $2: $(sql "$1" "SELECT last_error_message
            FROM performance_schema.replication_applier_status_by_worker")"
}

# --- data ------------------------------------------------------------------------------------------

# Table t.TABLE of ROWS rows, each carrying MARKER; OPTIONS go behind the CREATE TABLE.
load_table() { # NAME TABLE ROWS MARKER [OPTIONS]
    sql "$1" "CREATE DATABASE IF NOT EXISTS t; USE t;
        CREATE TABLE $2 (id INT PRIMARY KEY AUTO_INCREMENT, n INT, txt VARCHAR(200), KEY(n)) ${5:-};
        SET cte_max_recursion_depth = $3;
        INSERT INTO $2 (n, txt) WITH RECURSIVE s(i) AS
            (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < $3)
            SELECT i MOD 997, CONCAT('$4 ', i, ' ', SHA2(i, 256)) FROM s;"
}

# Small encrypted tables t.PREFIX1, t.PREFIX2, ... of five rows each.
many_tables() { # NAME PREFIX HOW-MANY
    local i
    {
        echo "CREATE DATABASE IF NOT EXISTS t; USE t;"
        for ((i = 1; i <= $3; i++)); do
            echo "CREATE TABLE $2$i (id INT PRIMARY KEY, b TEXT) ENCRYPTION='Y';
                INSERT INTO $2$i VALUES (1,SHA2(RAND(), 256)), (2,SHA2($i, 256)), (3,''), (4,NULL), (5,'$2');"
        done
    } | sql "$1"
}

# One line per table of schema t.
checksums() { # NAME
    local tables
    tables=$(sql "$1" "SELECT CONCAT('t.', table_name) FROM information_schema.tables
        WHERE table_schema = 't' AND table_type = 'BASE TABLE' ORDER BY 1")
    sql "$1" "CHECKSUM TABLE ${tables//$'\n'/, }"
}

same_checksums() { # NAME FILE-OF-CHECKSUMS
    equal "$(<"$2")" "$(checksums "$1")" "checksums of $1"
}

# What the keyring holds, as the server tells it (64 characters of each name).
keyring_ids() { # NAME [LIKE]
    sql "$1" "SELECT key_id FROM performance_schema.keyring_keys
        WHERE key_id LIKE '${2:-%}' ORDER BY 1"
}

# A value of the server's view of our component.
row() { # NAME STATUS_KEY
    sql "$1" "SELECT status_value FROM performance_schema.keyring_component_status
        WHERE status_key = '$2'"
}

component() {
    if [[ $KIND == file ]]; then echo component_keyring_file; else echo component_keyring_pkcs11; fi
}

# Where the keyring's files are, which its server must be able to write.
keyring_dir() { # NAME
    if [[ $KIND == file ]]; then
        echo "$WORK/$1/keyring"
    else
        echo "$WORK/$1.keyring/keyring"
    fi
}

# The number of the InnoDB master key under which the tablespace key in a header is: an INFO at 10390
# of page 0 with 16 KiB pages. Exact only for a stopped server.
header_key() { # FILE
    [[ $(od -An -c -j 10390 -N 3 "$1" | tr -d ' ') == lCC ]] || die "no encryption header in $1"
    od --endian=big -An -tu4 -j 10393 -N 4 "$1" | tr -d ' '
}

# The different numbers in the headers of schema t, in one line.
header_keys() { # NAME
    local file
    for file in "$WORK/$1"/data/t/*.ibd; do
        header_key "$file"
    done | sort -nu | paste -sd ' '
}

# The name of the key in the header of a binary or relay log; nothing for one in the clear.
log_key() { # FILE
    head -c 512 "$1" | grep -aoE 'MySQLReplicationKey_[0-9a-f-]{36}_[0-9]+' || true
}

# InnoDB's own flag: Y or N.
encryption_of() { # NAME TABLESPACE
    sql "$1" "SELECT encryption FROM information_schema.innodb_tablespaces WHERE name = '$2'"
}
