/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any file as configuration: it is read, or refused with a text that names file and line. */
#include "base/config.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int sound)
{
    if (!sound)
        abort();
}

/* What the rest of the program relies on. */
static void check_accepted(const struct kr_config *config)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("config", MFD_CLOEXEC);
    insist(fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

    struct kr_error err = KR_ERROR_INIT;
    KR_CONFIG_OWNED struct kr_config *config = NULL;
    if (kr_config_load(path, &config, &err) == KR_OK)
        check_accepted(config);
    else
        insist(!config && err.status == KR_CONFIG && err.hint[0] && strstr(err.text, path));
    close(fd);
    return 0;
}
