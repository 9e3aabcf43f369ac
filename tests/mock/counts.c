/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Counters, and what a token knows for all processes: its open sessions and wrong PINs. They are in
 * a file that all processes map, and stay with this one when there is none. */
#include "mock.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PROCESSES_MAX = 64, SLOTS_MAX = 64 };

/* proc(5): between a process's state and its start time. */
#define SKIP_6 " %*s %*s %*s %*s %*s %*s"
#define SKIP_18 SKIP_6 SKIP_6 SKIP_6

struct shared {
    struct mock_count counts[INDEX_COUNT];
    struct {
        uint64_t process; /* see identify() */
        uint64_t slot, open;
    } sessions[PROCESSES_MAX];
    struct {
        uint64_t slot_and_1, wrong_pins;
    } slots[SLOTS_MAX];
};

#define X(name, params, args) #name,
static const char *const names[] = {
    MOCK_FUNCTIONS(X) "C_GetFunctionList",
    "dlopen",
    "injected",
    "logins",
    "wrong-pins",
    "sessions-open",
    "calls-at-once-max",
};
#undef X

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared own, *mapped = &own;
static unsigned long calls_at_once;

static void map_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(*mapped)) == 0)
        map = mmap(NULL, sizeof(*mapped), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (map == MAP_FAILED)
        return;
    mapped = map;
    for (int i = 0; i < INDEX_COUNT; i++)
        strncpy(mapped->counts[i].name, names[i], sizeof(mapped->counts[i].name) - 1);
}

/* A test may move on to another file of counters. */
static struct shared *shared(void)
{
    static char path_mapped[512];
    const char *path = getenv("P11K_MOCK_COUNTS");
    struct shared *ret;

    pthread_mutex_lock(&lock);
    if (path && strcmp(path, path_mapped) != 0) {
        snprintf(path_mapped, sizeof(path_mapped), "%s", path);
        map_file(path);
    }
    ret = mapped;
    pthread_mutex_unlock(&lock);
    return ret;
}

void mock_counts_after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
    calls_at_once = 0;
}

const char *mock_name(enum mock_index index)
{
    return names[index];
}

void mock_count(enum mock_index index)
{
    __atomic_add_fetch(&shared()->counts[index].calls, 1, __ATOMIC_RELAXED);
}

void mock_enter(void)
{
    uint64_t *max = &shared()->counts[INDEX_calls_at_once_max].calls;
    uint64_t now = __atomic_add_fetch(&calls_at_once, 1, __ATOMIC_RELAXED);
    uint64_t old = __atomic_load_n(max, __ATOMIC_RELAXED);

    while (now > old &&
           !__atomic_compare_exchange_n(max, &old, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

void mock_leave(void)
{
    __atomic_sub_fetch(&calls_at_once, 1, __ATOMIC_RELAXED);
}

/* --- sessions --------------------------------------------------------------------------------- */

/* A process by its number and the clock tick of its start, since numbers come again; 0: it ended.
 */
static uint64_t identify(pid_t pid)
{
    char path[32], text[512] = "";
    unsigned long long start = 0;
    char state;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t len = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[len] = '\0';
    const char *name_end = strrchr(text, ')'); /* the name may hold anything */
    if (!name_end || sscanf(name_end + 1, " %c" SKIP_18 " %llu", &state, &start) != 2)
        return 0;
    if (state == 'Z') /* nobody has waited for it yet */
        return 0;
    return start << 32 | (uint32_t)pid;
}

static bool lives(uint64_t process)
{
    return process != 0 && identify((pid_t)(uint32_t)process) == process;
}

static uint64_t myself(void)
{
    static uint64_t me;

    if ((pid_t)(uint32_t)me != getpid())
        me = identify(getpid());
    if (me == 0) {
        fprintf(stderr, "mock: /proc is not mounted\n");
        abort();
    }
    return me;
}

/* The record of this process and slot, in the place of a process that has ended if it is new. */
static uint64_t *my_sessions(struct shared *s, CK_SLOT_ID slot)
{
    const uint64_t me = myself();

    for (int i = 0; i < PROCESSES_MAX; i++)
        if (s->sessions[i].process == me && s->sessions[i].slot == slot)
            return &s->sessions[i].open;
    for (int i = 0; i < PROCESSES_MAX; i++) {
        uint64_t old = s->sessions[i].process;

        if (lives(old) || !__atomic_compare_exchange_n(&s->sessions[i].process, &old, me, false,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        s->sessions[i].slot = slot;
        s->sessions[i].open = 0;
        return &s->sessions[i].open;
    }
    fprintf(stderr, "mock: too many processes\n");
    abort();
}

static unsigned long sum_sessions(const struct shared *s, CK_SLOT_ID slot)
{
    unsigned long sum = 0;

    for (int i = 0; i < PROCESSES_MAX; i++)
        if (s->sessions[i].open && lives(s->sessions[i].process) &&
            (slot == MOCK_NO_SLOT || s->sessions[i].slot == slot))
            sum += __atomic_load_n(&s->sessions[i].open, __ATOMIC_RELAXED);
    return sum;
}

void mock_count_sessions(CK_SLOT_ID slot, int change)
{
    struct shared *s = shared();

    pthread_mutex_lock(&lock);
    *my_sessions(s, slot) += (uint64_t)(int64_t)change;
    s->counts[INDEX_sessions_open].calls = sum_sessions(s, MOCK_NO_SLOT);
    pthread_mutex_unlock(&lock);
}

unsigned long mock_sessions_in(CK_SLOT_ID slot)
{
    return sum_sessions(shared(), slot);
}

/* --- wrong PINs ------------------------------------------------------------------------------- */

static uint64_t *wrong_pins(CK_SLOT_ID slot)
{
    struct shared *s = shared();

    for (int i = 0; i < SLOTS_MAX; i++) {
        uint64_t free_place = 0;

        __atomic_compare_exchange_n(&s->slots[i].slot_and_1, &free_place, slot + 1, false,
                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        if (s->slots[i].slot_and_1 == slot + 1)
            return &s->slots[i].wrong_pins;
    }
    fprintf(stderr, "mock: too many slots\n");
    abort();
}

unsigned long mock_wrong_pins(CK_SLOT_ID slot)
{
    return __atomic_load_n(wrong_pins(slot), __ATOMIC_RELAXED);
}

void mock_set_wrong_pins(CK_SLOT_ID slot, unsigned long count)
{
    __atomic_store_n(wrong_pins(slot), count, __ATOMIC_RELAXED);
}
