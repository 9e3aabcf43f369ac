/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Killing a process at a random moment, knowing what it was doing. */
#include "kill_window.h"

#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool kill_inside_journal(const void *context)
{
    char journal[PATH_MAX];
    snprintf(journal, sizeof(journal), "%s-journal", (const char *)context);
    return access(journal, F_OK) == 0;
}

unsigned kill_count(unsigned otherwise)
{
    const char *text = getenv("P11K_KILLS");
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static unsigned random_below(unsigned limit)
{
    unsigned random = 0;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        abort();
    return random % limit;
}

void kill_sleep(unsigned microseconds)
{
    usleep(random_below(microseconds));
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void kill_aim(kill_inside inside, const void *context, unsigned microseconds)
{
    uint64_t end = now_us() + 1000000;
    while (!inside(context) && now_us() < end)
        ;
    end = now_us() + random_below(microseconds);
    while (now_us() < end)
        ;
}

void kill_child(pid_t pid, kill_inside inside, const void *context, struct kill_tally *tally)
{
    int state = 0;
    kill(pid, SIGSTOP);
    waitpid(pid, &state, WUNTRACED);
    if (!WIFSTOPPED(state)) {
        tally->late++;
        return;
    }
    tally->kills++;
    tally->inside += inside(context);
    kill(pid, SIGKILL);
    waitpid(pid, &state, 0);
}

bool kill_report(const struct kill_tally *tally)
{
    printf("%s: kills %u, inside the write window %u (%u ended before the signal)\n", tally->name,
           tally->kills, tally->inside, tally->late);
    return tally->kills > 0 && tally->inside * 2 >= tally->kills;
}
