/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keyring behind the OpenSSL provider: registered, failing, withdrawn, forked, shared. */
#include "ossl_fixture.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>

static void test_nothing_registered(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_int_equal(use.ossl->set(NULL, NULL), 1);
    int result = EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len);
    struct kr_handle_counters after;
    assert_int_equal(result, 0);
    assert_string_equal(first_reason(), "no keyring is registered in this process");
    assert_zeros(use.out, use.len);
    use.ossl->counters(&after);
    assert_int_equal(after.refused, use.before.refused + 1);
    assert_int_equal(use.fake.calls, 0);
    finish(&use);
}

static void test_failure_in_the_token(void **state)
{
    struct use use;
    struct kr_handle_counters after;
    int len;
    start_ready(&use, state, ECB);
    use.fake.fails = true;
    assert_false(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_string_equal(first_reason(), "the keyring could not run the operation in the token");
    assert_zeros(use.out, use.len);
    use.ossl->counters(&after);
    assert_int_equal(after.failed, use.before.failed + 1);
    assert_int_equal(after.performed, use.before.performed);
    assert_int_equal(after.refused, use.before.refused);
    assert_false(EVP_CipherFinal_ex(use.ctx, use.out, &len));
    finish(&use);
}

/* Not the key that the context had before: the caller asked for the token's. */
static void test_failure_leaves_no_older_key(void **state)
{
    struct use use;
    uint8_t key[32] = {1, 6, 1, 8};
    int len;
    start(&use, state, ECB);
    assert_true(EVP_CipherInit_ex2(use.ctx, use.cipher, key, NULL, ENCRYPT, NULL));
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_true(EVP_CipherInit_ex2(use.ctx, NULL, use.handle, NULL, ENCRYPT, NULL));
    assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
    use.fake.fails = true;
    assert_false(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_false(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_int_equal(EVP_Cipher(use.ctx, use.out, use.in, (unsigned)use.len) > 0, 0);
    assert_zeros(use.out, use.len);
    finish(&use);
}

static void test_one_registration(void **state)
{
    struct ossl *ossl = *state;
    struct fake_keyring one = {0}, other = {0};
    assert_int_equal(ossl->set(NULL, NULL), 1);
    assert_int_equal(ossl->set(fake_keyring_run, &one), 1);
    assert_int_equal(ossl->set(fake_keyring_run, &other), 0);
    assert_int_equal(ossl->set(NULL, NULL), 1);
    assert_int_equal(ossl->set(fake_keyring_run, &other), 1);
    assert_int_equal(ossl->set(NULL, NULL), 1);
}

/* Returns the number of the first thing that is not as it should be. */
static int in_child(struct use *use)
{
    struct kr_handle_counters counters;
    int len;
    if (EVP_CipherUpdate(use->ctx, use->out, &len, use->in, use->len))
        return 1;
    if (strcmp(first_reason(), "no keyring is registered in this process") != 0)
        return 2;
    use->ossl->counters(&counters);
    if (counters.performed != 0 || counters.refused != 1)
        return 3;
    if (use->ossl->set(NULL, NULL) != 1 || use->ossl->set(fake_keyring_run, &use->fake) != 1)
        return 4;
    if (!init(use, DECRYPT) || !EVP_CipherUpdate(use->ctx, use->out, &len, use->in, use->len))
        return 5;
    return 0;
}

static void assert_ends_well(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void assert_child_ends_well(struct use *use)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(in_child(use));
    assert_ends_well(child);
}

static void test_fork(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_child_ends_well(&use);
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_answered(&use, DECRYPT, use.in);
    finish(&use);
}

/* _Fork() runs no handlers: the child finds its parent's registration, and may not use it. */
static void test_fork_without_handlers(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    pid_t child = _Fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_ends_well(child);
    finish(&use);
}

/* A token that takes its time, in the hands of the test. */
struct slow_token {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool inside, let_go;
    atomic_bool withdrawn;
    struct use *use;
};

static int slow_run(void *context, const uint8_t *handle, enum kr_handle_op op,
                    const uint8_t *cbc_iv, const uint8_t *in, size_t len, uint8_t *out)
{
    struct slow_token *slow = context;
    (void)cbc_iv;
    pthread_mutex_lock(&slow->lock);
    slow->inside = true;
    pthread_cond_broadcast(&slow->changed);
    while (!slow->let_go)
        pthread_cond_wait(&slow->changed, &slow->lock);
    pthread_mutex_unlock(&slow->lock);
    fake_answer(handle[KR_HANDLE_BYTES - 1], op, in, len, out);
    return !slow->withdrawn;
}

static void wait_until_inside(struct slow_token *slow)
{
    pthread_mutex_lock(&slow->lock);
    while (!slow->inside)
        pthread_cond_wait(&slow->changed, &slow->lock);
    pthread_mutex_unlock(&slow->lock);
}

static void let_go(struct slow_token *slow)
{
    pthread_mutex_lock(&slow->lock);
    slow->let_go = true;
    pthread_cond_broadcast(&slow->changed);
    pthread_mutex_unlock(&slow->lock);
}

static void *update_in_thread(void *arg)
{
    struct use *use = arg;
    int len;
    return EVP_CipherUpdate(use->ctx, use->out, &len, use->in, use->len) ? use : NULL;
}

static void *withdraw_in_thread(void *arg)
{
    struct slow_token *slow = arg;
    slow->use->ossl->set(NULL, NULL);
    slow->withdrawn = true;
    return NULL;
}

static void test_withdrawing_waits_for_calls(void **state)
{
    struct use use;
    struct slow_token slow = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, .use = &use};
    pthread_t caller, withdrawer;
    void *answered;
    start_ready(&use, state, ECB);
    assert_int_equal(use.ossl->set(NULL, NULL), 1);
    assert_int_equal(use.ossl->set(slow_run, &slow), 1);
    pthread_create(&caller, NULL, update_in_thread, &use);
    wait_until_inside(&slow);

    pthread_create(&withdrawer, NULL, withdraw_in_thread, &slow);
    usleep(100000);
    assert_false(slow.withdrawn);
    assert_int_equal(use.ossl->set(fake_keyring_run, &use.fake), 0);

    let_go(&slow);
    pthread_join(caller, &answered);
    pthread_join(withdrawer, NULL);
    assert_non_null(answered);
    assert_true(slow.withdrawn);
    finish(&use);
}

/* A child that is born while a call is under way owes it nothing. */
static void test_fork_during_a_call(void **state)
{
    struct use use, second;
    struct slow_token slow = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, .use = &use};
    pthread_t caller;
    start_ready(&second, state, ECB);
    assert_int_equal(second.ossl->set(NULL, NULL), 1);
    start_ready(&use, state, ECB);
    assert_int_equal(use.ossl->set(NULL, NULL), 1);
    assert_int_equal(use.ossl->set(slow_run, &slow), 1);
    pthread_create(&caller, NULL, update_in_thread, &use);
    wait_until_inside(&slow);
    assert_child_ends_well(&second);
    let_go(&slow);
    pthread_join(caller, NULL);
    finish(&second);
    finish(&use);
}

/* SoftHSM encrypts by OpenSSL itself, in the same process. */
static int run_by_openssl(void *context, const uint8_t *handle, enum kr_handle_op op,
                          const uint8_t *cbc_iv, const uint8_t *in, size_t len, uint8_t *out)
{
    struct use *use = context;
    static const uint8_t key[32] = {2, 7, 1, 8};
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int written = 0;
    (void)handle;
    (void)op;
    (void)cbc_iv;
    bool ok = EVP_CipherInit_ex2(ctx, use->cipher, key, NULL, DECRYPT, NULL) &&
              EVP_CIPHER_CTX_set_padding(ctx, 0) &&
              EVP_CipherUpdate(ctx, out, &written, in, (int)len);
    EVP_CIPHER_CTX_free(ctx);
    return ok && written == (int)len;
}

static void test_token_that_uses_openssl(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_int_equal(use.ossl->set(NULL, NULL), 1);
    assert_int_equal(use.ossl->set(run_by_openssl, &use), 1);
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    finish(&use);
}

/* --- threads --------------------------------------------------------------------------------- */

enum { WORKERS = 4, ROUNDS = 400 };

struct crowd {
    struct ossl *ossl;
    atomic_bool done;
    atomic_uint performed, refused;
};

static int run_in_crowd(void *context, const uint8_t *handle, enum kr_handle_op op,
                        const uint8_t *cbc_iv, const uint8_t *in, size_t len, uint8_t *out)
{
    (void)context;
    (void)cbc_iv;
    fake_answer(handle[KR_HANDLE_BYTES - 1], op, in, len, out);
    return 1;
}

static void use_handle_in_crowd(struct crowd *crowd, EVP_CIPHER *cipher, const uint8_t *handle)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t in[64] = {0}, out[64], expected[64];
    int len;
    assert_true(EVP_CipherInit_ex2(ctx, cipher, handle, NULL, ENCRYPT, NULL));
    assert_true(EVP_CIPHER_CTX_set_padding(ctx, 0));
    fake_answer(handle[KR_HANDLE_BYTES - 1], KR_HANDLE_ECB_ENCRYPT, in, 64, expected);
    if (EVP_CipherUpdate(ctx, out, &len, in, 64)) {
        assert_memory_equal(out, expected, 64);
        crowd->performed++;
    } else {
        crowd->refused++;
    }
    EVP_CIPHER_CTX_free(ctx);
}

static void use_key_in_crowd(EVP_CIPHER *cipher)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t key[32] = {5}, bytes[160] = {0};
    int len;
    assert_true(EVP_CipherInit_ex2(ctx, cipher, key, NULL, ENCRYPT, NULL));
    assert_true(EVP_CipherUpdate(ctx, bytes, &len, bytes, 128));
    EVP_CIPHER_CTX_free(ctx);
}

static void *work_in_crowd(void *arg)
{
    struct crowd *crowd = arg;
    uint8_t handle[KR_HANDLE_BYTES];
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(crowd->ossl->ours, "AES-256-ECB", NULL);
    make_handle(handle);
    for (unsigned i = 0; i < ROUNDS; i++) {
        use_handle_in_crowd(crowd, cipher, handle);
        use_key_in_crowd(cipher);
    }
    EVP_CIPHER_free(cipher);
    ERR_clear_error();
    return NULL;
}

static void *come_and_go(void *arg)
{
    struct crowd *crowd = arg;
    while (!crowd->done) {
        crowd->ossl->set(run_in_crowd, NULL);
        usleep(200);
        crowd->ossl->set(NULL, NULL);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct crowd crowd = {.ossl = *state};
    struct kr_handle_counters before, after;
    pthread_t workers[WORKERS], keyring;
    crowd.ossl->counters(&before);
    pthread_create(&keyring, NULL, come_and_go, &crowd);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_create(&workers[i], NULL, work_in_crowd, &crowd);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    crowd.done = true;
    pthread_join(keyring, NULL);
    crowd.ossl->counters(&after);
    assert_int_equal(crowd.performed + crowd.refused, WORKERS * ROUNDS);
    assert_int_equal(after.performed - before.performed, crowd.performed);
    assert_int_equal(after.refused - before.refused, crowd.refused);
    assert_int_equal(crowd.ossl->set(NULL, NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_registered),
        cmocka_unit_test(test_failure_in_the_token),
        cmocka_unit_test(test_failure_leaves_no_older_key),
        cmocka_unit_test(test_one_registration),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_fork_without_handlers),
        cmocka_unit_test(test_withdrawing_waits_for_calls),
        cmocka_unit_test(test_fork_during_a_call),
        cmocka_unit_test(test_token_that_uses_openssl),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, ossl_setup, ossl_teardown);
}
