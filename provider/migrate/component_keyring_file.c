/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's component_keyring_file: JSON. All that jansson makes of it is in secret memory. */
#include <jansson.h>
#include <string.h>

#include "base/hex.h"
#include "migrate/mysql_files.h"

/* --- jansson in secret memory ----------------------------------------------------------------- */

struct allocators {
    json_malloc_t allocate;
    json_free_t release;
};

/* Nothing that was made before may be freed until kr_secret_free is no longer jansson's. */
static struct allocators keep_secret(void)
{
    struct allocators before;
    json_get_alloc_funcs(&before.allocate, &before.release);
    json_set_alloc_funcs(kr_secret_alloc, kr_secret_free);
    return before;
}

static void keep_no_longer(const struct allocators *before)
{
    json_set_alloc_funcs(before->allocate, before->release);
}

/* --- reading ---------------------------------------------------------------------------------- */

static const char *visit_keys(const struct kr_file_text *text, kr_mysql_keyring_visitor visit,
                              void *context)
{
    const struct allocators before = keep_secret();
    const char *problem = kr_mysql_keyring_json(text->bytes, text->len, visit, context);
    keep_no_longer(&before);
    return problem;
}

static enum kr_status parse(const struct kr_store *store, const struct kr_file_text *text,
                            struct kr_key_set *set, struct kr_error *err)
{
    (void)store;
    return kr_mysql_file_parse(visit_keys, text, set, err);
}

/* --- writing ---------------------------------------------------------------------------------- */

static const char *refuse(const struct kr_key_set *set, const struct kr_set_key *key)
{
    (void)set;
    return key->kind == KR_KEY_DATA ? "it is a data key of MariaDB, and that is a keyring of MySQL"
                                    : NULL;
}

static json_t *read_root(const struct kr_file_text *text)
{
    json_t *root = text->len > 0 ? json_loadb(text->bytes, text->len, JSON_REJECT_DUPLICATES, NULL)
                                 : json_pack("{s:s, s:[]}", "version", "1.0", "elements");
    if (json_is_array(json_object_get(root, "elements")))
        return root;
    json_decref(root);
    return NULL;
}

static bool add_element(json_t *elements, const struct kr_set_key *key)
{
    KR_SECRET char *digits = kr_secret_alloc(2 * key->len + 1);
    if (!digits)
        return false;
    kr_hex_encode(key->bytes, key->len, digits);
    for (char *digit = digits; *digit; digit++)
        *digit = *digit >= 'a' ? (char)(*digit - 'a' + 'A') : *digit;
    json_t *element = json_pack("{s:s, s:s, s:s, s:s, s:[]}", "user", key->owner, "data_id",
                                key->name, "data_type", key->type, "data", digits, "extension");
    return json_array_append_new(elements, element) == 0;
}

static char *print(const struct kr_file_text *text, const struct kr_key_set *set)
{
    json_t *root = read_root(text), *elements = json_object_get(root, "elements");
    bool ok = root != NULL;
    for (size_t i = 0; i < set->count && ok; i++)
        if (set->keys[i].presence == KR_ABSENT)
            ok = add_element(elements, &set->keys[i]);
    char *printed = ok ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return printed;
}

static enum kr_status extend(const struct kr_store *store, const struct kr_file_text *text,
                             const struct kr_key_set *set, struct kr_file_text *ret,
                             struct kr_error *err)
{
    const struct allocators before = keep_secret();
    char *printed = print(text, set);
    keep_no_longer(&before);
    if (!printed) {
        kr_fail(err, KR_USAGE, "the keys cannot be written to %s as JSON", store->path);
        kr_hint(err, "it may be too large, or a key's name may be no UTF-8");
        return err->status;
    }
    *ret = (struct kr_file_text){printed, strlen(printed)};
    return KR_OK;
}

static const struct kr_file_format format = {
    .bytes_max = KR_MYSQL_FILE_BYTES_MAX,
    .has_backup = true,
    .parse = parse,
    .refuse = refuse,
    .extend = extend,
};

static enum kr_status open(struct kr_store *store, struct kr_error *err)
{
    return kr_file_store_open(store, &format, err);
}

const struct kr_store_kind kr_store_component_keyring_file = {
    .name = "component-keyring-file",
    .is_destination = true,
    .is_clear = true,
    .is_file = true,
    .open = open,
    .read = kr_file_store_read,
    .survey = kr_file_store_survey,
    .add = kr_file_store_add,
};
