/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading the rules, and finding those that a call meets. */
#include "mock.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RULES_MAX = 256, LINE_MAX_BYTES = 8192 };

/* What follows an action: [NAME] numbers... [words], the numbers being between min and max, with
 * FROM and TIMES from `from_at` on (-1: none). */
static const struct action {
    const char *name;
    bool on_function;
    int min, max, from_at;
    bool text;
} actions[] = {
    {"hang", true, 0, 2, 0, false},
    {"delay", true, 1, 3, 1, false},
    {"fail", true, 1, 3, 1, false},
    {"lose-session", true, 0, 2, 0, false},
    {"chaos", false, 2, 2, -1, true},
    {"flip", true, 0, 2, 0, false},
    {"truncate", true, 1, 3, 1, false},
    {"length", true, 1, 3, 1, false},
    {"flags", true, 1, 1, -1, false},
    {"slot-gone", false, 0, 0, -1, false},
    {"token-gone", false, 0, 0, -1, false},
    {"write-protected", false, 0, 0, -1, false},
    {"read-write-only", false, 0, 0, -1, false},
    {"no-random", false, 0, 0, -1, false},
    {"limit-sessions", false, 1, 1, -1, false},
    {"max-sessions", false, 1, 1, -1, false},
    {"limit-objects", false, 1, 1, -1, false},
    {"pin-tries", false, 1, 1, -1, false},
    {"pin-pad", false, 0, 0, -1, true},
    {"always-authenticate", false, 0, 0, -1, false},
    {"hidden", false, 1, 1, -1, false},
    {"broken", false, 1, 2, -1, false},
    {"renamed", false, 2, 2, -1, false},
    {"iv-by-token", false, 0, 0, -1, false},
    {"leaky", false, 0, 0, -1, false},
    {"refuse", true, 1, 2, -1, false},
    {"require", true, 1, 1, -1, false},
    {"init-args", false, 0, 0, -1, true},
};

struct rule {
    const struct action *action;
    char token[33]; /* "": any */
    char function[32];
    struct mock_rule values;
    unsigned long from, times, seen; /* seen: calls since the rule was read */
    char *text;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[RULES_MAX];
static size_t rule_count; /* atomic for who only wants to know whether there are any */
static struct stat rules_read;

void mock_rules_after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
}

/* --- reading ---------------------------------------------------------------------------------- */

static _Noreturn void refuse_line(const char *line)
{
    fprintf(stderr, "mock: this rule is not understood: %s\n", line);
    abort();
}

static char *next_word(char **rest)
{
    char *word = *rest + strspn(*rest, " \t");
    size_t len = strcspn(word, " \t");

    *rest = word + len + (word[len] != '\0');
    word[len] = '\0';
    return word;
}

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

/* Takes the numbers off the rest of a line; returns how many there were. */
static int read_numbers(char **rest, int max, unsigned long *ret)
{
    int count = 0;

    while (count < max) {
        char *end;
        long number = strtol(*rest, &end, 0);

        if (end == *rest || (*end && !isspace((unsigned char)*end)))
            break;
        ret[count++] = (unsigned long)number;
        *rest = end;
    }
    *rest += strspn(*rest, " \t");
    return count;
}

static bool read_rule(char *rest, struct rule *ret)
{
    const struct action *action = find_action(next_word(&rest));
    int count;

    if (!action)
        return false;
    ret->action = action;
    if (action->on_function)
        snprintf(ret->function, sizeof(ret->function), "%s", next_word(&rest));
    count = read_numbers(&rest, action->max, ret->values.numbers);
    if (count < action->min || (action->on_function && !ret->function[0]) ||
        (rest[0] != '\0') != action->text)
        return false;
    if (action->text)
        ret->text = strdup(rest);
    ret->from =
        action->from_at >= 0 && count > action->from_at ? ret->values.numbers[action->from_at] : 1;
    ret->times = action->from_at >= 0 && count > action->from_at + 1
                     ? ret->values.numbers[action->from_at + 1]
                     : ~0UL;
    return true;
}

static void read_line(char *line, char *token)
{
    char whole[LINE_MAX_BYTES];
    char label[33];

    line[strcspn(line, "\n")] = '\0';
    snprintf(whole, sizeof(whole), "%s", line);
    if (line[strspn(line, " \t")] == '\0')
        return;
    if (strncmp(line, "token ", 6) == 0 && sscanf(line + 6, "%32s", label) == 1) {
        snprintf(token, sizeof(label), "%s", strcmp(label, "*") == 0 ? "" : label);
        return;
    }
    rules[rule_count] = (struct rule){.action = NULL};
    if (rule_count == RULES_MAX - 1 || !read_rule(line, &rules[rule_count]))
        refuse_line(whole);
    snprintf(rules[rule_count].token, sizeof(rules[0].token), "%s", token);
    __atomic_store_n(&rule_count, rule_count + 1, __ATOMIC_RELAXED);
}

static void read_rules(const char *path)
{
    FILE *file = fopen(path, "re");
    char line[LINE_MAX_BYTES], token[33] = "";

    for (size_t i = 0; i < rule_count; i++)
        free(rules[i].text);
    __atomic_store_n(&rule_count, 0, __ATOMIC_RELAXED);
    while (file && fgets(line, sizeof(line), file))
        read_line(line, token);
    if (file)
        fclose(file);
}

void mock_rules_refresh(void)
{
    const char *path = getenv("P11K_MOCK_CONTROL");
    struct stat now;

    if (!path || stat(path, &now) != 0)
        return;
    pthread_mutex_lock(&lock);
    if (now.st_ino != rules_read.st_ino || now.st_size != rules_read.st_size ||
        now.st_mtim.tv_sec != rules_read.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != rules_read.st_mtim.tv_nsec) {
        rules_read = now;
        read_rules(path);
    }
    pthread_mutex_unlock(&lock);
}

/* --- matching; under the lock ----------------------------------------------------------------- */

static bool is_about_token(const struct rule *rule, CK_SLOT_ID slot)
{
    char label[33];

    if (!rule->token[0])
        return true;
    if (slot == MOCK_NO_SLOT)
        return false;
    mock_token_label(slot, label);
    return strcmp(label, rule->token) == 0;
}

static bool is_about_function(const char *pattern, const char *name)
{
    return strcmp(pattern, name) == 0 || (strcmp(pattern, "*") == 0 && strncmp(name, "C_", 2) == 0);
}

/* The next rule after `rule`, the first after NULL; NULL at the end. */
static struct rule *next_match(struct rule *rule, const char *action, CK_SLOT_ID slot,
                               const char *name)
{
    for (rule = rule ? rule + 1 : rules; rule < rules + rule_count; rule++)
        if (strcmp(rule->action->name, action) == 0 &&
            (!name || !rule->action->on_function || is_about_function(rule->function, name)) &&
            is_about_token(rule, slot))
            return rule;
    return NULL;
}

static bool no_rules(void)
{
    return __atomic_load_n(&rule_count, __ATOMIC_RELAXED) == 0;
}

size_t mock_rules_of(const char *action, CK_SLOT_ID slot, const char *name, struct mock_rule *ret,
                     size_t max)
{
    struct rule *rule = NULL;
    size_t count = 0;

    if (no_rules())
        return 0;
    pthread_mutex_lock(&lock);
    while (count < max && (rule = next_match(rule, action, slot, name)))
        ret[count++] = rule->values;
    pthread_mutex_unlock(&lock);
    return count;
}

bool mock_rule(const char *action, CK_SLOT_ID slot)
{
    struct mock_rule rule;

    return mock_rules_of(action, slot, NULL, &rule, 1) == 1;
}

bool mock_rule_text(const char *action, CK_SLOT_ID slot, char *ret, size_t size)
{
    const struct rule *rule;

    if (no_rules())
        return false;
    pthread_mutex_lock(&lock);
    rule = next_match(NULL, action, slot, NULL);
    if (rule)
        snprintf(ret, size, "%s", rule->text);
    pthread_mutex_unlock(&lock);
    return rule;
}

bool mock_rule_due(const char *action, CK_SLOT_ID slot, const char *name, long *ret_value)
{
    struct rule *rule = NULL;
    bool due = false;

    if (no_rules())
        return false;
    pthread_mutex_lock(&lock);
    while ((rule = next_match(rule, action, slot, name))) {
        rule->seen++;
        if (due || rule->seen < rule->from || rule->seen - rule->from >= rule->times)
            continue;
        due = true;
        *ret_value = (long)rule->values.numbers[0];
    }
    pthread_mutex_unlock(&lock);
    return due;
}

/* --- chaos ------------------------------------------------------------------------------------ */

/* splitmix64: the n-th number of a seed. */
static uint64_t random_number(uint64_t seed, uint64_t n)
{
    uint64_t z = seed + n * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t count_items(const char *list)
{
    size_t count = 1;

    for (; *list && !isspace((unsigned char)*list); list++)
        count += *list == ',';
    return count;
}

static void get_item(const char *list, size_t index, char *ret, size_t size)
{
    while (index-- > 0)
        list += strcspn(list, ",") + 1;
    snprintf(ret, size, "%.*s", (int)strcspn(list, ", \t"), list);
}

static bool is_listed(const char *list, const char *name)
{
    char item[32];

    for (size_t i = 0, count = count_items(list); i < count; i++) {
        get_item(list, i, item, sizeof(item));
        if (is_about_function(item, name))
            return true;
    }
    return false;
}

static void read_fault(const char *text, struct mock_fault *ret)
{
    char *end;

    *ret = (struct mock_fault){.ckr = CKR_OK};
    if (strcmp(text, "lose-session") == 0) {
        ret->lose_session = true;
    } else if (sscanf(text, "delay=%lu", &ret->delay_ms) != 1) {
        ret->ckr = strtoul(text, &end, 0);
        if (end == text || *end)
            refuse_line(text);
    }
}

bool mock_chaos(CK_SLOT_ID slot, const char *name, struct mock_fault *ret)
{
    struct rule *rule = NULL;
    bool hit = false;
    char item[32];

    if (no_rules())
        return false;
    pthread_mutex_lock(&lock);
    while (!hit && (rule = next_match(rule, "chaos", slot, NULL))) {
        const char *faults = rule->text + strcspn(rule->text, " \t");
        uint64_t number;

        faults += strspn(faults, " \t");
        if (!is_listed(rule->text, name))
            continue;
        number = random_number(rule->values.numbers[0], ++rule->seen);
        hit = number % 1000 < rule->values.numbers[1];
        get_item(faults, number / 1000 % count_items(faults), item, sizeof(item));
    }
    pthread_mutex_unlock(&lock);
    if (hit)
        read_fault(item, ret);
    return hit;
}
