/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The record, KEYSTORE.rekey-SCOPE, where SCOPE is of the paths: a first line "p11keyring-rekey-1
 * ID TIME", 64 hexadecimal digits and 20 decimal ones; the paths after it are for people. The mark:
 * SHA-256 of the id, the time, the key and the iv's first half, in the place of its second half.
 */
#include "files/rekey_run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/hex.h"
#include "base/io.h"
#include "files/output.h"

#define MAGIC "p11keyring-rekey-1 "

enum {
    ID_BYTES = 32,
    HASH_BYTES = 32,
    SCOPE_BYTES = 8,
    MARK_BYTES = 16,
    MARK_AT = KR_MYSQL_SEALED_BYTES - MARK_BYTES,
    ID_TEXT_AT = sizeof(MAGIC) - 1,
    TIME_TEXT_AT = ID_TEXT_AT + 2 * ID_BYTES + 1,
    LINE_CHARS = TIME_TEXT_AT + 20
};

struct kr_rekey_run {
    char *record, *paths; /* the second for people: one a line */
    uint8_t id[ID_BYTES];
    int64_t began;
    bool resumed;
    pthread_mutex_t lock;
    bool written; /* the record of this run is on the disk */
};

/* --- what the run is over --------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_texts(char **texts, size_t count)
{
    for (size_t i = 0; texts && i < count; i++)
        free(texts[i]);
    free(texts);
}

/* Full paths, one a line, in an order that does not depend on the arguments'; NULL without memory.
 */
static char *list_paths(char *const *paths, size_t count)
{
    char **full = calloc(count + 1, sizeof(*full)), *ret = NULL;
    size_t len = 0, there = 0;
    for (size_t i = 0; full && i < count; i++) {
        full[i] = realpath(paths[i], NULL);
        if (!full[i])
            full[i] = strdup(paths[i]);
        there += full[i] != NULL;
        len += full[i] ? strlen(full[i]) + 1 : 0;
    }
    if (full && there == count && (ret = calloc(1, len + 1))) {
        qsort(full, count, sizeof(*full), by_text);
        char *at = ret;
        for (size_t i = 0; i < count; i++)
            at = stpcpy(stpcpy(at, full[i]), "\n");
    }
    free_texts(full, count);
    return ret;
}

static enum kr_status name_record(struct kr_rekey_run *run, const char *keystore,
                                  struct kr_error *err)
{
    uint8_t hash[HASH_BYTES];
    char scope[2 * SCOPE_BYTES + 1];
    if (EVP_Digest(run->paths, strlen(run->paths), hash, NULL, EVP_sha256(), NULL) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to hash");
    kr_hex_encode(hash, SCOPE_BYTES, scope);
    if (asprintf(&run->record, "%s.rekey-%s", keystore, scope) >= 0)
        return KR_OK;
    run->record = NULL;
    return kr_fail_memory(err);
}

/* --- the record ------------------------------------------------------------------------------- */

/* False for none, and for one that is damaged: then nothing is left out. */
static bool read_record(struct kr_rekey_run *run)
{
    char line[LINE_CHARS + 1] = "", *end;
    KR_FD int fd = open(run->record, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || kr_read_full(fd, line, LINE_CHARS) != LINE_CHARS ||
        strncmp(line, MAGIC, ID_TEXT_AT) != 0 || line[TIME_TEXT_AT - 1] != ' ' ||
        !kr_hex_decode(line + ID_TEXT_AT, (size_t)2 * ID_BYTES, run->id))
        return false;
    errno = 0;
    run->began = strtoll(line + TIME_TEXT_AT, &end, 10);
    return errno == 0 && *end == '\0' && run->began > 0;
}

static enum kr_status fail_io(const struct kr_rekey_run *run, const char *what,
                              struct kr_error *err)
{
    return kr_fail(err, KR_IO, "cannot %s %s: %s", what, run->record, strerror(errno));
}

static enum kr_status write_record(const struct kr_rekey_run *run, struct kr_error *err)
{
    KR_OUTPUT output = {.fd = -1, .folder = -1};
    char id[2 * ID_BYTES + 1];
    if (unlink(run->record) != 0 && errno != ENOENT)
        return fail_io(run, "replace", err);
    KR_TRY(kr_output_open(run->record, &output, err));
    kr_hex_encode(run->id, ID_BYTES, id);
    if (dprintf(output.fd, MAGIC "%s %020" PRId64 "\n%s", id, run->began, run->paths) < 0)
        return fail_io(run, "write", err);
    return kr_output_commit(&output, err);
}

enum kr_status kr_rekey_run_begin(struct kr_rekey_run *run, struct kr_error *err)
{
    enum kr_status status = KR_OK;
    pthread_mutex_lock(&run->lock);
    if (run->record && !run->written)
        status = write_record(run, err);
    run->written = status == KR_OK;
    pthread_mutex_unlock(&run->lock);
    return status;
}

enum kr_status kr_rekey_run_end(struct kr_rekey_run *run, struct kr_error *err)
{
    if (!run->written)
        return KR_OK;
    run->written = false;
    if (!run->record || unlink(run->record) == 0 || errno == ENOENT)
        return KR_OK;
    return fail_io(run, "remove", err);
}

/* --- the run ---------------------------------------------------------------------------------- */

static enum kr_status set_up(struct kr_rekey_run *run, const char *keystore, bool anew,
                             struct kr_error *err)
{
    if (!run->paths)
        return kr_fail_memory(err);
    if (keystore)
        KR_TRY(name_record(run, keystore, err));
    run->resumed = keystore && !anew && read_record(run);
    run->written = run->resumed;
    if (run->resumed)
        return KR_OK;
    run->began = time(NULL);
    return RAND_bytes(run->id, ID_BYTES) == 1
               ? KR_OK
               : kr_fail(err, KR_INTERNAL, "OpenSSL has no random numbers");
}

enum kr_status kr_rekey_run_open(const char *keystore, char *const *paths, size_t count, bool anew,
                                 struct kr_rekey_run **ret, struct kr_error *err)
{
    struct kr_rekey_run *run = calloc(1, sizeof(*run));
    if (!run)
        return kr_fail_memory(err);
    pthread_mutex_init(&run->lock, NULL);
    run->paths = list_paths(paths, count);
    enum kr_status status = set_up(run, keystore, anew, err);
    if (status == KR_OK)
        *ret = run;
    else
        kr_rekey_run_free(run);
    return status;
}

void kr_rekey_run_free(struct kr_rekey_run *run)
{
    if (!run)
        return;
    pthread_mutex_destroy(&run->lock);
    free(run->record);
    free(run->paths);
    free(run);
}

int64_t kr_rekey_run_resumed(const struct kr_rekey_run *run)
{
    return run->resumed ? run->began : 0;
}

/* --- marks ------------------------------------------------------------------------------------ */

static bool mark_of(const struct kr_rekey_run *run, const uint8_t *opened, uint8_t ret[MARK_BYTES])
{
    uint8_t began[8], hash[HASH_BYTES];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    kr_put_number(began, (uint64_t)run->began, sizeof(began));
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, MAGIC, sizeof(MAGIC)) == 1 &&
              EVP_DigestUpdate(md, run->id, ID_BYTES) == 1 &&
              EVP_DigestUpdate(md, began, sizeof(began)) == 1 &&
              EVP_DigestUpdate(md, opened, MARK_AT) == 1 && EVP_DigestFinal_ex(md, hash, NULL) == 1;
    EVP_MD_CTX_free(md);
    if (ok)
        memcpy(ret, hash, MARK_BYTES);
    return ok;
}

bool kr_rekey_run_mark(const struct kr_rekey_run *run, uint8_t opened[KR_MYSQL_SEALED_BYTES])
{
    return mark_of(run, opened, opened + MARK_AT);
}

bool kr_rekey_run_made(const struct kr_rekey_run *run, const uint8_t opened[KR_MYSQL_SEALED_BYTES])
{
    uint8_t mark[MARK_BYTES];
    return mark_of(run, opened, mark) && CRYPTO_memcmp(mark, opened + MARK_AT, MARK_BYTES) == 0;
}
