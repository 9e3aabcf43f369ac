/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The table of kinds. */
#include "files/kinds.h"

static const struct kr_file_kind_ops *const table[] = {
    &kr_keystore_ops,
    &kr_key_list_ops,
    &kr_key_list_encrypted_ops,
    &kr_mysql_doublewrite_ops,
    &kr_mysql_tablespace_ops,
    &kr_mysql_redo_ops,
    &kr_mysql_binlog_ops,
    &kr_mysql_binlog_encrypted_ops,
    &kr_mysql_transfer_ops,
    &kr_mysql_keyring_json_ops,
    &kr_mysql_keyring_plugin_ops,
    &kr_mariadb_tablespace_ops,
    &kr_mariadb_binlog_ops,
    &kr_mariadb_delta_ops,
    &kr_mariadb_redo_ops,
    &kr_aria_data_ops,
    &kr_aria_index_ops,
    &kr_aria_log_ops,
    &kr_aria_control_ops,
    &kr_table_definition_ops,
    &kr_database_options_ops,
};

const struct kr_file_kind_ops *kr_file_ops(enum kr_file_kind kind)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
        if (table[i]->kind == kind)
            return table[i];
    return NULL;
}
