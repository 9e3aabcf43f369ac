/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The test's side of the mock module. */
#include "control.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
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
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    if (vasprintf(&text, fmt, args) < 0)
        fail("mock rules");
    va_end(args);
    replace_file(getenv("P11K_MOCK_CONTROL"), text);
    free(text);
}

static FILE *open_counts(void)
{
    FILE *file = fopen(getenv("P11K_MOCK_COUNTS"), "re");

    if (!file)
        fail("mock counters");
    return file;
}

uint64_t mock_calls(const char *name)
{
    FILE *file = open_counts();
    struct mock_count count = {.calls = 0};
    bool any = false, found = false;

    while (!found && fread(&count, sizeof(count), 1, file) == 1) {
        any = true;
        found = strncmp(count.name, name, sizeof(count.name)) == 0;
    }
    fclose(file);
    if (any && !found) {
        fprintf(stderr, "the mock has no counter '%s'\n", name);
        abort();
    }
    return found ? count.calls : 0;
}

void mock_each_function(void (*visit)(const char *name, uint64_t calls, void *context),
                        void *context)
{
    FILE *file = open_counts();
    struct mock_count count;

    while (fread(&count, sizeof(count), 1, file) == 1)
        if (strncmp(count.name, "C_", 2) == 0 && count.calls > 0)
            visit(count.name, count.calls, context);
    fclose(file);
}
