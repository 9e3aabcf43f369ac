/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * component_keyring_pkcs11.cnf, in JSON as MySQL users expect: {"config": INI-FILE}, or the INI
 * file's options as objects "token", "keyring", "mysql" and "pkcs11", or both; objects win. In the
 * plugin directory {"read_local_config": true} sends to the file of that name in the data
 * directory.
 */
#include "component.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

#define JSON_OWNED __attribute__((cleanup(json_cleanup)))
#define READ_LOCAL "read_local_config"

static void json_cleanup(json_t **json)
{
    json_decref(*json);
}

/* --- reading the file ------------------------------------------------------------------------- */

static enum kr_status parse(const char *path, int fd, json_t **ret, struct kr_error *err)
{
    json_error_t why;
    json_t *json = json_loadfd(fd, JSON_REJECT_DUPLICATES, &why);
    if (!json) {
        kr_fail(err, KR_CONFIG, "%s:%d: %s", path, why.line, why.text);
        kr_hint(err, "write it like this: {\"config\": \"" KR_CONFIG_DEFAULT_PATH "\"}");
        return err->status;
    }
    if (json_is_object(json)) {
        *ret = json;
        return KR_OK;
    }
    json_decref(json);
    kr_fail(err, KR_CONFIG, "%s is not a JSON object", path);
    kr_hint(err, "write it like this: {\"config\": \"" KR_CONFIG_DEFAULT_PATH "\"}");
    return err->status;
}

/* *ret stays NULL when there is no such file. */
static enum kr_status read_json(const char *path, json_t **ret, struct kr_error *err)
{
    struct stat st;
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT)
        return KR_OK;
    if (fd < 0 || fstat(fd, &st) != 0) {
        kr_fail(err, KR_CONFIG, "cannot open %s: %s", path, strerror(errno));
        kr_hint(err, "the server's user must be able to read it");
        return err->status;
    }
    KR_TRY(kr_config_check_file(path, &st, err));
    return parse(path, fd, ret, err);
}

static enum kr_status read_from(const char *folder, json_t **ret, char **ret_path,
                                struct kr_error *err)
{
    char *path = NULL;
    if (!folder || !folder[0])
        return KR_OK;
    if (asprintf(&path, "%s%s" COMPONENT_NAME ".cnf", folder,
                 folder[strlen(folder) - 1] == '/' ? "" : "/") < 0)
        return kr_fail_memory(err);
    enum kr_status status = read_json(path, ret, err);
    if (status == KR_OK && *ret)
        *ret_path = path;
    else
        free(path);
    return status;
}

/* --- taking its options ----------------------------------------------------------------------- */

static enum kr_status set_option(struct kr_config *config, const char *section, const char *name,
                                 const json_t *value, struct kr_error *err)
{
    char number[24];
    const char *text = json_string_value(value);
    if (json_is_integer(value)) {
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
        text = number;
    }
    if (!text) {
        kr_fail(err, KR_CONFIG, "%s.%s is neither a string nor a number", section, name);
        kr_hint(err, "write it like this: \"%s\": {\"%s\": \"...\"}", section, name);
        return err->status;
    }
    return kr_config_override(config, section, name, text, err);
}

static enum kr_status set_section(struct kr_config *config, const char *section, json_t *options,
                                  struct kr_error *err)
{
    static const char *const sections[] = {"token", "keyring", "mysql", "pkcs11"};
    bool known = false;
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
        known = known || strcmp(section, sections[i]) == 0;
    if (!known || !json_is_object(options)) {
        kr_fail(err, KR_CONFIG, known ? "\"%.60s\" is not an object" : "unknown name \"%.60s\"",
                section);
        kr_hint(err, "valid are \"config\": \"FILE\" and the objects \"token\", \"keyring\", "
                     "\"mysql\" and \"pkcs11\" with the options of that file");
        return err->status;
    }
    const char *name;
    json_t *value;
    json_object_foreach(options, name, value) KR_TRY(set_option(config, section, name, value, err));
    return KR_OK;
}

static enum kr_status load_ini(const json_t *json, struct kr_config **ret, struct kr_error *err)
{
    const json_t *named = json ? json_object_get(json, "config") : NULL;
    if (named && !json_is_string(named)) {
        kr_fail(err, KR_CONFIG, "\"config\" is not a string");
        kr_hint(err, "write it like this: {\"config\": \"" KR_CONFIG_DEFAULT_PATH "\"}");
        return err->status;
    }
    return kr_config_load(json_string_value(named), ret, err);
}

static enum kr_status apply(json_t *json, struct kr_config **ret, struct kr_error *err)
{
    KR_CONFIG_OWNED struct kr_config *config = NULL;
    const char *name;
    json_t *value;
    KR_TRY(load_ini(json, &config, err));
    json_object_foreach(json, name, value) if (strcmp(name, "config") != 0)
        KR_TRY(set_section(config, name, value, err));
    *ret = config;
    config = NULL;
    return KR_OK;
}

/* --- which file ------------------------------------------------------------------------------- */

/* False, and the name is gone from the object, unless the rest is to be read elsewhere. */
static enum kr_status is_elsewhere(json_t *json, bool *ret, struct kr_error *err)
{
    const json_t *value = json_object_get(json, READ_LOCAL);
    bool elsewhere = json_is_true(value);
    if (value && !json_is_boolean(value)) {
        kr_fail(err, KR_CONFIG, "\"" READ_LOCAL "\" is neither true nor false");
        kr_hint(err, "write it like this: {\"" READ_LOCAL "\": true}");
        return err->status;
    }
    if (elsewhere && json_object_size(json) > 1) {
        kr_fail(err, KR_CONFIG, "\"" READ_LOCAL "\" is true, but other names are given too");
        kr_hint(err, "move them to " COMPONENT_NAME ".cnf in the data directory");
        return err->status;
    }
    json_object_del(json, READ_LOCAL);
    *ret = elsewhere;
    return KR_OK;
}

static enum kr_status read_local(const char *instance_path, json_t **json, char **path,
                                 struct kr_error *err)
{
    json_decref(*json);
    *json = NULL;
    free(*path);
    *path = NULL;
    KR_TRY(read_from(instance_path, json, path, err));
    if (*json)
        return KR_OK;
    kr_fail(err, KR_CONFIG, "there is no " COMPONENT_NAME ".cnf in the data directory %s",
            instance_path ? instance_path : "");
    kr_hint(err, "make one, or take \"" READ_LOCAL "\" out of that in the plugin directory");
    return err->status;
}

static enum kr_status read_config(const char *component_path, const char *instance_path,
                                  json_t **json, char **path, struct kr_config **ret,
                                  struct kr_error *err)
{
    bool elsewhere = false;
    KR_TRY(read_from(component_path, json, path, err));
    if (*json)
        KR_TRY(is_elsewhere(*json, &elsewhere, err));
    if (elsewhere)
        KR_TRY(read_local(instance_path, json, path, err));
    return apply(*json, ret, err);
}

enum kr_status component_read_config(const char *component_path, const char *instance_path,
                                     struct kr_config **ret, struct kr_error *err)
{
    JSON_OWNED json_t *json = NULL;
    char *path = NULL;
    enum kr_status status = read_config(component_path, instance_path, &json, &path, ret, err);
    if (status != KR_OK && path)
        kr_error_context(err, "%s", path);
    free(path);
    return status;
}
