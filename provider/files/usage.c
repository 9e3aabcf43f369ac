/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Adding up what files need. */
#include "files/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files/inspect.h"
#include "files/kinds.h"

void kr_usage_init(struct kr_usage *usage)
{
    *usage = (struct kr_usage){0};
    pthread_mutex_init(&usage->lock, NULL);
}

void kr_usage_free(struct kr_usage *usage)
{
    free(usage->keys);
    free(usage->first_silent);
    free(usage->first_unknown);
    pthread_mutex_destroy(&usage->lock);
    *usage = (struct kr_usage){0};
}

/* --- keys ------------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const struct kr_usage_key *one = a, *other = b;
    int names = strcmp(one->name, other->name);
    if (one->master != other->master)
        return one->master ? -1 : 1;
    if (names != 0)
        return names;
    if (one->id != other->id)
        return one->id < other->id ? -1 : 1;
    return (one->version > other->version) - (one->version < other->version);
}

/* The entry of this key, made when there is none; NULL without memory. A keyring has few keys
 * beside its files, and a file needs few of them. */
static struct kr_usage_key *entry_of(struct kr_usage *usage, const struct kr_usage_key *key)
{
    for (size_t i = 0; i < usage->key_count; i++)
        if (by_key(&usage->keys[i], key) == 0)
            return &usage->keys[i];
    struct kr_usage_key *keys = reallocarray(usage->keys, usage->key_count + 1, sizeof(*keys));
    if (!keys)
        return NULL;
    usage->keys = keys;
    keys[usage->key_count] = *key;
    return &keys[usage->key_count++];
}

static enum kr_status add_need(struct kr_usage *usage, const struct kr_file_need *need,
                               struct kr_error *err)
{
    struct kr_usage_key key = {.master = need->master, .id = need->id, .version = need->version};
    memcpy(key.name, need->name, sizeof(key.name));
    struct kr_usage_key *entry = entry_of(usage, &key);
    if (!entry)
        return kr_fail_memory(err);
    entry->files++;
    entry->units += need->count;
    return KR_OK;
}

static enum kr_status add_known(const struct kr_file_key *known, void *context,
                                struct kr_error *err)
{
    struct kr_usage_key key = {.master = known->master, .id = known->id, .version = known->version};
    snprintf(key.name, sizeof(key.name), "%s", known->name ? known->name : "");
    struct kr_usage_key *entry = entry_of(context, &key);
    if (!entry)
        return kr_fail_memory(err);
    entry->here = true;
    entry->in_use = known->in_use;
    snprintf(entry->label, sizeof(entry->label), "%s", known->label ? known->label : "");
    return KR_OK;
}

/* --- files ------------------------------------------------------------------------------------ */

static void remember(char **first, uint64_t *count, const char *path)
{
    (*count)++;
    if (!*first)
        *first = strdup(path);
}

/* Whether the report names every key that the file needs. */
static bool tells_all(const struct kr_file_report *report)
{
    return !report->damaged && !report->incomplete && kr_file_ops(report->kind);
}

static enum kr_status take_report(struct kr_usage *usage, const char *path,
                                  const struct kr_file_report *report, struct kr_error *err)
{
    if (report->kind == KR_FILE_UNKNOWN)
        remember(&usage->first_unknown, &usage->unknown, path);
    else if (report->kind != KR_FILE_EMPTY && !tells_all(report))
        remember(&usage->first_silent, &usage->silent, path);
    for (size_t i = 0; i < report->need_count; i++)
        KR_TRY(add_need(usage, &report->needs[i], err));
    return KR_OK;
}

static enum kr_status inspect(const char *path, const struct kr_file_run *run,
                              struct kr_file_report *ret, struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    KR_TRY(kr_file_open(path, run, &file, err));
    return kr_file_inspect(&file, ret, err);
}

enum kr_status kr_usage_add(struct kr_usage *usage, const char *path, const struct kr_file_run *run,
                            struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    KR_FILE_REPORT report = {0};
    bool told = inspect(path, run, &report, &why) == KR_OK;
    enum kr_status status = KR_OK;
    pthread_mutex_lock(&usage->lock);
    usage->files++;
    if (told)
        status = take_report(usage, path, &report, err);
    else
        remember(&usage->first_silent, &usage->silent, path);
    pthread_mutex_unlock(&usage->lock);
    return status;
}

enum kr_status kr_usage_end(struct kr_usage *usage, const struct kr_walk *walk,
                            struct kr_file_keys *keys, struct kr_error *err)
{
    for (size_t i = 0; i < walk->skip_count; i++)
        if (!walk->skips[i].harmless)
            remember(&usage->first_silent, &usage->silent, walk->skips[i].path);
    KR_TRY(kr_file_keys_each(keys, add_known, usage, err));
    if (usage->key_count > 1)
        qsort(usage->keys, usage->key_count, sizeof(*usage->keys), by_key);
    return KR_OK;
}
