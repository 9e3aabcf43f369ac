/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A handle in the OpenSSL provider: the server's exact calls work, and nothing else does. */
#include "ossl_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>

enum { ECB = 0, CBC = 1, DECRYPT = 0, ENCRYPT = 1, MORE = 128 };

static const char *const names[] = {"AES-256-ECB", "AES-256-CBC"};
static const int lengths[] = {KR_HANDLE_ECB_BYTES, KR_HANDLE_CBC_BYTES};
static const enum kr_handle_op ops[2][2] = {{KR_HANDLE_ECB_DECRYPT, KR_HANDLE_ECB_ENCRYPT},
                                            {KR_HANDLE_CBC_DECRYPT, KR_HANDLE_CBC_ENCRYPT}};
static const uint8_t iv[16] = "sixteen bytes iv";

/* One use of a handle: the fake keyring, the context, and where the counters were. */
struct use {
    struct ossl *ossl;
    struct fake_keyring fake;
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *ctx;
    uint8_t handle[KR_HANDLE_BYTES], in[MORE], out[MORE];
    int mode, len;
    struct kr_handle_counters before;
};

static void start(struct use *use, void **state, int mode)
{
    *use = (struct use){.ossl = *state, .mode = mode, .len = lengths[mode]};
    make_handle(use->handle);
    assert_true(RAND_bytes(use->in, sizeof(use->in)));
    memset(use->out, 0xEE, sizeof(use->out));
    use->cipher = EVP_CIPHER_fetch(use->ossl->ours, names[mode], NULL);
    use->ctx = EVP_CIPHER_CTX_new();
    assert_int_equal(use->ossl->set(fake_keyring_run, &use->fake), 1);
    use->ossl->counters(&use->before);
    ERR_clear_error();
}

static void finish(struct use *use)
{
    assert_int_equal(use->ossl->set(NULL, NULL), 1);
    EVP_CIPHER_CTX_free(use->ctx);
    EVP_CIPHER_free(use->cipher);
}

static int init(struct use *use, int direction)
{
    return EVP_CipherInit_ex2(use->ctx, use->cipher, use->handle, use->mode == CBC ? iv : NULL,
                              direction, NULL);
}

/* The handle is set and padding is off: one update is all that is missing. */
static void start_ready(struct use *use, void **state, int mode)
{
    start(use, state, mode);
    assert_true(init(use, DECRYPT));
    assert_true(EVP_CIPHER_CTX_set_padding(use->ctx, 0));
}

static void assert_refused(struct use *use, int result, const char *reason)
{
    struct kr_handle_counters after;
    int len;
    assert_true(result <= 0);
    assert_string_equal(first_reason(), reason);
    use->ossl->counters(&after);
    assert_true(after.refused > use->before.refused);
    assert_int_equal(after.performed, use->before.performed);
    assert_int_equal(use->fake.calls, 0);
    assert_false(EVP_CipherUpdate(use->ctx, use->out, &len, use->in, use->len));
    assert_false(EVP_CipherFinal_ex(use->ctx, use->out, &len));
    assert_int_equal(use->fake.calls, 0);
    finish(use);
}

static void assert_zeros(const uint8_t *bytes, int len)
{
    for (int i = 0; i < len; i++)
        assert_int_equal(bytes[i], 0);
}

/* --- what works ------------------------------------------------------------------------------ */

static void assert_answered(struct use *use, int direction, const uint8_t *in)
{
    uint8_t expected[KR_HANDLE_ECB_BYTES];
    struct kr_handle_counters after;
    enum kr_handle_op op = ops[use->mode][direction];
    fake_answer(use->handle[KR_HANDLE_BYTES - 1], op, in, (size_t)use->len, expected);
    assert_memory_equal(use->out, expected, (size_t)use->len);
    assert_int_equal(use->fake.calls, 1);
    assert_int_equal(use->fake.op, op);
    assert_int_equal(use->fake.len, use->len);
    assert_memory_equal(use->fake.handle, use->handle, KR_HANDLE_BYTES);
    assert_int_equal(use->fake.had_iv, use->mode == CBC);
    if (use->mode == CBC)
        assert_memory_equal(use->fake.iv, iv, sizeof(iv));
    use->ossl->counters(&after);
    assert_int_equal(after.performed, use->before.performed + 1);
    assert_int_equal(after.refused, use->before.refused);
}

/* As mysys/my_aes_openssl.cc calls it for InnoDB and the binary log. */
static void test_the_calls_of_the_server(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct use use;
        int len = 0, last = -1;
        start(&use, state, i / 2);
        if (i % 2 == ENCRYPT) {
            assert_true(EVP_EncryptInit(use.ctx, use.cipher, use.handle, iv));
            assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
            assert_true(EVP_EncryptUpdate(use.ctx, use.out, &len, use.in, use.len));
            assert_true(EVP_EncryptFinal(use.ctx, use.out + len, &last));
        } else {
            assert_true(EVP_DecryptInit(use.ctx, use.cipher, use.handle, iv));
            assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
            assert_true(EVP_DecryptUpdate(use.ctx, use.out, &len, use.in, use.len));
            assert_true(EVP_DecryptFinal_ex(use.ctx, use.out + len, &last));
        }
        assert_int_equal(len, use.len);
        assert_int_equal(last, 0);
        assert_int_equal(use.out[use.len], 0xEE);
        assert_answered(&use, i % 2, use.in);
        finish(&use);
    }
}

static void test_one_shot(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct use use;
        start(&use, state, i / 2);
        assert_true(init(&use, i % 2));
        assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
        assert_int_equal(EVP_Cipher(use.ctx, use.out, use.in, (unsigned)use.len), use.len);
        assert_answered(&use, i % 2, use.in);
        finish(&use);
    }
}

static void test_in_place(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    memcpy(use.out, use.in, sizeof(use.out));
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.out, use.len));
    assert_answered(&use, DECRYPT, use.in);
    finish(&use);
}

static void test_padding_off_before_the_handle(void **state)
{
    struct use use;
    int len;
    start(&use, state, ECB);
    assert_true(EVP_CipherInit_ex2(use.ctx, use.cipher, NULL, NULL, DECRYPT, NULL));
    assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 0));
    assert_true(EVP_CipherInit_ex2(use.ctx, NULL, use.handle, NULL, DECRYPT, NULL));
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_answered(&use, DECRYPT, use.in);
    finish(&use);
}

/* A context is used again with a key, and is then the default provider's. */
static void test_key_after_handle(void **state)
{
    struct use use;
    uint8_t key[32] = {3, 1, 4}, plain[MORE];
    int len;
    start_ready(&use, state, CBC);
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    assert_true(EVP_CipherInit_ex2(use.ctx, NULL, key, iv, ENCRYPT, NULL));
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, 96));
    assert_int_equal(len, 96);

    EVP_CIPHER *cipher = EVP_CIPHER_fetch(use.ossl->plain, names[CBC], NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_true(EVP_CipherInit_ex2(ctx, cipher, key, iv, ENCRYPT, NULL));
    assert_true(EVP_CipherUpdate(ctx, plain, &len, use.in, 96));
    assert_memory_equal(plain, use.out, 96);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    finish(&use);
}

/* --- what is refused ------------------------------------------------------------------------- */

static void test_padding_on(void **state)
{
    for (int mode = ECB; mode <= CBC; mode++) {
        struct use use;
        int len;
        start(&use, state, mode);
        assert_true(init(&use, DECRYPT));
        int result = EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len);
        assert_zeros(use.out, use.len);
        assert_refused(&use, result, "a keyring handle with padding on");
    }
}

static void test_padding_on_again(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_true(EVP_CIPHER_CTX_set_padding(use.ctx, 1));
    assert_refused(&use, EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len),
                   "a keyring handle with padding on");
}

static void test_one_shot_with_padding_on(void **state)
{
    struct use use;
    start(&use, state, ECB);
    assert_true(init(&use, DECRYPT));
    int result = EVP_Cipher(use.ctx, use.out, use.in, (unsigned)use.len);
    assert_zeros(use.out, use.len);
    assert_refused(&use, result, "a keyring handle with padding on");
}

static void test_other_lengths(void **state)
{
    static const int wrong[] = {1, 15, 16, 31, 33, 48, 63, 65, 80, 96, 128};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        for (int mode = ECB; mode <= CBC; mode++) {
            struct use use;
            int len;
            start_ready(&use, state, mode);
            int result = EVP_CipherUpdate(use.ctx, use.out, &len, use.in, wrong[i]);
            assert_zeros(use.out, wrong[i]);
            assert_refused(&use, result, "a keyring handle with data of another length");
        }
    }
}

static void test_lengths_of_the_other_cipher(void **state)
{
    for (int mode = ECB; mode <= CBC; mode++) {
        struct use use;
        start_ready(&use, state, mode);
        assert_refused(&use, EVP_Cipher(use.ctx, use.out, use.in, (unsigned)lengths[1 - mode]),
                       "a keyring handle with data of another length");
    }
}

static void test_final_without_data(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_refused(&use, EVP_CipherFinal_ex(use.ctx, use.out, &len),
                   "a keyring handle used other than init, update, final");
}

static void test_second_update(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    use.fake.calls = 0;
    use.ossl->counters(&use.before);
    int result = EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len);
    assert_zeros(use.out, use.len);
    assert_refused(&use, result, "a keyring handle used other than init, update, final");
}

static void test_init_without_key(void **state)
{
    struct use use;
    start_ready(&use, state, CBC);
    assert_refused(&use, EVP_CipherInit_ex2(use.ctx, NULL, NULL, iv, DECRYPT, NULL),
                   "a keyring handle used other than init, update, final");
}

static void test_iv_missing(void **state)
{
    struct use use;
    start(&use, state, CBC);
    assert_refused(&use, EVP_CipherInit_ex2(use.ctx, use.cipher, use.handle, NULL, DECRYPT, NULL),
                   "a keyring handle with a missing or wrong iv");
}

static void test_parameters(void **state)
{
    struct use use;
    unsigned version = 0x0303;
    OSSL_PARAM params[] = {OSSL_PARAM_uint(OSSL_CIPHER_PARAM_TLS_VERSION, &version),
                           OSSL_PARAM_END};
    start_ready(&use, state, CBC);
    assert_refused(&use, EVP_CIPHER_CTX_set_params(use.ctx, params),
                   "a keyring handle with a parameter besides padding");
    start(&use, state, CBC);
    assert_refused(&use, EVP_CipherInit_ex2(use.ctx, use.cipher, use.handle, iv, DECRYPT, params),
                   "a keyring handle with a parameter besides padding");
}

static void test_copy(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    EVP_CIPHER_CTX *copy = EVP_CIPHER_CTX_new();
    assert_false(EVP_CIPHER_CTX_copy(copy, use.ctx));
    assert_string_equal(first_reason(), "a context with a keyring handle cannot be copied");
    EVP_CIPHER_CTX_free(copy);
    assert_true(EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len));
    finish(&use);
}

static void refused_by(EVP_CIPHER *theirs, void *arg)
{
    struct use use;
    uint8_t key[64];
    start(&use, arg, CBC);
    EVP_CIPHER_free(use.cipher);
    use.cipher = EVP_CIPHER_fetch(use.ossl->ours, EVP_CIPHER_get0_name(theirs), NULL);
    if (EVP_CIPHER_is_a(theirs, names[ECB]) || EVP_CIPHER_is_a(theirs, names[CBC])) {
        finish(&use);
        return;
    }
    for (int at = 0; at + KR_HANDLE_BYTES <= EVP_CIPHER_get_key_length(theirs);
         at += KR_HANDLE_BYTES) {
        for (int direction = DECRYPT; direction <= ENCRYPT; direction++) {
            assert_true(RAND_bytes(key, sizeof(key)));
            memcpy(key + at, use.handle, KR_HANDLE_BYTES);
            EVP_CIPHER_CTX_set_flags(use.ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
            if (EVP_CipherInit_ex2(use.ctx, use.cipher, key, iv, direction, NULL))
                fail_msg("%s takes a handle for a key", EVP_CIPHER_get0_name(theirs));
            assert_string_equal(first_reason(), "a keyring handle is no key for this cipher");
            assert_true(EVP_CIPHER_CTX_reset(use.ctx));
        }
    }
    finish(&use);
}

static void test_every_other_cipher(void **state)
{
    struct ossl *ossl = *state;
    each_wide_cipher(ossl, refused_by, state);
}

/* --- the keyring behind it ------------------------------------------------------------------- */

static void test_nothing_registered(void **state)
{
    struct use use;
    int len;
    start_ready(&use, state, ECB);
    assert_int_equal(use.ossl->set(NULL, NULL), 1);
    int result = EVP_CipherUpdate(use.ctx, use.out, &len, use.in, use.len);
    assert_zeros(use.out, use.len);
    assert_refused(&use, result, "no keyring is registered in this process");
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

static void assert_child_ends_well(struct use *use)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(in_child(use));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
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
    pthread_mutex_lock(&slow.lock);
    while (!slow.inside)
        pthread_cond_wait(&slow.changed, &slow.lock);
    pthread_mutex_unlock(&slow.lock);

    pthread_create(&withdrawer, NULL, withdraw_in_thread, &slow);
    usleep(100000);
    assert_false(slow.withdrawn);
    assert_int_equal(use.ossl->set(fake_keyring_run, &use.fake), 0);

    pthread_mutex_lock(&slow.lock);
    slow.let_go = true;
    pthread_cond_broadcast(&slow.changed);
    pthread_mutex_unlock(&slow.lock);
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
    pthread_mutex_lock(&slow.lock);
    while (!slow.inside)
        pthread_cond_wait(&slow.changed, &slow.lock);
    pthread_mutex_unlock(&slow.lock);
    assert_child_ends_well(&second);
    pthread_mutex_lock(&slow.lock);
    slow.let_go = true;
    pthread_cond_broadcast(&slow.changed);
    pthread_mutex_unlock(&slow.lock);
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
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(crowd->ossl->ours, names[ECB], NULL);
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
    const struct CMUnitTest works[] = {
        cmocka_unit_test(test_the_calls_of_the_server),
        cmocka_unit_test(test_one_shot),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_padding_off_before_the_handle),
        cmocka_unit_test(test_key_after_handle),
    };
    const struct CMUnitTest refused[] = {
        cmocka_unit_test(test_padding_on),
        cmocka_unit_test(test_padding_on_again),
        cmocka_unit_test(test_one_shot_with_padding_on),
        cmocka_unit_test(test_other_lengths),
        cmocka_unit_test(test_lengths_of_the_other_cipher),
        cmocka_unit_test(test_final_without_data),
        cmocka_unit_test(test_second_update),
        cmocka_unit_test(test_init_without_key),
        cmocka_unit_test(test_iv_missing),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_every_other_cipher),
    };
    const struct CMUnitTest keyring[] = {
        cmocka_unit_test(test_nothing_registered),
        cmocka_unit_test(test_failure_in_the_token),
        cmocka_unit_test(test_one_registration),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_withdrawing_waits_for_calls),
        cmocka_unit_test(test_fork_during_a_call),
        cmocka_unit_test(test_token_that_uses_openssl),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("works", works, ossl_setup, ossl_teardown) +
           cmocka_run_group_tests_name("is refused", refused, ossl_setup, ossl_teardown) +
           cmocka_run_group_tests_name("keyring", keyring, ossl_setup, ossl_teardown);
}
