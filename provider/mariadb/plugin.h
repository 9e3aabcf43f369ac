/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What the files of the MariaDB plugin share. The plugin translates between the server's encryption
 * interface (mysql/plugin_encryption.h) and the keyring core, and holds nothing else.
 */
#ifndef P11K_PROVIDER_MARIADB_PLUGIN_H
#define P11K_PROVIDER_MARIADB_PLUGIN_H

#include <stdbool.h>

#include <mysql/plugin_encryption.h>

#include "base/log.h"
#include "provider/keyring.h"

#define PLUGIN_NAME "pkcs11_key_management"

/* Set by init() before the server's first call, constant until deinit(). */
struct plugin_state {
    struct kr_keyring *keyring; /* NULL: not open */
    enum kr_cipher cipher;      /* of keys that are made here */
    bool auto_create;           /* any key id is made at first use, not only 1 and 2 */
    bool in_server;             /* false in mariadb-backup, which only reads */
};
extern struct plugin_state plugin;

/* --- variables.c --- */
extern struct st_mysql_sys_var *plugin_variables[];
/* The configuration file with the system variables over it. */
KR_MUST_USE enum kr_status plugin_load_config(struct kr_config **ret, struct kr_error *err);

/* Pauses the keyring of a server that was started with pkcs11_key_management_operations = OFF. */
KR_MUST_USE enum kr_status plugin_begin_operations(struct kr_error *err);

/* --- status.c --- */
extern struct st_mysql_show_var plugin_status[];

/* --- keys.c: the key management part of the interface --- */
unsigned plugin_latest_key_version(unsigned id);
unsigned plugin_get_key(unsigned id, unsigned version, unsigned char *key, unsigned *length);

/* --- crypt.c: its encryption part --- */
unsigned plugin_ctx_size(unsigned id, unsigned version);
int plugin_ctx_init(void *ctx, const unsigned char *key, unsigned key_len, const unsigned char *iv,
                    unsigned iv_len, int flags, unsigned id, unsigned version);
int plugin_ctx_update(void *ctx, const unsigned char *src, unsigned len, unsigned char *dst,
                      unsigned *ret_len);
int plugin_ctx_finish(void *ctx, unsigned char *dst, unsigned *ret_len);
unsigned plugin_encrypted_length(unsigned len, unsigned id, unsigned version);

/* --- error_log.c --- */
void plugin_log_sink(enum kr_log_level level, const char *message, void *context);

#endif
