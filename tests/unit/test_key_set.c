/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Sets of keys: order, names that are there twice, what is the same key, many of them. */
#include "provider/key_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint8_t bytes[64] = "sixteen bytes of and many more bytes that may be a long secret";

static struct kr_set_key data_key(uint32_t id, uint32_t version)
{
    return (struct kr_set_key){.kind = KR_KEY_DATA,
                               .id = id,
                               .version = version,
                               .cipher = KR_CIPHER_AES_CBC,
                               .bytes = bytes,
                               .len = 16};
}

static struct kr_set_key secret(const char *name, const char *owner)
{
    return (struct kr_set_key){.kind = KR_KEY_SECRET,
                               .name = (char *)name,
                               .owner = (char *)owner,
                               .type = "AES",
                               .bytes = bytes,
                               .len = 32};
}

static void add(struct kr_key_set *set, struct kr_set_key key)
{
    struct kr_error err = KR_ERROR_INIT;
    assert_int_equal(kr_key_set_add(set, &key, &err), KR_OK);
}

static void it_is_ordered_and_found(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    KR_KEY_SET set = {0};
    const struct kr_set_key names[] = {data_key(2, 7),  data_key(10, 1),   data_key(10, 3),
                                       secret("a", ""), secret("a", "me"), secret("b", "")};
    for (size_t i = 6; i-- > 0;)
        add(&set, names[(i + 3) % 6]);
    assert_int_equal(kr_key_set_sort(&set, &err), KR_OK);
    for (size_t i = 0; i < 6; i++) {
        assert_ptr_equal(kr_key_set_find(&set, &names[i]), &set.keys[i]);
        assert_true(kr_set_key_equal(&names[i], &set.keys[i]));
    }
    const struct kr_set_key absent = data_key(10, 2), other = secret("a", "you");
    assert_null(kr_key_set_find(&set, &absent));
    assert_null(kr_key_set_find(&set, &other));
}

static void two_of_a_name_are_refused(void **state)
{
    (void)state;
    const struct kr_set_key twice[] = {data_key(3, 1), secret("x", "me")};
    for (size_t i = 0; i < 2; i++) {
        struct kr_error err = KR_ERROR_INIT;
        KR_KEY_SET set = {0};
        add(&set, twice[i]);
        add(&set, secret("y", ""));
        add(&set, twice[i]);
        assert_int_equal(kr_key_set_sort(&set, &err), KR_INTEGRITY);
        assert_non_null(strstr(err.text, i == 0 ? "key 3 version 1" : "secret 'x' of 'me'"));
    }
}

static void another_use_is_another_key(void **state)
{
    (void)state;
    uint8_t other_bytes[32];
    memcpy(other_bytes, bytes, 32);
    other_bytes[15] ^= 1;
    struct kr_set_key key = data_key(1, 1), other = key;
    assert_true(kr_set_key_equal(&key, &other));
    other.cipher = KR_CIPHER_AES_CTR;
    assert_false(kr_set_key_equal(&key, &other));
    other = key;
    other.bytes = other_bytes;
    assert_false(kr_set_key_equal(&key, &other));
    other.bytes = NULL;
    assert_false(kr_set_key_equal(&key, &other));
    struct kr_set_key name = secret("n", ""), same = name;
    assert_true(kr_set_key_equal(&name, &same));
    same.type = "SECRET";
    assert_false(kr_set_key_equal(&name, &same));
    same = name;
    same.len = 31;
    assert_false(kr_set_key_equal(&name, &same));
}

static void what_is_no_key_is_refused(void **state)
{
    (void)state;
    char longer[1100];
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    struct kr_set_key wrong[] = {data_key(0, 1),      data_key(1, 0), data_key(1, UINT32_MAX),
                                 data_key(1, 1),      secret("", ""), secret(longer, ""),
                                 secret("x", longer), secret("x", "")};
    wrong[3].len = 17;
    wrong[7].type = longer;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct kr_error err = KR_ERROR_INIT;
        KR_KEY_SET set = {0};
        assert_int_equal(kr_key_set_add(&set, &wrong[i], &err), KR_USAGE);
        assert_int_equal(set.count, 0);
    }
}

/* Bytes stay where they are when the set grows. */
static void many_keys_keep_their_bytes(void **state)
{
    (void)state;
    enum { MANY = 5000 };
    KR_KEY_SET set = {0};
    for (uint32_t i = 1; i <= MANY; i++) {
        memcpy(bytes, &i, sizeof(i));
        add(&set, data_key(i, 1));
    }
    for (uint32_t i = 1; i <= MANY; i++)
        assert_memory_equal(set.keys[i - 1].bytes, &i, sizeof(i));
}

static void names_are_printable(void **state)
{
    (void)state;
    char text[KR_SET_KEY_TEXT];
    const struct kr_set_key data = data_key(4294967295u, 12), odd = secret("a\nb", "\x1b[1m");
    kr_set_key_text(&data, text);
    assert_string_equal(text, "key 4294967295 version 12");
    kr_set_key_text(&odd, text);
    assert_string_equal(text, "secret 'a?b' of '?[1m'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_ordered_and_found),    cmocka_unit_test(two_of_a_name_are_refused),
        cmocka_unit_test(another_use_is_another_key), cmocka_unit_test(what_is_no_key_is_refused),
        cmocka_unit_test(many_keys_keep_their_bytes), cmocka_unit_test(names_are_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
