/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Pausing servers: our side, which tells the watchdog what to do. */
#include "servers/pause.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "pause_watchdog.h"

struct kr_pause {
    int control; /* -1: the watchdog has ended */
    pid_t watchdog;
    bool paused;
    struct kr_pause_job job;
    char *record_path;
    struct kr_pause_answer answer; /* the last one */
};

/* --- telling the watchdog --------------------------------------------------------------------- */

/* One that has servers left to resume is not waited for. */
static void end_watchdog(struct kr_pause *pause)
{
    kr_fd_cleanup(&pause->control);
    pause->control = -1;
    while (pause->watchdog > 0 && !pause->paused && waitpid(pause->watchdog, NULL, 0) < 0 &&
           errno == EINTR)
        ;
    pause->watchdog = 0;
}

static enum kr_status fail_ended(struct kr_pause *pause, struct kr_error *err)
{
    kr_fd_cleanup(&pause->control);
    pause->control = -1;
    kr_fail(err, KR_INTERNAL, "the watchdog of the paused servers has ended");
    kr_hint(err, "p11keyring migrate --repair puts the servers back");
    return err->status;
}

static enum kr_status receive(struct kr_pause *pause, struct kr_error *err)
{
    struct kr_pause_answer answer;
    ssize_t got;
    do
        got = recv(pause->control, &answer, sizeof(answer), 0);
    while (got < 0 && errno == EINTR);
    if (got != sizeof(answer))
        return fail_ended(pause, err);
    pause->answer = answer;
    if (answer.error.status != KR_OK)
        *err = answer.error;
    return answer.error.status;
}

static enum kr_status tell(struct kr_pause *pause, enum kr_pause_command command,
                           struct kr_error *err)
{
    if (pause->control < 0 ||
        send(pause->control, &command, sizeof(command), MSG_NOSIGNAL) != sizeof(command))
        return fail_ended(pause, err);
    return receive(pause, err);
}

/* --- opening and closing ---------------------------------------------------------------------- */

static enum kr_status add_spec(struct kr_pause *pause, const char *spec, struct kr_error *err)
{
    char *path = realpath(spec, NULL);
    if (!path) {
        kr_fail(err, KR_IO, "server %s: %s", spec, strerror(errno));
        kr_hint(err, "--server names the server's socket, or an option file with a [client] group");
        return err->status;
    }
    struct stat st;
    struct kr_pause_target *targets = pause->job.targets;
    size_t before = pause->job.count;
    targets[before] = (struct kr_pause_target){path, stat(path, &st) == 0 && S_ISSOCK(st.st_mode)};
    pause->job.count++;
    if (strchr(path, '\n'))
        return kr_fail(err, KR_USAGE, "the path of a server has a line break in it");
    for (size_t i = 0; i < before; i++)
        if (strcmp(targets[i].spec, path) == 0)
            return kr_fail(err, KR_USAGE, "server %s is named twice", spec);
    return KR_OK;
}

static enum kr_status start_watchdog(struct kr_pause *pause, struct kr_error *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return kr_fail(err, KR_INTERNAL, "cannot make a socket: %s", strerror(errno));
    pause->control = ends[0];
    pause->watchdog = fork();
    if (pause->watchdog == 0)
        kr_pause_watchdog(ends[1], &pause->job);
    close(ends[1]);
    return pause->watchdog > 0
               ? KR_OK
               : kr_fail(err, KR_INTERNAL, "cannot start the watchdog: %s", strerror(errno));
}

enum kr_status kr_pause_open(const char *const *specs, size_t count,
                             const struct kr_server_options *options, const char *record_path,
                             struct kr_pause **ret, struct kr_error *err)
{
    if (count == 0 || count > KR_PAUSE_SERVERS_MAX)
        return kr_fail(err, KR_USAGE, "1 to %d servers can be paused at once, not %zu",
                       KR_PAUSE_SERVERS_MAX, count);
    KR_PAUSE *pause = calloc(1, sizeof(*pause));
    if (!pause)
        return kr_fail_memory(err);
    pause->control = -1;
    for (size_t i = 0; i < count; i++)
        KR_TRY(add_spec(pause, specs[i], err));
    pause->record_path = strdup(record_path);
    if (!pause->record_path)
        return kr_fail_memory(err);
    pause->job.options = *options;
    pause->job.record_path = pause->record_path;
    KR_TRY(start_watchdog(pause, err));
    KR_TRY(receive(pause, err));
    *ret = pause;
    pause = NULL;
    return KR_OK;
}

void kr_pause_close(struct kr_pause *pause)
{
    struct kr_error ignored = KR_ERROR_INIT; /* the watchdog goes on trying, and tells the log */
    if (!pause)
        return;
    if (pause->paused)
        (void)!kr_resume_servers(pause, &ignored);
    end_watchdog(pause);
    for (size_t i = 0; i < pause->job.count; i++)
        free(pause->job.targets[i].spec);
    free(pause->record_path);
    free(pause);
}

void kr_pause_cleanup(struct kr_pause **pause)
{
    kr_pause_close(*pause);
}

const struct kr_paused_server *kr_pause_list(const struct kr_pause *pause, size_t *ret_count)
{
    *ret_count = pause->job.count;
    return pause->answer.servers;
}

/* --- pausing ---------------------------------------------------------------------------------- */

enum kr_status kr_pause_servers(struct kr_pause *pause, struct kr_error *err)
{
    KR_TRY(tell(pause, KR_PAUSE_COMMAND_PAUSE, err));
    pause->paused = true;
    return KR_OK;
}

enum kr_status kr_pause_check(struct kr_pause *pause, struct kr_error *err)
{
    return tell(pause, KR_PAUSE_COMMAND_CHECK, err);
}

/* Without the watchdog its record says what is to be done. */
static enum kr_status resume_by_record(struct kr_pause *pause, struct kr_error *err)
{
    struct kr_paused_server servers[KR_PAUSE_SERVERS_MAX];
    size_t count;
    return kr_pause_repair(pause->record_path, &pause->job.options, servers, &count, err);
}

enum kr_status kr_resume_servers(struct kr_pause *pause, struct kr_error *err)
{
    struct kr_error failure = KR_ERROR_INIT;
    enum kr_status status = tell(pause, KR_PAUSE_COMMAND_RESUME, &failure);
    if (status != KR_OK && pause->control < 0)
        return resume_by_record(pause, err);
    if (status != KR_OK)
        *err = failure;
    pause->paused = status != KR_OK;
    return status;
}
