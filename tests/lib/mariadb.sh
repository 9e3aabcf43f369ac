# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Private MariaDB servers for tests. A server is a folder $WORK/NAME with its own data directory,
# socket, plugin folder and my.cnf; nothing of the system's MariaDB is read or written.
#
#   server_new NAME              makes it (data directory from a template, see server_template)
#   server_keyring NAME WORD     loads our plugin with the selected keyring; WORD: on, off, force
#   server_start NAME [option]   waits until it answers; shows its error log when it does not
#   server_stop / server_kill / server_refuses NAME
#   sql NAME [statement]         batch mode, no column names; statements on stdin otherwise
#   backup OPTION-FILE argument...  mariadb-backup
# shellcheck source=tests/lib/server.sh
source "$(dirname "${BASH_SOURCE[0]}")/server.sh"

UNPACKED=$("$ROOT/tests/lib/packages.sh" unpacked)
MARIADBD=/usr/sbin/mariadbd

# --- making servers --------------------------------------------------------------------------------

# mariadb-install-db, run once for all servers of a test, without encryption. --force: a machine may
# not know its own name.
server_template() {
    TEMPLATE=${P11K_TEMPLATE:-$WORK/template}
    [[ ! -d $TEMPLATE/mysql ]] || return 0
    mkdir -p "$TEMPLATE"
    own "$TEMPLATE"
    as_server mariadb-install-db --no-defaults --force --datadir="$TEMPLATE" \
        --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve --innodb-log-file-size=16M >"$WORK/install-db.log" 2>&1 || {
        cat "$WORK/install-db.log" >&2
        die "mariadb-install-db failed"
    }
}

server_new() { # NAME
    local dir=$WORK/$1
    server_template
    mkdir -p "$dir/tmp" "$dir/plugins"
    cp -a "$TEMPLATE" "$dir/data"
    cp "$WORK/lib/pkcs11_key_management.so" "$dir/plugins/"
    chmod 700 "$dir"
    own "$dir"
    echo "[mariadbd]" >"$dir/encryption.cnf"
    server_conf "$1"
}

# Options for every test server: socket only, small, crash-safe, a binary log.
server_conf() { # NAME
    local dir=$WORK/$1
    cat >"$dir/my.cnf" <<CNF
[mariadbd]
datadir = $dir/data
socket = $dir/socket
pid-file = $dir/data/mariadbd.pid
log-error = $dir/error.log
tmpdir = $dir/tmp
plugin-dir = $dir/plugins
skip-networking
skip-name-resolve
skip-slave-start
server-id = 1
log-bin = $dir/data/binlog
binlog-format = ROW
max-binlog-size = 64M
innodb-buffer-pool-size = 48M
innodb-log-file-size = 16M
innodb-fast-shutdown = 1
innodb-encryption-threads = 2
aria-pagecache-buffer-size = 8M
key-buffer-size = 1M
performance-schema = off
core-file = off
!include $dir/encryption.cnf
[client]
socket = $dir/socket
user = root
CNF
}

# What "everything encrypted" means here. Words: on (default), off, force.
encryption() { # WORD
    [[ $1 != off ]] || return 0
    local tables=ON
    [[ $1 != force ]] || tables=FORCE
    cat <<CNF
innodb-encrypt-tables = $tables
innodb-encrypt-log = ON
innodb-encrypt-temporary-tables = ON
encrypt-binlog = ON
encrypt-tmp-files = ON
encrypt-tmp-disk-tables = ON
aria-encrypt-tables = ON
CNF
}

# More lines for the server's section, after server_keyring or server_fkm.
server_options() { # NAME LINE...
    printf '%s\n' "${@:2}" >>"$WORK/$1/encryption.cnf"
}

# Our plugin, with the configuration file of the selected keyring.
server_keyring() { # NAME on|off|force
    {
        echo "[mariadbd]"
        echo "plugin-load-add = pkcs11_key_management"
        echo "pkcs11-key-management-config = $P11KEYRING_CONF"
        encryption "$2"
    } >"$WORK/$1/encryption.cnf"
}

# MariaDB's own file_key_management with a key file made by the test.
server_fkm() { # NAME on|off|force KEYFILE aes_cbc|aes_ctr
    cp "$UNPACKED/file_key_management.so" "$WORK/$1/plugins/"
    {
        echo "[mariadbd]"
        echo "plugin-load-add = file_key_management"
        echo "file-key-management-filename = $3"
        echo "file-key-management-encryption-algorithm = $4"
        encryption "$2"
    } >"$WORK/$1/encryption.cnf"
}

# --- running ---------------------------------------------------------------------------------------

# Starts without waiting. The error log of this start begins anew. P11KEYRING_CONF is unset: the
# server must find its configuration through its own system variable.
server_launch() { # NAME [option...]
    local dir=$WORK/$1
    server_stop "$1"
    shift
    rm -f "$dir/error.log"
    (
        ulimit -c 0
        cd "$dir"
        unset P11KEYRING_CONF
        exec "${AS_SERVER[@]}" "$MARIADBD" --defaults-file="$dir/my.cnf" "$@" \
            >"$dir/stdout" 2>&1 </dev/null
    ) &
    echo $! >"$dir/server.pid"
    disown
}

# The server must end by itself, saying TEXT in one [ERROR] line of the plugin.
server_refuses() { # NAME TEXT [SECONDS]
    local lines
    server_launch "$1"
    server_ends "$1" "${3:-30}"
    lines=$(plugin_lines "$1" ERROR)
    [[ $lines == *"$2"* ]] || {
        cat "$(server_log "$1")" >&2
        die "'$2' is not in the plugin's error: $lines"
    }
    equal 1 "$(wc -l <<<"$lines")" "number of [ERROR] lines of the plugin ($lines)"
}

# Error log lines of our plugin with a level.
plugin_lines() { # NAME ERROR|Warning|Note
    grep -aE "\[$2\].* pkcs11_key_management: " "$WORK/$1/error.log" || true
}

# In UTF-8, whatever the locale is: a fresh Debian has none.
sql() { # NAME [STATEMENT]
    mariadb --defaults-file="$WORK/$1/my.cnf" --default-character-set=utf8mb4 --batch \
        --skip-column-names --unbuffered ${2:+-e "$2"}
}

# mariadb-backup as the server's user; it finds the keyring through the server's variables alone.
backup() { # OPTION-FILE arguments...
    (
        unset P11KEYRING_CONF
        as_server mariadb-backup --defaults-file="$1" "${@:2}"
    ) >"$WORK/backup.log" 2>&1 || {
        tail -n 20 "$WORK/backup.log" >&2
        return 1
    }
    contains "$WORK/backup.log" "completed OK!"
}

# --- data ------------------------------------------------------------------------------------------

# A table of ROWS rows, each carrying MARKER; OPTIONS go behind the CREATE TABLE.
load_table() { # NAME TABLE ROWS MARKER [OPTIONS]
    sql "$1" "CREATE DATABASE IF NOT EXISTS t; USE t;
        CREATE TABLE t.$2 (id INT PRIMARY KEY AUTO_INCREMENT, n INT, txt VARCHAR(200), KEY(n)) ${5:-};
        INSERT INTO t.$2 (n, txt)
            SELECT seq MOD 997, CONCAT('$4 ', seq, ' ', MD5(seq)) FROM seq_1_to_$3;"
}

# One line per table of schema t.
checksums() { # NAME
    local tables
    tables=$(sql "$1" "SELECT GROUP_CONCAT(CONCAT('t.\`', table_name, '\`') ORDER BY 1)
        FROM information_schema.tables WHERE table_schema = 't' AND table_type = 'BASE TABLE'")
    sql "$1" "CHECKSUM TABLE $tables"
}

# --- rotation --------------------------------------------------------------------------------------

# Tablespaces that are not wholly encrypted with VERSION of their key or later.
tablespaces_behind() { # NAME VERSION
    sql "$1" "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption
        WHERE encryption_scheme = 1 AND (min_key_version < $2 OR rotating_or_flushing <> 0)"
}

all_encrypted() { # NAME VERSION
    [[ $(tablespaces_behind "$1" "$2") == 0 ]] &&
        [[ $(sql "$1" "SELECT COUNT(*) FROM information_schema.innodb_tablespaces_encryption
            WHERE min_key_version = 0") == 0 ]]
}
