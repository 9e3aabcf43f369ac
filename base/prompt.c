/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Asking for a PIN on the controlling terminal. Signals are caught for the time of the prompt and
 * reported through a pipe: they may be delivered to any thread, so an interrupted read is not
 * enough. They are raised again once the terminal echoes as before.
 */
#include "base/prompt.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
enum { CAUGHT = sizeof(caught) / sizeof(caught[0]) };

static pthread_mutex_t one_prompt = PTHREAD_MUTEX_INITIALIZER;
/* Made by the first prompt and kept: a handler may still be at work in another thread. */
static int signal_pipe[2] = {-1, -1};

static void on_signal(int number)
{
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t written = write(signal_pipe[1], &byte, 1);
    (void)written; /* a full pipe has notices enough */
    errno = saved;
}

/* Lets caught signals take their usual course. */
static void raise_caught(void)
{
    unsigned char byte;
    while (read(signal_pipe[0], &byte, 1) == 1)
        kill(getpid(), byte);
}

static void catch_signals(struct sigaction ret_old[CAUGHT])
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    for (int i = 0; i < CAUGHT; i++) {
        sigaction(caught[i], NULL, &ret_old[i]);
        if (ret_old[i].sa_handler != SIG_IGN)
            sigaction(caught[i], &action, NULL);
    }
}

static void restore_signals(const struct sigaction old[CAUGHT])
{
    for (int i = 0; i < CAUGHT; i++)
        sigaction(caught[i], &old[i], NULL);
}

static int open_terminal(struct kr_error *err)
{
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (tty < 0) {
        kr_fail(err, KR_CONFIG, "there is no terminal to ask on: /dev/tty: %s", strerror(errno));
        kr_hint(err, "use file:/path, cred:NAME, env:NAME or fd:N instead of prompt");
    }
    return tty;
}

enum kr_status kr_prompt_check(struct kr_error *err)
{
    KR_FD int tty = open_terminal(err);
    return tty < 0 ? err->status : KR_OK;
}

static bool say(int tty, const char *text)
{
    size_t len = strlen(text);
    return write(tty, text, len) == (ssize_t)len;
}

/* Waits until the terminal has a line; false when a signal came first. */
static bool wait_for_line(int tty)
{
    struct pollfd on[2] = {{.fd = tty, .events = POLLIN}, {.fd = signal_pipe[0], .events = POLLIN}};
    while (poll(on, 2, -1) < 0 && errno == EINTR)
        ;
    return !on[1].revents;
}

/* The terminal is in canonical mode: one read gives one line. */
static enum kr_status read_line(int tty, char *ret_line, size_t size, size_t *ret_len,
                                struct kr_error *err)
{
    if (!wait_for_line(tty)) {
        kr_fail(err, KR_REFUSED, "the prompt was interrupted by a signal");
        kr_hint(err, "run the command again");
        return err->status;
    }
    ssize_t got;
    while ((got = read(tty, ret_line, size)) < 0 && errno == EINTR)
        ;
    if (got < 0)
        return kr_fail(err, KR_IO, "cannot read from /dev/tty: %s", strerror(errno));
    *ret_len = (size_t)got;
    if (got > 0 && ret_line[got - 1] == '\n')
        ret_line[--*ret_len] = '\0';
    return KR_OK;
}

static enum kr_status ask_without_echo(int tty, const char *what, char *ret_line, size_t size,
                                       size_t *ret_len, struct kr_error *err)
{
    struct termios before, quiet;
    if (tcgetattr(tty, &before) != 0)
        return kr_fail(err, KR_IO, "cannot silence /dev/tty: %s", strerror(errno));
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    quiet.c_lflag |= ICANON | ISIG | ECHONL;
    quiet.c_cc[VSUSP] = _POSIX_VDISABLE; /* a stopped process would leave the shell without echo */
    if (tcsetattr(tty, TCSAFLUSH, &quiet) != 0)
        return kr_fail(err, KR_IO, "cannot silence /dev/tty: %s", strerror(errno));
    enum kr_status status = KR_OK;
    if (!say(tty, what) || !say(tty, ": "))
        status = kr_fail(err, KR_IO, "cannot write to /dev/tty: %s", strerror(errno));
    else
        status = read_line(tty, ret_line, size, ret_len, err);
    tcsetattr(tty, TCSAFLUSH, &before); /* also drops what was typed beyond `size` */
    return status;
}

static enum kr_status prompt_locked(const char *what, char *ret_line, size_t size, size_t *ret_len,
                                    struct kr_error *err)
{
    KR_FD int tty = open_terminal(err);
    if (tty < 0)
        return err->status;
    if (signal_pipe[0] < 0 && pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return kr_fail(err, KR_IO, "cannot make a pipe: %s", strerror(errno));
    struct sigaction old[CAUGHT];
    raise_caught();
    catch_signals(old);
    enum kr_status status = ask_without_echo(tty, what, ret_line, size, ret_len, err);
    restore_signals(old);
    raise_caught();
    return status;
}

enum kr_status kr_prompt_line(const char *what, char *ret_line, size_t size, size_t *ret_len,
                              struct kr_error *err)
{
    pthread_mutex_lock(&one_prompt);
    enum kr_status status = prompt_locked(what, ret_line, size, ret_len, err);
    pthread_mutex_unlock(&one_prompt);
    return status;
}
