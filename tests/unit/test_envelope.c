/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Envelopes without a token: the bytes of docs/FORMAT.md, and that nothing else opens. */
#include <ctype.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hex.h"
#include "base/secret.h"
#include "vectors.h"
#include "wrap/envelope_internal.h"
#include "wrong_contexts.h"

enum { BLOB_MAX = 512 };

struct bytes {
    uint8_t at[BLOB_MAX];
    size_t len;
};

static struct bytes from_hex(const char *hex)
{
    struct bytes bytes = {.len = strlen(hex) / 2};
    assert_true(bytes.len <= BLOB_MAX);
    assert_true(kr_hex_decode(hex, strlen(hex), bytes.at));
    return bytes;
}

static struct kr_object_id object_id(const char *hex)
{
    struct bytes bytes = from_hex(hex);
    struct kr_object_id id = {.len = (uint8_t)bytes.len};
    memcpy(id.bytes, bytes.at, bytes.len);
    return id;
}

static uint8_t uuid[16];
static struct bytes sealing_key, payload, gcm_envelope;
static const struct kr_envelope_context gcm_context = {.keyring = "default",
                                                       .uuid = uuid,
                                                       .ns = "mariadb",
                                                       .id = "1",
                                                       .owner = "",
                                                       .version = 1,
                                                       .cipher = "aes-cbc"};
static const struct kr_envelope_context kwp_context = {.keyring = "default",
                                                       .uuid = uuid,
                                                       .ns = "mariadb",
                                                       .id = "7",
                                                       .owner = "",
                                                       .version = 3,
                                                       .cipher = "aes-ctr"};

static int group_setup(void **state)
{
    (void)state;
    memcpy(uuid, from_hex(VECTOR_UUID).at, sizeof(uuid));
    sealing_key = from_hex(VECTOR_SEALING_KEY);
    payload = from_hex(VECTOR_PAYLOAD);
    gcm_envelope = from_hex(VECTOR_GCM_ENVELOPE);
    return 0;
}

/* Opens a copy of exactly `len` bytes, so that a sanitizer sees a read beyond them. */
static enum kr_status try_open(const struct kr_envelope_context *context, const uint8_t *blob,
                               size_t len)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_SECRET uint8_t *opened = NULL;
    size_t opened_len = 0;
    uint8_t *copy = malloc(len + (len == 0));
    assert_non_null(copy);
    memcpy(copy, blob, len);
    enum kr_status status =
        kr_envelope_open_with(sealing_key.at, context, copy, len, &opened, &opened_len, &err);
    free(copy);
    if (status != KR_OK) {
        assert_null(opened);
        assert_int_equal(opened_len, 0);
        assert_true(err.text[0] != '\0');
    }
    return status;
}

/* --- test vectors ---------------------------------------------------------------------------- */

static void check_vector(const char *envelope_hex, const struct kr_envelope_header *header,
                         const struct kr_envelope_context *context)
{
    struct kr_error err = KR_ERROR_INIT;
    struct bytes expected = from_hex(envelope_hex), iv = from_hex(VECTOR_IV);
    uint8_t *sealed = NULL;
    KR_SECRET uint8_t *opened = NULL;
    size_t len = 0;
    assert_int_equal(kr_envelope_seal_with(header, context, sealing_key.at, iv.at, payload.at,
                                           &sealed, &len, &err),
                     KR_OK);
    assert_int_equal(len, expected.len);
    assert_memory_equal(sealed, expected.at, len);
    free(sealed);
    assert_int_equal(kr_envelope_open_with(sealing_key.at, context, expected.at, expected.len,
                                           &opened, &len, &err),
                     KR_OK);
    assert_int_equal(len, header->payload_len);
    assert_memory_equal(opened, payload.at, len);
}

static void test_vectors(void **state)
{
    (void)state;
    struct bytes gcm = from_hex(VECTOR_GCM_WRAPPED), kwp = from_hex(VECTOR_KWP_WRAPPED);
    const struct kr_wrap by_gcm = {.mechanism = KR_WRAP_AES_GCM,
                                   .master_id = object_id(VECTOR_GCM_MASTER_ID),
                                   .wrapped = gcm.at,
                                   .wrapped_len = gcm.len};
    const struct kr_wrap by_kwp = {.mechanism = KR_WRAP_AES_KWP,
                                   .master_id = object_id(VECTOR_KWP_MASTER_ID),
                                   .wrapped = kwp.at,
                                   .wrapped_len = kwp.len};
    struct kr_envelope_header header = {.wraps = {by_gcm}, .wrap_count = 1, .payload_len = 32};
    check_vector(VECTOR_GCM_ENVELOPE, &header, &gcm_context);
    header = (struct kr_envelope_header){.wraps = {by_kwp}, .wrap_count = 1, .payload_len = 16};
    check_vector(VECTOR_KWP_ENVELOPE, &header, &kwp_context);
    header =
        (struct kr_envelope_header){.wraps = {by_gcm, by_kwp}, .wrap_count = 2, .payload_len = 32};
    check_vector(VECTOR_BOTH_ENVELOPE, &header, &gcm_context);
}

static void test_parse_says_what_the_header_holds(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_envelope_header header;
    struct kr_object_id id = object_id(VECTOR_GCM_MASTER_ID);
    struct bytes wrapped = from_hex(VECTOR_GCM_WRAPPED);
    assert_int_equal(kr_envelope_parse(gcm_envelope.at, gcm_envelope.len, &header, &err), KR_OK);
    assert_int_equal(header.wrap_count, 1);
    assert_int_equal(header.wraps[0].mechanism, KR_WRAP_AES_GCM);
    assert_true(kr_object_id_equal(&header.wraps[0].master_id, &id));
    assert_int_equal(header.wraps[0].wrapped_len, wrapped.len);
    assert_memory_equal(header.wraps[0].wrapped, wrapped.at, wrapped.len);
    assert_int_equal(header.payload_len, 32);
}

/* The wrapped sealing key of a vector, opened with nothing but OpenSSL and the master key, as
 * somebody who has the document and an exported key would. */
static void check_wrap(const EVP_CIPHER *cipher, const uint8_t *iv, const char *aad,
                       const struct kr_object_id *id, uint8_t *in, int len, uint8_t *tag)
{
    uint8_t out[64];
    int written = 0, ignored = 0;
    struct bytes master = from_hex(VECTOR_MASTER_KEY);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    assert_int_equal(EVP_DecryptInit_ex(ctx, cipher, NULL, master.at, iv), 1);
    if (tag) {
        assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, tag), 1);
        EVP_DecryptUpdate(ctx, NULL, &ignored, (const uint8_t *)aad, (int)strlen(aad));
        EVP_DecryptUpdate(ctx, NULL, &ignored, id->bytes, id->len);
    }
    assert_int_equal(EVP_DecryptUpdate(ctx, out, &written, in, len), 1);
    assert_int_equal(EVP_DecryptFinal_ex(ctx, out + written, &ignored), 1);
    assert_int_equal(written, 32);
    assert_memory_equal(out, sealing_key.at, 32);
    EVP_CIPHER_CTX_free(ctx);
}

static void test_wrapped_keys_open_with_the_master_key(void **state)
{
    (void)state;
    struct bytes gcm = from_hex(VECTOR_GCM_WRAPPED), kwp = from_hex(VECTOR_KWP_WRAPPED);
    struct kr_object_id id = object_id(VECTOR_GCM_MASTER_ID);
    check_wrap(EVP_aes_256_gcm(), gcm.at, "p11keyring wrap 1", &id, gcm.at + 12, 32, gcm.at + 44);
    check_wrap(EVP_aes_256_wrap_pad(), NULL, "", NULL, kwp.at, (int)kwp.len, NULL);
}

static char *read_document(void)
{
    FILE *file = fopen(P11K_SOURCE_DIR "/docs/FORMAT.md", "re");
    assert_non_null(file);
    char *text = calloc(1, 256 * 1024);
    assert_non_null(text);
    size_t len = 0;
    for (int c; len < 256 * 1024 - 1 && (c = fgetc(file)) != EOF;) {
        if (!isspace(c))
            text[len++] = (char)c;
    }
    fclose(file);
    return text;
}

static void test_document_has_the_vectors(void **state)
{
    (void)state;
    static const char *const vectors[] = {VECTOR_MASTER_KEY,
                                          VECTOR_SEALING_KEY,
                                          VECTOR_UUID,
                                          VECTOR_IV,
                                          VECTOR_PAYLOAD,
                                          VECTOR_GCM_WRAPPED,
                                          VECTOR_GCM_CONTEXT,
                                          VECTOR_GCM_ENVELOPE,
                                          VECTOR_KWP_WRAPPED,
                                          VECTOR_KWP_ENVELOPE,
                                          VECTOR_BOTH_ENVELOPE,
                                          VECTOR_MANIFEST_KEY,
                                          VECTOR_MANIFEST_ENVELOPE,
                                          VECTOR_MANIFEST_BYTES,
                                          VECTOR_MANIFEST_MAC,
                                          VECTOR_AUDIT_LINE,
                                          VECTOR_AUDIT_HASH,
                                          VECTOR_RSA_P,
                                          VECTOR_RSA_Q,
                                          VECTOR_RSA_SHA256_WRAPPED,
                                          VECTOR_RSA_SHA1_WRAPPED,
                                          VECTOR_PAGE_GIVEN,
                                          VECTOR_PAGE_IV,
                                          VECTOR_PAGE_TEXT,
                                          VECTOR_PAGE_KEY,
                                          VECTOR_PAGE_LOG_KEY,
                                          VECTOR_PAGE_CBC,
                                          VECTOR_PAGE_CBC_PADDED,
                                          VECTOR_PAGE_CTR,
                                          VECTOR_PAGE_GCM,
                                          VECTOR_MYSQL_PAGE,
                                          VECTOR_MYSQL_PAGE_ENCRYPTED,
                                          VECTOR_MYSQL_COMPRESSED,
                                          VECTOR_MYSQL_COMPRESSED_ENCRYPTED,
                                          VECTOR_MYSQL_PAGE_SHA256,
                                          VECTOR_BUNDLE_ID,
                                          VECTOR_BUNDLE_SLOT_IV,
                                          VECTOR_BUNDLE_RECORDS,
                                          VECTOR_BUNDLE_SCRYPT,
                                          VECTOR_BUNDLE_PBKDF2,
                                          VECTOR_BUNDLE_CUSTODIANS,
                                          VECTOR_BUNDLE_RECIPIENT};
    char *document = read_document();
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        if (!strstr(document, vectors[i]))
            fail_msg("docs/FORMAT.md does not have %s", vectors[i]);
    }
    free(document);
}

/* --- nothing else opens ---------------------------------------------------------------------- */

static void test_every_flipped_bit_is_refused(void **state)
{
    (void)state;
    assert_int_equal(try_open(&gcm_context, gcm_envelope.at, gcm_envelope.len), KR_OK);
    for (size_t bit = 0; bit < gcm_envelope.len * 8; bit++) {
        struct bytes flipped = gcm_envelope;
        flipped.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (try_open(&gcm_context, flipped.at, flipped.len) != KR_INTEGRITY)
            fail_msg("bit %zu of byte %zu", bit % 8, bit / 8);
    }
}

static void test_every_other_length_is_refused(void **state)
{
    (void)state;
    struct bytes longer = gcm_envelope;
    for (size_t len = 0; len < gcm_envelope.len; len++)
        assert_int_equal(try_open(&gcm_context, gcm_envelope.at, len), KR_INTEGRITY);
    for (longer.len++; longer.len < gcm_envelope.len + 40; longer.len++)
        assert_int_equal(try_open(&gcm_context, longer.at, longer.len), KR_INTEGRITY);
}

static void test_every_context_field_counts(void **state)
{
    (void)state;
    struct kr_envelope_context wrong[WRONG_CONTEXTS];
    wrong_contexts(&gcm_context, wrong);
    for (size_t i = 0; i < WRONG_CONTEXTS; i++) {
        if (try_open(&wrong[i], gcm_envelope.at, gcm_envelope.len) != KR_INTEGRITY)
            fail_msg("context %zu", i);
    }
}

static void test_swapped_envelopes_are_refused(void **state)
{
    (void)state;
    struct bytes kwp = from_hex(VECTOR_KWP_ENVELOPE);
    assert_int_equal(try_open(&kwp_context, kwp.at, kwp.len), KR_OK);
    assert_int_equal(try_open(&gcm_context, kwp.at, kwp.len), KR_INTEGRITY);
    assert_int_equal(try_open(&kwp_context, gcm_envelope.at, gcm_envelope.len), KR_INTEGRITY);
}

static void test_wrong_sealing_key_is_refused(void **state)
{
    (void)state;
    sealing_key.at[31] ^= 1;
    assert_int_equal(try_open(&gcm_context, gcm_envelope.at, gcm_envelope.len), KR_INTEGRITY);
    sealing_key.at[31] ^= 1;
}

static void test_newer_format_names_both_numbers(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_envelope_header header;
    struct bytes newer = gcm_envelope;
    newer.at[4] = 9;
    assert_int_equal(kr_envelope_parse(newer.at, newer.len, &header, &err), KR_INTEGRITY);
    assert_non_null(strstr(err.text, "format 9"));
    assert_non_null(strstr(err.text, "format 1"));
    assert_true(err.hint[0] != '\0');
}

/* --- sizes ----------------------------------------------------------------------------------- */

static void check_size(size_t size)
{
    struct kr_error err = KR_ERROR_INIT;
    struct bytes wrapped = from_hex(VECTOR_GCM_WRAPPED), iv = from_hex(VECTOR_IV);
    const struct kr_envelope_header header = {
        .wraps = {{.mechanism = KR_WRAP_AES_GCM,
                   .master_id = object_id(VECTOR_GCM_MASTER_ID),
                   .wrapped = wrapped.at,
                   .wrapped_len = wrapped.len}},
        .wrap_count = 1,
        .payload_len = size};
    uint8_t *secret = malloc(size), *sealed = NULL;
    KR_SECRET uint8_t *opened = NULL;
    size_t len = 0, opened_len = 0;
    assert_non_null(secret);
    for (size_t i = 0; i < size; i++)
        secret[i] = (uint8_t)(i * 7);
    assert_int_equal(kr_envelope_seal_with(&header, &gcm_context, sealing_key.at, iv.at, secret,
                                           &sealed, &len, &err),
                     KR_OK);
    assert_true(len <= KR_ENVELOPE_MAX);
    assert_int_equal(kr_envelope_open_with(sealing_key.at, &gcm_context, sealed, len, &opened,
                                           &opened_len, &err),
                     KR_OK);
    assert_int_equal(opened_len, size);
    assert_memory_equal(opened, secret, size);
    free(sealed);
    free(secret);
}

static void test_sizes(void **state)
{
    (void)state;
    check_size(1);
    check_size(KR_ENVELOPE_PAYLOAD_MAX);
}

/* The size is refused before the token is asked: there is none here. */
static void test_impossible_sizes_are_refused(void **state)
{
    (void)state;
    const size_t sizes[] = {0, KR_ENVELOPE_PAYLOAD_MAX + 1};
    for (size_t i = 0; i < 2; i++) {
        struct kr_error err = KR_ERROR_INIT;
        uint8_t *sealed = NULL;
        size_t len = 0;
        assert_int_equal(kr_envelope_seal(NULL, &gcm_context, sealing_key.at, payload.at, sizes[i],
                                          &sealed, &len, &err),
                         KR_USAGE);
        assert_null(sealed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_parse_says_what_the_header_holds),
        cmocka_unit_test(test_wrapped_keys_open_with_the_master_key),
        cmocka_unit_test(test_document_has_the_vectors),
        cmocka_unit_test(test_every_flipped_bit_is_refused),
        cmocka_unit_test(test_every_other_length_is_refused),
        cmocka_unit_test(test_every_context_field_counts),
        cmocka_unit_test(test_swapped_envelopes_are_refused),
        cmocka_unit_test(test_wrong_sealing_key_is_refused),
        cmocka_unit_test(test_newer_format_names_both_numbers),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_impossible_sizes_are_refused),
    };
    return cmocka_run_group_tests_name("envelope", tests, group_setup, NULL);
}
