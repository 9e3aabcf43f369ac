/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A PKCS#11 module that forwards every function to a real one, counts the calls, and misbehaves as
 * the rules say: see control.h.
 */
#include "control.h"
#include "functions.h"

#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RULES_MAX = 32, HANG_POLL_MS = 5 };

struct rule {
    char action[8], name[32];
    unsigned long value, from, times;
    unsigned long seen; /* calls since the rule was read */
};

#define X(name, params, args) INDEX_##name,
enum index { MOCK_FUNCTIONS(X) INDEX_C_GetFunctionList, INDEX_dlopen, INDEX_COUNT };
#undef X
#define X(name, params, args) #name,
static const char *const names[] = {MOCK_FUNCTIONS(X) "C_GetFunctionList", "dlopen"};
#undef X

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[RULES_MAX];
static size_t rule_count;
static struct stat rules_read;
static struct mock_count *counts;
static CK_FUNCTION_LIST *real;

static void pause_ms(unsigned long ms)
{
    struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

/* --- counters -----------------------------------------------------------------------------------
 */

static void map_counts(const char *path)
{
    const size_t size = INDEX_COUNT * sizeof(*counts);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (map == MAP_FAILED)
        return;
    counts = map;
    for (int i = 0; i < INDEX_COUNT; i++)
        strncpy(counts[i].name, names[i], sizeof(counts[i].name) - 1);
}

/* A test may move on to another file of counters. */
static void count_call(enum index index)
{
    static char mapped[512];
    const char *path = getenv("P11K_MOCK_COUNTS");

    pthread_mutex_lock(&lock);
    if (path && strcmp(path, mapped) != 0) {
        snprintf(mapped, sizeof(mapped), "%s", path);
        map_counts(path);
    }
    if (counts)
        __atomic_add_fetch(&counts[index].calls, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&lock);
}

/* --- rules --------------------------------------------------------------------------------------
 */

static void read_rules(const char *path)
{
    FILE *file = fopen(path, "re");
    char line[256];

    rule_count = 0;
    while (file && rule_count < RULES_MAX && fgets(line, sizeof(line), file)) {
        struct rule rule = {.from = 1, .times = ~0UL};

        if (sscanf(line, "%7s %31s %li %lu %lu", rule.action, rule.name, (long *)&rule.value,
                   &rule.from, &rule.times) >= 2)
            rules[rule_count++] = rule;
    }
    if (file)
        fclose(file);
}

/* Under the lock. */
static void refresh_rules(void)
{
    const char *path = getenv("P11K_MOCK_CONTROL");
    struct stat now;

    if (!path || stat(path, &now) != 0)
        return;
    if (now.st_ino == rules_read.st_ino && now.st_size == rules_read.st_size &&
        now.st_mtim.tv_sec == rules_read.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == rules_read.st_mtim.tv_nsec)
        return;
    rules_read = now;
    read_rules(path);
}

/* Under the lock. */
static struct rule *find_rule(const char *action, const char *name)
{
    for (size_t i = 0; i < rule_count; i++)
        if (strcmp(rules[i].action, action) == 0 && strcmp(rules[i].name, name) == 0)
            return &rules[i];
    return NULL;
}

/* The value of a rule, or 0 without one. */
static unsigned long rule_value(const char *action, const char *name)
{
    const struct rule *rule;
    unsigned long value;

    pthread_mutex_lock(&lock);
    refresh_rules();
    rule = find_rule(action, name);
    value = rule ? rule->value : 0;
    pthread_mutex_unlock(&lock);
    return value;
}

static bool must_hang(const char *name)
{
    bool hang;

    pthread_mutex_lock(&lock);
    refresh_rules();
    hang = find_rule("hang", name);
    pthread_mutex_unlock(&lock);
    return hang;
}

static CK_RV planned_failure(const char *name)
{
    struct rule *rule;
    CK_RV rv = CKR_OK;

    pthread_mutex_lock(&lock);
    refresh_rules();
    rule = find_rule("fail", name);
    if (rule) {
        rule->seen++;
        if (rule->seen >= rule->from && rule->seen - rule->from < rule->times)
            rv = rule->value;
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

/* What happens before a call is forwarded; CKR_OK when it is to be. */
static CK_RV before(enum index index)
{
    const char *name = names[index];

    count_call(index);
    while (must_hang(name))
        pause_ms(HANG_POLL_MS);
    pause_ms(rule_value("delay", name));
    return planned_failure(name);
}

/* --- forwarding ---------------------------------------------------------------------------------
 */

#define X(name, params, args)                                                                      \
    static CK_RV mock_##name params                                                                \
    {                                                                                              \
        CK_RV rv = before(INDEX_##name);                                                           \
                                                                                                   \
        return rv == CKR_OK ? real->name args : rv;                                                \
    }
MOCK_FUNCTIONS(X)
#undef X

static CK_RV token_info_with_flags(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = mock_C_GetTokenInfo(slot, info);

    if (rv == CKR_OK)
        info->flags |= rule_value("flags", "C_GetTokenInfo");
    return rv;
}

static CK_FUNCTION_LIST list;

static bool load_real(void)
{
    const char *path = getenv("P11K_MOCK_MODULE");
    void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get_list = NULL;

    if (handle)
        *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    return get_list && get_list(&real) == CKR_OK;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret)
{
    CK_RV rv = before(INDEX_C_GetFunctionList);

    if (rv != CKR_OK)
        return rv;
    if (!real && !load_real())
        return CKR_GENERAL_ERROR;
    list.version = real->version;
#define X(name, params, args) list.name = mock_##name;
    MOCK_FUNCTIONS(X)
#undef X
    list.C_GetTokenInfo = token_info_with_flags;
    list.C_GetFunctionList = C_GetFunctionList;
    *ret = &list;
    return CKR_OK;
}

__attribute__((constructor)) static void loaded(void)
{
    before(INDEX_dlopen);
}
