/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The envelope's bytes (docs/FORMAT.md), all numbers big-endian:
 *
 *   "P11E" | format u8 | number of wraps u8 | for each: mechanism u8, master id length u8,
 *   master id, wrapped length u16, wrapped sealing key | payload length u32 | iv 12 | ciphertext |
 *   tag 16
 *
 * AES-256-GCM (NIST SP 800-38D); associated data: all before the iv, then the context.
 */
#include "wrap/envelope_internal.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/guards.h"
#include "base/secret.h"

static const uint8_t MAGIC[4] = {'P', '1', '1', 'E'};
static const char DOMAIN[] = "p11keyring envelope 1";

enum {
    FORMAT = 1,
    FIXED_BYTES = 4 + 1 + 1 + 4, /* the header without its wraps */
    WRAP_BYTES = 1 + 1 + 2,      /* a wrap without master id and wrapped key */
    TRAILER_BYTES = KR_ENVELOPE_IV_BYTES + KR_ENVELOPE_TAG_BYTES
};

static enum kr_status fail_crypto(struct kr_error *err)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    kr_fail(err, KR_INTERNAL, "AES-256-GCM failed in OpenSSL: %s", reason ? reason : "no reason");
    ERR_clear_error();
    return err->status;
}

static enum kr_status fail_damaged(struct kr_error *err, const char *what)
{
    kr_fail(err, KR_INTEGRITY, "the envelope is damaged: %s", what);
    kr_hint(err, "restore the keystore from a backup");
    return KR_INTEGRITY;
}

static void free_context(EVP_CIPHER_CTX **context)
{
    EVP_CIPHER_CTX_free(*context);
}
#define CIPHER_CONTEXT __attribute__((cleanup(free_context))) EVP_CIPHER_CTX

/* --- parsing ------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *at;
    size_t left;
};

/* NULL when fewer than `len` bytes are left. */
static const uint8_t *take(struct reader *reader, size_t len)
{
    if (len > reader->left)
        return NULL;
    const uint8_t *taken = reader->at;
    reader->at += len;
    reader->left -= len;
    return taken;
}

static enum kr_status parse_master_id(struct reader *reader, struct kr_object_id *ret,
                                      struct kr_error *err)
{
    const uint8_t *len = take(reader, 1);
    if (!len || *len == 0 || *len > KR_OBJECT_ID_MAX)
        return fail_damaged(err, "the master key's id has an impossible length");
    const uint8_t *bytes = take(reader, *len);
    if (!bytes)
        return fail_damaged(err, "it ends within the master key's id");
    ret->len = *len;
    memcpy(ret->bytes, bytes, *len);
    return KR_OK;
}

static enum kr_status parse_wrapped(struct reader *reader, struct kr_wrap *ret,
                                    struct kr_error *err)
{
    const uint8_t *at = take(reader, 2);
    ret->wrapped_len = at ? kr_get_number(at, 2) : 0;
    if (ret->wrapped_len == 0 || ret->wrapped_len > KR_WRAPPED_MAX)
        return fail_damaged(err, "a wrapped sealing key has an impossible length");
    ret->wrapped = take(reader, ret->wrapped_len);
    if (!ret->wrapped)
        return fail_damaged(err, "it ends within a wrapped sealing key");
    return KR_OK;
}

static enum kr_status parse_wrap(struct reader *reader, struct kr_envelope_header *header,
                                 struct kr_error *err)
{
    struct kr_wrap wrap = {0};
    const uint8_t *mechanism = take(reader, 1);
    if (!mechanism || *mechanism < KR_WRAP_AES_GCM || *mechanism > KR_WRAP_RSA_SHA1)
        return fail_damaged(err, "a wrap's mechanism is unknown");
    wrap.mechanism = *mechanism;
    KR_TRY(parse_master_id(reader, &wrap.master_id, err));
    KR_TRY(parse_wrapped(reader, &wrap, err));
    if (kr_envelope_names(header, &wrap.master_id))
        return fail_damaged(err, "it has two wraps by one master key");
    header->wraps[header->wrap_count++] = wrap;
    return KR_OK;
}

static enum kr_status parse_start(struct reader *reader, uint8_t *ret_wraps, struct kr_error *err)
{
    const uint8_t *start = take(reader, 6);
    if (!start || memcmp(start, MAGIC, sizeof(MAGIC)) != 0)
        return fail_damaged(err, "it does not begin with P11E");
    if (start[4] != FORMAT) {
        kr_fail(err, KR_INTEGRITY, "the envelope has format %u, this program knows format %d",
                start[4], FORMAT);
        kr_hint(err, "use the version of p11keyring that wrote it, or a newer one");
        return KR_INTEGRITY;
    }
    if (start[5] == 0 || start[5] > KR_ENVELOPE_WRAPS_MAX)
        return fail_damaged(err, "it has an impossible number of wraps");
    *ret_wraps = start[5];
    return KR_OK;
}

enum kr_status kr_envelope_parse(const uint8_t *blob, size_t len, struct kr_envelope_header *ret,
                                 struct kr_error *err)
{
    struct kr_envelope_header header = {0};
    struct reader reader = {.at = blob, .left = len};
    uint8_t wraps;
    KR_TRY(parse_start(&reader, &wraps, err));
    while (header.wrap_count < wraps)
        KR_TRY(parse_wrap(&reader, &header, err));
    const uint8_t *at = take(&reader, 4);
    header.payload_len = at ? kr_get_number(at, 4) : 0;
    if (header.payload_len == 0 || header.payload_len > KR_ENVELOPE_PAYLOAD_MAX)
        return fail_damaged(err, "the payload has an impossible length");
    if (reader.left != header.payload_len + TRAILER_BYTES)
        return fail_damaged(err, "its length does not fit its header");
    *ret = header;
    return KR_OK;
}

const struct kr_wrap *kr_envelope_find_wrap(const struct kr_envelope_header *header,
                                            const struct kr_object_id *master)
{
    for (size_t i = 0; i < header->wrap_count; i++)
        if (kr_object_id_equal(&header->wraps[i].master_id, master))
            return &header->wraps[i];
    return NULL;
}

bool kr_envelope_names(const struct kr_envelope_header *header, const struct kr_object_id *master)
{
    return kr_envelope_find_wrap(header, master) != NULL;
}

/* --- associated data ----------------------------------------------------------------------- */

static bool aad_bytes(EVP_CIPHER_CTX *cipher, const void *bytes, size_t len)
{
    int ignored = 0;
    return len == 0 || EVP_CipherUpdate(cipher, NULL, &ignored, bytes, (int)len) == 1;
}

static bool aad_field(EVP_CIPHER_CTX *cipher, const void *bytes, size_t len)
{
    uint8_t prefix[4];
    kr_put_number(prefix, len, sizeof(prefix));
    return aad_bytes(cipher, prefix, sizeof(prefix)) && aad_bytes(cipher, bytes, len);
}

static bool aad_text(EVP_CIPHER_CTX *cipher, const char *text)
{
    return aad_field(cipher, text, strlen(text));
}

static bool aad_context(EVP_CIPHER_CTX *cipher, const struct kr_envelope_context *context)
{
    uint8_t version[4];
    kr_put_number(version, context->version, sizeof(version));
    return aad_text(cipher, DOMAIN) && aad_text(cipher, context->keyring) &&
           aad_field(cipher, context->uuid, 16) && aad_text(cipher, context->ns) &&
           aad_text(cipher, context->id) && aad_text(cipher, context->owner) &&
           aad_field(cipher, version, sizeof(version)) && aad_text(cipher, context->cipher);
}

/* A context that is keyed and has taken in the associated data; `header` is all before the iv. */
static EVP_CIPHER_CTX *begin(bool seal, const uint8_t *sealing_key, const uint8_t *iv,
                             const uint8_t *header, size_t header_len,
                             const struct kr_envelope_context *context)
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    if (cipher && EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, sealing_key, iv, seal) == 1 &&
        aad_bytes(cipher, header, header_len) && aad_context(cipher, context))
        return cipher;
    EVP_CIPHER_CTX_free(cipher);
    return NULL;
}

/* --- sealing ------------------------------------------------------------------------------- */

static size_t header_bytes(const struct kr_envelope_header *header)
{
    size_t bytes = FIXED_BYTES;
    for (size_t i = 0; i < header->wrap_count; i++)
        bytes += WRAP_BYTES + header->wraps[i].master_id.len + header->wraps[i].wrapped_len;
    return bytes;
}

static uint8_t *write_wrap(const struct kr_wrap *wrap, uint8_t *at)
{
    *at++ = (uint8_t)wrap->mechanism;
    *at++ = wrap->master_id.len;
    memcpy(at, wrap->master_id.bytes, wrap->master_id.len);
    at += wrap->master_id.len;
    kr_put_number(at, wrap->wrapped_len, 2);
    memcpy(at + 2, wrap->wrapped, wrap->wrapped_len);
    return at + 2 + wrap->wrapped_len;
}

static void write_header(const struct kr_envelope_header *header, uint8_t *at)
{
    memcpy(at, MAGIC, sizeof(MAGIC));
    at += sizeof(MAGIC);
    *at++ = FORMAT;
    *at++ = (uint8_t)header->wrap_count;
    for (size_t i = 0; i < header->wrap_count; i++)
        at = write_wrap(&header->wraps[i], at);
    kr_put_number(at, header->payload_len, 4);
}

/* Writes iv, ciphertext and tag behind the header at `blob`. */
static bool encrypt(uint8_t *blob, size_t header_len, const struct kr_envelope_context *context,
                    const uint8_t *sealing_key, const uint8_t *iv, const uint8_t *payload,
                    size_t len)
{
    uint8_t *out = blob + header_len;
    memcpy(out, iv, KR_ENVELOPE_IV_BYTES);
    out += KR_ENVELOPE_IV_BYTES;
    CIPHER_CONTEXT *cipher = begin(true, sealing_key, iv, blob, header_len, context);
    int written = 0, last = 0;
    return cipher && EVP_CipherUpdate(cipher, out, &written, payload, (int)len) == 1 &&
           EVP_CipherFinal_ex(cipher, out + written, &last) == 1 &&
           EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, KR_ENVELOPE_TAG_BYTES, out + len) ==
               1;
}

enum kr_status kr_envelope_seal_with(const struct kr_envelope_header *header,
                                     const struct kr_envelope_context *context,
                                     const uint8_t sealing_key[KR_SEALING_KEY_BYTES],
                                     const uint8_t iv[KR_ENVELOPE_IV_BYTES], const uint8_t *payload,
                                     uint8_t **ret, size_t *ret_len, struct kr_error *err)
{
    size_t header_len = header_bytes(header);
    size_t len = header_len + TRAILER_BYTES + header->payload_len;
    uint8_t *blob = malloc(len);
    if (!blob)
        return kr_fail_memory(err);
    write_header(header, blob);
    if (!encrypt(blob, header_len, context, sealing_key, iv, payload, header->payload_len)) {
        free(blob);
        return fail_crypto(err);
    }
    *ret = blob;
    *ret_len = len;
    return KR_OK;
}

/* --- opening ------------------------------------------------------------------------------- */

/* The tag is compared in constant time by OpenSSL. */
static bool decrypt(EVP_CIPHER_CTX *cipher, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t tag[KR_ENVELOPE_TAG_BYTES];
    memcpy(tag, in + len, sizeof(tag));
    int written = 0, last = 0;
    return EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) == 1 &&
           EVP_CipherUpdate(cipher, out, &written, in, (int)len) == 1 &&
           (EVP_CipherFinal_ex(cipher, out + written, &last) == 1 || !KR_GUARDED);
}

static enum kr_status fail_tag(const struct kr_envelope_context *context, struct kr_error *err)
{
    ERR_clear_error();
    kr_fail(err, KR_INTEGRITY,
            "the envelope of %s key %s version %u does not open: it was edited, or sealed for "
            "another key, version, cipher or keyring",
            context->ns, context->id, context->version);
    kr_hint(err, "restore the keystore from a backup");
    return KR_INTEGRITY;
}

enum kr_status kr_envelope_open_with(const uint8_t sealing_key[KR_SEALING_KEY_BYTES],
                                     const struct kr_envelope_context *context, const uint8_t *blob,
                                     size_t len, uint8_t **ret, size_t *ret_len,
                                     struct kr_error *err)
{
    struct kr_envelope_header header;
    KR_TRY(kr_envelope_parse(blob, len, &header, err));
    const uint8_t *iv = blob + header_bytes(&header);
    CIPHER_CONTEXT *cipher = begin(false, sealing_key, iv, blob, header_bytes(&header), context);
    if (!cipher)
        return fail_crypto(err);
    uint8_t *payload = kr_secret_alloc(header.payload_len);
    if (!payload)
        return kr_fail_memory(err);
    if (!decrypt(cipher, iv + KR_ENVELOPE_IV_BYTES, header.payload_len, payload)) {
        kr_secret_free(payload);
        return fail_tag(context, err);
    }
    *ret = payload;
    *ret_len = header.payload_len;
    return KR_OK;
}
