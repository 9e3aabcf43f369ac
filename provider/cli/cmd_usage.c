/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* usage: which keys the files need; as evidence for the commands that destroy keys. */
#include <string.h>

#include "file_rows.h"
#include "files/evidence.h"

static enum kr_status add_file(const char *path, size_t index, const struct kr_file_run *run,
                               void *context, struct kr_error *err)
{
    (void)index;
    return kr_usage_add(context, path, run, err);
}

static bool is_complete(const struct cli *cli, const struct kr_usage *usage)
{
    return usage->silent == 0 && (usage->unknown == 0 || cli_flag(cli, OPT_IGNORE_UNKNOWN));
}

static json_t *row_of(const struct kr_usage_key *key, bool complete)
{
    const char *unneeded = complete ? "no" : "unknown";
    const char *needed = key->in_use ? "in use" : unneeded;
    const char *kind = *key->name ? "mysql" : "mariadb";
    char text[128];

    if (*key->label)
        snprintf(text, sizeof text, "%s", key->label);
    else if (*key->name)
        snprintf(text, sizeof text, "%s", key->name);
    else
        snprintf(text, sizeof text, "%u", key->id);
    return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:s, s:s}", "kind",
                     key->master ? "master" : kind, "key", cli_text(text), "id",
                     *key->name ? cli_text(key->name) : json_integer(key->id), "version",
                     *key->name ? json_null() : json_integer(key->version), "files",
                     (json_int_t)key->files, "units", (json_int_t)key->units, "here",
                     key->here ? "yes" : "no", "needed", key->files > 0 ? "yes" : needed);
}

static json_t *result_of(const struct kr_usage *usage, bool complete)
{
    json_t *keys = json_array();
    json_int_t needed = 0, missing = 0;

    for (size_t i = 0; i < usage->key_count; i++) {
        const struct kr_usage_key *key = &usage->keys[i];
        needed += key->files > 0;
        missing += key->files > 0 && !key->here;
        json_array_append_new(keys, row_of(key, complete));
    }
    return json_pack("{s:{s:I, s:I, s:I, s:I, s:I, s:I}, s:b, s:o}", "counts", "files",
                     (json_int_t)usage->files, "silent_files", (json_int_t)usage->silent,
                     "unknown_files", (json_int_t)usage->unknown, "keys",
                     (json_int_t)usage->key_count, "needed", needed, "missing", missing, "complete",
                     complete, "keys", keys);
}

static long long count_of(const json_t *result, const char *field)
{
    return (long long)json_integer_value(json_object_get(json_object_get(result, "counts"), field));
}

static void warn(struct cli *cli, const struct kr_usage *usage, const json_t *result)
{
    if (usage->silent > 0)
        cli_warn(cli, "%llu files could not be asked for all their keys, the first is %s",
                 (unsigned long long)usage->silent, usage->first_silent);
    if (usage->unknown > 0 && !cli_flag(cli, OPT_IGNORE_UNKNOWN)) {
        cli_warn(cli, "%llu files are of no known kind, the first is %s",
                 (unsigned long long)usage->unknown, usage->first_unknown);
        cli_hint("where they need no key (--verbose of p11keyring inspect lists them) say so: "
                 "--ignore-unknown; an archive or a compressed backup may well need one");
    }
    if (count_of(result, "missing") > 0)
        cli_warn(cli, "%lld keys are needed and not in the keyring", count_of(result, "missing"));
}

static enum kr_status print_text(const json_t *result, struct kr_error *err)
{
    static const struct cli_column columns[] = {
        {"KIND", "kind"},   {"KEY", "key"},   {"VERSION", "version"}, {"FILES", "files"},
        {"UNITS", "units"}, {"HERE", "here"}, {"NEEDED", "needed"},   {NULL, NULL},
    };

    printf("%lld files, %lld of them not asked as a whole, %lld of no known kind\n",
           count_of(result, "files"), count_of(result, "silent_files"),
           count_of(result, "unknown_files"));
    printf("%lld keys, %lld of them needed, %lld needed and missing\n\n", count_of(result, "keys"),
           count_of(result, "needed"), count_of(result, "missing"));
    return cli_print_table(json_object_get(result, "keys"), columns, err);
}

/* What was interrupted is no evidence of anything. */
static enum kr_status write_evidence(const struct cli_files *files, const struct kr_usage *usage,
                                     struct kr_error *err)
{
    struct cli *cli = files->cli;
    const struct kr_evidence_scope scope = {.paths = cli->args,
                                            .count = (size_t)cli->arg_count,
                                            .ignore_unknown = cli_flag(cli, OPT_IGNORE_UNKNOWN)};
    struct kr_keyring *keyring = NULL;

    if (!cli_flag(cli, OPT_OUTPUT) || files->interrupted)
        return KR_OK;
    KR_TRY(kr_file_keys_keyring(files->keys, &keyring, err));
    return kr_evidence_write(usage, &scope, cli->config, keyring, cli->values[OPT_OUTPUT], err);
}

static enum kr_status survey(struct cli_files *files, struct kr_usage *usage, struct kr_error *err)
{
    struct cli *cli = files->cli;

    KR_TRY(cli_files_run(files, add_file, usage, err));
    KR_TRY(kr_usage_end(usage, &files->walk, files->keys, err));
    KR_TRY(write_evidence(files, usage, err));
    CLI_JSON result = result_of(usage, !files->interrupted && is_complete(cli, usage));
    if (!result)
        return kr_fail_memory(err);
    warn(cli, usage, result);
    KR_TRY(cli_files_end(files, result, err));
    return cli_print_json(cli, result) ? KR_OK : print_text(result, err);
}

enum kr_status cli_run_usage(struct cli *cli, struct kr_error *err)
{
    CLI_FILES files = {0};
    struct kr_usage usage;

    KR_TRY(cli_files_begin(cli, &files, err));
    kr_usage_init(&usage);
    enum kr_status status = survey(&files, &usage, err);
    kr_usage_free(&usage);
    return status;
}
