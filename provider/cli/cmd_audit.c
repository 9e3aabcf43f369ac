/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* audit show, verify. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "wrap/audit_chain.h"

/* --- which files ------------------------------------------------------------------------------ */

struct files {
    const char *const *at;
    int count;
    const char *configured; /* the place of `at` without arguments */
};

static enum kr_status choose_files(const struct cli *cli, struct files *ret, struct kr_error *err)
{
    ret->configured = cli->config->keyring.audit_log;
    ret->at = (const char *const *)cli->args;
    ret->count = cli->arg_count;
    if (ret->count > 0)
        return KR_OK;
    ret->at = &ret->configured;
    ret->count = 1;
    if (ret->configured && strcmp(ret->configured, "syslog") != 0)
        return KR_OK;
    kr_fail(err, KR_CONFIG,
            ret->configured ? "the audit log goes to syslog, which cannot be read"
                            : "no audit log is configured");
    kr_hint(err, "name the log's files, oldest first, or set audit-log in [keyring] to a path");
    return KR_CONFIG;
}

static enum kr_status read_files(const struct files *files, struct kr_audit_chain *chain,
                                 kr_audit_visitor visit, void *context, struct kr_error *err)
{
    for (int i = 0; i < files->count; i++)
        KR_TRY(kr_audit_chain_read(chain, files->at[i], visit, context, err));
    return KR_OK;
}

/* --- show ------------------------------------------------------------------------------------- */

struct show {
    const char *since, *event; /* NULL: all */
    json_t *rows;
    uint64_t unreadable;
};

static const char *text_of(const json_t *fields, const char *name)
{
    return json_string_value(json_object_get(fields, name));
}

/* What it was about, in one column of the table. */
static json_t *subject(const json_t *fields)
{
    static const char *const names[] = {"token", "master", "namespace", "id", "owner"};
    json_int_t version = json_integer_value(json_object_get(fields, "version"));
    const json_t *error = json_object_get(fields, "error");
    char text[512] = "";

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *part = text_of(fields, names[i]);
        size_t used = strlen(text);
        if (part)
            snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "", part);
    }
    if (version > 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), " version %lld",
                 (long long)version);
    if (error)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? ": " : "",
                 text_of(error, "text"));
    return cli_text(text);
}

static json_t *show_row(const json_t *fields)
{
    const json_t *actor = json_object_get(fields, "actor");
    json_t *row = json_object();

    json_object_update(row, (json_t *)fields);
    json_object_set_new(row, "subject", subject(fields));
    json_object_set(row, "program", json_object_get(actor, "program"));
    json_object_set(row, "user", json_object_get(actor, "uid"));
    return row;
}

static bool is_wanted(const struct show *show, const json_t *fields)
{
    if (show->since && strcmp(text_of(fields, "time"), show->since) < 0)
        return false;
    return !show->event || strcmp(text_of(fields, "event"), show->event) == 0;
}

static enum kr_status show_line(const struct kr_audit_line *line, void *context,
                                struct kr_error *err)
{
    struct show *show = context;

    show->unreadable += line->finding == KR_AUDIT_DAMAGED;
    if (!line->fields || !is_wanted(show, line->fields))
        return KR_OK;
    return json_array_append_new(show->rows, show_row(line->fields)) == 0 ? KR_OK
                                                                          : kr_fail_memory(err);
}

/* A time is compared as text: each of its beginnings is a time, too. */
static enum kr_status check_since(const char *since, struct kr_error *err)
{
    static const char shape[] = "0000-00-00T00:00:00";
    size_t len = since ? strlen(since) : 10;

    for (size_t i = 0; since && i < len && i < sizeof shape - 1; i++)
        if (shape[i] == '0' ? since[i] < '0' || since[i] > '9' : since[i] != shape[i])
            len = 0;
    if (len >= 10)
        return KR_OK;
    kr_fail(err, KR_USAGE, "--since takes a date or a time in UTC");
    kr_hint(err, "for example --since 2026-01-31, or --since 2026-01-31T12:00:00Z");
    return KR_USAGE;
}

enum kr_status cli_run_audit_show(struct cli *cli, struct kr_error *err)
{
    static const struct cli_column columns[] = {
        {"SEQ", "seq"},   {"TIME", "time"},       {"EVENT", "event"},     {"OUTCOME", "outcome"},
        {"USER", "user"}, {"PROGRAM", "program"}, {"SUBJECT", "subject"}, {NULL, NULL},
    };
    struct show show = {.since = cli->values[OPT_SINCE], .event = cli->values[OPT_EVENT]};
    struct kr_audit_chain chain = {0};
    struct files files;

    KR_TRY(check_since(show.since, err));
    KR_TRY(cli_load_config(cli, err));
    KR_TRY(choose_files(cli, &files, err));
    CLI_JSON rows = json_array();
    show.rows = rows;
    KR_TRY(read_files(&files, &chain, show_line, &show, err));
    if (show.unreadable > 0) {
        cli_warn(cli, "%llu lines are damaged", (unsigned long long)show.unreadable);
        cli_hint("p11keyring audit verify says which");
    }
    CLI_JSON result = json_pack("{s:O?}", "records", rows);
    if (!rows || !result)
        return kr_fail_memory(err);
    return cli_print_json(cli, result) ? KR_OK : cli_print_table(rows, columns, err);
}

/* --- verify ----------------------------------------------------------------------------------- */

struct verdict {
    struct kr_audit_chain chain;
    bool anchor_checked;
    json_t *damage;    /* what is wrong */
    json_t *unchecked; /* what could not be told */
};

static void add(json_t *list, const char *fmt, ...) KR_PRINTF(2, 3);
static void add(json_t *list, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_array_append_new(list, cli_text(text));
}

static enum kr_status verify_line(const struct kr_audit_line *line, void *context,
                                  struct kr_error *err)
{
    struct verdict *verdict = context;

    (void)err;
    if (line->finding == KR_AUDIT_DAMAGED)
        add(verdict->damage, "%s:%lu: %s", line->path, line->number, line->problem);
    return KR_OK;
}

/* The keystore's word for the newest record, if its token confirms the keystore. */
static void ask_keystore(struct cli *cli, struct verdict *verdict)
{
    struct kr_error why = KR_ERROR_INIT;
    CLI_KEYRING keyring = NULL;
    enum kr_status status = kr_config_require(cli->config, &why);

    if (status == KR_OK)
        status = kr_keyring_open(cli->config, &keyring, &why);
    if (status == KR_OK)
        status = kr_keyring_audit_anchor(keyring, &verdict->chain.anchor, &why);
    if (status == KR_INTEGRITY)
        add(verdict->damage, "%s", why.text);
    else if (status != KR_OK)
        add(verdict->unchecked, "the end of the log, since the keystore could not be asked: %s",
            why.text);
    verdict->anchor_checked = status == KR_OK;
}

/* What the last writer left beside the log; it protects nothing, but shows accidents. */
static void ask_head_file(const struct cli *cli, const struct files *files, struct verdict *verdict)
{
    struct kr_error ignored = KR_ERROR_INIT;
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    struct kr_audit_head head;

    if (cli->arg_count > 0 || kr_audit_open(cli->config, &audit, &ignored) != KR_OK ||
        kr_audit_check(audit, &head, &ignored) != KR_OK)
        return;
    if (head.seq > verdict->chain.last.seq)
        add(verdict->damage, "%s: records %llu to %llu are missing at its end", files->configured,
            (unsigned long long)verdict->chain.last.seq + 1, (unsigned long long)head.seq);
}

static void judge_anchor(struct verdict *verdict)
{
    const struct kr_audit_chain *chain = &verdict->chain;
    unsigned long long anchor = chain->anchor.seq;

    if (!verdict->anchor_checked || anchor == 0)
        return;
    if (chain->first.seq > anchor) {
        add(verdict->unchecked, "record %llu, which the keystore knows: it is in an older file",
            anchor);
        verdict->anchor_checked = false;
    } else if (chain->anchor_differs) {
        add(verdict->damage, "record %llu is not the one that the keystore knows", anchor);
    } else if (!chain->anchor_found) {
        add(verdict->damage, "record %llu, which the keystore knows, is missing", anchor);
    }
}

static void judge_start(struct verdict *verdict)
{
    unsigned long long first = verdict->chain.first.seq;

    if (first > 1)
        add(verdict->unchecked, "records 1 to %llu: they are in older files, which were not named",
            first - 1);
}

static json_t *verdict_json(const struct verdict *verdict)
{
    const struct kr_audit_chain *chain = &verdict->chain;
    bool known = verdict->anchor_checked && chain->anchor.seq > 0;
    uint64_t after =
        known && chain->last.seq > chain->anchor.seq ? chain->last.seq - chain->anchor.seq : 0;

    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:O, s:O}", "records_count",
                     (json_int_t)chain->records, "first", (json_int_t)chain->first.seq, "last",
                     (json_int_t)chain->last.seq, "torn_count", (json_int_t)chain->torn, "anchor",
                     known ? json_integer((json_int_t)chain->anchor.seq) : json_null(),
                     "after_anchor_count", known ? json_integer((json_int_t)after) : json_null(),
                     "damage", verdict->damage, "not_checked", verdict->unchecked);
}

static void print_list(const char *title, const json_t *list)
{
    const json_t *text;
    size_t i;

    json_array_foreach(list, i, text)
    {
        printf("%s: %s\n", title, json_string_value(text));
    }
}

static void print_verdict(const struct verdict *verdict, const json_t *result)
{
    static const struct cli_column fields[] = {
        {"records", "records_count"},
        {"first", "first"},
        {"last", "last"},
        {"torn lines", "torn_count"},
        {"keystore knows", "anchor"},
        {"records after that", "after_anchor_count"},
        {NULL, NULL},
    };
    bool whole = json_array_size(verdict->damage) == 0;

    cli_print_fields(result, fields);
    print_list("not checked", verdict->unchecked);
    print_list("damaged", verdict->damage);
    if (whole && json_array_size(verdict->unchecked) == 0)
        puts("ok: the chain is whole and holds what the keystore knows");
    else if (whole)
        puts("the chain is whole as far as it was checked");
}

static enum kr_status conclude(struct cli *cli, const struct verdict *verdict, struct kr_error *err)
{
    CLI_JSON result = verdict_json(verdict);

    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(cli, result))
        print_verdict(verdict, result);
    if (json_array_size(verdict->damage) > 0) {
        cli->exit_code = cli_exit_code(KR_INTEGRITY);
        cli_hint("keep the files as they are, and compare them with a backup of the log");
    } else if (json_array_size(verdict->unchecked) > 0) {
        cli->exit_code = CLI_EXIT_WARNINGS;
    }
    return KR_OK;
}

enum kr_status cli_run_audit_verify(struct cli *cli, struct kr_error *err)
{
    CLI_JSON damage = json_array();
    CLI_JSON unchecked = json_array();
    struct verdict verdict = {.damage = damage, .unchecked = unchecked};
    struct files files;

    if (!damage || !unchecked)
        return kr_fail_memory(err);
    KR_TRY(cli_load_config(cli, err));
    KR_TRY(choose_files(cli, &files, err));
    ask_keystore(cli, &verdict); /* before the files are read: they may only grow after that */
    KR_TRY(read_files(&files, &verdict.chain, verify_line, &verdict, err));
    judge_start(&verdict);
    judge_anchor(&verdict);
    ask_head_file(cli, &files, &verdict);
    return conclude(cli, &verdict, err);
}
