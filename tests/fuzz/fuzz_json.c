/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any file as the MySQL component's configuration: it is read, or refused with a text that names
 * the file and a hint. */
#include "config_checks.h"
#include "provider/mysql/component.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/dev/shm/p11k-fuzz-XXXXXX";
static char ini[sizeof(dir) + 16], cnf[sizeof(dir) + 64];

static void at_end(void)
{
    unlink(ini);
    unlink(cnf);
    rmdir(dir);
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    insist(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

/* The INI file that is read when an input names none. */
static void set_up(void)
{
    static const char text[] = "[token:hsm]\nmodule = /usr/lib/module.so\n";
    insist(mkdtemp(dir) != NULL && atexit(at_end) == 0);
    snprintf(ini, sizeof(ini), "%s/ini", dir);
    snprintf(cnf, sizeof(cnf), "%s/" COMPONENT_NAME ".cnf", dir);
    write_file(ini, text, sizeof(text) - 1);
    setenv(KR_CONFIG_ENV, ini, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_CONFIG_OWNED struct kr_config *config = NULL;
    if (!cnf[0])
        set_up();
    write_file(cnf, data, size);
    /* The same folder for both, as "read_local_config" would have it. */
    enum kr_status status = component_read_config(dir, dir, &config, &err);
    if (status == KR_OK)
        check_accepted(config);
    else
        insist(!config && (status == KR_CONFIG || status == KR_IO) && err.hint[0] &&
               strstr(err.text, cnf));
    return 0;
}
