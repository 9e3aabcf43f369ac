/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* mariadb rotate: new versions for data keys, and every tablespace brought under them. */
#include <stdlib.h>
#include <string.h>

#include "mariadb_work.h"

#define OUR_PLUGIN "pkcs11_key_management"

/* A page is encrypted anew when its version plus the key age is below the latest version. */
enum { KEY_AGE = 1, KEYS_MAX = 256 };

struct rotation {
    struct mariadb_work work;
    enum kr_cipher cipher;
    size_t count;
    struct kr_key_target keys[KEYS_MAX];
    struct {
        uint32_t server; /* latest version that the server knew before */
        uint32_t latest; /* that the keyring had before */
        uint32_t oldest; /* that tablespaces have */
        bool resumed;
    } was[KEYS_MAX];
};

static void rotation_cleanup(struct rotation *rotation)
{
    mariadb_work_cleanup(&rotation->work);
}
#define ROTATION __attribute__((cleanup(rotation_cleanup))) struct rotation

/* --- which keys ------------------------------------------------------------------------------- */

static enum kr_status add_key(struct rotation *rotation, uint32_t id, struct kr_error *err)
{
    for (size_t i = 0; i < rotation->count; i++)
        if (rotation->keys[i].id == id)
            return KR_OK;
    if (rotation->count == KEYS_MAX)
        return kr_fail(err, KR_USAGE, "tablespaces are under more than %d keys: name keys",
                       (int)KEYS_MAX);
    rotation->keys[rotation->count++].id = id;
    return KR_OK;
}

/* Those that are named, else all that tablespaces are under. */
static enum kr_status choose_keys(struct rotation *rotation, struct kr_error *err)
{
    const struct cli *cli = rotation->work.cli;
    const struct kr_mariadb_state *state = &rotation->work.state;
    uint32_t id;

    for (int i = 0; i < cli->arg_count; i++) {
        KR_TRY(cli_parse_id(cli->args[i], &id, err));
        KR_TRY(add_key(rotation, id, err));
    }
    for (size_t i = 0; i < state->space_count && cli->arg_count == 0; i++)
        if (state->spaces[i].encrypted)
            KR_TRY(add_key(rotation, state->spaces[i].key_id, err));
    return KR_OK;
}

/* What the tablespaces of a key tell about it. */
static enum kr_status survey_key(struct rotation *rotation, size_t k, struct kr_error *err)
{
    const struct kr_mariadb_state *state = &rotation->work.state;

    rotation->was[k].oldest = UINT32_MAX;
    for (size_t i = 0; i < state->space_count; i++) {
        const struct kr_mariadb_space *space = &state->spaces[i];
        if (!space->encrypted || space->key_id != rotation->keys[k].id)
            continue;
        rotation->was[k].server = space->latest_version;
        if (space->min_version < rotation->was[k].oldest)
            rotation->was[k].oldest = space->min_version;
    }
    if (rotation->was[k].server > 0)
        return KR_OK;
    kr_fail(err, KR_NOT_FOUND, "no tablespace of this server is under key %u",
            rotation->keys[k].id);
    kr_hint(err,
            "p11keyring mariadb status shows the keys in use; p11keyring key rotate %u rotates "
            "this one",
            rotation->keys[k].id);
    return err->status;
}

static enum kr_status check_plugin(const struct rotation *rotation, struct kr_error *err)
{
    const char *plugin = rotation->work.state.settings.plugin;

    if (strcmp(plugin, OUR_PLUGIN) == 0)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%s has its keys from %s, not from a keyring of this tool",
            kr_server_info(rotation->work.conn)->name, *plugin ? plugin : "no plugin");
    kr_hint(err, "docs/USAGE-mariadb.md says how a server moves to " OUR_PLUGIN);
    return err->status;
}

/* --- new versions ----------------------------------------------------------------------------- */

/* Pages that are older than the latest version were left by an earlier run, or by the key age:
 * they can be brought under it without another version. */
static bool can_resume(const struct rotation *rotation, size_t k)
{
    return rotation->was[k].oldest + KEY_AGE < rotation->was[k].latest;
}

static enum kr_status check_keyring(struct rotation *rotation, const struct kr_keyring *keyring,
                                    struct kr_error *err)
{
    for (size_t k = 0; k < rotation->count; k++) {
        uint32_t id = rotation->keys[k].id, here = kr_keyring_latest(keyring, id);
        rotation->was[k].latest = here;
        if (here >= rotation->was[k].server)
            continue;
        kr_fail(err, KR_REFUSED, "key %u is at version %u in the server, and at %u in this keyring",
                id, rotation->was[k].server, here);
        kr_hint(err, "name the configuration that the server uses (--config): SHOW VARIABLES LIKE "
                     "'pkcs11_key_management_%%'");
        return err->status;
    }
    return KR_OK;
}

/* With rotation-step = 1 one more version is not enough for the server. */
static enum kr_status new_version(struct rotation *rotation, struct kr_keyring *keyring, size_t k,
                                  struct kr_error *err)
{
    struct kr_key_target *key = &rotation->keys[k];

    rotation->was[k].resumed = can_resume(rotation, k);
    key->version = rotation->was[k].latest;
    if (rotation->was[k].resumed)
        return KR_OK;
    do {
        KR_TRY(kr_keyring_rotate_key(keyring, key->id, rotation->cipher, &key->version, err));
    } while (key->version <= rotation->was[k].latest + KEY_AGE);
    return KR_OK;
}

static enum kr_status plan(const struct rotation *rotation, struct kr_error *err)
{
    size_t resumed = 0;

    for (size_t k = 0; k < rotation->count; k++)
        resumed += can_resume(rotation, k);
    return cli_plan(rotation->work.cli, err,
                    "rotate %zu keys, go on with %zu that have a new version, and wait for the "
                    "tablespaces under them",
                    rotation->count - resumed, resumed);
}

/* The keyring is opened as its owner: from here on we may have fewer rights. */
static enum kr_status make_versions(struct rotation *rotation, struct kr_error *err)
{
    CLI_KEYRING keyring = NULL;
    struct cli *cli = rotation->work.cli;

    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_cipher(cli, &rotation->cipher, err));
    KR_TRY(kr_keyring_open(cli->config, &keyring, err));
    KR_TRY(check_keyring(rotation, keyring, err));
    for (size_t k = 0; k < rotation->count && !cli_flag(cli, OPT_DRY_RUN); k++)
        KR_TRY(new_version(rotation, keyring, k, err));
    return KR_OK;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static enum kr_status carry_out(struct rotation *rotation, struct kr_error *err)
{
    const struct kr_key_targets targets = {rotation->keys, rotation->count};
    struct mariadb_work *work = &rotation->work;
    struct kr_mariadb_wait wait = {.behind = kr_mariadb_has_old_pages, .subject = &targets};
    uint64_t pages;

    KR_TRY(make_versions(rotation, err));
    mariadb_work_behind(work, &wait, &pages);
    wait.behind = kr_mariadb_has_not_heard;
    KR_TRY(mariadb_work_wait(work, wait, err));
    if (work->waited.stuck) {
        kr_fail(err, KR_IO,
                "the new versions are in the keystore, but the server does not take "
                "them over");
        kr_hint(err, "does it use this keystore, and pkcs11_key_management_operations = ON? See "
                     "its error log");
        return err->status;
    }
    wait.behind = kr_mariadb_has_old_pages;
    wait.pages = pages;
    return work->waited.interrupted ? KR_OK : mariadb_work_wait(work, wait, err);
}

static void judge(struct mariadb_work *work)
{
    if (work->waited.interrupted) {
        cli_note("interrupted: the server goes on by itself; run the same command again to watch "
                 "it: no key gets another version");
        work->cli->exit_code = CLI_EXIT_INTERRUPTED;
    } else if (work->waited.stuck) {
        cli_warn(work->cli, "the server has stopped to work on tablespaces that are left");
        cli_hint("see its error log, and p11keyring mariadb status");
    } else {
        cli_note("the redo log, binary logs and Aria tables keep the versions that they were "
                 "written with: p11keyring usage says which are needed");
    }
}

static enum kr_status print_result(const struct rotation *rotation, struct kr_error *err)
{
    const struct mariadb_work *work = &rotation->work;
    CLI_JSON keys = json_array();

    for (size_t k = 0; k < rotation->count; k++)
        json_array_append_new(keys,
                              json_pack("{s:I, s:I, s:b}", "id", (json_int_t)rotation->keys[k].id,
                                        "version", (json_int_t)rotation->keys[k].version, "resumed",
                                        rotation->was[k].resumed));
    bool finished = !work->waited.interrupted && !work->waited.stuck;
    CLI_JSON result = json_pack(
        "{s:o, s:b, s:b, s:I, s:f, s:O?}", "server", cli_text(kr_server_info(work->conn)->name),
        "finished", finished, "interrupted", work->waited.interrupted, "pages",
        (json_int_t)work->waited.pages, "seconds", mariadb_work_seconds(work), "keys", keys);
    if (!result || json_array_size(keys) != rotation->count)
        return kr_fail_memory(err);
    if (cli_print_json(work->cli, result))
        return KR_OK;
    for (size_t k = 0; k < rotation->count; k++)
        printf("key %u: version %u%s\n", rotation->keys[k].id, rotation->keys[k].version,
               rotation->was[k].resumed ? ", which it had before" : "");
    if (finished)
        printf("%s: every tablespace is under it, %llu pages encrypted anew\n",
               kr_server_info(work->conn)->name, (unsigned long long)work->waited.pages);
    return KR_OK;
}

enum kr_status cli_run_mariadb_rotate(struct cli *cli, struct kr_error *err)
{
    ROTATION rotation = {.count = 0};
    struct mariadb_work *work = &rotation.work;

    KR_TRY(mariadb_work_begin(cli, "to rotate its keys", work, err));
    KR_TRY(check_plugin(&rotation, err));
    KR_TRY(choose_keys(&rotation, err));
    for (size_t k = 0; k < rotation.count; k++)
        KR_TRY(survey_key(&rotation, k, err));
    KR_TRY(mariadb_work_check_threads(work, rotation.count, err));
    if (cli_flag(cli, OPT_DRY_RUN)) {
        KR_TRY(make_versions(&rotation, err));
        return plan(&rotation, err);
    }
    work->raise[KR_RAISED_AGE] = KEY_AGE;
    enum kr_status status = mariadb_work_raise(work, err);
    if (status == KR_OK)
        status = carry_out(&rotation, err);
    mariadb_work_put_back(work);
    KR_TRY(status);
    judge(work);
    return print_result(&rotation, err);
}
