/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* doctor: a list of checks, each with a finding and what to do about it. */
#ifndef P11K_CLI_DOCTOR_H
#define P11K_CLI_DOCTOR_H

#include <sys/types.h>

#include "cli.h"
#include "server_options.h"

enum verdict { VERDICT_OK, VERDICT_WARNING, VERDICT_ERROR, VERDICT_NOT_CHECKED };

struct finding {
    enum verdict verdict;
    enum kr_status status; /* class of an error: decides the exit code */
    char text[768];
    char fix[512]; /* empty when there is nothing to do */
};

/* What the checks have found out so far; a later check builds on an earlier one. */
struct doctor {
    struct cli *cli;
    struct kr_error config_error; /* status KR_OK: cli->config is usable */
    bool config_complete;         /* module, token and keystore are set */
    struct server_options server; /* empty when the server's options are not known */
    bool user_known;              /* the server's user: --user, else the data directory's owner */
    uid_t user;
    struct cli_token token; /* token.token NULL: not found */
    bool logged_in;
    struct kr_keyring *keyring;  /* NULL: it does not open */
    struct kr_master_row master; /* the current one; id.len 0: not known */
};

typedef void (*doctor_check)(struct doctor *doctor, struct finding *finding);

/* How a check ends. A finding starts as VERDICT_NOT_CHECKED without text. */
void doctor_ok(struct finding *finding, const char *fmt, ...) KR_PRINTF(2, 3);
void doctor_warn(struct finding *finding, const char *fmt, ...) KR_PRINTF(2, 3);
void doctor_fail(struct finding *finding, enum kr_status status, const char *fmt, ...)
    KR_PRINTF(3, 4);
void doctor_fail_error(struct finding *finding, const struct kr_error *err);
void doctor_skip(struct finding *finding, const char *why);
void doctor_fix(struct finding *finding, const char *fmt, ...) KR_PRINTF(2, 3);

/* doctor_files.c */
void doctor_configuration(struct doctor *doctor, struct finding *finding);
void doctor_config_file(struct doctor *doctor, struct finding *finding);
void doctor_keystore_directory(struct doctor *doctor, struct finding *finding);
void doctor_keystore_file(struct doctor *doctor, struct finding *finding);
void doctor_keystore_place(struct doctor *doctor, struct finding *finding);
void doctor_leftovers(struct doctor *doctor, struct finding *finding);
void doctor_audit_log(struct doctor *doctor, struct finding *finding);

/* key_ages.c */
void doctor_key_ages(struct doctor *doctor, struct finding *finding);

/* unbundled.c */
void doctor_bundles(struct doctor *doctor, struct finding *finding);

/* imported.c */
void doctor_imported_keys(struct doctor *doctor, struct finding *finding);

/* doctor_server.c */
void doctor_find_server(struct doctor *doctor);
void doctor_other_keyrings(struct doctor *doctor, struct finding *finding);
void doctor_core_files(struct doctor *doctor, struct finding *finding);
void doctor_cipher_of_key_1(struct doctor *doctor, struct finding *finding);

/* doctor_token.c */
void doctor_pin_source(struct doctor *doctor, struct finding *finding);
void doctor_module(struct doctor *doctor, struct finding *finding);
void doctor_token(struct doctor *doctor, struct finding *finding);
void doctor_pin_state(struct doctor *doctor, struct finding *finding);
void doctor_login(struct doctor *doctor, struct finding *finding);
void doctor_master_key(struct doctor *doctor, struct finding *finding);
void doctor_mechanism(struct doctor *doctor, struct finding *finding);
void doctor_custody(struct doctor *doctor, struct finding *finding);
void doctor_integrity(struct doctor *doctor, struct finding *finding);
void doctor_tokens(struct doctor *doctor, struct finding *finding);
void doctor_unused_keys(struct doctor *doctor, struct finding *finding);
void doctor_memory_lock(struct doctor *doctor, struct finding *finding);

/* doctor_processor.c */
void doctor_page_ciphers(struct doctor *doctor, struct finding *finding);

#endif
