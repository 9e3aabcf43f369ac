/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* mariadb encrypt, decrypt, rotate: a running MariaDB server is brought there, and watched. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "mariadb_rows.h"
#include "servers/mariadb_change.h"

enum { THREADS_MAX = 255, IOPS_MAX = 1000000000 };

#define OUR_PLUGIN "pkcs11_key_management"

/* One command at a server. */
struct work {
    struct cli *cli;
    struct kr_server_conn *conn;
    struct kr_mariadb_state state;
    unsigned raise[KR_RAISED_COUNT]; /* 0: left as it is */
    struct cli_state_folder folder;
    int record; /* of what is raised; -1: nothing is */
    struct cli_progress progress;
    char unit[64];
    uint64_t start; /* milliseconds */
    struct kr_mariadb_waited waited;
};

static void work_cleanup(struct work *work)
{
    kr_mariadb_state_free(&work->state);
    kr_server_close(work->conn);
    kr_fd_cleanup(&work->record);
}
#define WORK __attribute__((cleanup(work_cleanup))) struct work

static enum kr_status begin(struct cli *cli, const char *what, struct work *work,
                            struct kr_error *err)
{
    *work = (struct work){.cli = cli, .record = -1, .folder = cli_state_folder()};
    KR_TRY(cli_number(cli, OPT_THREADS, 0, THREADS_MAX, &work->raise[KR_RAISED_THREADS], err));
    KR_TRY(cli_number(cli, OPT_IOPS, 0, IOPS_MAX, &work->raise[KR_RAISED_IOPS], err));
    KR_TRY(cli_connect_mariadb(cli, kr_mariadb_change_privileges, what, &work->conn, err));
    KR_TRY(kr_server_lock(work->conn, KR_MARIADB_LOCK, err));
    KR_TRY(cli_progress_begin(cli, &work->progress, err));
    work->start = kr_now_ms();
    return kr_mariadb_read_state(work->conn, &work->state, err);
}

/* --- waiting, with variables raised -------------------------------------------------------------
 */

static size_t count_behind(const struct work *work, const struct kr_mariadb_wait *wait,
                           uint64_t *ret_pages)
{
    size_t count = 0;

    *ret_pages = 0;
    for (size_t i = 0; i < work->state.space_count; i++) {
        if (!wait->behind(&work->state.spaces[i], wait->subject))
            continue;
        count++;
        *ret_pages += work->state.spaces[i].pages;
    }
    return count;
}

static bool show_progress(uint64_t done, uint64_t total, size_t spaces, void *context)
{
    struct work *work = context;

    if (work->progress.how != PROGRESS_JSON)
        snprintf(work->unit, sizeof work->unit, "pages, %zu tablespaces left", spaces);
    return cli_progress_step(done, total, &work->progress);
}

static enum kr_status check_threads(const struct work *work, size_t behind, struct kr_error *err)
{
    if (behind == 0 || work->state.settings.threads > 0 || work->raise[KR_RAISED_THREADS] > 0)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%s works with no encryption thread: nothing would happen",
            kr_server_info(work->conn)->name);
    kr_hint(err, "--threads=N gives it some for this work; innodb_encryption_threads = N in its "
                 "option file, for good");
    return err->status;
}

static enum kr_status wait_for(struct work *work, struct kr_mariadb_wait wait, struct kr_error *err)
{
    wait.progress = show_progress;
    wait.context = work;
    snprintf(work->unit, sizeof work->unit, "pages");
    work->progress.unit = work->unit;
    enum kr_status status = kr_mariadb_wait(work->conn, &work->state, &wait, &work->waited, err);
    cli_progress_end(&work->progress);
    return status;
}

static enum kr_status raise_speed(struct work *work, struct kr_error *err)
{
    return kr_raised_set(work->conn, work->folder.path, work->raise, &work->record, err);
}

/* In every case; over a connection of its own where the first one is lost. */
static void put_back(struct work *work)
{
    struct kr_error why = KR_ERROR_INIT;
    KR_SERVER again = NULL;

    if (work->record < 0 ||
        kr_raised_put_back(work->conn, work->folder.path, work->record, &why) == KR_OK)
        return;
    if (cli_connect(work->cli, &again, &why) == KR_OK &&
        kr_raised_put_back(again, work->folder.path, work->record, &why) == KR_OK)
        return;
    cli_warn(work->cli, "what was raised could not be put back: %s", why.text);
    cli_hint("p11keyring mariadb status says what is still raised; a server that was restarted has "
             "forgotten it");
}

/* --- encrypt, decrypt ------------------------------------------------------------------------- */

static enum kr_status plan_goal(const struct work *work, const struct kr_mariadb_wait *wait,
                                const json_t *left, struct kr_error *err)
{
    enum kr_state_goal goal = *(const enum kr_state_goal *)wait->subject;
    uint64_t pages;
    size_t behind = count_behind(work, wait, &pages);

    return cli_plan(work->cli, err,
                    "%s %zu of %zu tablespaces (%llu pages); %zu things on the list of p11keyring "
                    "mariadb status are not as they should be now",
                    goal == KR_STATE_ENCRYPTED ? "encrypt" : "decrypt", behind,
                    work->state.space_count, (unsigned long long)pages, json_array_size(left));
}

static void say_goal(const struct work *work, enum kr_state_goal goal, const json_t *left)
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

/* What decides the exit code, and what else is to be known. */
static enum kr_status judge_goal(struct work *work, const json_t *left, struct kr_error *err)
{
    char run_time[KR_MARIADB_RUN_TIME_TEXT];

    if (work->waited.interrupted) {
        cli_note("interrupted: the server goes on by itself; run the same command again to watch "
                 "it");
        work->cli->exit_code = CLI_EXIT_INTERRUPTED;
        return KR_OK;
    }
    KR_TRY(kr_mariadb_run_time_settings(work->conn, run_time, err));
    if (*run_time)
        cli_note("set at run time, and lost at the next restart unless the option file says the "
                 "same: %s",
                 run_time);
    if (work->waited.stuck) {
        cli_warn(work->cli, "the server has stopped to work on tablespaces that are left");
        cli_hint("see its error log: a key may be missing");
    }
    if (json_array_size(left) > 0) {
        cli_warn(work->cli, "%zu things stay behind", json_array_size(left));
        cli_hint("do what the list says, then run the same command again");
    }
    return KR_OK;
}

static enum kr_status finish_goal(struct work *work, enum kr_state_goal goal, struct kr_error *err)
{
    CLI_JSON left = NULL;
    const char *name = goal == KR_STATE_ENCRYPTED ? "encrypted" : "unencrypted";

    if (work->waited.interrupted) {
        left = json_array();
    } else {
        KR_TRY(kr_mariadb_read_settings(work->conn, &work->state.settings, err));
        KR_TRY(kr_mariadb_read_spaces(work->conn, true, &work->state, err));
        KR_TRY(cli_read_left(work->conn, &work->state, goal, &left, err));
    }
    bool finished = !work->waited.interrupted && json_array_size(left) == 0;
    CLI_JSON result =
        json_pack("{s:o, s:s, s:b, s:b, s:I, s:f, s:O?}", "server",
                  cli_text(kr_server_info(work->conn)->name), "goal", name, "finished", finished,
                  "interrupted", work->waited.interrupted, "pages", (json_int_t)work->waited.pages,
                  "seconds", (double)(kr_now_ms() - work->start) / 1000, "left", left);
    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(work->cli, result))
        say_goal(work, goal, left);
    return judge_goal(work, left, err);
}

static enum kr_status reach(struct work *work, const struct kr_mariadb_wait *wait,
                            enum kr_state_goal goal, struct kr_error *err)
{
    KR_TRY(raise_speed(work, err));
    KR_TRY(kr_mariadb_set_goal(work->conn, &work->state.settings, goal, err));
    return wait_for(work, *wait, err);
}

static enum kr_status run_goal(struct cli *cli, enum kr_state_goal goal, struct kr_error *err)
{
    const struct kr_mariadb_wait wait = {.behind = kr_mariadb_short_of_goal, .subject = &goal};
    WORK work;
    uint64_t pages;

    KR_TRY(begin(cli,
                 goal == KR_STATE_ENCRYPTED ? "to encrypt its tables" : "to decrypt its tables",
                 &work, err));
    KR_TRY(kr_mariadb_check_goal(work.conn, &work.state.settings, goal, err));
    KR_TRY(check_threads(&work, count_behind(&work, &wait, &pages), err));
    if (cli_flag(cli, OPT_DRY_RUN)) {
        CLI_JSON left = NULL;
        KR_TRY(cli_read_left(work.conn, &work.state, goal, &left, err));
        return plan_goal(&work, &wait, left, err);
    }
    enum kr_status status = reach(&work, &wait, goal, err);
    put_back(&work);
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
