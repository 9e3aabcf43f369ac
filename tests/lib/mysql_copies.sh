# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Copies of a data directory that go from server to server, in every kind of file with a sealed key.
#
#   server_to_copy NAME    makes and starts one: tables, a general tablespace, the system's, redo, undo
#                          and binary logs, the last of different master keys; t.one, t.zipped,
#                          t.in_general and t.later are what same_checksums compares
#   put_copy NAME DIR      makes a copy of DIR the data directory of a server that does not run
#   logs_are_read NAME     the server reads the events of each of its binary logs
# shellcheck source=tests/lib/mysql.sh
source "$(dirname "${BASH_SOURCE[0]}")/mysql.sh"

# The index of its logs has no path of this server.
server_to_copy() { # NAME
    server_new "$1"
    server_options "$1" "log-bin = binlog" "plugin-load-add = mysql_clone.so"
    server_keyring "$1"
    server_start "$1"
    sql "$1" "SET PERSIST default_table_encryption = ON; SET PERSIST innodb_redo_log_encrypt = ON;
        SET PERSIST innodb_undo_log_encrypt = ON; SET PERSIST binlog_encryption = ON;
        ALTER TABLESPACE mysql ENCRYPTION='Y'"
    load_table "$1" one "${ROWS:-1000}" row
    load_table "$1" zipped "${ROWS:-1000}" row "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"
    sql "$1" "CREATE TABLESPACE general ADD DATAFILE 'general.ibd';
        CREATE TABLE t.in_general TABLESPACE general AS SELECT * FROM t.one;
        ALTER INSTANCE ROTATE INNODB MASTER KEY; FLUSH BINARY LOGS;
        CREATE TABLE t.later AS SELECT * FROM t.one; FLUSH BINARY LOGS"
    sql "$1" "SELECT @@server_uuid" >"$WORK/$1/uuid"
}

put_copy() { # NAME DIR
    rm -rf "${WORK:?}/$1/data"
    cp -a "$2" "$WORK/$1/data"
}

# The second log has the tables' beginning.
logs_are_read() { # NAME
    local log
    for log in $(sql "$1" "SHOW BINARY LOGS" | cut -f 1); do
        sql "$1" "SHOW BINLOG EVENTS IN '$log'" >"$WORK/events"
        [[ -s $WORK/events ]] || die "$log has no events"
    done
    sql "$1" "SHOW BINLOG EVENTS IN 'binlog.000002'" >"$WORK/events"
    contains "$WORK/events" "CREATE TABLE"
}
