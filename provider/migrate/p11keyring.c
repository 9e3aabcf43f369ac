/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A keyring of ours, whose keystore exists. */
#include "migrate/store_internal.h"

#include <string.h>

#include "provider/export.h"

static enum kr_status open(struct kr_store *store, struct kr_error *err)
{
    return kr_keyring_open(store->options.config, &store->keyring, err);
}

static enum kr_status read(struct kr_store *store, struct kr_key_set *set, struct kr_error *err)
{
    return kr_export(store->keyring, "migrate-read", set, err);
}

static enum kr_status survey(struct kr_store *store, struct kr_key_set *set, struct kr_error *err)
{
    return kr_import_survey(store->keyring, set, err);
}

static enum kr_status add(struct kr_store *store, const struct kr_key_set *set,
                          const struct kr_import_options *options, struct kr_error *err)
{
    struct kr_import_options ours = *options;
    ours.resident = strcmp(store->options.config->mysql.master_keys, "token") == 0;
    return kr_import(store->keyring, set, &ours, err);
}

static void close(struct kr_store *store)
{
    kr_keyring_close(store->keyring);
}

const struct kr_store_kind kr_store_p11keyring = {
    .name = "p11keyring",
    .is_destination = true,
    .open = open,
    .read = read,
    .survey = survey,
    .add = add,
    .close = close,
};
