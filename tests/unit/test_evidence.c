/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Which evidence of use counts: fresh, complete, of every configured folder, as it was written. The
 * clock and the keyring's word are the test's own. */
#include "files/evidence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

static time_t now = 1800000000;
static uint8_t keyring_word = 1; /* another keyring's is another one */

time_t __wrap_time(time_t *ret);
time_t __wrap_time(time_t *ret)
{
    if (ret)
        *ret = now;
    return now;
}

enum kr_status __wrap_kr_keyring_vouch(struct kr_keyring *keyring, const char *purpose,
                                       const uint8_t *bytes, size_t len,
                                       uint8_t ret[KR_VOUCH_BYTES], struct kr_error *err);
enum kr_status __wrap_kr_keyring_vouch(struct kr_keyring *keyring, const char *purpose,
                                       const uint8_t *bytes, size_t len,
                                       uint8_t ret[KR_VOUCH_BYTES], struct kr_error *err)
{
    (void)keyring;
    (void)purpose;
    (void)err;
    memset(ret, keyring_word, KR_VOUCH_BYTES);
    for (size_t i = 0; i < len; i++)
        ret[i % KR_VOUCH_BYTES] = (uint8_t)(ret[i % KR_VOUCH_BYTES] * 31 + bytes[i]);
    return KR_OK;
}

/* --- what the tests share --------------------------------------------------------------------- */

static char folder[256], other[256], beside[256];

static struct kr_config config(char *folders)
{
    return (struct kr_config){.keyring = {.name = (char *)"test", .data_directories = folders}};
}

/* Evidence about `folder`, in which one file needs version 3 of key 1. */
static const char *write_evidence(uint64_t silent, uint64_t unknown, bool ignore_unknown)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_usage_key keys[] = {{.id = 1, .version = 3, .here = true, .files = 1},
                                  {.id = 1, .version = 1, .here = true}};
    const struct kr_usage usage = {
        .keys = keys, .key_count = 2, .files = 9, .silent = silent, .unknown = unknown};
    char *paths[] = {folder};
    const struct kr_evidence_scope scope = {
        .paths = paths, .count = 1, .ignore_unknown = ignore_unknown};
    const struct kr_config about = config(NULL);
    const char *path = scratch_path("evidence");
    unlink(path);
    assert_int_equal(kr_evidence_write(&usage, &scope, &about, NULL, path, &err), KR_OK);
    return path;
}

/* Of what is written in the file `evidence`; empty text for KR_OK. */
static enum kr_status judge(char *folders, uint32_t version, struct kr_error *err)
{
    const struct kr_config about = config(folders);
    const struct kr_usage_key key = {.id = 1, .version = version};
    char text[KR_EVIDENCE_TEXT];
    return kr_evidence_check(scratch_path("evidence"), &about, NULL, &key, text, err);
}

static void counts(char *folders)
{
    struct kr_error err = KR_ERROR_INIT;
    assert_int_equal(judge(folders, 1, &err), KR_OK);
}

static void does_not_count(char *folders, const char *why)
{
    struct kr_error err = KR_ERROR_INIT;
    judge(folders, 1, &err);
    assert_error(&err, KR_REFUSED, why, "");
}

/* --- tests ------------------------------------------------------------------------------------ */

static void fresh_evidence_counts_for_a_day(void **state)
{
    (void)state;
    time_t written = now;
    write_evidence(0, 0, false);
    counts(folder);
    now = written + KR_EVIDENCE_FRESH_S;
    counts(folder);
    now = written + KR_EVIDENCE_FRESH_S + 1;
    does_not_count(folder, "older than a day");
    now = written - 3600;
    does_not_count(folder, "from the future");
    now = written;
}

static void a_needed_key_stays(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    write_evidence(0, 0, false);
    assert_int_equal(judge(folder, 3, &err), KR_REFUSED);
    assert_error(&err, KR_REFUSED, "1 files still need this key", "");
}

static void incomplete_evidence_does_not_count(void **state)
{
    (void)state;
    write_evidence(1, 0, true);
    does_not_count(folder, "could not be asked");
    write_evidence(0, 1, false);
    does_not_count(folder, "could not be asked");
    write_evidence(0, 1, true);
    counts(folder);
}

static void every_configured_folder_is_covered(void **state)
{
    (void)state;
    char two[600];
    write_evidence(0, 0, false);
    does_not_count(NULL, "no data directories are configured");
    snprintf(two, sizeof(two), "%s:%s", folder, other);
    does_not_count(two, "it is not about");
    does_not_count(beside, "it is not about"); /* its name only begins alike */
    snprintf(two, sizeof(two), "%s/below:%s", folder, folder);
    counts(two);
    snprintf(two, sizeof(two), "%s/../%s", folder, strrchr(other, '/') + 1);
    does_not_count(two, "it is not about");
    snprintf(two, sizeof(two), "%s/gone", folder);
    does_not_count(two, "it is not about");
}

static void other_hands_and_keyrings_do_not_count(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    write_evidence(0, 0, false);
    keyring_word = 2;
    assert_int_equal(judge(folder, 1, &err), KR_INTEGRITY);
    keyring_word = 1;
    counts(folder);
    unlink(scratch_path("evidence"));
    scratch_text("evidence", "{\"schema\": \"p11keyring.usage-evidence/1\", \"evidence\": {}}",
                 0600);
    does_not_count(folder, "no evidence of use");
    unlink(scratch_path("evidence"));
    scratch_text("evidence", "[", 0600);
    does_not_count(folder, "no evidence of use");
}

static int up(void **state)
{
    int rc = scratch_up(state);
    snprintf(folder, sizeof(folder), "%s", scratch_path("data"));
    snprintf(other, sizeof(other), "%s", scratch_path("more"));
    snprintf(beside, sizeof(beside), "%s", scratch_path("data2"));
    char below[300];
    snprintf(below, sizeof(below), "%s/below", folder);
    return rc || mkdir(folder, 0700) || mkdir(other, 0700) || mkdir(beside, 0700) ||
           mkdir(below, 0700);
}

static int down(void **state)
{
    char below[300];
    snprintf(below, sizeof(below), "%s/below", folder);
    if (rmdir(below) || rmdir(folder) || rmdir(other) || rmdir(beside))
        return -1;
    return scratch_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_evidence_counts_for_a_day),
        cmocka_unit_test(a_needed_key_stays),
        cmocka_unit_test(incomplete_evidence_does_not_count),
        cmocka_unit_test(every_configured_folder_is_covered),
        cmocka_unit_test(other_hands_and_keyrings_do_not_count),
    };
    return cmocka_run_group_tests(tests, up, down);
}
