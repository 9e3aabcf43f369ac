/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The start cache's file (docs/FORMAT.md), all numbers big-endian:
 *
 *   "P11S" | format u8 | uuid 16 | generation u64 | its tag 16 | created u64 | expires u64 |
 *   salt 16 | iv 12 | ciphertext | tag 16; the plaintext: for each entry digest 32 | length u32 |
 * payload
 */
#include "wrap/start_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io.h"
#include "base/secret.h"

enum {
    FORMAT = 1,
    DIGEST = 32,
    SALT = 16,
    IV = 12,
    TAG = 16,
    KEY = 32,
    HEADER = 4 + 1 + 16 + 8 + KR_GENERATION_TAG_BYTES + 8 + 8 + SALT,
    ENTRY_HEAD = DIGEST + 4,
    PLAIN_MAX = 8 * 1024 * 1024,
    SCRYPT_N = 1 << 15, /* 32 MiB with r = 8: what a server can spare once at its start */
    SCRYPT_R = 8,
    SCRYPT_MEMORY = 64 * 1024 * 1024
};

static const uint8_t MAGIC[4] = {'P', '1', '1', 'S'};
static const char DOMAIN[] = "p11keyring start cache 1";

struct item {
    uint8_t digest[DIGEST];
    uint32_t len;
    uint8_t payload[];
};

struct kr_start_cache {
    void *tree;   /* of struct item, by digest (tsearch) */
    size_t bytes; /* of all entries in a file */
};

/* --- entries ------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return memcmp(((const struct item *)a)->digest, ((const struct item *)b)->digest, DIGEST);
}

struct kr_start_cache *kr_start_cache_new(void)
{
    return calloc(1, sizeof(struct kr_start_cache));
}

void kr_start_cache_free(struct kr_start_cache *cache)
{
    if (!cache)
        return;
    tdestroy(cache->tree, kr_secret_free);
    free(cache);
}

static bool hash_field(EVP_MD_CTX *md, const void *bytes, size_t len)
{
    uint8_t prefix[4];
    kr_put_number(prefix, len, 4);
    return EVP_DigestUpdate(md, prefix, sizeof(prefix)) == 1 &&
           EVP_DigestUpdate(md, bytes, len) == 1;
}

static bool hash_text(EVP_MD_CTX *md, const char *text)
{
    return hash_field(md, text, strlen(text));
}

/* Whose payload it is: the envelope and the place it stands in. */
static bool digest_of(const struct kr_envelope_context *context, const uint8_t *envelope,
                      size_t len, uint8_t ret[DIGEST])
{
    uint8_t version[4];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    kr_put_number(version, context->version, 4);
    bool done = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && hash_text(md, DOMAIN) &&
                hash_text(md, context->keyring) && hash_field(md, context->uuid, 16) &&
                hash_text(md, context->ns) && hash_text(md, context->id) &&
                hash_text(md, context->owner) && hash_field(md, version, sizeof(version)) &&
                hash_text(md, context->cipher) && hash_field(md, envelope, len) &&
                EVP_DigestFinal_ex(md, ret, NULL) == 1;
    EVP_MD_CTX_free(md);
    return done;
}

static enum kr_status insert(struct kr_start_cache *cache, const uint8_t *digest,
                             const uint8_t *payload, size_t len, struct kr_error *err)
{
    struct item *entry = kr_secret_alloc(sizeof(*entry) + len);
    if (!entry)
        return kr_fail_secret(err);
    memcpy(entry->digest, digest, DIGEST);
    entry->len = (uint32_t)len;
    memcpy(entry->payload, payload, len);
    struct item *const *at = tsearch(entry, &cache->tree, compare);
    if (!at || *at != entry)
        kr_secret_free(entry);
    if (!at)
        return kr_fail_memory(err);
    if (*at == entry)
        cache->bytes += ENTRY_HEAD + len;
    return KR_OK;
}

enum kr_status kr_start_cache_add(struct kr_start_cache *cache,
                                  const struct kr_envelope_context *context,
                                  const uint8_t *envelope, size_t envelope_len,
                                  const uint8_t *payload, size_t payload_len, struct kr_error *err)
{
    uint8_t digest[DIGEST];
    if (!digest_of(context, envelope, envelope_len, digest))
        return kr_fail(err, KR_INTERNAL, "SHA-256 failed in OpenSSL");
    return insert(cache, digest, payload, payload_len, err);
}

const uint8_t *kr_start_cache_find(const struct kr_start_cache *cache,
                                   const struct kr_envelope_context *context,
                                   const uint8_t *envelope, size_t envelope_len, size_t *ret_len)
{
    struct item wanted;
    if (!digest_of(context, envelope, envelope_len, wanted.digest))
        return NULL;
    struct item *const *at = tfind(&wanted, &cache->tree, compare);
    if (!at)
        return NULL;
    *ret_len = (*at)->len;
    return (*at)->payload;
}

/* --- sealing ------------------------------------------------------------------------------- */

static enum kr_status derive(const char *passphrase, size_t len, const uint8_t *salt, uint8_t *ret,
                             struct kr_error *err)
{
    if (len < KR_START_CACHE_PASSPHRASE_MIN) {
        kr_fail(err, KR_CONFIG, "the passphrase of the start cache is shorter than %d bytes",
                KR_START_CACHE_PASSPHRASE_MIN);
        kr_hint(err, "make a random one: openssl rand -base64 32");
        return KR_CONFIG;
    }
    if (EVP_PBE_scrypt(passphrase, len, salt, SALT, SCRYPT_N, SCRYPT_R, 1, SCRYPT_MEMORY, ret,
                       KEY) == 1)
        return KR_OK;
    return kr_fail(err, KR_INTERNAL, "scrypt failed in OpenSSL");
}

static void write_header(const struct kr_start_cache_binding *binding, uint8_t *at)
{
    memcpy(at, MAGIC, sizeof(MAGIC));
    at[4] = FORMAT;
    memcpy(at + 5, binding->uuid, 16);
    kr_put_number(at + 21, binding->generation.number, 8);
    memcpy(at + 29, binding->generation.tag, KR_GENERATION_TAG_BYTES);
    kr_put_number(at + 45, (uint64_t)binding->created, 8);
    kr_put_number(at + 53, (uint64_t)binding->expires, 8);
}

static void read_header(const uint8_t *at, struct kr_start_cache_binding *ret)
{
    memcpy(ret->uuid, at + 5, 16);
    ret->generation.number = kr_get_number(at + 21, 8);
    memcpy(ret->generation.tag, at + 29, KR_GENERATION_TAG_BYTES);
    ret->created = (int64_t)kr_get_number(at + 45, 8);
    ret->expires = (int64_t)kr_get_number(at + 53, 8);
}

/* The file's bytes: header, iv, payloads in place, tag. */
static bool crypt_payloads(bool seal, const uint8_t *key, const uint8_t *file, const uint8_t *in,
                           size_t len, uint8_t *out, uint8_t *tag)
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    int some = 0;
    bool done = cipher &&
                EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, key, file + HEADER, seal) == 1 &&
                EVP_CipherUpdate(cipher, NULL, &some, file, HEADER) == 1 &&
                EVP_CipherUpdate(cipher, out, &some, in, (int)len) == 1 &&
                (seal || EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG, tag) == 1) &&
                EVP_CipherFinal_ex(cipher, out + len, &some) == 1 &&
                (!seal || EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG, tag) == 1);
    EVP_CIPHER_CTX_free(cipher);
    return done;
}

static void put_entry(const void *node, VISIT visit, void *closure)
{
    const struct item *entry = *(struct item *const *)node;
    uint8_t **at = closure;
    if (visit != postorder && visit != leaf)
        return;
    memcpy(*at, entry->digest, DIGEST);
    kr_put_number(*at + DIGEST, entry->len, 4);
    memcpy(*at + ENTRY_HEAD, entry->payload, entry->len);
    *at += ENTRY_HEAD + entry->len;
}

static enum kr_status seal(const struct kr_start_cache *cache, const char *passphrase,
                           size_t passphrase_len, const struct kr_start_cache_binding *binding,
                           uint8_t *file, struct kr_error *err)
{
    KR_SECRET uint8_t *key = kr_secret_alloc(KEY);
    KR_SECRET uint8_t *plain = kr_secret_alloc(cache->bytes + 1);
    uint8_t *at = plain, *sealed = file + HEADER + IV;
    if (!key || !plain)
        return kr_fail_secret(err);
    twalk_r(cache->tree, put_entry, &at);
    write_header(binding, file);
    if (RAND_bytes(file + HEADER - SALT, SALT + IV) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    KR_TRY(derive(passphrase, passphrase_len, file + HEADER - SALT, key, err));
    if (crypt_payloads(true, key, file, plain, cache->bytes, sealed, sealed + cache->bytes))
        return KR_OK;
    return kr_fail(err, KR_INTERNAL, "AES-256-GCM failed in OpenSSL");
}

/* --- the file ------------------------------------------------------------------------------ */

static enum kr_status fail_io(const char *what, const char *path, int error, struct kr_error *err)
{
    kr_fail(err, error == ENOENT ? KR_NOT_FOUND : KR_IO, "cannot %s the start cache %s: %s", what,
            path, strerror(error));
    kr_hint(err, "start-cache in section [keyring] names it: its directory must belong to the user "
                 "that the server runs as");
    return err->status;
}

static bool write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t some = write(fd, bytes, len);
        if (some < 0 && errno != EINTR)
            return false;
        if (some > 0) {
            bytes += some;
            len -= (size_t)some;
        }
    }
    return true;
}

/* Whole or not at all: written aside, then put in its place. */
static enum kr_status replace(const char *path, const uint8_t *bytes, size_t len,
                              struct kr_error *err)
{
    char *aside;
    if (asprintf(&aside, "%s.new-XXXXXX", path) < 0)
        return kr_fail_memory(err);
    KR_FD int fd = mkostemp(aside, O_CLOEXEC); /* mode 0600 */
    bool done = fd >= 0 && write_all(fd, bytes, len) && fsync(fd) == 0 && rename(aside, path) == 0;
    enum kr_status status = done ? KR_OK : fail_io("write", path, errno, err);
    if (!done && fd >= 0)
        unlink(aside);
    free(aside);
    return status;
}

enum kr_status kr_start_cache_save(const struct kr_start_cache *cache, const char *path,
                                   const char *passphrase, size_t passphrase_len,
                                   const struct kr_start_cache_binding *binding,
                                   struct kr_error *err)
{
    if (cache->bytes > PLAIN_MAX)
        return kr_fail(err, KR_REFUSED, "the keys do not fit into a start cache: %zu bytes",
                       cache->bytes);
    size_t len = HEADER + IV + cache->bytes + TAG;
    uint8_t *file = malloc(len);
    if (!file)
        return kr_fail_memory(err);
    enum kr_status status = seal(cache, passphrase, passphrase_len, binding, file, err);
    if (status == KR_OK)
        status = replace(path, file, len, err);
    free(file);
    return status;
}

static enum kr_status fail_damaged(const char *path, const char *what, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "the start cache %s %s", path, what);
    kr_hint(err, "connect a token: the server then makes a new one");
    return KR_INTEGRITY;
}

static enum kr_status check_file(const char *path, const struct stat *st, struct kr_error *err)
{
    if (S_ISREG(st->st_mode) && !(st->st_mode & 077) && (st->st_uid == geteuid() || geteuid() == 0))
        return KR_OK;
    kr_fail(err, KR_CONFIG, "the start cache %s is not a file of this user alone", path);
    kr_hint(err, "remove it and find out who changed it; the server makes a new one");
    return KR_CONFIG;
}

static enum kr_status read_file(const char *path, uint8_t **ret, size_t *ret_len,
                                struct kr_error *err)
{
    const size_t max = HEADER + IV + PLAIN_MAX + TAG;
    struct stat st;
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        return fail_io("open", path, errno, err);
    KR_TRY(check_file(path, &st, err));
    if (st.st_size < HEADER + IV + TAG || (size_t)st.st_size > max)
        return fail_damaged(path, "has an impossible length", err);
    uint8_t *bytes = malloc((size_t)st.st_size);
    if (!bytes)
        return kr_fail_memory(err);
    ssize_t len = kr_read_full(fd, bytes, (size_t)st.st_size);
    if (len != st.st_size) {
        free(bytes);
        return fail_io("read", path, len < 0 ? errno : EIO, err);
    }
    *ret = bytes;
    *ret_len = (size_t)len;
    return KR_OK;
}

static enum kr_status take_entries(struct kr_start_cache *cache, const char *path,
                                   const uint8_t *at, size_t left, struct kr_error *err)
{
    while (left > 0) {
        uint64_t len = left > ENTRY_HEAD ? kr_get_number(at + DIGEST, 4) : 0;
        if (len == 0 || len > left - ENTRY_HEAD)
            return fail_damaged(path, "has an entry of impossible length", err);
        KR_TRY(insert(cache, at, at + ENTRY_HEAD, len, err));
        at += ENTRY_HEAD + len;
        left -= ENTRY_HEAD + len;
    }
    return KR_OK;
}

static enum kr_status unseal(const char *path, const uint8_t *file, size_t len,
                             const char *passphrase, size_t passphrase_len,
                             struct kr_start_cache *cache, struct kr_error *err)
{
    size_t sealed = len - HEADER - IV - TAG;
    uint8_t tag[TAG];
    KR_SECRET uint8_t *key = kr_secret_alloc(KEY);
    KR_SECRET uint8_t *plain = kr_secret_alloc(sealed + 1);
    if (!key || !plain)
        return kr_fail_secret(err);
    if (memcmp(file, MAGIC, sizeof(MAGIC)) != 0 || file[4] != FORMAT)
        return fail_damaged(path, "is of no format that is known here", err);
    KR_TRY(derive(passphrase, passphrase_len, file + HEADER - SALT, key, err));
    memcpy(tag, file + len - TAG, TAG);
    if (!crypt_payloads(false, key, file, file + HEADER + IV, sealed, plain, tag))
        return fail_damaged(path, "was edited, or sealed under another passphrase", err);
    return take_entries(cache, path, plain, sealed, err);
}

enum kr_status kr_start_cache_load(const char *path, const char *passphrase, size_t passphrase_len,
                                   struct kr_start_cache_binding *ret_binding,
                                   struct kr_start_cache **ret, struct kr_error *err)
{
    uint8_t *file = NULL;
    size_t len = 0;
    KR_TRY(read_file(path, &file, &len, err));
    struct kr_start_cache *cache = kr_start_cache_new();
    enum kr_status status = cache ? unseal(path, file, len, passphrase, passphrase_len, cache, err)
                                  : kr_fail_memory(err);
    if (status == KR_OK) {
        read_header(file, ret_binding);
        *ret = cache;
    } else {
        kr_start_cache_free(cache);
    }
    free(file);
    return status;
}
