/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading the [client] group: in place, in secret memory, by the rules of the servers' own clients.
 */
#include "option_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/secret.h"

enum { FILE_MAX = 64 * 1024 };

/* --- the file --------------------------------------------------------------------------------- */

static enum kr_status check_file(const char *path, const struct stat *st, struct kr_error *err)
{
    if (st->st_uid != 0 && geteuid() != 0 && st->st_uid != geteuid()) {
        kr_fail(err, KR_REFUSED,
                "the option file %s belongs to user %lu, not to root or to us (%lu)", path,
                (unsigned long)st->st_uid, (unsigned long)geteuid());
        kr_hint(err, "run as root: chown %lu %s", (unsigned long)geteuid(), path);
        return err->status;
    }
    if (st->st_mode & (S_IRWXG | S_IRWXO)) {
        kr_fail(err, KR_REFUSED, "the option file %s is open to others (mode %04o)", path,
                (unsigned)st->st_mode & 07777);
        kr_hint(err, "run: chmod 0600 %s; if others may have read it, change the password too",
                path);
        return err->status;
    }
    if (st->st_size <= FILE_MAX)
        return KR_OK;
    return kr_fail(err, KR_CONFIG, "the option file %s is larger than %d bytes", path,
                   (int)FILE_MAX);
}

static enum kr_status read_text(const char *path, char **ret, struct kr_error *err)
{
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return kr_fail(err, KR_IO, "cannot open the option file %s: %s", path, strerror(errno));
    KR_TRY(check_file(path, &st, err));
    KR_SECRET char *text = kr_secret_alloc(FILE_MAX + 1);
    if (!text)
        return kr_fail_secret(err);
    ssize_t got = kr_read_full(fd, text, FILE_MAX);
    if (got < 0)
        return kr_fail(err, KR_IO, "cannot read the option file %s: %s", path, strerror(errno));
    *ret = text;
    text = NULL;
    return KR_OK;
}

/* --- a line ----------------------------------------------------------------------------------- */

static char *trim(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && isspace((unsigned char)text[len - 1]))
        text[--len] = '\0';
    return text + strspn(text, " \t\r");
}

/* A '#' outside of quotes ends a line. */
static void cut_comment(char *text)
{
    char quote = '\0';

    for (; *text; text++) {
        if (*text == '\\' && text[1])
            text++;
        else if (quote ? *text == quote : *text == '\'' || *text == '"')
            quote = quote ? '\0' : *text;
        else if (*text == '#' && !quote) {
            *text = '\0';
            return;
        }
    }
}

static char unescaped(char c)
{
    static const char from[] = "btnrs", to[] = "\b\t\n\r ";
    const char *at = strchr(from, c);

    return at && *at ? to[at - from] : c;
}

static char *unquote(char *value)
{
    size_t len = strlen(value);
    char *out = value;

    if (len >= 2 && (*value == '\'' || *value == '"') && value[len - 1] == *value) {
        value[len - 1] = '\0';
        out = ++value;
    }
    for (const char *in = value; *in; in++)
        *out++ = *in == '\\' && in[1] ? unescaped(*++in) : *in;
    *out = '\0';
    return value;
}

/* '_' is as good as '-', and "loose-" says nothing here. */
static const char *plain_name(char *name)
{
    for (char *c = name; *c; c++)
        if (*c == '_')
            *c = '-';
    return strncmp(name, "loose-", 6) == 0 ? name + 6 : name;
}

static void take_option(struct kr_option_file *file, char *line)
{
    static const struct {
        const char *name;
        size_t offset;
    } known[] = {
        {"user", offsetof(struct kr_option_file, user)},
        {"password", offsetof(struct kr_option_file, password)},
        {"socket", offsetof(struct kr_option_file, socket)},
        {"host", offsetof(struct kr_option_file, host)},
        {"port", offsetof(struct kr_option_file, port)},
        {"ssl-ca", offsetof(struct kr_option_file, ssl_ca)},
        {"ssl-capath", offsetof(struct kr_option_file, ssl_capath)},
        {"ssl-cert", offsetof(struct kr_option_file, ssl_cert)},
        {"ssl-key", offsetof(struct kr_option_file, ssl_key)},
    };
    char *equals = strchr(line, '=');

    if (!equals)
        return;
    *equals = '\0';
    const char *name = plain_name(trim(line));
    const char *value = unquote(trim(equals + 1));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            *(const char **)(void *)((char *)file + known[i].offset) = *value ? value : NULL;
}

enum kr_status kr_option_file_read(const char *path, struct kr_option_file *ret,
                                   struct kr_error *err)
{
    KR_OPTION_FILE file = {0};
    bool ours = false, seen = false;
    char *rest;

    KR_TRY(read_text(path, &file.text, err));
    for (char *line = strtok_r(file.text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        line = trim(line);
        if (*line == '[') {
            ours = strcmp(line, "[client]") == 0;
            seen |= ours;
        } else if (strncmp(line, "!include", 8) == 0) {
            return kr_fail(err, KR_CONFIG, "the option file %s includes others", path);
        } else if (ours && *line != '#' && *line != ';') {
            cut_comment(line);
            take_option(&file, line);
        }
    }
    if (!seen)
        return kr_fail(err, KR_CONFIG, "the option file %s has no [client] group", path);
    *ret = file;
    file.text = NULL;
    return KR_OK;
}

void kr_option_file_cleanup(struct kr_option_file *file)
{
    kr_secret_free(file->text);
}
