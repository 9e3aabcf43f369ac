/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the commands on files share: setting up, the walk, reports as JSON, keys over all files. */
#ifndef P11K_CLI_FILE_ROWS_H
#define P11K_CLI_FILE_ROWS_H

#include "cli.h"
#include "files/evidence.h"
#include "files/run.h"

/* One command's work on the files of its arguments. */
struct cli_files {
    struct cli *cli;
    struct kr_walk walk;
    struct kr_file_keys *keys;
    struct cli_progress progress;
    bool interrupted;
};
void cli_files_cleanup(struct cli_files *files);
#define CLI_FILES __attribute__((cleanup(cli_files_cleanup))) struct cli_files

/* Reads the configuration, without which most can be done, and finds the files. */
KR_MUST_USE enum kr_status cli_files_begin(struct cli *cli, struct cli_files *ret,
                                           struct kr_error *err);
/* The same with keys of another source, which are `ret`'s from now on, and other paths. */
KR_MUST_USE enum kr_status cli_files_begin_with(struct cli *cli, struct kr_file_keys *keys,
                                                char *const *paths, size_t count,
                                                struct cli_files *ret, struct kr_error *err);
/* Works on each file, with progress. */
KR_MUST_USE enum kr_status cli_files_run(struct cli_files *files, kr_files_work work, void *context,
                                         struct kr_error *err);
/* Adds the rows of what was skipped to `result`, and warns when that is not all harmless; says what
 * to do after an interruption. */
KR_MUST_USE enum kr_status cli_files_end(struct cli_files *files, json_t *result,
                                         struct kr_error *err);

/* {path, kind, ...} */
json_t *cli_file_row(const char *path, const struct kr_file_report *report);
/* {path, error}: a file that could not be looked at. */
json_t *cli_file_failed(const char *path, const struct kr_error *why);

/* Every key that the rows need: array of {key, version, files, units, here}, ordered. */
json_t *cli_file_keys(const json_t *rows);

/* "path: not looked at: why" for each. */
void cli_print_skipped(const json_t *result);

/* cmd_verify.c: verifies each file and tells of it; `bundles` (may be NULL) are rows of the bundles
 * that the keys are of. */
KR_MUST_USE enum kr_status cli_verify_files(struct cli_files *files, json_t *bundles,
                                            struct kr_error *err);

/* evidence.c: KR_OK when --evidence shows that nothing needs the key, or --without-evidence is
 * given; `ret_text` is for the audit log. KR_REFUSED. */
KR_MUST_USE enum kr_status cli_check_evidence(const struct cli *cli, struct kr_keyring *keyring,
                                              const struct kr_usage_key *key,
                                              char ret_text[KR_EVIDENCE_TEXT],
                                              struct kr_error *err);

/* "12.0 MiB" */
enum { CLI_SIZE_TEXT = 24 };
void cli_size_text(uint64_t bytes, char ret[CLI_SIZE_TEXT]);

#endif
