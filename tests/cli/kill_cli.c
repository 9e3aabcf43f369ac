/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * kill_cli DIR MICROSECONDS COMMAND...
 *
 * Starts the command, waits until it writes in DIR (a rollback journal, a new keystore or what is to
 * replace a file appears), and kills it at a random moment of the next MICROSECONDS. Then prints one
 * word: "inside" when the journal or the new file is still there, so that the kill fell inside the write window, "outside"
 * when the window had closed, "finished" when the command ended by itself. The command's standard
 * output goes to ours, before the word.
 *
 * With 0 microseconds nothing is killed and the width of the window is printed instead.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A journal that was killed before its first sync is not created anew, but written over. */
#define WRITE_BEGINS (IN_CREATE | IN_MODIFY)
#define WRITE_ENDS (IN_DELETE | IN_MOVED_FROM)

static void die(const char *what)
{
    fprintf(stderr, "kill_cli: %s: %s\n", what, strerror(errno));
    exit(2);
}

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);

    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

static bool is_write_file(const char *name)
{
    return strstr(name, ".new-") || ends_with(name, "-journal") || ends_with(name, ".p11keyring");
}

static bool write_file_left(const char *dir)
{
    DIR *stream = opendir(dir);
    const struct dirent *entry;
    bool left = false;

    if (!stream)
        die(dir);
    while ((entry = readdir(stream)))
        left |= is_write_file(entry->d_name);
    closedir(stream);
    return left;
}

static long long now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Until that happens to a write file; false when the child is gone before. */
static bool wait_for(int watch, uint32_t wanted, pid_t child)
{
    char buffer[4096] __attribute__((aligned(8)));
    struct pollfd poll_watch = {.fd = watch, .events = POLLIN};
    siginfo_t gone = {0};

    for (;;) {
        if (poll(&poll_watch, 1, 20) > 0) {
            ssize_t len = read(watch, buffer, sizeof buffer);
            for (ssize_t at = 0; at < len;) {
                const struct inotify_event *event = (const void *)(buffer + at);
                if ((event->mask & wanted) && is_write_file(event->name))
                    return true;
                at += (ssize_t)(sizeof *event + event->len);
            }
        } else if (waitid(P_PID, (id_t)child, &gone, WEXITED | WNOHANG | WNOWAIT) != 0 ||
                   gone.si_pid == child) {
            return false;
        }
    }
}

static void pause_up_to(unsigned long max_us)
{
    unsigned long random;

    if (getrandom(&random, sizeof random, 0) != sizeof random)
        die("getrandom");
    for (long long end = now_us() + (long long)(random % max_us); now_us() < end;)
        ; /* a sleep would round up to more than the window */
}

static const char *kill_it(const char *dir, int watch, pid_t child, unsigned long max_us)
{
    if (wait_for(watch, WRITE_BEGINS, child)) {
        pause_up_to(max_us);
        kill(child, SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    if (!WIFSIGNALED(status))
        return "finished";
    return write_file_left(dir) ? "inside" : "outside";
}

static void measure(int watch, pid_t child)
{
    long long start;

    if (!wait_for(watch, WRITE_BEGINS, child))
        die("the command wrote nothing");
    start = now_us();
    if (!wait_for(watch, WRITE_ENDS, child))
        die("the command did not finish its write");
    printf("%lld\n", now_us() - start);
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: kill_cli DIR MICROSECONDS COMMAND...\n");
        return 2;
    }
    unsigned long max_us = strtoul(argv[2], NULL, 10);
    int watch = inotify_init1(IN_CLOEXEC);
    if (watch < 0 || inotify_add_watch(watch, argv[1], WRITE_BEGINS | WRITE_ENDS) < 0)
        die(argv[1]);
    pid_t child = fork();
    if (child == 0) {
        execv(argv[3], argv + 3);
        die(argv[3]);
    }
    if (max_us == 0)
        measure(watch, child);
    else
        puts(kill_it(argv[1], watch, child, max_us));
    return 0;
}
