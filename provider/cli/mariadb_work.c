/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The work of one command at a running MariaDB server. */
#include "mariadb_work.h"

#include "base/clock.h"
#include "base/io.h"

enum { THREADS_MAX = 255, IOPS_MAX = 1000000000 };

void mariadb_work_cleanup(struct mariadb_work *work)
{
    kr_mariadb_state_free(&work->state);
    kr_server_close(work->conn);
    kr_fd_cleanup(&work->record);
}

enum kr_status mariadb_work_begin(struct cli *cli, const char *what, struct mariadb_work *work,
                                  struct kr_error *err)
{
    *work = (struct mariadb_work){.cli = cli, .record = -1, .folder = cli_state_folder()};
    KR_TRY(cli_number(cli, OPT_THREADS, 0, THREADS_MAX, &work->raise[KR_RAISED_THREADS], err));
    KR_TRY(cli_number(cli, OPT_IOPS, 0, IOPS_MAX, &work->raise[KR_RAISED_IOPS], err));
    KR_TRY(cli_connect_mariadb(cli, kr_mariadb_change_privileges, what, &work->conn, err));
    KR_TRY(kr_server_lock(work->conn, KR_MARIADB_LOCK, err));
    KR_TRY(cli_progress_begin(cli, &work->progress, err));
    work->start = kr_now_ms();
    return kr_mariadb_read_state(work->conn, &work->state, err);
}

/* --- waiting, with variables raised ----------------------------------------------------------- */

size_t mariadb_work_behind(const struct mariadb_work *work, const struct kr_mariadb_wait *wait,
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
    struct mariadb_work *work = context;

    if (work->progress.how != PROGRESS_JSON)
        snprintf(work->unit, sizeof work->unit, "pages, %zu tablespaces left", spaces);
    return cli_progress_step(done, total, &work->progress);
}

enum kr_status mariadb_work_check_threads(const struct mariadb_work *work, size_t behind,
                                          struct kr_error *err)
{
    if (behind == 0 || work->state.settings.threads > 0 || work->raise[KR_RAISED_THREADS] > 0)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%s works with no encryption thread: nothing would happen",
            kr_server_info(work->conn)->name);
    kr_hint(err, "--threads=N gives it some for this work; innodb_encryption_threads = N in its "
                 "option file, for good");
    return err->status;
}

enum kr_status mariadb_work_wait(struct mariadb_work *work, struct kr_mariadb_wait wait,
                                 struct kr_error *err)
{
    wait.progress = show_progress;
    wait.context = work;
    snprintf(work->unit, sizeof work->unit, "pages");
    work->progress.unit = work->unit;
    enum kr_status status = kr_mariadb_wait(work->conn, &work->state, &wait, &work->waited, err);
    cli_progress_end(&work->progress);
    return status;
}

enum kr_status mariadb_work_raise(struct mariadb_work *work, struct kr_error *err)
{
    struct kr_raised before;

    KR_TRY(kr_raised_read(work->conn, work->folder.path, &before, err));
    if (before.found)
        cli_note("a p11keyring that was killed left variables of this server raised: put back");
    return kr_raised_set(work->conn, work->folder.path, work->raise, &work->record, err);
}

void mariadb_work_put_back(struct mariadb_work *work)
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

double mariadb_work_seconds(const struct mariadb_work *work)
{
    return (double)(kr_now_ms() - work->start) / 1000;
}
