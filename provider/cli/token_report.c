/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Each token's part in the keyring, for status. */
#include "cli.h"

const struct cli_column cli_token_columns[] = {
    {"TOKEN", "name"},        {"STATE", "state"},     {"MASTER KEY", "master_key"},
    {"OPENS", "opens"},       {"WAITING", "waiting"}, {"REMEMBERS", "generation"},
    {"REMEMBERED", "anchor"}, {NULL, NULL},
};

static const char *anchor_name(const struct kr_token_report *report)
{
    switch (report->anchor) {
    case KR_ANCHOR_NONE:
        return "nothing";
    case KR_ANCHOR_SET:
        return report->behind ? "an older generation" : "the newest generation";
    case KR_ANCHOR_REFUSED:
        return "keeps no data objects";
    default:
        return "not known";
    }
}

static json_t *report_json(const struct cli *cli, size_t i, const struct kr_token_report *report)
{
    return json_pack("{s:s, s:o, s:s, s:o, s:I, s:I, s:s, s:o}", "name", report->name, "uri",
                     cli_text(cli->config->tokens[i].uri), "state",
                     kr_token_state_name(report->state), "master_key",
                     cli_text(*report->master ? report->master : NULL), "opens",
                     (json_int_t)report->opens, "waiting", (json_int_t)report->waiting, "anchor",
                     anchor_name(report), "generation",
                     report->anchor == KR_ANCHOR_SET ? json_integer((json_int_t)report->remembers)
                                                     : json_null());
}

static json_t *unknown_json(const struct kr_token_config *token)
{
    return json_pack("{s:s, s:o, s:s, s:n, s:n, s:n, s:s, s:n}", "name", token->name, "uri",
                     cli_text(token->uri), "state", "not known", "master_key", "opens", "waiting",
                     "anchor", "not known", "generation");
}

static void warn_of(struct cli *cli, const struct kr_token_report *report)
{
    if (report->state != KR_TOKEN_UP) {
        cli_warn(cli, "token '%s': %s", report->name, kr_token_state_name(report->state));
        cli_hint("p11keyring doctor --token %s", report->name);
    } else if (!*report->master) {
        cli_warn(cli, "token '%s' has no master key of this keyring", report->name);
        cli_hint("p11keyring master create --token %s", report->name);
    } else if (report->waiting > 0) {
        cli_warn(cli, "token '%s' cannot open %llu envelopes yet", report->name,
                 (unsigned long long)report->waiting);
        cli_hint("p11keyring keyring sync");
    }
}

enum kr_status cli_report_tokens(struct cli *cli, struct kr_keyring *keyring, json_t **ret,
                                 struct kr_error *err)
{
    struct kr_token_report reports[KR_TOKENS_MAX];
    size_t count = cli->config->token_count;

    if (keyring)
        KR_TRY(kr_keyring_report_tokens(keyring, reports, &count, err));
    json_t *rows = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(rows, keyring ? report_json(cli, i, &reports[i])
                                            : unknown_json(&cli->config->tokens[i]));
        if (keyring && count > 1)
            warn_of(cli, &reports[i]);
    }
    if (!rows)
        return kr_fail_memory(err);
    *ret = rows;
    return KR_OK;
}
