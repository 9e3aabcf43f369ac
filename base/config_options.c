/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Every option of the configuration: its section, its name, how its value is checked and where it
 * is kept. */
#include "base/config_options.h"

#include "base/pin_source.h"
#include "base/versions.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct option {
    const char *section, *name;
    enum kr_status (*set)(const struct option *option, const char *value, void *field,
                          struct kr_error *err);
    size_t offset;          /* of the field in struct kr_config or kr_token_config */
    const char *preset;     /* default; NULL: not set */
    unsigned min, max;      /* of a number, or the length of a name */
    const char *choices[5]; /* NULL-terminated */
};

#define SECTION_HINT "valid sections are [token:NAME], [keyring], [mariadb], [mysql] and [pkcs11]"

enum kr_status kr_option_replace(char **field, const char *value, struct kr_error *err)
{
    char *copy = strdup(value);
    if (!copy)
        return kr_fail_memory(err);
    free(*field);
    *field = copy;
    return KR_OK;
}

bool kr_option_is_name(const char *text, size_t max)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++)
        if (!isascii((unsigned char)text[i]) ||
            (!isalnum((unsigned char)text[i]) && !strchr("._-", text[i])))
            return false;
    return len >= 1 && len <= max;
}

static enum kr_status set_path(const struct option *option, const char *value, void *field,
                               struct kr_error *err)
{
    if (value[0] != '/') {
        kr_fail(err, KR_CONFIG, "%s is not a full path", option->name);
        kr_hint(err, "give a path that starts with '/', without quotes");
        return err->status;
    }
    return kr_option_replace(field, value, err);
}

static enum kr_status set_audit_log(const struct option *option, const char *value, void *field,
                                    struct kr_error *err)
{
    if (strcmp(value, "syslog") == 0)
        return kr_option_replace(field, value, err);
    enum kr_status status = set_path(option, value, field, err);
    if (status != KR_OK)
        kr_hint(err, "give a path that starts with '/', without quotes, or the word syslog");
    return status;
}

/* Each of them full. */
static enum kr_status set_paths(const struct option *option, const char *value, void *field,
                                struct kr_error *err)
{
    for (const char *path = value; path; path = strchr(path, ':')) {
        path += *path == ':';
        if (*path == '/')
            continue;
        kr_fail(err, KR_CONFIG, "%s has a path that is not full", option->name);
        kr_hint(err, "give paths that start with '/', with ':' in between");
        return err->status;
    }
    return kr_option_replace(field, value, err);
}

static enum kr_status set_uri(const struct option *option, const char *value, void *field,
                              struct kr_error *err)
{
    if (strcasestr(value, "pin-value")) {
        kr_fail(err, KR_CONFIG, "%s holds a PIN (pin-value), which any reader of it would see",
                option->name);
        kr_hint(err, "take pin-value out of the URI and name a source instead, for example "
                     "pin-source = file:/etc/p11keyring/pin");
        return err->status;
    }
    if (strncmp(value, "pkcs11:", 7) != 0) {
        kr_fail(err, KR_CONFIG, "%s is not a PKCS#11 URI", option->name);
        kr_hint(err, "write it as pkcs11:token=LABEL (RFC 7512); `p11keyring token list` shows "
                     "the URI of each token");
        return err->status;
    }
    return kr_option_replace(field, value, err);
}

static enum kr_status set_pin_source(const struct option *option, const char *value, void *field,
                                     struct kr_error *err)
{
    struct kr_pin_source *source = NULL;
    enum kr_status status = kr_pin_source_new(value, "PIN", &source, err);
    kr_pin_source_free(source);
    if (status != KR_OK) {
        kr_error_context(err, "%s", option->name);
        return status;
    }
    return kr_option_replace(field, value, err);
}

static enum kr_status set_name(const struct option *option, const char *value, void *field,
                               struct kr_error *err)
{
    if (!kr_option_is_name(value, option->max)) {
        kr_fail(err, KR_CONFIG, "%s is not usable as a name", option->name);
        kr_hint(err, "use 1 to %u of the characters A-Z a-z 0-9 . _ -", option->max);
        return err->status;
    }
    return kr_option_replace(field, value, err);
}

static enum kr_status set_versions(const struct option *option, const char *value, void *field,
                                   struct kr_error *err)
{
    if (!kr_versions_valid(value)) {
        kr_fail(err, KR_CONFIG, "%s is not a list of versions", option->name);
        kr_hint(err, "write it like this: %s = 8.4.3-8.4.7, 9.7", option->name);
        return err->status;
    }
    return kr_option_replace(field, value, err);
}

/* The index of the value among the option's choices, or -1 after filling the record. */
static int choose(const struct option *option, const char *value, struct kr_error *err)
{
    char valid[128] = "";
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], value) == 0)
            return i;
        size_t used = strlen(valid);
        snprintf(valid + used, sizeof(valid) - used, "%s%s", used ? ", " : "", option->choices[i]);
    }
    kr_fail(err, KR_CONFIG, "%s has a value that is not known", option->name);
    kr_hint(err, "valid values of %s: %s", option->name, valid);
    return -1;
}

static enum kr_status set_choice(const struct option *option, const char *value, void *field,
                                 struct kr_error *err)
{
    if (choose(option, value, err) < 0)
        return err->status;
    return kr_option_replace(field, value, err);
}

static enum kr_status set_lock_policy(const struct option *option, const char *value, void *field,
                                      struct kr_error *err)
{
    int choice = choose(option, value, err);
    if (choice < 0)
        return err->status;
    *(enum kr_lock_policy *)field = (enum kr_lock_policy)choice;
    return KR_OK;
}

/* The second of two choices is true. */
static enum kr_status set_yes_no(const struct option *option, const char *value, void *field,
                                 struct kr_error *err)
{
    int choice = choose(option, value, err);
    if (choice < 0)
        return err->status;
    *(bool *)field = choice == 1;
    return KR_OK;
}

/* Digits only: no sign, no blanks, no overflow. *ret_rest is what follows them. */
static bool read_number(const char *value, unsigned long *ret, const char **ret_rest)
{
    size_t digits = strspn(value, "0123456789");
    if (digits == 0 || digits > 9)
        return false;
    *ret = strtoul(value, NULL, 10);
    *ret_rest = value + digits;
    return true;
}

static enum kr_status set_count(const struct option *option, const char *value, void *field,
                                struct kr_error *err)
{
    unsigned long number;
    const char *rest;
    if (!read_number(value, &number, &rest) || *rest || number < option->min ||
        number > option->max) {
        kr_fail(err, KR_CONFIG, "%s is not a number from %u to %u", option->name, option->min,
                option->max);
        kr_hint(err, "give a plain number, for example %s = %s", option->name, option->preset);
        return err->status;
    }
    *(unsigned *)field = (unsigned)number;
    return KR_OK;
}

static enum kr_status set_ms(const struct option *option, const char *value, void *field,
                             struct kr_error *err)
{
    unsigned long number;
    const char *rest;
    bool good = read_number(value, &number, &rest);
    if (good && strcmp(rest, "s") == 0)
        number *= 1000;
    else if (good && *rest && strcmp(rest, "ms") != 0)
        good = false;
    if (!good || number < option->min || number > option->max) {
        kr_fail(err, KR_CONFIG, "%s is not a time from %u ms to %u s", option->name, option->min,
                option->max / 1000);
        kr_hint(err, "give milliseconds, or a number with ms or s, for example %s = %s",
                option->name, option->preset);
        return err->status;
    }
    *(unsigned *)field = (unsigned)number;
    return KR_OK;
}

/* Longer times: seconds, minutes, hours or days; min and max are seconds. */
static enum kr_status set_span(const struct option *option, const char *value, void *field,
                               struct kr_error *err)
{
    static const struct {
        const char *unit;
        unsigned seconds;
    } units[] = {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    unsigned long number = 0, seconds = 0;
    const char *rest = "";
    bool good = read_number(value, &number, &rest);
    for (size_t i = 0; good && i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(rest, units[i].unit) == 0)
            seconds = number * units[i].seconds;
    if (seconds < option->min || seconds > option->max) {
        kr_fail(err, KR_CONFIG, "%s is not a time from %u s to %u d", option->name, option->min,
                option->max / 86400);
        kr_hint(err, "give a number with s, m, h or d, for example %s = 90d", option->name);
        return err->status;
    }
    *(unsigned *)field = (unsigned)seconds;
    return KR_OK;
}

/* A mechanism's number as vendors print it: 0x... or decimal. */
static enum kr_status set_code(const struct option *option, const char *value, void *field,
                               struct kr_error *err)
{
    bool hex = strncmp(value, "0x", 2) == 0;
    const char *digits = hex ? value + 2 : value;
    size_t len = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
    if (len == 0 || len > (hex ? 8u : 10u) || digits[len] ||
        strtoul(digits, NULL, hex ? 16 : 10) == 0) {
        kr_fail(err, KR_CONFIG, "%s is not the number of a mechanism", option->name);
        kr_hint(err, "write it as the vendor's header does, for example %s = 0x80000171",
                option->name);
        return err->status;
    }
    *(unsigned long *)field = strtoul(digits, NULL, hex ? 16 : 10);
    return KR_OK;
}

static enum kr_status set_text(const struct option *option, const char *value, void *field,
                               struct kr_error *err)
{
    (void)option;
    return kr_option_replace(field, value, err);
}

/* --- the table -------------------------------------------------------------------------------- */

#define FIELD(member) .offset = offsetof(struct kr_config, member)
#define TOKEN_FIELD(member) .offset = offsetof(struct kr_token_config, member)

/* clang-format off */
static const struct option options[] = {
    {"token", "module", set_path, TOKEN_FIELD(module)},
    {"token", "uri", set_uri, TOKEN_FIELD(uri)},
    {"token", "pin-source", set_pin_source, TOKEN_FIELD(pin_source)},
    {"token", "init-args", set_text, TOKEN_FIELD(init_args)},
    {"token", "read-write-sessions", set_yes_no, TOKEN_FIELD(read_write_sessions),
     .choices = {"auto", "only"}},
    {"token", "iv-by-token", set_yes_no, TOKEN_FIELD(iv_by_token), .choices = {"no", "yes"}},
    {"token", "random", set_yes_no, TOKEN_FIELD(no_random), .choices = {"token", "none"}},
    {"token", "rsa-pkcs", set_yes_no, TOKEN_FIELD(rsa_pkcs), .choices = {"refused", "allowed"}},
    {"token", "aes-gcm-code", set_code, TOKEN_FIELD(aes_gcm_code)},
    {"token", "aes-kwp-code", set_code, TOKEN_FIELD(aes_kwp_code)},
    {"keyring", "name", set_name, FIELD(keyring.name), .preset = "default", .max = 64},
    {"keyring", "keystore", set_path, FIELD(keyring.keystore)},
    {"keyring", "lock-timeout", set_ms, FIELD(keyring.lock_timeout_ms),
     .preset = "5s", .min = 10, .max = 600000},
    {"keyring", "poll-interval", set_ms, FIELD(keyring.poll_ms),
     .preset = "500ms", .min = 10, .max = 3600000},
    {"keyring", "lock-memory", set_lock_policy, FIELD(keyring.lock_memory),
     .preset = "warn", .choices = {[KR_LOCK_WARN] = "warn", [KR_LOCK_REQUIRE] = "require"}},
    {"keyring", "data-directories", set_paths, FIELD(keyring.data_directories)},
    {"keyring", "audit-log", set_audit_log, FIELD(keyring.audit_log)},
    {"keyring", "audit-policy", set_yes_no, FIELD(keyring.audit_required),
     .preset = "warn", .choices = {"warn", "require"}},
    {"keyring", "export", set_yes_no, FIELD(keyring.export_forbidden),
     .preset = "allowed", .choices = {"allowed", "forbidden"}},
    {"keyring", "start-cache", set_path, FIELD(keyring.start_cache)},
    {"keyring", "start-cache-key", set_pin_source, FIELD(keyring.start_cache_key)},
    {"keyring", "start-cache-lifetime", set_span, FIELD(keyring.start_cache_lifetime),
     .preset = "24h", .min = 1, .max = 30 * 86400},
    {"keyring", "master-key-age", set_span, FIELD(keyring.master_key_age),
     .min = 1, .max = 36500u * 86400},
    {"keyring", "data-key-age", set_span, FIELD(keyring.data_key_age),
     .min = 1, .max = 36500u * 86400},
    {"mariadb", "cipher", set_choice, FIELD(mariadb.cipher),
     .preset = "aes-cbc", .choices = {"aes-cbc", "aes-ctr", "aes256-cbc", "aes256-ctr"}},
    {"mariadb", "rotation-step", set_count, FIELD(mariadb.rotation_step),
     .preset = "2", .min = 1, .max = 65535},
    {"mariadb", "auto-create", set_yes_no, FIELD(mariadb.auto_create),
     .preset = "no", .choices = {"no", "yes"}},
    {"mysql", "master-keys", set_choice, FIELD(mysql.master_keys),
     .preset = "token", .choices = {"token", "wrapped"}},
    {"mysql", "server-versions", set_versions, FIELD(mysql.server_versions), .preset = "9.7"},
    {"mysql", "unverified-server", set_choice, FIELD(mysql.unverified_server),
     .preset = "refuse", .choices = {"refuse", "wrapped"}},
    {"pkcs11", "timeout", set_ms, FIELD(pkcs11.timeout_ms),
     .preset = "10s", .min = 10, .max = 600000},
    {"pkcs11", "sessions", set_count, FIELD(pkcs11.sessions), .preset = "8", .min = 1, .max = 64},
    {"pkcs11", "mechanism", set_choice, FIELD(pkcs11.mechanism),
     .preset = "auto", .choices = {"auto", "aes-gcm", "aes-kwp", "rsa-oaep"}},
};
/* clang-format on */
_Static_assert(sizeof(options) / sizeof(options[0]) == KR_OPTION_COUNT, "KR_OPTION_COUNT");

enum kr_status kr_option_check_section(const char *section, struct kr_error *err)
{
    if (strncmp(section, "token:", 6) == 0) {
        if (kr_option_is_name(section + 6, 32))
            return KR_OK;
        kr_fail(err, KR_CONFIG, "the NAME of this [token:NAME] section is not usable");
        kr_hint(err, "use 1 to 32 of the characters A-Z a-z 0-9 . _ -");
        return err->status;
    }
    for (int i = 0; i < KR_OPTION_COUNT; i++)
        if (strcmp(options[i].section, section) == 0 && strcmp(section, "token") != 0)
            return KR_OK;
    kr_fail(err, KR_CONFIG, "unknown section [%.60s]", section);
    kr_hint(err, SECTION_HINT);
    return err->status;
}

static void list_options(const char *section, char *ret, size_t size)
{
    ret[0] = '\0';
    for (int i = 0; i < KR_OPTION_COUNT; i++) {
        size_t used = strlen(ret);
        if (strcmp(options[i].section, section) == 0)
            snprintf(ret + used, size - used, "%s%s", used ? ", " : "", options[i].name);
    }
}

int kr_option_find(const char *section, const char *name, struct kr_error *err)
{
    for (int i = 0; i < KR_OPTION_COUNT; i++)
        if (strcmp(options[i].section, section) == 0 && strcmp(options[i].name, name) == 0)
            return i;
    char valid[512];
    list_options(section, valid, sizeof(valid));
    if (valid[0]) {
        kr_fail(err, KR_CONFIG, "unknown option \"%.60s\" in section [%s]", name, section);
        kr_hint(err, "valid options of [%s]: %s", section, valid);
    } else {
        kr_fail(err, KR_CONFIG, "unknown section [%.60s]", section);
        kr_hint(err, SECTION_HINT);
    }
    return -1;
}

static bool is_one_line(const char *value)
{
    for (const char *c = value; *c; c++)
        if (iscntrl((unsigned char)*c))
            return false;
    return true;
}

enum kr_status kr_option_set(struct kr_config *config, struct kr_token_config *token, int option,
                             const char *value, struct kr_error *err)
{
    const struct option *chosen = &options[option];
    if (!*value) {
        kr_fail(err, KR_CONFIG, "%s has no value", chosen->name);
        kr_hint(err, "give a value, or remove the option to get its default");
        return err->status;
    }
    if (!is_one_line(value)) {
        kr_fail(err, KR_CONFIG, "%s has a control character in its value", chosen->name);
        kr_hint(err, "remove tabs and other control characters");
        return err->status;
    }
    void *home = strcmp(chosen->section, "token") == 0 ? (void *)token : config;
    return chosen->set(chosen, value, (char *)home + chosen->offset, err);
}

enum kr_status kr_option_set_defaults(struct kr_config *config, struct kr_error *err)
{
    for (int i = 0; i < KR_OPTION_COUNT; i++)
        if (options[i].preset)
            KR_TRY(kr_option_set(config, NULL, i, options[i].preset, err));
    return KR_OK;
}
