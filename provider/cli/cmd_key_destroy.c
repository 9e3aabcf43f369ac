/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* key destroy: an old version of a data key, or an old master key of a MySQL server. */
#include <stdlib.h>
#include <string.h>

#include "file_rows.h"
#include "provider/secrets.h"

/* "1:3" is version 3 of data key 1; anything that does not begin with a digit is a name. */
static enum kr_status parse_key(const char *text, struct kr_usage_key *ret, struct kr_error *err)
{
    const char *colon = strchr(text, ':');
    char id[16];

    *ret = (struct kr_usage_key){0};
    if (*text < '0' || *text > '9') {
        int len = snprintf(ret->name, sizeof ret->name, "%s", text);
        if (len > 0 && (size_t)len < sizeof ret->name)
            return KR_OK;
        return kr_fail(err, KR_USAGE, "no master key of a server has a name like this");
    }
    if (!colon || (size_t)(colon - text) >= sizeof id)
        return kr_fail(err, KR_USAGE, "name the version, too: ID:VERSION");
    snprintf(id, sizeof id, "%.*s", (int)(colon - text), text);
    KR_TRY(cli_parse_id(id, &ret->id, err));
    return cli_parse_id(colon + 1, &ret->version, err);
}

/* What is needed of the keyring; the secrets are NULL for a data key. */
struct target {
    const struct kr_usage_key *key;
    struct kr_keyring *keyring;
    struct kr_secrets *secrets;
};

static enum kr_status destroy(const struct target *target, bool dry_run, const char *reason,
                              struct kr_error *err)
{
    const struct kr_usage_key *key = target->key;

    if (target->secrets)
        return kr_secrets_destroy_old(target->secrets, key->name, dry_run, reason, err);
    return kr_keyring_destroy_version(target->keyring, key->id, key->version, dry_run, reason, err);
}

static enum kr_status confirm(const struct cli *cli, const char *name, struct kr_error *err)
{
    char question[256], what[160];

    snprintf(question, sizeof question,
             "Key '%s' will be destroyed for good, and what it encrypted cannot be read any more.",
             name);
    snprintf(what, sizeof what, "destroying key '%s'", name);
    return cli_confirm_name(cli, name, question, what, err);
}

static enum kr_status run(struct cli *cli, const struct target *target, struct kr_error *err)
{
    const char *name = cli->args[0];
    char evidence[KR_EVIDENCE_TEXT];

    KR_TRY(destroy(target, true, NULL, err));
    if (cli_flag(cli, OPT_DRY_RUN))
        return cli_plan(cli, err, "destroy key '%s'", name);
    KR_TRY(cli_check_evidence(cli, target->keyring, target->key, evidence, err));
    KR_TRY(confirm(cli, name, err));
    KR_TRY(destroy(target, false, evidence, err));
    CLI_JSON result = json_pack("{s:o, s:b}", "key", cli_text(name), "destroyed", 1);
    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(cli, result))
        printf("key %s destroyed\n", name);
    return KR_OK;
}

enum kr_status cli_run_key_destroy(struct cli *cli, struct kr_error *err)
{
    CLI_KEYRING keyring = NULL;
    struct kr_usage_key key;
    struct target target = {.key = &key};

    KR_TRY(parse_key(cli->args[0], &key, err));
    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(kr_keyring_open(cli->config, &keyring, err));
    target.keyring = keyring;
    if (*key.name)
        KR_TRY(kr_secrets_open(keyring, &target.secrets, err));
    enum kr_status status = run(cli, &target, err);
    kr_secrets_close(target.secrets);
    return status;
}
