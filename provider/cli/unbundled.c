/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Keys that are in no bundle: the newest version of each data key, the newest of each series of
 * MySQL's master keys, and each other secret. What they encrypt cannot be restored elsewhere. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "doctor.h"
#include "provider/secrets.h"

struct look {
    json_t *newest; /* by series: {key, number, bundled} */
    bool ever;      /* some version is in a bundle */
};

/* Where the number begins that tells the keys of a series apart. */
static size_t stem_of(const char *name)
{
    size_t stem = strlen(name);

    while (stem > 0 && name[stem - 1] >= '0' && name[stem - 1] <= '9')
        stem--;
    return stem;
}

static json_int_t number_of(const json_t *object, const char *field)
{
    return json_integer_value(json_object_get(object, field));
}

/* A server's master keys have numbers; a secret of a user may end in digits and has an owner. */
static void series_of(const struct kr_version_row *row, char *ret, size_t size,
                      json_int_t *ret_number)
{
    const bool mysql = strcmp(row->ns, KR_NS_MYSQL) == 0;
    const size_t stem = stem_of(row->id);
    const bool numbered = mysql && !*row->owner && row->id[stem] && stem > 0;

    *ret_number =
        numbered ? (json_int_t)strtoll(row->id + stem, NULL, 10) : (json_int_t)row->version;
    snprintf(ret, size, "%s:%.*s:%s", row->ns, (int)(numbered ? stem : strlen(row->id)), row->id,
             row->owner);
}

static enum kr_status see_version(const struct kr_version_row *row, void *context,
                                  struct kr_error *err)
{
    struct look *look = context;
    char series[2048];
    json_int_t number;
    const json_t *there;

    look->ever |= row->bundled > 0;
    if (strcmp(row->ns, KR_NS_MARIADB) != 0 && strcmp(row->ns, KR_NS_MYSQL) != 0)
        return KR_OK;
    series_of(row, series, sizeof series, &number);
    there = json_object_get(look->newest, series);
    if (there && number_of(there, "version") > number)
        return KR_OK;
    json_t *newest = json_pack("{s:o, s:I, s:I}", "key", cli_text(row->id), "version", number,
                               "bundled", (json_int_t)row->bundled);
    return json_object_set_new(look->newest, series, newest) == 0 ? KR_OK : kr_fail_memory(err);
}

enum kr_status cli_read_unbundled(struct kr_keystore *keystore, json_t **ret, bool *ret_ever,
                                  struct kr_error *err)
{
    CLI_JSON newest = json_object();
    CLI_JSON rows = json_array();
    struct look look = {.newest = newest};
    const char *series;
    json_t *key;

    if (!newest || !rows)
        return kr_fail_memory(err);
    KR_TRY(kr_keystore_each_version(keystore, NULL, see_version, &look, err));
    json_object_foreach(newest, series, key)
    {
        if (number_of(key, "bundled") > 0)
            continue;
        json_object_del(key, "bundled");
        if (json_array_append(rows, key) != 0)
            return kr_fail_memory(err);
    }
    *ret = json_incref(rows);
    *ret_ever = look.ever;
    return KR_OK;
}

static const char *first_key(const json_t *rows)
{
    return json_string_value(json_object_get(json_array_get(rows, 0), "key"));
}

void cli_warn_unbundled(struct cli *cli, const json_t *rows, bool ever)
{
    if (json_array_size(rows) == 0 || cli->config->keyring.export_forbidden)
        return;
    if (!ever) {
        cli_note("no key is in a bundle; without keystore and token nothing can be restored: "
                 "p11keyring backup create");
        return;
    }
    cli_warn(cli, "%zu keys are in no bundle in their newest version, the first is %s",
             json_array_size(rows), first_key(rows));
    cli_hint("p11keyring backup create -o BUNDLE");
}

void cli_hint_bundle(const struct cli *cli, const char *what)
{
    if (!cli->config->keyring.export_forbidden)
        cli_hint("%s: p11keyring backup create -o BUNDLE", what);
}

static enum kr_status read_unbundled(const struct doctor *doctor, json_t **ret, bool *ret_ever,
                                     struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;

    KR_TRY(cli_open_keystore(doctor->cli, &keystore, err));
    return cli_read_unbundled(keystore, ret, ret_ever, err);
}

void doctor_bundles(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;
    CLI_JSON rows = NULL;
    bool ever = false;

    if (!doctor->config_complete) {
        doctor_skip(finding, "the configuration is not complete");
    } else if (doctor->cli->config->keyring.export_forbidden) {
        doctor_skip(finding, "keys may not leave the keyring (export = forbidden)");
    } else if (read_unbundled(doctor, &rows, &ever, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
    } else if (json_array_size(rows) == 0) {
        doctor_ok(finding, "every key is in a bundle in its newest version");
    } else if (!ever) {
        doctor_ok(finding, "no bundle was made yet: keystore and token together are all there is");
    } else {
        doctor_warn(finding, "%zu keys are in no bundle in their newest version, the first is %s",
                    json_array_size(rows), first_key(rows));
        doctor_fix(finding, "p11keyring backup create -o BUNDLE");
    }
}
