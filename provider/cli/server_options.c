/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The options that a MariaDB server would read from its option files, from my_print_defaults. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server_options.h"

extern char **environ;

static char *normal_line(const char *line)
{
    char *copy;

    line += strspn(line, "-");
    if (strncmp(line, "loose-", 6) == 0 || strncmp(line, "loose_", 6) == 0)
        line += 6;
    copy = strdup(line);
    for (char *p = copy; p && *p && *p != '='; p++)
        if (*p == '_')
            *p = '-';
    if (copy)
        copy[strcspn(copy, "\n")] = '\0';
    return copy;
}

static void read_lines(FILE *in, struct server_options *ret)
{
    char *line = NULL;
    size_t size = 0;

    while (getline(&line, &size, in) > 0) {
        char **more = realloc(ret->lines, (ret->count + 1) * sizeof *more);
        char *normal = more ? normal_line(line) : NULL;
        if (more)
            ret->lines = more;
        if (!normal)
            break;
        ret->lines[ret->count++] = normal;
    }
    free(line);
}

/* The program's standard output, without a shell. */
static FILE *start(const char *file, pid_t *ret_pid)
{
    char defaults[4096], name[] = "my_print_defaults";
    char *const groups[] = {"mariadbd", "mysqld", "server", "mariadb", NULL};
    char *argv[8] = {name};
    size_t argc = 1;
    posix_spawn_file_actions_t actions;
    int pipe_fds[2], failed;

    if (file && snprintf(defaults, sizeof defaults, "--defaults-file=%s", file) > 0)
        argv[argc++] = defaults;
    for (size_t i = 0; groups[i]; i++)
        argv[argc++] = groups[i];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return NULL;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
    failed = posix_spawnp(ret_pid, name, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    if (failed) {
        close(pipe_fds[0]);
        return NULL;
    }
    return fdopen(pipe_fds[0], "r");
}

bool server_options_read(const char *file, struct server_options *ret)
{
    struct server_options options = {0};
    int status = -1;
    pid_t pid;
    FILE *in = start(file, &pid);

    if (!in)
        return false;
    read_lines(in, &options);
    fclose(in);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        server_options_free(&options);
        return false;
    }
    *ret = options;
    return true;
}

void server_options_free(struct server_options *options)
{
    for (size_t i = 0; i < options->count; i++)
        free(options->lines[i]);
    free(options->lines);
    *options = (struct server_options){0};
}

const char *server_option(const struct server_options *options, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = options->count; i-- > 0;) {
        const char *line = options->lines[i];
        if (strncmp(line, name, len) != 0)
            continue;
        if (line[len] == '=')
            return line + len + 1;
        if (line[len] == '\0')
            return "";
    }
    return NULL;
}
