/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Keys out of the files of MySQL's own keyrings. */
#include "migrate/mysql_files.h"

#include <stdlib.h>
#include <string.h>

#include "provider/secrets.h"

struct taking {
    struct kr_key_set *set;
    uint8_t *bytes; /* secret memory, for one key */
    struct kr_error *err;
    enum kr_status status; /* the first failure */
};

/* A name with a NUL in it would be taken for a shorter one. */
static char *copy_part(const struct kr_mysql_keyring_part *part)
{
    return part->at && !memchr(part->at, '\0', part->len) ? strndup(part->at, part->len) : NULL;
}

static enum kr_status add_key(struct taking *taking, const struct kr_mysql_keyring_key *key,
                              struct kr_set_key *copy)
{
    struct kr_error *err = taking->err;
    if (!copy->name || !copy->owner || !copy->type)
        return kr_fail(err, KR_INTEGRITY, "the key '%s' lacks a name, a user or a type", key->id);
    if (key->bits == 0 || key->bits / 8 > KR_SECRET_BYTES_MAX)
        return kr_fail(err, KR_INTEGRITY, "the key '%s' has %zu bytes, not 1 to %d", key->id,
                       key->bits / 8, KR_SECRET_BYTES_MAX);
    if (!kr_mysql_keyring_open(key, taking->bytes))
        return kr_fail(err, KR_INTEGRITY, "the key '%s' is not hexadecimal", key->id);
    copy->bytes = taking->bytes;
    copy->len = key->bits / 8;
    return kr_key_set_add(taking->set, copy, err);
}

static void take_key(const struct kr_mysql_keyring_key *key, void *context)
{
    struct taking *taking = context;
    if (taking->status != KR_OK)
        return;
    struct kr_set_key copy = {.kind = KR_KEY_SECRET,
                              .name = copy_part(&key->name),
                              .owner = copy_part(&key->user),
                              .type = copy_part(&key->type)};
    taking->status = add_key(taking, key, &copy);
    free(copy.name);
    free(copy.owner);
    free(copy.type);
}

enum kr_status kr_mysql_file_parse(kr_mysql_file_reader read, const struct kr_file_text *text,
                                   struct kr_key_set *set, struct kr_error *err)
{
    KR_SECRET uint8_t *bytes = kr_secret_alloc(KR_SECRET_BYTES_MAX);
    struct taking taking = {.set = set, .bytes = bytes, .err = err};
    if (!bytes)
        return kr_fail_secret(err);
    if (text->len == 0)
        return KR_OK;
    const char *problem = read(text, take_key, &taking);
    if (taking.status != KR_OK)
        return taking.status;
    return problem ? kr_fail(err, KR_INTEGRITY, "%s", problem) : KR_OK;
}
