/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The life of master keys: master create --token, rotate, retire; keyring sync, move. */
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "file_rows.h"
#include "provider/life.h"
#include "provider/secrets.h"

static enum kr_status open_keyring(struct cli *cli, struct kr_keyring **ret, struct kr_error *err)
{
    KR_TRY(cli_load_full_config(cli, err));
    return kr_keyring_open(cli->config, ret, err);
}

/* What is left to do decides the exit code, whatever was done. */
static void judge(struct cli *cli, bool interrupted, uint64_t waiting)
{
    if (waiting > 0) {
        cli_warn(cli, "%llu envelopes wait for a token that is away or not configured any more",
                 (unsigned long long)waiting);
        cli_hint("a running server or p11keyring keyring sync wraps them once the token is back; "
                 "if it never will be, take its section out of the configuration and retire its "
                 "master key (p11keyring master list, master retire)");
        cli->exit_code = cli_exit_code(KR_TOKEN_UNAVAILABLE);
    }
    if (interrupted) {
        cli_note("interrupted: nothing is lost; run the same command again to go on");
        cli->exit_code = CLI_EXIT_INTERRUPTED;
    }
}

static enum kr_status print_result(struct cli *cli, const struct kr_life_result *done,
                                   struct kr_error *err)
{
    CLI_JSON made = json_array();
    for (size_t i = 0; i < done->made_count; i++)
        json_array_append_new(made, cli_master_row(&done->made[i]));
    CLI_JSON result = json_pack("{s:O?, s:b, s:I, s:I, s:I, s:b}", "master_keys", made, "resumed",
                                done->resumed, "envelopes", (json_int_t)done->envelopes,
                                "rewrapped", (json_int_t)done->rewrapped, "waiting",
                                (json_int_t)done->waiting, "interrupted", done->interrupted);
    if (!made || !result)
        return kr_fail_memory(err);
    if (cli_print_json(cli, result))
        return KR_OK;
    for (size_t i = 0; i < done->made_count; i++)
        printf("master key '%s' (%s) in token '%s'\n", done->made[i].label,
               kr_wrap_mechanism_name(done->made[i].mechanism), done->made[i].token);
    printf("envelopes wrapped anew: %llu\n", (unsigned long long)done->rewrapped);
    if (done->made_count > 0)
        cli_hint_bundle(cli, "copies of the keystore from before need the old master key, bundles "
                             "need none");
    return KR_OK;
}

typedef enum kr_status (*operation)(struct kr_keyring *keyring,
                                    const struct kr_life_options *options,
                                    struct kr_life_result *ret, struct kr_error *err);

static enum kr_status run_for_real(struct cli *cli, struct kr_keyring *keyring, operation run,
                                   const char *token, struct kr_life_result *ret,
                                   struct kr_error *err)
{
    struct cli_progress progress;
    const struct kr_life_options options = {
        .token = token, .progress = cli_progress_step, .context = &progress};

    KR_TRY(cli_progress_begin(cli, &progress, err));
    enum kr_status status = run(keyring, &options, ret, err);
    cli_progress_end(&progress);
    KR_TRY(status);
    KR_TRY(print_result(cli, ret, err));
    judge(cli, ret->interrupted, ret->waiting);
    return KR_OK;
}

/* `plan` says what a run that is no resumption begins with. */
static enum kr_status run_life(struct cli *cli, struct kr_keyring *keyring, operation run,
                               const char *token, const char *plan, struct kr_life_result *ret,
                               struct kr_error *err)
{
    const struct kr_life_options options = {.token = token, .dry_run = true};

    if (!cli_flag(cli, OPT_DRY_RUN))
        return run_for_real(cli, keyring, run, token, ret, err);
    KR_TRY(run(keyring, &options, ret, err));
    if (ret->resumed)
        plan = "";
    return cli_plan(cli, err, "%s%swrap %llu of %llu envelopes anew", plan, *plan ? ", and " : "",
                    (unsigned long long)ret->rewrapped, (unsigned long long)ret->envelopes);
}

enum kr_status cli_run_master_rotate(struct cli *cli, struct kr_error *err)
{
    CLI_KEYRING keyring = NULL;
    struct kr_life_result result;

    KR_TRY(open_keyring(cli, &keyring, err));
    KR_TRY(run_life(cli, keyring, kr_keyring_rotate_masters, cli->values[OPT_TOKEN],
                    "make new master keys", &result, err));
    if (result.resumed)
        cli_note("an earlier rotation was not complete: this went on with it and made no new "
                 "master key; for one, run it again");
    return KR_OK;
}

enum kr_status cli_add_token(struct cli *cli, struct kr_error *err)
{
    CLI_KEYRING keyring = NULL;
    struct kr_life_result result;

    KR_TRY(open_keyring(cli, &keyring, err));
    return run_life(cli, keyring, kr_keyring_add_token, cli->values[OPT_TOKEN],
                    "make a master key in that token", &result, err);
}

enum kr_status cli_run_keyring_sync(struct cli *cli, struct kr_error *err)
{
    CLI_KEYRING keyring = NULL;
    struct kr_life_result result;

    KR_TRY(open_keyring(cli, &keyring, err));
    return run_life(cli, keyring, kr_keyring_sync, NULL, "", &result, err);
}

/* --- keyring move ----------------------------------------------------------------------------- */

/* MySQL's token-resident master keys stay where they are: that must be known before. */
static enum kr_status check_resident(struct cli *cli, struct kr_keyring *keyring, const char *to,
                                     size_t *ret, struct kr_error *err)
{
    struct kr_secrets *secrets = NULL;

    KR_TRY(kr_secrets_open(keyring, &secrets, err));
    size_t staying = kr_secrets_elsewhere(secrets, to);
    kr_secrets_close(secrets);
    *ret = staying;
    if (staying == 0 || cli_flag(cli, OPT_YES) || cli_flag(cli, OPT_DRY_RUN))
        return KR_OK;
    kr_fail(err, KR_REFUSED,
            "%zu master keys of MySQL live in another token than '%s' and can never leave it",
            staying, to);
    kr_hint(err,
            "put [token:%s] before the old section, let mysqld read it (ALTER INSTANCE RELOAD "
            "KEYRING), move everything else with --yes, then make new master keys (ALTER INSTANCE "
            "ROTATE INNODB MASTER KEY, and BINLOG); only then may the old section go",
            to);
    return KR_REFUSED;
}

static void say_what_is_next(const struct cli *cli, const char *to, size_t staying)
{
    if (cli_flag(cli, OPT_JSON))
        return;
    if (staying > 0)
        cli_hint(
            "%zu master keys of MySQL are still in another token: keep its section until mysqld "
            "has made new ones (ALTER INSTANCE ROTATE INNODB MASTER KEY, and BINLOG)",
            staying);
    else
        cli_hint("servers go on by themselves, if [token:%s] was in their configuration when they "
                 "started; when all use it, take the old sections out and retire the old master "
                 "keys (p11keyring master list, master retire)",
                 to);
}

enum kr_status cli_run_keyring_move(struct cli *cli, struct kr_error *err)
{
    const char *to = cli->values[OPT_TO];
    CLI_KEYRING keyring = NULL;
    struct kr_life_result result;
    size_t staying;

    if (!to)
        return kr_fail(err, KR_USAGE, "keyring move needs --to NAME");
    KR_TRY(open_keyring(cli, &keyring, err));
    KR_TRY(check_resident(cli, keyring, to, &staying, err));
    KR_TRY(run_life(cli, keyring, kr_keyring_move, to, "make all other master keys old", &result,
                    err));
    if (!cli_flag(cli, OPT_DRY_RUN) && !result.interrupted && result.waiting == 0)
        say_what_is_next(cli, to, staying);
    return KR_OK;
}

/* --- master retire ---------------------------------------------------------------------------- */

/* A terminal is asked for the label; nothing else stands for it. */
static enum kr_status confirm(const struct cli *cli, const struct kr_master_row *master,
                              struct kr_error *err)
{
    char question[512], what[192];

    snprintf(question, sizeof question,
             "Master key '%s' in token '%s' will be destroyed for good, and what only it opens is "
             "lost: backups of the keystore, too.",
             master->label, master->token);
    snprintf(what, sizeof what, "destroying master key '%s'", master->label);
    return cli_confirm_name(cli, master->label, question, what, err);
}

static enum kr_status print_retired(struct cli *cli, const struct kr_master_row *master,
                                    const struct kr_retirement *done, struct kr_error *err)
{
    CLI_JSON row = cli_master_row(master);
    CLI_JSON result =
        json_pack("{s:O?, s:b, s:I, s:b}", "master_key", row, "destroyed", done->destroyed,
                  "rewrapped", (json_int_t)done->rewrapped, "interrupted", done->interrupted);

    if (!row || !result)
        return kr_fail_memory(err);
    judge(cli, done->interrupted, 0);
    if (cli_print_json(cli, result) || done->interrupted)
        return KR_OK;
    printf("master key '%s' of token '%s' retired\n", master->label, master->token);
    cli_hint_bundle(cli, "copies of the keystore from before cannot be opened any more, bundles "
                         "can");
    if (!done->destroyed)
        cli_hint("token '%s' is not configured: the key itself, if the token still exists, is "
                 "destroyed with the token's own tools",
                 master->token);
    return KR_OK;
}

/* What backups of the keystore need. */
static enum kr_status check_evidence(const struct cli *cli, struct kr_keyring *keyring,
                                     const struct kr_master_row *master,
                                     char ret_text[KR_EVIDENCE_TEXT], struct kr_error *err)
{
    struct kr_usage_key key = {.master = true};

    kr_hex_encode(master->id.bytes, master->id.len, key.name);
    return cli_check_evidence(cli, keyring, &key, ret_text, err);
}

static enum kr_status retire(struct cli *cli, struct kr_keyring *keyring,
                             const struct kr_master_row *master, struct kr_error *err)
{
    struct kr_life_options options = {.dry_run = true};
    struct cli_progress progress;
    struct kr_retirement done;
    char evidence[KR_EVIDENCE_TEXT];

    KR_TRY(kr_keyring_retire_master(keyring, &master->id, &options, &done, err));
    if (cli_flag(cli, OPT_DRY_RUN))
        return cli_plan(cli, err, "destroy master key '%s' in token '%s'", master->label,
                        master->token);
    KR_TRY(check_evidence(cli, keyring, master, evidence, err));
    KR_TRY(confirm(cli, master, err));
    KR_TRY(cli_progress_begin(cli, &progress, err));
    options = (struct kr_life_options){
        .progress = cli_progress_step, .context = &progress, .reason = evidence};
    enum kr_status status = kr_keyring_retire_master(keyring, &master->id, &options, &done, err);
    cli_progress_end(&progress);
    return status == KR_OK ? print_retired(cli, master, &done, err) : status;
}

enum kr_status cli_run_master_retire(struct cli *cli, struct kr_error *err)
{
    CLI_KEYRING keyring = NULL;
    struct kr_master_row master;

    KR_TRY(open_keyring(cli, &keyring, err));
    KR_TRY(kr_keyring_find_master(keyring, cli->args[0], cli->values[OPT_TOKEN], &master, err));
    return retire(cli, keyring, &master, err);
}
