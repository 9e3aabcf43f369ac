/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Error records and the log callback. */
#include "base/log.h"
#include "base/status.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void failure_replaces_the_whole_record(void **state)
{
    (void)state;
    struct kr_error err = {.status = KR_AUTH, .ckr = 0xa0, .ckr_name = "CKR_PIN_INCORRECT"};
    kr_hint(&err, "old hint");
    assert_int_equal(kr_fail(&err, KR_IO, "cannot write %s: %d", "x", 5), KR_IO);
    assert_int_equal(err.ckr, 0);
    assert_null(err.ckr_name);
    assert_string_equal(err.hint, "");
    assert_error(&err, KR_IO, "cannot write x: 5", "");
}

static void context_comes_first_and_keeps_hint_and_class(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    kr_fail(&err, KR_CONFIG, "no value");
    kr_hint(&err, "give one");
    kr_error_context(&err, "%s:%d", "/etc/x", 12);
    assert_string_equal(err.text, "/etc/x:12: no value");
    assert_error(&err, KR_CONFIG, "", "give one");
}

static void record_may_be_its_own_argument(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    kr_fail(&err, KR_IO, "inner");
    kr_hint(&err, "do this");
    kr_hint(&err, "%s, then that", err.hint);
    assert_string_equal(err.hint, "do this, then that");
    kr_fail(&err, KR_INTERNAL, "outer: %s", err.text);
    assert_string_equal(err.text, "outer: inner");
}

static void long_texts_are_cut_and_terminated(void **state)
{
    (void)state;
    char lengthy[4096];
    memset(lengthy, 'x', sizeof(lengthy) - 1);
    lengthy[sizeof(lengthy) - 1] = '\0';
    struct kr_error err;
    memset(&err, 0xff, sizeof(err));
    kr_fail(&err, KR_IO, "%s", lengthy);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    kr_hint(&err, "%s", lengthy);
    assert_int_equal(strlen(err.hint), sizeof(err.hint) - 1);
    kr_error_context(&err, "%s", "context");
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_memory_equal(err.text, "context: xxx", 12);
    kr_error_context(&err, "%s", lengthy);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void every_class_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(kr_status_name(KR_OK), "ok");
    assert_string_equal(kr_status_name(KR_TOKEN_UNAVAILABLE), "token-unavailable");
    for (int status = KR_OK; status <= KR_INTERNAL; status++) {
        assert_string_not_equal(kr_status_name((enum kr_status)status), "unknown");
        for (int other = KR_OK; other < status; other++)
            assert_string_not_equal(kr_status_name((enum kr_status)status),
                                    kr_status_name((enum kr_status)other));
    }
    assert_string_equal(kr_status_name((enum kr_status)99), "unknown");
}

static enum kr_status try_three(enum kr_status second, int *ret_reached)
{
    *ret_reached = 1;
    KR_TRY(KR_OK);
    *ret_reached = 2;
    KR_TRY(second);
    *ret_reached = 3;
    return KR_OK;
}

static void try_leaves_at_the_first_failure(void **state)
{
    (void)state;
    int reached = 0;
    assert_int_equal(try_three(KR_OK, &reached), KR_OK);
    assert_int_equal(reached, 3);
    assert_int_equal(try_three(KR_AUTH, &reached), KR_AUTH);
    assert_int_equal(reached, 2);
}

struct heard {
    int count;
    enum kr_log_level level;
    char message[2048];
};

static void hear(enum kr_log_level level, const char *message, void *context)
{
    struct heard *heard = context;
    heard->count++;
    heard->level = level;
    snprintf(heard->message, sizeof(heard->message), "%s", message);
}

static void sink_hears_text_and_hint_until_it_is_removed(void **state)
{
    (void)state;
    struct heard heard = {0};
    struct kr_error err = KR_ERROR_INIT;
    kr_fail(&err, KR_IO, "disk full");
    kr_log_set_sink(hear, &heard);
    kr_log_error(KR_LOG_ERROR, &err);
    assert_string_equal(heard.message, "disk full");
    kr_hint(&err, "free some space");
    kr_log_error(KR_LOG_WARNING, &err);
    assert_string_equal(heard.message, "disk full; hint: free some space");
    assert_int_equal(heard.level, KR_LOG_WARNING);
    kr_log_set_sink(NULL, NULL);
    kr_log(KR_LOG_ERROR, "nobody hears this");
    assert_int_equal(heard.count, 2);
}

static void foreign_text_cannot_forge_a_log_line(void **state)
{
    (void)state;
    struct heard heard = {0};
    kr_log_set_sink(hear, &heard);
    kr_log(KR_LOG_NOTE, "token \"%s\" found", "a\n[ERROR] forged\x1b[2J\x7f grün");
    kr_log_set_sink(NULL, NULL);
    assert_string_equal(heard.message, "token \"a?[ERROR] forged?[2J? grün\" found");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure_replaces_the_whole_record),
        cmocka_unit_test(context_comes_first_and_keeps_hint_and_class),
        cmocka_unit_test(record_may_be_its_own_argument),
        cmocka_unit_test(long_texts_are_cut_and_terminated),
        cmocka_unit_test(every_class_has_its_name),
        cmocka_unit_test(try_leaves_at_the_first_failure),
        cmocka_unit_test(sink_hears_text_and_hint_until_it_is_removed),
        cmocka_unit_test(foreign_text_cannot_forge_a_log_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
