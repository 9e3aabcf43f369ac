/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any file as configuration: it is read, or refused with a text that names file and line. */
#include "config_checks.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
