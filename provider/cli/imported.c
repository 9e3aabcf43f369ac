/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's master keys that came from outside: named until they are gone. */
#include "cli.h"
#include "doctor.h"

#define WAY_ON                                                                                     \
    "ALTER INSTANCE ROTATE INNODB MASTER KEY and ROTATE BINLOG MASTER KEY give the server keys "   \
    "made in the token; then p11keyring key destroy NAME, when nothing needs it any more"

enum kr_status cli_read_imported(struct kr_keystore *keystore, json_t **ret, struct kr_error *err)
{
    CLI_JSON secrets = NULL;
    CLI_JSON imported = json_array();
    json_t *secret;
    size_t i;

    if (!imported)
        return kr_fail_memory(err);
    KR_TRY(cli_read_secrets(keystore, &secrets, err));
    json_array_foreach(secrets, i, secret)
    {
        if (json_is_true(json_object_get(secret, "imported")) &&
            json_array_append(imported, json_object_get(secret, "id")) != 0)
            return kr_fail_memory(err);
    }
    *ret = json_incref(imported);
    return KR_OK;
}

void cli_warn_imported(struct cli *cli, const json_t *imported)
{
    const json_t *name;
    size_t i;

    json_array_foreach(imported, i, name)
    {
        cli_warn(cli, "master key '%s' was imported: it was outside of the token once",
                 json_string_value(name));
    }
    if (json_array_size(imported) > 0)
        cli_hint(WAY_ON);
}

static enum kr_status read_imported(struct doctor *doctor, json_t **ret, struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;

    KR_TRY(cli_open_keystore(doctor->cli, &keystore, err));
    return cli_read_imported(keystore, ret, err);
}

void doctor_imported_keys(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;
    CLI_JSON imported = NULL;
    json_t *name;
    size_t i, len = 0;
    char names[512] = "";

    if (!doctor->config_complete) {
        doctor_skip(finding, "the configuration is not complete");
        return;
    }
    if (read_imported(doctor, &imported, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
        return;
    }
    if (json_array_size(imported) == 0) {
        doctor_ok(finding, "no master key of MySQL's came from outside of the token");
        return;
    }
    json_array_foreach(imported, i, name)
    {
        if (len < sizeof names)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", i ? ", " : "",
                                    json_string_value(name));
    }
    doctor_warn(finding, "%zu master keys of MySQL's were outside of the token once: %s",
                json_array_size(imported), names);
    doctor_fix(finding, WAY_ON);
}
