/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Keys in use that are older than their configured cryptoperiod (NIST SP 800-57 part 1, section
 * 5.3): current master keys, and the newest version of each data key that is not disabled. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "doctor.h"

enum { DAY = 86400 };

struct ages {
    int64_t now;
    unsigned limit;
    json_t *overdue;
    char id[520]; /* of the key whose newest version was seen last, and that version's time */
    int64_t created;
    bool disabled;
};

static enum kr_status add_overdue(struct ages *ages, const char *kind, const char *name,
                                  int64_t created, struct kr_error *err)
{
    int64_t age = ages->now - created;

    if (ages->limit == 0 || age < (int64_t)ages->limit)
        return KR_OK;
    json_t *row = json_pack("{s:s, s:o, s:o, s:I, s:I}", "kind", kind, "key", cli_text(name),
                            "created", cli_time(created), "age_days", (json_int_t)(age / DAY),
                            "limit_days", (json_int_t)(ages->limit / DAY));
    return json_array_append_new(ages->overdue, row) == 0 ? KR_OK : kr_fail_memory(err);
}

static enum kr_status add_masters(struct kr_keystore *keystore, struct ages *ages,
                                  struct kr_error *err)
{
    struct kr_master_row *rows = NULL;
    enum kr_status status = KR_OK;
    size_t count = 0;

    KR_TRY(kr_keystore_list_masters(keystore, &rows, &count, err));
    for (size_t i = 0; i < count && status == KR_OK; i++)
        if (rows[i].state == KR_MASTER_CURRENT)
            status = add_overdue(ages, "master key", rows[i].label, rows[i].created, err);
    free(rows);
    return status;
}

/* The versions of a key come in rising order: the last one seen before another key's is its newest.
 */
static enum kr_status end_key(struct ages *ages, struct kr_error *err)
{
    if (!ages->id[0] || ages->disabled)
        return KR_OK;
    return add_overdue(ages, "data key", ages->id, ages->created, err);
}

static enum kr_status see_version(const struct kr_version_row *row, void *context,
                                  struct kr_error *err)
{
    struct ages *ages = context;

    if (strcmp(row->id, ages->id) != 0) {
        KR_TRY(end_key(ages, err));
        snprintf(ages->id, sizeof ages->id, "%s", row->id);
    }
    ages->created = row->created;
    ages->disabled = row->key_disabled;
    return KR_OK;
}

enum kr_status cli_read_overdue(const struct cli *cli, struct kr_keystore *keystore, json_t **ret,
                                struct kr_error *err)
{
    CLI_JSON overdue = json_array();
    struct ages ages = {.now = (int64_t)time(NULL), .overdue = overdue};

    if (!overdue)
        return kr_fail_memory(err);
    ages.limit = cli->config->keyring.master_key_age;
    KR_TRY(add_masters(keystore, &ages, err));
    ages.limit = cli->config->keyring.data_key_age;
    KR_TRY(kr_keystore_each_version(keystore, KR_NS_MARIADB, see_version, &ages, err));
    KR_TRY(end_key(&ages, err));
    *ret = json_incref(overdue);
    return KR_OK;
}

void cli_warn_overdue(struct cli *cli, const json_t *overdue)
{
    const json_t *row;
    size_t i;

    json_array_foreach(overdue, i, row)
    {
        cli_warn(cli, "%s '%s' is %lld days old, its cryptoperiod is %lld days",
                 json_string_value(json_object_get(row, "kind")),
                 json_string_value(json_object_get(row, "key")),
                 (long long)json_integer_value(json_object_get(row, "age_days")),
                 (long long)json_integer_value(json_object_get(row, "limit_days")));
    }
    if (json_array_size(overdue) > 0)
        cli_hint("new ones: p11keyring master rotate, p11keyring key rotate ID");
}

static enum kr_status read_overdue(struct doctor *doctor, json_t **ret, struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;

    KR_TRY(cli_open_keystore(doctor->cli, &keystore, err));
    return cli_read_overdue(doctor->cli, keystore, ret, err);
}

void doctor_key_ages(struct doctor *doctor, struct finding *finding)
{
    const struct kr_config *config = doctor->cli->config;
    struct kr_error err = KR_ERROR_INIT;
    CLI_JSON overdue = NULL;

    if (!doctor->config_complete) {
        doctor_skip(finding, "the configuration is not complete");
    } else if (!config->keyring.master_key_age && !config->keyring.data_key_age) {
        doctor_skip(finding, "no cryptoperiod is configured (master-key-age, data-key-age)");
    } else if (read_overdue(doctor, &overdue, &err) != KR_OK) {
        doctor_fail_error(finding, &err);
    } else if (json_array_size(overdue) == 0) {
        doctor_ok(finding, "no key in use is older than its cryptoperiod");
    } else {
        doctor_warn(finding, "older than their cryptoperiod: %zu keys, the first one is %s '%s'",
                    json_array_size(overdue),
                    json_string_value(json_object_get(json_array_get(overdue, 0), "kind")),
                    json_string_value(json_object_get(json_array_get(overdue, 0), "key")));
        doctor_fix(finding, "p11keyring master rotate, p11keyring key rotate ID; all of them: "
                            "p11keyring status");
    }
}
