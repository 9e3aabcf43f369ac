/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* doctor: module, token, PIN, master key, and what the keystore holds. */
#include "doctor.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pkcs11/admin.h"
#include "pkcs11/custody.h"

/* --- PIN source ------------------------------------------------------------------------------- */

void doctor_pin_source(struct doctor *doctor, struct finding *finding)
{
    const char *spec = doctor->config_error.status == KR_OK ? doctor->cli->token->pin_source : NULL;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *source = NULL;

    if (!spec) {
        doctor_fail(finding, KR_CONFIG, "no PIN source is configured");
        doctor_fix(finding, "set pin-source = file:PATH in the [token:NAME] section");
        return;
    }
    if (kr_pin_source_new(spec, "user PIN", &source, &err) != KR_OK ||
        kr_pin_source_check(source, &err) != KR_OK)
        doctor_fail_error(finding, &err);
    else if (*spec == '/' || strncmp(spec, "file:", 5) == 0)
        doctor_ok(finding, "%s can be read by its owner only", spec);
    else
        doctor_ok(finding, "%s", kr_pin_source_name(source));
    /* Root's right to read was kept; access() asks for the keystore's owner, so for the server. */
    const char *path = strncmp(spec, "file:", 5) == 0 ? spec + 5 : spec;
    if (finding->verdict == VERDICT_OK && *path == '/' && access(path, R_OK) != 0) {
        doctor_warn(finding, "%s can be read by root, but not by the keystore's owner", path);
        doctor_fix(finding, "chown it to the server's user, or give the server another source "
                            "(systemd: LoadCredential= and cred:NAME)");
    }
    kr_pin_source_free(source);
}

/* --- module and token ------------------------------------------------------------------------- */

void doctor_module(struct doctor *doctor, struct finding *finding)
{
    const struct kr_config *config = doctor->cli->config;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info *tokens;
    size_t count;

    if (doctor->config_error.status != KR_OK || !doctor->cli->token->module) {
        doctor_skip(finding, "no module is configured");
        return;
    }
    if (kr_admin_list_tokens(doctor->cli->token->module, doctor->cli->token->init_args,
                             config->pkcs11.timeout_ms, &tokens, &count, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
        return;
    }
    free(tokens);
    doctor_ok(finding, "%s loads; slots with a token: %zu", doctor->cli->token->module, count);
}

void doctor_token(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;

    if (!doctor->config_complete) {
        doctor_skip(finding, "the configuration is not complete");
        return;
    }
    if (cli_open_token(doctor->cli, &doctor->token, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
        return;
    }
    doctor_ok(finding, "'%s' (%s, serial %s) in slot %lu", doctor->token.info.label,
              doctor->token.info.model, doctor->token.info.serial, doctor->token.info.slot);
}

/* --- PIN -------------------------------------------------------------------------------------- */

static bool no_token(const struct doctor *doctor, struct finding *finding)
{
    if (doctor->token.token)
        return false;
    doctor_skip(finding, "the token was not found");
    return true;
}

void doctor_pin_state(struct doctor *doctor, struct finding *finding)
{
    const struct kr_token_info *info = &doctor->token.info;
    struct kr_error err = KR_ERROR_INIT;
    bool guarded = false;
    int64_t since = 0;

    if (no_token(doctor, finding))
        return;
    if (info->pin_locked) {
        doctor_fail(finding, KR_AUTH, "the user PIN is locked");
        doctor_fix(finding, "have the security officer reset it (pkcs11-tool --init-pin)");
    } else if (cli_guard_state(doctor->cli, &doctor->token, &guarded, &since, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
    } else if (guarded) {
        doctor_fail(finding, KR_AUTH, "the PIN was refused and is not tried again");
        doctor_fix(finding, "put the right PIN into the PIN source; a source that is no file also "
                            "needs: p11keyring token unguard");
    } else if (info->pin_final_try) {
        doctor_fail(finding, KR_AUTH, "one more wrong PIN locks the token");
        doctor_fix(finding, "make sure of the PIN, then log in once with pkcs11-tool --login");
    } else if (info->pin_count_low) {
        doctor_warn(finding, "a wrong PIN was tried since the last good login");
        doctor_fix(finding, "a good login clears this");
    } else {
        doctor_ok(finding, "not guarded, no wrong tries");
    }
}

void doctor_login(struct doctor *doctor, struct finding *finding)
{
    const struct kr_token_info *info = &doctor->token.info;
    struct kr_error err = KR_ERROR_INIT;
    bool guarded = false;
    int64_t since;

    if (no_token(doctor, finding))
        return;
    if (!doctor->token.pin || info->pin_locked || info->pin_final_try ||
        cli_guard_state(doctor->cli, &doctor->token, &guarded, &since, &err) != KR_OK || guarded) {
        doctor_skip(finding, "the PIN is not tried, see above");
        return;
    }
    doctor->logged_in = kr_token_login(doctor->token.token, &err) == KR_OK;
    if (doctor->logged_in)
        doctor_ok(finding, "the token accepts the PIN");
    else
        doctor_fail_error(finding, &err);
}

/* --- master key and keystore ------------------------------------------------------------------ */

static enum kr_status read_master(struct doctor *doctor, struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;

    KR_TRY(cli_open_keystore(doctor->cli, &keystore, err));
    return cli_current_master(keystore, doctor->cli->token->name, &doctor->master, err);
}

static bool not_logged_in(const struct doctor *doctor, struct finding *finding)
{
    if (doctor->logged_in)
        return false;
    doctor_skip(finding, "this needs a login");
    return true;
}

void doctor_master_key(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;

    if (not_logged_in(doctor, finding))
        return;
    if (read_master(doctor, &err) != KR_OK ||
        kr_master_find(doctor->token.token, &doctor->master.id, &info, &err) != KR_OK) {
        doctor->master.id.len = 0;
        doctor_fail_error(finding, &err);
        return;
    }
    doctor_ok(finding, "'%s': %s-%u, private, sensitive, never extractable", info.label,
              info.kind == KR_KIND_RSA ? "RSA" : "AES", info.bits);
}

void doctor_mechanism(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;
    enum kr_wrap_mechanism proven;

    if (!doctor->master.id.len)
        doctor_skip(finding, "there is no usable master key");
    else if (kr_master_prove(doctor->token.token, &doctor->master.id, doctor->master.mechanism,
                             &proven, &err) != KR_OK)
        doctor_fail_error(finding, &err);
    else
        doctor_ok(finding, "%s wraps, unwraps, and refuses a damaged wrap",
                  kr_wrap_mechanism_name(proven));
}

void doctor_custody(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_custody custody;

    if (not_logged_in(doctor, finding))
        return;
    if (kr_custody_check(doctor->token.token, &custody, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
    } else if (!custody.known) {
        doctor_skip(finding, "the token makes no AES key to try it with");
    } else if (!custody.leak) {
        doctor_ok(finding,
                  "a key that is not extractable cannot be copied, changed or wrapped out");
    } else {
        doctor_warn(finding,
                    "whoever has the PIN can take master keys out of the token: a key that is not "
                    "extractable was %s",
                    custody.leak);
        doctor_fix(finding,
                   "use this token for tests only; elsewhere its PIN and its files must be "
                   "guarded as the keys themselves");
    }
}

void doctor_integrity(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring_stats stats;

    if (not_logged_in(doctor, finding))
        return;
    if (kr_keyring_open(doctor->cli->config, &doctor->keyring, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
        return;
    }
    kr_keyring_get_stats(doctor->keyring, &stats);
    doctor_ok(finding, "manifest and all envelopes are good: %u keys, %u versions", stats.keys,
              stats.versions);
}

static const char *fault_of(const struct kr_token_report *report, const char **ret_fix)
{
    *ret_fix = "p11keyring doctor --token NAME says more about one token";
    if (report->state != KR_TOKEN_UP)
        return kr_token_state_name(report->state);
    *ret_fix = "p11keyring master create --token NAME";
    if (!*report->master)
        return "has no master key";
    *ret_fix = "p11keyring keyring sync";
    if (report->waiting > 0)
        return "not up to date";
    *ret_fix = "it cannot tell an older keystore that is put back: protect the file by other means";
    if (report->behind)
        return "does not remember the newest generation";
    return report->anchor == KR_ANCHOR_REFUSED ? "keeps no data objects" : NULL;
}

/* Each token's part in the keyring: the ones that are not as they should be are named. */
void doctor_tokens(struct doctor *doctor, struct finding *finding)
{
    struct kr_token_report reports[KR_TOKENS_MAX];
    struct kr_error err = KR_ERROR_INIT;
    char faults[512] = "";
    const char *fault, *fix, *first_fix = NULL;
    size_t count;

    if (!doctor->keyring) {
        doctor_skip(finding, "the keyring was not opened");
        return;
    }
    if (kr_keyring_report_tokens(doctor->keyring, reports, &count, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(faults);
        if (!(fault = fault_of(&reports[i], &fix)))
            continue;
        snprintf(faults + used, sizeof faults - used, "%s'%s': %s", used ? "; " : "",
                 reports[i].name, fault);
        first_fix = first_fix ? first_fix : fix;
    }
    if (!first_fix) {
        doctor_ok(finding, "%zu, each opens everything and remembers the keystore's generation",
                  count);
        return;
    }
    doctor_warn(finding, "%s", faults);
    doctor_fix(finding, "%s", first_fix);
}

/* By its label a key of this keyring, or of a preflight, that the keystore does not name: what an
 * operation that was cut off has left. */
static bool is_unused(const json_t *row, const char *keyring)
{
    const char *label = json_string_value(json_object_get(row, "label"));
    const char *state = json_string_value(json_object_get(row, "state"));
    char ours[160];

    snprintf(ours, sizeof ours, "p11keyring:%s:", keyring);
    return label && state && strcmp(state, CLI_UNKNOWN_MASTER) == 0 &&
           (strncmp(label, ours, strlen(ours)) == 0 || strcmp(label, "p11keyring:preflight") == 0);
}

void doctor_unused_keys(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;
    CLI_JSON rows = NULL;
    const json_t *row, *first = NULL;
    size_t i, count = 0;

    if (!doctor->keyring) {
        doctor_skip(finding, "the keyring was not opened");
        return;
    }
    if (cli_read_masters(doctor->cli, &rows, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
        return;
    }
    json_array_foreach(rows, i, row)
    {
        if (!is_unused(row, doctor->cli->config->keyring.name))
            continue;
        first = first ? first : row;
        count++;
    }
    if (!first) {
        doctor_ok(finding,
                  "the tokens hold no key of this keyring that the keystore does not name");
        return;
    }
    doctor_warn(finding, "the tokens hold %zu that the keystore does not name, such as '%s'", count,
                json_string_value(json_object_get(first, "label")));
    doctor_fix(finding,
               "p11keyring master list shows them; when no other keystore of this name "
               "and no backup needs them: pkcs11-tool --delete-object --type secrkey "
               "--id %s",
               json_string_value(json_object_get(first, "id")));
}

/* What was locked by the checks before is what a server will need. */
void doctor_memory_lock(struct doctor *doctor, struct finding *finding)
{
    struct kr_secret_stats stats;
    struct rlimit limit;
    bool require;

    kr_secret_get_stats(&stats);
    if (stats.locked_bytes + stats.unlocked_bytes == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        doctor_skip(finding, "nothing secret was held");
        return;
    }
    size_t need = stats.locked_bytes + stats.unlocked_bytes;
    require = doctor->cli->config->keyring.lock_memory == KR_LOCK_REQUIRE;
    if (stats.unlocked_bytes == 0 && need <= limit.rlim_cur) {
        doctor_ok(finding, "%zu KiB are locked", need / 1024);
        return;
    }
    if (require)
        doctor_fail(finding, KR_CONFIG, "%zu KiB of keys do not fit into the memory-lock limit",
                    need / 1024);
    else
        doctor_warn(finding,
                    "%zu KiB of keys do not fit into the memory-lock limit, and may be "
                    "swapped out",
                    need / 1024);
    doctor_fix(finding, "raise it: LimitMEMLOCK= in the server's systemd unit, ulimit -l here");
}
