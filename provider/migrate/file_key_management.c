/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Key files of MariaDB's file_key_management, plain or encrypted by openssl enc. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hex.h"
#include "formats/key_list.h"
#include "formats/openssl_enc.h"
#include "migrate/file_store.h"

enum {
    FILE_BYTES_MAX = 1024 * 1024, /* the server reads no more */
    LINE_BYTES_MAX = sizeof("4294967295;\n") + 64,
    SYSTEM_KEY = 1 /* without it the plugin does not load */
};

/* --- reading ---------------------------------------------------------------------------------- */

struct taking {
    const struct kr_store *store;
    struct kr_key_set *set;
    struct kr_error *err;
    enum kr_status status; /* the first failure */
};

static enum kr_status add_key(const struct taking *taking, uint32_t id, const char *digits,
                              unsigned bits)
{
    KR_SECRET uint8_t *bytes = kr_secret_alloc(32);
    if (!bytes)
        return kr_fail_secret(taking->err);
    const struct kr_set_key key = {.kind = KR_KEY_DATA,
                                   .id = id,
                                   .version = 1,
                                   .cipher = taking->store->options.cipher,
                                   .bytes = bytes,
                                   .len = bits / 8};
    if (!kr_hex_decode(digits, bits / 4, bytes))
        return kr_fail(taking->err, KR_INTEGRITY, "key %" PRIu32 " is not hexadecimal", id);
    return kr_key_set_add(taking->set, &key, taking->err);
}

static void take_key(uint32_t id, const char *digits, unsigned bits, void *context)
{
    struct taking *taking = context;
    if (taking->status == KR_OK)
        taking->status = add_key(taking, id, digits, bits);
}

static enum kr_status fail_password(const struct kr_store *store, const struct kr_file_text *text,
                                    struct kr_error *err)
{
    bool encrypted = kr_openssl_enc_is(text->bytes, text->len);
    kr_fail(err, KR_REFUSED,
            encrypted ? "it is encrypted, and no password is given"
                      : "it is not encrypted, but a password is given");
    if (encrypted)
        kr_hint(err, "--%s-password SOURCE", store->options.writable ? "to" : "from");
    return err->status;
}

/* The lines; *ret->bytes is secret memory. */
static enum kr_status open_text(const struct kr_store *store, const struct kr_file_text *text,
                                struct kr_file_text *ret, struct kr_error *err)
{
    const char *password = store->options.password;
    if (kr_openssl_enc_is(text->bytes, text->len) != (password != NULL))
        return fail_password(store, text, err);
    if (password)
        return kr_openssl_enc_open(text->bytes, text->len, password, &ret->bytes, &ret->len, err);
    ret->bytes = kr_secret_dup(text->bytes, text->len);
    ret->len = text->len;
    return ret->bytes ? KR_OK : kr_fail_secret(err);
}

/* Of 256 wrong passwords one gives lines that nobody wrote. */
static enum kr_status fail_line(const struct kr_store *store, unsigned line, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "line %u is not ID;KEY, with 32, 48 or 64 hexadecimal digits%s",
            line, store->options.password ? ", or the password is another one" : "");
    return err->status;
}

static enum kr_status parse(const struct kr_store *store, const struct kr_file_text *text,
                            struct kr_key_set *set, struct kr_error *err)
{
    struct taking taking = {.store = store, .set = set, .err = err};
    struct kr_file_text lines = {0};
    KR_TRY(open_text(store, text, &lines, err));
    unsigned wrong = kr_key_list_wrong_line(lines.bytes, lines.len);
    if (wrong == 0)
        (void)kr_key_list_parse(lines.bytes, lines.len, true, take_key, &taking);
    kr_secret_free(lines.bytes);
    return wrong ? fail_line(store, wrong, err) : taking.status;
}

/* --- writing ---------------------------------------------------------------------------------- */

static const char *refuse(const struct kr_key_set *set, const struct kr_set_key *key)
{
    if (key->kind == KR_KEY_SECRET)
        return "it is a secret of MySQL, and that is a keyring of MariaDB";
    if (key->version != 1)
        return "file_key_management knows version 1 of a key alone";
    if (kr_cipher_derives(key->cipher))
        return "file_key_management does not have its cipher";
    for (size_t i = 0; i < set->count; i++)
        if (set->keys[i].kind == KR_KEY_DATA && set->keys[i].cipher != key->cipher)
            return "file_key_management uses one cipher for all keys";
    return NULL;
}

static void add_line(struct kr_file_text *lines, const struct kr_set_key *key)
{
    char *at = lines->bytes + lines->len;
    at += sprintf(at, "%" PRIu32 ";", key->id);
    kr_hex_encode(key->bytes, key->len, at);
    at += 2 * key->len;
    *at++ = '\n';
    lines->len = (size_t)(at - lines->bytes);
}

/* The lines that are there, if any, with those of the new keys. */
static enum kr_status add_lines(const struct kr_store *store, const struct kr_file_text *text,
                                const struct kr_key_set *set, struct kr_file_text *ret,
                                struct kr_error *err)
{
    struct kr_file_text before = {0};
    if (text->bytes)
        KR_TRY(open_text(store, text, &before, err));
    struct kr_file_text lines = {.bytes =
                                     kr_secret_alloc(before.len + 2 + set->count * LINE_BYTES_MAX)};
    if (lines.bytes && before.len > 0) {
        memcpy(lines.bytes, before.bytes, before.len);
        lines.len = before.len;
        if (lines.bytes[lines.len - 1] != '\n')
            lines.bytes[lines.len++] = '\n';
    }
    kr_secret_free(before.bytes);
    if (!lines.bytes)
        return kr_fail_secret(err);
    for (size_t i = 0; i < set->count; i++)
        if (set->keys[i].presence == KR_ABSENT)
            add_line(&lines, &set->keys[i]);
    *ret = lines;
    return KR_OK;
}

static enum kr_status extend(const struct kr_store *store, const struct kr_file_text *text,
                             const struct kr_key_set *set, struct kr_file_text *ret,
                             struct kr_error *err)
{
    struct kr_file_text lines = {0};
    KR_TRY(add_lines(store, text, set, &lines, err));
    if (!store->options.password) {
        *ret = lines;
        return KR_OK;
    }
    enum kr_status status = kr_openssl_enc_seal(lines.bytes, lines.len, store->options.password,
                                                &ret->bytes, &ret->len, err);
    kr_secret_free(lines.bytes);
    return status;
}

static enum kr_status check(const struct kr_store *store, const struct kr_key_set *all,
                            struct kr_error *err)
{
    const struct kr_set_key system = {.kind = KR_KEY_DATA, .id = SYSTEM_KEY, .version = 1};
    if (kr_key_set_find(all, &system))
        return KR_OK;
    kr_fail(err, KR_REFUSED,
            "%s would have no key %d, without which file_key_management does "
            "not load",
            store->path, SYSTEM_KEY);
    kr_hint(err, "p11keyring key create %d", SYSTEM_KEY);
    return err->status;
}

static const struct kr_file_format format = {
    .bytes_max = FILE_BYTES_MAX,
    .parse = parse,
    .refuse = refuse,
    .extend = extend,
    .check = check,
};

static enum kr_status open(struct kr_store *store, struct kr_error *err)
{
    return kr_file_store_open(store, &format, err);
}

/* The file does not say with which cipher its keys are used: with that of the keys that come. */
static enum kr_status survey(struct kr_store *store, struct kr_key_set *set, struct kr_error *err)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->keys[i].kind == KR_KEY_DATA)
            store->options.cipher = set->keys[i].cipher;
    return kr_file_store_survey(store, set, err);
}

const struct kr_store_kind kr_store_file_key_management = {
    .name = "file-key-management",
    .is_destination = true,
    .is_clear = true,
    .is_file = true,
    .open = open,
    .read = kr_file_store_read,
    .survey = survey,
    .add = kr_file_store_add,
};
