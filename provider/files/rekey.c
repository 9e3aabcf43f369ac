/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* By the table of kinds. */
#include "files/rekey.h"

#include "base/io.h"
#include "files/inspect.h"
#include "files/journal.h"
#include "files/kinds.h"
#include "files/mysql_reseal.h"
#include "files/replace.h"
#include "files/sparse.h"
#include "files/verify.h"

/* What was written is read back before it takes the place of what was there. */
static enum kr_status check_written(const struct kr_replacement *replacement,
                                    const struct kr_file_run *run, struct kr_error *err)
{
    KR_FILE_VERIFIED verified;
    kr_file_verify(replacement->beside, run, &verified);
    if (verified.verdict == KR_VERDICT_OK)
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY,
                   "what was written for %s is not right: %s; it stays as it was",
                   replacement->path, verified.why);
}

static enum kr_status replace(struct kr_file *file, const struct kr_file_kind_ops *ops,
                              const struct kr_file_report *report, struct kr_rekey_run *run,
                              struct kr_error *err)
{
    KR_REPLACEMENT replacement = {.fd = -1};
    bool current;
    KR_TRY(kr_replacement_open(file->path, &file->st, &replacement, err));
    KR_TRY(ops->rekey(file, report, run, replacement.fd, &current, err));
    if (kr_file_is_sparse(file))
        kr_file_dig_holes(replacement.fd);
    KR_TRY(kr_replacement_sync(&replacement, err));
    if (kr_file_stopped(file))
        return kr_fail(err, KR_REFUSED, "%s: interrupted", file->path);
    KR_TRY(check_written(&replacement, file->run, err));
    if (kr_file_stopped(file))
        return kr_fail(err, KR_REFUSED, "%s: interrupted", file->path);
    if (kr_file_changed(file))
        return kr_fail(err, KR_IO, "%s: somebody wrote to it while it was read", file->path);
    return kr_replacement_commit(&replacement, err);
}

static enum kr_status refuse_damaged(const struct kr_file *file,
                                     const struct kr_file_report *report, struct kr_error *err)
{
    if (!report->damaged)
        return KR_OK;
    kr_fail(err, KR_INTEGRITY, "%s is damaged: %s", file->path,
            report->note_count > 0 ? report->notes[0] : "not what its kind should be");
    kr_hint(err, "p11keyring verify lists what is damaged; restore it from a backup");
    return err->status;
}

/* A tablespace of MySQL may be a copy that lies in no data directory; then its lock alone tells. */
static enum kr_status claim(const struct kr_file *file, const struct kr_rekeying *all,
                            int *ret_locked, struct kr_error *err)
{
    if (file->kind != KR_FILE_MYSQL_TABLESPACE)
        return kr_datadirs_claim(all->mariadb, file, err);
    KR_TRY(kr_mysql_datadirs_hold(all->mysql, file, err));
    return kr_journal_lock(file, ret_locked, err);
}

/* All of the work but what it writes. */
static enum kr_status rehearse(const struct kr_file *file, struct kr_error *err)
{
    KR_TRY(kr_replacement_check(file->path, file->size, err));
    return kr_file_require_verified(file, err);
}

static enum kr_status rekey(struct kr_file *file, struct kr_file_report *report,
                            const struct kr_rekeying *all, bool dry_run, enum kr_rekey_result *ret,
                            struct kr_error *err)
{
    const struct kr_file_kind_ops *ops = kr_file_ops(file->kind);
    bool current = false;
    KR_FD int locked = -1;
    *ret = KR_REKEY_LEFT;
    if (!ops || !ops->rekey)
        return KR_OK;
    if (file->kind == KR_FILE_MYSQL_TABLESPACE && !kr_mysql_seals_a_key(file))
        return KR_OK;
    KR_TRY(claim(file, all, &locked, err)); /* a running server's files may be half written */
    KR_TRY(kr_file_inspect(file, report, err));
    KR_TRY(refuse_damaged(file, report, err));
    if (report->need_count == 0)
        return KR_OK;
    KR_TRY(ops->rekey(file, report, all->run, -1, &current, err));
    *ret = current ? KR_REKEY_CURRENT : KR_REKEY_DONE;
    if (current || (dry_run && !all->thorough))
        return KR_OK;
    return dry_run ? rehearse(file, err) : replace(file, ops, report, all->run, err);
}

enum kr_status kr_file_rekey(const char *path, const struct kr_file_run *run,
                             const struct kr_rekeying *all, bool dry_run, enum kr_rekey_result *ret,
                             struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    KR_FILE_REPORT report = {0};
    *ret = KR_REKEY_LEFT;
    if (kr_replacement_is_name(path) || kr_journal_is_name(path))
        return KR_OK; /* left by a run that was killed */
    KR_TRY(kr_file_open(path, run, &file, err));
    return rekey(&file, &report, all, dry_run, ret, err);
}

/* The kind cannot be asked: the header may be half of one and half of another. */
enum kr_status kr_file_rekey_recover(const char *path, const struct kr_file_run *run,
                                     struct kr_mysql_datadirs *dirs, struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    KR_FD int locked = -1;
    if (!kr_journal_is_pending(path))
        return KR_OK;
    KR_TRY(kr_file_open(path, run, &file, err));
    KR_TRY(kr_mysql_datadirs_hold(dirs, &file, err));
    KR_TRY(kr_journal_lock(&file, &locked, err));
    return kr_journal_recover(path, locked, err);
}
