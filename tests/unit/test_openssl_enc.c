/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Texts that `openssl enc` encrypts and decrypts. */
#include "formats/openssl_enc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/hex.h"
#include "base/secret.h"

#define TEXT "1;00112233445566778899aabbccddeeff\n"

/* openssl enc -aes-256-cbc -md sha1 -k secret -S 0102030405060708, OpenSSL 3.0, which leaves out
 * the head when it is given the salt. */
#define SALTED                                                                                     \
    "53616c7465645f5f"                                                                             \
    "0102030405060708"                                                                             \
    "45b41e61dbd9f51c65e6365297e08f82eac62a377c7530ee902474ff816f3d42"                             \
    "3474dcd5436bfdb1034de997c03a6575"
enum { SALTED_BYTES = sizeof(SALTED) / 2 };

static void vector(uint8_t ret[SALTED_BYTES])
{
    assert_true(kr_hex_decode(SALTED, strlen(SALTED), ret));
}

static void what_openssl_made_is_opened(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint8_t bytes[SALTED_BYTES];
    char *text;
    size_t len;
    vector(bytes);
    assert_true(kr_openssl_enc_is(bytes, sizeof(bytes)));
    assert_int_equal(kr_openssl_enc_open(bytes, sizeof(bytes), "secret", &text, &len, &err), KR_OK);
    assert_string_equal(text, TEXT);
    assert_int_equal(len, strlen(TEXT));
    kr_secret_free(text);
}

static void what_we_seal_is_opened_and_never_the_same(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    char *sealed[2], *text;
    size_t lens[2], len;
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            kr_openssl_enc_seal(TEXT, strlen(TEXT), "secret", &sealed[i], &lens[i], &err), KR_OK);
    assert_int_equal(lens[0], SALTED_BYTES);
    assert_memory_not_equal(sealed[0], sealed[1], SALTED_BYTES);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kr_openssl_enc_open(sealed[i], lens[i], "secret", &text, &len, &err),
                         KR_OK);
        assert_string_equal(text, TEXT);
        kr_secret_free(text);
        kr_secret_free(sealed[i]);
    }
}

/* There is no checksum: a wrong password may give something, but never the text. */
static void another_password_does_not_open_it(void **state)
{
    (void)state;
    unsigned refused = 0;
    uint8_t bytes[SALTED_BYTES];
    vector(bytes);
    for (int i = 0; i < 100; i++) {
        struct kr_error err = KR_ERROR_INIT;
        char password[] = {'s', 'e', 'c', (char)('0' + i % 10), (char)('0' + i / 10), '\0'};
        char *text = NULL;
        size_t len = 0;
        if (kr_openssl_enc_open(bytes, sizeof(bytes), password, &text, &len, &err) == KR_OK)
            assert_string_not_equal(text, TEXT);
        else
            refused += err.status == KR_INTEGRITY;
        kr_secret_free(text);
    }
    assert_in_range(refused, 90, 100);
}

static void what_is_cut_off_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[SALTED_BYTES];
    vector(bytes);
    for (size_t cut = 0; cut < sizeof(bytes); cut++) {
        struct kr_error err = KR_ERROR_INIT;
        char *text = NULL;
        size_t len = 0;
        if (kr_openssl_enc_open(bytes, cut, "secret", &text, &len, &err) == KR_OK)
            assert_int_not_equal(len, strlen(TEXT));
        kr_secret_free(text);
    }
    assert_false(kr_openssl_enc_is(bytes, 15));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_openssl_made_is_opened),
        cmocka_unit_test(what_we_seal_is_opened_and_never_the_same),
        cmocka_unit_test(another_password_does_not_open_it),
        cmocka_unit_test(what_is_cut_off_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
