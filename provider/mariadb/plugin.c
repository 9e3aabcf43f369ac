/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The MariaDB plugin: declaration, start and end. */
#include "plugin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct plugin_state plugin = {.cipher = KR_CIPHER_AES_CBC};

/* The server's own; other programs may lack them. The first is false until it takes connections. */
extern bool mysqld_server_started __attribute__((weak));
extern void unireg_abort(int code) __attribute__((weak));

/* mariadb-backup loads the plugin with the server's settings, and must change nothing. */
static bool is_backup_program(void)
{
    static const char *const names[] = {"mariadb-backup", "mariabackup", "innobackupex"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(program_invocation_short_name, names[i]) == 0)
            return true;
    }
    return false;
}

static void tell_opened(const struct kr_config *config)
{
    struct kr_keyring_stats stats;
    kr_keyring_get_stats(plugin.keyring, &stats);
    kr_log(KR_LOG_NOTE, "keyring '%s' opened with %s%s: %u keys, %u versions", config->keyring.name,
           config->tokens[0].uri, config->token_count > 1 ? " and others" : "", stats.keys,
           stats.versions);
}

static enum kr_status open_keyring(struct kr_error *err)
{
    KR_CONFIG_OWNED struct kr_config *config = NULL;
    KR_TRY(plugin_load_config(&config, err));
    KR_TRY(kr_config_require(config, err));
    if (!kr_cipher_parse(config->mariadb.cipher, &plugin.cipher))
        return kr_fail(err, KR_CONFIG, "unknown cipher '%s'", config->mariadb.cipher);
    kr_secret_set_policy(config->keyring.lock_memory);
    plugin.auto_create = config->mariadb.auto_create;
    KR_TRY(kr_keyring_open_server(config, &plugin.keyring, err));
    tell_opened(config);
    KR_TRY(plugin_begin_operations(err));
    return kr_keyring_watch(plugin.keyring, err);
}

static void close_keyring(void)
{
    struct kr_keyring *keyring = plugin.keyring;
    plugin.keyring = NULL;
    kr_keyring_close(keyring);
}

/* A starting server goes on without its keys, at least to Aria's recovery, which then leaves out
 * encrypted tables and clears its log: what a crash had left there is lost. So it ends before. */
static void end_starting_server(void)
{
    if (!plugin.in_server || !&mysqld_server_started || mysqld_server_started || !unireg_abort)
        return;
    kr_log(KR_LOG_NOTE, "the server ends here: without its keys, recovery would lose data");
    unireg_abort(EXIT_FAILURE);
}

static int init(void *unused)
{
    (void)unused;
    struct kr_error err = KR_ERROR_INIT;
    plugin.in_server = !is_backup_program();
    kr_log_set_sink(plugin_log_sink, NULL);
    if (open_keyring(&err) == KR_OK)
        return 0;
    kr_log_error(KR_LOG_ERROR, &err);
    close_keyring();
    end_starting_server();
    return 1;
}

/* Called after a failed init(), too. */
static int deinit(void *unused)
{
    (void)unused;
    close_keyring();
    kr_log_set_sink(NULL, NULL);
    return 0;
}

static struct st_mariadb_encryption encryption = {
    .interface_version = MariaDB_ENCRYPTION_INTERFACE_VERSION,
    .get_latest_key_version = plugin_latest_key_version,
    .get_key = plugin_get_key,
    .crypt_ctx_size = plugin_ctx_size,
    .crypt_ctx_init = plugin_ctx_init,
    .crypt_ctx_update = plugin_ctx_update,
    .crypt_ctx_finish = plugin_ctx_finish,
    .encrypted_length = plugin_encrypted_length,
};

/* clang-format off */
maria_declare_plugin(pkcs11_key_management)
{
    MariaDB_ENCRYPTION_PLUGIN,
    &encryption,
    PLUGIN_NAME,
    "p11keyring",
    "Data keys wrapped by a master key that never leaves a PKCS#11 token",
    PLUGIN_LICENSE_GPL,
    init,
    deinit,
    P11K_PLUGIN_VERSION,
    plugin_status,
    plugin_variables,
    P11K_VERSION,
    MariaDB_PLUGIN_MATURITY_STABLE,
}
maria_declare_plugin_end;
