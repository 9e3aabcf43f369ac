/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Several processes at one SoftHSM2 token, which writes to the files of objects when they are read
 * (see kr_keys_load): no key is spoiled by our reading while it is made, and one that was spoiled
 * by another program is made anew. With P11K_SOAK=1 in full counts.
 */
#include "one_token.h"

#include <p11-kit/pkcs11.h>

#include <glob.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- SoftHSM2's files ------------------------------------------------------------------------- */

/* A generation number of 8 bytes, the lowest byte last; then attributes in the order of their
 * types, each with type and kind of 8 bytes: CKA_CLASS (8 bytes), CKA_TOKEN (one byte), ... */
enum { GENERATION = 7, KIND = 16, AFTER_CLASS = 32, TOKEN_VALUE = 48, OBJECT_MAX = 4096 };
/* A key that is being made: CKA_CLASS and CKA_KEY_TYPE are there, the others follow. */
enum { HALF = AFTER_CLASS + 24 };

struct object {
    char path[512];
    uint8_t bytes[OBJECT_MAX];
    size_t len;
};

static bool is_newer(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec > b->st_mtim.tv_sec
                                                  : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

static void read_newest(struct object *ret)
{
    struct stat newest = {0}, st;
    char pattern[400];
    glob_t found;
    FILE *file;

    memset(ret, 0, sizeof(*ret));
    snprintf(pattern, sizeof(pattern), "%s/tokens/*/*-*.object", f.dir);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        assert_int_equal(stat(found.gl_pathv[i], &st), 0);
        if (!is_newer(&st, &newest))
            continue;
        newest = st;
        snprintf(ret->path, sizeof(ret->path), "%s", found.gl_pathv[i]);
    }
    globfree(&found);
    file = fopen(ret->path, "rb");
    assert_non_null(file);
    ret->len = fread(ret->bytes, 1, sizeof(ret->bytes), file);
    fclose(file);
    assert_in_range(ret->len, TOKEN_VALUE + 1, OBJECT_MAX - 1);
}

static void write_object(const char *path, const uint8_t *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void write_half(const char *path, const struct object *object)
{
    uint8_t bytes[HALF] = {0};

    memcpy(bytes, object->bytes, AFTER_CLASS);
    bytes[AFTER_CLASS + 6] = CKA_KEY_TYPE >> 8;
    memcpy(bytes + AFTER_CLASS + 8, object->bytes + KIND, 8);
    bytes[HALF - 1] = CKK_AES;
    write_object(path, bytes, sizeof(bytes));
}

static size_t size_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

/* --- one at a time ---------------------------------------------------------------------------- */

/* Another program's reading shows what is at stake. */
static void leaves_a_half_made_key_alone(void **state)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    struct object object;
    char half[600];
    size_t keys;

    (void)state;
    assert_ok(kr_master_generate(token, "x", KR_WRAP_AES_GCM, &info, &err));
    read_newest(&object);
    snprintf(half, sizeof(half), "%.*s/half.object", (int)(strrchr(object.path, '/') - object.path),
             object.path);
    write_half(half, &object);
    token_reconnect();
    keys = check_count_keys(token);
    assert_int_equal(size_of(half), HALF);

    object.bytes[GENERATION]++;
    write_object(half, object.bytes, object.len);
    assert_int_equal(check_count_keys(token), keys + 1);

    write_half(half, &object);
    assert_int_equal(check_pkcs11_tool(&f, "--list-objects"), 0);
    assert_true(size_of(half) > HALF);
    assert_int_equal(unlink(half), 0);
    token_reconnect();
}

struct making {
    struct kr_master_info info;
    struct kr_error err;
    enum kr_status status;
};

static void *make(void *argument)
{
    struct making *m = argument;

    m->status = kr_master_generate(token, "x", KR_WRAP_AES_GCM, &m->info, &m->err);
    return NULL;
}

/* As it is after another program's reading. */
static void spoil_newest(void)
{
    struct object object;

    read_newest(&object);
    assert_true(object.bytes[TOKEN_VALUE] != 0);
    object.bytes[TOKEN_VALUE] = 0;
    object.bytes[GENERATION]++;
    write_object(object.path, object.bytes, object.len);
}

static void makes_a_spoiled_key_anew(void **state)
{
    const uint64_t made = mock_calls("C_GenerateKey");
    const size_t keys = check_count_keys(token);
    struct making making = {0};
    struct kr_error err = KR_ERROR_INIT;
    uint64_t before;
    pthread_t maker;

    (void)state;
    before = mock_calls("C_GetAttributeValue");
    mock_rules("hang C_GetAttributeValue 1 1\n");
    assert_int_equal(pthread_create(&maker, NULL, make, &making), 0);
    while (mock_calls("C_GetAttributeValue") == before)
        usleep(1000);
    spoil_newest();
    mock_rules("%s", "");
    pthread_join(maker, NULL);
    assert_int_equal(making.status, KR_OK);
    assert_int_equal(mock_calls("C_GenerateKey") - made, 2);
    assert_int_equal(check_count_keys(token), keys + 1);
    assert_ok(kr_master_find(token, &making.info.id, &making.info, &err));
}

/* --- all at once ------------------------------------------------------------------------------ */

static atomic_bool stop;

static void *keep_reading(void *failures)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info *list = NULL;
    size_t count;

    while (!stop) {
        if (kr_master_list(token, &list, &count, &err) != KR_OK) {
            print_error("list: %s\n", err.text);
            atomic_fetch_add((atomic_uint *)failures, 1);
        } else {
            free(list);
        }
        usleep(2000);
    }
    return NULL;
}

/* Makes a key for each byte that it gets, and sends its id. */
static _Noreturn void serve_keys(int orders, int ids)
{
    struct kr_token_options options = check_options(&f, NULL, 20000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *mine = NULL;
    struct kr_master_info info;
    char byte;

    MUST(kr_token_open(&options, &mine, &err) == KR_OK);
    while (read(orders, &byte, 1) == 1) {
        if (kr_master_generate(mine, "x", KR_WRAP_AES_GCM, &info, &err) != KR_OK)
            child_fail(err.text, __FILE__, __LINE__);
        MUST(write(ids, &info.id, sizeof(info.id)) == sizeof(info.id));
    }
    kr_token_close(mine);
    _exit(0);
}

static pid_t start_server(int *ret_orders, int *ret_ids)
{
    int orders[2], ids[2];
    pid_t pid;

    assert_int_equal(pipe(orders), 0);
    assert_int_equal(pipe(ids), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(orders[1]);
        close(ids[0]);
        serve_keys(orders[0], ids[1]);
    }
    close(orders[0]);
    close(ids[1]);
    *ret_orders = orders[1];
    *ret_ids = ids[0];
    return pid;
}

static void a_new_key_is_seen_by_all(void **state)
{
    const int keys = getenv("P11K_SOAK") ? 2000 : 60;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    struct kr_object_id id;
    atomic_uint failures = 0;
    pthread_t readers[2];
    int orders, ids, status;
    pid_t server;

    (void)state;
    kr_token_close(token);
    token = NULL;
    server = start_server(&orders, &ids);
    token_reconnect();
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, keep_reading, &failures), 0);
    for (int i = 0; i < keys; i++) {
        assert_int_equal(write(orders, "k", 1), 1);
        assert_int_equal(read(ids, &id, sizeof(id)), sizeof(id));
        assert_ok(kr_master_find(token, &id, &info, &err));
    }
    stop = true;
    for (size_t i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    close(orders);
    close(ids);
    assert_int_equal(waitpid(server, &status, 0), server);
    assert_int_equal(status, 0);
    assert_int_equal(failures, 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, no_rules)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(leaves_a_half_made_key_alone),
        TEST(makes_a_spoiled_key_anew),
        TEST(a_new_key_is_seen_by_all),
    };

    return cmocka_run_group_tests(tests, token_up, token_down);
}
