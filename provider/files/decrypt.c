/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* By the table of kinds, to an output that is whole or nothing. */
#include "files/decrypt.h"

#include "files/inspect.h"
#include "files/kinds.h"
#include "files/output.h"
#include "files/sparse.h"

static enum kr_status refuse(const struct kr_file *file, const struct kr_file_kind_ops *ops,
                             const struct kr_file_report *report, bool to_pipe,
                             struct kr_error *err)
{
    if (!ops || !ops->decrypt)
        return kr_fail(err, KR_REFUSED, "%s (%s) cannot be decrypted", file->path,
                       kr_file_kind_name(file->kind));
    if (report->encrypted == KR_ENCRYPTED_NO)
        return kr_fail(err, KR_REFUSED, "%s is not encrypted", file->path);
    if (!to_pipe || ops->streams)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "only logs are decrypted to a pipe; %s is a %s", file->path,
            kr_file_kind_name(file->kind));
    kr_hint(err, "name a file to write: -o FILE");
    return err->status;
}

static enum kr_status refuse_missing(const struct kr_file *file, const struct kr_file_need *need,
                                     struct kr_error *err)
{
    if (need->here != KR_KEY_MISSING)
        return KR_OK;
    if (*need->name)
        kr_fail(err, KR_NOT_FOUND, "%s needs master key '%s', which the keyring does not have",
                file->path, need->name);
    else
        kr_fail(err, KR_NOT_FOUND, "%s needs version %u of key %u, which the keyring does not have",
                file->path, need->version, need->id);
    kr_hint(err, "name the configuration of the keyring that has it (-c), or restore the keystore "
                 "from a backup");
    return err->status;
}

/* What came out is whole, and of one moment. */
static enum kr_status run_kind(struct kr_file *file, const struct kr_file_kind_ops *ops,
                               const struct kr_file_report *report, int out, struct kr_error *err)
{
    KR_TRY(ops->decrypt(file, report, out, err));
    if (kr_file_stopped(file))
        return kr_fail(err, KR_REFUSED, "%s: interrupted", file->path);
    if (kr_file_changed(file)) {
        kr_fail(err, KR_IO, "%s: somebody wrote to it while it was read", file->path);
        kr_hint(err, "stop the server, or take a backup of it");
        return err->status;
    }
    return KR_OK;
}

static enum kr_status to_file(struct kr_file *file, const struct kr_file_kind_ops *ops,
                              const struct kr_file_report *report,
                              const struct kr_decrypt_target *target, struct kr_error *err)
{
    KR_OUTPUT output = {.fd = -1, .folder = -1};
    KR_TRY(kr_output_open(target->path, &output, err));
    if (target->dry_run)
        return KR_OK;
    KR_TRY(run_kind(file, ops, report, output.fd, err));
    if (kr_file_is_sparse(file))
        kr_file_dig_holes(output.fd);
    return kr_output_commit(&output, err);
}

enum kr_status kr_file_decrypt(const char *path, const struct kr_file_run *run,
                               const struct kr_decrypt_target *target, struct kr_file_report *ret,
                               struct kr_error *err)
{
    KR_FILE file = {.fd = -1};
    *ret = (struct kr_file_report){0};
    KR_TRY(kr_file_open(path, run, &file, err));
    KR_TRY(kr_file_inspect_first(&file, false, ret, err));
    const struct kr_file_kind_ops *ops = kr_file_ops(file.kind);
    KR_TRY(refuse(&file, ops, ret, !target->path, err));
    for (size_t i = 0; i < ret->need_count; i++)
        KR_TRY(refuse_missing(&file, &ret->needs[i], err));
    if (target->path)
        return to_file(&file, ops, ret, target, err);
    return target->dry_run ? KR_OK : run_kind(&file, ops, ret, target->fd, err);
}
