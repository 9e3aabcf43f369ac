/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The guard file: lines of text, where the last line of a token says how it stands:
 *
 *   <unix seconds> attempt|refused|settled <token> TAB <source identity>
 *
 * An attempt is appended and synced before C_Login; its outcome overwrites the word in place, which
 * needs no space on the disk. A crash can cut only the line that is being appended; a line without
 * its newline counts as never written. After a good login what is not needed is cut off again.
 */
#include "pkcs11/pin_guard.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 1024, FILE_BYTES_MAX = 1024 * 1024, LOCK_POLL_MS = 20, WORD_BYTES = 7 };

enum state { STATE_SETTLED, STATE_ATTEMPT, STATE_REFUSED };

static const char words[][WORD_BYTES + 1] = {
    [STATE_SETTLED] = "settled",
    [STATE_ATTEMPT] = "attempt",
    [STATE_REFUSED] = "refused",
};

/* How the file stands for one token. */
struct view {
    enum state state;
    int64_t since;
    char identity[LINE_BYTES];
    off_t word;  /* where the word of its last line is */
    off_t end;   /* of the last whole line of the file */
    bool others; /* the file has lines of other tokens */
};

struct kr_pin_guard {
    int fd;
    off_t word; /* of our attempt */
    struct view before;
};

static enum kr_status fail_io(struct kr_error *err, const char *what, const char *path)
{
    int code = errno;

    kr_fail(err, KR_IO, "cannot %s the PIN guard file %s: %s", what, path, strerror(code));
    if (code == EACCES || code == EPERM)
        kr_hint(err, "give the file to the user that the server runs as, or run as that user");
    else if (code == ENOSPC || code == EDQUOT)
        kr_hint(err, "free space there: no PIN is tried whose attempt cannot be recorded");
    else
        kr_hint(err, "no PIN is tried whose attempt cannot be recorded in that file");
    return KR_IO;
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum kr_status read_all(int fd, const char *path, char **ret, struct kr_error *err)
{
    struct stat st;
    char *text;

    if (fstat(fd, &st) != 0)
        return fail_io(err, "read", path);
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX) {
        errno = EINVAL;
        return fail_io(err, "use", path);
    }
    text = calloc(1, (size_t)st.st_size + 1);
    if (!text)
        return kr_fail_memory(err);
    if (pread(fd, text, (size_t)st.st_size, 0) < 0) {
        free(text);
        return fail_io(err, "read", path);
    }
    *ret = text;
    return KR_OK;
}

static enum state state_of(const char *word)
{
    if (strcmp(word, words[STATE_ATTEMPT]) == 0)
        return STATE_ATTEMPT;
    return strcmp(word, words[STATE_REFUSED]) == 0 ? STATE_REFUSED : STATE_SETTLED;
}

/* One line; one that cannot be read is skipped. */
static void scan_line(const char *line, off_t offset, const char *token_id, struct view *view)
{
    char word[WORD_BYTES + 1], rest[LINE_BYTES], *tab;
    int64_t since;
    int word_at = 0;

    if (sscanf(line, "%" SCNd64 " %n%7s %1023[^\n]", &since, &word_at, word, rest) != 3)
        return;
    tab = strchr(rest, '\t');
    if (!tab)
        return;
    *tab = '\0';
    if (strcmp(rest, token_id) != 0) {
        view->others = true;
        return;
    }
    view->state = state_of(word);
    view->since = since;
    view->word = offset + word_at;
    memmove(view->identity, tab + 1, strlen(tab + 1) + 1);
}

static enum kr_status look(int fd, const char *path, const char *token_id, struct view *ret,
                           struct kr_error *err)
{
    struct view view = {.state = STATE_SETTLED};
    char *text = NULL, *line, *end;

    KR_TRY(read_all(fd, path, &text, err));
    for (line = text; (end = strchr(line, '\n')); line = end + 1)
        scan_line(line, line - text, token_id, &view);
    view.end = line - text;
    free(text);
    *ret = view;
    return KR_OK;
}

/* A text that fits into one line; what would not, in a label say, is replaced. */
static void one_line(char *ret, size_t size, const char *text)
{
    snprintf(ret, size, "%s", text);
    for (char *p = ret; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = '?';
}

/* --- the file --------------------------------------------------------------------------------- */

/* Made by root, it belongs to whom the keystore beside it belongs to, or else the folder. */
static int give_to_owner(int fd, const char *path)
{
    char *beside = strdup(path), *slash;
    size_t len = strlen(path), suffix = strlen(KR_GUARD_SUFFIX);
    struct stat st;
    int rc = 0;

    if (!beside)
        return -1;
    if (len > suffix && strcmp(path + len - suffix, KR_GUARD_SUFFIX) == 0)
        beside[len - suffix] = '\0';
    if (strcmp(beside, path) == 0 || stat(beside, &st) != 0) {
        slash = strrchr(beside, '/');
        if (slash)
            slash[slash == beside ? 1 : 0] = '\0';
        rc = stat(slash ? beside : ".", &st);
    }
    if (rc == 0 && geteuid() == 0)
        rc = fchown(fd, st.st_uid, st.st_gid);
    free(beside);
    return rc;
}

static int sync_folder(const char *path)
{
    char *folder = strdup(path), *slash;
    int fd, rc;

    if (!folder)
        return -1;
    slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder ? 1 : 0] = '\0';
    fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return -1;
    rc = fsync(fd);
    close(fd);
    return rc;
}

static enum kr_status open_file(const char *path, int *ret, struct kr_error *err)
{
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd = open(path, flags);

    if (fd < 0 && errno == ENOENT) {
        fd = open(path, flags | O_CREAT | O_EXCL, 0600);
        if (fd >= 0 && (give_to_owner(fd, path) != 0 || sync_folder(path) != 0)) {
            fail_io(err, "make", path);
            close(fd);
            return KR_IO;
        }
        if (fd < 0 && errno == EEXIST)
            fd = open(path, flags);
    }
    if (fd < 0)
        return fail_io(err, "open", path);
    *ret = fd;
    return KR_OK;
}

static enum kr_status lock_file(int fd, const char *path, unsigned timeout_ms, struct kr_error *err)
{
    const uint64_t until = kr_now_ms() + timeout_ms;
    const struct timespec pause = {.tv_nsec = LOCK_POLL_MS * 1000000L};

    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return fail_io(err, "lock", path);
        if (kr_now_ms() >= until) {
            kr_fail(err, KR_IO, "another process was logging in for %u ms (it locks %s)",
                    timeout_ms, path);
            kr_hint(err, "try again; option lock-timeout in section [keyring] allows more time");
            return KR_IO;
        }
        nanosleep(&pause, NULL);
    }
    return KR_OK;
}

static enum kr_status open_locked(const char *path, unsigned timeout_ms, int *ret,
                                  struct kr_error *err)
{
    enum kr_status status;
    int fd = -1;

    KR_TRY(open_file(path, &fd, err));
    status = lock_file(fd, path, timeout_ms, err);
    if (status != KR_OK)
        close(fd);
    else
        *ret = fd;
    return status;
}

/* --- begin and end ---------------------------------------------------------------------------- */

static bool is_guarded(const struct view *view, const char *identity, bool count_low)
{
    if (strcmp(view->identity, identity) != 0)
        return false;
    return view->state == STATE_REFUSED || (view->state == STATE_ATTEMPT && count_low);
}

static enum kr_status fail_guarded(const struct view *view, const char *token_id,
                                   struct kr_error *err)
{
    char when[KR_TIME_TEXT];

    kr_time_text(view->since, when);
    if (view->state == STATE_REFUSED)
        kr_fail(err, KR_AUTH, "the PIN for token %s was refused at %s and is not tried again",
                token_id, when);
    else
        kr_fail(err, KR_AUTH,
                "a login to token %s at %s never ended, and the token reports a "
                "wrong PIN since",
                token_id, when);
    kr_hint(err, "put the right PIN into the PIN source (its change lifts the guard), or say "
                 "'p11keyring token unguard'");
    return KR_AUTH;
}

static enum kr_status append_attempt(int fd, const char *path, const char *token_id,
                                     const char *identity, struct kr_pin_guard *guard,
                                     struct kr_error *err)
{
    char line[LINE_BYTES];
    int word_at = 0, len;

    len = snprintf(line, sizeof(line), "%" PRId64 " %n%s %s\t%s\n", (int64_t)time(NULL), &word_at,
                   words[STATE_ATTEMPT], token_id, identity);
    if (len >= (int)sizeof(line))
        return kr_fail(err, KR_INTERNAL, "the PIN source's identity is too long to be recorded");
    errno = ENOSPC; /* what a short write means */
    if (ftruncate(fd, guard->before.end) != 0 ||
        pwrite(fd, line, (size_t)len, guard->before.end) != len || fsync(fd) != 0)
        return fail_io(err, "write", path);
    guard->word = guard->before.end + word_at;
    return KR_OK;
}

static enum kr_status check_and_record(int fd, const char *path, const char *token_id,
                                       const char *identity, bool count_low,
                                       struct kr_pin_guard *guard, struct kr_error *err)
{
    char token[256], source[512];

    one_line(token, sizeof(token), token_id);
    one_line(source, sizeof(source), identity);
    KR_TRY(look(fd, path, token, &guard->before, err));
    if (is_guarded(&guard->before, source, count_low))
        return fail_guarded(&guard->before, token, err);
    return append_attempt(fd, path, token, source, guard, err);
}

enum kr_status kr_pin_guard_begin(const char *path, const char *token_id, const char *identity,
                                  bool count_low, unsigned timeout_ms, struct kr_pin_guard **ret,
                                  struct kr_error *err)
{
    struct kr_pin_guard *guard = calloc(1, sizeof(*guard));
    enum kr_status status;

    if (!guard)
        return kr_fail_memory(err);
    guard->fd = -1;
    status = open_locked(path, timeout_ms, &guard->fd, err);
    if (status == KR_OK)
        status = check_and_record(guard->fd, path, token_id, identity, count_low, guard, err);
    if (status != KR_OK) {
        if (guard->fd >= 0)
            close(guard->fd);
        free(guard);
        return status;
    }
    *ret = guard;
    return KR_OK;
}

/* Sets the word of a line; a failure leaves the attempt without an outcome, which is on the safe
 * side. */
static void set_word(int fd, off_t at, enum state state)
{
    if (pwrite(fd, words[state], WORD_BYTES, at) == WORD_BYTES)
        (void)!fsync(fd);
}

/* Nothing of this token needs to be remembered any more. */
static void settle(int fd, const struct view *before, off_t word)
{
    if (before->others && before->state != STATE_SETTLED)
        set_word(fd, word, STATE_SETTLED);
    else if (ftruncate(fd, before->others ? before->end : 0) == 0)
        (void)!fsync(fd);
}

void kr_pin_guard_end(struct kr_pin_guard *guard, enum kr_guard_outcome outcome)
{
    switch (outcome) {
    case KR_GUARD_ACCEPTED:
        settle(guard->fd, &guard->before, guard->word);
        break;
    case KR_GUARD_REFUSED:
        set_word(guard->fd, guard->word, STATE_REFUSED);
        break;
    case KR_GUARD_NOT_TRIED:
        (void)!ftruncate(guard->fd, guard->before.end);
        break;
    case KR_GUARD_UNKNOWN:
        break;
    }
    close(guard->fd);
    free(guard);
}

/* --- asking and clearing ---------------------------------------------------------------------- */

/* Without the lock: a login under way would make this wait, and a half-written line is skipped. */
enum kr_status kr_pin_guard_query(const char *path, const char *token_id, const char *identity,
                                  bool *ret_guarded, int64_t *ret_since, struct kr_error *err)
{
    char token[256], source[512];
    struct view view = {.state = STATE_SETTLED};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    one_line(token, sizeof(token), token_id);
    one_line(source, sizeof(source), identity);
    if (fd < 0 && errno != ENOENT)
        return fail_io(err, "open", path);
    if (fd >= 0) {
        enum kr_status status = look(fd, path, token, &view, err);

        close(fd);
        KR_TRY(status);
    }
    *ret_guarded = is_guarded(&view, source, false);
    *ret_since = view.since;
    return KR_OK;
}

enum kr_status kr_pin_guard_clear(const char *path, const char *token_id, unsigned timeout_ms,
                                  bool *ret_cleared, struct kr_error *err)
{
    char token[256];
    struct view view;
    enum kr_status status;
    int fd = -1;

    if (access(path, F_OK) != 0 && errno == ENOENT) {
        *ret_cleared = false;
        return KR_OK;
    }
    one_line(token, sizeof(token), token_id);
    KR_TRY(open_locked(path, timeout_ms, &fd, err));
    status = look(fd, path, token, &view, err);
    if (status == KR_OK && view.state != STATE_SETTLED)
        settle(fd, &view, view.word);
    close(fd);
    KR_TRY(status);
    *ret_cleared = view.state != STATE_SETTLED;
    return KR_OK;
}
