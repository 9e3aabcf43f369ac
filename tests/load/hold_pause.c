/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Pauses servers for scripts, step by step, and says what came of it.
 *
 *   hold_pause RECORD STEPS SERVER...   steps: p pause, c check, r resume, w wait for a line of
 * input hold_pause RECORD repair
 *
 * Each step that was done is a line: opened, paused, checked, resumed; then a line for each server.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers/pause.h"

static const char *const states[] = {"on", "off", "was off", "none", "ended"};

static void print_servers(const struct kr_paused_server *servers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%s: %s\n", servers[i].name, states[servers[i].state]);
    fflush(stdout);
}

static int fail(const struct kr_error *err)
{
    fprintf(stderr, "%s: %s\nhint: %s\n", kr_status_name(err->status), err->text, err->hint);
    return EXIT_FAILURE;
}

static void wait_for_line(void)
{
    int c;
    while ((c = getchar()) != EOF && c != '\n')
        ;
}

static enum kr_status take_step(struct kr_pause *pause, char step, struct kr_error *err)
{
    switch (step) {
    case 'p':
        return kr_pause_servers(pause, err);
    case 'c':
        return kr_pause_check(pause, err);
    case 'r':
        return kr_resume_servers(pause, err);
    default:
        wait_for_line();
        return KR_OK;
    }
}

static const char *name_of(char step)
{
    return step == 'p' ? "paused" : step == 'c' ? "checked" : step == 'r' ? "resumed" : "waited";
}

static int hold(const char *record, const char *steps, char **servers, int count)
{
    const struct kr_server_options options = {.answer_seconds = 20};
    struct kr_error err = KR_ERROR_INIT;
    size_t listed;
    KR_PAUSE *pause = NULL;
    if (kr_pause_open((const char *const *)servers, (size_t)count, &options, record, &pause,
                      &err) != KR_OK)
        return fail(&err);
    puts("opened");
    print_servers(kr_pause_list(pause, &listed), (size_t)count);
    for (; *steps; steps++) {
        if (take_step(pause, *steps, &err) != KR_OK)
            return fail(&err);
        puts(name_of(*steps));
        if (*steps != 'c')
            print_servers(kr_pause_list(pause, &listed), (size_t)count);
    }
    return EXIT_SUCCESS;
}

static int repair(const char *record)
{
    const struct kr_server_options options = {.answer_seconds = 20};
    struct kr_paused_server servers[KR_PAUSE_SERVERS_MAX];
    struct kr_error err = KR_ERROR_INIT;
    size_t count;
    enum kr_status status = kr_pause_repair(record, &options, servers, &count, &err);
    print_servers(servers, count);
    return status == KR_OK ? EXIT_SUCCESS : fail(&err);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[2], "repair") == 0)
        return repair(argv[1]);
    return argc > 3 ? hold(argv[1], argv[2], argv + 3, argc - 3) : 2;
}
