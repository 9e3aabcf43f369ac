/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The audit log: what is written, by whom at once, through what trouble, and what reading tells. */
#include "base/hex.h"
#include "keystore_fixture.h"
#include "kill_window.h"
#include "scratch.h"
#include "vectors.h"
#include "wrap/audit_chain.h"
#include "wrap/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

static char log_path[128], head_path[160];

static int up(void **state)
{
    if (scratch_up(state) != 0)
        return -1;
    snprintf(log_path, sizeof(log_path), "%s", scratch_path("audit"));
    snprintf(head_path, sizeof(head_path), "%s" KR_AUDIT_HEAD_SUFFIX, log_path);
    return 0;
}

static struct kr_audit_log *new_log(const char *path)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_log *log = NULL;
    struct kr_audit_log_options options = {.path = path, .lock_timeout_ms = 20000};
    MUST(kr_audit_log_new(&options, &log, &err), &err);
    return log;
}

static enum kr_status append(struct kr_audit_log *log, const char *event, struct kr_audit_head *ret,
                             struct kr_error *err)
{
    json_t *fields = json_pack("{s:s, s:s, s:s, s:{s:i}}", "event", event, "outcome", "ok",
                               "keyring", "caf\xc3\xa9 \"test\"", "actor", "pid", (int)getpid());
    enum kr_status status = kr_audit_log_append(log, fields, ret, err);
    json_decref(fields);
    return status;
}

static struct kr_audit_head write_records(unsigned count)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_head head = {0};
    struct kr_audit_log *log = new_log(log_path);
    for (unsigned i = 0; i < count; i++)
        MUST(append(log, "test", &head, &err), &err);
    kr_audit_log_free(log);
    return head;
}

/* What reading said last of a line that is no good record, and all events, for comparisons. */
static char said[1024], events[4096];
static unsigned long said_line;

static enum kr_status note(const struct kr_audit_line *line, void *context, struct kr_error *err)
{
    (void)context;
    (void)err;
    const char *event = json_string_value(json_object_get(line->fields, "event"));
    size_t used = strlen(events);
    if (used < sizeof(events) - 64)
        snprintf(events + used, sizeof(events) - used, "%s ", event ? event : "-");
    if (line->finding == KR_AUDIT_RECORD_OK)
        return KR_OK;
    said_line = line->number;
    snprintf(said, sizeof(said), "%s", line->problem);
    return KR_OK;
}

static struct kr_audit_chain read_files(const char *const *paths,
                                        const struct kr_audit_head *anchor)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_chain chain = {0};
    if (anchor)
        chain.anchor = *anchor;
    said[0] = events[0] = '\0';
    said_line = 0;
    for (; *paths; paths++)
        MUST(kr_audit_chain_read(&chain, *paths, note, NULL, &err), &err);
    return chain;
}

static struct kr_audit_chain read_log(void)
{
    const char *const paths[] = {log_path, NULL};
    return read_files(paths, NULL);
}

/* A test begins without a log. */
static int fresh(void **state)
{
    (void)state;
    unlink(log_path);
    unlink(head_path);
    unlink(scratch_path("audit.1"));
    return 0;
}

/* --- records ---------------------------------------------------------------------------------- */

static void the_vector_is_read(void **state)
{
    (void)state;
    static uint8_t line[sizeof(VECTOR_AUDIT_LINE) / 2];
    uint8_t hash[KR_AUDIT_HASH_BYTES];
    KR_AUDIT_RECORD record = {0};
    assert_true(kr_hex_decode(VECTOR_AUDIT_LINE, 2 * sizeof(line), line));
    assert_true(kr_hex_decode(VECTOR_AUDIT_HASH, 2 * sizeof(hash), hash));
    assert_null(kr_audit_record_read((const char *)line, sizeof(line), &record));
    assert_int_equal(record.head.seq, 1);
    assert_memory_equal(record.head.hash, hash, sizeof(hash));
}

static void records_follow_each_other(void **state)
{
    (void)state;
    struct stat st;
    struct kr_audit_head head = write_records(4);
    struct kr_audit_chain chain = read_log();
    assert_string_equal(events, "log-start test test test test ");
    assert_int_equal(chain.records, 5);
    assert_int_equal(chain.damaged + chain.torn, 0);
    assert_int_equal(chain.first.seq, 1);
    assert_true(kr_audit_head_equal(&chain.last, &head));
    assert_int_equal(stat(log_path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(stat(head_path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void every_edited_byte_is_told(void **state)
{
    (void)state;
    static const uint8_t flips[] = {0x01, 0x20, 0x80};
    size_t len;
    write_records(3);
    char *bytes = (char *)store_read_file(log_path, &len);
    for (size_t i = 0; i < len * sizeof(flips); i++) {
        char *edited = &bytes[i / sizeof(flips)];
        *edited = (char)(*edited ^ flips[i % sizeof(flips)]);
        store_write_file(log_path, bytes, len);
        struct kr_audit_chain chain = read_log();
        if (chain.damaged + chain.torn == 0)
            fail_msg("byte %zu became '%c' unseen", i / sizeof(flips), *edited);
        *edited = (char)(*edited ^ flips[i % sizeof(flips)]);
    }
    store_write_file(log_path, bytes, len);
    assert_int_equal(read_log().damaged, 0);
    free(bytes);
}

/* An edit that also mends its own line's hash shows at the next line. */
static void a_forged_line_is_told(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    size_t len, forged_len;
    char *forged = NULL;
    struct kr_audit_head before, ignored;
    KR_AUDIT_RECORD record = {0};
    write_records(3);
    char *bytes = (char *)store_read_file(log_path, &len);
    char *line = strchr(bytes, '\n') + 1, *end = strchr(line, '\n') + 1;
    assert_null(kr_audit_record_read(line, (size_t)(end - line) - 1, &record));
    before.seq = record.head.seq - 1;
    memcpy(before.hash, record.prev, sizeof(before.hash));
    json_object_set_new(record.fields, "outcome", json_string("failed"));
    MUST(kr_audit_record_seal(record.fields, &before, &forged, &forged_len, &ignored, &err), &err);
    FILE *file = fopen(log_path, "w");
    fwrite(bytes, 1, (size_t)(line - bytes), file);
    fwrite(forged, 1, forged_len, file);
    fwrite(end, 1, len - (size_t)(end - bytes), file);
    fclose(file);
    assert_int_equal(read_log().damaged, 1);
    assert_int_equal(said_line, 3);
    assert_says(said, "does not follow");
    free(forged);
    free(bytes);
}

static void missing_lines_are_told(void **state)
{
    (void)state;
    size_t len;
    write_records(4);
    char *bytes = (char *)store_read_file(log_path, &len);
    char *second = strchr(bytes, '\n') + 1, *fourth = strchr(strchr(second, '\n') + 1, '\n') + 1;
    memmove(second, fourth, len - (size_t)(fourth - bytes));
    store_write_file(log_path, bytes, len - (size_t)(fourth - second));
    assert_int_equal(read_log().damaged, 1);
    assert_int_equal(said_line, 2);
    assert_says(said, "records 2 to 3 are missing");
    free(bytes);
}

/* --- trouble while writing -------------------------------------------------------------------- */

static size_t file_size(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

/* A writer that was killed in the middle of a line, at every byte of it. */
static void a_torn_line_is_no_damage(void **state)
{
    (void)state;
    size_t len, head_len;
    write_records(2);
    size_t before = file_size(log_path);
    char *head = (char *)store_read_file(head_path, &head_len);
    write_records(1);
    char *bytes = (char *)store_read_file(log_path, &len);
    for (size_t cut = before; cut < len; cut += cut + 2 < len ? 61 : 1) {
        store_write_file(log_path, bytes, cut);
        store_write_file(head_path, head, head_len);
        bool torn = cut > before && cut < len - 1;
        assert_int_equal(read_log().torn, torn);
        write_records(1);
        struct kr_audit_chain chain = read_log();
        assert_int_equal(chain.damaged, 0);
        assert_int_equal(chain.torn, torn);
        assert_int_equal(chain.last.seq, cut == before ? 4 : 5);
        if (torn)
            assert_string_equal(events, "log-start test test - log-torn test ");
    }
    free(bytes);
    free(head);
}

/* Records that were there and are not any more: the next writer says so, too. */
static void lost_records_are_told(void **state)
{
    (void)state;
    write_records(2);
    size_t before = file_size(log_path);
    write_records(2);
    assert_int_equal(truncate(log_path, (off_t)before), 0);
    assert_int_equal(read_log().damaged, 0); /* its end looks like any other */
    write_records(1);
    assert_int_equal(read_log().damaged, 1);
    assert_string_equal(events, "log-start test test log-altered test ");
    assert_says(said, "records 4 to 5 are missing");
}

static void a_replaced_end_is_told(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    size_t len, head_len;
    write_records(2);
    char *bytes = (char *)store_read_file(log_path, &len);
    char *head = (char *)store_read_file(head_path, &head_len);
    struct kr_audit_log *log = new_log(log_path);
    struct kr_audit_head known, ignored;
    MUST(append(log, "true", &known, &err), &err);
    store_write_file(log_path, bytes, len);
    store_write_file(head_path, head, head_len);
    write_records(1); /* another record of the same number, by another process */
    MUST(append(log, "test", &ignored, &err), &err);
    assert_int_equal(read_log().damaged, 1);
    assert_string_equal(events, "log-start test test test log-altered test ");
    assert_says(said, "does not follow");
    kr_audit_log_free(log);
    free(bytes);
    free(head);
}

static int fill_the_disk(void *unused)
{
    (void)unused;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_head head;
    struct stat before, after;
    struct kr_audit_log *log = new_log(log_path);
    if (append(log, "test", &head, &err) != KR_OK || stat(log_path, &before) != 0)
        return 1;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {(rlim_t)before.st_size + 100, RLIM_INFINITY}; /* within the next line */
    setrlimit(RLIMIT_FSIZE, &limit);
    if (append(log, "test", &head, &err) != KR_IO || !strstr(err.hint, "free space") ||
        stat(log_path, &after) != 0 || after.st_size != before.st_size)
        return 2;
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    enum kr_status status = append(log, "test", &head, &err);
    kr_audit_log_free(log);
    return status == KR_OK ? 0 : 3;
}

static void a_full_disk_leaves_the_chain_whole(void **state)
{
    (void)state;
    write_records(1);
    assert_int_equal(scratch_in_child(fill_the_disk, NULL), 0);
    struct kr_audit_chain chain = read_log();
    assert_int_equal(chain.records, 4);
    assert_int_equal(chain.damaged + chain.torn, 0);
}

static int append_as_nobody(void *unused)
{
    (void)unused;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_head head;
    struct kr_audit_log *log = new_log(log_path);
    if (setuid(65534) != 0)
        return 1;
    if (append(log, "test", &head, &err) != KR_CONFIG || !strstr(err.hint, "server's user"))
        return 2;
    enum kr_status status = kr_audit_log_check(log, &head, &err);
    kr_audit_log_free(log);
    return status == KR_CONFIG ? 0 : 3;
}

static void files_that_are_not_ours_are_refused(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_head head;
    struct kr_audit_log *log = new_log(log_path);
    write_records(1);
    assert_int_equal(scratch_in_child(append_as_nobody, NULL), 0);
    chmod(log_path, 0660);
    append(log, "test", &head, &err);
    assert_error(&err, KR_CONFIG, "can be written by others", "chmod 0640");
    unlink(log_path);
    assert_int_equal(symlink("/dev/null", log_path), 0);
    append(log, "test", &head, &err);
    assert_error(&err, KR_IO, "cannot open", "audit-log");
    unlink(log_path);
    char *long_line = malloc(20000);
    memset(long_line, 'x', 20000);
    store_write_file(log_path, long_line, 20000);
    chmod(log_path, 0600);
    append(log, "test", &head, &err);
    assert_error(&err, KR_INTEGRITY, "longer than any of ours", "audit-log");
    free(long_line);
    kr_audit_log_free(log);
    log = new_log("/proc/no/such/directory/log");
    append(log, "test", &head, &err);
    assert_error(&err, KR_CONFIG, "No such file", "make its directory");
    assert_int_equal(kr_audit_log_check(log, &head, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "No such file", "make its directory");
    kr_audit_log_free(log);
}

static void a_wait_has_an_end(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_head head;
    struct kr_audit_log *log = NULL;
    write_records(1);
    struct kr_audit_log_options options = {.path = log_path, .lock_timeout_ms = 50};
    MUST(kr_audit_log_new(&options, &log, &err), &err);
    int fd = open(head_path, O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    append(log, "test", &head, &err);
    assert_error(&err, KR_IO, "another process has locked", "lock-timeout");
    close(fd);
    MUST(append(log, "test", &head, &err), &err);
    kr_audit_log_free(log);
}

/* --- rotation and several processes ----------------------------------------------------------- */

static void a_rotated_log_goes_on(void **state)
{
    (void)state;
    const char *const both[] = {scratch_path("audit.1"), log_path, NULL};
    const char *const wrong[] = {log_path, both[0], NULL};
    write_records(2);
    assert_int_equal(rename(log_path, both[0]), 0);
    write_records(2);
    struct kr_audit_chain chain = read_files(both, NULL);
    assert_string_equal(events, "log-start test test log-continue test test ");
    assert_int_equal(chain.damaged + chain.torn, 0);
    assert_int_equal(chain.first.seq, 1);
    assert_int_equal(chain.last.seq, 6);
    assert_int_equal(read_log().damaged, 0);
    assert_int_equal(read_log().first.seq, 4); /* for the reader to say */
    assert_true(read_files(wrong, NULL).damaged > 0);
}

/* With everything removed the keystore still knows. */
static void an_expected_head_is_followed(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_head head = write_records(3), next;
    fresh(NULL);
    struct kr_audit_log *log = new_log(log_path);
    kr_audit_log_expect(log, &head);
    MUST(append(log, "test", &next, &err), &err);
    assert_string_equal((read_log(), events), "log-continue test ");
    assert_int_equal(next.seq, 6);
    kr_audit_log_free(log);
}

static void the_anchor_is_looked_for(void **state)
{
    (void)state;
    const char *const paths[] = {log_path, NULL};
    struct kr_audit_head anchor = write_records(2);
    write_records(2);
    struct kr_audit_chain chain = read_files(paths, &anchor);
    assert_true(chain.anchor_found && !chain.anchor_differs);
    anchor.hash[0] ^= 1;
    chain = read_files(paths, &anchor);
    assert_true(chain.anchor_found && chain.anchor_differs);
    anchor.seq = 77;
    chain = read_files(paths, &anchor);
    assert_false(chain.anchor_found);
}

static void several_writers_share_a_chain(void **state)
{
    (void)state;
    enum { WRITERS = 4, EACH = 10 };
    for (int i = 0; i < WRITERS; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            write_records(EACH);
            _exit(0);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = -1;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    struct kr_audit_chain chain = read_log();
    assert_int_equal(chain.records, 1 + WRITERS * EACH);
    assert_int_equal(chain.damaged + chain.torn, 0);
}

/* --- kills ------------------------------------------------------------------------------------ */

static bool is_locked(const void *context)
{
    int fd = open(context, O_RDONLY);
    bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    return locked;
}

static void killed_writers_leave_a_chain(void **state)
{
    (void)state;
    struct kill_tally tally = {.name = "audit log"};
    unsigned kills = kill_count(8);
    write_records(1);
    while (tally.kills < kills || 2 * tally.inside < kills) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            for (;;)
                write_records(50);
        kill_aim(is_locked, head_path, 2000);
        kill_child(child, is_locked, head_path, &tally);
        assert_true(tally.kills < 10 * kills);
    }
    write_records(1);
    struct kr_audit_chain chain = read_log();
    assert_int_equal(chain.damaged, 0);
    assert_true(chain.torn <= tally.inside);
    assert_true(chain.records > tally.kills);
    kill_report(&tally);
}

/* --- syslog ----------------------------------------------------------------------------------- */

static char sent[2][2048];
static int sent_count;

__attribute__((format(printf, 2, 0))) static void keep(int priority, const char *format,
                                                       va_list args)
{
    assert_int_equal(priority, LOG_AUTHPRIV | LOG_NOTICE);
    vsnprintf(sent[sent_count++ % 2], sizeof(sent[0]), format, args);
}

/* syslog() and what _FORTIFY_SOURCE makes of it. */
void __wrap_syslog(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __wrap_syslog(int priority, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep(priority, format, args);
    va_end(args);
}

void __wrap___syslog_chk(int priority, int flag, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void __wrap___syslog_chk(int priority, int flag, const char *format, ...)
{
    (void)flag;
    va_list args;
    va_start(args, format);
    keep(priority, format, args);
    va_end(args);
}

static void syslog_gets_the_same_records(void **state)
{
    (void)state;
    static const char tag[] = "p11keyring-audit: ";
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_head head;
    struct kr_audit_log *log = new_log(NULL);
    KR_AUDIT_RECORD first = {0};
    KR_AUDIT_RECORD second = {0};
    MUST(append(log, "one", &head, &err), &err);
    MUST(append(log, "two", &head, &err), &err);
    assert_int_equal(sent_count, 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(strncmp(sent[i], tag, strlen(tag)), 0);
    const char *lines[] = {sent[0] + strlen(tag), sent[1] + strlen(tag)};
    assert_null(kr_audit_record_read(lines[0], strlen(lines[0]), &first));
    assert_null(kr_audit_record_read(lines[1], strlen(lines[1]), &second));
    assert_int_equal(second.head.seq, 2);
    assert_memory_equal(second.prev, first.head.hash, sizeof(second.prev));
    kr_audit_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vector_is_read),
        cmocka_unit_test_setup(records_follow_each_other, fresh),
        cmocka_unit_test_setup(every_edited_byte_is_told, fresh),
        cmocka_unit_test_setup(a_forged_line_is_told, fresh),
        cmocka_unit_test_setup(missing_lines_are_told, fresh),
        cmocka_unit_test_setup(a_torn_line_is_no_damage, fresh),
        cmocka_unit_test_setup(lost_records_are_told, fresh),
        cmocka_unit_test_setup(a_replaced_end_is_told, fresh),
        cmocka_unit_test_setup(a_full_disk_leaves_the_chain_whole, fresh),
        cmocka_unit_test_setup(files_that_are_not_ours_are_refused, fresh),
        cmocka_unit_test_setup(a_wait_has_an_end, fresh),
        cmocka_unit_test_setup(a_rotated_log_goes_on, fresh),
        cmocka_unit_test_setup(an_expected_head_is_followed, fresh),
        cmocka_unit_test_setup(the_anchor_is_looked_for, fresh),
        cmocka_unit_test_setup(several_writers_share_a_chain, fresh),
        cmocka_unit_test_setup(killed_writers_leave_a_chain, fresh),
        cmocka_unit_test_setup(syslog_gets_the_same_records, fresh),
    };
    return cmocka_run_group_tests(tests, up, scratch_down);
}
