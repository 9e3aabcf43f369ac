/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Keystores, as they lie in backups: whose they are, and by which master keys their envelopes are
 * wrapped. Looked at in a copy: opening a file by SQLite may write to it.
 */
#include "files/kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hex.h"
#include "wrap/envelope.h"
#include "wrap/keystore.h"

enum { COPY_MAX = 1 << 30, LOCK_TIMEOUT_MS = 1000 };

/* --- the copy --------------------------------------------------------------------------------- */

static bool copy_bytes(const struct kr_file *file, int to)
{
    uint8_t *bytes = malloc(KR_FILE_HEAD_BYTES);
    bool ok = bytes != NULL;
    for (uint64_t at = 0; ok && at < file->size; at += KR_FILE_HEAD_BYTES) {
        struct kr_error ignored = KR_ERROR_INIT;
        uint64_t left = file->size - at;
        size_t len = left < KR_FILE_HEAD_BYTES ? (size_t)left : KR_FILE_HEAD_BYTES;
        ok = kr_file_read(file, at, bytes, len, &ignored) == KR_OK &&
             write(to, bytes, len) == (ssize_t)len;
    }
    free(bytes);
    return ok;
}

/* Its path goes to `path`; the caller removes it. */
static enum kr_status make_copy(const struct kr_file *file, char *path, size_t size,
                                struct kr_error *err)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/p11keyring.XXXXXX", folder && *folder ? folder : "/tmp");
    int fd = file->size <= COPY_MAX ? mkostemp(path, O_CLOEXEC) : -1;
    if (fd < 0)
        return kr_fail(err, KR_IO, "cannot copy %s to look at it: %s", file->path, strerror(errno));
    bool ok = copy_bytes(file, fd);
    close(fd);
    if (ok)
        return KR_OK;
    unlink(path);
    return kr_fail(err, KR_IO, "cannot copy %s to look at it", file->path);
}

/* --- what is in it ---------------------------------------------------------------------------- */

static enum kr_status count_envelope(struct kr_file_report *report, const uint8_t *blob, size_t len,
                                     struct kr_error *err)
{
    struct kr_envelope_header header;
    char id[2 * KR_OBJECT_ID_MAX + 1];
    KR_TRY(kr_envelope_parse(blob, len, &header, err));
    for (size_t i = 0; i < header.wrap_count; i++) {
        const struct kr_object_id *master = &header.wraps[i].master_id;
        kr_hex_encode(master->bytes, master->len, id);
        KR_TRY(kr_file_report_need_master(report, id, 1, err));
    }
    return KR_OK;
}

static enum kr_status count_row(const struct kr_version_row *row, void *context,
                                struct kr_error *err)
{
    return count_envelope(context, row->envelope, row->envelope_len, err);
}

static enum kr_status count_all(struct kr_keystore *keystore, struct kr_file_report *report,
                                struct kr_error *err)
{
    uint8_t *blob = NULL;
    size_t len = 0;
    KR_TRY(kr_keystore_get_manifest_envelope(keystore, &blob, &len, err));
    enum kr_status status = count_envelope(report, blob, len, err);
    free(blob);
    KR_TRY(status);
    return kr_keystore_each_version(keystore, NULL, count_row, report, err);
}

static enum kr_status look_into(const char *copy, struct kr_file_report *report,
                                struct kr_error *err)
{
    const struct kr_keystore_options options = {.path = copy, .lock_timeout_ms = LOCK_TIMEOUT_MS};
    struct kr_keystore *keystore = NULL;
    char uuid[2 * KR_KEYSTORE_UUID_BYTES + 1];
    KR_TRY(kr_keystore_open(&options, &keystore, err));
    kr_hex_encode(kr_keystore_uuid(keystore), KR_KEYSTORE_UUID_BYTES, uuid);
    snprintf(report->format, sizeof(report->format), "keystore %s", uuid);
    enum kr_status status = kr_keystore_begin_read(keystore, err);
    if (status == KR_OK)
        status = count_all(keystore, report, err);
    kr_keystore_close(keystore);
    return status;
}

/* A change that was cut off: what it was to be is in neither file alone. */
static bool has_journal(const struct kr_file *file)
{
    struct stat st;
    char *path = NULL;
    bool there =
        asprintf(&path, "%s-journal", file->path) < 0 || (lstat(path, &st) == 0 && st.st_size > 0);
    free(path);
    return there;
}

static enum kr_status inspect(struct kr_file *file, struct kr_file_report *report,
                              struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    char copy[512];
    KR_TRY(make_copy(file, copy, sizeof(copy), err));
    enum kr_status status = look_into(copy, report, &why);
    unlink(copy);
    report->encrypted = KR_ENCRYPTED_YES;
    if (has_journal(file)) {
        report->incomplete = true;
        KR_TRY(
            kr_file_report_note(report, err, "a change of it was cut off: its journal is there"));
    }
    if (status == KR_OK)
        return kr_file_report_note(report, err,
                                   "keys wrapped by a token, worthless without it; p11keyring "
                                   "status verifies the one in use");
    report->damaged = true;
    return kr_file_report_note(report, err, "%s", why.text);
}

const struct kr_file_kind_ops kr_keystore_ops = {
    .kind = KR_FILE_KEYSTORE,
    .inspect = inspect,
};
