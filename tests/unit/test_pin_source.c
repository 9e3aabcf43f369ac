/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The sources of a PIN but for the terminal (test_prompt.c), and what is refused. */
#include "base/pin_source.h"
#include "base/secret.h"
#include "scratch.h"

#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct kr_pin_source *source_of(const char *prefix, const char *rest)
{
    char spec[512];
    snprintf(spec, sizeof(spec), "%s%s", prefix, rest);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *source = NULL;
    if (kr_pin_source_new(spec, "PIN of the test token", &source, &err) != KR_OK)
        fail_msg("refused: %s", err.text);
    return source;
}

static void assert_reads(struct kr_pin_source *source, const char *wanted)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_SECRET char *pin = NULL;
    size_t len = 0;
    if (kr_pin_source_read(source, &pin, &len, &err) != KR_OK)
        fail_msg("not read: %s", err.text);
    assert_string_equal(pin, wanted);
    assert_int_equal(len, strlen(wanted));
}

static void assert_unreadable(struct kr_pin_source *source, const char *says, const char *hint)
{
    struct kr_error err = KR_ERROR_INIT;
    char *pin = NULL;
    size_t len = 0;
    assert_int_equal(kr_pin_source_read(source, &pin, &len, &err), KR_CONFIG);
    assert_null(pin);
    assert_error(&err, KR_CONFIG, says, hint);
}

/* --- forms ------------------------------------------------------------------------------------ */

static void unknown_forms_are_refused_and_not_repeated(void **state)
{
    (void)state;
    char pin[SCRATCH_PIN_BYTES], with_pin[32], lengthy[500];
    scratch_pin(pin);
    snprintf(with_pin, sizeof(with_pin), "pin:%s", pin);
    memset(lengthy, 'x', sizeof(lengthy) - 1);
    lengthy[0] = '/';
    lengthy[sizeof(lengthy) - 1] = '\0';
    const char *const specs[] = {pin,        with_pin,   "",        "file:",    "file:pin",
                                 "file",     "cred:",    "cred:..", "cred:a/b", "env:",
                                 "env:1A",   "env:A=B",  "fd:",     "fd:-1",    "fd:3x",
                                 "fd:1e999", "prompt:x", lengthy,   "/a\nb"};
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        struct kr_error err = KR_ERROR_INIT;
        struct kr_pin_source *source = NULL;
        if (kr_pin_source_new(specs[i], "x", &source, &err) != KR_CONFIG)
            fail_msg("accepted: %s", specs[i]);
        assert_null(source);
        assert_null(strstr(err.text, pin));
        assert_error(&err, KR_CONFIG, "the PIN source", "file:/path, cred:NAME, env:NAME, fd:N");
    }
    kr_pin_source_free(NULL);
}

static void a_source_has_its_name(void **state)
{
    (void)state;
    const char *const names[][2] = {{"/etc/pin", "file:/etc/pin"},
                                    {"file:/etc/pin", "file:/etc/pin"},
                                    {"cred:pin", "cred:pin"},
                                    {"env:A_1", "env:A_1"},
                                    {"fd:3", "fd:3"},
                                    {"prompt", "prompt"}};
    for (size_t i = 0; i < 6; i++) {
        struct kr_pin_source *source = source_of(names[i][0], "");
        assert_string_equal(kr_pin_source_name(source), names[i][1]);
        kr_pin_source_free(source);
    }
}

/* --- files ------------------------------------------------------------------------------------ */

static void a_file_is_read_anew_each_time(void **state)
{
    (void)state;
    char first[SCRATCH_PIN_BYTES], second[SCRATCH_PIN_BYTES], line[SCRATCH_PIN_BYTES + 1];
    scratch_pin(first);
    scratch_pin(second);
    snprintf(line, sizeof(line), "%s\n", second);
    struct kr_pin_source *source = source_of("", scratch_text("pin", first, 0400));
    struct kr_error err = KR_ERROR_INIT;
    assert_int_equal(kr_pin_source_check(source, &err), KR_OK);
    assert_reads(source, first);
    scratch_text("pin", line, 0600);
    assert_reads(source, second);
    kr_pin_source_free(source);
}

static void a_link_counts_as_what_it_points_to(void **state)
{
    (void)state;
    char pin[SCRATCH_PIN_BYTES];
    scratch_pin(pin);
    const char *target = scratch_text("target", pin, 0400), *link = scratch_path("link");
    assert_int_equal(symlink(target, link), 0);
    struct kr_pin_source *source = source_of("file:", link);
    assert_reads(source, pin);
    assert_int_equal(chmod(target, 0644), 0);
    assert_unreadable(source, "open to others (mode 0644)", "chmod 0400");
    kr_pin_source_free(source);
}

static void a_password_is_not_called_a_pin(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *source;
    const char *path = scratch_text("password", "1234", 0644);
    assert_int_equal(kr_pin_source_new(path, "Password of the server", &source, &err), KR_OK);
    assert_unreadable(source, "the password file", "change the password too");
    kr_pin_source_free(source);
}

static void a_file_open_to_others_is_refused(void **state)
{
    (void)state;
    const mode_t modes[] = {0440, 0404, 0644, 0620, 0602, 0610, 0777};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct kr_error err = KR_ERROR_INIT;
        struct kr_pin_source *source = source_of("file:", scratch_text("pin", "1234", modes[i]));
        assert_int_equal(kr_pin_source_check(source, &err), KR_CONFIG);
        assert_error(&err, KR_CONFIG, "is open to others (mode 0", "chmod 0400 /tmp/");
        assert_unreadable(source, "is open to others", "change the PIN too");
        kr_pin_source_free(source);
    }
}

static void what_is_no_file_is_refused_without_waiting(void **state)
{
    (void)state;
    struct kr_pin_source *source = source_of("file:", scratch_path("absent"));
    assert_unreadable(source, "absent: No such file", "mode 0400");
    kr_pin_source_free(source);
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    source = source_of("file:", scratch_path("fifo"));
    assert_unreadable(source, "is not a regular file", "fd:N");
    kr_pin_source_free(source);
    source = source_of("file:", "/tmp");
    assert_unreadable(source, "is not a regular file", "fd:N");
    kr_pin_source_free(source);
}

static void contents_that_are_no_pin_are_refused(void **state)
{
    (void)state;
    static char text[KR_PIN_MAX + 3];
    const struct {
        const char *bytes;
        size_t len;
        const char *says;
    } wrong[] = {{"", 0, "is empty"},
                 {"\n", 1, "is empty"},
                 {"12\n34", 5, "has a line break"},
                 {"1234\n\n", 6, "has a line break"},
                 {"1234\r\n", 6, "has a line break"},
                 {"12\0"
                  "34",
                  5, "has a NUL byte"},
                 {text, KR_PIN_MAX + 1, "is too long"},
                 {text, KR_PIN_MAX + 3, "is too long"}};
    memset(text, '1', sizeof(text));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const char *path = scratch_write("pin", wrong[i].bytes, wrong[i].len, 0600);
        struct kr_pin_source *source = source_of("file:", path);
        assert_unreadable(source, wrong[i].says, "the PIN alone, 1 to 255 bytes");
        kr_pin_source_free(source);
    }
    char longest[KR_PIN_MAX + 1];
    memcpy(longest, text, KR_PIN_MAX);
    longest[KR_PIN_MAX] = '\n';
    struct kr_pin_source *source =
        source_of("file:", scratch_write("pin", longest, sizeof(longest), 0600));
    longest[KR_PIN_MAX] = '\0';
    assert_reads(source, longest);
    kr_pin_source_free(source);
}

/* As a user without rights: 0 when the other user's file was refused and the own one read. */
static int read_as_nobody(void *argument)
{
    const char *const *paths = argument;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *source = NULL;
    char *pin = NULL;
    size_t len;
    if (setresuid(65534, 65534, 65534) != 0)
        return 1;
    if (kr_pin_source_new(paths[0], "x", &source, &err) != KR_OK ||
        kr_pin_source_read(source, &pin, &len, &err) != KR_OK)
        return 2;
    kr_pin_source_free(source);
    if (kr_pin_source_new(paths[1], "x", &source, &err) != KR_OK ||
        kr_pin_source_read(source, &pin, &len, &err) != KR_CONFIG || !strstr(err.text, "denied") ||
        !strstr(err.hint, "chown 65534"))
        return 3;
    kr_pin_source_free(source);
    return 0;
}

static void the_owner_decides_who_may_use_a_file(void **state)
{
    (void)state;
    assert_int_equal(geteuid(), 0); /* the suite runs as root */
    const char *paths[] = {scratch_text("own", "1234", 0400), scratch_text("others", "1234", 0400)};
    assert_int_equal(chown(paths[0], 65534, 65534), 0);
    assert_int_equal(chown(paths[1], 12345, 12345), 0);
    assert_int_equal(scratch_in_child(read_as_nobody, paths), 0);
    struct kr_pin_source *source = source_of("file:", paths[1]);
    assert_reads(source, "1234"); /* root may */
    kr_pin_source_free(source);
}

static void a_credential_is_found_in_its_directory(void **state)
{
    (void)state;
    struct kr_pin_source *source = source_of("cred:", "pin");
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_unreadable(source, "$CREDENTIALS_DIRECTORY is not set", "LoadCredentialEncrypted=pin:");
    char folder[256];
    snprintf(folder, sizeof(folder), "%s", scratch_path(""));
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    scratch_text("pin", "2345", 0400);
    assert_reads(source, "2345");
    const char *path = scratch_text("pin", "3456", 0440); /* systemd's ACL for a service user */
    assert_reads(source, "3456");
    assert_int_equal(chown(path, 0, 65534), 0);
    assert_unreadable(source, "is open to others", "chmod");
    scratch_text("pin", "4567", 0444);
    assert_unreadable(source, "is open to others", "chmod");
    unsetenv("CREDENTIALS_DIRECTORY");
    kr_pin_source_free(source);
}

static void identity_of(struct kr_pin_source *source, char *ret)
{
    struct kr_error err = KR_ERROR_INIT;
    if (kr_pin_source_identity(source, ret, &err) != KR_OK)
        fail_msg("no identity: %s", err.text);
}

static void identity_changes_with_the_file(void **state)
{
    (void)state;
    char first[KR_PIN_IDENTITY_MAX], again[KR_PIN_IDENTITY_MAX], part[64];
    const char *path = scratch_text("pin", "1234", 0400);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    snprintf(part, sizeof(part), "/pin inode=%lu:%lu ctime=%ld.%09ld", (unsigned long)st.st_dev,
             (unsigned long)st.st_ino, (long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    struct kr_pin_source *source = source_of("file:", path);
    identity_of(source, first);
    assert_says(first, part);
    identity_of(source, again);
    assert_string_equal(again, first);
    struct timespec tick = {.tv_nsec = 20000000}; /* more than the file system's clock tick */
    nanosleep(&tick, NULL);
    assert_int_equal(chmod(path, 0600), 0);
    identity_of(source, again);
    assert_string_not_equal(again, first);
    kr_pin_source_free(source);
}

/* A file put in place between the reading and the question must not be taken for the one read. */
static void identity_is_of_the_file_that_was_read(void **state)
{
    (void)state;
    char before[KR_PIN_IDENTITY_MAX], of_read[KR_PIN_IDENTITY_MAX], now[KR_PIN_IDENTITY_MAX];
    struct kr_pin_source *source = source_of("file:", scratch_text("pin", "1234", 0400));
    identity_of(source, before);
    assert_reads(source, "1234");
    assert_int_equal(rename(scratch_text("new", "2345", 0400), scratch_path("pin")), 0);
    identity_of(source, of_read);
    assert_string_equal(of_read, before);
    identity_of(source, now);
    assert_string_not_equal(now, before);
    kr_pin_source_free(source);
}

/* --- env and fd ------------------------------------------------------------------------------- */

static void a_variable_is_wiped_and_kept(void **state)
{
    (void)state;
    char pin[SCRATCH_PIN_BYTES], identity[KR_PIN_IDENTITY_MAX];
    struct kr_error err = KR_ERROR_INIT;
    scratch_pin(pin);
    struct kr_pin_source *source = source_of("env:", "P11K_TEST_PIN");
    unsetenv("P11K_TEST_PIN");
    assert_unreadable(source, "variable P11K_TEST_PIN of the PIN is not set", "file:/path");
    setenv("P11K_TEST_PIN", pin, 1);
    const char *raw = getenv("P11K_TEST_PIN");
    assert_int_equal(kr_pin_source_check(source, &err), KR_OK);
    assert_string_equal(raw, pin);
    assert_reads(source, pin);
    static const char zeros[SCRATCH_PIN_BYTES];
    assert_memory_equal(raw, zeros, sizeof(zeros));
    assert_null(getenv("P11K_TEST_PIN"));
    assert_reads(source, pin);
    assert_int_equal(kr_pin_source_check(source, &err), KR_OK);
    identity_of(source, identity);
    assert_string_equal(identity, "env:P11K_TEST_PIN");
    kr_pin_source_free(source);
}

static void *write_slowly(void *argument)
{
    int fd = *(int *)argument;
    struct timespec pause = {.tv_nsec = 20000000};
    for (int i = 0; i < 4; i++) {
        nanosleep(&pause, NULL);
        if (write(fd, &"987\n"[i], 1) != 1)
            break;
    }
    close(fd);
    return NULL;
}

static void a_descriptor_is_read_to_its_end_once(void **state)
{
    (void)state;
    int ends[2];
    char number[16];
    pthread_t writer;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    snprintf(number, sizeof(number), "%d", ends[0]);
    struct kr_pin_source *source = source_of("fd:", number);
    assert_int_equal(pthread_create(&writer, NULL, write_slowly, &ends[1]), 0);
    assert_reads(source, "987");
    pthread_join(writer, NULL);
    close(ends[0]);
    assert_reads(source, "987");
    kr_pin_source_free(source);
}

static void a_descriptor_that_cannot_serve_is_refused(void **state)
{
    (void)state;
    int ends[2], master, slave;
    char number[16];
    assert_int_equal(pipe(ends), 0);
    snprintf(number, sizeof(number), "%d", ends[1]);
    struct kr_pin_source *source = source_of("fd:", number);
    assert_unreadable(source, "is not open for reading", "with the descriptor open");
    close(ends[0]);
    close(ends[1]);
    assert_unreadable(source, "is not open for reading", "with the descriptor open");
    kr_pin_source_free(source);
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    snprintf(number, sizeof(number), "%d", slave);
    source = source_of("fd:", number);
    assert_unreadable(source, "is a terminal", "use prompt");
    close(master);
    close(slave);
    kr_pin_source_free(source);
}

static void each_prompt_has_its_own_identity(void **state)
{
    (void)state;
    char first[KR_PIN_IDENTITY_MAX], again[KR_PIN_IDENTITY_MAX], other[KR_PIN_IDENTITY_MAX];
    struct kr_pin_source *source = source_of("prompt", ""), *second = source_of("prompt", "");
    identity_of(source, first);
    identity_of(source, again);
    identity_of(second, other);
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
    kr_pin_source_free(source);
    kr_pin_source_free(second);
}

/* A keyring that is opened again, perhaps by a child, has a source of its own. */
static void what_is_given_once_is_kept_for_later_sources(void **state)
{
    (void)state;
    int pipe_ends[2];
    char fd_spec[16];
    assert_int_equal(pipe(pipe_ends), 0);
    assert_int_equal(write(pipe_ends[1], "from-fd", 7), 7);
    close(pipe_ends[1]);
    snprintf(fd_spec, sizeof(fd_spec), "fd:%d", pipe_ends[0]);
    assert_int_equal(setenv("P11K_TEST_KEPT", "from-env", 1), 0);
    const char *const given[][2] = {{fd_spec, "from-fd"}, {"env:P11K_TEST_KEPT", "from-env"}};
    for (int i = 0; i < 4; i++) {
        struct kr_error err = KR_ERROR_INIT;
        struct kr_pin_source *source;
        char *pin;
        size_t len;
        assert_int_equal(kr_pin_source_new(given[i % 2][0], "PIN", &source, &err), KR_OK);
        assert_int_equal(kr_pin_source_check(source, &err), KR_OK);
        assert_int_equal(kr_pin_source_read(source, &pin, &len, &err), KR_OK);
        assert_string_equal(pin, given[i % 2][1]);
        kr_secret_free(pin);
        kr_pin_source_free(source);
        assert_null(getenv("P11K_TEST_KEPT") && i % 2 ? "still there" : NULL);
    }
    close(pipe_ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_forms_are_refused_and_not_repeated),
        cmocka_unit_test(a_source_has_its_name),
        cmocka_unit_test(a_password_is_not_called_a_pin),
        cmocka_unit_test(a_file_is_read_anew_each_time),
        cmocka_unit_test(a_link_counts_as_what_it_points_to),
        cmocka_unit_test(a_file_open_to_others_is_refused),
        cmocka_unit_test(what_is_no_file_is_refused_without_waiting),
        cmocka_unit_test(contents_that_are_no_pin_are_refused),
        cmocka_unit_test(the_owner_decides_who_may_use_a_file),
        cmocka_unit_test(a_credential_is_found_in_its_directory),
        cmocka_unit_test(identity_changes_with_the_file),
        cmocka_unit_test(identity_is_of_the_file_that_was_read),
        cmocka_unit_test(a_variable_is_wiped_and_kept),
        cmocka_unit_test(a_descriptor_is_read_to_its_end_once),
        cmocka_unit_test(a_descriptor_that_cannot_serve_is_refused),
        cmocka_unit_test(each_prompt_has_its_own_identity),
        cmocka_unit_test(what_is_given_once_is_kept_for_later_sources),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
