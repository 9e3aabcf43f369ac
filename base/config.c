/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Reading the configuration file with inih. The file is fed to inih line by line from memory, so
 * that every error can name its line and nothing is lost silently: inih cuts lines at its buffer's
 * size, takes an indented line for the continuation of the last value, and ignores what follows a
 * section's closing bracket.
 */
#include "base/config.h"

#include "base/config_options.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_BYTES_MAX = 64 * 1024 };

#define BLANKS " \t\r\v\f"

struct loader {
    struct kr_config *config;
    struct kr_error *err;
    const char *at, *end; /* what is left of the text */
    int line;
    bool failed;
    struct kr_token_config *token; /* the section that is being read */
    bool given[KR_OPTION_COUNT], given_token[KR_TOKENS_MAX][KR_OPTION_COUNT];
};

/* Ends the parsing; the record is filled already. */
static void stop(struct loader *loader)
{
    loader->failed = true;
    kr_error_context(loader->err, "%s:%d", loader->config->path, loader->line);
}

/* The section of this name; a new one comes last. */
static enum kr_status find_token(struct kr_config *config, const char *name,
                                 struct kr_token_config **ret, struct kr_error *err)
{
    unsigned i = 0;
    while (i < config->token_count && strcmp(config->tokens[i].name, name) != 0)
        i++;
    if (i == KR_TOKENS_MAX) {
        kr_fail(err, KR_CONFIG, "[token:%s] is one token too many", name);
        kr_hint(err, "a keyring has at most %d tokens", KR_TOKENS_MAX);
        return err->status;
    }
    if (i == config->token_count) {
        KR_TRY(kr_option_replace(&config->tokens[i].name, name, err));
        config->token_count++;
    }
    *ret = &config->tokens[i];
    return KR_OK;
}

/* `line` starts with '['. A section without its closing bracket is left to inih, which reports
 * it. */
static enum kr_status check_section_line(struct loader *loader, char *line, struct kr_error *err)
{
    char *close = strchr(line, ']');
    if (!close)
        return KR_OK;
    const char *after = close + 1 + strspn(close + 1, BLANKS "\n");
    if (*after && *after != ';' && *after != '#') {
        kr_fail(err, KR_CONFIG, "there is text after the section's name");
        kr_hint(err, "put each option on a line of its own");
        return err->status;
    }
    *close = '\0';
    enum kr_status status = kr_option_check_section(line + 1, err);
    if (status == KR_OK && strncmp(line + 1, "token:", 6) == 0)
        status = find_token(loader->config, line + 1 + 6, &loader->token, err);
    *close = ']';
    return status;
}

static enum kr_status check_line(const char *text, size_t len, int room, struct kr_error *err)
{
    if (len + 2 > (size_t)room) {
        kr_fail(err, KR_CONFIG, "the line is longer than %d characters", room - 2);
        kr_hint(err, "shorten it: token= or serial= alone is enough in a token's URI");
        return err->status;
    }
    if (memchr(text, '\0', len)) {
        kr_fail(err, KR_CONFIG, "the line has a NUL byte");
        kr_hint(err, "write the file anew as plain text");
        return err->status;
    }
    return KR_OK;
}

/* Byte order marks of the first line too: inih would skip them, and what follows would not have
 * been checked here. */
static const char *skip_indentation(const char *text, const char *eol, bool first)
{
    static const char bom[] = "\xEF\xBB\xBF";
    for (;;) {
        if (text < eol && memchr(BLANKS, *text, strlen(BLANKS)))
            text++;
        else if (first && eol - text >= 3 && memcmp(text, bom, 3) == 0)
            text += 3;
        else
            return text;
    }
}

/* The ini_reader: the next line without its indentation, an empty one for a comment. */
static char *next_line(char *line, int room, void *stream)
{
    struct loader *loader = stream;
    if (loader->failed || loader->at == loader->end)
        return NULL;
    loader->line++;
    const char *text = loader->at, *eol = memchr(text, '\n', (size_t)(loader->end - text));
    if (!eol)
        eol = loader->end;
    loader->at = eol < loader->end ? eol + 1 : eol;
    text = skip_indentation(text, eol, loader->line == 1);
    size_t len = text < eol && *text != ';' && *text != '#' ? (size_t)(eol - text) : 0;
    enum kr_status status = check_line(text, len, room, loader->err);
    if (status == KR_OK) {
        memcpy(line, text, len);
        memcpy(line + len, "\n", 2);
        if (*line == '[')
            status = check_section_line(loader, line, loader->err);
    }
    if (status == KR_OK)
        return line;
    stop(loader);
    return NULL;
}

static enum kr_status take_option(struct loader *loader, const char *section, const char *name,
                                  const char *value)
{
    if (!section[0]) {
        kr_fail(loader->err, KR_CONFIG, "there is an option before the first section");
        kr_hint(loader->err,
                "put it below [token:NAME], [keyring], [mariadb], [mysql] or [pkcs11]");
        return loader->err->status;
    }
    bool of_token = strncmp(section, "token:", 6) == 0;
    int option = kr_option_find(of_token ? "token" : section, name, loader->err);
    if (option < 0)
        return loader->err->status;
    bool *given = &loader->given[option];
    if (of_token)
        given = &loader->given_token[loader->token - loader->config->tokens][option];
    if (*given) {
        kr_fail(loader->err, KR_CONFIG, "%s is given twice in section [%s]", name, section);
        kr_hint(loader->err, "remove one of the two");
        return loader->err->status;
    }
    *given = true;
    return kr_option_set(loader->config, loader->token, option, value, loader->err);
}

/* The ini_handler; 0 is failure. */
static int on_option(void *user, const char *section, const char *name, const char *value)
{
    struct loader *loader = user;
    if (loader->failed)
        return 0;
    if (take_option(loader, section, name, value) == KR_OK)
        return 1;
    stop(loader);
    return 0;
}

static enum kr_status parse(struct kr_config *config, const char *text, size_t len,
                            struct kr_error *err)
{
    struct loader loader = {.config = config, .err = err, .at = text, .end = text + len};
    /* inih goes on after an error and returns the first one's line, which may come before ours. */
    int first = ini_parse_stream(next_line, &loader, on_option, &loader);
    if (first < 0)
        return kr_fail_memory(err);
    if (first > 0 && !(loader.failed && loader.line == first)) {
        kr_fail(err, KR_CONFIG, "%s:%d: neither a [section] nor an option = value", config->path,
                first);
        kr_hint(err, "start comments with '#' or ';'");
        return err->status;
    }
    return loader.failed ? err->status : KR_OK;
}

enum kr_status kr_config_check_file(const char *path, const struct stat *st, struct kr_error *err)
{
    if (!S_ISREG(st->st_mode)) {
        kr_fail(err, KR_CONFIG, "%s is not a regular file", path);
        kr_hint(err, "name the configuration file, by default " KR_CONFIG_DEFAULT_PATH);
        return err->status;
    }
    if (st->st_mode & (S_IWGRP | S_IWOTH)) {
        kr_fail(err, KR_CONFIG,
                "%s can be changed by others (mode %04o): they could name a module "
                "of their own",
                path, (unsigned)st->st_mode & 07777);
        kr_hint(err, "run: chmod go-w %s", path);
        return err->status;
    }
    return KR_OK;
}

static enum kr_status parse_fd(struct kr_config *config, int fd, char *text, struct kr_error *err)
{
    ssize_t len = kr_read_full(fd, text, FILE_BYTES_MAX + 1);
    if (len < 0)
        return kr_fail(err, KR_IO, "cannot read %s: %s", config->path, strerror(errno));
    if (len > FILE_BYTES_MAX) {
        kr_fail(err, KR_CONFIG, "%s is larger than %d bytes", config->path, FILE_BYTES_MAX);
        kr_hint(err, "name the configuration file, by default " KR_CONFIG_DEFAULT_PATH);
        return err->status;
    }
    return parse(config, text, (size_t)len, err);
}

static enum kr_status read_file(struct kr_config *config, int fd, struct kr_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return kr_fail(err, KR_IO, "cannot read %s: %s", config->path, strerror(errno));
    KR_TRY(kr_config_check_file(config->path, &st, err));
    char *text = malloc(FILE_BYTES_MAX + 1);
    if (!text)
        return kr_fail_memory(err);
    enum kr_status status = parse_fd(config, fd, text, err);
    free(text);
    return status;
}

/* The path to read; *ret_named tells whether somebody chose it. */
static const char *choose_path(const char *path, bool *ret_named)
{
    if (!path || !path[0])
        path = secure_getenv(KR_CONFIG_ENV);
    *ret_named = path && path[0];
    return *ret_named ? path : KR_CONFIG_DEFAULT_PATH;
}

static enum kr_status load(struct kr_config *config, const char *wanted, struct kr_error *err)
{
    bool named;
    const char *path = choose_path(wanted, &named);
    KR_TRY(kr_option_set_defaults(config, err));
    /* Not blocking: a FIFO in its place must be an error, not a wait. */
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT && !named)
        return KR_OK;
    if (fd < 0) {
        kr_fail(err, KR_CONFIG, "cannot open the configuration file %s: %s", path, strerror(errno));
        kr_hint(err, "check the path and that this user may read it; it comes from --config, from "
                     "pkcs11_key_management_config or from $" KR_CONFIG_ENV);
        return err->status;
    }
    KR_TRY(kr_option_replace(&config->path, path, err));
    return read_file(config, fd, err);
}

enum kr_status kr_config_load(const char *path, struct kr_config **ret, struct kr_error *err)
{
    KR_CONFIG_OWNED struct kr_config *config = calloc(1, sizeof(*config));
    if (!config)
        return kr_fail_memory(err);
    KR_TRY(load(config, path, err));
    *ret = config;
    config = NULL;
    return KR_OK;
}

enum kr_status kr_config_override(struct kr_config *config, const char *section, const char *option,
                                  const char *value, struct kr_error *err)
{
    int found = kr_option_find(section, option, err);
    if (found < 0)
        return err->status;
    struct kr_token_config *first = &config->tokens[0];
    KR_TRY(kr_option_set(config, first, found, value, err));
    if (strcmp(section, "token") == 0 && config->token_count == 0)
        return find_token(config, "default", &first, err);
    return KR_OK;
}

static enum kr_status fail_unset(const struct kr_config *config, const char *what, const char *line,
                                 const char *section, const char *name, struct kr_error *err)
{
    kr_fail(err, KR_CONFIG, "no %s is configured", what);
    kr_hint(err, "put `%s` into section [%s%s] of %s", line, section, name,
            config->path ? config->path : KR_CONFIG_DEFAULT_PATH);
    return err->status;
}

enum kr_status kr_config_require(const struct kr_config *config, struct kr_error *err)
{
    /* Without any section the first one is asked for. */
    for (unsigned i = 0; i == 0 || i < config->token_count; i++) {
        const struct kr_token_config *token = &config->tokens[i];
        const char *name = token->name ? token->name : "NAME";
        if (!token->module)
            return fail_unset(config, "PKCS#11 module", "module = /full/path.so", "token:", name,
                              err);
        if (!token->uri)
            return fail_unset(config, "token URI", "uri = pkcs11:token=LABEL", "token:", name, err);
    }
    if (config->keyring.start_cache && !config->keyring.start_cache_key)
        return fail_unset(config, "source of the start cache's passphrase",
                          "start-cache-key = cred:NAME", "keyring", "", err);
    if (!config->keyring.keystore)
        return fail_unset(config, "keystore", "keystore = /full/path", "keyring", "", err);
    return KR_OK;
}

static void free_token(struct kr_token_config *token)
{
    free(token->name);
    free(token->module);
    free(token->uri);
    free(token->pin_source);
    free(token->init_args);
}

void kr_config_free(struct kr_config *config)
{
    if (!config)
        return;
    free(config->path);
    for (unsigned i = 0; i < KR_TOKENS_MAX; i++)
        free_token(&config->tokens[i]);
    free(config->keyring.name);
    free(config->keyring.keystore);
    free(config->keyring.audit_log);
    free(config->keyring.data_directories);
    free(config->keyring.start_cache);
    free(config->keyring.start_cache_key);
    free(config->mariadb.cipher);
    free(config->mysql.master_keys);
    free(config->mysql.server_versions);
    free(config->mysql.unverified_server);
    free(config->pkcs11.mechanism);
    free(config);
}

void kr_config_cleanup(struct kr_config **config)
{
    kr_config_free(*config);
}
