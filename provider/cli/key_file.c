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
#include "formats/key_list.h"
#include "key_file.h"

#define KEY_FILE_MAX 65536
#define BLANKS " \t\r\n"

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

struct found {
    uint32_t id; /* that is wanted */
    unsigned count;
    uint8_t *key; /* secret memory */
    size_t len;
};

static void take_key(uint32_t id, const char *digits, unsigned bits, void *context)
{
    struct found *found = context;
    if (id != found->id || found->count++ > 0)
        return;
    found->len = bits / 8;
    (void)kr_hex_decode(digits, bits / 4, found->key);
}

/* The one key that fits. */
static enum kr_status find_key(const char *text, struct found *found, struct kr_error *err)
{
    unsigned wrong = kr_key_list_wrong_line(text, strlen(text));

    if (wrong > 0)
        return kr_fail(err, KR_USAGE, "line %u of the key file is not `id;hexkey`", wrong);
    (void)kr_key_list_parse(text, strlen(text), true, take_key, found);
    if (found->count == 0)
        return kr_fail(err, KR_USAGE, "the key file holds no key for id %u", found->id);
    if (found->count > 1)
        return kr_fail(err, KR_USAGE, "the key file holds more than one key for id %u", found->id);
    return KR_OK;
}

/* A file of one key's digits, comments before it, and nothing else. */
static bool read_digits(const char *text, struct found *found)
{
    size_t len;

    for (text += strspn(text, BLANKS); *text == '#'; text += strspn(text, BLANKS))
        text += strcspn(text, "\n");
    len = strspn(text, "0123456789abcdefABCDEF");
    if (text[len + strspn(text + len, BLANKS)] != '\0' || (len != 32 && len != 48 && len != 64))
        return false;
    found->len = len / 2;
    return kr_hex_decode(text, len, found->key);
}

static enum kr_status read_key(const char *text, struct found *found, struct kr_error *err)
{
    if (read_digits(text, found))
        return KR_OK;
    if (strchr(text, ';'))
        return find_key(text, found, err);
    return kr_fail(err, KR_USAGE,
                   "a key to import has 32, 48 or 64 hexadecimal digits and nothing else");
}

enum kr_status cli_read_key_file(const char *path, uint32_t id, uint8_t **ret_key, size_t *ret_len,
                                 struct kr_error *err)
{
    KR_SECRET char *text = kr_secret_alloc(KEY_FILE_MAX + 1);
    KR_SECRET uint8_t *key = kr_secret_alloc(32);
    struct found found = {.id = id, .key = key};

    if (!text || !key)
        return kr_fail_secret(err);
    KR_TRY(slurp(path, text, err));
    if (strncmp(text, "Salted__", 8) == 0) {
        kr_fail(err, KR_USAGE, "key file %s is encrypted", path);
        kr_hint(err, "p11keyring migrate --from file-key-management:PATH --from-password SOURCE "
                     "--to p11keyring");
        return KR_USAGE;
    }
    KR_TRY(read_key(text, &found, err));
    *ret_key = key;
    *ret_len = found.len;
    key = NULL;
    return KR_OK;
}
