/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Evidence of use: one JSON object, and a MAC over its canonical text. */
#include "files/evidence.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/io.h"
#include "files/output.h"
#include "wrap/json_text.h"

#define SCHEMA "p11keyring.usage-evidence/1"
#define PURPOSE "p11keyring evidence of use 1"

enum { FILE_MAX = 64 * 1024 * 1024, CLOCKS_DIFFER_S = 300, MAC_TEXT = 2 * KR_VOUCH_BYTES + 1 };

static void free_json(json_t **json)
{
    json_decref(*json);
}
#define JSON_OWNED __attribute__((cleanup(free_json))) json_t *

static void free_text(char **text)
{
    free(*text);
}
#define TEXT_OWNED __attribute__((cleanup(free_text))) char *

/* Over the text that the object always has: sorted, without blanks. */
static enum kr_status mac_of(const json_t *evidence, struct kr_keyring *keyring, char ret[MAC_TEXT],
                             struct kr_error *err)
{
    TEXT_OWNED text = json_dumps(evidence, JSON_COMPACT | JSON_SORT_KEYS);
    uint8_t mac[KR_VOUCH_BYTES];
    if (!text)
        return kr_fail_memory(err);
    KR_TRY(kr_keyring_vouch(keyring, PURPOSE, (const uint8_t *)text, strlen(text), mac, err));
    kr_hex_encode(mac, sizeof(mac), ret);
    return KR_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

static json_t *keys_json(const struct kr_usage *usage)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < usage->key_count; i++) {
        const struct kr_usage_key *key = &usage->keys[i];
        if (key->files == 0)
            continue;
        json_array_append_new(
            keys, json_pack("{s:o, s:b, s:I, s:I, s:I}", "name", kr_json_text(key->name), "master",
                            key->master, "id", (json_int_t)key->id, "version",
                            (json_int_t)key->version, "files", (json_int_t)key->files));
    }
    return keys;
}

static json_t *paths_json(const struct kr_evidence_scope *scope)
{
    json_t *paths = json_array();
    for (size_t i = 0; i < scope->count; i++) {
        TEXT_OWNED path = realpath(scope->paths[i], NULL);
        json_array_append_new(paths, kr_json_text(path));
    }
    return paths;
}

static json_t *evidence_json(const struct kr_usage *usage, const struct kr_evidence_scope *scope,
                             const struct kr_config *config)
{
    bool complete = usage->silent == 0 && (usage->unknown == 0 || scope->ignore_unknown);
    return json_pack("{s:o, s:I, s:o, s:b, s:b, s:I, s:I, s:I, s:o}", "keyring",
                     kr_json_text(config->keyring.name), "written", (json_int_t)time(NULL),
                     "directories", paths_json(scope), "complete", complete, "ignore_unknown",
                     scope->ignore_unknown, "files", (json_int_t)usage->files, "silent_files",
                     (json_int_t)usage->silent, "unknown_files", (json_int_t)usage->unknown, "keys",
                     keys_json(usage));
}

static enum kr_status write_text(const char *path, const char *text, struct kr_error *err)
{
    KR_OUTPUT output = {.fd = -1, .folder = -1};
    size_t len = strlen(text), done = 0;
    KR_TRY(kr_output_open(path, &output, err));
    while (done < len) {
        ssize_t put = write(output.fd, text + done, len - done);
        if (put < 0 && errno != EINTR)
            return kr_fail(err, KR_IO, "cannot write %s: %s", path, strerror(errno));
        done += put > 0 ? (size_t)put : 0;
    }
    return kr_output_commit(&output, err);
}

enum kr_status kr_evidence_write(const struct kr_usage *usage,
                                 const struct kr_evidence_scope *scope,
                                 const struct kr_config *config, struct kr_keyring *keyring,
                                 const char *path, struct kr_error *err)
{
    JSON_OWNED evidence = evidence_json(usage, scope, config);
    char mac[MAC_TEXT];
    if (!evidence)
        return kr_fail_memory(err);
    KR_TRY(mac_of(evidence, keyring, mac, err));
    JSON_OWNED file =
        json_pack("{s:s, s:O, s:s}", "schema", SCHEMA, "evidence", evidence, "mac", mac);
    TEXT_OWNED text = file ? json_dumps(file, JSON_INDENT(2)) : NULL;
    return text ? write_text(path, text, err) : kr_fail_memory(err);
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum kr_status refuse(struct kr_error *err, const char *path, const char *why)
{
    kr_fail(err, KR_REFUSED, "the evidence %s does not count: %s", path, why);
    kr_hint(err,
            "p11keyring usage DIR... -o FILE makes new evidence, of every configured directory");
    return err->status;
}

static enum kr_status read_file(const char *path, char **ret, struct kr_error *err)
{
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size < 0 || lseek(fd, 0, SEEK_SET) != 0)
        return kr_fail(err, KR_IO, "cannot open %s: %s", path, strerror(errno));
    if (size > FILE_MAX)
        return refuse(err, path, "it is too long to be any");
    TEXT_OWNED text = calloc(1, (size_t)size + 1);
    if (!text)
        return kr_fail_memory(err);
    if (kr_read_full(fd, text, (size_t)size) != size)
        return kr_fail(err, KR_IO, "cannot read %s", path);
    *ret = text;
    text = NULL;
    return KR_OK;
}

/* The evidence, once it is known to be what the keyring wrote. */
static enum kr_status read_evidence(const char *path, struct kr_keyring *keyring, json_t **ret,
                                    struct kr_error *err)
{
    TEXT_OWNED text = NULL;
    char mac[MAC_TEXT];
    KR_TRY(read_file(path, &text, err));
    JSON_OWNED file = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *schema = json_string_value(json_object_get(file, "schema"));
    const char *found = json_string_value(json_object_get(file, "mac"));
    json_t *evidence = json_object_get(file, "evidence");
    if (!schema || strcmp(schema, SCHEMA) != 0 || !found || !json_is_object(evidence))
        return refuse(err, path, "it is no evidence of use");
    KR_TRY(mac_of(evidence, keyring, mac, err));
    if (strlen(found) != strlen(mac) || CRYPTO_memcmp(found, mac, strlen(mac)) != 0) {
        kr_fail(err, KR_INTEGRITY, "the evidence %s was changed, or is of another keyring", path);
        kr_hint(err, "p11keyring usage DIR... -o FILE makes new evidence");
        return err->status;
    }
    *ret = json_incref(evidence);
    return KR_OK;
}

/* --- does it count ---------------------------------------------------------------------------- */

static json_int_t number(const json_t *object, const char *field)
{
    return json_integer_value(json_object_get(object, field));
}

/* `folder` is `above`, or lies below it. */
static bool is_within(const char *folder, const char *above)
{
    size_t len = strlen(above);
    if (strcmp(above, "/") == 0)
        return true;
    return strncmp(folder, above, len) == 0 && (folder[len] == '/' || folder[len] == '\0');
}

static bool covers(const json_t *evidence, const char *folder)
{
    const json_t *paths = json_object_get(evidence, "directories");
    TEXT_OWNED real = realpath(folder, NULL);
    for (size_t i = 0; real && i < json_array_size(paths); i++) {
        const char *path = json_string_value(json_array_get(paths, i));
        if (path && is_within(real, path))
            return true;
    }
    return false;
}

static enum kr_status check_folders(const json_t *evidence, const char *path,
                                    const struct kr_config *config, struct kr_error *err)
{
    TEXT_OWNED folders =
        strdup(config->keyring.data_directories ? config->keyring.data_directories : "");
    char *rest = folders, *folder, why[300];
    if (!folders)
        return kr_fail_memory(err);
    if (!*folders) {
        kr_fail(err, KR_REFUSED,
                "no data directories are configured, so nothing is evidence about all of them");
        kr_hint(err, "set data-directories in [keyring] to every place where encrypted files and "
                     "backups lie");
        return err->status;
    }
    while ((folder = strsep(&rest, ":"))) {
        if (covers(evidence, folder))
            continue;
        snprintf(why, sizeof(why), "it is not about %.200s", folder);
        return refuse(err, path, why);
    }
    return KR_OK;
}

static enum kr_status check_counts(const json_t *evidence, const char *path,
                                   const struct kr_config *config, struct kr_error *err)
{
    json_int_t age = (json_int_t)time(NULL) - number(evidence, "written");
    if (age > KR_EVIDENCE_FRESH_S)
        return refuse(err, path, "it is older than a day");
    if (age < -CLOCKS_DIFFER_S)
        return refuse(err, path, "it is from the future");
    if (!json_is_true(json_object_get(evidence, "complete")))
        return refuse(err, path, "some files could not be asked what they need");
    return check_folders(evidence, path, config, err);
}

static bool is_for(const json_t *entry, const struct kr_usage_key *key)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    return name && strcmp(name, key->name) == 0 &&
           json_is_true(json_object_get(entry, "master")) == key->master &&
           number(entry, "id") == key->id && number(entry, "version") == key->version;
}

static enum kr_status check_key(const json_t *evidence, const struct kr_usage_key *key,
                                struct kr_error *err)
{
    const json_t *keys = json_object_get(evidence, "keys");
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const json_t *entry = json_array_get(keys, i);
        if (!is_for(entry, key))
            continue;
        kr_fail(err, KR_REFUSED, "%lld files still need this key",
                (long long)number(entry, "files"));
        kr_hint(err, "p11keyring usage DIR... --verbose lists them");
        return err->status;
    }
    return KR_OK;
}

enum kr_status kr_evidence_check(const char *path, const struct kr_config *config,
                                 struct kr_keyring *keyring, const struct kr_usage_key *key,
                                 char ret_text[KR_EVIDENCE_TEXT], struct kr_error *err)
{
    JSON_OWNED evidence = NULL;
    KR_TRY(read_evidence(path, keyring, &evidence, err));
    KR_TRY(check_counts(evidence, path, config, err));
    KR_TRY(check_key(evidence, key, err));
    snprintf(ret_text, KR_EVIDENCE_TEXT, "evidence of %lld files, written at %lld%s",
             (long long)number(evidence, "files"), (long long)number(evidence, "written"),
             json_is_true(json_object_get(evidence, "ignore_unknown")) ? ", unknown kinds ignored"
                                                                       : "");
    return KR_OK;
}
