/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* doctor: the list of checks, and what is printed of them. */
#include "doctor.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
    const char *name;
    doctor_check run;
} checks[] = {
    {"configuration", doctor_configuration},
    {"configuration file", doctor_config_file},
    {"keystore directory", doctor_keystore_directory},
    {"keystore file", doctor_keystore_file},
    {"keystore place", doctor_keystore_place},
    {"leftovers", doctor_leftovers},
    {"audit log", doctor_audit_log},
    {"other keyrings", doctor_other_keyrings},
    {"core files", doctor_core_files},
    {"PIN source", doctor_pin_source},
    {"module", doctor_module},
    {"token", doctor_token},
    {"PIN state", doctor_pin_state},
    {"login", doctor_login},
    {"master key", doctor_master_key},
    {"mechanism", doctor_mechanism},
    {"key custody", doctor_custody},
    {"keystore integrity", doctor_integrity},
    {"tokens", doctor_tokens},
    {"unused keys", doctor_unused_keys},
    {"cipher of key 1", doctor_cipher_of_key_1},
    {"key ages", doctor_key_ages},
    {"bundles", doctor_bundles},
    {"imported keys", doctor_imported_keys},
    {"memory lock", doctor_memory_lock},
    {"page ciphers", doctor_page_ciphers},
};

static const char *const verdict_names[] = {"ok", "warning", "error", "not checked"};

/* --- findings --------------------------------------------------------------------------------- */

#define FORMAT_INTO(buffer)                                                                        \
    do {                                                                                           \
        va_list args;                                                                              \
        va_start(args, fmt);                                                                       \
        vsnprintf(buffer, sizeof(buffer), fmt, args);                                              \
        va_end(args);                                                                              \
    } while (0)

void doctor_ok(struct finding *finding, const char *fmt, ...)
{
    finding->verdict = VERDICT_OK;
    FORMAT_INTO(finding->text);
}

void doctor_warn(struct finding *finding, const char *fmt, ...)
{
    finding->verdict = VERDICT_WARNING;
    FORMAT_INTO(finding->text);
}

void doctor_fail(struct finding *finding, enum kr_status status, const char *fmt, ...)
{
    finding->verdict = VERDICT_ERROR;
    finding->status = status;
    FORMAT_INTO(finding->text);
}

void doctor_fix(struct finding *finding, const char *fmt, ...)
{
    FORMAT_INTO(finding->fix);
}

void doctor_fail_error(struct finding *finding, const struct kr_error *err)
{
    doctor_fail(finding, err->status, "%s", err->text);
    doctor_fix(finding, "%s", err->hint);
}

void doctor_skip(struct finding *finding, const char *why)
{
    finding->verdict = VERDICT_NOT_CHECKED;
    snprintf(finding->text, sizeof finding->text, "%s", why);
}

/* --- running ---------------------------------------------------------------------------------- */

/* The worst error decides: integrity before token before PIN before the rest. */
static int worse_exit_code(int a, int b)
{
    static const int order[] = {6, 4, 5, 7, 1, CLI_EXIT_WARNINGS};

    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return 0;
}

static int finding_exit_code(const struct finding *finding)
{
    if (finding->verdict == VERDICT_WARNING)
        return CLI_EXIT_WARNINGS;
    if (finding->verdict != VERDICT_ERROR)
        return 0;
    return finding->status == KR_USAGE ? cli_exit_code(KR_CONFIG) : cli_exit_code(finding->status);
}

static void print_finding(const char *name, const struct finding *finding)
{
    printf("%-12s %s: %s\n", verdict_names[finding->verdict], name, finding->text);
    if (*finding->fix)
        printf("%-12s -> %s\n", "", finding->fix);
}

static json_t *finding_json(const char *name, const struct finding *finding)
{
    return json_pack("{s:s, s:s, s:o, s:o}", "check", name, "result",
                     verdict_names[finding->verdict], "finding", cli_text(finding->text), "fix",
                     cli_text(*finding->fix ? finding->fix : NULL));
}

static void run_checks(struct doctor *doctor, json_t *findings)
{
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        struct finding finding = {.verdict = VERDICT_NOT_CHECKED};
        checks[i].run(doctor, &finding);
        if (!cli_flag(doctor->cli, OPT_JSON))
            print_finding(checks[i].name, &finding);
        json_array_append_new(findings, finding_json(checks[i].name, &finding));
        doctor->cli->exit_code =
            worse_exit_code(doctor->cli->exit_code, finding_exit_code(&finding));
    }
}

/* --user, else who owns the data directory. */
static enum kr_status find_user(struct doctor *doctor, struct kr_error *err)
{
    const char *name = doctor->cli->values[OPT_USER];
    const char *datadir = server_option(&doctor->server, "datadir");
    const struct passwd *user = name ? getpwnam(name) : NULL;
    struct stat st;

    if (name && !user)
        return kr_fail(err, KR_USAGE, "there is no user '%s'", name);
    if (!name && (!datadir || stat(datadir, &st) != 0))
        return KR_OK;
    doctor->user = name ? user->pw_uid : st.st_uid;
    doctor->user_known = true;
    return KR_OK;
}

static enum kr_status read_server(struct doctor *doctor, struct kr_error *err)
{
    const char *file = doctor->cli->values[OPT_SERVER_CONFIG];

    if (!server_options_read(file, &doctor->server) && file)
        return kr_fail(err, KR_CONFIG, "my_print_defaults cannot read %s", file);
    return find_user(doctor, err);
}

static void load(struct doctor *doctor)
{
    struct kr_error incomplete = KR_ERROR_INIT;

    if (cli_load_config(doctor->cli, &doctor->config_error) != KR_OK ||
        cli_choose_token(doctor->cli, &doctor->config_error) != KR_OK)
        return;
    doctor->config_complete = kr_config_require(doctor->cli->config, &incomplete) == KR_OK;
}

enum kr_status cli_run_doctor(struct cli *cli, struct kr_error *err)
{
    struct doctor doctor = {.cli = cli, .config_error = KR_ERROR_INIT};
    enum kr_status status = read_server(&doctor, err);
    CLI_JSON findings = json_array();

    if (status == KR_OK) {
        load(&doctor);
        run_checks(&doctor, findings);
    }
    kr_keyring_close(doctor.keyring);
    cli_token_cleanup(&doctor.token);
    server_options_free(&doctor.server);
    KR_TRY(status);
    CLI_JSON result = json_pack("{s:O?, s:i}", "checks", findings, "exit", cli->exit_code);
    if (!result)
        return kr_fail_memory(err);
    cli_print_json(cli, result);
    return KR_OK;
}
