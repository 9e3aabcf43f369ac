/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The [client] group of option files, and the names of servers that lead nowhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "servers/connection.h"
#include "servers/option_file.h"

static const char *const text = "# a comment\n"
                                "[mysqld]\n"
                                "user = not-this\n"
                                "[client]\r\n"
                                "  user=root\n"
                                "loose_ssl_ca = '/etc/my ca.pem' # its own\n"
                                "socket\t=\t/run/x # y\n"
                                "password = \"a#b\\\"c\\\\d\"\n"
                                "ssl-verify-server-cert\n"
                                "; another comment\n"
                                "default-character-set = latin1\n"
                                "host =\n"
                                "port = 1 \n"
                                "port = 2\n"
                                "[mysql]\n"
                                "port = 3";

static void reads_its_group(void **state)
{
    (void)state;
    KR_OPTION_FILE file = {0};
    struct kr_error err = KR_ERROR_INIT;

    assert_int_equal(kr_option_file_read(scratch_text("my.cnf", text, 0600), &file, &err), KR_OK);
    assert_string_equal(file.user, "root");
    assert_string_equal(file.ssl_ca, "/etc/my ca.pem");
    assert_string_equal(file.socket, "/run/x");
    assert_string_equal(file.password, "a#b\"c\\d");
    assert_string_equal(file.port, "2");
    assert_null(file.host);
    assert_null(file.ssl_key);
}

static void refuses(const char *content, mode_t mode, enum kr_status status, const char *why,
                    const char *hint)
{
    KR_OPTION_FILE file = {0};
    struct kr_error err = KR_ERROR_INIT;

    assert_int_equal(kr_option_file_read(scratch_text("my.cnf", content, mode), &file, &err),
                     status);
    assert_error(&err, status, why, hint);
    assert_null(file.text);
}

static void refuses_files_of_others(void **state)
{
    (void)state;
    refuses(text, 0640, KR_REFUSED, "is open to others (mode 0640)", "chmod 0600");
    refuses(text, 0604, KR_REFUSED, "is open to others (mode 0604)", "chmod 0600");
    refuses("[mysqld]\nport = 1\n", 0600, KR_CONFIG, "has no [client] group", "");
    refuses("[client]\n!includedir /etc/my.cnf.d\n", 0600, KR_CONFIG, "includes others", "");
}

static void refuses_large_files(void **state)
{
    (void)state;
    static char large[70000];

    memset(large, '#', sizeof large - 1);
    refuses(large, 0600, KR_CONFIG, "is larger than", "");
}

static void connects_to_nothing(void **state)
{
    (void)state;
    const struct kr_server_options options = {.connect_seconds = 1};
    static const struct {
        const char *content;
        enum kr_status status;
        const char *why, *hint;
    } cases[] = {
        {"[client]\nuser = x\n", KR_CONFIG, "neither a socket nor a host", ""},
        {"[client]\nhost = 127.0.0.1\nport = 70000\n", KR_CONFIG, "no number from 1 to 65535", ""},
        {"[client]\nhost = 127.0.0.1\nport = 1\n", KR_IO, "127.0.0.1 port 1: ", "running"},
        {"[client]\nsocket = /nonexistent/socket\n", KR_NOT_FOUND,
         "/nonexistent/socket: ", "running"},
    };
    struct kr_server_conn *conn = NULL;
    struct kr_error err = KR_ERROR_INIT;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = scratch_text("my.cnf", cases[i].content, 0600);
        assert_int_equal(kr_server_connect(path, &options, &conn, &err), cases[i].status);
        assert_error(&err, cases[i].status, cases[i].why, cases[i].hint);
    }
    assert_int_equal(kr_server_connect(scratch_path("none"), &options, &conn, &err), KR_IO);
    assert_error(&err, KR_IO, "No such file", "--server names");
    assert_int_equal(kr_server_connect("/", &options, &conn, &err), KR_USAGE);
    assert_error(&err, KR_USAGE, "neither a socket nor an option file", "--server names");
    assert_null(conn);
}

static void quotes(void **state)
{
    (void)state;
    char out[16];

    assert_true(kr_server_quote("a'b\\c`", '\'', out, sizeof out));
    assert_string_equal(out, "'a''b\\\\c`'");
    assert_true(kr_server_quote("a'b\\c`", '`', out, sizeof out));
    assert_string_equal(out, "`a'b\\c```");
    assert_true(kr_server_quote("0123456789ab", '\'', out, 16));
    assert_false(kr_server_quote("0123456789abc", '\'', out, 15));
    assert_false(kr_server_quote("", '\'', out, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_its_group),
        cmocka_unit_test(refuses_files_of_others),
        cmocka_unit_test(refuses_large_files),
        cmocka_unit_test(connects_to_nothing),
        cmocka_unit_test(quotes),
    };

    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
