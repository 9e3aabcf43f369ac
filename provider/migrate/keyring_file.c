/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's plugin keyring_file, which newer servers do not have: a source alone. */
#include "migrate/mysql_files.h"

static const char *visit_keys(const struct kr_file_text *text, kr_mysql_keyring_visitor visit,
                              void *context)
{
    bool digest;
    return kr_mysql_keyring_plugin((const uint8_t *)text->bytes, text->len, visit, context,
                                   &digest);
}

static enum kr_status parse(const struct kr_store *store, const struct kr_file_text *text,
                            struct kr_key_set *set, struct kr_error *err)
{
    (void)store;
    return kr_mysql_file_parse(visit_keys, text, set, err);
}

static const struct kr_file_format format = {
    .bytes_max = KR_MYSQL_FILE_BYTES_MAX,
    .has_backup = true,
    .parse = parse,
};

static enum kr_status open(struct kr_store *store, struct kr_error *err)
{
    return kr_file_store_open(store, &format, err);
}

const struct kr_store_kind kr_store_keyring_file = {
    .name = "keyring-file",
    .is_clear = true,
    .is_file = true,
    .open = open,
    .read = kr_file_store_read,
};
