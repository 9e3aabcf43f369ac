/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* migrate: the keys of one keyring copied to another. */
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pin_source.h"
#include "cli.h"
#include "migrate/store.h"
#include "migrate_next.h"
#include "servers/pause.h"

struct end {
    const char *text; /* as it was given */
    struct kr_store_spec spec;
    struct kr_config *config; /* of a p11keyring */
    char *password;           /* secret memory */
    struct kr_store *store;
};

struct migration {
    struct cli *cli;
    struct end from, to;
    enum kr_cipher cipher; /* of the keys of a file_key_management */
    struct kr_key_set set;
    struct kr_pause *pause; /* NULL: no server is named */
    size_t refused;
    bool interrupted;
};

/* --- what is asked for ------------------------------------------------------------------------ */

static enum kr_status parse_end(const struct cli *cli, enum cli_option option, struct end *end,
                                struct kr_error *err)
{
    end->text = cli->values[option];
    if (!end->text) {
        kr_fail(err, KR_USAGE, "migrate needs --%s SPEC", cli_options[option].name);
        kr_hint(err, "p11keyring migrate --help");
        return err->status;
    }
    return kr_store_parse(end->text, &end->spec, err);
}

static enum kr_status check_destination(const struct migration *m, struct kr_error *err)
{
    const struct kr_store_kind *kind = m->to.spec.kind;
    if (!kind->is_destination)
        return kr_fail(err, KR_USAGE, "a %s is only a source", kind->name);
    if (!kind->is_clear || cli_flag(m->cli, OPT_IN_THE_CLEAR))
        return KR_OK;
    kr_fail(err, KR_REFUSED, "a %s holds keys that whoever reads the file can use", kind->name);
    kr_hint(err, "if that is what you want: --allow-keys-in-the-clear");
    return err->status;
}

static enum kr_status choose_cipher(struct migration *m, struct kr_error *err)
{
    const char *name = m->cli->values[OPT_CIPHER];
    m->cipher = KR_CIPHER_AES_CBC;
    if (name && strcmp(m->from.spec.kind->name, "file-key-management") != 0)
        return kr_fail(err, KR_USAGE, "--cipher is for keys from a file-key-management");
    if (!name || (kr_cipher_parse(name, &m->cipher) && !kr_cipher_derives(m->cipher)))
        return KR_OK;
    return kr_fail(err, KR_USAGE, "file_key_management uses its keys with aes-cbc or aes-ctr");
}

static enum kr_status parse_command(struct migration *m, struct kr_error *err)
{
    KR_TRY(parse_end(m->cli, OPT_FROM, &m->from, err));
    KR_TRY(parse_end(m->cli, OPT_TO, &m->to, err));
    KR_TRY(choose_cipher(m, err));
    return check_destination(m, err);
}

/* --- whose the result is ---------------------------------------------------------------------- */

static enum kr_status load_config(const struct cli *cli, struct end *end, struct kr_error *err)
{
    if (end->spec.kind->is_file)
        return KR_OK;
    if (end->spec.path)
        KR_TRY(kr_config_load(end->spec.path, &end->config, err));
    else
        KR_TRY(cli_read_config(cli, &end->config, err));
    return kr_config_require(end->config, err);
}

static const char *file_of(const struct end *end)
{
    return end->spec.kind->is_file ? end->spec.path : end->config->keyring.keystore;
}

static enum kr_status find_account(const char *name, struct stat *ret, struct kr_error *err)
{
    const struct passwd *user = getpwnam(name);
    if (!user)
        return kr_fail(err, KR_USAGE, "there is no account '%s'", name);
    ret->st_uid = user->pw_uid;
    ret->st_gid = user->pw_gid;
    return KR_OK;
}

static enum kr_status fail_owner(const char *path, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "%s belongs to another account than the result is to", path);
    kr_hint(err, "give the command as the account that reads the one and writes the other");
    return err->status;
}

/* As root nobody but the owner of the result is meant: a file of root's locks the server out. */
static enum kr_status find_owner(const struct migration *m, struct stat *ret, struct kr_error *err)
{
    const char *name = m->cli->values[OPT_OWNER], *path = file_of(&m->to);
    struct stat wanted = {0}, there;
    bool exists = stat(path, &there) == 0;
    if (name)
        KR_TRY(find_account(name, &wanted, err));
    if (name && exists && wanted.st_uid != there.st_uid)
        return fail_owner(path, err);
    if (!name && !exists) {
        kr_fail(err, KR_REFUSED, "as root it must be said whom the result is to belong to");
        kr_hint(err, "--owner ACCOUNT, the one that the server runs as");
        return err->status;
    }
    *ret = exists ? there : wanted;
    return KR_OK;
}

static enum kr_status act_as_owner(const struct migration *m, struct kr_error *err)
{
    const char *name = m->cli->values[OPT_OWNER];
    struct stat owner = {0}, source;
    if (geteuid() == 0) {
        KR_TRY(find_owner(m, &owner, err));
        if (!m->from.spec.kind->is_file && stat(file_of(&m->from), &source) == 0 &&
            source.st_uid != owner.st_uid)
            return fail_owner(file_of(&m->from), err);
        return owner.st_uid == 0 ? KR_OK : cli_act_as(owner.st_uid, owner.st_gid, err);
    }
    if (!name)
        return KR_OK;
    KR_TRY(find_account(name, &owner, err));
    return owner.st_uid == geteuid()
               ? KR_OK
               : kr_fail(err, KR_REFUSED, "only root can make files for '%s'", name);
}

/* --- running servers -------------------------------------------------------------------------- */

/* Beside the keystore, where `--repair` finds it; without one beside the destination. */
static char *record_path(const struct migration *m)
{
    bool source_is_ours = m->to.spec.kind->is_file && !m->from.spec.kind->is_file;
    return kr_pause_record_path(file_of(source_is_ours ? &m->from : &m->to));
}

static enum kr_status open_pause(struct migration *m, struct kr_error *err)
{
    struct cli *cli = m->cli;
    struct kr_server_options options = {.password = NULL};
    if (cli->servers.count == 0)
        return KR_OK;
    KR_TRY(cli_password_source(cli, &options.password, err));
    char *record = record_path(m);
    if (!record)
        return kr_fail_memory(err);
    enum kr_status status =
        kr_pause_open(cli->servers.at, cli->servers.count, &options, record, &m->pause, err);
    free(record);
    return status;
}

static enum kr_status check_pause(void *pause, struct kr_error *err)
{
    return pause ? kr_pause_check(pause, err) : KR_OK;
}

static json_t *server_rows(const struct migration *m)
{
    static const char *const states[] = {[KR_PAUSE_ON] = "on",
                                         [KR_PAUSE_OFF] = "paused",
                                         [KR_PAUSE_WAS_OFF] = "was-paused",
                                         [KR_PAUSE_NONE] = "none",
                                         [KR_PAUSE_ENDED] = "ended"};
    json_t *rows = json_array();
    size_t count = 0;
    const struct kr_paused_server *servers = m->pause ? kr_pause_list(m->pause, &count) : NULL;
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, json_pack("{s:o, s:s}", "name", cli_text(servers[i].name),
                                              "state", states[servers[i].state]));
    return rows;
}

/* --- both ends -------------------------------------------------------------------------------- */

static enum kr_status read_password(const struct cli *cli, enum cli_option option, struct end *end,
                                    struct kr_error *err)
{
    const char *source_text = cli->values[option];
    struct kr_pin_source *source = NULL;
    size_t len;
    char *what;
    if (!source_text)
        return KR_OK;
    if (strcmp(end->spec.kind->name, "file-key-management") != 0)
        return kr_fail(err, KR_USAGE, "--%s is for a file-key-management",
                       cli_options[option].name);
    if (asprintf(&what, "password of %s", end->spec.path) < 0)
        return kr_fail_memory(err);
    enum kr_status status = kr_pin_source_new(source_text, what, &source, err);
    free(what);
    if (status == KR_OK)
        status = kr_pin_source_read(source, &end->password, &len, err);
    kr_pin_source_free(source);
    return status;
}

static enum kr_status open_end(const struct migration *m, struct end *end, bool writable,
                               struct kr_error *err)
{
    const struct kr_store_options options = {.writable = writable,
                                             .config = end->config,
                                             .password = end->password,
                                             .cipher = m->cipher};
    return kr_store_open(&end->spec, &options, &end->store, err);
}

static enum kr_status open_ends(struct migration *m, struct kr_error *err)
{
    KR_TRY(read_password(m->cli, OPT_FROM_PASSWORD, &m->from, err));
    KR_TRY(read_password(m->cli, OPT_TO_PASSWORD, &m->to, err));
    KR_TRY(open_end(m, &m->from, false, err));
    return open_end(m, &m->to, true, err);
}

static void warn_of_places(struct migration *m)
{
    char *directory = kr_store_data_directory(m->to.store);
    if (kr_store_is_open_to_others(m->from.store))
        cli_warn(m->cli, "%s can be read by others than its owner: they may have the keys",
                 kr_store_path(m->from.store));
    if (directory)
        cli_warn(m->cli,
                 "%s is inside the data directory %s: a copy or backup of the data has it too",
                 kr_store_path(m->to.store), directory);
    if (m->to.spec.kind->is_clear)
        cli_warn(m->cli, "%s holds keys%s: whoever reads it can decrypt the data",
                 kr_store_path(m->to.store),
                 m->to.password ? ", under a password alone" : " in the clear");
    free(directory);
}

/* --- the copy --------------------------------------------------------------------------------- */

static const char *why_not(const struct kr_set_key *key)
{
    if (key->presence != KR_ABSENT)
        return key->presence == KR_EQUAL ? "it is at the destination already"
                                         : "the destination has another key of that name";
    return key->stuck;
}

static enum kr_status refuse_keys(struct migration *m, struct kr_error *err)
{
    bool resident = false;
    for (size_t i = 0; i < m->set.count; i++) {
        const char *why = why_not(&m->set.keys[i]);
        char text[KR_SET_KEY_TEXT];
        if (!why)
            continue;
        m->refused++;
        resident |= m->set.keys[i].bytes == NULL;
        kr_set_key_text(&m->set.keys[i], text);
        cli_note("%s: %s", text, why);
    }
    if (m->refused == 0)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%zu of %zu keys cannot be copied to %s: nothing was written",
            m->refused, m->set.count, kr_store_path(m->to.store));
    if (resident)
        kr_hint(err, "a server leaves a master key in the token by a rotation to its next keyring: "
                     "see USAGE-mysql");
    return err->status;
}

static enum kr_status look(struct migration *m, struct kr_error *err)
{
    KR_TRY(kr_store_read(m->from.store, &m->set, err));
    KR_TRY(kr_store_survey(m->to.store, &m->set, err));
    return refuse_keys(m, err);
}

static enum kr_status add(struct migration *m, struct kr_error *err)
{
    struct cli_progress progress;
    const struct kr_import_options options = {.event = "migrate",
                                              .detail = m->from.text,
                                              .progress = cli_progress_step,
                                              .context = &progress,
                                              .may_commit = check_pause,
                                              .commit_context = m->pause};
    KR_TRY(cli_progress_begin(m->cli, &progress, err));
    progress.unit = "keys";
    enum kr_status status = kr_store_add(m->to.store, &m->set, &options, err);
    m->interrupted = status == KR_REFUSED && !cli_progress_step(0, m->set.count, &progress);
    cli_progress_end(&progress);
    return status;
}

/* --- what is said ----------------------------------------------------------------------------- */

static json_t *key_row(const struct kr_set_key *key)
{
    const char *why = why_not(key);
    if (key->kind == KR_KEY_DATA)
        return json_pack("{s:s, s:I, s:I, s:s, s:s?}", "kind", "data-key", "id",
                         (json_int_t)key->id, "version", (json_int_t)key->version, "cipher",
                         kr_cipher_name(key->cipher), "refused", why);
    return json_pack("{s:s, s:o, s:o, s:o, s:s?}", "kind", "secret", "name", cli_text(key->name),
                     "owner", cli_text(key->owner), "type", cli_text(key->type), "refused", why);
}

static json_t *result_of(const struct migration *m, bool copied)
{
    json_t *rows = json_array(), *next = json_array();
    size_t secrets = 0;
    for (size_t i = 0; i < m->set.count; i++) {
        secrets += m->set.keys[i].kind == KR_KEY_SECRET;
        json_array_append_new(rows, key_row(&m->set.keys[i]));
    }
    if (copied)
        migrate_next(m->from.spec.kind, m->to.spec.kind, next);
    return json_pack("{s:o, s:o, s:b, s:I, s:I, s:I, s:o, s:o, s:o}", "from",
                     cli_text(m->from.text), "to", cli_text(m->to.text), "copied", copied,
                     "data_keys", (json_int_t)(m->set.count - secrets), "secrets",
                     (json_int_t)secrets, "refused", (json_int_t)m->refused, "servers",
                     server_rows(m), "keys", rows, "next", next);
}

static void print_report(const struct migration *m, const json_t *result)
{
    const json_t *step;
    size_t i;
    long long data = json_integer_value(json_object_get(result, "data_keys")),
              secrets = json_integer_value(json_object_get(result, "secrets"));
    if (data > 0)
        printf("%lld data keys%s", data, secrets > 0 ? " and " : "");
    if (secrets > 0)
        printf("%lld secrets", secrets);
    printf(" copied from %s to %s, read back and compared\n", m->from.text, m->to.text);
    json_array_foreach(json_object_get(result, "servers"), i, step)
        printf("server: %s, %s meanwhile\n", json_string_value(json_object_get(step, "name")),
               json_string_value(json_object_get(step, "state")));
    json_array_foreach(json_object_get(result, "next"), i, step)
        printf("next: %s\n", json_string_value(step));
}

static enum kr_status print_result(const struct migration *m, bool copied, struct kr_error *err)
{
    CLI_JSON result = result_of(m, copied);
    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(m->cli, result) && copied)
        print_report(m, result);
    return KR_OK;
}

/* With --json the keys are told, and the exit code is the error's. */
static enum kr_status tell_refusal(struct migration *m, struct kr_error *err)
{
    if (m->refused == 0 || !cli_flag(m->cli, OPT_JSON))
        return err->status;
    m->cli->exit_code = cli_exit_code(err->status);
    return print_result(m, false, err);
}

static enum kr_status copy_keys(struct migration *m, struct kr_error *err)
{
    if (look(m, err) != KR_OK)
        return tell_refusal(m, err);
    if (cli_flag(m->cli, OPT_DRY_RUN))
        return cli_plan(m->cli, err, "copy %zu keys from %s to %s", m->set.count, m->from.text,
                        m->to.text);
    warn_of_places(m);
    if (add(m, err) == KR_OK)
        return print_result(m, true, err);
    if (!m->interrupted)
        return err->status;
    cli_note("interrupted: no key was added; the same command begins anew");
    m->cli->exit_code = CLI_EXIT_INTERRUPTED;
    return KR_OK;
}

/* Servers are resumed whatever became of the copy. */
static enum kr_status copy_while_paused(struct migration *m, struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    if (!m->pause || cli_flag(m->cli, OPT_DRY_RUN))
        return copy_keys(m, err);
    KR_TRY(kr_pause_servers(m->pause, err));
    enum kr_status status = copy_keys(m, err);
    if (kr_resume_servers(m->pause, &why) == KR_OK)
        return status;
    if (status != KR_OK) {
        cli_warn(m->cli, "%s", why.text);
        cli_hint("%s", why.hint);
        return status;
    }
    *err = why;
    kr_error_context(err, "the migration has ended, but");
    return err->status;
}

/* Servers are asked before root's rights are given up, and before there are secrets. */
static enum kr_status run(struct migration *m, struct kr_error *err)
{
    KR_TRY(parse_command(m, err));
    kr_audit_remember_user();
    KR_TRY(load_config(m->cli, &m->from, err));
    KR_TRY(load_config(m->cli, &m->to, err));
    KR_TRY(kr_store_check_distinct(file_of(&m->from), file_of(&m->to), err));
    KR_TRY(open_pause(m, err));
    KR_TRY(act_as_owner(m, err));
    KR_TRY(open_ends(m, err));
    return copy_while_paused(m, err);
}

static void close_end(struct end *end)
{
    kr_store_close(end->store);
    kr_secret_free(end->password);
    kr_config_free(end->config);
}

/* --- repair ----------------------------------------------------------------------------------- */

/* The record of the ends that are named, as the run had it; by default of the configured keyring.
 */
static enum kr_status find_record(struct migration *m, char **ret, struct kr_error *err)
{
    static const char *const ours = "p11keyring";
    const char *from = m->cli->values[OPT_FROM], *to = m->cli->values[OPT_TO];
    KR_TRY(kr_store_parse(from ? from : ours, &m->from.spec, err));
    KR_TRY(kr_store_parse(to ? to : ours, &m->to.spec, err));
    KR_TRY(load_config(m->cli, &m->from, err));
    KR_TRY(load_config(m->cli, &m->to, err));
    *ret = record_path(m);
    return *ret ? KR_OK : kr_fail_memory(err);
}

static enum kr_status repair(struct migration *m, struct kr_error *err)
{
    struct kr_paused_server servers[KR_PAUSE_SERVERS_MAX];
    size_t count = 0;
    char *record = NULL;
    KR_TRY(find_record(m, &record, err));
    struct kr_server_options options = {.password = NULL};
    enum kr_status status = cli_password_source(m->cli, &options.password, err);
    if (status == KR_OK)
        status = kr_pause_repair(record, &options, servers, &count, err);
    free(record);
    KR_TRY(status);
    CLI_JSON result = json_pack("{s:I}", "resumed", (json_int_t)count);
    if (!result)
        return kr_fail_memory(err);
    if (cli_print_json(m->cli, result))
        return KR_OK;
    for (size_t i = 0; i < count; i++)
        printf("resumed: %s\n", servers[i].name);
    if (count == 0)
        puts("no server is recorded as paused");
    return KR_OK;
}

enum kr_status cli_run_migrate(struct cli *cli, struct kr_error *err)
{
    struct migration m = {.cli = cli};
    enum kr_status status = cli_flag(cli, OPT_REPAIR) ? repair(&m, err) : run(&m, err);
    kr_pause_close(m.pause);
    kr_key_set_free(&m.set);
    close_end(&m.from);
    close_end(&m.to);
    return status;
}
