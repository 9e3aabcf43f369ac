/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Where a PIN comes from. A PIN is read with read(2) straight into secret memory. No message quotes
 * a specification that is not understood: it may be the PIN itself.
 */
#include "base/pin_source.h"

#include "base/io.h"
#include "base/prompt.h"
#include "base/secret.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* So that a path and its inode and time fit into an identity. */
enum { NAME_BYTES_MAX = 380 };
/* One byte more than a PIN with its newline, to see that there is more. */
enum { READ_BYTES = KR_PIN_MAX + 2 };

enum kind { FROM_FILE, FROM_CREDENTIAL, FROM_ENV, FROM_FD, FROM_PROMPT };

struct kr_pin_source {
    enum kind kind;
    char *name;          /* "file:/etc/pin" */
    const char *subject; /* what follows the colon in `name` */
    char *what;
    const char *noun; /* what it is, for messages */
    int fd;
    pthread_mutex_t lock; /* guards what follows */
    char *pin;            /* what env, fd or prompt gave; NULL before */
    size_t pin_len;
    bool just_read; /* `identity` is of the file that was read and was not asked for yet */
    char identity[KR_PIN_IDENTITY_MAX];
};

static const char *noun_of(const char *what)
{
    if (strcasestr(what, "password"))
        return "password";
    return strcasestr(what, "passphrase") ? "passphrase" : "PIN";
}

static bool is_file(const struct kr_pin_source *source)
{
    return source->kind == FROM_FILE || source->kind == FROM_CREDENTIAL;
}

/* --- parsing ---------------------------------------------------------------------------------- */

static enum kr_status fail_spec(struct kr_error *err, const char *why)
{
    kr_fail(err, KR_CONFIG, "the PIN source %s", why);
    kr_hint(err, "name where the PIN is, never the PIN: file:/path, cred:NAME, env:NAME, fd:N or "
                 "prompt");
    return err->status;
}

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (iscntrl((unsigned char)*text))
            return false;
    return true;
}

static bool is_variable(const char *name)
{
    for (const char *c = name; *c; c++)
        if (!isascii((unsigned char)*c) ||
            !(isalpha((unsigned char)*c) || *c == '_' || (c > name && isdigit((unsigned char)*c))))
            return false;
    return *name;
}

static bool is_credential(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static bool read_fd_number(const char *text, int *ret)
{
    size_t len = strlen(text);
    if (len == 0 || len > 6 || strspn(text, "0123456789") != len)
        return false;
    *ret = atoi(text);
    return true;
}

static enum kr_status check_subject(struct kr_pin_source *source, struct kr_error *err)
{
    switch (source->kind) {
    case FROM_FILE:
        if (source->subject[0] != '/')
            return fail_spec(err, "file: needs a full path");
        break;
    case FROM_CREDENTIAL:
        if (!is_credential(source->subject))
            return fail_spec(err, "cred: needs the name of a credential, without a '/'");
        break;
    case FROM_ENV:
        if (!is_variable(source->subject))
            return fail_spec(err, "env: needs the name of a variable");
        break;
    case FROM_FD:
        if (!read_fd_number(source->subject, &source->fd))
            return fail_spec(err, "fd: needs the number of a descriptor");
        break;
    case FROM_PROMPT:
        if (source->subject[0])
            return fail_spec(err, "prompt takes nothing behind it");
        break;
    }
    return KR_OK;
}

static bool take_prefix(const char *spec, enum kind *ret_kind, size_t *ret_len)
{
    static const char *const prefixes[] = {
        [FROM_FILE] = "file:", [FROM_CREDENTIAL] = "cred:", [FROM_ENV] = "env:",
        [FROM_FD] = "fd:",     [FROM_PROMPT] = "prompt",
    };
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (strncmp(spec, prefixes[i], strlen(prefixes[i])) == 0) {
            *ret_kind = (enum kind)i;
            *ret_len = strlen(prefixes[i]);
            return true;
        }
    return false;
}

static enum kr_status parse(struct kr_pin_source *source, const char *spec, struct kr_error *err)
{
    size_t prefix = strlen("file:");
    bool bare_path = spec[0] == '/';
    if (!bare_path && !take_prefix(spec, &source->kind, &prefix))
        return fail_spec(err, "is of no known form");
    if (strlen(spec) > NAME_BYTES_MAX || !is_plain(spec))
        return fail_spec(err, "is too long or has control characters");
    if (asprintf(&source->name, "%s%s", bare_path ? "file:" : "", spec) < 0) {
        source->name = NULL;
        return kr_fail_memory(err);
    }
    source->subject = source->name + prefix;
    return check_subject(source, err);
}

/* A source asks once, so one stamp, unlike that of any other source, will do. */
static void stamp_prompt(struct kr_pin_source *source)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(source->identity, sizeof(source->identity), "prompt pid=%ld time=%" PRIdMAX ".%09ld",
             (long)getpid(), (intmax_t)now.tv_sec, now.tv_nsec);
}

enum kr_status kr_pin_source_new(const char *spec, const char *what, struct kr_pin_source **ret,
                                 struct kr_error *err)
{
    struct kr_pin_source *source = calloc(1, sizeof(*source));
    if (!source)
        return kr_fail_memory(err);
    pthread_mutex_init(&source->lock, NULL);
    source->what = strdup(what);
    source->noun = noun_of(what);
    enum kr_status status = source->what ? parse(source, spec, err) : kr_fail_memory(err);
    if (status != KR_OK) {
        kr_pin_source_free(source);
        return status;
    }
    if (source->kind == FROM_PROMPT)
        stamp_prompt(source);
    else if (source->kind == FROM_ENV || source->kind == FROM_FD)
        snprintf(source->identity, sizeof(source->identity), "%s", source->name);
    *ret = source;
    return KR_OK;
}

void kr_pin_source_free(struct kr_pin_source *source)
{
    if (!source)
        return;
    kr_secret_free(source->pin);
    pthread_mutex_destroy(&source->lock);
    free(source->name);
    free(source->what);
    free(source);
}

/* --- files ------------------------------------------------------------------------------------ */

static enum kr_status check_file(const struct kr_pin_source *source, const char *path,
                                 const struct stat *st, struct kr_error *err)
{
    if (!S_ISREG(st->st_mode)) {
        kr_fail(err, KR_CONFIG, "the %s file %s is not a regular file", source->noun, path);
        kr_hint(err, "put the %s alone into a file; for a pipe use fd:N", source->noun);
        return err->status;
    }
    if (st->st_uid != 0 && geteuid() != 0 && st->st_uid != geteuid()) {
        kr_fail(err, KR_CONFIG, "the %s file %s belongs to user %lu, not to root or to us (%lu)",
                source->noun, path, (unsigned long)st->st_uid, (unsigned long)geteuid());
        kr_hint(err, "run as root: chown %lu %s", (unsigned long)geteuid(), path);
        return err->status;
    }
    /* systemd may grant a credential of root's to the service by an ACL, whose mask stat shows as
     * the group's right to read. */
    mode_t allowed = S_IRWXU;
    if (source->kind == FROM_CREDENTIAL && st->st_uid == 0 && st->st_gid == 0)
        allowed |= S_IRGRP;
    if (st->st_mode & (S_IRWXU | S_IRWXG | S_IRWXO) & ~allowed) {
        kr_fail(err, KR_CONFIG, "the %s file %s is open to others (mode %04o)", source->noun, path,
                (unsigned)st->st_mode & 07777);
        kr_hint(err, "run: chmod 0400 %s; if others may have read it, change the %s too", path,
                source->noun);
        return err->status;
    }
    return KR_OK;
}

static enum kr_status fail_open(const struct kr_pin_source *source, const char *path,
                                struct kr_error *err)
{
    int why = errno;
    kr_fail(err, KR_CONFIG, "cannot open the %s file %s: %s", source->noun, path, strerror(why));
    if (why == EACCES)
        kr_hint(err,
                "give it to this user (run as root: chown %lu %s) and let it enter the folders "
                "above",
                (unsigned long)geteuid(), path);
    else
        kr_hint(err, "put the %s alone into it, mode 0400, or correct its source", source->noun);
    return err->status;
}

/* malloc'ed in *ret. */
static enum kr_status file_path(const struct kr_pin_source *source, char **ret,
                                struct kr_error *err)
{
    const char *folder = "";
    if (source->kind == FROM_CREDENTIAL) {
        folder = secure_getenv("CREDENTIALS_DIRECTORY");
        if (!folder || folder[0] != '/') {
            kr_fail(err, KR_CONFIG, "%s: $CREDENTIALS_DIRECTORY is not set", source->name);
            kr_hint(err, "start the service by systemd with LoadCredentialEncrypted=%s:/path",
                    source->subject);
            return err->status;
        }
    }
    char *path = NULL;
    if (asprintf(&path, "%s%s%s", folder, *folder ? "/" : "", source->subject) < 0)
        return kr_fail_memory(err);
    *ret = path;
    return KR_OK;
}

/* Opens and checks; *ret_st is of the descriptor, so nothing can be put in its place in between. */
static enum kr_status open_file(const struct kr_pin_source *source, int *ret_fd,
                                struct stat *ret_st, struct kr_error *err)
{
    char *path = NULL;
    KR_TRY(file_path(source, &path, err));
    /* Not blocking: a FIFO in its place must be an error, not a wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    enum kr_status status = KR_OK;
    if (fd < 0 || fstat(fd, &st) != 0)
        status = fail_open(source, path, err);
    else
        status = check_file(source, path, &st, err);
    free(path);
    if (status != KR_OK) {
        kr_fd_cleanup(&fd);
        return status;
    }
    *ret_fd = fd;
    *ret_st = st;
    return KR_OK;
}

static void describe_file(const struct kr_pin_source *source, const struct stat *st, char *ret)
{
    snprintf(ret, KR_PIN_IDENTITY_MAX,
             "%s inode=%" PRIuMAX ":%" PRIuMAX " ctime=%" PRIdMAX ".%09ld", source->name,
             (uintmax_t)st->st_dev, (uintmax_t)st->st_ino, (intmax_t)st->st_ctim.tv_sec,
             (long)st->st_ctim.tv_nsec);
}

/* --- reading; each fills READ_BYTES of secret memory ------------------------------------------ */

static enum kr_status read_fd(const struct kr_pin_source *source, int fd, char *ret,
                              size_t *ret_len, struct kr_error *err)
{
    ssize_t got = kr_read_full(fd, ret, READ_BYTES);
    if (got < 0)
        return kr_fail(err, KR_IO, "cannot read the %s from %s: %s", source->noun, source->name,
                       strerror(errno));
    *ret_len = (size_t)got;
    return KR_OK;
}

static enum kr_status read_file(struct kr_pin_source *source, char *ret, size_t *ret_len,
                                struct kr_error *err)
{
    KR_FD int fd = -1;
    struct stat st;
    KR_TRY(open_file(source, &fd, &st, err));
    KR_TRY(read_fd(source, fd, ret, ret_len, err));
    describe_file(source, &st, source->identity);
    source->just_read = true;
    return KR_OK;
}

/* What env and fd gave, by name: they give it once, and a keyring may be opened again. */
struct kept {
    struct kept *next;
    char *name, *pin;
    size_t len;
};
static struct kept *all_kept;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

/* The caller holds kept_lock. */
static struct kept *find_kept(const char *name)
{
    struct kept *kept = all_kept;
    while (kept && strcmp(kept->name, name) != 0)
        kept = kept->next;
    return kept;
}

static bool is_kept(const char *name)
{
    pthread_mutex_lock(&kept_lock);
    bool found = find_kept(name) != NULL;
    pthread_mutex_unlock(&kept_lock);
    return found;
}

/* The caller holds kept_lock; false: out of memory. */
static bool add_kept(const char *name)
{
    struct kept *kept = calloc(1, sizeof(*kept));
    if (kept)
        kept->name = strdup(name);
    if (!kept || !kept->name) {
        free(kept);
        return false;
    }
    kept->next = all_kept;
    all_kept = kept;
    return true;
}

/* Nothing happens for lack of memory: the next opening then says that the source is empty. */
static void keep(const char *name, const char *pin, size_t len)
{
    char *copy = kr_secret_dup(pin, len);
    pthread_mutex_lock(&kept_lock);
    if (copy && (find_kept(name) || add_kept(name))) {
        struct kept *kept = find_kept(name);
        char *old = kept->pin;
        kept->pin = copy;
        kept->len = len;
        copy = old;
    }
    pthread_mutex_unlock(&kept_lock);
    kr_secret_free(copy);
}

/* Into READ_BYTES; false when nothing was kept. */
static bool recall(const char *name, char *ret, size_t *ret_len)
{
    pthread_mutex_lock(&kept_lock);
    const struct kept *kept = find_kept(name);
    if (kept) {
        memcpy(ret, kept->pin, kept->len);
        *ret_len = kept->len;
    }
    pthread_mutex_unlock(&kept_lock);
    return kept != NULL;
}

static enum kr_status check_env(const struct kr_pin_source *source, struct kr_error *err)
{
    if (secure_getenv(source->subject) || is_kept(source->name))
        return KR_OK;
    kr_fail(err, KR_CONFIG, "the environment variable %s of the %s is not set", source->subject,
            source->noun);
    kr_hint(err, "set it for this process, or use file:/path");
    return err->status;
}

static enum kr_status read_env(const struct kr_pin_source *source, char *ret, size_t *ret_len,
                               struct kr_error *err)
{
    KR_TRY(check_env(source, err));
    char *value = secure_getenv(source->subject);
    if (!value)
        return recall(source->name, ret, ret_len) ? KR_OK : check_env(source, err);
    size_t len = strlen(value);
    *ret_len = len < READ_BYTES ? len : READ_BYTES;
    memcpy(ret, value, *ret_len);
    kr_wipe(value, len); /* unsetenv alone leaves it in /proc/PID/environ */
    unsetenv(source->subject);
    return KR_OK;
}

static enum kr_status check_fd(const struct kr_pin_source *source, struct kr_error *err)
{
    if (isatty(source->fd)) {
        kr_fail(err, KR_CONFIG, "%s is a terminal, which would show the %s", source->name,
                source->noun);
        kr_hint(err, "use prompt");
        return err->status;
    }
    int flags = fcntl(source->fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY) {
        kr_fail(err, KR_CONFIG, "%s is not open for reading", source->name);
        kr_hint(err, "start the command with the descriptor open, for example %d</path/of/pin",
                source->fd);
        return err->status;
    }
    return KR_OK;
}

static enum kr_status read_once(struct kr_pin_source *source, char *ret, size_t *ret_len,
                                struct kr_error *err)
{
    if (source->kind == FROM_ENV)
        return read_env(source, ret, ret_len, err);
    if (source->kind == FROM_FD) {
        KR_TRY(check_fd(source, err));
        KR_TRY(read_fd(source, source->fd, ret, ret_len, err));
        if (*ret_len == 0)
            recall(source->name, ret, ret_len);
        return KR_OK;
    }
    return kr_prompt_line(source->what, ret, READ_BYTES, ret_len, err);
}

static enum kr_status check_pin(const struct kr_pin_source *source, const char *pin, size_t len,
                                struct kr_error *err)
{
    const char *wrong = NULL;
    if (len == 0)
        wrong = "is empty";
    else if (len > KR_PIN_MAX)
        wrong = "is too long";
    else if (memchr(pin, '\0', len))
        wrong = "has a NUL byte in it";
    else if (memchr(pin, '\n', len) || memchr(pin, '\r', len))
        wrong = "has a line break in it";
    if (!wrong)
        return KR_OK;
    kr_fail(err, KR_CONFIG, "the %s from %s %s", source->noun, source->name, wrong);
    kr_hint(err, "give the %s alone, 1 to %d bytes, with at most one newline at its end",
            source->noun, KR_PIN_MAX);
    return err->status;
}

static enum kr_status read_anew(struct kr_pin_source *source, char **ret_pin, size_t *ret_len,
                                struct kr_error *err)
{
    KR_SECRET char *pin = kr_secret_alloc(READ_BYTES + 1);
    size_t len = 0;
    if (!pin)
        return kr_fail_secret(err);
    if (is_file(source))
        KR_TRY(read_file(source, pin, &len, err));
    else
        KR_TRY(read_once(source, pin, &len, err));
    if (len > 0 && pin[len - 1] == '\n')
        pin[--len] = '\0';
    KR_TRY(check_pin(source, pin, len, err));
    *ret_pin = pin;
    *ret_len = len;
    pin = NULL;
    return KR_OK;
}

static enum kr_status read_locked(struct kr_pin_source *source, char **ret_pin, size_t *ret_len,
                                  struct kr_error *err)
{
    if (is_file(source))
        return read_anew(source, ret_pin, ret_len, err);
    if (!source->pin) {
        KR_TRY(read_anew(source, &source->pin, &source->pin_len, err));
        if (source->kind != FROM_PROMPT)
            keep(source->name, source->pin, source->pin_len);
    }
    char *copy = kr_secret_dup(source->pin, source->pin_len);
    if (!copy)
        return kr_fail_secret(err);
    *ret_pin = copy;
    *ret_len = source->pin_len;
    return KR_OK;
}

enum kr_status kr_pin_source_read(struct kr_pin_source *source, char **ret_pin, size_t *ret_len,
                                  struct kr_error *err)
{
    pthread_mutex_lock(&source->lock);
    enum kr_status status = read_locked(source, ret_pin, ret_len, err);
    pthread_mutex_unlock(&source->lock);
    return status;
}

/* --- without reading -------------------------------------------------------------------------- */

static enum kr_status check_locked(struct kr_pin_source *source, struct kr_error *err)
{
    KR_FD int fd = -1;
    struct stat st;
    if (is_file(source))
        return open_file(source, &fd, &st, err);
    if (source->pin)
        return KR_OK;
    if (source->kind == FROM_ENV)
        return check_env(source, err);
    return source->kind == FROM_FD ? check_fd(source, err) : kr_prompt_check(err);
}

enum kr_status kr_pin_source_check(struct kr_pin_source *source, struct kr_error *err)
{
    pthread_mutex_lock(&source->lock);
    enum kr_status status = check_locked(source, err);
    pthread_mutex_unlock(&source->lock);
    return status;
}

static enum kr_status identity_locked(struct kr_pin_source *source, char *ret, struct kr_error *err)
{
    KR_FD int fd = -1;
    struct stat st;
    if (is_file(source) && !source->just_read) {
        KR_TRY(open_file(source, &fd, &st, err));
        describe_file(source, &st, source->identity);
    }
    source->just_read = false;
    memcpy(ret, source->identity, KR_PIN_IDENTITY_MAX);
    return KR_OK;
}

enum kr_status kr_pin_source_identity(struct kr_pin_source *source, char *ret, struct kr_error *err)
{
    pthread_mutex_lock(&source->lock);
    enum kr_status status = identity_locked(source, ret, err);
    pthread_mutex_unlock(&source->lock);
    return status;
}

const char *kr_pin_source_name(const struct kr_pin_source *source)
{
    return source->name;
}
