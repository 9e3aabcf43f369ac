/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading, opening and writing a bundle's file. */
#include "backup/sealed_bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/secret.h"
#include "files/output.h"
#include "files/stream.h"
#include "pkcs11/recipient.h"
#include "provider/keyring.h"

/* --- reading ---------------------------------------------------------------------------------- */

static enum kr_status fail_read(const char *path, int error, struct kr_error *err)
{
    return kr_fail(err, error == ENOENT ? KR_NOT_FOUND : KR_IO, "cannot read the bundle %s: %s",
                   path, strerror(error));
}

static enum kr_status slurp(const char *path, uint8_t **ret, size_t *ret_len, struct kr_error *err)
{
    struct stat st;
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        return fail_read(path, errno, err);
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || (uint64_t)st.st_size > KR_BUNDLE_FILE_MAX)
        return kr_fail(err, KR_INTEGRITY, "%s is no bundle: no file of a possible size", path);
    uint8_t *blob = malloc((size_t)st.st_size);
    if (!blob)
        return kr_fail_memory(err);
    ssize_t len = kr_read_full(fd, blob, (size_t)st.st_size);
    if (len < 0) {
        free(blob);
        return fail_read(path, errno, err);
    }
    *ret = blob;
    *ret_len = (size_t)len;
    return KR_OK;
}

enum kr_status kr_sealed_bundle_read(const char *path, struct kr_sealed_bundle *ret,
                                     struct kr_error *err)
{
    struct kr_sealed_bundle file = {.path = path};
    KR_TRY(slurp(path, &file.blob, &file.len, err));
    enum kr_status status = kr_bundle_parse(file.blob, file.len, &file.header, err);
    if (status == KR_OK) {
        *ret = file;
    } else {
        kr_error_context(err, "%s", path);
        free(file.blob);
    }
    return status;
}

void kr_sealed_bundle_free(struct kr_sealed_bundle *file)
{
    free(file->blob);
    *file = (struct kr_sealed_bundle){0};
}

bool kr_sealed_bundle_has_recipient(const struct kr_sealed_bundle *file)
{
    for (size_t i = 0; i < file->header.slot_count; i++)
        if (file->header.slots[i].kind == KR_BUNDLE_SLOT_RECIPIENT)
            return true;
    return false;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Passwords that were read; theirs to free. */
struct read_passwords {
    char *text[KR_CUSTODIANS_MAX];
    struct kr_bundle_passwords given;
};

static void free_passwords(struct read_passwords *passwords)
{
    for (unsigned i = 0; i < KR_CUSTODIANS_MAX; i++)
        kr_secret_free(passwords->text[i]);
}
#define READ_PASSWORDS __attribute__((cleanup(free_passwords))) struct read_passwords

static enum kr_status read_passwords(struct kr_pin_source *const *sources, unsigned count,
                                     struct read_passwords *ret, struct kr_error *err)
{
    for (unsigned i = 0; i < count && i < KR_CUSTODIANS_MAX; i++) {
        KR_TRY(kr_pin_source_read(sources[i], &ret->text[i], &ret->given.len[i], err));
        ret->given.text[i] = ret->text[i];
        ret->given.count++;
    }
    return KR_OK;
}

static enum kr_status open_with(const struct kr_sealed_bundle *file, const uint8_t *content_key,
                                struct kr_bundle **ret, struct kr_error *err)
{
    return kr_bundle_open(file->blob, file->len, &file->header, content_key, ret, err);
}

static enum kr_status unlock(const struct kr_sealed_bundle *file,
                             const struct kr_bundle_passwords *given, struct kr_bundle **ret,
                             struct kr_error *err)
{
    KR_SECRET uint8_t *key = kr_secret_alloc(KR_CONTENT_KEY_BYTES);
    if (!key)
        return kr_fail_secret(err);
    KR_TRY(kr_bundle_unlock(file->blob, &file->header, given, key, err));
    return open_with(file, key, ret, err);
}

enum kr_status kr_sealed_bundle_open(const struct kr_sealed_bundle *file,
                                     struct kr_pin_source *const *passwords, unsigned count,
                                     struct kr_bundle **ret, struct kr_error *err)
{
    READ_PASSWORDS read = {.given = {.count = 0}};
    KR_TRY(read_passwords(passwords, count, &read, err));
    enum kr_status status = unlock(file, &read.given, ret, err);
    if (status != KR_OK)
        kr_error_context(err, "%s", file->path);
    return status;
}

/* --- in a token ------------------------------------------------------------------------------- */

/* The slots of one key differ in the hash; a token may know one of them alone. */
static enum kr_status try_token(const struct kr_sealed_bundle *file, struct kr_token *token,
                                uint8_t *ret, struct kr_error *err)
{
    enum kr_status status = KR_NOT_FOUND;
    for (size_t i = 0; i < file->header.slot_count && status != KR_OK; i++) {
        const struct kr_bundle_slot *slot = &file->header.slots[i];
        if (slot->kind == KR_BUNDLE_SLOT_RECIPIENT)
            status =
                kr_recipient_open(token, &slot->recipient, slot->hash, slot->wrapped, ret, err);
    }
    return status;
}

static enum kr_status try_named(const struct kr_sealed_bundle *file, const struct kr_config *config,
                                const char *name, uint8_t *ret, struct kr_error *err)
{
    struct kr_pin_source *pin = NULL;
    struct kr_token *token = NULL;
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    KR_TRY(kr_audit_open(config, &audit, err));
    enum kr_status status = kr_keyring_open_token(config, name, audit, &token, &pin, err);
    if (status == KR_OK)
        status = try_token(file, token, ret, err);
    kr_token_close(token);
    kr_pin_source_free(pin);
    return status;
}

enum kr_status kr_sealed_bundle_open_in_token(const struct kr_sealed_bundle *file,
                                              const struct kr_config *config,
                                              struct kr_bundle **ret, struct kr_error *err)
{
    KR_SECRET uint8_t *key = kr_secret_alloc(KR_CONTENT_KEY_BYTES);
    enum kr_status status = KR_NOT_FOUND;
    if (!key)
        return kr_fail_secret(err);
    for (unsigned i = 0; i < config->token_count && status != KR_OK; i++)
        status = try_named(file, config, config->tokens[i].name, key, err);
    if (status == KR_OK)
        status = open_with(file, key, ret, err);
    if (status != KR_OK)
        kr_error_context(err, "%s", file->path);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

static enum kr_status write_new(const char *path, const uint8_t *blob, size_t len,
                                struct kr_error *err)
{
    KR_OUTPUT output = {.fd = -1, .folder = -1};
    KR_TRY(kr_output_open(path, &output, err));
    KR_TRY(kr_stream_write(output.fd, blob, len, err));
    return kr_output_commit(&output, err);
}

enum kr_status kr_sealed_bundle_check(struct kr_pin_source *const *passwords, unsigned count,
                                      struct kr_error *err)
{
    READ_PASSWORDS read = {.given = {.count = 0}};
    KR_TRY(read_passwords(passwords, count, &read, err));
    return kr_bundle_check_passwords(&read.given, err);
}

enum kr_status kr_sealed_bundle_write(const struct kr_bundle *bundle,
                                      struct kr_pin_source *const *passwords, unsigned count,
                                      const struct kr_rsa_public *recipient, const char *path,
                                      struct kr_error *err)
{
    READ_PASSWORDS read = {.given = {.count = 0}};
    uint8_t *blob = NULL;
    size_t len = 0;
    KR_TRY(read_passwords(passwords, count, &read, err));
    const struct kr_bundle_locks locks = {.passwords = count > 0 ? &read.given : NULL,
                                          .recipient = recipient};
    KR_TRY(kr_bundle_seal(bundle, &locks, &blob, &len, err));
    enum kr_status status = write_new(path, blob, len, err);
    free(blob);
    return status;
}
