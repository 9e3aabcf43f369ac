/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the commands on files share. */
#include <stdlib.h>
#include <string.h>

#include "file_rows.h"
#include "files/kinds.h"

enum { MIB = 1024 * 1024 };

/* --- the work --------------------------------------------------------------------------------- */

/* A configuration that was not named and cannot be read is no reason to look at nothing. */
static enum kr_status load_config(struct cli *cli, struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;

    if (cli_load_config(cli, &why) == KR_OK)
        return KR_OK;
    if (cli_flag(cli, OPT_CONFIG) || why.status == KR_USAGE) {
        *err = why;
        return why.status;
    }
    cli_warn(cli, "without a keyring: %s", why.text);
    if (*why.hint)
        cli_hint("%s", why.hint);
    return KR_OK;
}

enum kr_status cli_files_begin_with(struct cli *cli, struct kr_file_keys *keys, char *const *paths,
                                    size_t count, struct cli_files *ret, struct kr_error *err)
{
    unsigned threads;

    *ret = (struct cli_files){.cli = cli, .keys = keys};
    KR_TRY(cli_number(cli, OPT_THREADS, 0, 64, &threads, err));
    KR_TRY(cli_progress_begin(cli, &ret->progress, err));
    ret->progress.unit = "MiB";
    ret->progress.scale = MIB;
    return kr_walk(paths, count, &ret->walk, err);
}

enum kr_status cli_files_begin(struct cli *cli, struct cli_files *ret, struct kr_error *err)
{
    struct kr_file_keys *keys = NULL;

    KR_TRY(load_config(cli, err));
    KR_TRY(kr_file_keys_new(cli->config, &keys, err));
    return cli_files_begin_with(cli, keys, cli->args, (size_t)cli->arg_count, ret, err);
}

void cli_files_cleanup(struct cli_files *files)
{
    kr_file_keys_free(files->keys);
    kr_walk_free(&files->walk);
}

enum kr_status cli_files_run(struct cli_files *files, kr_files_work work, void *context,
                             struct kr_error *err)
{
    struct kr_files_options options = {.keys = files->keys,
                                       .work = work,
                                       .context = context,
                                       .progress = cli_progress_step,
                                       .progress_context = &files->progress};

    KR_TRY(cli_number(files->cli, OPT_THREADS, 0, 64, &options.threads, err));
    enum kr_status status = kr_files_run(&files->walk, &options, &files->interrupted, err);
    cli_progress_end(&files->progress);
    return status;
}

enum kr_status cli_files_end(struct cli_files *files, json_t *result, struct kr_error *err)
{
    const struct kr_error *trouble = kr_file_keys_trouble(files->keys);
    json_t *skipped = json_array();
    size_t serious = 0;

    for (size_t i = 0; i < files->walk.skip_count; i++) {
        const struct kr_walk_skip *skip = &files->walk.skips[i];
        serious += !skip->harmless;
        json_array_append_new(
            skipped, json_pack("{s:o, s:s}", "path", cli_text(skip->path), "why", skip->why));
    }
    if (json_object_set_new(result, "skipped", skipped) != 0 ||
        json_array_size(skipped) != files->walk.skip_count)
        return kr_fail_memory(err);
    if (trouble)
        cli_warn(files->cli, "which keys are here is not known: %s", trouble->text);
    if (serious > 0)
        cli_warn(files->cli, "%zu paths were not looked at", serious);
    if (files->interrupted) {
        cli_note("interrupted: not every file was looked at");
        files->cli->exit_code = CLI_EXIT_INTERRUPTED;
    }
    return KR_OK;
}

/* --- rows ------------------------------------------------------------------------------------- */

static const char *here_text(enum kr_key_here here)
{
    static const char *const texts[] = {"unknown", "yes", "no"};

    return texts[here];
}

static json_t *needs_json(const struct kr_file_report *report)
{
    json_t *needs = json_array();

    for (size_t i = 0; i < report->need_count; i++) {
        const struct kr_file_need *need = &report->needs[i];
        bool mysql = *need->name != '\0';
        json_array_append_new(
            needs, json_pack("{s:o, s:o, s:I, s:s}", "key",
                             mysql ? cli_text(need->name) : json_integer((json_int_t)need->id),
                             "version", mysql ? json_null() : json_integer(need->version), "units",
                             (json_int_t)need->count, "here", here_text(need->here)));
    }
    return needs;
}

static json_t *units_json(const struct kr_file_report *report)
{
    const struct kr_file_kind_ops *ops = kr_file_ops(report->kind);
    const struct kr_file_units *units = &report->units;

    if (!ops || !ops->unit || units->total == 0)
        return json_null();
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "unit", ops->unit, "total",
                     (json_int_t)units->total, "encrypted", (json_int_t)units->encrypted, "plain",
                     (json_int_t)units->plain, "empty", (json_int_t)units->empty, "compressed",
                     (json_int_t)units->compressed);
}

static json_t *notes_json(const struct kr_file_report *report)
{
    json_t *notes = json_array();

    for (size_t i = 0; i < report->note_count; i++)
        json_array_append_new(notes, cli_text(report->notes[i]));
    return notes;
}

json_t *cli_file_row(const char *path, const struct kr_file_report *report)
{
    static const char *const encrypted[] = {"unknown", "no", "partly", "yes"};

    return json_pack("{s:o, s:s, s:s, s:s?, s:I, s:o, s:o, s:s, s:o, s:o, s:o, s:b, s:b, s:o}",
                     "path", cli_text(path), "kind", kr_file_kind_tag(report->kind), "kind_name",
                     kr_file_kind_name(report->kind), "server", kr_file_kind_server(report->kind),
                     "size", (json_int_t)report->size, "page_size",
                     report->page_size ? json_integer(report->page_size) : json_null(), "format",
                     cli_text(*report->format ? report->format : NULL), "encrypted",
                     encrypted[report->encrypted], "progress",
                     cli_text(*report->progress ? report->progress : NULL), "units",
                     units_json(report), "needs", needs_json(report), "damaged", report->damaged,
                     "incomplete", report->incomplete, "notes", notes_json(report));
}

json_t *cli_file_failed(const char *path, const struct kr_error *why)
{
    return json_pack("{s:o, s:o, s:o}", "path", cli_text(path), "error", cli_text(why->text),
                     "hint", cli_text(*why->hint ? why->hint : NULL));
}

/* --- keys over all files ---------------------------------------------------------------------- */

static void add_to(json_t *object, const char *field, json_int_t more)
{
    json_object_set_new(object, field,
                        json_integer(json_integer_value(json_object_get(object, field)) + more));
}

/* One key of one file; `by_name` finds its row again. */
static void add_need(json_t *keys, json_t *by_name, const json_t *need)
{
    const json_t *key = json_object_get(need, "key"), *version = json_object_get(need, "version");
    char name[160];

    if (json_is_string(key))
        snprintf(name, sizeof name, "%s", json_string_value(key));
    else
        snprintf(name, sizeof name, "%lld:%lld", (long long)json_integer_value(key),
                 (long long)json_integer_value(version));
    json_t *row = json_object_get(by_name, name);
    if (!row) {
        row = json_pack("{s:O, s:O, s:i, s:i, s:O}", "key", key, "version", version, "files", 0,
                        "units", 0, "here", json_object_get(need, "here"));
        json_object_set(by_name, name, row);
        json_array_append_new(keys, row);
    }
    add_to(row, "files", 1);
    add_to(row, "units", json_integer_value(json_object_get(need, "units")));
}

json_t *cli_file_keys(const json_t *rows)
{
    CLI_JSON by_name = json_object();
    json_t *keys = json_array(), *row, *need;
    size_t i, j;

    json_array_foreach(rows, i, row)
    {
        json_array_foreach(json_object_get(row, "needs"), j, need)
        {
            add_need(keys, by_name, need);
        }
    }
    return keys;
}

void cli_print_skipped(const json_t *result)
{
    json_t *skip;
    size_t i;

    json_array_foreach(json_object_get(result, "skipped"), i, skip)
    {
        printf("%s: not looked at: %s\n", json_string_value(json_object_get(skip, "path")),
               json_string_value(json_object_get(skip, "why")));
    }
}

void cli_size_text(uint64_t bytes, char ret[CLI_SIZE_TEXT])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double size = (double)bytes;
    size_t unit = 0;

    while (size >= 1024 && unit < 4) {
        size /= 1024;
        unit++;
    }
    snprintf(ret, CLI_SIZE_TEXT, unit > 0 ? "%.1f %s" : "%.0f %s", size, units[unit]);
}
