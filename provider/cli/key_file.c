/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading a data key for import. The file's text stays in secret memory and is in no message. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/io.h"
#include "base/secret.h"
#include "key_file.h"

#define KEY_FILE_MAX 65536

static enum kr_status open_file(const char *path, int *ret, struct kr_error *err)
{
    struct stat st;
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return kr_fail(err, KR_IO, "cannot open key file %s: %s", path, strerror(errno));
    if (strcmp(path, "-") != 0 && (fstat(fd, &st) != 0 || (st.st_mode & 077) != 0)) {
        close(fd);
        kr_fail(err, KR_CONFIG, "key file %s can be read by others than its owner", path);
        kr_hint(err, "chmod 600 %s", path);
        return KR_CONFIG;
    }
    *ret = fd;
    return KR_OK;
}

/* The whole file, NUL-terminated, into `text` of KEY_FILE_MAX + 1 bytes. */
static enum kr_status read_all(int fd, const char *path, char *text, struct kr_error *err)
{
    ssize_t used = kr_read_full(fd, text, KEY_FILE_MAX + 1);

    if (used < 0)
        return kr_fail(err, KR_IO, "cannot read key file %s: %s", path, strerror(errno));
    if (used > KEY_FILE_MAX)
        return kr_fail(err, KR_USAGE, "key file %s is larger than %d bytes", path, KEY_FILE_MAX);
    text[used] = '\0';
    return KR_OK;
}

static enum kr_status slurp(const char *path, char *text, struct kr_error *err)
{
    KR_FD int fd = -1;

    KR_TRY(open_file(path, &fd, err));
    return read_all(fd, path, text, err);
}

static char *trim(char *text)
{
    static const char blanks[] = " \t\r";
    char *end;

    text += strspn(text, blanks);
    end = text + strlen(text);
    while (end > text && strchr(blanks, end[-1]))
        *--end = '\0';
    return text;
}

/* One line: *ret_digits when it holds the wanted key, NULL when it is blank, a comment or another
 * key's; false when it is neither. */
static bool parse_line(char *line, uint32_t id, char **ret_digits)
{
    char *semicolon, *end;

    *ret_digits = NULL;
    line = trim(line);
    semicolon = strchr(line, ';');
    if (*line == '\0' || *line == '#')
        return true;
    if (!semicolon) {
        *ret_digits = line;
        return true;
    }
    if (*line < '0' || *line > '9')
        return false;
    if (strtoull(line, &end, 10) == id)
        *ret_digits = trim(semicolon + 1);
    return *trim(end) == ';';
}

/* The digits of the one key that fits. */
static enum kr_status find_digits(char *text, uint32_t id, char **ret, struct kr_error *err)
{
    char *rest = text, *line, *digits;
    unsigned number = 0;

    *ret = NULL;
    while ((line = strsep(&rest, "\n"))) {
        number++;
        if (!parse_line(line, id, &digits))
            return kr_fail(err, KR_USAGE, "line %u of the key file is not `id;hexkey`", number);
        if (digits && *ret)
            return kr_fail(err, KR_USAGE, "the key file holds more than one key for id %u", id);
        if (digits)
            *ret = digits;
    }
    if (*ret)
        return KR_OK;
    return kr_fail(err, KR_USAGE, "the key file holds no key for id %u", id);
}

static enum kr_status decode(const char *digits, uint8_t **ret_key, size_t *ret_len,
                             struct kr_error *err)
{
    size_t len = strlen(digits) / 2;
    KR_SECRET uint8_t *key = kr_secret_alloc(32);

    if (!key)
        return kr_fail_memory(err);
    if ((len != 16 && len != 24 && len != 32) || !kr_hex_decode(digits, strlen(digits), key))
        return kr_fail(err, KR_USAGE,
                       "a key to import has 32, 48 or 64 hexadecimal digits and nothing else");
    *ret_key = key;
    *ret_len = len;
    key = NULL;
    return KR_OK;
}

enum kr_status cli_read_key_file(const char *path, uint32_t id, uint8_t **ret_key, size_t *ret_len,
                                 struct kr_error *err)
{
    KR_SECRET char *text = kr_secret_alloc(KEY_FILE_MAX + 1);
    char *digits;

    if (!text)
        return kr_fail_memory(err);
    KR_TRY(slurp(path, text, err));
    if (strncmp(text, "Salted__", 8) == 0) {
        kr_fail(err, KR_USAGE, "key file %s is encrypted", path);
        kr_hint(err, "decrypt it into a pipe: openssl enc -d -aes-256-cbc -md sha1 -pass file:... "
                     "-in FILE | p11keyring key create ID --import-hex-from -");
        return KR_USAGE;
    }
    KR_TRY(find_digits(text, id, &digits, err));
    return decode(digits, ret_key, ret_len, err);
}
