/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Page ciphers against plain EVP calls: every form, length, split and misuse that servers make. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "allocations.h"
#include "base/secret.h"
#include "hwaccel/page_cipher.h"

enum { IV = 16, BIG = 1 << 20, ROOM = BIG + 32 };

struct form {
    enum kr_cipher cipher;
    int padded; /* KR_PAGE_PADDED or 0 */
};

static const struct form forms[] = {
    {KR_CIPHER_AES_CBC, 0},    {KR_CIPHER_AES_CBC, KR_PAGE_PADDED},
    {KR_CIPHER_AES_CTR, 0},    {KR_CIPHER_AES_CTR, KR_PAGE_PADDED},
    {KR_CIPHER_AES256_CBC, 0}, {KR_CIPHER_AES256_CBC, KR_PAGE_PADDED},
    {KR_CIPHER_AES256_CTR, 0}, {KR_CIPHER_AES256_CTR, KR_PAGE_PADDED}};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

static const size_t key_lengths[] = {16, 24, 32};
enum { KEY_LENGTHS = 3 };

struct message {
    uint8_t key[32], iv[IV], data_key[32];
    size_t key_len, len;
    uint32_t version;
    uint8_t *plain, *expected, *out;
};

static int new_message(void **state)
{
    struct message *m = calloc(1, sizeof(*m));
    m->plain = malloc(ROOM);
    m->expected = malloc(ROOM);
    m->out = malloc(ROOM);
    RAND_bytes(m->plain, ROOM);
    *state = m;
    return 0;
}

static int free_message(void **state)
{
    struct message *m = *state;
    free(m->plain);
    free(m->expected);
    free(m->out);
    free(m);
    return 0;
}

static void randomize(struct message *m, size_t key_len, size_t len)
{
    RAND_bytes(m->key, sizeof(m->key));
    RAND_bytes(m->iv, sizeof(m->iv));
    RAND_bytes(m->data_key, sizeof(m->data_key));
    m->version++; /* a data key never changes */
    m->key_len = key_len;
    m->len = len;
}

/* --- what MariaDB writes, by plain EVP -------------------------------------------------------- */

static const EVP_CIPHER *evp_cipher(const char *mode, size_t key_len)
{
    char name[32];
    snprintf(name, sizeof(name), "AES-%zu-%s", key_len * 8, mode);
    const EVP_CIPHER *cipher = EVP_get_cipherbyname(name);
    assert_non_null(cipher);
    return cipher;
}

static size_t evp_encrypt(const char *mode, const struct message *m, size_t len, bool pad,
                          const uint8_t *src, uint8_t *dst)
{
    int out = 0, last = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_true(EVP_EncryptInit_ex(ctx, evp_cipher(mode, m->key_len), NULL, m->key, m->iv));
    EVP_CIPHER_CTX_set_padding(ctx, pad);
    if (strcmp(mode, "GCM") == 0)
        assert_true(EVP_EncryptUpdate(ctx, NULL, &out, m->iv + 12, 4));
    out = 0;
    if (len > 0)
        assert_true(EVP_EncryptUpdate(ctx, dst, &out, src, (int)len));
    assert_true(EVP_EncryptFinal_ex(ctx, dst + out, &last));
    if (strcmp(mode, "GCM") == 0) {
        assert_true(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, dst + out));
        last = 16;
    }
    EVP_CIPHER_CTX_free(ctx);
    return (size_t)(out + last);
}

static struct kr_page_key page_key(const struct message *m)
{
    return (struct kr_page_key){m->key, m->key_len, m->data_key, 1, m->version};
}

/* The same message under the key that encrypts it; that this is the right key is for test_page_key.
 */
static struct message keyed(const struct form *form, const struct message *m)
{
    struct message result = *m;
    struct kr_page_key key = page_key(m);
    if (kr_cipher_derives(form->cipher)) {
        assert_int_equal(kr_page_key_derive(&key, result.key), KR_OK);
        result.key_len = KR_PAGE_KEY_BYTES;
    }
    return result;
}

static size_t expect(const struct form *form, const struct message *given)
{
    struct message message = keyed(form, given), *m = &message;
    if (kr_cipher_base(form->cipher) == KR_CIPHER_AES_CTR)
        return evp_encrypt(form->padded ? "GCM" : "CTR", m, m->len, false, m->plain, m->expected);
    if (form->padded)
        return evp_encrypt("CBC", m, m->len, true, m->plain, m->expected);
    size_t whole = m->len / 16 * 16;
    uint8_t mask[16];
    evp_encrypt("CBC", m, whole, false, m->plain, m->expected);
    evp_encrypt("ECB", m, sizeof(mask), false, m->iv, mask);
    for (size_t i = whole; i < m->len; i++)
        m->expected[i] = m->plain[i] ^ mask[i - whole];
    return m->len;
}

/* --- ours ------------------------------------------------------------------------------------- */

static struct kr_page_op *begin(const struct form *form, int direction, const struct message *m)
{
    struct kr_page_op *op;
    struct kr_page_key key = page_key(m);
    assert_int_equal(kr_page_begin(form->cipher, form->padded | direction, &key, m->iv, IV, &op),
                     KR_OK);
    return op;
}

/* In pieces of 1..max bytes; 0 = all at once. */
static enum kr_status crypt(const struct form *form, int direction, const struct message *m,
                            const uint8_t *src, size_t len, size_t max, uint8_t *dst, size_t *ret)
{
    struct kr_page_op *op = begin(form, direction, m);
    size_t done = 0, out;
    for (size_t at = 0, piece; at < len; at += piece) {
        piece = max ? 1 + (size_t)rand() % max : len;
        if (piece > len - at)
            piece = len - at;
        assert_int_equal(kr_page_update(op, src + at, piece, dst + done, &out), KR_OK);
        done += out;
    }
    enum kr_status status = kr_page_finish(op, dst + done, &out);
    *ret = done + out;
    return status;
}

static void check_both_ways(const struct form *form, struct message *m, size_t max_piece)
{
    size_t out, expected = expect(form, m);
    assert_int_equal(kr_page_encrypted_length(form->cipher, form->padded | KR_PAGE_ENCRYPT, m->len),
                     expected);
    assert_int_equal(crypt(form, KR_PAGE_ENCRYPT, m, m->plain, m->len, max_piece, m->out, &out),
                     KR_OK);
    assert_int_equal(out, expected);
    assert_memory_equal(m->out, m->expected, expected);

    assert_int_equal(
        crypt(form, KR_PAGE_DECRYPT, m, m->expected, expected, max_piece, m->out, &out), KR_OK);
    assert_int_equal(out, m->len);
    assert_memory_equal(m->out, m->plain, m->len);
}

static void for_all_forms(struct message *m, size_t len, size_t max_piece)
{
    for (unsigned f = 0; f < FORMS; f++) {
        for (unsigned k = 0; k < KEY_LENGTHS; k++) {
            randomize(m, key_lengths[k], len);
            check_both_ways(&forms[f], m, max_piece);
        }
    }
}

static void test_lengths(void **state)
{
    for (size_t len = 0; len <= 300; len++)
        for_all_forms(*state, len, 0);
    static const size_t used_by_servers[] = {226,  1000,  3042,  8146,  8159,
                                             8172, 16354, 16384, 65536, BIG};
    for (unsigned i = 0; i < sizeof(used_by_servers) / sizeof(used_by_servers[0]); i++)
        for_all_forms(*state, used_by_servers[i], 0);
}

static void test_pieces(void **state)
{
    for (size_t len = 1; len <= 300; len += 1 + len / 40)
        for (size_t max = 1; max <= 64; max = max * 2 + 1)
            for_all_forms(*state, len, max);
    for_all_forms(*state, 16354, 256);
    for_all_forms(*state, 16354, 8159);
    for_all_forms(*state, 100001, 8159);
}

/* The redo log needs the last partial block from one call: all of it from update in CTR, all of it
 * from finish in CBC. */
static void test_partial_block_comes_whole(void **state)
{
    struct message *m = *state;
    for (size_t len = 1; len < 70; len++) {
        randomize(m, 16, len);
        size_t out, last;
        struct kr_page_op *op = begin(&forms[0], KR_PAGE_ENCRYPT, m);
        assert_int_equal(kr_page_update(op, m->plain, len, m->out, &out), KR_OK);
        assert_int_equal(kr_page_finish(op, m->out + out, &last), KR_OK);
        assert_int_equal(out, len / 16 * 16);
        assert_int_equal(last, len % 16);

        op = begin(&forms[2], KR_PAGE_ENCRYPT, m);
        assert_int_equal(kr_page_update(op, m->plain, len, m->out, &out), KR_OK);
        assert_int_equal(kr_page_finish(op, m->out + out, &last), KR_OK);
        assert_int_equal(out, len);
        assert_int_equal(last, 0);
    }
}

static void test_in_place(void **state)
{
    struct message *m = *state;
    static const size_t lengths[] = {0, 1, 15, 16, 17, 31, 33, 250, 8146, 16354};
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (unsigned f = 0; f < FORMS; f++) {
            for (size_t max_piece = 0; max_piece <= 40; max_piece += 20) {
                randomize(m, 16, lengths[i]);
                size_t out, expected = expect(&forms[f], m);
                memcpy(m->out, m->plain, m->len);
                assert_int_equal(
                    crypt(&forms[f], KR_PAGE_ENCRYPT, m, m->out, m->len, max_piece, m->out, &out),
                    KR_OK);
                assert_int_equal(out, expected);
                assert_memory_equal(m->out, m->expected, expected);
                assert_int_equal(
                    crypt(&forms[f], KR_PAGE_DECRYPT, m, m->out, expected, max_piece, m->out, &out),
                    KR_OK);
                assert_int_equal(out, m->len);
                assert_memory_equal(m->out, m->plain, m->len);
            }
        }
    }
}

/* --- misuse and damage ------------------------------------------------------------------------ */

static enum kr_status begins(enum kr_cipher cipher, struct kr_page_key key, size_t iv_len)
{
    static const uint8_t iv[IV];
    struct kr_page_op *op = NULL;
    enum kr_status status = kr_page_begin(cipher, 0, &key, iv, iv_len, &op);
    assert_null(op);
    return status;
}

static void test_bad_arguments(void **state)
{
    struct message *m = *state;
    randomize(m, 16, 16);
    static const size_t bad_keys[] = {0, 1, 15, 17, 20, 31, 33, 64};
    for (unsigned i = 0; i < sizeof(bad_keys) / sizeof(bad_keys[0]); i++)
        for (enum kr_cipher cipher = KR_CIPHER_AES_CBC; cipher <= KR_CIPHER_AES256_CTR; cipher++)
            assert_int_equal(
                begins(cipher, (struct kr_page_key){m->plain, bad_keys[i], m->data_key, 1, 1}, IV),
                KR_USAGE);
    assert_int_equal(begins(KR_CIPHER_AES_CBC, page_key(m), 12), KR_USAGE);
    assert_int_equal(begins((enum kr_cipher)9, page_key(m), IV), KR_USAGE);
    assert_int_equal(begins(KR_CIPHER_AES256_CTR, (struct kr_page_key){m->key, 16, NULL, 1, 1}, IV),
                     KR_USAGE);
}

static void refuse(const struct form *form, const struct message *m, const uint8_t *src, size_t len)
{
    size_t out;
    struct kr_page_op *op = begin(form, KR_PAGE_DECRYPT, m);
    assert_int_equal(kr_page_update(op, src, len, m->out, &out), KR_OK);
    size_t last = 1;
    assert_int_equal(kr_page_finish(op, m->out + out, &last), KR_INTEGRITY);
    assert_int_equal(last, 0);
    assert_int_equal(ERR_peek_error(), 0); /* nothing left for the server's TLS to find */
}

static void test_damage_is_refused(void **state)
{
    struct message *m = *state;
    const struct form *cbc = &forms[1], *gcm = &forms[3];
    randomize(m, 16, 1000);
    size_t len = expect(gcm, m);
    for (size_t i = 0; i < len; i += 7) {
        m->expected[i] ^= 1;
        refuse(gcm, m, m->expected, len);
        m->expected[i] ^= 1;
    }
    m->iv[15] ^= 1; /* in the associated data */
    refuse(gcm, m, m->expected, len);
    m->iv[15] ^= 1;
    refuse(gcm, m, m->expected, len - 1);
    for (size_t shorter = 0; shorter < 16; shorter++)
        refuse(gcm, m, m->expected, shorter);

    len = expect(cbc, m);
    m->expected[len - 17] ^= 0xff; /* flips the last byte of the padding */
    refuse(cbc, m, m->expected, len);
    m->expected[len - 17] ^= 0xff;
    refuse(cbc, m, m->expected, len - 1);
    refuse(cbc, m, m->expected, 0);
    check_both_ways(cbc, m, 0); /* a refusal leaves no trace in the context */
    check_both_ways(gcm, m, 0);
}

/* --- the pool --------------------------------------------------------------------------------- */

/* More operations open than the pool has places, all of one thread, finished in another order. */
static void test_nesting(void **state)
{
    enum { OPEN = 40, LEN = 333 };
    struct message *m = *state;
    struct kr_page_op *ops[OPEN];
    static uint8_t keys[OPEN][32], ivs[OPEN][IV], results[OPEN][LEN + 32];
    size_t lengths[OPEN];
    RAND_bytes(keys[0], sizeof(keys));
    RAND_bytes(ivs[0], sizeof(ivs));
    memcpy(keys[3 + FORMS], keys[3], 32); /* one key, open twice, two ivs */
    m->key_len = 32;
    m->len = LEN;
    for (unsigned i = 0; i < OPEN; i++) {
        memcpy(m->key, keys[i], 32);
        memcpy(m->iv, ivs[i], IV);
        ops[i] = begin(&forms[i % FORMS], KR_PAGE_ENCRYPT, m);
        assert_int_equal(kr_page_update(ops[i], m->plain, 100, results[i], &lengths[i]), KR_OK);
    }
    for (unsigned n = 0; n < OPEN; n++) {
        unsigned i = n * 7 % OPEN;
        size_t out;
        assert_int_equal(
            kr_page_update(ops[i], m->plain + 100, LEN - 100, results[i] + lengths[i], &out),
            KR_OK);
        lengths[i] += out;
        assert_int_equal(kr_page_finish(ops[i], results[i] + lengths[i], &out), KR_OK);
        lengths[i] += out;
    }
    for (unsigned i = 0; i < OPEN; i++) {
        memcpy(m->key, keys[i], 32);
        memcpy(m->iv, ivs[i], IV);
        assert_int_equal(lengths[i], expect(&forms[i % FORMS], m));
        assert_memory_equal(results[i], m->expected, lengths[i]);
    }
}

static uint64_t hits(void)
{
    struct kr_page_stats stats;
    kr_page_get_stats(&stats);
    return stats.schedule_hits;
}

static void test_known_key_is_a_hit(void **state)
{
    struct message *m = *state;
    for (unsigned f = 0; f < FORMS; f++) {
        randomize(m, 16, 1000);
        check_both_ways(&forms[f], m, 0);
        uint64_t before = hits();
        for (unsigned i = 0; i < 5; i++) {
            RAND_bytes(m->iv, IV);
            check_both_ways(&forms[f], m, 0);
        }
        assert_int_equal(hits() - before, 10);
    }
}

/* Short messages, odd pieces, ever new ivs under one key: what one message leaves in its context
 * must not show in the next. */
static void test_one_key_many_messages(void **state)
{
    struct message *m = *state;
    randomize(m, 16, 0);
    for (unsigned i = 0; i < 4000; i++) {
        RAND_bytes(m->iv, IV);
        m->len = (size_t)rand() % 70;
        check_both_ways(&forms[i % FORMS], m, (size_t)rand() % 24);
    }
}

struct allocation_counts {
    struct message *m;
    size_t new_key[FORMS], known_key[FORMS];
};

static void *thread_that_counts(void *context)
{
    struct allocation_counts *counts = context;
    for (unsigned f = 0; f < FORMS; f++) {
        size_t out, before = allocations_so_far();
        randomize(counts->m, 16, 1000);
        for (unsigned i = 0; i < 100; i++) {
            RAND_bytes(counts->m->iv, IV);
            size_t at_begin = allocations_so_far();
            crypt(&forms[f], KR_PAGE_ENCRYPT, counts->m, counts->m->plain, 1000, 100,
                  counts->m->out, &out);
            counts->known_key[f] += i == 0 ? 0 : allocations_so_far() - at_begin;
        }
        counts->new_key[f] = allocations_so_far() - before;
    }
    return NULL;
}

/* In a thread of its own, so that the first operations find no context to reuse. */
static void test_known_key_allocates_nothing(void **state)
{
    struct allocation_counts counts = {.m = *state};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, thread_that_counts, &counts), 0);
    pthread_join(thread, NULL);
    for (unsigned f = 0; f < FORMS; f++) {
        assert_true(counts.new_key[f] > 0);
        assert_int_equal(counts.known_key[f], 0);
    }
}

/* Keys that differ in a single bit, in random order, more than the pool holds: each ciphertext must
 * be the right key's. */
static void never_mixes_keys(struct message *m)
{
    enum { KEYS = 48, ROUNDS = 3000 };
    uint8_t base[32];
    RAND_bytes(base, sizeof(base));
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned key = (unsigned)rand() % KEYS;
        memcpy(m->key, base, 32);
        m->key_len = key_lengths[(unsigned)rand() % KEY_LENGTHS];
        m->key[key % m->key_len] ^= (uint8_t)(1 << (key / 16));
        m->version = 1 + (unsigned)rand() % 2;
        memset(m->data_key, (int)m->version, sizeof(m->data_key));
        RAND_bytes(m->iv, IV);
        m->len = (size_t)rand() % 100;
        check_both_ways(&forms[(unsigned)rand() % FORMS], m, 0);
    }
}

static void test_pool_never_mixes_keys(void **state)
{
    never_mixes_keys(*state);
}

static void *thread_of_mixed_keys(void *unused)
{
    void *m;
    (void)unused;
    new_message(&m);
    never_mixes_keys(m);
    free_message(&m);
    return NULL;
}

static size_t secret_bytes(void)
{
    struct kr_secret_stats stats;
    kr_secret_get_stats(&stats);
    return stats.used_bytes;
}

static void test_threads(void **state)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    (void)state;
    struct kr_page_stats before, after;
    kr_page_get_stats(&before);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_of_mixed_keys, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    kr_page_get_stats(&after);
    assert_int_equal(after.operations - before.operations, THREADS * 3000 * 2);
}

static void *thread_that_leaves_a_key(void *seen)
{
    struct message m = {.key_len = 32};
    RAND_bytes(m.key, sizeof(m.key));
    struct kr_page_op *never_finished = begin(&forms[0], KR_PAGE_ENCRYPT, &m);
    assert_non_null(never_finished);
    *(size_t *)seen = secret_bytes();
    return NULL;
}

static void test_end_of_thread_wipes_its_pool(void **state)
{
    pthread_t thread;
    (void)state;
    size_t before = secret_bytes(), during = 0;
    assert_int_equal(pthread_create(&thread, NULL, thread_that_leaves_a_key, &during), 0);
    pthread_join(thread, NULL);
    assert_true(during > before);
    assert_int_equal(secret_bytes(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_partial_block_comes_whole),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_damage_is_refused),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_known_key_is_a_hit),
        cmocka_unit_test(test_one_key_many_messages),
        cmocka_unit_test(test_known_key_allocates_nothing),
        cmocka_unit_test(test_pool_never_mixes_keys),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_end_of_thread_wipes_its_pool),
    };
    if (!allocations_count())
        return 1;
    return cmocka_run_group_tests(tests, new_message, free_message);
}
