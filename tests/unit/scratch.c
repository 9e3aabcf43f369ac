/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the unit tests of the base layer share. */
#include "scratch.h"

#include "base/hex.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

int scratch_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/p11k-unit-XXXXXX");
    return mkdtemp(folder) && chmod(folder, 0711) == 0 ? 0 : -1;
}

int scratch_down(void **state)
{
    (void)state;
    DIR *dir = opendir(folder);
    if (!dir)
        return -1;
    for (struct dirent *entry; (entry = readdir(dir));)
        unlinkat(dirfd(dir), entry->d_name, 0); /* "." and ".." refuse */
    closedir(dir);
    return rmdir(folder);
}

const char *scratch_path(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

const char *scratch_write(const char *name, const void *bytes, size_t len, mode_t mode)
{
    const char *path = scratch_path(name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

const char *scratch_text(const char *name, const char *text, mode_t mode)
{
    return scratch_write(name, text, strlen(text), mode);
}

void scratch_pin(char ret[SCRATCH_PIN_BYTES])
{
    uint8_t random[(SCRATCH_PIN_BYTES - 1) / 2];
    assert_int_equal(getrandom(random, sizeof(random), 0), sizeof(random));
    kr_hex_encode(random, sizeof(random), ret);
}

int scratch_in_child(int (*body)(void *), void *argument)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(body(argument));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

void assert_says(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

void assert_error(struct kr_error *err, enum kr_status status, const char *text, const char *hint)
{
    assert_string_equal(kr_status_name(err->status), kr_status_name(status));
    assert_says(err->text, text);
    assert_says(err->hint, hint);
    *err = (struct kr_error)KR_ERROR_INIT;
}
