/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the rest of the program relies on in a configuration that was read. */
#ifndef P11K_TESTS_CONFIG_CHECKS_H
#define P11K_TESTS_CONFIG_CHECKS_H

#include "base/config.h"

#include <stdlib.h>
#include <string.h>

static inline void insist(int sound)
{
    if (!sound)
        abort();
}

static inline void check_accepted(const struct kr_config *config)
{
    insist(!config->tokens[0].module || config->tokens[0].module[0] == '/');
    insist(!config->tokens[0].uri || !strcasestr(config->tokens[0].uri, "pin-value"));
    insist(!config->keyring.keystore || config->keyring.keystore[0] == '/');
    insist(config->keyring.name && strlen(config->keyring.name) <= 64);
    insist(config->keyring.lock_timeout_ms >= 10 && config->keyring.lock_timeout_ms <= 600000);
    insist(config->keyring.poll_ms >= 10 && config->pkcs11.timeout_ms >= 10);
    insist(config->mariadb.rotation_step >= 1 && config->mariadb.rotation_step <= 65535);
    insist(config->mariadb.cipher && config->pkcs11.mechanism);
}

#endif
