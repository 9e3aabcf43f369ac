/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A process whose watcher is always at work forks again and again: each child opens the keyring for
 * itself, and none of them waits for a lock that stayed behind. */
#include "keyring_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct keyring_fixture f;

static int up(void **state)
{
    (void)state;
    keyring_fixture_up(&f);
    return 0;
}

static int down(void **state)
{
    (void)state;
    keyring_fixture_down(&f);
    return 0;
}

/* Ends the process: 0 when the keyring could be opened there. */
static void open_in_child(void)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    alarm(60);
    if (kr_keyring_open(f.config, &keyring, &err) != KR_OK) {
        fprintf(stderr, "child: %s\n", err.text);
        _exit(1);
    }
    _exit(0);
}

static void test_children_open_the_keyring(void **state)
{
    (void)state;
    enum { FORKS = 100 };
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    must(kr_config_override(f.config, "keyring", "poll-interval", "10ms", &err), &err);
    struct kr_keyring *keyring = keyring_fixture_open(&f), *writer = keyring_fixture_open(&f);
    must(kr_keyring_watch(keyring, &err), &err);
    must(kr_keyring_create_key(writer, 1, KR_CIPHER_AES_CBC, NULL, 0, &version, &err), &err);
    for (int i = 0; i < FORKS; i++) {
        int status;
        must(kr_keyring_set_disabled(writer, 1, i % 2 == 0, &err), &err); /* the watcher reads it */
        usleep(40 * (unsigned)i);
        pid_t child = fork();
        if (child == 0)
            open_in_child();
        assert_int_equal(waitpid(child, &status, 0), child);
        if (status != 0)
            fail_msg("fork %d: the child ended with status %x", i, (unsigned)status);
    }
    kr_keyring_close(writer);
    kr_keyring_close(keyring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_children_open_the_keyring)};
    return cmocka_run_group_tests(tests, up, down);
}
