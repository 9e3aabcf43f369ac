/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* keyring accept. */
#include "base/clock.h"
#include "cli.h"

/* --- accept ----------------------------------------------------------------------------------- */

static const char *const states[] = {
    [KR_ANCHOR_NOT_ASKED] = "away",
    [KR_ANCHOR_NONE] = "nothing remembered",
    [KR_ANCHOR_SET] = "remembered",
    [KR_ANCHOR_REFUSED] = "keeps no data objects",
};

static json_t *remembered_row(const struct kr_remembered *token)
{
    bool set = token->state == KR_ANCHOR_SET;

    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "token", token->token, "state",
                     states[token->state], "same_keystore",
                     set ? json_boolean(token->same_keystore) : json_null(), "generation",
                     set ? json_integer((json_int_t)token->generation) : json_null(), "written",
                     set ? cli_time(token->written) : json_null());
}

static json_t *acceptance_json(const struct cli *cli, const struct kr_acceptance *found)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < found->token_count; i++)
        json_array_append_new(rows, remembered_row(&found->tokens[i]));
    return json_pack("{s:s, s:s, s:I, s:o, s:b, s:o?}", "keyring", cli->config->keyring.name,
                     "keystore", cli->config->keyring.keystore, "generation",
                     (json_int_t)found->generation, "newest_key",
                     found->newest_key ? cli_time(found->newest_key) : json_null(), "accepted",
                     found->needed, "tokens", rows);
}

/* On stderr: it is what the question is about, not the result. */
static void describe(const struct cli *cli, const struct kr_acceptance *found)
{
    char time[KR_TIME_TEXT];

    kr_time_text(found->newest_key, time);
    cli_note("keystore %s: generation %llu, newest key %s", cli->config->keyring.keystore,
             (unsigned long long)found->generation, found->newest_key ? time : "none");
    for (size_t i = 0; i < found->token_count; i++) {
        const struct kr_remembered *token = &found->tokens[i];
        kr_time_text(token->written, time);
        if (token->state == KR_ANCHOR_SET)
            cli_note("token '%s' remembers %s: generation %llu at %s", token->token,
                     token->same_keystore ? "this keystore" : "ANOTHER keystore",
                     (unsigned long long)token->generation, time);
        else
            cli_note("token '%s': %s", token->token, states[token->state]);
    }
}

static enum kr_status confirm(const struct kr_acceptance *found, void *context,
                              struct kr_error *err)
{
    const struct cli *cli = context;

    describe(cli, found);
    return cli_confirm_name(cli, cli->config->keyring.name,
                            "Keys that were made after this keystore was saved are not in it: what "
                            "they encrypt cannot be read.",
                            "accepting the keystore of this keyring", err);
}

/* Ends a --dry-run before anything is changed; told from a refusal by its status. */
static enum kr_status stop(const struct kr_acceptance *found, void *context, struct kr_error *err)
{
    describe(context, found);
    return kr_fail(err, KR_USAGE, "a dry run changes nothing");
}

static enum kr_status rehearse(struct cli *cli, struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    struct kr_acceptance found;
    enum kr_status status = kr_keyring_accept(cli->config, stop, cli, &found, &why);

    if (status == KR_OK)
        return cli_plan(cli, err, "do nothing: the tokens remember nothing newer");
    if (status == KR_USAGE)
        return cli_plan(cli, err, "make the tokens forget what is newer than the keystore %s",
                        cli->config->keyring.keystore);
    *err = why;
    return status;
}

static void print_accepted(const struct kr_acceptance *found)
{
    if (found->needed)
        printf("accepted: the keystore has generation %llu now; what is older is refused\n",
               (unsigned long long)found->generation);
    else
        puts("nothing to accept: the tokens remember nothing newer");
}

static void warn_away(struct cli *cli, const struct kr_acceptance *found)
{
    for (size_t i = 0; i < found->token_count; i++)
        if (found->tokens[i].state == KR_ANCHOR_NOT_ASKED) {
            cli_warn(cli, "token '%s' is away: what it remembers is not known",
                     found->tokens[i].token);
            cli_hint("when it is back, and the keystore is refused because of it: p11keyring "
                     "keyring accept");
        }
}

enum kr_status cli_run_keyring_accept(struct cli *cli, struct kr_error *err)
{
    struct kr_acceptance found;

    KR_TRY(cli_load_full_config(cli, err));
    if (cli_flag(cli, OPT_DRY_RUN))
        return rehearse(cli, err);
    KR_TRY(kr_keyring_accept(cli->config, confirm, cli, &found, err));
    warn_away(cli, &found);
    CLI_JSON result = acceptance_json(cli, &found);
    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(cli, result))
        print_accepted(&found);
    return KR_OK;
}
