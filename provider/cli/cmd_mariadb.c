/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* mariadb encrypt, decrypt: a running MariaDB server is brought there, and watched. */
#include <string.h>

#include "mariadb_work.h"

/* They are what a run works on. */
static void drop_tablespaces(json_t *left)
{
    for (size_t i = json_array_size(left); i-- > 0;) {
        const json_t *row = json_array_get(left, i);
        if (strcmp(json_string_value(json_object_get(row, "kind")), "tablespace") == 0)
            json_array_remove(left, i);
    }
}

/* What a run would do, and what it would not. */
static enum kr_status plan_goal(struct mariadb_work *work, const struct kr_mariadb_wait *wait,
                                enum kr_state_goal goal, struct kr_error *err)
{
    CLI_JSON left = NULL;
    char plan[256];
    uint64_t pages;
    size_t behind = mariadb_work_behind(work, wait, &pages);

    KR_TRY(cli_read_left(work->conn, &work->state, goal, &left, err));
    snprintf(plan, sizeof plan, "%s %zu of %zu tablespaces (%llu pages)",
             goal == KR_STATE_ENCRYPTED ? "encrypt" : "decrypt", behind, work->state.space_count,
             (unsigned long long)pages);
    drop_tablespaces(left);
    CLI_JSON result = json_pack("{s:b, s:s, s:O}", "dry_run", 1, "would", plan, "left", left);
    if (!result)
        return kr_fail_memory(err);
    if (cli_print_json(work->cli, result))
        return KR_OK;
    printf("would %s\n", plan);
    if (json_array_size(left) > 0)
        printf("\nNot %s now, and what to do about it beside that:\n\n",
               goal == KR_STATE_ENCRYPTED ? "encrypted" : "decrypted");
    cli_print_left(left);
    return KR_OK;
}

static void say_goal(const struct mariadb_work *work, enum kr_state_goal goal, const json_t *left)
{
    const char *done = goal == KR_STATE_ENCRYPTED ? "encrypted" : "decrypted";

    if (work->waited.interrupted)
        return;
    printf("%s: %llu pages %s\n", kr_server_info(work->conn)->name,
           (unsigned long long)work->waited.pages, done);
    if (json_array_size(left) > 0)
        printf("\nNot %s, and what to do about it:\n\n", done);
    else if (goal == KR_STATE_ENCRYPTED)
        printf("everything is encrypted\n");
    else
        printf("nothing is encrypted: the plugin and its options can be taken out of the server's "
               "option file\n");
    cli_print_left(left);
}

static void judge_goal(struct mariadb_work *work, const json_t *left)
{
    if (work->waited.interrupted) {
        cli_note("interrupted: the server goes on by itself; run the same command again to watch "
                 "it");
        work->cli->exit_code = CLI_EXIT_INTERRUPTED;
        return;
    }
    if (work->waited.stuck) {
        cli_warn(work->cli, "the server has stopped to work on tablespaces that are left");
        cli_hint("see its error log: a key may be missing");
    }
    if (json_array_size(left) > 0) {
        cli_warn(work->cli, "%zu things stay behind", json_array_size(left));
        cli_hint("do what the list says, then run the same command again");
    }
}

static enum kr_status finish_goal(struct mariadb_work *work, enum kr_state_goal goal,
                                  struct kr_error *err)
{
    CLI_JSON left = NULL;
    const char *name = goal == KR_STATE_ENCRYPTED ? "encrypted" : "unencrypted";

    if (work->waited.interrupted) {
        left = json_array();
    } else {
        KR_TRY(kr_mariadb_read_state(work->conn, &work->state, err));
        KR_TRY(cli_read_left(work->conn, &work->state, goal, &left, err));
    }
    bool finished = !work->waited.interrupted && json_array_size(left) == 0;
    CLI_JSON result =
        json_pack("{s:o, s:s, s:b, s:b, s:I, s:f, s:O?}", "server",
                  cli_text(kr_server_info(work->conn)->name), "goal", name, "finished", finished,
                  "interrupted", work->waited.interrupted, "pages", (json_int_t)work->waited.pages,
                  "seconds", mariadb_work_seconds(work), "left", left);
    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(work->cli, result))
        say_goal(work, goal, left);
    judge_goal(work, left);
    return KR_OK;
}

static enum kr_status reach(struct mariadb_work *work, const struct kr_mariadb_wait *wait,
                            enum kr_state_goal goal, struct kr_error *err)
{
    KR_TRY(mariadb_work_raise(work, err));
    KR_TRY(kr_mariadb_set_goal(work->conn, &work->state.settings, goal, err));
    return mariadb_work_wait(work, *wait, err);
}

static enum kr_status run_goal(struct cli *cli, enum kr_state_goal goal, struct kr_error *err)
{
    struct kr_mariadb_wait wait = {.behind = kr_mariadb_short_of_goal, .subject = &goal};
    MARIADB_WORK work;

    KR_TRY(mariadb_work_begin(
        cli, goal == KR_STATE_ENCRYPTED ? "to encrypt its tables" : "to decrypt its tables", &work,
        err));
    KR_TRY(kr_mariadb_check_goal(work.conn, &work.state.settings, goal, err));
    KR_TRY(mariadb_work_check_threads(&work, mariadb_work_behind(&work, &wait, &wait.pages), err));
    if (cli_flag(cli, OPT_DRY_RUN))
        return plan_goal(&work, &wait, goal, err);
    enum kr_status status = reach(&work, &wait, goal, err);
    mariadb_work_put_back(&work);
    return status == KR_OK ? finish_goal(&work, goal, err) : status;
}

enum kr_status cli_run_mariadb_encrypt(struct cli *cli, struct kr_error *err)
{
    return run_goal(cli, KR_STATE_ENCRYPTED, err);
}

enum kr_status cli_run_mariadb_decrypt(struct cli *cli, struct kr_error *err)
{
    return run_goal(cli, KR_STATE_UNENCRYPTED, err);
}
