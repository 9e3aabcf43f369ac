/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What our code can do with a token, as JSON on stdout:
 *
 *   matrix MODULE URI PIN-SOURCE GUARD INIT-ARGS
 *
 * Mechanisms are tried by making a master key, proving it and using it from several threads at
 * once. The keys are destroyed again.
 */
#include <openssl/rand.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "access.h"
#include "pkcs11/anchor.h"
#include "pkcs11/resident.h"
#include "raw.h"

enum { RUNS = 5, RUN_NS = 50 * 1000000, CALLERS = 8, SESSIONS = 256 };

static const struct kr_object_id extractable_id = {.len = 16, .bytes = "matrixextractabl"};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* --- speed ------------------------------------------------------------------------------------ */

struct work {
    struct kr_token *token;
    struct kr_object_id id;
    enum kr_wrap_mechanism mechanism;
    uint8_t key[KR_SEALING_KEY_BYTES], wrapped[KR_WRAPPED_MAX];
    size_t len;
};

typedef enum kr_status (*operation)(struct work *w, struct kr_error *err);

static enum kr_status wrap(struct work *w, struct kr_error *err)
{
    return kr_master_wrap(w->token, &w->id, w->mechanism, w->key, w->wrapped, &w->len, err);
}

static enum kr_status unwrap(struct work *w, struct kr_error *err)
{
    uint8_t back[KR_SEALING_KEY_BYTES];

    KR_TRY(kr_master_unwrap(w->token, &w->id, w->mechanism, w->wrapped, w->len, back, err));
    if (memcmp(back, w->key, sizeof(back)) != 0)
        return kr_fail(err, KR_INTEGRITY, "an unwrapped key differs from what was wrapped");
    return KR_OK;
}

static enum kr_status wrap_and_unwrap(struct work *w, struct kr_error *err)
{
    KR_TRY(wrap(w, err));
    return unwrap(w, err);
}

static double one_run(struct work *w, operation run)
{
    struct kr_error err = KR_ERROR_INIT;
    uint64_t start = now_ns(), count = 0;

    do {
        require(run(w, &err), &err);
        count++;
    } while (now_ns() - start < RUN_NS);
    return (double)count * 1e9 / (double)(now_ns() - start);
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Operations per second: the median of a few short runs. */
static double speed(struct work *w, operation run)
{
    double results[RUNS];

    for (int i = 0; i < RUNS; i++)
        results[i] = one_run(w, run);
    qsort(results, RUNS, sizeof(*results), compare);
    return results[RUNS / 2];
}

static pthread_barrier_t start;

static void *caller(void *data)
{
    pthread_barrier_wait(&start);
    one_run(data, wrap_and_unwrap);
    return NULL;
}

/* Many callers at once, each with a sealing key of its own, that must get it back each time. How
 * many sessions that took. */
static json_t *together(const struct work *like)
{
    struct kr_token_stats stats;
    struct work works[CALLERS];
    pthread_t threads[CALLERS];

    pthread_barrier_init(&start, NULL, CALLERS);
    for (int i = 0; i < CALLERS; i++) {
        works[i] = *like;
        RAND_bytes(works[i].key, sizeof(works[i].key));
        if (pthread_create(&threads[i], NULL, caller, &works[i]) != 0)
            abort();
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
    kr_token_get_stats(like->token, &stats);
    return json_integer((json_int_t)stats.sessions);
}

/* --- mechanisms ------------------------------------------------------------------------------- */

static json_t *refusal(const struct kr_error *err)
{
    return json_pack("{s:b, s:s}", "works", 0, "why", err->text);
}

static json_t *try_mechanism(struct kr_token *token, enum kr_wrap_mechanism mechanism)
{
    struct kr_error err = KR_ERROR_INIT;
    struct work w = {.token = token};
    struct kr_master_info info;
    json_t *result;

    if (kr_master_generate(token, "matrix", mechanism, &info, &err) != KR_OK)
        return refusal(&err);
    w.id = info.id;
    require(kr_master_prove(token, &w.id, mechanism, &w.mechanism, &err), &err);
    RAND_bytes(w.key, sizeof(w.key));
    result = json_object();
    json_object_set_new(result, "works", json_true());
    json_object_set_new(result, "wraps_per_second", json_real(speed(&w, wrap)));
    json_object_set_new(result, "unwraps_per_second", json_real(speed(&w, unwrap)));
    json_object_set_new(result, "sessions", together(&w));
    require(kr_master_destroy(token, &w.id, &err), &err);
    return result;
}

static json_t *try_mechanisms(struct kr_token *token)
{
    json_t *all = json_object();

    for (int m = KR_WRAP_AUTO + 1; kr_wrap_mechanism_name(m); m++)
        json_object_set_new(all, kr_wrap_mechanism_name(m), try_mechanism(token, m));
    return all;
}

/* Makes the master key that the keyring would make, and leaves it. */
static json_t *choose(struct kr_token *token, struct kr_object_id *ret_id)
{
    struct kr_error err = KR_ERROR_INIT;
    enum kr_wrap_mechanism chosen;
    struct kr_master_info info;

    if (kr_master_generate(token, "matrix", KR_WRAP_AUTO, &info, &err) != KR_OK)
        return json_null();
    require(kr_master_prove(token, &info.id, KR_WRAP_AUTO, &chosen, &err), &err);
    *ret_id = info.id;
    return json_string(kr_wrap_mechanism_name(chosen));
}

/* --- the rest --------------------------------------------------------------------------------- */

static bool longer(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    (void)a;
    (void)b;
    return a_len > b_len;
}

static enum kr_status use_anchor(struct kr_token *token, struct kr_error *err)
{
    static const uint8_t values[2][4] = {"one", "two"};
    uint8_t back[KR_ANCHOR_MAX];
    size_t len;

    for (int i = 0; i < 2; i++) {
        KR_TRY(kr_anchor_raise(token, "matrix", NULL, values[i], sizeof(values[i]), err));
        KR_TRY(kr_anchor_read(token, "matrix", longer, back, &len, err));
        if (len != sizeof(values[i]) || memcmp(back, values[i], len) != 0)
            return kr_fail(err, KR_INTEGRITY, "an anchor came back changed");
    }
    return kr_anchor_remove(token, "matrix", err);
}

static json_t *try_anchor(struct kr_token *token)
{
    struct kr_error err = KR_ERROR_INIT;

    return use_anchor(token, &err) == KR_OK ? json_pack("{s:b}", "works", 1) : refusal(&err);
}

/* A key as MySQL's binary log or InnoDB uses one in the token. */
static enum kr_status use_resident(struct kr_token *token, enum kr_resident_mode mode,
                                   struct kr_error *err)
{
    const uint8_t iv[16] = {1}, plain[KR_RESIDENT_BYTES_MAX] = {2};
    uint8_t text[KR_RESIDENT_BYTES_MAX];
    struct kr_object_id id;

    KR_TRY(kr_resident_generate(token, "matrix", mode, &id, err));
    for (int step = 0; step < 2; step++)
        KR_TRY(kr_resident_crypt(token, &id,
                                 &(struct kr_resident_op){
                                     .mode = mode,
                                     .encrypt = step == 0,
                                     .iv = mode == KR_RESIDENT_CBC ? iv : NULL,
                                 },
                                 step == 0 ? plain : text, sizeof(text), text, err));
    KR_TRY(kr_master_destroy(token, &id, err));
    if (memcmp(text, plain, sizeof(text)) != 0)
        return kr_fail(err, KR_INTEGRITY, "a block came back changed");
    return KR_OK;
}

static json_t *try_resident(struct kr_token *token)
{
    struct kr_error err = KR_ERROR_INIT;

    if (use_resident(token, KR_RESIDENT_ECB, &err) == KR_OK &&
        use_resident(token, KR_RESIDENT_CBC, &err) == KR_OK)
        return json_pack("{s:b}", "works", 1);
    return refusal(&err);
}

/* The same with a key from outside, which serves as such alone. */
static enum kr_status use_imported(struct kr_token *token, bool *ret_unwrapped,
                                   struct kr_error *err)
{
    const uint8_t bytes[32] = {3}, plain[16] = {4};
    uint8_t text[16];
    struct kr_resident_import import = {.label = "matrix", .mode = KR_RESIDENT_ECB, .key = bytes};

    KR_TRY(kr_object_id_make(&import.id, err));
    KR_TRY(kr_resident_import(token, &import, 1, ret_unwrapped, err));
    if (kr_resident_check(token, &import.id, false, err) != KR_REFUSED)
        return kr_fail(err, KR_INTEGRITY, "an imported key is taken for one of the token");
    for (int step = 0; step < 2; step++)
        KR_TRY(kr_resident_crypt(token, &import.id,
                                 &(struct kr_resident_op){
                                     .mode = KR_RESIDENT_ECB,
                                     .encrypt = step == 0,
                                     .imported = true,
                                 },
                                 step == 0 ? plain : text, sizeof(text), text, err));
    KR_TRY(kr_master_destroy(token, &import.id, err));
    if (memcmp(text, plain, sizeof(text)) != 0)
        return kr_fail(err, KR_INTEGRITY, "a block came back changed");
    return KR_OK;
}

static json_t *try_import(struct kr_token *token)
{
    struct kr_error err = KR_ERROR_INIT;
    bool unwrapped;

    if (use_imported(token, &unwrapped, &err) != KR_OK)
        return refusal(&err);
    return json_pack("{s:b, s:s}", "works", 1, "by", unwrapped ? "C_UnwrapKey" : "C_CreateObject");
}

static json_t *describe(struct kr_token *token)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token_info info;

    require(kr_token_get_info(token, &info, &err), &err);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "label", info.label, "manufacturer",
                     info.manufacturer, "model", info.model, "hardware", info.hardware, "firmware",
                     info.firmware);
}

/* Every key on the token that may leave it must be refused. */
static json_t *try_extractable(struct kr_token *token)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info info;
    enum kr_status status = kr_master_find(token, &extractable_id, &info, &err);

    return json_pack("{s:b, s:s}", "refused", status == KR_REFUSED, "answer",
                     status == KR_OK ? "" : err.text);
}

/* --- main ------------------------------------------------------------------------------------- */

static struct kr_token *open_token(const struct kr_token_options *options)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token;

    require(kr_token_open(options, &token, &err), &err);
    require(kr_token_login(token, &err), &err);
    return token;
}

static void with_our_code(const struct kr_token_options *options, json_t *result,
                          struct kr_object_id *ret_master)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token = open_token(options);
    uint8_t random[64];

    json_object_set_new(result, "token", describe(token));
    json_object_set_new(result, "mechanisms", try_mechanisms(token));
    json_object_set_new(result, "chosen", choose(token, ret_master));
    json_object_set_new(result, "anchor", try_anchor(token));
    json_object_set_new(result, "resident", try_resident(token));
    json_object_set_new(result, "import", try_import(token));
    require(kr_token_random(token, random, sizeof(random), &err), &err);
    kr_token_close(token);
}

static void past_our_code(const struct kr_token_options *options, json_t *result,
                          const struct kr_object_id *master)
{
    struct raw *raw = raw_open(options);
    unsigned sessions = raw_count_sessions(raw, SESSIONS);

    json_object_set_new(result, "sessions", json_integer(sessions));
    json_object_set_new(result, "random", json_boolean(raw_random(raw)));
    json_object_set_new(result, "makes_extractable",
                        json_boolean(raw_make_extractable(raw, &extractable_id)));
    if (master->len > 0)
        json_object_set_new(result, "attacks", raw_attack(raw, master));
    raw_close(raw);
}

static void clean_up(const struct kr_token_options *options, const struct kr_object_id *master)
{
    struct raw *raw = raw_open(options);

    raw_destroy(raw, &extractable_id);
    if (master->len > 0)
        raw_destroy(raw, master);
    raw_close(raw);
}

int main(int argc, char **argv)
{
    struct kr_token_options options = {
        .timeout_ms = 30000, .lock_timeout_ms = 5000, .sessions = CALLERS};
    struct kr_object_id master = {0};
    json_t *result = json_object();

    take_arguments(argc, argv, &options);
    with_our_code(&options, result, &master);
    past_our_code(&options, result, &master);
    struct kr_token *token = open_token(&options);
    json_object_set_new(result, "extractable", try_extractable(token));
    kr_token_close(token);
    clean_up(&options, &master);
    kr_pin_source_free(options.pin);
    json_dumpf(result, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(result);
    return 0;
}
