/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The admin tool: what its source files share. One table of commands drives parsing, help, usage
 * errors and shell completion. A command fills one JSON object; text output is drawn from it.
 */
#ifndef P11K_CLI_H
#define P11K_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include <jansson.h>

#include "base/config.h"
#include "provider/keyring.h"
#include "servers/connection.h"

enum cli_option {
    OPT_HELP,
    OPT_CONFIG,
    OPT_MODULE,
    OPT_TOKEN_URI,
    OPT_PIN_SOURCE,
    OPT_KEYSTORE,
    OPT_JSON,
    OPT_VERBOSE,
    OPT_DRY_RUN,
    OPT_YES,
    OPT_LABEL,
    OPT_SLOT,
    OPT_SO_PIN_SOURCE,
    OPT_CIPHER,
    OPT_IMPORT,
    OPT_TOKEN,
    OPT_TO,
    OPT_CONFIRM,
    OPT_PROGRESS,
    OPT_ALL,
    OPT_SERVER_CONFIG,
    OPT_USER,
    OPT_SINCE,
    OPT_EVENT,
    OPT_THREADS,
    OPT_SECONDS,
    OPT_SESSIONS,
    OPT_DIRECTORY,
    OPT_SIZE,
    OPT_IGNORE_UNKNOWN,
    OPT_OUTPUT,
    OPT_EVIDENCE,
    OPT_WITHOUT_EVIDENCE,
    OPT_HEADER_ONLY,
    OPT_INNODB_KEY,
    OPT_BINLOG_KEY,
    OPT_TO_CONFIG,
    OPT_ALONE,
    OPT_ANEW,
    OPT_FROM,
    OPT_FROM_PASSWORD,
    OPT_TO_PASSWORD,
    OPT_IN_THE_CLEAR,
    OPT_REPAIR,
    OPT_OWNER,
    OPT_SERVER,
    OPT_PASSWORD_SOURCE,
    OPT_IOPS,
    OPT_SECOND_PASSWORD_SOURCE,
    OPT_RECIPIENT,
    OPT_NEW_MASTER,
    OPT_SAME_SERVER,
    OPT_COUNT
};

#define CLI_BIT(option) (UINT64_C(1) << (option))
#define CLI_MANY 1000 /* arguments: no limit of ours */
enum { CLI_MANY_MAX = 64 /* of an option that is given again and again */ };

/* The values of such an option. */
struct cli_many {
    const char *at[CLI_MANY_MAX];
    size_t count;
};

struct cli_option_spec {
    const char *name;
    char letter;       /* 0: long form only */
    const char *value; /* NULL: a flag */
    const char *help;
};
extern const struct cli_option_spec cli_options[OPT_COUNT];

struct cli;

struct cli_command {
    const char *noun, *verb; /* verb NULL: the noun is the whole command */
    const char *arguments;   /* as in the usage line; NULL for none */
    const char *summary;
    uint64_t options; /* CLI_BIT()s beside the global ones */
    int min_args, max_args;
    enum kr_status (*run)(struct cli *cli, struct kr_error *err);
};
extern const struct cli_command cli_commands[]; /* ends with noun NULL */
extern const uint64_t cli_global_options;

/* One call of the tool. */
struct cli {
    const struct cli_command *command;
    const char *values[OPT_COUNT]; /* NULL: not given; "" for a flag */
    char **args;
    int arg_count;
    struct cli_many servers;               /* of each --server */
    struct cli_many passwords;             /* of each --password-source */
    struct cli_many second_passwords;      /* of each --second-password-source */
    struct kr_pin_source *server_password; /* after cli_password_source() */
    struct kr_config *config;              /* after cli_load_config() */
    const struct kr_token_config *token; /* of `config`: the first, or as cli_choose_token() says */
    int exit_code; /* of a command that succeeded: 0, 3, or doctor's verdict */
};

#define CLI_EXIT_USAGE 2
#define CLI_EXIT_WARNINGS 3
#define CLI_EXIT_INTERRUPTED 8

/* --- parse.c ---------------------------------------------------------------------------------- */

/* Finds command and options in argv. KR_USAGE. */
KR_MUST_USE enum kr_status cli_parse(struct cli *cli, int argc, char **argv, struct kr_error *err);
bool cli_flag(const struct cli *cli, enum cli_option option);
/* A key id, 1..2^32-1. KR_USAGE. */
KR_MUST_USE enum kr_status cli_parse_id(const char *text, uint32_t *ret, struct kr_error *err);
/* An option's number, from 1 to `max`; `preset` when it is not given. KR_USAGE. */
KR_MUST_USE enum kr_status cli_number(const struct cli *cli, enum cli_option option,
                                      unsigned preset, unsigned max, unsigned *ret,
                                      struct kr_error *err);
/* --cipher, else the configured one. */
KR_MUST_USE enum kr_status cli_cipher(const struct cli *cli, enum kr_cipher *ret,
                                      struct kr_error *err);

/* --- help.c ----------------------------------------------------------------------------------- */

/* Help for everything (NULL, NULL), a noun (verb NULL) or a command; false when there is none. */
bool cli_help(FILE *out, const char *noun, const char *verb);
enum kr_status cli_run_help(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_version(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_completion(struct cli *cli, struct kr_error *err);

/* --- setup.c: the process, the configuration, privileges -------------------------------------- */

/* No core dumps, no tracing, private files, no SIGPIPE. */
void cli_harden_process(void);
/* Reads the configuration into cli->config, applies the options, and as root goes on as the
 * keystore's owner, so that every file made belongs to the user that the server runs as. Root's
 * right to read is kept for PIN and key files. */
KR_MUST_USE enum kr_status cli_load_config(struct cli *cli, struct kr_error *err);
/* Reads it with the options applied, and goes on as who we are. */
KR_MUST_USE enum kr_status cli_read_config(const struct cli *cli, struct kr_config **ret,
                                           struct kr_error *err);
/* As root: goes on as this account, with root's right to read. */
KR_MUST_USE enum kr_status cli_act_as(uid_t uid, gid_t gid, struct kr_error *err);
/* Config with module, token and keystore, as most commands need it. */
KR_MUST_USE enum kr_status cli_load_full_config(struct cli *cli, struct kr_error *err);

/* Makes --token NAME, if it is given, cli->token. KR_USAGE. */
KR_MUST_USE enum kr_status cli_choose_token(struct cli *cli, struct kr_error *err);

/* --- output.c --------------------------------------------------------------------------------- */

/* The exit code of each class: the one place where they meet. */
int cli_exit_code(enum kr_status status);

void cli_error(const struct cli *cli, const struct kr_error *err);
/* Of many, after each: the first failure is left to be the command's own, the others are told. */
void cli_one_failure(const struct kr_error *why, const struct kr_error **first);
/* A warning also makes the exit code CLI_EXIT_WARNINGS. */
void cli_warn(struct cli *cli, const char *fmt, ...) KR_PRINTF(2, 3);
void cli_hint(const char *fmt, ...) KR_PRINTF(1, 2);
void cli_note(const char *fmt, ...) KR_PRINTF(1, 2);
/* Sends the libraries' log to stderr: warnings always, all of it with --verbose. */
void cli_log_to_stderr(bool verbose);

/* JSON text of foreign bytes (labels): what is no printable UTF-8 becomes '?'. Never NULL but for
 * lack of memory; NULL gives null. */
json_t *cli_text(const char *text);
json_t *cli_time(int64_t unix_seconds);

/* A column of a table, or a line of "title: value": where in a row object its value is. */
struct cli_column {
    const char *title, *key; /* the last one has key NULL */
};
void cli_print_fields(const json_t *object, const struct cli_column *columns);
KR_MUST_USE enum kr_status cli_print_table(const json_t *rows, const struct cli_column *columns,
                                           struct kr_error *err);
/* With --json prints `result` under its schema name and returns true; else the caller draws. */
bool cli_print_json(const struct cli *cli, json_t *result);
/* What a --dry-run found out: prints "would ..." as the command's result. */
enum kr_status cli_plan(const struct cli *cli, struct kr_error *err, const char *fmt, ...)
    KR_PRINTF(3, 4);
void cli_json_free(json_t **json);
#define CLI_JSON __attribute__((cleanup(cli_json_free))) json_t *

/* --- keys.c: what the keystore says of keys --------------------------------------------------- */

/* The keystore, read-only. */
KR_MUST_USE enum kr_status cli_open_keystore(struct cli *cli, struct kr_keystore **ret,
                                             struct kr_error *err);
void cli_keystore_cleanup(struct kr_keystore **keystore);
#define CLI_KEYSTORE __attribute__((cleanup(cli_keystore_cleanup))) struct kr_keystore *
void cli_keyring_cleanup(struct kr_keyring **keyring);
#define CLI_KEYRING __attribute__((cleanup(cli_keyring_cleanup))) struct kr_keyring *

/* The current master key of the token of this name, or of another one when it has none. */
KR_MUST_USE enum kr_status cli_current_master(struct kr_keystore *keystore, const char *token,
                                              struct kr_master_row *ret, struct kr_error *err);

/* For commands that can do without the token: a warning and KR_OK when `why` says that it is away
 * or that the PIN is refused; any other failure goes to *err. */
KR_MUST_USE enum kr_status cli_unless_away(struct cli *cli, const struct kr_error *why,
                                           struct kr_error *err);
/* Opens the keyring and so verifies the keystore; *ret is NULL when the token is away. */
KR_MUST_USE enum kr_status cli_verify(struct cli *cli, struct kr_keyring **ret,
                                      struct kr_error *err);
/* Array of {id, latest, versions, cipher, state, created}, by id. */
KR_MUST_USE enum kr_status cli_read_keys(struct kr_keystore *keystore, json_t **ret,
                                         struct kr_error *err);
extern const struct cli_column cli_key_columns[];
/* MySQL's secrets: array of {id, mechanism, imported, created}; mechanism is aes-ecb or aes-cbc for
 * a master key that stays in the token, and null for a wrapped secret. */
KR_MUST_USE enum kr_status cli_read_secrets(struct kr_keystore *keystore, json_t **ret,
                                            struct kr_error *err);

/* --- progress.c ------------------------------------------------------------------------------- */

/* Long work: tells on stderr how far it is, as --progress says, and ends it when the user does
 * (SIGINT, SIGTERM, SIGHUP). */
struct cli_progress {
    enum { PROGRESS_NONE, PROGRESS_TERMINAL, PROGRESS_LINE, PROGRESS_JSON } how;
    uint64_t start, said; /* milliseconds */
    bool drawn;           /* a line of the terminal is begun */
    const char *unit;     /* of what is counted, "envelopes" unless changed after begin */
    uint64_t scale;       /* so many of what is counted are one unit; 1 unless changed */
};
/* KR_USAGE. */
KR_MUST_USE enum kr_status cli_progress_begin(const struct cli *cli, struct cli_progress *ret,
                                              struct kr_error *err);
/* A kr_progress_function; its context is a struct cli_progress. */
bool cli_progress_step(uint64_t done, uint64_t total, void *context);
void cli_progress_end(struct cli_progress *progress);

/* --- cmd_master.c ----------------------------------------------------------------------------- */

/* What keystore and tokens say of master keys, joined: array of the rows of master list. A token
 * that is away is a warning. */
KR_MUST_USE enum kr_status cli_read_masters(struct cli *cli, json_t **ret, struct kr_error *err);
#define CLI_UNKNOWN_MASTER "not in the keystore" /* state of a key that only a token has */

/* --- key_ages.c ------------------------------------------------------------------------------- */

/* Keys in use that are older than configured: array of {kind, key, created, age_days, limit_days}.
 */
KR_MUST_USE enum kr_status cli_read_overdue(const struct cli *cli, struct kr_keystore *keystore,
                                            json_t **ret, struct kr_error *err);
void cli_warn_overdue(struct cli *cli, const json_t *overdue);

/* --- imported.c ------------------------------------------------------------------------------- */

/* MySQL's master keys that are in the token, but were outside of one before: array of names. */
KR_MUST_USE enum kr_status cli_read_imported(struct kr_keystore *keystore, json_t **ret,
                                             struct kr_error *err);
void cli_warn_imported(struct cli *cli, const json_t *imported);

/* --- unbundled.c ------------------------------------------------------------------------------ */

/* Array of {key, version}: keys whose newest version is in no bundle; *ret_ever: some bundle was
 * made of this keyring. */
KR_MUST_USE enum kr_status cli_read_unbundled(struct kr_keystore *keystore, json_t **ret,
                                              bool *ret_ever, struct kr_error *err);
void cli_warn_unbundled(struct cli *cli, const json_t *rows, bool ever);
/* "WHAT: p11keyring backup create ...", where keys may leave the keyring. */
void cli_hint_bundle(const struct cli *cli, const char *what);

/* --- token_report.c --------------------------------------------------------------------------- */

/* Array of {name, uri, state, master_key, opens, waiting, anchor, generation}; with `keyring` NULL
 * only what the configuration says. Warns of each that is away or behind where there are several.
 */
KR_MUST_USE enum kr_status cli_report_tokens(struct cli *cli, struct kr_keyring *keyring,
                                             json_t **ret, struct kr_error *err);
extern const struct cli_column cli_token_columns[];

/* --- token_state.c ---------------------------------------------------------------------------- */

struct cli_token {
    struct kr_token *token;
    struct kr_pin_source *pin; /* NULL when none is configured */
    struct kr_audit *audit;    /* NULL when no log is configured */
    struct kr_token_info info;
};
void cli_token_cleanup(struct cli_token *token);
#define CLI_TOKEN __attribute__((cleanup(cli_token_cleanup))) struct cli_token

/* cli->token, not logged in. */
KR_MUST_USE enum kr_status cli_open_token(struct cli *cli, struct cli_token *ret,
                                          struct kr_error *err);
/* The one of a section [token:NAME]. */
KR_MUST_USE enum kr_status cli_open_token_named(struct cli *cli, const char *name,
                                                struct cli_token *ret, struct kr_error *err);
/* Whether the PIN guard holds back a login; *ret_since in unix seconds. */
KR_MUST_USE enum kr_status cli_guard_state(struct cli *cli, const struct cli_token *token,
                                           bool *ret_guarded, int64_t *ret_since,
                                           struct kr_error *err);
/* "label", "serial", ..., PIN flags. */
json_t *cli_token_json(const struct kr_token_info *info);
/* "pkcs11:token=LABEL;serial=..." with what RFC 7512 wants escaped; malloc'ed. */
char *cli_token_uri(const struct kr_token_info *info);

/* --- server.c --------------------------------------------------------------------------------- */

/* Connects to the one --server, as the account that called the tool: before cli_load_config(),
 * which may change it. KR_USAGE. */
KR_MUST_USE enum kr_status cli_connect(struct cli *cli, struct kr_server_conn **ret,
                                       struct kr_error *err);
/* --password-source, or NULL when it is not given. Owned by `cli`: whoever asks for it twice has
 * one prompt. */
KR_MUST_USE enum kr_status cli_password_source(struct cli *cli, struct kr_pin_source **ret,
                                               struct kr_error *err);
/* Warns that a server's keyring is paused, by this variable. */
void cli_warn_paused(struct cli *cli, const char *variable);

/* --- confirm.c -------------------------------------------------------------------------------- */

/* KR_OK when --confirm gives `name`, or when somebody at a terminal types it after reading
 * `question`; a pipe is never taken for consent. KR_REFUSED: "`what` was not confirmed". */
KR_MUST_USE enum kr_status cli_confirm_name(const struct cli *cli, const char *name,
                                            const char *question, const char *what,
                                            struct kr_error *err);

/* --- the commands ----------------------------------------------------------------------------- */

enum kr_status cli_run_token_init(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_token_list(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_token_info(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_token_unguard(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_doctor(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_master_create(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_master_adopt(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_master_list(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_master_rotate(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_master_retire(struct cli *cli, struct kr_error *err);
/* master create --token NAME */
enum kr_status cli_add_token(struct cli *cli, struct kr_error *err);
/* A row of the keystore, as `master list` prints it. */
json_t *cli_master_row(const struct kr_master_row *row);
enum kr_status cli_run_keyring_sync(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_keyring_move(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_key_create(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_key_list(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_key_show(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_key_rotate(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_key_destroy(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_key_disable(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_key_enable(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_migrate(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_keyring_accept(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_audit_show(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_audit_verify(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_inspect(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_decrypt(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_mariadb_status(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_mysql_rotate(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_mysql_status(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_mariadb_encrypt(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_mariadb_decrypt(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_mariadb_rotate(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_rekey(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_usage(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_backup_create(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_backup_verify(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_backup_restore(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_verify(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_status(struct cli *cli, struct kr_error *err);
enum kr_status cli_run_benchmark(struct cli *cli, struct kr_error *err);

#endif
