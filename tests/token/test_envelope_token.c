/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Envelopes with a real token: for each mechanism, what was sealed opens, and nothing else does. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/secret.h"
#include "wrong_contexts.h"

static struct fixture fixture;
static struct kr_pin_source *pin;
static struct kr_token *token;
static uint8_t uuid[16], payload[32];

static const enum kr_wrap_mechanism MECHANISMS[] = {KR_WRAP_AES_GCM, KR_WRAP_AES_KWP};
enum { MECHANISM_COUNT = sizeof(MECHANISMS) / sizeof(MECHANISMS[0]), ID_BYTES = 16 };

/* Two for each mechanism: a master key has the usages of one. */
static struct kr_object_id masters[MECHANISM_COUNT], others[MECHANISM_COUNT];

static const struct kr_envelope_context context = {.keyring = "default",
                                                   .uuid = uuid,
                                                   .ns = "mariadb",
                                                   .id = "1",
                                                   .owner = "",
                                                   .version = 1,
                                                   .cipher = "aes-cbc"};

/* The keyring of mechanism i: sealed for masters[i], and others[i] is one of its old keys. */
static struct kr_masters keyring_of(int i, struct kr_master_key keys[2])
{
    for (int k = 0; k < 2; k++)
        keys[k] = (struct kr_master_key){.id = k == 0 ? masters[i] : others[i],
                                         .mechanism = MECHANISMS[i],
                                         .current = k == 0,
                                         .tokens = {token},
                                         .token_count = 1};
    return (struct kr_masters){.keys = keys, .count = 2};
}

struct sealed {
    int mechanism;
    uint8_t *blob;
    size_t len;
};

static struct kr_object_id new_master(enum kr_wrap_mechanism mechanism)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    assert_ok(kr_master_generate(token, "p11keyring:default", mechanism, &info, &err));
    assert_int_equal(info.id.len, ID_BYTES);
    return info.id;
}

static int group_up(void **state)
{
    (void)state;
    fixture_up(&fixture, "envelopes");
    token = fixture_token(&fixture, NULL, &pin);
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        masters[i] = new_master(MECHANISMS[i]);
        others[i] = new_master(MECHANISMS[i]);
    }
    assert_int_equal(getrandom(uuid, sizeof(uuid), 0), sizeof(uuid));
    assert_int_equal(getrandom(payload, sizeof(payload), 0), sizeof(payload));
    return 0;
}

static int group_down(void **state)
{
    (void)state;
    kr_token_close(token);
    kr_pin_source_free(pin);
    fixture_down(&fixture);
    return 0;
}

static struct sealed seal(int i, const struct kr_envelope_context *as)
{
    struct kr_error err = KR_ERROR_INIT;
    struct sealed sealed = {.mechanism = i};
    struct kr_master_key keys[2];
    struct kr_masters all = keyring_of(i, keys);
    uint8_t key[KR_SEALING_KEY_BYTES];
    assert_ok(kr_token_random(token, key, sizeof(key), &err));
    assert_ok(
        kr_envelope_seal(&all, as, key, payload, sizeof(payload), &sealed.blob, &sealed.len, &err));
    return sealed;
}

/* What opens must be the payload. */
static enum kr_status try_open(const struct kr_envelope_context *as, const struct sealed *sealed)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_SECRET uint8_t *opened = NULL;
    size_t len = 0;
    struct kr_master_key keys[2];
    struct kr_masters all = keyring_of(sealed->mechanism, keys);
    enum kr_status status =
        kr_envelope_open(&all, as, sealed->blob, sealed->len, &opened, &len, &err);
    if (status == KR_OK) {
        assert_int_equal(len, sizeof(payload));
        assert_memory_equal(opened, payload, len);
    } else {
        assert_null(opened);
        assert_true(err.text[0] != '\0');
    }
    return status;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        struct kr_envelope_header header;
        struct sealed sealed = seal(i, &context);
        assert_ok(kr_envelope_parse(sealed.blob, sealed.len, &header, &err));
        assert_int_equal(header.wrap_count, 1);
        assert_int_equal(header.wraps[0].mechanism, MECHANISMS[i]);
        assert_int_equal(header.wraps[0].wrapped_len, MECHANISMS[i] == KR_WRAP_AES_GCM ? 60 : 40);
        assert_true(kr_object_id_equal(&header.wraps[0].master_id, &masters[i]));
        assert_null(memmem(sealed.blob, sealed.len, payload, 8));
        assert_int_equal(try_open(&context, &sealed), KR_OK);
        free(sealed.blob);
    }
}

/* Another sealing key and iv each time: nothing but the header is the same. */
static void test_sealed_twice_is_different(void **state)
{
    (void)state;
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        struct sealed one = seal(i, &context), two = seal(i, &context);
        const size_t wrapped = 10 + ID_BYTES;
        assert_int_equal(one.len, two.len);
        assert_memory_not_equal(one.blob + wrapped, two.blob + wrapped, 40);
        assert_memory_not_equal(one.blob + one.len - 60, two.blob + two.len - 60, 12);
        assert_memory_not_equal(one.blob + one.len - 48, two.blob + two.len - 48, 32);
        free(one.blob);
        free(two.blob);
    }
}

/* A master key's id that was edited names a key that the token does not have. */
static void check_flip(const struct sealed *sealed, size_t at)
{
    const bool in_id = at >= 8 && at < 8 + ID_BYTES;
    sealed->blob[at] ^= 0x10;
    enum kr_status status = try_open(&context, sealed);
    sealed->blob[at] ^= 0x10;
    if (status != KR_INTEGRITY && !(in_id && status == KR_NOT_FOUND))
        fail_msg("byte %zu: %s", at, kr_status_name(status));
}

static void test_every_flipped_byte_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        struct sealed sealed = seal(i, &context);
        for (size_t at = 0; at < sealed.len; at++)
            check_flip(&sealed, at);
        assert_int_equal(try_open(&context, &sealed), KR_OK); /* and the token still serves */
        free(sealed.blob);
    }
}

static void test_every_shorter_length_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        struct sealed sealed = seal(i, &context);
        size_t whole = sealed.len;
        for (sealed.len = 0; sealed.len < whole; sealed.len++)
            assert_int_equal(try_open(&context, &sealed), KR_INTEGRITY);
        free(sealed.blob);
    }
}

static void test_every_context_field_counts(void **state)
{
    (void)state;
    struct kr_envelope_context wrong[WRONG_CONTEXTS];
    wrong_contexts(&context, wrong);
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        struct sealed sealed = seal(i, &context);
        for (int k = 0; k < WRONG_CONTEXTS; k++)
            assert_int_equal(try_open(&wrong[k], &sealed), KR_INTEGRITY);
        free(sealed.blob);
    }
}

static void test_swapped_envelopes_are_refused(void **state)
{
    (void)state;
    struct kr_envelope_context second = context;
    second.id = "2";
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        struct sealed one = seal(i, &context), two = seal(i, &second);
        assert_int_equal(try_open(&context, &two), KR_INTEGRITY);
        assert_int_equal(try_open(&second, &one), KR_INTEGRITY);
        assert_int_equal(try_open(&second, &two), KR_OK);
        free(one.blob);
        free(two.blob);
    }
}

/* The id of another master key of the same token, put over that of the right one. */
static void test_another_master_key_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        struct sealed sealed = seal(i, &context);
        memcpy(sealed.blob + 8, others[i].bytes, ID_BYTES);
        assert_int_equal(try_open(&context, &sealed), KR_INTEGRITY);
        free(sealed.blob);
    }
}

/* The wrapped sealing key of one envelope in another's place. */
static void test_foreign_wrap_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < MECHANISM_COUNT; i++) {
        struct sealed one = seal(i, &context), two = seal(i, &context);
        memcpy(one.blob + 10 + ID_BYTES, two.blob + 10 + ID_BYTES,
               MECHANISMS[i] == KR_WRAP_AES_GCM ? 60 : 40);
        assert_int_equal(try_open(&context, &one), KR_INTEGRITY);
        free(one.blob);
        free(two.blob);
    }
}

/* The token's worker frees what a call needed a moment after the call: asks until nothing moves. */
static size_t settled_bytes(void)
{
    const struct timespec moment = {.tv_nsec = 20 * 1000000L};
    struct kr_secret_stats one, two;
    do {
        kr_secret_get_stats(&one);
        nanosleep(&moment, NULL);
        kr_secret_get_stats(&two);
    } while (one.used_bytes != two.used_bytes);
    return two.used_bytes;
}

static void test_no_secret_memory_is_kept(void **state)
{
    (void)state;
    struct kr_envelope_context wrong = context;
    wrong.id = "2";
    struct sealed sealed = seal(0, &context);
    assert_int_equal(try_open(&context, &sealed), KR_OK);
    size_t before = settled_bytes();
    for (int i = 0; i < 10; i++) {
        assert_int_equal(try_open(&context, &sealed), KR_OK);
        assert_int_equal(try_open(&wrong, &sealed), KR_INTEGRITY);
    }
    assert_int_equal(before, settled_bytes());
    free(sealed.blob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_sealed_twice_is_different),
        cmocka_unit_test(test_every_flipped_byte_is_refused),
        cmocka_unit_test(test_every_shorter_length_is_refused),
        cmocka_unit_test(test_every_context_field_counts),
        cmocka_unit_test(test_swapped_envelopes_are_refused),
        cmocka_unit_test(test_another_master_key_is_refused),
        cmocka_unit_test(test_foreign_wrap_is_refused),
        cmocka_unit_test(test_no_secret_memory_is_kept),
    };
    return cmocka_run_group_tests_name("envelopes with a token", tests, group_up, group_down);
}
