/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The test's side of the mock module. */
#include "control.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void fail(const char *what)
{
    perror(what);
    abort();
}

/* By a rename, so that the mock never reads half a file. */
static void replace_file(const char *path, const char *text)
{
    char temporary[512];
    FILE *file;

    snprintf(temporary, sizeof(temporary), "%s.new", path);
    file = fopen(temporary, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0 || rename(temporary, path) != 0)
        fail(path);
}

void mock_setup(const char *folder)
{
    char path[400];

    snprintf(path, sizeof(path), "%s/mock.control", folder);
    replace_file(path, "");
    setenv("P11K_MOCK_CONTROL", path, 1);
    snprintf(path, sizeof(path), "%s/mock.counts", folder);
    replace_file(path, "");
    setenv("P11K_MOCK_COUNTS", path, 1);
}

void mock_rules(const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    replace_file(getenv("P11K_MOCK_CONTROL"), text);
}

uint64_t mock_calls(const char *name)
{
    struct mock_count count;
    uint64_t calls = 0;
    FILE *file = fopen(getenv("P11K_MOCK_COUNTS"), "re");

    if (!file)
        fail("mock counters");
    while (fread(&count, sizeof(count), 1, file) == 1)
        if (strcmp(count.name, name) == 0)
            calls = count.calls;
    fclose(file);
    return calls;
}
