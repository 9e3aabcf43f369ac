/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The watchdog: a child that was forked before there were secrets, in a session of its own once
 * it is connected, so that no signal to our terminal or process group reaches it. It keeps no
 * descriptor of ours, and cannot be dumped.
 */
#include "pause_watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/secret.h"
#include "pause_switch.h"

/* How often and how long it tries to resume a server when nobody is left to tell. */
enum { TRIES = 120, SECONDS_BETWEEN = 5 };

#define LOCK_NAME "p11keyring.pause"

struct watchdog {
    int control;
    const struct kr_pause_job *job;
    struct kr_server_conn *conns[KR_PAUSE_SERVERS_MAX];
    struct kr_paused_server servers[KR_PAUSE_SERVERS_MAX];
    int record; /* -1: nothing is paused */
};

/* --- connecting ------------------------------------------------------------------------------- */

static enum kr_status connect_one(struct watchdog *dog, size_t i, struct kr_error *err)
{
    KR_TRY(kr_server_connect(dog->job->targets[i].spec, &dog->job->options, &dog->conns[i], err));
    struct kr_paused_server *server = &dog->servers[i];
    snprintf(server->name, sizeof(server->name), "%s", kr_server_info(dog->conns[i])->name);
    return kr_switch_read(dog->conns[i], &server->state, err);
}

/* Adds "; NAME: PRIVILEGES". */
static void add_missing(char *text, size_t size, const char *name, const char *missing)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s: %s", used ? "; " : "", name, missing);
}

static enum kr_status check_privileges(struct watchdog *dog, struct kr_error *err)
{
    char missing[KR_SERVER_PRIVILEGES_TEXT], all[512] = "";
    for (size_t i = 0; i < dog->job->count; i++) {
        if (dog->servers[i].state != KR_PAUSE_ON)
            continue;
        KR_TRY(kr_switch_missing(dog->conns[i], missing, err));
        if (*missing)
            add_missing(all, sizeof(all), dog->servers[i].name, missing);
    }
    if (!*all)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "to pause the servers the accounts lack privileges: %s", all);
    kr_hint(err, "as an administrator: GRANT ... ON *.* TO the account; nothing was paused");
    return err->status;
}

static enum kr_status connect_all(struct watchdog *dog, struct kr_error *err)
{
    KR_TRY(kr_pause_record_check(dog->job->record_path, err));
    for (size_t i = 0; i < dog->job->count; i++)
        KR_TRY(connect_one(dog, i, err));
    return check_privileges(dog, err);
}

/* --- pausing ---------------------------------------------------------------------------------- */

/* As it is now, and nobody else is about to change it. */
static enum kr_status lock_all(struct watchdog *dog, struct kr_error *err)
{
    for (size_t i = 0; i < dog->job->count; i++) {
        KR_TRY(kr_server_lock(dog->conns[i], LOCK_NAME, err));
        KR_TRY(kr_switch_read(dog->conns[i], &dog->servers[i].state, err));
    }
    return KR_OK;
}

static enum kr_status record_all(struct watchdog *dog, struct kr_error *err)
{
    struct kr_pause_target targets[KR_PAUSE_SERVERS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < dog->job->count; i++)
        if (dog->servers[i].state == KR_PAUSE_ON)
            targets[count++] = dog->job->targets[i];
    return count == 0
               ? KR_OK
               : kr_pause_record_write(dog->job->record_path, targets, count, &dog->record, err);
}

static enum kr_status resume_all(struct watchdog *dog, struct kr_error *err);

/* One that fails counts as paused: the statement may have arrived. */
static enum kr_status pause_recorded(struct watchdog *dog, struct kr_error *err)
{
    for (size_t i = 0; i < dog->job->count; i++) {
        if (dog->servers[i].state != KR_PAUSE_ON)
            continue;
        dog->servers[i].state = KR_PAUSE_OFF;
        KR_TRY(kr_switch_set(dog->conns[i], false, err));
    }
    return KR_OK;
}

static enum kr_status pause_all(struct watchdog *dog, struct kr_error *err)
{
    KR_TRY(lock_all(dog, err));
    KR_TRY(record_all(dog, err));
    if (pause_recorded(dog, err) == KR_OK)
        return KR_OK;
    struct kr_error ignored = KR_ERROR_INIT;
    if (resume_all(dog, &ignored) != KR_OK)
        kr_hint(err, "%s; then: p11keyring migrate --repair", ignored.text);
    return err->status;
}

/* --- while they are paused -------------------------------------------------------------------- */

static enum kr_status check_one(struct watchdog *dog, size_t i, struct kr_error *err)
{
    struct kr_error lost = KR_ERROR_INIT;
    enum kr_pause_state state = KR_PAUSE_ON;
    enum kr_status status = kr_switch_read(dog->conns[i], &state, &lost);
    if (status != KR_OK) {
        kr_server_close(dog->conns[i]);
        dog->conns[i] = NULL;
        lost = (struct kr_error)KR_ERROR_INIT;
        status =
            kr_server_connect(dog->job->targets[i].spec, &dog->job->options, &dog->conns[i], &lost);
        if (status == KR_OK)
            status = kr_switch_read(dog->conns[i], &state, &lost);
    }
    if (status == KR_OK && state == KR_PAUSE_WAS_OFF)
        return KR_OK;
    if (status == KR_OK)
        kr_fail(err, KR_REFUSED,
                "%s is not paused any more: somebody set its key operations on, or "
                "it has started again",
                dog->servers[i].name);
    else
        kr_fail(err, KR_REFUSED, "a paused server does not answer: %s", lost.text);
    kr_hint(err, "a server that starts again is not paused: see that it runs, or stays stopped, "
                 "and run the same command again");
    return err->status;
}

static enum kr_status check_all(struct watchdog *dog, struct kr_error *err)
{
    for (size_t i = 0; i < dog->job->count; i++)
        if (dog->servers[i].state == KR_PAUSE_OFF)
            KR_TRY(check_one(dog, i, err));
    return KR_OK;
}

static enum kr_status resume_all(struct watchdog *dog, struct kr_error *err)
{
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < dog->job->count; i++) {
        struct kr_error *first = status == KR_OK ? err : &(struct kr_error)KR_ERROR_INIT;
        if (dog->servers[i].state != KR_PAUSE_OFF)
            continue;
        enum kr_status one = kr_pause_resume_one(&dog->job->targets[i], &dog->job->options,
                                                 &dog->conns[i], &dog->servers[i], first);
        status = status == KR_OK ? one : status;
    }
    if (status == KR_OK && dog->record >= 0) {
        KR_TRY(kr_pause_record_remove(dog->job->record_path, err));
        kr_fd_cleanup(&dog->record);
        dog->record = -1;
    }
    return status;
}

/* --- the process ------------------------------------------------------------------------------ */

/* The password's own descriptor, if it has one, is read before all but ours are closed. */
static void read_descriptor(struct kr_pin_source *password)
{
    struct kr_error ignored = KR_ERROR_INIT; /* said again when it is needed */
    size_t len;
    KR_SECRET char *text = NULL;
    if (password && strncmp(kr_pin_source_name(password), "fd:", 3) == 0 &&
        kr_pin_source_read(password, &text, &len, &ignored) != KR_OK)
        return;
}

static int settle(int control, const struct kr_pause_job *job)
{
    const struct rlimit no_core = {0, 0};
    kr_log_set_sink(NULL, NULL);
    prctl(PR_SET_NAME, "p11k-watchdog", 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGPIPE, SIG_IGN);
    read_descriptor(job->options.password);
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    control = dup2(control, STDERR_FILENO + 1);
    close_range((unsigned)control + 1, ~0U, 0);
    return control;
}

/* A prompt for the password needs the terminal; from here on nothing does. */
static void leave_terminal(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    setsid();
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    if (chdir("/") != 0)
        return;
}

static void answer(struct watchdog *dog, const struct kr_error *err)
{
    struct kr_pause_answer answer = {.error = *err};
    memcpy(answer.servers, dog->servers, sizeof(answer.servers));
    (void)send(dog->control, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void obey(struct watchdog *dog, enum kr_pause_command command)
{
    static enum kr_status (*const commands[])(struct watchdog *, struct kr_error *) = {
        [KR_PAUSE_COMMAND_PAUSE] = pause_all,
        [KR_PAUSE_COMMAND_CHECK] = check_all,
        [KR_PAUSE_COMMAND_RESUME] = resume_all,
    };
    struct kr_error err = KR_ERROR_INIT;
    (void)!commands[command](dog, &err);
    answer(dog, &err);
}

static bool next_command(struct watchdog *dog, enum kr_pause_command *ret)
{
    ssize_t got;
    do
        got = recv(dog->control, ret, sizeof(*ret), 0);
    while (got < 0 && errno == EINTR);
    return got == sizeof(*ret);
}

/* Nobody is left to tell but the system's log. */
static void outlive(struct watchdog *dog)
{
    struct kr_error err = KR_ERROR_INIT;
    if (dog->record < 0)
        return;
    openlog("p11keyring", LOG_PID, LOG_DAEMON);
    for (int i = 0; i < TRIES; i++) {
        err = (struct kr_error)KR_ERROR_INIT;
        if (resume_all(dog, &err) == KR_OK) {
            syslog(LOG_NOTICE, "ended while servers were paused: they are resumed");
            return;
        }
        sleep(SECONDS_BETWEEN);
    }
    syslog(LOG_ERR,
           "ended while servers were paused, and one cannot be resumed: %s; "
           "p11keyring migrate --repair",
           err.text);
}

void kr_pause_watchdog(int control, const struct kr_pause_job *job)
{
    struct kr_error err = KR_ERROR_INIT;
    enum kr_pause_command command;
    struct watchdog dog = {.control = settle(control, job), .job = job, .record = -1};
    enum kr_status status = connect_all(&dog, &err);
    leave_terminal();
    answer(&dog, &err);
    while (status == KR_OK && next_command(&dog, &command))
        obey(&dog, command);
    outlive(&dog);
    _exit(EXIT_SUCCESS);
}
