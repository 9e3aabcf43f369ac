/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keyring_aes service: AES-256 under a secret of type AES that stays in the keyring. */
#include "component.h"

#include <strings.h>

#include "base/secret.h"
#include "hwaccel/aes256.h"

enum { KEY_BITS = 256 }; /* what the service calls the block size */

static enum kr_status check_mode(const char *mode, size_t block_size, struct kr_error *err)
{
    if (mode && block_size == KEY_BITS)
        return KR_OK;
    return kr_fail(err, KR_USAGE, "the keyring does AES with %d bits, not %zu", KEY_BITS,
                   block_size);
}

static enum kr_status find_room(const char *mode, size_t block_size, size_t len, size_t *ret,
                                struct kr_error *err)
{
    KR_TRY(check_mode(mode, block_size, err));
    return kr_aes256_room(mode, len, ret, err);
}

static int get_size(size_t len, const char *mode, size_t block_size, size_t *ret)
{
    struct kr_error err = KR_ERROR_INIT;
    return ret && find_room(mode, block_size, len, ret, &err) == KR_OK ? 0 : 1;
}

/* --- under the secret ------------------------------------------------------------------------- */

struct job {
    const char *id, *owner;
    struct kr_aes256 aes;
    const unsigned char *in;
    size_t len;
    unsigned char *out;
    size_t *ret_len;
};

static enum kr_status run_with(struct job *job, const struct kr_secret *secret,
                               struct kr_error *err)
{
    if (secret->form != KR_SECRET_WRAPPED)
        return kr_fail(err, KR_REFUSED,
                       "the key '%s' stays in the token and does no such operation", job->id);
    if (strcasecmp(secret->type, "AES") != 0)
        return kr_fail(err, KR_USAGE, "the key '%s' is not of type AES", job->id);
    job->aes.secret = secret->bytes;
    job->aes.secret_len = secret->len;
    return kr_aes256_run(&job->aes, job->in, job->len, job->out, job->ret_len, err);
}

static enum kr_status run(struct job *job, struct kr_error *err)
{
    struct component_keyring use;
    struct kr_secret secret;
    KR_TRY(component_begin(&use, err));
    enum kr_status status = kr_secrets_fetch(use.secrets, job->id, job->owner, &secret, err);
    component_end();
    if (status != KR_OK)
        return status;
    status = run_with(job, &secret, err);
    kr_secret_free(secret.bytes);
    return status;
}

static int crypt(struct job *job, size_t block_size, size_t room)
{
    struct kr_error err = KR_ERROR_INIT;
    size_t needed = job->len;
    if (!job->id || !job->in || !job->out || !job->ret_len)
        return 1;
    enum kr_status status = check_mode(job->aes.mode, block_size, &err);
    if (status == KR_OK && job->aes.encrypt)
        status = kr_aes256_room(job->aes.mode, job->len, &needed, &err);
    if (status == KR_OK && room < needed)
        status = kr_fail(&err, KR_USAGE, "%zu bytes of output do not fit in %zu", needed, room);
    if (status == KR_OK)
        status = run(job, &err);
    return status == KR_OK ? 0 : component_failed(&err);
}

/* Both of the service's functions have these parameters. */
#define JOB(does_encrypt)                                                                          \
    {                                                                                              \
        .id = data_id, .owner = auth_id ? auth_id : "",                                            \
        .aes = {.mode = mode, .iv = iv, .encrypt = (does_encrypt), .padding = padding}, .in = in,  \
        .len = len, .out = out, .ret_len = ret_len                                                 \
    }

static int encrypt(const char *data_id, const char *auth_id, const char *mode, size_t block_size,
                   const unsigned char *iv, bool padding, const unsigned char *in, size_t len,
                   unsigned char *out, size_t room, size_t *ret_len)
{
    struct job job = JOB(true);
    return crypt(&job, block_size, room);
}

static int decrypt(const char *data_id, const char *auth_id, const char *mode, size_t block_size,
                   const unsigned char *iv, bool padding, const unsigned char *in, size_t len,
                   unsigned char *out, size_t room, size_t *ret_len)
{
    struct job job = JOB(false);
    return crypt(&job, block_size, room);
}

struct mysql_keyring_aes component_aes = {
    .get_size = get_size,
    .encrypt = encrypt,
    .decrypt = decrypt,
};
