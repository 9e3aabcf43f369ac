/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* verify: decrypts and checks every page, block and event; what is not right is listed. */
#include <stdlib.h>
#include <string.h>

#include "backup/chain.h"
#include "file_rows.h"
#include "files/kinds.h"
#include "files/verify.h"

static const char *const verdict_names[] = {
    [KR_VERDICT_OK] = "ok",
    [KR_VERDICT_DAMAGED] = "damaged",
    [KR_VERDICT_SKIPPED] = "not verified",
    [KR_VERDICT_NO_KIND] = "unknown",
    [KR_VERDICT_BARE] = "nothing to verify",
};

/* What is kept of each file. */
struct verified {
    json_t *row;
    enum kr_file_verdict verdict;
    enum kr_status status;
    bool opened; /* of a backup: all that it needs was read, if it carries what checks it or not */
    bool plain;  /* of no known kind, and never encrypted by its name */
    uint64_t checked, empty, damaged;
};

static json_t *damages_json(const struct kr_file_check *check)
{
    json_t *damages = json_array();

    for (size_t i = 0; i < check->damage_count; i++)
        json_array_append_new(damages,
                              json_pack("{s:I, s:o}", "number", (json_int_t)check->damages[i].unit,
                                        "why", cli_text(check->damages[i].why)));
    return damages;
}

static json_t *missing_json(const struct kr_file_report *report)
{
    json_t *missing = json_array();

    for (size_t i = 0; i < report->need_count; i++) {
        const struct kr_file_need *need = &report->needs[i];
        char text[160];
        if (need->here != KR_KEY_MISSING)
            continue;
        if (*need->name)
            snprintf(text, sizeof text, "%s", need->name);
        else
            snprintf(text, sizeof text, "version %u of key %u", need->version, need->id);
        json_array_append_new(missing, cli_text(text));
    }
    return missing;
}

static json_t *row_of(const char *path, const struct kr_file_verified *v)
{
    const struct kr_file_kind_ops *ops = kr_file_ops(v->report.kind);
    const struct kr_file_check *check = &v->check;

    return json_pack("{s:o, s:s, s:s, s:s, s:o, s:o, s:s?, s:I, s:I, s:I, s:I, s:I, s:o, s:o}",
                     "path", cli_text(path), "verdict", verdict_names[v->verdict], "kind",
                     kr_file_kind_tag(v->report.kind), "kind_name",
                     kr_file_kind_name(v->report.kind), "why", cli_text(*v->why ? v->why : NULL),
                     "hint", cli_text(*v->hint ? v->hint : NULL), "unit", ops ? ops->unit : NULL,
                     "total", (json_int_t)v->report.units.total, "checked",
                     (json_int_t)check->checked, "empty", (json_int_t)check->empty, "unchecked",
                     (json_int_t)check->unchecked, "damaged", (json_int_t)check->damaged, "damages",
                     damages_json(check), "missing_keys", missing_json(&v->report));
}

/* A doublewrite buffer is of use where a page of a tablespace is torn, which that page tells. */
static bool is_opened(const struct kr_file_verified *v)
{
    const struct kr_file_check *check = &v->check;

    if (v->report.kind == KR_FILE_MYSQL_DOUBLEWRITE)
        return true;
    return v->verdict == KR_VERDICT_SKIPPED && v->status == KR_OK && check->unchecked > 0 &&
           check->checked + check->empty + check->unchecked >= v->report.units.total;
}

static enum kr_status verify_one(const char *path, size_t index, const struct kr_file_run *run,
                                 void *context, struct kr_error *err)
{
    struct verified *ret = (struct verified *)context + index;
    KR_FILE_VERIFIED verified;

    kr_file_verify(path, run, &verified);
    *ret = (struct verified){.row = row_of(path, &verified),
                             .verdict = verified.verdict,
                             .status = verified.status,
                             .opened = is_opened(&verified),
                             .plain = kr_backup_is_plain(path),
                             .checked = verified.check.checked,
                             .empty = verified.check.empty,
                             .damaged = verified.check.damaged};
    return ret->row ? KR_OK : kr_fail_memory(err);
}

/* --- all files -------------------------------------------------------------------------------- */

struct totals {
    uint64_t files[KR_VERDICTS];
    uint64_t checked, empty, damaged;
    enum kr_status status; /* the first failure that kept files from being verified */
};

static struct totals add_up(const struct verified *all, size_t count)
{
    struct totals totals = {.status = KR_OK};

    for (size_t i = 0; i < count; i++) {
        totals.files[all[i].verdict] += all[i].row != NULL;
        totals.checked += all[i].checked;
        totals.empty += all[i].empty;
        totals.damaged += all[i].damaged;
        if (totals.status == KR_OK)
            totals.status = all[i].status;
    }
    return totals;
}

/* Takes the rows over. */
static json_t *result_of(const struct verified *all, size_t count, const struct totals *totals)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < count; i++)
        if (all[i].row)
            json_array_append_new(rows, all[i].row);
    return json_pack("{s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}, s:o}", "counts", "files",
                     (json_int_t)json_array_size(rows), "ok",
                     (json_int_t)totals->files[KR_VERDICT_OK], "damaged",
                     (json_int_t)totals->files[KR_VERDICT_DAMAGED], "not_verified",
                     (json_int_t)totals->files[KR_VERDICT_SKIPPED], "unknown",
                     (json_int_t)totals->files[KR_VERDICT_NO_KIND], "nothing_to_verify",
                     (json_int_t)totals->files[KR_VERDICT_BARE], "units_checked",
                     (json_int_t)totals->checked, "units_empty", (json_int_t)totals->empty,
                     "units_damaged", (json_int_t)totals->damaged, "files", rows);
}

/* Damage outranks everything; then what was not verified; then what is of no known kind, unless
 * somebody said that such files are not meant. */
static void set_exit_code(struct cli *cli, const struct totals *totals)
{
    if (cli->exit_code == CLI_EXIT_INTERRUPTED && totals->files[KR_VERDICT_DAMAGED] == 0)
        return;
    if (totals->files[KR_VERDICT_NO_KIND] > 0 && !cli_flag(cli, OPT_IGNORE_UNKNOWN))
        cli_warn(cli,
                 "%llu files of no kind that is known were not verified (--verbose lists "
                 "them, --ignore-unknown leaves them out)",
                 (unsigned long long)totals->files[KR_VERDICT_NO_KIND]);
    if (totals->files[KR_VERDICT_SKIPPED] > 0)
        cli->exit_code = totals->status == KR_OK ? 1 : cli_exit_code(totals->status);
    if (totals->files[KR_VERDICT_DAMAGED] > 0)
        cli->exit_code = cli_exit_code(KR_INTEGRITY);
}

/* --- text ------------------------------------------------------------------------------------- */

static long long number(const json_t *object, const char *field)
{
    return (long long)json_integer_value(json_object_get(object, field));
}

static const char *text(const json_t *object, const char *field)
{
    const char *value = json_string_value(json_object_get(object, field));

    return value ? value : "";
}

static void print_damages(const json_t *row)
{
    const json_t *damages = json_object_get(row, "damages");
    json_t *damage;
    size_t i;

    json_array_foreach(damages, i, damage)
    {
        printf("    %s %lld: %s\n", text(row, "unit"), number(damage, "number"),
               text(damage, "why"));
    }
    if ((long long)json_array_size(damages) < number(row, "damaged"))
        printf("    and %lld more\n", number(row, "damaged") - (long long)json_array_size(damages));
}

static void print_row(const struct cli *cli, const json_t *row)
{
    const char *verdict = text(row, "verdict");
    bool quiet = strcmp(verdict, verdict_names[KR_VERDICT_OK]) == 0 ||
                 strcmp(verdict, verdict_names[KR_VERDICT_NO_KIND]) == 0 ||
                 strcmp(verdict, verdict_names[KR_VERDICT_BARE]) == 0;

    if (quiet && !cli_flag(cli, OPT_VERBOSE))
        return;
    printf("%s: %s", text(row, "path"), verdict);
    if (*text(row, "why"))
        printf(": %s", text(row, "why"));
    else
        printf(" (%lld %ss, %lld of them empty)", number(row, "checked") + number(row, "empty"),
               text(row, "unit"), number(row, "empty"));
    putchar('\n');
    print_damages(row);
}

/* The hints of all files are mostly the same one. */
static void print_hints(const json_t *rows)
{
    const char *said = "";
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        if (*text(row, "hint") && strcmp(said, text(row, "hint")) != 0) {
            said = text(row, "hint");
            cli_hint("%s", said);
        }
    }
}

static void count_missing(json_t *counts, const json_t *row)
{
    json_t *key;
    size_t i;

    json_array_foreach(json_object_get(row, "missing_keys"), i, key)
    {
        const char *name = json_string_value(key);
        json_object_set_new(counts, name, json_integer(number(counts, name) + 1));
    }
}

/* Each key once, with the number of files that need it. */
static void print_missing(const json_t *rows)
{
    CLI_JSON counts = json_object();
    json_t *row, *count;
    const char *name;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        count_missing(counts, row);
    }
    json_object_foreach(counts, name, count)
    {
        printf("missing: %s, needed by %lld files\n", name, (long long)json_integer_value(count));
    }
}

static void print_text(const struct cli *cli, const json_t *result)
{
    const json_t *counts = json_object_get(result, "counts");
    json_t *row;
    size_t i;

    printf("%lld files: %lld ok, %lld damaged, %lld not verified, %lld of no known kind",
           number(counts, "files"), number(counts, "ok"), number(counts, "damaged"),
           number(counts, "not_verified"), number(counts, "unknown"));
    if (number(counts, "nothing_to_verify") > 0)
        printf(", %lld with nothing to verify", number(counts, "nothing_to_verify"));
    putchar('\n');
    printf("pages, blocks and events: %lld right, %lld empty, %lld damaged\n\n",
           number(counts, "units_checked"), number(counts, "units_empty"),
           number(counts, "units_damaged"));
    json_array_foreach(json_object_get(result, "files"), i, row)
    {
        print_row(cli, row);
    }
    cli_print_skipped(result);
    print_missing(json_object_get(result, "files"));
    print_hints(json_object_get(result, "files"));
}

/* A path that was not looked at was not verified. */
static enum kr_status tell(struct cli_files *files, json_t *result, struct totals *totals,
                           struct kr_error *err)
{
    struct cli *cli = files->cli;

    KR_TRY(cli_files_end(files, result, err));
    if (cli->exit_code == CLI_EXIT_WARNINGS)
        cli->exit_code = 1;
    set_exit_code(cli, totals);
    if (!cli_print_json(cli, result))
        print_text(cli, result);
    return KR_OK;
}

/* Whether keys are missing is the question: a file is right that was read as a whole. */
static void judge_by_keys(struct verified *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct verified *one = &all[i];
        bool plain = one->verdict == KR_VERDICT_NO_KIND && one->plain;
        if (!one->opened && !plain)
            continue;
        one->verdict = plain ? KR_VERDICT_BARE : KR_VERDICT_OK;
        json_object_set_new(one->row, "verdict", json_string(verdict_names[one->verdict]));
    }
}

enum kr_status cli_verify_files(struct cli_files *files, json_t *bundles, struct kr_error *err)
{
    struct verified *all = calloc(files->walk.count + 1, sizeof *all);

    if (!all)
        return kr_fail_memory(err);
    enum kr_status status = cli_files_run(files, verify_one, all, err);
    if (bundles)
        judge_by_keys(all, files->walk.count);
    struct totals totals = add_up(all, files->walk.count);
    CLI_JSON result = result_of(all, files->walk.count, &totals);
    free(all);
    KR_TRY(status);
    if (!result || (bundles && json_object_set(result, "bundles", bundles) != 0))
        return kr_fail_memory(err);
    return tell(files, result, &totals, err);
}

enum kr_status cli_run_verify(struct cli *cli, struct kr_error *err)
{
    CLI_FILES files = {0};

    KR_TRY(cli_files_begin(cli, &files, err));
    return cli_verify_files(&files, NULL, err);
}
