/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What a file is, by its first bytes and its name; key files. */
#include "formats/file_kind.h"
#include "formats/key_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

#define HEX32 "00112233445566778899aabbccddeeff"

static enum kr_file_kind kind_of(const void *head, size_t len, const char *name)
{
    return kr_file_kind_of(head, len, len, name);
}

static enum kr_file_kind kind_of_text(const char *text)
{
    return kind_of(text, strlen(text), "some.file");
}

static void ours_and_key_files_are_told(void **state)
{
    (void)state;
    uint8_t keystore[100] = "SQLite format 3";
    assert_int_equal(kind_of(keystore, sizeof(keystore), "x"), KR_FILE_UNKNOWN);
    memcpy(keystore + 68, "P11E", 4);
    assert_int_equal(kind_of(keystore, sizeof(keystore), "x"), KR_FILE_KEYSTORE);
    assert_int_equal(kind_of("", 0, "x"), KR_FILE_EMPTY);
    assert_int_equal(kind_of_text("1;" HEX32 "\n"), KR_FILE_KEY_LIST);
    assert_int_equal(kind_of_text("Salted__" HEX32), KR_FILE_KEY_LIST_ENCRYPTED);
    assert_int_equal(kind_of_text("[mysqld]\ndatadir=/x\n"), KR_FILE_UNKNOWN);
}

/* Page 0 of a tablespace, with these flags and MySQL's version in it. */
static void make_space(uint8_t page[512], uint32_t flags, uint32_t version)
{
    memset(page, 0, 512);
    kr_put_number(page + 8, version, 4);
    kr_put_number(page + 12, version ? 1 : 0, 4);
    kr_put_number(page + 24, 8, 2);
    kr_put_number(page + 34, 7, 4);
    kr_put_number(page + 38, 7, 4);
    kr_put_number(page + 54, flags, 4);
}

static void servers_of_tablespaces_are_told_apart(void **state)
{
    (void)state;
    uint8_t page[512];
    make_space(page, 0x4021, 80040);
    assert_int_equal(kind_of(page, 512, "x"), KR_FILE_MYSQL_TABLESPACE);
    make_space(page, 0x6021, 0);
    assert_int_equal(kind_of(page, 512, "x"), KR_FILE_MYSQL_TABLESPACE);
    make_space(page, 0x15, 0);
    assert_int_equal(kind_of(page, 512, "x"), KR_FILE_MARIADB_TABLESPACE);
    make_space(page, 0x21, 0);
    assert_int_equal(kind_of(page, 512, "x"), KR_FILE_MARIADB_TABLESPACE);
    assert_int_equal(kind_of(page, 512, "#ib_16384_0.dblwr"), KR_FILE_MYSQL_DOUBLEWRITE);
}

static void definitions_are_told(void **state)
{
    (void)state;
    assert_int_equal(kind_of("\xfe\x01\x0a\x0c", 4, "t.frm"), KR_FILE_TABLE_DEFINITION);
    assert_int_equal(kind_of("TYPE=VIEW\n", 10, "v.frm"), KR_FILE_TABLE_DEFINITION);
    assert_int_equal(kind_of("something", 9, "v.frm"), KR_FILE_UNKNOWN);
    assert_int_equal(kind_of("\xfe\x01\x0a\x0c", 4, "t.x"), KR_FILE_UNKNOWN);
    assert_int_equal(kind_of("default-character-set=", 22, "db.opt"), KR_FILE_DATABASE_OPTIONS);
    assert_true(kr_file_kind_is_bare(KR_FILE_TABLE_DEFINITION));
    assert_false(kr_file_kind_is_bare(KR_FILE_UNKNOWN));
}

static void logs_are_told(void **state)
{
    (void)state;
    char log[100] = "\xfe"
                    "bin";
    assert_int_equal(kind_of(log, sizeof(log), "x"), KR_FILE_MYSQL_BINLOG);
    memcpy(log + 25, "10.11.19-MariaDB-log", 20);
    assert_int_equal(kind_of(log, sizeof(log), "x"), KR_FILE_MARIADB_BINLOG);
    log[0] = '\xfd';
    assert_int_equal(kind_of(log, sizeof(log), "x"), KR_FILE_MYSQL_BINLOG_ENCRYPTED);
    uint8_t redo[512] = {0};
    kr_put_number(redo, 0x50687973, 4);
    assert_int_equal(kind_of(redo, 512, "ib_logfile0"), KR_FILE_MARIADB_REDO);
    kr_put_number(redo, 0xf09f979d, 4);
    assert_int_equal(kind_of(redo, 512, "ib_logfile0"), KR_FILE_MARIADB_REDO);
    kr_put_number(redo, 0x80000000 | 0x50485953, 4);
    assert_int_equal(kind_of(redo, 512, "ib_logfile0"), KR_FILE_MARIADB_REDO);
    kr_put_number(redo, 6, 4);
    memcpy(redo + 16, "MySQL 9.7.4", 11);
    assert_int_equal(kind_of(redo, 512, "#ib_redo7"), KR_FILE_MYSQL_REDO);
}

/* Cut off at each byte, nothing is read beyond: the sanitizers would see it. */
static void short_files_are_safe(void **state)
{
    (void)state;
    uint8_t page[512];
    make_space(page, 0x4021, 80040);
    for (size_t len = 1; len <= sizeof(page); len++) {
        uint8_t *copy = malloc(len);
        memcpy(copy, page, len);
        enum kr_file_kind kind = kind_of(copy, len, "x");
        assert_true(kind == KR_FILE_UNKNOWN ||
                    (len == sizeof(page) && kind == KR_FILE_MYSQL_TABLESPACE));
        free(copy);
    }
}

static void every_kind_has_its_names(void **state)
{
    (void)state;
    for (int i = 0; i < KR_FILE_KINDS; i++) {
        assert_non_null(kr_file_kind_name((enum kr_file_kind)i));
        assert_non_null(kr_file_kind_tag((enum kr_file_kind)i));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(kr_file_kind_tag((enum kr_file_kind)i),
                                    kr_file_kind_tag((enum kr_file_kind)j));
    }
}

/* --- key files -------------------------------------------------------------------------------- */

static void add_key(uint32_t id, const char *digits, unsigned bits, void *context)
{
    uint64_t *sum = context;
    assert_int_equal(strspn(digits, "0123456789abcdefABCDEF"), bits / 4);
    *sum += (uint64_t)id * 1000 + bits;
}

static void key_lists_are_read(void **state)
{
    (void)state;
    const char text[] = "# keys\n\n1;" HEX32 "\n 4294967295 ; " HEX32 HEX32 " \r\n";
    uint64_t sum = 0;
    assert_true(kr_key_list_parse(text, strlen(text), true, add_key, &sum));
    assert_int_equal(sum, 1000 + 128 + 4294967295000 + 256);
    /* Of a file that goes on only whole lines count. */
    sum = 0;
    assert_true(kr_key_list_parse(text, strlen(text) - 20, false, add_key, &sum));
    assert_int_equal(sum, 1000 + 128);
    sum = 0;
    const char remark[] = "7;" HEX32 "\t# the server reads no further\n";
    assert_true(kr_key_list_parse(remark, strlen(remark), true, add_key, &sum));
    assert_int_equal(sum, 7000 + 128);
}

static void wrong_lines_are_counted(void **state)
{
    (void)state;
    const char text[] = "# keys\n1;" HEX32 "\n\nx\n2;" HEX32;
    assert_int_equal(kr_key_list_wrong_line(text, strlen(text)), 4);
    assert_int_equal(kr_key_list_wrong_line(text, strlen(text) - 1), 4);
    assert_int_equal(kr_key_list_wrong_line(text, strlen("# keys\n1;" HEX32 "\n")), 0);
}

static void other_lines_are_of_no_key_list(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "# nothing but this\n",
        "0;" HEX32,
        "4294967296;" HEX32,
        "1;" HEX32 "0",
        "1:" HEX32,
        "1;" HEX32 ";",
        "-1;" HEX32,
        "1;0011223344556677 8899aabbccddeeff",
        ";" HEX32,
        "1;" HEX32 "\nname=value\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_false(kr_key_list_parse(wrong[i], strlen(wrong[i]), true, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours_and_key_files_are_told),
        cmocka_unit_test(servers_of_tablespaces_are_told_apart),
        cmocka_unit_test(definitions_are_told),
        cmocka_unit_test(logs_are_told),
        cmocka_unit_test(short_files_are_safe),
        cmocka_unit_test(every_kind_has_its_names),
        cmocka_unit_test(key_lists_are_read),
        cmocka_unit_test(wrong_lines_are_counted),
        cmocka_unit_test(other_lines_are_of_no_key_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
