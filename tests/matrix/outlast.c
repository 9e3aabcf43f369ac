/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A process that goes on through its token's absence, as a server does:
 *
 *   outlast MODULE URI PIN-SOURCE GUARD INIT-ARGS
 *
 * Makes a master key and a wrap, unwraps it over and over, and prints "up" and "down" when that
 * changes, with the reason. Ends when standard input does, and destroys the key.
 */
#include <openssl/rand.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "access.h"

enum { PAUSE_MS = 20 };

static bool input_ended(void)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};

    return poll(&input, 1, PAUSE_MS) > 0;
}

static void say(bool up, const struct kr_error *err)
{
    if (up)
        puts("up");
    else
        printf("down (%d): %s\n", (int)err->status, err->text);
    fflush(stdout);
}

/* One unwrap, which must give the key or an error. */
static bool works(struct kr_token *token, const struct kr_object_id *id,
                  enum kr_wrap_mechanism mechanism, const uint8_t *wrapped, size_t len,
                  const uint8_t *key, struct kr_error *err)
{
    uint8_t back[KR_SEALING_KEY_BYTES];

    *err = (struct kr_error)KR_ERROR_INIT;
    if (kr_master_unwrap(token, id, mechanism, wrapped, len, back, err) != KR_OK)
        return false;
    if (memcmp(back, key, sizeof(back)) != 0)
        abort();
    return true;
}

static void outlast(struct kr_token *token)
{
    uint8_t key[KR_SEALING_KEY_BYTES], wrapped[KR_WRAPPED_MAX];
    struct kr_error err = KR_ERROR_INIT;
    enum kr_wrap_mechanism mechanism;
    struct kr_master_info info;
    bool up = false;
    size_t len = 0;

    require(kr_master_generate(token, "outlast", KR_WRAP_AUTO, &info, &err), &err);
    require(kr_master_prove(token, &info.id, KR_WRAP_AUTO, &mechanism, &err), &err);
    RAND_bytes(key, sizeof(key));
    require(kr_master_wrap(token, &info.id, mechanism, key, wrapped, &len, &err), &err);
    do {
        bool now = works(token, &info.id, mechanism, wrapped, len, key, &err);

        if (now != up)
            say(now, &err);
        up = now;
    } while (!input_ended());
    err = (struct kr_error)KR_ERROR_INIT;
    require(kr_master_destroy(token, &info.id, &err), &err);
}

int main(int argc, char **argv)
{
    struct kr_token_options options = {.timeout_ms = 2000, .lock_timeout_ms = 2000, .sessions = 4};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *token;

    take_arguments(argc, argv, &options);
    require(kr_token_open(&options, &token, &err), &err);
    outlast(token);
    kr_token_close(token);
    kr_pin_source_free(options.pin);
    return 0;
}
