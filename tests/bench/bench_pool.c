/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Many sessions against one, at a token that takes 1 ms for each call: wraps and unwraps in bulk.
 */
#include "bar.h"
#include "base/clock.h"
#include "control.h"
#include "fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SESSIONS = 32, ROUNDS = 640, BAR = 20 };

struct bulk {
    struct kr_token *token;
    struct kr_object_id id;
    unsigned left; /* atomic */
};

static void must(enum kr_status status, const struct kr_error *err)
{
    if (status == KR_OK)
        return;
    fprintf(stderr, "%s (%s)\n", err->text, err->hint);
    exit(1);
}

static void *work(void *argument)
{
    uint8_t key[KR_SEALING_KEY_BYTES] = {1}, wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    struct bulk *bulk = argument;
    size_t len;

    while ((int)__atomic_sub_fetch(&bulk->left, 1, __ATOMIC_RELAXED) >= 0) {
        must(kr_master_wrap(bulk->token, &bulk->id, KR_WRAP_AES_GCM, key, wrapped, &len, &err),
             &err);
        must(kr_master_unwrap(bulk->token, &bulk->id, KR_WRAP_AES_GCM, wrapped, len, key, &err),
             &err);
    }
    return NULL;
}

static uint64_t run(struct bulk *bulk, unsigned rounds)
{
    const uint64_t start = kr_now_ms();
    pthread_t threads[SESSIONS];

    bulk->left = rounds;
    for (unsigned i = 0; i < SESSIONS; i++)
        if (pthread_create(&threads[i], NULL, work, bulk) != 0)
            abort();
    for (unsigned i = 0; i < SESSIONS; i++)
        pthread_join(threads[i], NULL);
    return kr_now_ms() - start;
}

/* After a first run, in which the sessions are opened. */
static double rounds_per_second(const struct fixture *f, unsigned sessions, unsigned rounds)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin = NULL;
    struct kr_token_options options = {.module = P11K_MOCK,
                                       .uri = f->uri,
                                       .guard_path = f->guard,
                                       .timeout_ms = 60000,
                                       .lock_timeout_ms = 60000,
                                       .sessions = sessions};
    struct kr_master_info info;
    struct bulk bulk = {0};
    char spec[400];
    uint64_t ms;

    snprintf(spec, sizeof(spec), "file:%s", f->pin_file);
    must(kr_pin_source_new(spec, "test token", &pin, &err), &err);
    options.pin = pin;
    must(kr_token_open(&options, &bulk.token, &err), &err);
    must(kr_master_generate(bulk.token, "bench", KR_WRAP_AES_GCM, &info, &err), &err);
    bulk.id = info.id;
    mock_rules("delay * 1\n");
    run(&bulk, SESSIONS);
    ms = run(&bulk, rounds);
    mock_rules("%s", "");
    kr_token_close(bulk.token);
    kr_pin_source_free(pin);
    return 1000.0 * rounds / (double)(ms ? ms : 1);
}

int main(void)
{
    struct fixture f;
    double one, many;

    fixture_up(&f, "bench");
    mock_setup(f.dir);
    one = rounds_per_second(&f, 1, ROUNDS / SESSIONS * 4);
    many = rounds_per_second(&f, SESSIONS, ROUNDS);
    fixture_down(&f);
    bar_info(0, "wrap and unwrap, 1 ms for each call: 1 session %.0f/s, %d sessions %.0f/s", one,
             SESSIONS, many);
    bar_at_least(0, "wrap and unwrap, 32 sessions / one", many / one, BAR);
    return bar_exit_code();
}
