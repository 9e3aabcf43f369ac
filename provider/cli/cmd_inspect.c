/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* inspect: what files are and which keys they need; counts first, then the tables. */
#include <stdlib.h>
#include <string.h>

#include "file_rows.h"
#include "files/inspect.h"

/* The rows of the files, each set by the thread that looked at it. */
struct inspection {
    json_t **rows;
};

static enum kr_status look_at(const char *path, const struct kr_file_run *run, json_t **ret,
                              struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    KR_FILE_REPORT report = {0};

    KR_TRY(kr_file_open(path, run, &file, err));
    KR_TRY(kr_file_inspect(&file, &report, err));
    *ret = cli_file_row(path, &report);
    return *ret ? KR_OK : kr_fail_memory(err);
}

static enum kr_status inspect_one(const char *path, size_t index, const struct kr_file_run *run,
                                  void *context, struct kr_error *err)
{
    struct inspection *inspection = context;
    struct kr_error why = KR_ERROR_INIT;

    if (look_at(path, run, &inspection->rows[index], &why) != KR_OK)
        inspection->rows[index] = cli_file_failed(path, &why);
    return inspection->rows[index] ? KR_OK : kr_fail_memory(err);
}

static enum kr_status inspect_all(struct cli_files *files, json_t *ret, struct kr_error *err)
{
    size_t count = files->walk.count;
    struct inspection inspection = {.rows = calloc(count + 1, sizeof(json_t *))};

    if (!inspection.rows)
        return kr_fail_memory(err);
    enum kr_status status = cli_files_run(files, inspect_one, &inspection, err);
    for (size_t i = 0; i < count; i++)
        if (inspection.rows[i] && json_array_append_new(ret, inspection.rows[i]) != 0)
            status = status == KR_OK ? kr_fail_memory(err) : status;
    free(inspection.rows);
    return status;
}

/* --- counts ----------------------------------------------------------------------------------- */

static void count_one(json_t *counts, const char *name)
{
    json_object_set_new(counts, name,
                        json_integer(json_integer_value(json_object_get(counts, name)) + 1));
}

static json_t *count(const json_t *rows, uint64_t bytes)
{
    json_t *kinds = json_object(), *encrypted = json_object(), *row;
    json_int_t failed = 0, damaged = 0, incomplete = 0;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const char *kind = json_string_value(json_object_get(row, "kind_name"));
        failed += !kind;
        if (!kind)
            continue;
        count_one(kinds, kind);
        count_one(encrypted, json_string_value(json_object_get(row, "encrypted")));
        damaged += json_is_true(json_object_get(row, "damaged"));
        incomplete += json_is_true(json_object_get(row, "incomplete"));
    }
    return json_pack("{s:I, s:I, s:o, s:o, s:I, s:I, s:I}", "files",
                     (json_int_t)json_array_size(rows), "bytes", (json_int_t)bytes, "kinds", kinds,
                     "encrypted", encrypted, "failed", failed, "damaged", damaged, "incomplete",
                     incomplete);
}

static long long number(const json_t *object, const char *field)
{
    return (long long)json_integer_value(json_object_get(object, field));
}

static void print_counts(const json_t *counts)
{
    const json_t *encrypted = json_object_get(counts, "encrypted");
    char size[CLI_SIZE_TEXT];
    const char *kind;
    json_t *value;

    cli_size_text((uint64_t)number(counts, "bytes"), size);
    printf("%lld files, %s\n", number(counts, "files"), size);
    json_object_foreach(json_object_get(counts, "kinds"), kind, value)
    {
        printf("%7lld  %s\n", (long long)json_integer_value(value), kind);
    }
    printf("encrypted: %lld yes, %lld partly, %lld no, %lld not known\n", number(encrypted, "yes"),
           number(encrypted, "partly"), number(encrypted, "no"), number(encrypted, "unknown"));
}

static void warn(struct cli *cli, const json_t *counts)
{
    if (number(counts, "failed") > 0)
        cli_warn(cli, "%lld files could not be looked at", number(counts, "failed"));
    if (number(counts, "damaged") > 0)
        cli_warn(cli, "%lld files are not what they should be", number(counts, "damaged"));
    if (number(counts, "incomplete") > 0)
        cli_warn(cli, "%lld files were not looked at as a whole", number(counts, "incomplete"));
}

/* --- tables ----------------------------------------------------------------------------------- */

/* "encrypted/all" of pages; the key of a single one, or how many. */
static void set_texts(json_t *row)
{
    const json_t *units = json_object_get(row, "units"), *needs = json_object_get(row, "needs");
    const json_t *need = json_array_get(needs, 0), *key = json_object_get(need, "key");
    char text[160] = "-";

    if (json_is_object(units))
        snprintf(text, sizeof text, "%lld/%lld", number(units, "encrypted"),
                 number(units, "total"));
    json_object_set_new(row, "units_text", cli_text(text));
    if (json_array_size(needs) > 1)
        snprintf(text, sizeof text, "%zu keys", json_array_size(needs));
    else if (json_is_string(key))
        snprintf(text, sizeof text, "%s", json_string_value(key));
    else if (need)
        snprintf(text, sizeof text, "%lld version %lld", number(need, "key"),
                 number(need, "version"));
    else
        snprintf(text, sizeof text, "-");
    json_object_set_new(row, "key_text", cli_text(text));
}

static void print_notes(const json_t *row)
{
    const char *path = json_string_value(json_object_get(row, "path"));
    const json_t *error = json_object_get(row, "error"), *progress;
    json_t *note;
    size_t i;

    if (error)
        printf("%s: %s\n", path, json_string_value(error));
    progress = json_object_get(row, "progress");
    if (json_is_string(progress))
        printf("%s: %s\n", path, json_string_value(progress));
    json_array_foreach(json_object_get(row, "notes"), i, note)
    {
        printf("%s: %s\n", path, json_string_value(note));
    }
}

/* What is no file of a server would bury the rest. */
static bool is_listed(const struct cli *cli, const json_t *row)
{
    const char *kind = json_string_value(json_object_get(row, "kind"));

    return kind && (cli_flag(cli, OPT_VERBOSE) ||
                    (strcmp(kind, "unknown") != 0 && strcmp(kind, "empty") != 0));
}

static enum kr_status print_files(const struct cli *cli, json_t *rows, struct kr_error *err)
{
    static const struct cli_column columns[] = {
        {"FILE", "path"},           {"KIND", "kind_name"},
        {"FORMAT", "format"},       {"PAGE", "page_size"},
        {"ENCRYPTED", "encrypted"}, {"UNITS", "units_text"},
        {"KEY", "key_text"},        {NULL, NULL},
    };
    CLI_JSON listed = json_array();
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        set_texts(row);
        if (is_listed(cli, row))
            json_array_append(listed, row);
    }
    if (json_array_size(listed) > 0)
        putchar('\n');
    KR_TRY(cli_print_table(listed, columns, err));
    if (json_array_size(listed) < json_array_size(rows))
        printf("(%zu files of no kind that is known are not listed: --verbose)\n",
               json_array_size(rows) - json_array_size(listed));
    putchar('\n');
    json_array_foreach(rows, i, row)
    {
        print_notes(row);
    }
    return KR_OK;
}

static enum kr_status print_text(const struct cli *cli, const json_t *result, struct kr_error *err)
{
    static const struct cli_column columns[] = {
        {"KEY", "key"}, {"VERSION", "version"}, {"FILES", "files"}, {"HERE", "here"}, {NULL, NULL},
    };
    const json_t *keys = json_object_get(result, "keys");

    print_counts(json_object_get(result, "counts"));
    KR_TRY(print_files(cli, json_object_get(result, "files"), err));
    cli_print_skipped(result);
    if (json_array_size(keys) > 0)
        putchar('\n');
    return cli_print_table(keys, columns, err);
}

enum kr_status cli_run_inspect(struct cli *cli, struct kr_error *err)
{
    CLI_FILES files = {0};
    CLI_JSON rows = json_array();

    if (!rows)
        return kr_fail_memory(err);
    KR_TRY(cli_files_begin(cli, &files, err));
    KR_TRY(inspect_all(&files, rows, err));
    CLI_JSON result = json_pack("{s:o, s:O, s:o}", "counts", count(rows, files.walk.bytes), "files",
                                rows, "keys", cli_file_keys(rows));
    if (!result)
        return kr_fail_memory(err);
    warn(cli, json_object_get(result, "counts"));
    KR_TRY(cli_files_end(&files, result, err));
    return cli_print_json(cli, result) ? KR_OK : print_text(cli, result, err);
}
