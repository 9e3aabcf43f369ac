/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* decrypt: files in the clear, to new files or, of logs, to a pipe. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file_rows.h"
#include "files/decrypt.h"

struct decryption {
    const struct cli *cli;
    const char *out; /* NULL: standard output */
    bool into_folder;
    struct kr_audit *audit;
    struct decrypted {
        json_t *row;
        char *out;
        struct kr_error why; /* status KR_OK: it went well */
    } * files;
};

/* --- where to --------------------------------------------------------------------------------- */

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum kr_status check_stdout(const struct cli *cli, struct kr_error *err)
{
    if (cli->arg_count > 1)
        return kr_fail(err, KR_USAGE, "several files need a folder to go to: -o FOLDER");
    if (cli_flag(cli, OPT_JSON))
        return kr_fail(err, KR_USAGE, "--json needs an output of its own: -o FILE");
    if (!isatty(STDOUT_FILENO) || cli_flag(cli, OPT_DRY_RUN))
        return KR_OK;
    kr_fail(err, KR_REFUSED, "a log's bytes are not written to a terminal");
    kr_hint(err, "p11keyring decrypt %s | mysqlbinlog -, or -o FILE", cli->args[0]);
    return err->status;
}

static enum kr_status choose_output(const struct cli *cli, struct decryption *ret,
                                    struct kr_error *err)
{
    const char *out = cli->values[OPT_OUTPUT];

    for (int i = 0; i < cli->arg_count; i++)
        if (is_folder(cli->args[i]))
            return kr_fail(err, KR_USAGE, "%s is a folder: name its files", cli->args[i]);
    if (!out || strcmp(out, "-") == 0)
        return check_stdout(cli, err);
    ret->out = out;
    ret->into_folder = is_folder(out);
    if (cli->arg_count > 1 && !ret->into_folder)
        return kr_fail(err, KR_USAGE, "several files need a folder to go to; %s is none", out);
    return KR_OK;
}

static char *output_of(const struct decryption *all, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *out = NULL;

    if (!all->into_folder)
        return strdup(all->out);
    return asprintf(&out, "%s/%s", all->out, slash ? slash + 1 : path) < 0 ? NULL : out;
}

/* --- the work --------------------------------------------------------------------------------- */

static enum kr_status decrypt_audited(const struct decryption *all, const char *path,
                                      const struct kr_file_run *run, const char *out,
                                      struct kr_file_report *ret, struct kr_error *err)
{
    const struct kr_audit_event event = {.name = "file-decrypt", .detail = path};
    const struct kr_decrypt_target target = {
        .path = out, .fd = STDOUT_FILENO, .dry_run = cli_flag(all->cli, OPT_DRY_RUN)};

    if (target.dry_run)
        return kr_file_decrypt(path, run, &target, ret, err);
    KR_TRY(kr_audit_begin(all->audit, &event, err));
    enum kr_status status = kr_file_decrypt(path, run, &target, ret, err);
    kr_audit_end(all->audit, &event, status == KR_OK ? NULL : err);
    return status;
}

static enum kr_status decrypt_one(const char *path, size_t index, const struct kr_file_run *run,
                                  void *context, struct kr_error *err)
{
    const struct decryption *all = context;
    struct decrypted *file = &all->files[index];
    struct kr_error why = KR_ERROR_INIT;
    KR_FILE_REPORT report = {0};

    file->out = all->out ? output_of(all, path) : NULL;
    if (all->out && !file->out)
        return kr_fail_memory(err);
    if (decrypt_audited(all, path, run, file->out, &report, &why) != KR_OK)
        file->why = why;
    bool ok = file->why.status == KR_OK;
    file->row = json_pack("{s:o, s:s, s:o, s:b, s:o, s:o}", "path", cli_text(path), "kind",
                          kr_file_kind_tag(report.kind), "output", cli_text(file->out), "done", ok,
                          "error", cli_text(ok ? NULL : why.text), "hint",
                          cli_text(!ok && *why.hint ? why.hint : NULL));
    return file->row ? KR_OK : kr_fail_memory(err);
}

/* --- what is said ----------------------------------------------------------------------------- */

/* A warning that is no part of the exit code: it holds for every success. */
static void warn_clear(struct cli *cli, const struct decryption *all)
{
    int exit_code = cli->exit_code;

    cli_warn(cli, "what is in %s now is in the clear: whoever can read it needs no key",
             all->out ? all->out : "the pipe");
    cli->exit_code = exit_code;
}

static enum kr_status print_result(struct cli *cli, const struct decryption *all, size_t count,
                                   size_t *ret_done, struct kr_error *err)
{
    CLI_JSON rows = json_array();
    size_t done = 0;

    for (size_t i = 0; i < count; i++) {
        const struct decrypted *file = &all->files[i];
        done += file->row && file->why.status == KR_OK;
        if (file->row)
            json_array_append(rows, file->row);
        if (cli_flag(cli, OPT_JSON) || !file->row || !all->out)
            continue;
        if (file->why.status == KR_OK)
            printf("%s: %s\n", all->files[i].out, "decrypted");
    }
    CLI_JSON result = json_pack("{s:I, s:I, s:O?}", "done", (json_int_t)done, "failed",
                                (json_int_t)(count - done), "files", rows);
    if (!result)
        return kr_fail_memory(err);
    cli_print_json(cli, result);
    *ret_done = done;
    return KR_OK;
}

static enum kr_status judge(const struct decryption *all, size_t count, struct kr_error *err)
{
    const struct kr_error *first = NULL;

    for (size_t i = 0; i < count; i++)
        cli_one_failure(&all->files[i].why, &first);
    if (first)
        *err = *first;
    return first ? first->status : KR_OK;
}

static enum kr_status finish(struct cli_files *files, struct decryption *all, struct kr_error *err)
{
    struct cli *cli = files->cli;
    struct kr_error why = KR_ERROR_INIT;
    size_t count = files->walk.count, done = 0;
    enum kr_status status = files->interrupted ? KR_OK : judge(all, count, &why);

    if (status != KR_OK && (count == 1 || cli_flag(cli, OPT_DRY_RUN))) {
        *err = why;
        return status;
    }
    if (cli_flag(cli, OPT_DRY_RUN))
        return cli_plan(cli, err, "decrypt %zu files to %s", count,
                        all->out ? all->out : "standard output");
    KR_TRY(print_result(cli, all, count, &done, err));
    if (done > 0)
        warn_clear(cli, all);
    if (files->interrupted) {
        cli_note("interrupted: no part of a file was left behind");
        cli->exit_code = CLI_EXIT_INTERRUPTED;
    } else if (status != KR_OK && cli_flag(cli, OPT_JSON)) {
        cli->exit_code = cli_exit_code(status); /* the result says what failed */
    } else if (status != KR_OK) {
        *err = why;
        return status;
    }
    return KR_OK;
}

static void free_files(struct decryption *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_decref(all->files[i].row);
        free(all->files[i].out);
    }
    free(all->files);
}

enum kr_status cli_run_decrypt(struct cli *cli, struct kr_error *err)
{
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    CLI_FILES files = {0};
    struct decryption all = {.cli = cli};

    KR_TRY(choose_output(cli, &all, err));
    KR_TRY(cli_files_begin(cli, &files, err));
    KR_TRY(kr_audit_open(cli->config, &audit, err));
    all.audit = audit;
    all.files = calloc(files.walk.count + 1, sizeof *all.files);
    if (!all.files)
        return kr_fail_memory(err);
    enum kr_status status = cli_files_run(&files, decrypt_one, &all, err);
    if (status == KR_OK)
        status = finish(&files, &all, err);
    free_files(&all, files.walk.count);
    return status;
}
